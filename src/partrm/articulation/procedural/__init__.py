"""Procedural articulated objects, generated from seeds."""

from partrm.articulation.procedural.catalogue import CATEGORIES, HELD_OUT, OWN_CATEGORIES, generate
from partrm.articulation.procedural.materials import sample_materials

__all__ = ["CATEGORIES", "HELD_OUT", "OWN_CATEGORIES", "generate", "sample_materials"]
