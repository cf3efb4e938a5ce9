"""Drag a door: one picture and one drag in, the object after the motion out.

The picture shows one object, cut out (RGBA) or before a plain background. A drag goes from a point of the part to where
that point shall arrive, in pixels of the picture: x right, y down. The folder then holds what ``partrm predict``
writes: the Gaussians before and after, views from around, the part's mask and a video of the motion.

    python examples/01_drag_a_door.py --out door
"""

from pathlib import Path

import tyro

import partrm
from partrm import PartRM

MICROWAVE = Path(partrm.__file__).parent / "example_images" / "microwave.png"


def main(
    out: Path,
    image: Path = MICROWAVE,
    drag: tuple[float, float, float, float] = (164, 170, 112, 203),
    device: str = "auto",
) -> None:
    prediction = PartRM.from_pretrained("base", device).predict(image, [drag])
    prediction.save(out)
    moved = int(prediction.moving.sum())
    print(f"{moved} of {len(prediction.before)} Gaussians move; see {out / 'before_after.png'}")


if __name__ == "__main__":
    tyro.cli(main)
