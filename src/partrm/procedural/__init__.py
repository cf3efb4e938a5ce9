"""Procedural articulated objects, generated from seeds."""

from partrm.procedural.catalogue import CATEGORIES, OWN_CATEGORIES, generate
from partrm.procedural.materials import sample_materials

__all__ = ["CATEGORIES", "OWN_CATEGORIES", "generate", "sample_materials"]
