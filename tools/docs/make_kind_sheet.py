"""Draw procedural objects closed and open, a row a kind: python tools/docs/make_kind_sheet.py KIND… --out sheet.jpg"""

from pathlib import Path

import numpy as np
import torch
import tyro
from einops import rearrange

from partrm.geometry.cameras import CANONICAL_FOVY_RAD, Cameras, orbit_poses
from partrm.imaging.images import save_image
from partrm.metrics.images import composite_on_white
from partrm.procedural import generate
from partrm.rendering.meshes import Instances, Lights, MeshScene, material_table, render_meshes


def pictures(kind: str, seed: int, size_px: int) -> torch.Tensor:
    """[2, 3, h, w] an object closed, and with every joint at the end farther from that."""
    obj = generate(kind, seed)
    closed, limits = obj.closed_q(), np.asarray(obj.joint_limits)
    far = np.abs(limits - closed[:, None]).argmax(1)
    states = np.stack([closed, limits[np.arange(len(closed)), far]])
    T = torch.stack([torch.as_tensor(obj.T_object_part(q)).float() for q in states])
    scene, table = MeshScene.from_objects([obj]), material_table([obj])
    shared = table.map(lambda column: column.repeat_interleave(2, 0))
    poses = orbit_poses(torch.tensor([0.6]), torch.tensor([0.45])).expand(2, 1, 4, 4)
    cameras = Cameras(poses, torch.full((2, 1), CANONICAL_FOVY_RAD), size_px, size_px)
    instances = Instances.of_objects(scene, torch.zeros(2, dtype=torch.long), T, shared)
    return composite_on_white(render_meshes(scene, instances, cameras, Lights.reference(2)))[:, 0]


def main(kinds: tyro.conf.Positional[tuple[str, ...]], out: Path, columns: int = 6, size_px: int = 120) -> None:
    rows = []
    for row, kind in enumerate(kinds):
        seeds = range(row * columns, (row + 1) * columns)  # a kind named twice shows others
        rows.append(torch.cat([pictures(kind, seed, size_px) for seed in seeds]))
    save_image(rearrange(torch.stack(rows), "r n c h w -> c (r h) (n w)"), out)


if __name__ == "__main__":
    tyro.cli(main)
