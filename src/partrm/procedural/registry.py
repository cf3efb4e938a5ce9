"""Where generators register themselves: one decorator states a kind's name and its category in PartDrag-4D."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar

import numpy as np

from partrm.objects.articulated_object import ArticulatedObject
from partrm.procedural.builder import ObjectBuilder

Fill = TypeVar("Fill", bound=Callable[[ObjectBuilder], None])
"""A function that adds the parts of one object to a builder."""


@dataclass(frozen=True)
class Generator:
    """One procedural category and how an object of it is drawn."""

    category: str
    draw: Callable[[np.random.Generator, str, str], ArticulatedObject]
    """Makes one object, metres, z up, front towards +x, from random numbers, the object's name and its source."""
    partdrag: str | None = None
    """The category of PartDrag-4D that holds such objects; None where it has none."""
    turn: int = 0
    """Its place among the generators of ``partdrag``, which a dataset takes in turn; new ones take the next number."""
    needs_extra: bool = False
    """Whether it needs a package of the ``data`` extra."""


REGISTERED: dict[str, Generator] = {}
"""All generators of the modules that are imported, by category; ``catalogue`` imports them all."""


def register(generator: Generator) -> None:
    """Add a generator.

    Raises:
        ValueError: its category is taken.
    """
    if generator.category in REGISTERED:
        raise ValueError(f"two generators make the category {generator.category!r}")
    REGISTERED[generator.category] = generator


def category(partdrag: str | None = None, turn: int = 0) -> Callable[[Fill], Fill]:
    """Register the decorated function, which fills a builder, as the generator of the category of its name.

    Args:
        partdrag: see :attr:`Generator.partdrag`.
        turn: see :attr:`Generator.turn`.
    """

    def decorate(fill: Fill) -> Fill:
        def draw(rng: np.random.Generator, name: str, source: str) -> ArticulatedObject:
            builder = ObjectBuilder(fill.__name__, rng)
            fill(builder)
            return builder.build(name, source)

        register(Generator(fill.__name__, draw, partdrag, turn))
        return fill

    return decorate
