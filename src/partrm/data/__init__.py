"""Samples: states, views, drags and targets, made online or read from disk."""
