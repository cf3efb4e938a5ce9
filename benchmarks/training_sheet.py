"""A contact sheet of what training sees: inputs on white, and below each the dragged part in red and its drags.

python -m partrm data pool procedural --per-category 2 --out pool.xz
python benchmarks/training_sheet.py --pool pool.xz --out sheet.png
"""

import argparse
import time
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageDraw
from torch.nn.functional import interpolate

from partrm.synthesis.sampler import OnlineSamples, SampleConfig
from partrm.synthesis.samples import Samples
from partrm.training.trainer import load_pool_for

COLUMNS = 12


def pictures(samples: Samples) -> tuple[torch.Tensor, torch.Tensor]:
    """First inputs on white and the same with the true part tinted, seen or hidden, [b, 3, h, w] in [0, 1]."""
    image = samples.inputs.images[:, 0]
    white = image[:, :3] * image[:, 3:] + 1 - image[:, 3:]
    moving = interpolate(samples.targets.moving[:, :1].float(), size=white.shape[-2:], mode="nearest")
    red = torch.tensor([1.0, 0.1, 0.1])[:, None, None]
    return white, torch.lerp(white, red.expand_as(white), 0.5 * moving)


def with_drags(picture: np.ndarray, samples: Samples, row: int) -> np.ndarray:
    """The drags as blue lines that start with a dot; a grey diagonal crosses samples that carry no loss."""
    drags, image = samples.inputs.drags, Image.fromarray(picture)
    draw, side = ImageDraw.Draw(image), picture.shape[0]
    for start, end, valid in zip(drags.start[row], drags.end[row], drags.valid[row], strict=True):
        if valid:
            (x, y), (u, v) = (start * side).tolist(), (end * side).tolist()
            draw.line([x, y, u, v], fill=(0, 60, 255))
            draw.ellipse([x - 2, y - 2, x + 2, y + 2], fill=(0, 60, 255))
    if not samples.valid[row]:
        draw.line([0, 0, side, side], fill=(120, 120, 120))
    return np.asarray(image)


def sheet(samples: Samples) -> np.ndarray:
    """[h, w, 3] uint8: rows of inputs, each above the row of their parts and drags."""
    white, tinted = ((255 * x).round().byte().permute(0, 2, 3, 1).numpy() for x in pictures(samples))
    count, side = white.shape[:2]
    rows = []
    for first in range(0, count, COLUMNS):
        numbers = range(first, min(first + COLUMNS, count))
        pad = np.full((side, side * (COLUMNS - len(numbers)), 3), 255, np.uint8)
        rows.append(np.concatenate([*(white[i] for i in numbers), pad], 1))
        rows.append(np.concatenate([*(with_drags(tinted[i], samples, i) for i in numbers), pad], 1))
    return np.concatenate(rows)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pool", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--count", type=int, default=24)
    parser.add_argument("--size", type=int, default=128, help="side of an input, pixels")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--plain", action="store_true", help="as validation sees them: nothing disturbed")
    args = parser.parse_args()
    data = OnlineSamples(*load_pool_for((args.pool,), torch.device("cpu")), seed=args.seed)
    start = time.perf_counter()
    samples = data.draw(SampleConfig(args.size, augment=not args.plain), args.count)
    print(f"{args.count} samples in {time.perf_counter() - start:.1f} s, {int(samples.valid.sum())} of them valid")
    args.out.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(sheet(samples)).save(args.out)


if __name__ == "__main__":
    main()
