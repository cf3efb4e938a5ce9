"""Articulated objects and the files that they come in: URDF, MJCF, PartNet-Mobility, OBJ."""
