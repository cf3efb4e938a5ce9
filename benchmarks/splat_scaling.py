"""How the CPU renderer's cost grows with the number of Gaussians and of pixels; a plot and the figures.

    python benchmarks/splat_scaling.py --out docs/images/splat_cost.png        (needs matplotlib)

The "surface" scene of ``benchmarks/splats.py``, one view. Processor time of all threads, best of ``--repeats``, so that
other programs disturb it little; straight lines are fitted by least squares, with the share of the variance that they
explain.
"""

import json
import platform
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import tyro
from splats import scene

from partrm.geometry.cameras import canonical_orbit
from partrm.rendering.splats import render_splats


@dataclass(frozen=True)
class Args:
    """Arguments."""

    out: Path
    """Picture; a .json of the same name beside it holds the figures."""
    counts: tuple[int, ...] = (16_384, 65_536, 131_072, 196_608, 262_144, 393_216)
    """Gaussians, at 256 x 256."""
    sizes: tuple[int, ...] = (128, 256, 384, 512, 640, 768)
    """Sides of the image, with 65 536 Gaussians."""
    repeats: int = 7


def milliseconds(count: int, size: int, repeats: int) -> tuple[float, float]:
    """Processor time of a forward pass, and of one with gradients."""
    gaussians, cameras = scene("surface", 1, count)[0], canonical_orbit(1, size)
    leaves = [gaussians.means, gaussians.quats, gaussians.scales, gaussians.opacities, gaussians.colors]

    def forward() -> None:
        with torch.no_grad():
            render_splats(gaussians, cameras)

    def both() -> None:
        for leaf in leaves:
            leaf.requires_grad_().grad = None
        images = render_splats(gaussians, cameras)
        (images.rgb.square().sum() + images.alpha.sum()).backward()

    return best(forward, repeats), best(both, repeats)


def best(work: Callable[[], None], repeats: int) -> float:
    """Least processor time, milliseconds, after a first run."""
    work()
    times = []
    for _ in range(repeats):
        started = time.process_time()
        work()
        times.append(time.process_time() - started)
    return 1e3 * min(times)


def main(args: Args) -> None:
    import matplotlib.pyplot as plt

    series = {
        "thousands of Gaussians, at 256 x 256": {n / 1e3: milliseconds(n, 256, args.repeats) for n in args.counts},
        "thousands of pixels, with 65 536 Gaussians": {
            s * s / 1e3: milliseconds(65_536, s, args.repeats) for s in args.sizes
        },
    }
    figure, axes = plt.subplots(1, 2, figsize=(9, 3.6))
    explained = {}
    for axis, (label, rows) in zip(axes, series.items(), strict=True):
        x, times = np.array(list(rows)), np.array(list(rows.values()))
        for column, kind in enumerate(("forward", "forward and backward")):
            y = times[:, column]
            line = np.polyval(np.polyfit(x, y, 1), x)
            share = 1 - float(((y - line) ** 2).sum() / ((y - y.mean()) ** 2).sum())
            explained[f"{kind}, {label}"] = round(share, 4)
            (points,) = axis.plot(x, y, "o", label=f"{kind} (straight line: {share:.1%})")
            axis.plot(x, line, "-", color=points.get_color(), linewidth=1)
        axis.set_xlabel(label)
        axis.set_xlim(left=0)
        axis.set_ylim(bottom=0)
        axis.grid(alpha=0.2)
        axis.legend(fontsize=8)
    axes[0].set_ylabel("processor time, milliseconds")
    figure.tight_layout()
    args.out.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(args.out, dpi=120)
    facts = {"processor": platform.machine(), "threads": torch.get_num_threads(), "explained": explained}
    times = {label: {f"{x:g}": [round(t, 2) for t in row] for x, row in rows.items()} for label, rows in series.items()}
    args.out.with_suffix(".json").write_text(json.dumps(facts | {"milliseconds": times}, indent=1) + "\n")
    print(json.dumps(facts, indent=1))


if __name__ == "__main__":
    main(tyro.cli(Args, description=__doc__))
