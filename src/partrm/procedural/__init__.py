"""Procedural articulated objects, generated from seeds."""

from partrm.procedural.catalogue import CATEGORIES, HELD_OUT, OWN_CATEGORIES, generate, partdrag_generators
from partrm.procedural.materials import sample_materials

__all__ = ["CATEGORIES", "HELD_OUT", "OWN_CATEGORIES", "generate", "partdrag_generators", "sample_materials"]
