import math

import torch

from partrm.cameras import canonical_orbit
from partrm.carving import BACKGROUND, MARGIN, carve
from partrm.data.samples import VIEWS, NetworkInput
from partrm.drags import Drags
from partrm.gaussians import Gaussians

SIDE = 16


def scene(present: int = 1, seed: int = 0) -> tuple[Gaussians, NetworkInput]:
    """A slanted sheet in the first view's left half; the other views' Gaussians anywhere."""
    g = torch.Generator().manual_seed(seed)
    images = torch.zeros(1, VIEWS, 4, 2 * SIDE, 2 * SIDE)
    images[:, :present, :, 4:-4, 6:SIDE] = 0.8
    images[:, :present, 3, 4:-4, 6:SIDE] = 1.0
    cameras = canonical_orbit(VIEWS, 2 * SIDE)[None]
    valid = (torch.arange(VIEWS) < present)[None]
    drags = Drags(
        torch.zeros(1, 1, 2), torch.zeros(1, 1, 2), torch.zeros(1, 1, dtype=torch.long), torch.zeros(1, 1).bool()
    )
    origins, directions = cameras.resized(SIDE).rays()
    far = 2.3 + 0.2 * torch.rand(1, VIEWS, SIDE, SIDE, 1, generator=g)
    means = (origins[..., None, None, :] + far * directions).reshape(1, -1, 3)
    means[:, SIDE * SIDE :] = torch.rand(1, (VIEWS - 1) * SIDE * SIDE, 3, generator=g) - 0.5
    n = means.shape[1]
    gaussians = Gaussians(
        means=means,
        quats=torch.tensor([1.0, 0, 0, 0]).expand(1, n, 4),
        scales=torch.full((1, n, 3), 0.01),
        opacities=torch.full((1, n), 0.9),
        colors=torch.full((1, n, 3), 0.5),
    )
    return gaussians, NetworkInput(images, cameras, valid, drags, valid)


def test_carving_equals_a_loop_over_points_and_pixels() -> None:
    gaussians, inputs = scene()
    carved = carve(gaussians, inputs)
    camera = inputs.cameras[0, 0].resized(SIDE)
    alpha = inputs.images[0, 0, 3].reshape(SIDE, 2, SIDE, 2).mean((1, 3))
    hidden = 0
    for i, mean in enumerate(gaussians.means[0]):
        expected = 0.9
        pixel, _ = camera.project(mean[None])
        column, row = (math.floor(float(v)) for v in pixel[0])
        if i >= SIDE * SIDE and 0 <= column < SIDE and 0 <= row < SIDE:
            near = [
                (r, c)
                for r in range(max(0, row - 1), min(SIDE, row + 2))
                for c in range(max(0, column - 1), min(SIDE, column + 2))
            ]
            shown = [
                float((gaussians.means[0, r * SIDE + c] - camera.positions).norm())
                for r, c in near
                if alpha[r, c] > 0.5
            ]
            before = alpha[row, column] > 0.5 and float((mean - camera.positions).norm()) < min(shown) + MARGIN
            if before or max(float(alpha[r, c]) for r, c in near) < BACKGROUND:
                expected, hidden = 0.0, hidden + 1
        assert abs(float(carved.opacities[0, i]) - expected) < 1e-6, i
    assert 100 < hidden < len(gaussians.means[0]) - 100
    assert torch.equal(carved.means, gaussians.means)


def test_what_given_views_say_stays() -> None:
    gaussians, inputs = scene(present=VIEWS)
    assert torch.equal(carve(gaussians, inputs).opacities, gaussians.opacities)


def test_no_view_contradicts_nothing() -> None:
    gaussians, inputs = scene(present=0)
    assert torch.equal(carve(gaussians, inputs).opacities, gaussians.opacities)
