"""Seen surfaces at the photograph's own resolution: many small splats in place of the network's few.

Depth, shape and opacity come from the network's splats about each pixel that lie on the same side of the part's edge
and on the same surface; colours come from the photograph. So no splat hangs between two surfaces at an edge.
"""

import torch
from einops import rearrange
from jaxtyping import Bool, Float, Int
from torch import Tensor

from partrm.geometry.cameras import Cameras
from partrm.geometry.gaussians import Gaussians
from partrm.inference.decode import MIN_OPACITY, MOVING_WIDTH, STILL_WIDTH

SAME_SURFACE = 0.03
"""Splats whose depths differ by less lie on one surface, canonical units."""

ALIKE = 0.15
"""Difference of colours at which a splat about a pixel counts a third."""

NEARNESS = 0.7
"""Standard deviation of the weights about a pixel, cells of the network's grid."""

OTHER_SIDE = 1e-3
"""What a splat of the other side of the part's edge counts: it tells where there is nothing else."""

OVERLAP = 1.3
"""How many times as wide as the network's are splats are, by their own spacing: they close when looked at aslant."""


def detailed(
    surface: Gaussians,
    surface_moving: Bool[Tensor, " n"],
    camera: Cameras,
    picture: Float[Tensor, "4 size size"],
    moving: Bool[Tensor, "size size"],
) -> tuple[Gaussians, Bool[Tensor, " m"]]:
    """Splats of a finer grid for what the first view shows.

    Args:
        surface: [n] of the network, by rows and columns of a square grid, in the camera's world.
        surface_moving: which of them belong to the part.
        camera: unbatched, of the first view.
        picture: what it sees, RGBA, finer than the network's grid.
        moving: where it sees the part.

    Returns:
        splats, one for each pixel that shows the object, and which move.
    """
    side, size = round(len(surface) ** 0.5), picture.shape[-1]
    shown = (picture[3] > 0.5).flatten().nonzero()[:, 0]
    row, column = shown // size, shown % size
    alpha, part = picture[3].flatten()[shown], moving.flatten()[shown]
    rgb = rearrange(picture[:3], "c h w -> (h w) c")[shown]
    cells, apart = _neighbours((column + 0.5) * side / size, (row + 0.5) * side / size, side)
    local = _local(surface, camera)
    weight = torch.exp(-0.5 * apart / NEARNESS**2) * surface.opacities[cells]
    weight = weight * torch.exp(-(surface.colors[cells] - rgb[:, None]).norm(dim=-1) / ALIKE)
    weight = weight * torch.where(surface_moving[cells] == part[:, None], 1.0, OTHER_SIDE)
    weight = weight * (surface.opacities[cells] >= MIN_OPACITY)
    depth = local[cells, 2]
    best = weight.argmax(1, keepdim=True)
    same = (depth - depth.gather(1, best)).abs() < SAME_SURFACE
    weight = weight * same
    total = weight.sum(1)
    kept = total > 1e-12
    z = (weight * depth).sum(1) / total.clamp(min=1e-12)
    leader = cells.gather(1, best)[:, 0]
    pixels = torch.stack([column + 0.5, row + 0.5], -1) - size / 2
    focal = camera.focal_px * size / camera.height
    points = torch.cat([pixels / focal * z[:, None], z[:, None]], -1)
    R, t = camera.T_world_camera[:3, :3], camera.T_world_camera[:3, 3]
    width = torch.where(part, MOVING_WIDTH, STILL_WIDTH) * OVERLAP * side / size
    fine = Gaussians(
        points @ R.T + t,
        surface.quats[leader],
        surface.scales[leader] * width[:, None],
        surface.opacities[leader].clamp(min=0.5) * alpha,
        rgb,
    )
    return fine[kept], part[kept]


def _neighbours(
    x: Float[Tensor, " m"], y: Float[Tensor, " m"], side: int
) -> tuple[Int[Tensor, "m 9"], Float[Tensor, "m 9"]]:
    """The nine cells about points of a grid, and their squared distances in cells; beyond its rim the rim's again."""
    steps = torch.tensor([(i, j) for i in (-1, 0, 1) for j in (-1, 0, 1)])
    row = (y.floor().long()[:, None] + steps[:, 0]).clamp(0, side - 1)
    column = (x.floor().long()[:, None] + steps[:, 1]).clamp(0, side - 1)
    apart = (column + 0.5 - x[:, None]) ** 2 + (row + 0.5 - y[:, None]) ** 2
    return row * side + column, apart


def _local(surface: Gaussians, camera: Cameras) -> Float[Tensor, "n 3"]:
    T = camera.T_camera_world
    return surface.means @ T[:3, :3].T + T[:3, 3]
