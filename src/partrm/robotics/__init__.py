"""What a robot does with a prediction: a suction cup pulls true objects open in simulation."""
