"""Two-stage training of the network."""
