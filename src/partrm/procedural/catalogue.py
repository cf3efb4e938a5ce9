"""All procedural categories, and the function that makes an object of a category from a seed."""

import importlib
import pkgutil
import zlib
from dataclasses import replace
from pathlib import Path

import numpy as np

from partrm.objects.articulated_object import ArticulatedObject, ObjectError
from partrm.procedural.materials import with_sampled_materials
from partrm.procedural.registry import REGISTERED
from partrm.procedural.simplify import MAX_FACES, without_minor_movables

for _module in pkgutil.iter_modules([str(Path(__file__).parent)]):
    importlib.import_module(f"{__package__}.{_module.name}")

FIRST_CATEGORIES: tuple[str, ...] = (
    "cabinet", "mixed_cabinet", "drawers", "sliding_cabinet", "window", "door", "chest", "desk", "microwave",
    "toaster_oven", "oven", "refrigerator", "dishwasher", "washing_machine", "safe", "laptop", "lidded_box",
    "trash_can", "kettle", "light_switch", "faucet", "valve", "press", "lever", "suitcase", "latch_door",
    "knobs", "sliders", "toaster", "toilet", "bottle", "bucket", "jaws", "lamp", "swivel", "assembly", "cart",
    "folding_chair", "ladder", "eyeglasses", "knife", "scissors", "flip_phone", "cap", "pot", "carton", "keys",
    "clock", "camera", "printer", "mirror", "book", "kitchen_refrigerator", "kitchen_dishwasher",
    "kitchen_range", "kitchen_microwave", "kitchen_base_cabinet", "kitchen_wall_cabinet", "kitchen_sink_cabinet",
    "kitchen_recursive_cabinet", "kitchen_island",
)  # fmt: skip
"""The categories of the first data sets, in the order by which their seeds were dealt; later ones follow by name."""

CATEGORIES: tuple[str, ...] = (*FIRST_CATEGORIES, *sorted(set(REGISTERED) - set(FIRST_CATEGORIES)))
"""All categories; some need the ``data`` extra."""

OWN_CATEGORIES: tuple[str, ...] = tuple(c for c in CATEGORIES if not REGISTERED[c].needs_extra)
"""Categories that need nothing but numpy."""

HELD_OUT: tuple[str, ...] = ("flip_screen", "hatch", "sash_window", "tray_tower")
"""Two kinds that turn and two that slide, for pools of kinds never trained on: no training pool names them."""


def partdrag_generators() -> dict[str, tuple[str, ...]]:
    """Our categories by the category of PartDrag-4D that holds such objects, in their turns."""
    found: dict[str, list[str]] = {}
    for generator in sorted(REGISTERED.values(), key=lambda g: (g.partdrag or "", g.turn)):
        if generator.partdrag is not None:
            found.setdefault(generator.partdrag, []).append(generator.category)
    return {name: tuple(categories) for name, categories in found.items()}


def generate(category: str, seed: int) -> ArticulatedObject:
    """The object of a category and a seed: always the same, z up, front towards +x, normalised (docs/conventions.md).

    Raises:
        PackageMissingError: the category's library is not installed.
        ObjectError: for an unknown category.
    """
    if category not in CATEGORIES:
        raise ObjectError(f"unknown category {category!r}; the categories are {', '.join(CATEGORIES)}")
    entropy = np.random.SeedSequence([zlib.crc32(category.encode()), seed])
    rng = np.random.Generator(np.random.PCG64(entropy))
    source = f"procedural:{category}:{seed}"
    for _ in range(20):
        obj = without_minor_movables(REGISTERED[category].draw(rng, f"{category}_{seed}", source)).normalised()
        # A draw may have open compartments only.
        if obj.movable:
            break
    else:
        raise ObjectError(f"{source}: nothing moves in any draw")
    faces = sum(len(p.faces) for p in obj.parts)
    if faces > MAX_FACES:
        raise ObjectError(f"{source}: {faces} faces, more than {MAX_FACES}")
    return replace(obj, materials=with_sampled_materials(obj.materials, int(entropy.generate_state(2)[1])))
