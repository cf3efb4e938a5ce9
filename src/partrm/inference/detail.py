"""Seen surfaces at the photograph's own resolution: many small splats in place of the network's few.

Depth, shape and opacity come from the network's splats about each pixel that lie on the same side of the part's edge
and on the same surface; colours come from the photograph. So no splat hangs between two surfaces at an edge.
"""

from dataclasses import dataclass, replace

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
from partrm.geometry.tensor_record import TensorRecord
from partrm.inference.closing import CLOSING, closed
from partrm.inference.decode import MIN_OPACITY
from partrm.inference.reading import together

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

PIXELS_IN_CACHE = 2**11
"""That a CPU works on together: what 25 cells tell of more would go through its memory a dozen times."""

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
    size = picture.shape[-1]
    shown = (picture[3] > 0.5).flatten().nonzero()[:, 0]
    row, column = shown // size, shown % size
    alpha, part = picture[3].flatten()[shown], moving.flatten()[shown]
    rgb = rearrange(picture[:3], "c h w -> (h w) c")[shown]
    here = torch.stack([column + 0.5, row + 0.5], -1)
    cells = Cells.of(surface, surface_moving, camera)
    few = len(shown) or 1 if together(shown.device) else PIXELS_IN_CACHE
    pieces = [cells.at(*some, size) for some in zip(here.split(few), rgb.split(few), part.split(few), strict=True)]
    z, leader, kept = (torch.cat(column) for column in zip(*pieces, strict=True))
    focal = camera.focal_px * size / camera.height
    points = torch.cat([(here - size / 2) / focal * z[:, None], z[:, None]], -1)
    R, t = camera.T_world_camera[:3, :3], camera.T_world_camera[:3, 3]
    fine = Gaussians(
        points @ R.T + t,
        surface.quats[leader],
        (CLOSING * z / focal)[:, None].expand(-1, 3),
        alpha,
        rgb,
    )
    return _closed_on(fine[kept], shown[kept], camera.resized(size)), part[kept]


@dataclass(frozen=True)
class Cells(TensorRecord):
    """What lies about each cell of the network's square grid of splats, as its view sees them: 25 cells of each."""

    index: Int[Tensor, "n k"]
    column: Float[Tensor, "n k"]
    """Of the cells' middles; beyond the grid's rim the rim's again."""
    row: Float[Tensor, "n k"]
    opacity: Float[Tensor, "n k"]
    there: Bool[Tensor, "n k"]
    """Whether the splat shows at all."""
    moving: Bool[Tensor, "n k"]
    colors: Float[Tensor, "n k 3"]
    depth: Float[Tensor, "n k"]
    nearness: Float[Tensor, "n k"]
    """Inverse depth."""
    across: Float[Tensor, "n k"]
    """What it changes a column."""
    down: Float[Tensor, "n k"]
    """What it changes a row."""

    @staticmethod
    def of(surface: Gaussians, moving: Bool[Tensor, " n"], camera: Cameras) -> "Cells":
        """Splats by rows and columns, of which some move."""
        depth, side, there = _local(surface, camera)[:, 2], round(len(surface) ** 0.5), surface.opacities >= MIN_OPACITY
        nearness, slope = _slopes(depth, there, moving, side)
        cell = torch.arange(side, device=depth.device)
        steps = torch.tensor([(i, j) for i in REACH for j in REACH], device=depth.device)
        row = (cell.repeat_interleave(side)[:, None] + steps[:, 0]).clamp(0, side - 1)
        column = (cell.repeat(side)[:, None] + steps[:, 1]).clamp(0, side - 1)
        index = row * side + column
        values = (surface.opacities, there, moving, surface.colors, depth, nearness, *slope.unbind(1))
        return Cells(index, column + 0.5, row + 0.5, *(value[index] for value in values))

    def at(
        self, pixels: Float[Tensor, "m 2"], rgb: Float[Tensor, "m 3"], part: Bool[Tensor, " m"], size: int
    ) -> tuple[Float[Tensor, " m"], Int[Tensor, " m"], Bool[Tensor, " m"]]:
        """What some pixels show.

        Args:
            pixels: their middles, column and row.
            rgb: their colours.
            part: whether they show the part.
            size: of the picture that they are of.

        Returns:
            depths, the cells that they show before all others, and whether anything told of them.
        """
        side = round(len(self.index) ** 0.5)
        x, y = (pixels * side / size).unbind(1)
        own = y.long() * side + x.long()
        c = self.map(lambda values: values.index_select(0, own))
        apart = (c.column - x[:, None]) ** 2 + (c.row - y[:, None]) ** 2
        weight = torch.exp(-0.5 * apart / NEARNESS**2) * c.opacity
        weight = weight * torch.exp(-(c.colors - rgb[:, None]).norm(dim=-1) / ALIKE)
        weight = weight * torch.where(c.moving == part[:, None], 1.0, OTHER_SIDE)
        weight = weight * c.there
        here = pixels * (side / size)
        at_pixel = c.nearness + (c.across * (here[:, :1] - c.column) + c.down * (here[:, 1:] - c.row))
        depth = torch.where(at_pixel > STEEPEST * c.nearness, 1 / at_pixel, c.depth)
        best = weight.argmax(1, keepdim=True)
        same = (depth - depth.gather(1, best)).abs() < SAME_SURFACE
        weight = weight * same
        total = weight.sum(1)
        z = (weight * depth).sum(1) / total.clamp(min=1e-12)
        return z, c.index.gather(1, best)[:, 0], total > 1e-12


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
    inside = _to_outline(alpha > 0.5, where)
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


def _to_outline(shown: Bool[Tensor, "h w"], where: Int[Tensor, " n"]) -> Float[Tensor, " n"]:
    """From some pixels, by their indices, to the nearest one that is not shown (exact Euclidean distance)."""
    return torch.from_numpy(distance_transform_edt(shown.cpu().numpy())).float().flatten().to(where.device)[where]


def _farthest_near(gaussians: Gaussians, camera: Cameras, reach_px: int) -> Float[Tensor, " pixels"]:
    """How deep the surface on each pixel lies within so many pixels; NaN where there is none."""
    depths = _mean_depths(gaussians, camera)
    around = depths.nan_to_num(-torch.inf).view(1, camera.height, camera.width)
    farthest = max_pool2d(around, 2 * reach_px + 1, 1, reach_px).flatten()
    return torch.where(farthest - depths < ONE_SURFACE, farthest, depths)


def _mean_depths(gaussians: Gaussians, camera: Cameras) -> Float[Tensor, " pixels"]:
    """Of the splats on each pixel, NaN where there are none."""
    cells, depths = _cells(gaussians, camera)
    # Not scatter_reduce, which adds in another order each time on a GPU.
    count, total = (
        depths.new_zeros(camera.height * camera.width).index_put((cells,), values, accumulate=True)
        for values in (torch.ones_like(depths), depths)
    )
    return torch.where(count > 0, total / count, torch.nan)


def _cells(gaussians: Gaussians, camera: Cameras) -> tuple[Int[Tensor, " n"], Float[Tensor, " n"]]:
    """The pixel that each splat's centre falls on (the nearest of the picture), and its depth."""
    pixels, depth = camera.project(gaussians.means)
    limit = torch.tensor([camera.width - 1, camera.height - 1], device=pixels.device)
    column, row = pixels.floor().long().clamp(min=torch.zeros_like(limit), max=limit).unbind(-1)
    return row * camera.width + column, depth


def _local(surface: Gaussians, camera: Cameras) -> Float[Tensor, "n 3"]:
    T = camera.T_camera_world
    return surface.means @ T[:3, :3].T + T[:3, 3]
