"""Your cameras and a video: the motion as a film, seen by a camera of your own that flies by.

A prediction is Gaussians: ``prediction.render(cameras, t)`` shows it after the fraction t of the motion from any camera
in the canonical frame, and ``prediction.at(t)`` gives the Gaussians themselves, here kept as a PLY file.

    python examples/04_your_cameras.py --out flight
"""

import math
from pathlib import Path

import torch
import tyro

import partrm
from partrm import Cameras, PartRM, save_ply
from partrm.geometry.cameras import CANONICAL_FOVY_RAD, look_at
from partrm.imaging.video import save_video

IMAGES = Path(partrm.__file__).parent / "example_images"


def main(out: Path, frames: int = 24, size_px: int = 256, device: str = "auto") -> None:
    prediction = PartRM.from_pretrained("base", device).predict(IMAGES / "laptop.png", [(187, 93, 160, 58)])
    t = torch.linspace(0, 1, frames)
    angle = math.radians(40) * (2 * t - 1)
    positions = 2.6 * torch.stack([angle.sin(), 0.25 + 0 * t, angle.cos()], -1)
    up = torch.tensor([0.0, 1.0, 0.0])
    poses = look_at(positions, torch.zeros(3), up)
    cameras = Cameras(poses, torch.full((frames,), CANONICAL_FOVY_RAD), size_px, size_px)

    pictures = []
    for index in range(frames):
        rgba = prediction.render(cameras[index : index + 1], t=float(t[index]))[0]
        on_white = rgba[:3] * rgba[3:] + 1 - rgba[3:]
        pictures.append((255 * on_white).round().byte().permute(1, 2, 0).numpy())
    out.mkdir(parents=True, exist_ok=True)
    save_video(pictures, (size_px, size_px), 16, out / "flight.mp4")
    save_ply(prediction.at(0.5), out / "half_open.ply")
    print(f"{frames} frames in {out / 'flight.mp4'}, half of the motion in {out / 'half_open.ply'}")


if __name__ == "__main__":
    tyro.cli(main)
