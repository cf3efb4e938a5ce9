"""Procedural articulated objects, generated from seeds."""
