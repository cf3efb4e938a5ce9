"""Evaluate your own: samples of yours as a folder, and what ``partrm eval`` says of them.

A sample is a folder: ``sample.json`` with drags in pixels of the first view, ``cameras.json``, and one RGBA picture a
camera in ``before/`` and ``after/``; a true joint and masks of the part may be added (docs/evaluation.md). Here one is
written from two poses of a generated oven (extras ``data`` and ``eval``); replace it with yours.

    python examples/08_evaluate_your_own.py --out own
"""

import json
from pathlib import Path

import torch
import tyro

from partrm.cli import main as partrm
from partrm.geometry.cameras import CANONICAL_FOVY_RAD, Cameras, orbit_poses, save_cameras
from partrm.imaging.images import save_image
from partrm.procedural import generate
from partrm.rendering.meshes import Instances, Lights, MeshScene, material_table, render_meshes

SIZE_PX = 256


def write_sample(folder: Path) -> None:
    """One sample: an oven from four sides, its door a little open and half open; the drag follows its middle."""
    obj = generate("oven", 3_000_001)
    door, limits = obj.movable[0], obj.joint_limits
    azimuth = torch.tensor([-0.4, 0.4, 1.2, -1.2])
    cameras = Cameras(
        orbit_poses(azimuth, torch.full((4,), 0.4)), torch.full((4,), CANONICAL_FOVY_RAD), SIZE_PX, SIZE_PX
    )
    scene, ends = MeshScene.from_objects([obj]), []
    for state, fraction in (("before", 0.15), ("after", 0.5)):
        q = obj.closed_q()
        q[door] = limits[door, 0] + fraction * (limits[door, 1] - limits[door, 0])
        T = torch.as_tensor(obj.T_object_part(q)).float()
        instances = Instances.of_objects(scene, torch.tensor([0]), T[None], material_table([obj]))
        (folder / state).mkdir(parents=True, exist_ok=True)
        for index, image in enumerate(render_meshes(scene, instances, cameras[None], Lights.reference(1))[0]):
            save_image(image, folder / state / f"{index}.png")
        middle = torch.as_tensor(obj.parts[door].vertices.mean(0)).float()
        ends += cameras[0].project((T[door, :3, :3] @ middle + T[door, :3, 3])[None])[0][0].tolist()
    save_cameras(cameras, folder / "cameras.json")
    (folder / "sample.json").write_text(json.dumps({"drags": [ends], "category": "oven"}), encoding="utf-8")


def main(out: Path) -> None:
    write_sample(out / "samples" / "oven")
    code = partrm(["eval", "--data", str(out / "samples"), "--lpips", "none", "--out", str(out / "evaluation")])
    print((out / "evaluation" / "report.md").read_text(encoding="utf-8") if code == 0 else f"failed with {code}")


if __name__ == "__main__":
    tyro.cli(main)
