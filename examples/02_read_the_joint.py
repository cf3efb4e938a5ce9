"""Read the joint: what turns or slides about which axis, how far, and how sure that is.

Axis and pivot stand in the canonical frame: x right and y up in the picture, z from the object towards the camera,
which stands at (0, 0, 2.4); docs/conventions.md says how pixels map to it. ``joint.motion(t)`` is the rigid motion
after the fraction t of the amount; every moving Gaussian makes it, so t beyond 1 follows the hinge beyond the drag.

    python examples/02_read_the_joint.py
"""

import math
from pathlib import Path

import tyro

import partrm
from partrm import PartRM

IMAGES = Path(partrm.__file__).parent / "example_images"


def main(
    image: Path = IMAGES / "drawers.png",
    drag: tuple[float, float, float, float] = (214, 126, 243, 140),
    device: str = "auto",
) -> None:
    prediction = PartRM.from_pretrained("base", device).predict(image, [drag])
    joint = prediction.joint
    turns = joint.type.name == "REVOLUTE"
    amount = f"{math.degrees(joint.amount):.0f} degrees" if turns else f"{joint.amount:.2f} of the object's diagonal"
    print(f"{joint.type.name.lower()}, {amount}, confidence {prediction.confidence:.2f}")
    print("axis  ", [round(value, 3) for value in joint.axis.tolist()])
    print("pivot ", [round(value, 3) for value in joint.pivot.tolist()])
    print("half of the motion, T_half_before:", joint.motion(0.5).numpy().round(3), sep="\n")
    print(f"the part covers {float(prediction.part_mask.mean()):.1%} of the picture")


if __name__ == "__main__":
    tyro.cli(main)
