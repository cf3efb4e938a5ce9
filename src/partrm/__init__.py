"""PartRM: part-level dynamics of articulated objects from images and drags."""

__version__ = "0.1.0"
