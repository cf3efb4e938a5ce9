"""Procedural articulated objects, generated from seeds."""

from partrm.procedural.catalogue import CATEGORIES, OWN_CATEGORIES, generate, partdrag_generators
from partrm.procedural.materials import sample_materials

__all__ = ["CATEGORIES", "OWN_CATEGORIES", "generate", "partdrag_generators", "sample_materials"]
