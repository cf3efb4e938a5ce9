"""Make ``docs/images/turntables.gif``, six predictions turned once about: ``python tools/docs/make_turntables.py``."""

import math
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import torch
import tyro
from PIL import Image
from torch import Tensor

from partrm import PartRM
from partrm.assets.orientation import estimate_orientation
from partrm.geometry.cameras import INPUT_FOVY_RAD, Cameras, canonical_orbit
from partrm.geometry.transforms import skew
from partrm.imaging.drawing import to_bytes
from partrm.metrics.images import composite_on_white
from partrm.viewer.gallery import load_examples

SHOWN = ("cabinet_photo.jpg", "microwave.png", "drawers.png", "oven.png", "laptop.png", "washing_machine.png")
COLUMNS = 3
FRAME_MS = 110
COLORS = 96
WIDER = 1.5
"""Than the crop: opened parts reach out of it."""


def turntable(up: Tensor, frames: int, size_px: int) -> Cameras:
    """Cameras about the upright, the first the picture's own."""
    first = canonical_orbit(1, size_px, fovy_rad=2 * math.atan(WIDER * math.tan(INPUT_FOVY_RAD / 2)))
    turns = torch.stack([torch.eye(4) for _ in range(frames)])
    for index in range(frames):
        turns[index, :3, :3] = torch.linalg.matrix_exp(2 * math.pi * index / frames * skew(up))
    return Cameras(turns @ first.T_world_camera, first.fovy_rad.expand(frames), size_px, size_px)


def turning(model: PartRM, name: str, frames: int, size_px: int) -> list[np.ndarray]:
    """Pictures on white of one example's answer."""
    (example,) = (one for one in load_examples() if one.path.name == name)
    moved = model.predict(example.path, example.drags_px, framing=example.framing, detail_px=384)
    shown = SimpleNamespace(before=moved.before, joints=(moved.joint,))
    elevation = math.radians(estimate_orientation(shown).elevation_deg)
    cameras = turntable(torch.tensor([0.0, math.cos(elevation), math.sin(elevation)]), frames, size_px)
    pictures = []
    for index in range(frames):
        opened = 0.5 - 0.5 * math.cos(4 * math.pi * index / frames)
        image = moved.render(cameras[index : index + 1], opened)
        pictures.append(to_bytes(composite_on_white(image)[0]))
    return pictures


def main(out: Path = Path("docs/images/turntables.gif"), size_px: int = 200, frames: int = 36) -> None:
    model = PartRM.from_pretrained("base", "cpu")
    runs = [turning(model, name, frames, size_px) for name in SHOWN]
    rows = [runs[first : first + COLUMNS] for first in range(0, len(runs), COLUMNS)]
    sheets = [np.concatenate([np.concatenate([run[t] for run in row], 1) for row in rows]) for t in range(frames)]
    palette = Image.fromarray(np.concatenate(sheets[:: frames // 4])).quantize(COLORS)
    images = [Image.fromarray(sheet).quantize(palette=palette, dither=Image.Dither.NONE) for sheet in sheets]
    images[0].save(out, save_all=True, append_images=images[1:], duration=FRAME_MS, loop=0, optimize=True)
    print(f"{out}: {out.stat().st_size / 2**20:.1f} MB")


if __name__ == "__main__":
    tyro.cli(main)
