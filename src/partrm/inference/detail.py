"""Seen surfaces at the photograph's own resolution: many small splats in place of the network's few.

Depth, shape and opacity come from the network's splats about each pixel that lie on the same side of the part's edge
and on the same surface; colours come from the photograph. So no splat hangs between two surfaces at an edge.
"""

from dataclasses import replace

import torch
from einops import rearrange
from jaxtyping import Bool, Float, Int
from scipy.ndimage import distance_transform_edt
from torch import Tensor
from torch.nn.functional import max_pool2d, pad

from partrm.errors import ConfigError
from partrm.geometry.cameras import Cameras
from partrm.geometry.gaussians import Gaussians
from partrm.geometry.joints import JointType
from partrm.inference.closing import CLOSING, closed
from partrm.inference.decode import MIN_OPACITY

SAME_SURFACE = 0.03
"""Splats whose depths differ by less lie on one surface, canonical units."""

ALIKE = 0.4
"""Difference of colours at which a splat about a pixel counts a third."""

NEARNESS = 1.2
"""Standard deviation of the weights about a pixel, cells of the network's grid."""

REACH = range(-2, 3)
"""Cells to each side of a pixel's own that tell of it."""

OTHER_SIDE = 1e-3
"""What a splat of the other side of the part's edge counts: it tells where there is nothing else."""

GHOST = 0.06
"""A splat that stays, this near to the part's seen surface, is the part's: it would hang where the part was."""

ONE_SURFACE = 0.1
"""What lies farther behind within the reach of a splat is another surface."""

THICKNESS = {JointType.REVOLUTE: 0.12, JointType.PRISMATIC: 1.0}
"""How far behind its seen surface a part may reach, canonical units: a door is thin, a drawer as deep as its body."""

REST_WIDTH = 1.4
"""How many times as wide as before splats are that have no finer ones: they close in pictures of this resolution."""

WITHIN = 0.5
"""The widest that such splats are, as a share of their way to the object's outline, which they would blur."""

MIST = 0.3
"""Opacity below which a splat that the image does not show is left out: guesses that thin are fog about the object."""

STEEPEST = 0.5
"""A cell tells nothing of a pixel at which its slope would lead to twice its distance."""


def check_detail(detail_px: int) -> None:
    """Refuse grids that show nothing, or fill the memory; 0 is none.

    Raises:
        ConfigError: neither 0 nor 64 to 1024.
    """
    if detail_px != 0 and not 64 <= detail_px <= 1024:
        raise ConfigError(f"detail {detail_px}: give 64 to 1024, or 0")


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
    nearness, slope = _slopes(local[:, 2], surface.opacities >= MIN_OPACITY, surface_moving, side)
    here = (torch.stack([column, row], -1)[:, None] + 0.5) * (side / size)
    there = torch.stack([cells % side, cells // side], -1) + 0.5
    at_pixel = nearness[cells] + (slope[cells] * (here - there)).sum(-1)
    depth = torch.where(at_pixel > STEEPEST * nearness[cells], 1 / at_pixel, local[cells, 2])
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
    fine = Gaussians(
        points @ R.T + t,
        surface.quats[leader],
        (CLOSING * z / focal)[:, None].expand(-1, 3),
        alpha,
        rgb,
    )
    return _closed_on(fine[kept], shown[kept], camera.resized(size)), part[kept]


def _closed_on(fine: Gaussians, pixels: Int[Tensor, " n"], camera: Cameras) -> Gaussians:
    """Splats of some of a camera's pixels, closed (:func:`partrm.inference.closing.closed`)."""
    count = camera.height * camera.width

    def on_grid(values: Tensor) -> Tensor:
        return values.new_zeros(1, count, *values.shape[1:]).index_copy(1, pixels, values[None])

    grid = Gaussians(*(on_grid(value) for value in fine.leaves().values()))
    return closed(grid, camera[None, None])[0][pixels]


def without_ghosts(
    rest: Gaussians,
    rest_moving: Bool[Tensor, " n"],
    seen: Gaussians,
    seen_moving: Bool[Tensor, " m"],
    camera: Cameras,
    alpha: Float[Tensor, "h w"],
    thickness: float,
    spacing_px: float,
) -> tuple[Gaussians, Bool[Tensor, " k"]]:
    """The splats that no finer ones replace, widened within the outline, without fog and those that hang in the air.

    These are splats that would stay where the part was, such as move though they are not behind the seen part, and all
    that would hide what the view shows.

    Args:
        rest: [n] of hidden and guessed surfaces.
        rest_moving: which belong to the part.
        seen: [m] as :func:`detailed` makes them.
        seen_moving: likewise.
        camera: unbatched, of the first view; at its resolution what the part covers is looked up.
        alpha: of the object in that view; splats do not reach beyond its outline.
        thickness: how far behind its seen surface the part may reach, canonical units.
        spacing_px: of the network's splats, pixels of that view; splats stay as wide as closes their surface.
    """
    where, depth = _cells(rest, camera)
    behind = depth - _mean_depths(seen[seen_moving], camera)[where]
    stays = ~rest_moving & (behind.abs() < GHOST)
    gap = depth - _farthest_near(seen, camera, round(spacing_px))[where]
    # NaN where the part is not seen compares false, and what moves there cannot be the part's.
    strays = rest_moving & ~((behind > -GHOST) & (behind < thickness))
    ghost = stays | (gap < 0) | strays | (rest.opacities < MIST)
    inside = torch.from_numpy(distance_transform_edt((alpha > 0.5).numpy())).float().flatten()[where]
    pixel = depth / camera.focal_px
    widest = torch.minimum(inside * WITHIN * pixel, gap.nan_to_num(torch.inf)).maximum(CLOSING * spacing_px * pixel)
    widened = replace(rest, scales=torch.minimum(rest.scales * REST_WIDTH, widest.clamp(min=1e-4)[:, None]))
    return widened[~ghost], rest_moving[~ghost]


def _slopes(
    depth: Float[Tensor, " n"], there: Bool[Tensor, " n"], moving: Bool[Tensor, " n"], side: int
) -> tuple[Float[Tensor, " n"], Float[Tensor, "n 2"]]:
    """Inverse depths of a grid, linear on planes, and what they change a column and a row: the lesser of both ways."""
    inverse = (1 / depth.clamp(min=1e-3)).view(side, side)
    label = torch.where(there, moving.long(), -1).view(side, side)

    def along_rows(values: Float[Tensor, "side side"], labels: Int[Tensor, "side side"]) -> Float[Tensor, "side side"]:
        one = (labels[:, 1:] == labels[:, :-1]) & (labels[:, 1:] >= 0)
        step = values.diff(dim=1).masked_fill(~one, torch.inf)
        before, after = pad(step, (1, 0), value=torch.inf), pad(step, (0, 1), value=torch.inf)
        lesser = torch.where(before.abs() <= after.abs(), before, after)
        return torch.where(lesser.isfinite(), lesser, 0.0)

    slopes = along_rows(inverse, label), along_rows(inverse.T, label.T).T
    return inverse.flatten(), torch.stack([slope.flatten() for slope in slopes], -1)


def _farthest_near(gaussians: Gaussians, camera: Cameras, reach_px: int) -> Float[Tensor, " pixels"]:
    """How deep the surface on each pixel lies within so many pixels; NaN where there is none."""
    depths = _mean_depths(gaussians, camera)
    around = depths.nan_to_num(-torch.inf).view(1, camera.height, camera.width)
    farthest = max_pool2d(around, 2 * reach_px + 1, 1, reach_px).flatten()
    return torch.where(farthest - depths < ONE_SURFACE, farthest, depths)


def _mean_depths(gaussians: Gaussians, camera: Cameras) -> Float[Tensor, " pixels"]:
    """Of the splats on each pixel, NaN where there are none."""
    cells, depths = _cells(gaussians, camera)
    nowhere = torch.full((camera.height * camera.width,), torch.nan)
    return nowhere.scatter_reduce(0, cells, depths, "mean", include_self=False)


def _cells(gaussians: Gaussians, camera: Cameras) -> tuple[Int[Tensor, " n"], Float[Tensor, " n"]]:
    """The pixel that each splat's centre falls on (the nearest of the picture), and its depth."""
    pixels, depth = camera.project(gaussians.means)
    limit = torch.tensor([camera.width - 1, camera.height - 1])
    column, row = pixels.floor().long().clamp(min=torch.zeros(2, dtype=torch.long), max=limit).unbind(-1)
    return row * camera.width + column, depth


def _neighbours(
    x: Float[Tensor, " m"], y: Float[Tensor, " m"], side: int
) -> tuple[Int[Tensor, "m k"], Float[Tensor, "m k"]]:
    """The cells about points of a grid, and their squared distances in cells; beyond its rim the rim's again."""
    steps = torch.tensor([(i, j) for i in REACH for j in REACH])
    row = (y.floor().long()[:, None] + steps[:, 0]).clamp(0, side - 1)
    column = (x.floor().long()[:, None] + steps[:, 1]).clamp(0, side - 1)
    apart = (column + 0.5 - x[:, None]) ** 2 + (row + 0.5 - y[:, None]) ** 2
    return row * side + column, apart


def _local(surface: Gaussians, camera: Cameras) -> Float[Tensor, "n 3"]:
    T = camera.T_camera_world
    return surface.means @ T[:3, :3].T + T[:3, 3]
