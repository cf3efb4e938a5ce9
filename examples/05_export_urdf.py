"""Export a URDF: read an articulated object from MuJoCo's MJCF and write it as a URDF with its meshes, and back.

URDF, MJCF, PartNet-Mobility folders and generated objects all become one :class:`ArticulatedObject`: parts with meshes
and materials, and a tree of joints. Here the file to read is written first, from a generated safe; give one of your own
with ``--mjcf``. Reading needs the extra ``data`` (the package ``mujoco``).

    python examples/05_export_urdf.py --out safe
"""

from pathlib import Path

import numpy as np
import tyro

from partrm import load_mjcf, load_urdf
from partrm.objects.mjcf_export import save_mjcf
from partrm.objects.urdf import save_urdf
from partrm.procedural import generate


def main(out: Path, mjcf: Path | None = None) -> None:
    if mjcf is None:
        mjcf = out / "mjcf" / "safe.xml"
        mjcf.parent.mkdir(parents=True, exist_ok=True)
        save_mjcf(generate("safe", 0), mjcf)
    obj = load_mjcf(mjcf)
    urdf = out / "urdf" / f"{mjcf.stem}.urdf"
    urdf.parent.mkdir(parents=True, exist_ok=True)
    save_urdf(obj, urdf)

    again = load_urdf(urdf)
    for part in again.parts:
        joint = "does not move" if part.joint is None else f"{part.joint.type.name.lower()} {part.joint.name}"
        print(f"{part.name}: {len(part.faces)} faces, {joint}")
    q = obj.joint_limits[:, 1]
    difference = np.abs(obj.T_object_part(q) - again.T_object_part(q)).max()
    print(f"{urdf}: all joints at their ends, poses differ by {difference:.1e}")


if __name__ == "__main__":
    tyro.cli(main)
