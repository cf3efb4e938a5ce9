"""Image and drags to a prediction: before, after, part and joint."""
