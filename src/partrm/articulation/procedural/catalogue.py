"""One table of all procedural categories, and the function that makes an object of a category from a seed."""

import zlib
from collections.abc import Callable
from dataclasses import replace

import numpy as np

from partrm.articulation.objects import ArticulatedObject, ObjectError
from partrm.articulation.procedural import (
    appliances,
    assemblies,
    containers,
    controls,
    flaps,
    furniture,
    handheld,
    household,
    machines,
    mechanisms,
    portholes,
    racks,
    stacks,
    tabletop,
)
from partrm.articulation.procedural.builder import ObjectBuilder
from partrm.articulation.procedural.materials import with_sampled_materials
from partrm.articulation.procedural.simplify import MAX_FACES, without_minor_movables
from partrm.articulation.procedural.synthesizer import SYNTHESIZED, synthesize

OWN_GENERATORS: dict[str, Callable[[ObjectBuilder], None]] = {
    "cabinet": furniture.cabinet,
    "mixed_cabinet": furniture.mixed_cabinet,
    "drawers": furniture.drawers,
    "sliding_cabinet": furniture.sliding_cabinet,
    "window": furniture.window,
    "door": furniture.door,
    "chest": furniture.chest,
    "desk": furniture.desk,
    "microwave": appliances.microwave,
    "toaster_oven": appliances.toaster_oven,
    "oven": appliances.oven,
    "refrigerator": appliances.refrigerator,
    "dishwasher": appliances.dishwasher,
    "washing_machine": machines.washing_machine,
    "safe": machines.safe,
    "laptop": containers.laptop,
    "lidded_box": containers.lidded_box,
    "trash_can": containers.trash_can,
    "kettle": containers.kettle,
    "light_switch": mechanisms.light_switch,
    "faucet": mechanisms.faucet,
    "valve": mechanisms.valve,
    "press": mechanisms.press,
    "lever": mechanisms.lever,
    "suitcase": containers.suitcase,
    "latch_door": controls.latch_door,
    "knobs": controls.knobs,
    "sliders": controls.sliders,
    "toaster": controls.toaster,
    "toilet": household.toilet,
    "bottle": household.bottle,
    "bucket": household.bucket,
    "jaws": household.jaws,
    "lamp": household.lamp,
    "swivel": household.swivel,
    "assembly": assemblies.assembly,
    "cart": household.cart,
    "folding_chair": household.folding_chair,
    "ladder": household.ladder,
    "eyeglasses": handheld.eyeglasses,
    "knife": handheld.knife,
    "scissors": handheld.scissors,
    "flip_phone": handheld.flip_phone,
    "cap": handheld.cap,
    "pot": tabletop.pot,
    "carton": tabletop.carton,
    "keys": tabletop.keys,
    "clock": tabletop.clock,
    "camera": tabletop.camera,
    "printer": tabletop.printer,
    "mirror": tabletop.mirror,
    "book": tabletop.book,
    "drawer_stack": stacks.drawer_stack,
    "mixed_fronts": stacks.mixed_fronts,
    "round_washer": portholes.round_washer,
    "hatch": portholes.hatch,
    "stove": portholes.stove,
    "wire_basket_shelf": racks.wire_basket_shelf,
    "tray_tower": racks.tray_tower,
    "filing_cabinet": racks.filing_cabinet,
    "trolley_suitcase": racks.trolley_suitcase,
    "toilet_seat": flaps.toilet_seat,
    "letter_box": flaps.letter_box,
    "sash_window": flaps.sash_window,
    "flip_screen": flaps.flip_screen,
    "chest_with_lid": flaps.chest_with_lid,
}
"""Generators that need nothing but numpy."""

OWN_CATEGORIES: tuple[str, ...] = tuple(OWN_GENERATORS)

HELD_OUT: tuple[str, ...] = ("sash_window", "letter_box", "tray_tower", "toilet_seat")
"""Categories that no training pool holds: what they score tells of kinds that were never seen."""

CATEGORIES: tuple[str, ...] = (*OWN_CATEGORIES, *SYNTHESIZED)
"""All categories; those that begin with ``kitchen_`` need the ``data`` extra."""


def generate(category: str, seed: int) -> ArticulatedObject:
    """The object of a category and a seed: always the same, z up, front towards +x, normalised (DESIGN 2).

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
        obj = without_minor_movables(_draw(category, rng, f"{category}_{seed}", source)).normalised()
        # A draw may have open compartments only.
        if obj.movable:
            break
    else:
        raise ObjectError(f"{source}: nothing moves in any draw")
    faces = sum(len(p.faces) for p in obj.parts)
    if faces > MAX_FACES:
        raise ObjectError(f"{source}: {faces} faces, more than {MAX_FACES}")
    return replace(obj, materials=with_sampled_materials(obj.materials, int(entropy.generate_state(2)[1])))


def _draw(category: str, rng: np.random.Generator, name: str, source: str) -> ArticulatedObject:
    """One draw of the category, in metres."""
    if category in OWN_GENERATORS:
        builder = ObjectBuilder(category, rng)
        OWN_GENERATORS[category](builder)
        return builder.build(name, source)
    return replace(synthesize(category, rng, source), name=name)
