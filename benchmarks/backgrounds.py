"""How well plain backgrounds are removed: procedural objects before backgrounds of several colours, lights and shadows.

    python benchmarks/backgrounds.py --out backgrounds.png

IoU of the mask (refused pictures count 0) and how many are below 0.9; the sheet shows the worst of each background.
"""

import argparse
import io
import statistics
import time
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from scipy import ndimage

from partrm.geometry.cameras import CANONICAL_FOVY_RAD, Cameras, orbit_poses
from partrm.imaging.cutout import ImageError, cut_out
from partrm.imaging.images import save_image
from partrm.metrics.motion import mask_iou
from partrm.procedural import OWN_CATEGORIES, generate
from partrm.rendering.meshes import Instances, Lights, MeshScene, material_table, render_meshes

BACKGROUNDS = {
    # colour, fall of light over the image, the same towards its corners, shadow, its blur (px), noise
    "white": ((1.0, 1.0, 1.0), 0.0, 0.0, 0.0, 1, 0.0),
    "white, noise": ((1.0, 1.0, 1.0), 0.0, 0.0, 0.0, 1, 0.012),
    "white, soft shadow": ((1.0, 1.0, 1.0), 0.0, 0.0, 0.22, 14, 0.0),
    "white, shadow": ((1.0, 1.0, 1.0), 0.0, 0.0, 0.3, 8, 0.0),
    "grey, gradient": ((0.82, 0.82, 0.83), 0.1, 0.0, 0.0, 1, 0.0),
    "grey, gradient, noise": ((0.82, 0.82, 0.83), 0.1, 0.0, 0.0, 1, 0.012),
    "grey, soft shadow": ((0.82, 0.82, 0.83), 0.0, 0.0, 0.22, 14, 0.0),
    "grey, shadow, noise": ((0.82, 0.82, 0.83), 0.0, 0.0, 0.3, 8, 0.012),
    "cream, vignette": ((0.93, 0.9, 0.85), 0.0, 0.16, 0.0, 1, 0.0),
    "blue": ((0.35, 0.5, 0.7), 0.0, 0.0, 0.0, 1, 0.0),
    "black, noise": ((0.06, 0.06, 0.07), 0.0, 0.0, 0.0, 1, 0.012),
}
JPEG_QUALITY = 85


def render(category: str, seed: int, size_px: int) -> torch.Tensor:
    """[4, h, w] an object half open."""
    obj = generate(category, seed)
    scene, state = MeshScene.from_objects([obj]), np.asarray(obj.joint_limits).mean(1)
    T = torch.as_tensor(obj.T_object_part(state)).float()[None]
    azimuth = torch.tensor([np.deg2rad(-50 + 100 * (seed * 0.618 % 1))]).float()
    cameras = Cameras(
        orbit_poses(azimuth, torch.tensor([0.45]))[None], torch.tensor([[CANONICAL_FOVY_RAD]]), size_px, size_px
    )
    instances = Instances.of_objects(scene, torch.zeros(1, dtype=torch.long), T, material_table([obj]))
    return render_meshes(scene, instances, cameras, Lights.reference(1), samples_per_axis=3)[0, 0]


def photograph(rgba: torch.Tensor, background: tuple, rng: np.random.Generator) -> torch.Tensor:
    """[3, h, w] the object before a background, as a JPEG decodes."""
    colour, fall, vignette, shadow, blur_px, noise = background
    alpha, side = rgba[3].numpy(), rgba.shape[-1]
    x, y = np.meshgrid(*[np.linspace(-1, 1, side)] * 2)
    light = (1 - fall * (x + y) / 2) * (1 - vignette * (x**2 + y**2) / 2)
    light *= 1 - shadow * ndimage.shift(ndimage.gaussian_filter(alpha, blur_px), (9, 6))
    picture = rgba[:3].numpy() * alpha + np.array(colour)[:, None, None] * light * (1 - alpha)
    picture += rng.normal(0, noise, picture.shape)
    return compressed(picture, JPEG_QUALITY)


def compressed(picture: np.ndarray, quality: int) -> torch.Tensor:
    """[3, h, w] colours as a JPEG file decodes."""
    file = io.BytesIO()
    rows = (picture.clip(0, 1) * 255).round().astype(np.uint8).transpose(1, 2, 0)
    Image.fromarray(rows).save(file, "JPEG", quality=quality)
    return torch.from_numpy(np.array(Image.open(file))).permute(2, 0, 1).float() / 255


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size-px", type=int, default=512)
    parser.add_argument("--seed", type=int, default=3_000_000)
    parser.add_argument("--out", type=Path, help="sheet of the worst pictures and what is kept of them")
    args = parser.parse_args()
    objects = [render(category, args.seed + k, args.size_px) for k, category in enumerate(OWN_CATEGORIES)]
    print(f"{len(objects)} objects of {args.size_px} px")
    every, worst, seconds = [], [], []
    for name, background in BACKGROUNDS.items():
        rng, found = np.random.default_rng(0), []
        for rgba in objects:
            picture, started = photograph(rgba, background, rng), time.perf_counter()
            try:
                mask = torch.from_numpy(cut_out(picture.numpy())[3] > 0.5)
            except ImageError:
                mask = torch.zeros_like(rgba[3], dtype=torch.bool)
            seconds.append(time.perf_counter() - started)
            kept = torch.where(mask, picture, torch.tensor([1.0, 0.0, 1.0])[:, None, None])
            found.append((float(mask_iou(mask, rgba[3] > 0.5)), torch.cat([picture, kept], 1)))
        scores = [score for score, _ in found]
        every += scores
        worst.append(min(found, key=lambda pair: pair[0])[1])
        below = sum(score < 0.9 for score in scores)
        mean, median = statistics.fmean(scores), statistics.median(scores)
        print(f"{name:24s} IoU mean {mean:.3f} median {median:.3f} below .9: {below}")
    share = sum(score < 0.9 for score in every) / len(every)
    print(f"all: {statistics.fmean(every):.3f}, below .9: {share:.1%}, {statistics.median(seconds):.2f} s a picture")
    if args.out:
        save_image(torch.cat(worst, 2), args.out)


if __name__ == "__main__":
    main()
