"""Frames, cameras, drags, Gaussians and joints as values."""
