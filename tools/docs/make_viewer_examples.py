"""Render the viewer's procedural examples: objects of seeds that no training run uses, and a drag on each.

Run from the repository root, with ``make eval-objects`` done: ``python tools/docs/make_viewer_examples.py``. Writes the
images and ``examples.json``, which also lists the two real examples of ``make_example_images.py``. The objects' joints
are used only to write down a drag that a user could have drawn.
"""

import json

import numpy as np
from make_example_images import FOLDER, render

from partrm.imaging.images import save_image
from partrm.procedural import generate

FIRST_UNSEEN_SEED = 3_000_000
SIZE_PX = 320

REAL = [
    {"file": "microwave.png", "title": "Microwave (real)", "framing": "canonical", "drags_px": [[164, 170, 112, 203]]},
    {"file": "cabinet_photo.jpg", "title": "Cabinet (photo)", "framing": "auto", "drags_px": [[548, 402, 473, 420]]},
]

# Category, seed offset, title, opening of the part, azimuth and elevation of the camera in degrees.
PROCEDURAL = [
    ("refrigerator", 3, "Refrigerator", 0.12, -28, 18),
    ("laptop", 3, "Laptop", 0.25, -25, 25),
    ("drawers", 0, "Drawers", 0.2, -30, 25),
    ("washing_machine", 0, "Washing machine", 0.2, -30, 18),
    ("oven", 1, "Oven", 0.15, -24, 22),
    ("trash_can", 3, "Trash can", 0.25, 22, 22),
]


def front_area(part):
    """Product of the two larger sides of a part's bounding box."""
    return float(np.prod(np.sort(np.ptp(part.vertices, axis=0))[1:]))


def main():
    rows = list(REAL)
    for category, offset, title, opening, azimuth_deg, elevation_deg in PROCEDURAL:
        obj = generate(category, FIRST_UNSEEN_SEED + offset)
        part = max(obj.movable, key=lambda index, parts=obj.parts: front_area(parts[index]))
        image, drag = render(obj, part, opening, azimuth_deg, elevation_deg, SIZE_PX, distance=1.9)
        file = f"{category}.png"
        save_image(image, FOLDER / file)
        drags_px = [[round(value) for value in drag.tolist()]]
        rows.append({"file": file, "title": title, "framing": "auto", "drags_px": drags_px, "source": obj.source})
    lines = ",\n".join("  " + json.dumps(row) for row in rows)
    (FOLDER / "examples.json").write_text(f'{{"examples": [\n{lines}\n]}}\n', encoding="utf-8")


if __name__ == "__main__":
    main()
