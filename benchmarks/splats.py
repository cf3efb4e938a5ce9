"""Time the Gaussian renderer: forward, and forward with backward, on two synthetic scenes.

    python benchmarks/splats.py                     65 536 Gaussians at 256 x 256, the device's backend
    python benchmarks/splats.py --device cuda --views 12 --batch 8

``surface``: pixel-footprint splats on the six sides of a box, mostly opaque, as the network predicts them.
``cloud``: a volume of splats of every opacity, the harder case. The first line is the time from the import to the first
image: it holds the kernels' compilation when the numba cache is cold.
"""

import time
from dataclasses import dataclass
from typing import Literal

import torch
import tyro

from partrm.geometry.cameras import Cameras, canonical_orbit
from partrm.geometry.gaussians import Gaussians
from partrm.rendering.splats import render_splats


@dataclass(frozen=True)
class Args:
    """Arguments."""

    count: int = 65_536
    """Gaussians."""
    size: int = 256
    """Image side, pixels."""
    views: int = 1
    """Images of each set."""
    batch: int = 1
    """Sets of Gaussians."""
    repeats: int = 10
    """Timed runs; the best and the median are printed."""
    device: Literal["cpu", "cuda"] = "cpu"
    """Where to render."""


def scene(kind: str, batch: int, count: int) -> Gaussians:
    g = torch.Generator().manual_seed(0)
    points = torch.rand(batch, count, 3, generator=g) * 2 - 1
    scales = torch.exp(torch.randn(batch, count, 3, generator=g) * 0.4) * 0.007
    opacities = torch.rand(batch, count, generator=g)
    if kind == "surface":
        axis = torch.randint(0, 3, (batch, count, 1), generator=g)
        points = 0.29 * points.scatter(-1, axis, points.gather(-1, axis).sign())
        opacities = 0.5 + 0.5 * opacities
    else:
        points = 0.5 * points
        scales = scales * 1.5
    quats = torch.nn.functional.normalize(torch.randn(batch, count, 4, generator=g), dim=-1)
    return Gaussians(points, quats, scales, opacities, torch.rand(batch, count, 3, generator=g))


def seconds(function, repeats: int, device: str) -> tuple[float, float]:
    times = []
    for _ in range(repeats + 1):
        start = time.perf_counter()
        function()
        if device == "cuda":
            torch.cuda.synchronize()
        times.append(time.perf_counter() - start)
    times = sorted(times[1:])
    return times[0], times[len(times) // 2]


def main(args: Args) -> None:
    one = canonical_orbit(args.views, args.size)
    cameras = Cameras(
        one.T_world_camera.repeat(args.batch, 1, 1, 1), one.fovy_rad.repeat(args.batch, 1), args.size, args.size
    ).to(args.device)
    for kind in ("surface", "cloud"):
        gaussians = scene(kind, args.batch, args.count).to(args.device)
        leaves = [gaussians.means, gaussians.quats, gaussians.scales, gaussians.opacities, gaussians.colors]

        def forward(gaussians=gaussians) -> None:
            with torch.no_grad():
                render_splats(gaussians, cameras)

        def both(gaussians=gaussians, leaves=leaves) -> None:
            for leaf in leaves:
                leaf.requires_grad_().grad = None
            images = render_splats(gaussians, cameras)
            (images.rgb.square().sum() + images.alpha.sum()).backward()

        start = time.perf_counter()
        both()
        print(f"{kind}: first call {time.perf_counter() - start:.2f} s")
        for name, function in (("forward", forward), ("forward + backward", both)):
            best, median = seconds(function, args.repeats, args.device)
            print(f"{kind}: {name} {1e3 * best:.1f} ms best, {1e3 * median:.1f} ms median")


if __name__ == "__main__":
    main(tyro.cli(Args))
