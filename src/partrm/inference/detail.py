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

PIXELS_ON_GPU = 2**20
"""That a GPU works on together: 25 cells tell of each, 70 bytes a cell."""

DISTANCES_AT_ONCE = 2**26
"""That a GPU compares together."""

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


@dataclass(frozen=True)
class SeenSurface(TensorRecord):
    """What first views show, a splat for each pixel of their pictures."""

    gaussians: Gaussians
    """[b, h w] by rows and columns; of opacity 0 where nothing is shown."""
    moving: Bool[Tensor, "b h w"]
    """Where they show the part."""
    depth: Float[Tensor, "b h w"]
    """From the views' cameras; NaN where nothing is shown."""


def detailed(
    surface: Gaussians,
    surface_moving: Bool[Tensor, "b n"],
    cameras: Cameras,
    pictures: Float[Tensor, "b 4 size size"],
    moving: Bool[Tensor, "b size size"],
) -> SeenSurface:
    """Splats of a finer grid for what the first views show.

    Args:
        surface: [b, n] of the network, by rows and columns of a square grid, in the cameras' world.
        surface_moving: which of them belong to the part.
        cameras: [b] of the first views.
        pictures: what they see, RGBA, finer than the network's grid.
        moving: where they see the part.
    """
    (b, _, size, _), cameras = pictures.shape, cameras.resized(pictures.shape[-1])
    shown = (pictures[:, 3] > 0.5).flatten().nonzero()[:, 0]
    sample, own = shown // size**2, shown % size**2
    here = torch.stack([own % size + 0.5, own // size + 0.5], -1)
    rgb = rearrange(pictures[:, :3], "b c h w -> (b h w) c")
    cells = Cells.of(surface, surface_moving, cameras)
    few = PIXELS_ON_GPU if together(shown.device) else PIXELS_IN_CACHE
    asked = (values.split(few) for values in (sample, here, rgb[shown], moving.flatten()[shown]))
    pieces = [cells.at(whose, pixels, colors, part, size) for whose, pixels, colors, part in zip(*asked, strict=True)]
    z, leader, told = (torch.cat(column) for column in zip(*pieces, strict=True))

    def on_grid(values: Tensor) -> Tensor:
        grid = values.new_zeros(b * size**2, *values.shape[1:]).index_copy(0, shown, values)
        return grid.unflatten(0, (b, size**2))

    there, z = on_grid(told), on_grid(torch.where(told, z, 0.0))
    focal = cameras.focal_px[:, None]
    from_middle = (on_grid(here) - size / 2) / focal[..., None] * z[..., None]
    T = cameras.T_world_camera
    fine = Gaussians(
        torch.cat([from_middle, z[..., None]], -1) @ T[:, :3, :3].mT + T[:, None, :3, 3],
        on_grid(surface.quats.flatten(0, 1)[leader]),
        (CLOSING * z / focal)[..., None].expand(-1, -1, 3),
        torch.where(there, pictures[:, 3].flatten(1), 0.0),
        rgb.unflatten(0, (b, size**2)),
    )
    depth = torch.where(there, z, torch.nan).unflatten(1, (size, size))
    return SeenSurface(closed(fine, cameras[:, None]), moving, depth)


@dataclass(frozen=True)
class Cells(TensorRecord):
    """What lies about each cell of the network's square grids of splats, as their views see them: 25 cells of each."""

    side: int
    """Of the grids."""
    index: Int[Tensor, "n k"]
    """Of the splats, all samples' in a row."""
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
    def of(surface: Gaussians, moving: Bool[Tensor, "b n"], cameras: Cameras) -> "Cells":
        """Splats [b, n] by rows and columns, of which some move."""
        (_, depth), there = cameras.project(surface.means), surface.opacities >= MIN_OPACITY
        b, n = depth.shape
        side = round(n**0.5)
        nearness, across, down = _slopes(depth, there, moving, side)
        cell = torch.arange(side, device=depth.device)
        steps = torch.tensor([(i, j) for i in REACH for j in REACH], device=depth.device)
        row = (cell.repeat_interleave(side)[:, None] + steps[:, 0]).clamp(0, side - 1)
        column = (cell.repeat(side)[:, None] + steps[:, 1]).clamp(0, side - 1)
        index = row * side + column
        first = torch.arange(0, b * n, n, device=depth.device)
        about = [values[:, index].flatten(0, 1) for values in (surface.opacities, there, moving, surface.colors)]
        about += [values[:, index].flatten(0, 1) for values in (depth, nearness, across, down)]
        places = ((first[:, None, None] + index).flatten(0, 1), *((at + 0.5).repeat(b, 1) for at in (column, row)))
        return Cells(side, *places, *about)

    def at(
        self,
        sample: Int[Tensor, " m"],
        pixels: Float[Tensor, "m 2"],
        rgb: Float[Tensor, "m 3"],
        part: Bool[Tensor, " m"],
        size: int,
    ) -> tuple[Float[Tensor, " m"], Int[Tensor, " m"], Bool[Tensor, " m"]]:
        """What some pixels show.

        Args:
            sample: whose they are.
            pixels: their middles, column and row.
            rgb: their colours.
            part: whether they show the part.
            size: of the picture that they are of.

        Returns:
            depths, the cells that they show before all others, and whether anything told of them.
        """
        side = self.side
        x, y = (pixels * side / size).unbind(1)
        own = (sample * side + y.long()) * side + x.long()
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


def without_ghosts(
    rest: Gaussians,
    rest_moving: Bool[Tensor, "b n"],
    seen: SeenSurface,
    cameras: Cameras,
    alpha: Float[Tensor, "b h w"],
    thickness: Float[Tensor, " b"],
    spacing_px: float,
) -> tuple[Gaussians, Bool[Tensor, "b n"]]:
    """The splats that no finer ones replace, widened within the outline; and which to keep of them.

    Left out are fog and what hangs in the air: splats that would stay where the part was, such as move though they are
    not behind the seen part, and all that would hide what the view shows.

    Args:
        rest: [b, n] of hidden and guessed surfaces.
        rest_moving: which belong to the part.
        seen: as :func:`detailed` makes it.
        cameras: [b] of the first views, at their pictures' resolution.
        alpha: of the object in these views; splats do not reach beyond its outline.
        thickness: how far behind its seen surface the part may reach, canonical units.
        spacing_px: of the network's splats, pixels of these views; splats stay as wide as closes their surface.
    """
    where, depth = _cells(rest, cameras)

    def there(of_pixels: Tensor) -> Tensor:
        return of_pixels.flatten(1).gather(1, where)

    behind = depth - there(torch.where(seen.moving, seen.depth, torch.nan))
    stays = ~rest_moving & (behind.abs() < GHOST)
    gap = depth - there(_farthest_near(seen.depth, round(spacing_px)))
    # NaN where the part is not seen compares false, and what moves there cannot be the part's.
    strays = rest_moving & ~((behind > -GHOST) & (behind < thickness[:, None]))
    ghost = stays | (gap < 0) | strays | (rest.opacities < MIST)
    pixel = depth / cameras.focal_px[:, None]
    inside = there(to_outline(alpha > 0.5))
    widest = torch.minimum(inside * WITHIN * pixel, gap.nan_to_num(torch.inf)).maximum(CLOSING * spacing_px * pixel)
    scales = torch.minimum(rest.scales * REST_WIDTH, widest.clamp(min=1e-4)[..., None])
    return replace(rest, scales=scales), ~ghost


def _slopes(
    depth: Float[Tensor, "b n"], there: Bool[Tensor, "b n"], moving: Bool[Tensor, "b n"], side: int
) -> tuple[Float[Tensor, "b n"], Float[Tensor, "b n"], Float[Tensor, "b n"]]:
    """Inverse depths of grids, linear on planes, and what they change a column and a row: the lesser of both ways."""
    inverse = (1 / depth.clamp(min=1e-3)).unflatten(1, (side, side))
    labels = torch.where(there, moving.long(), -1).unflatten(1, (side, side))

    def along_rows(values: Float[Tensor, "b side side"], label: Int[Tensor, "b side side"]) -> Tensor:
        one = (label[..., 1:] == label[..., :-1]) & (label[..., 1:] >= 0)
        step = values.diff(dim=-1).masked_fill(~one, torch.inf)
        before, after = pad(step, (1, 0), value=torch.inf), pad(step, (0, 1), value=torch.inf)
        lesser = torch.where(before.abs() <= after.abs(), before, after)
        return torch.where(lesser.isfinite(), lesser, 0.0)

    across, down = along_rows(inverse, labels), along_rows(inverse.mT, labels.mT).mT
    return inverse.flatten(1), across.flatten(1), down.flatten(1)


def to_outline(shown: Bool[Tensor, "b h w"]) -> Float[Tensor, "b h w"]:
    """From each pixel to the nearest one that is not shown, pixels (exact Euclidean distance)."""
    if not together(shown.device):
        return torch.stack([torch.from_numpy(distance_transform_edt(one.numpy())).float() for one in shown])
    return _to_outline_at_once(shown)


def _to_outline_at_once(shown: Bool[Tensor, "b h w"]) -> Float[Tensor, "b h w"]:
    """Its twin for a GPU: along columns first, then the least sum of squares along each row."""
    b, h, w = shown.shape
    row, far = torch.arange(h, device=shown.device)[:, None], 4 * (h + w)
    above = torch.where(shown, -far, row).cummax(1).values
    below = torch.where(shown, far, row).flip(1).cummin(1).values.flip(1)
    upright = torch.minimum(row - above, below - row).float() ** 2
    column = torch.arange(w, device=shown.device, dtype=torch.float32)
    across = (column - column[:, None]) ** 2
    least = torch.full_like(upright, torch.inf)
    for some in torch.arange(w, device=shown.device).split(max(1, DISTANCES_AT_ONCE // (b * h * w))):
        least = torch.minimum(least, (upright[:, :, None, some] + across[:, some]).amin(-1))
    return least.sqrt()


def _farthest_near(depth: Float[Tensor, "b h w"], reach_px: int) -> Float[Tensor, "b h w"]:
    """How deep the surface on each pixel lies within so many pixels; NaN where there is none."""
    farthest = max_pool2d(depth.nan_to_num(-torch.inf)[:, None], 2 * reach_px + 1, 1, reach_px)[:, 0]
    return torch.where(farthest - depth < ONE_SURFACE, farthest, depth)


def _cells(gaussians: Gaussians, cameras: Cameras) -> tuple[Int[Tensor, "b n"], Float[Tensor, "b n"]]:
    """The pixel that each splat's centre falls on (the nearest of the picture), and its depth."""
    pixels, depth = cameras.project(gaussians.means)
    x, y = pixels.floor().long().unbind(-1)
    return y.clamp(0, cameras.height - 1) * cameras.width + x.clamp(0, cameras.width - 1), depth
