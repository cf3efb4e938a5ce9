"""What several given views agree on: the depths of their splats, so that each falls on the object in all of them.

The network looks at all views at once, and yet a splat of one view often lies on another's background or off its
surface. Cameras are known, so both can be told. Data flow::

    splats of given views ─► costs of depths nearby, by the other views' silhouettes, surfaces and colours
        (plane sweep; Collins 1996) ─► means over neighbours ─► depths by softmin
        ─► of those still on a background: the nearest depth on the object in every view
        ─► axes whose ends stick out over a background: narrowed

Opacities, colours, rotations and the order stay, and so does every sample of one view.
"""

from dataclasses import dataclass, fields, replace

import torch
from einops import rearrange
from jaxtyping import Bool, Float, Int
from torch import Tensor
from torch.nn.functional import avg_pool2d, max_pool2d

from partrm.cameras import Cameras
from partrm.data.samples import NetworkInput, pooled_rgba
from partrm.gaussians import Gaussians
from partrm.transforms import matrix_from_quaternion

OPAQUE = 0.05
"""Opacity above which a splat counts."""

SWEEP = 0.15
"""How far along its ray a splat is tried, canonical units; a reach of .2 gave the same, of .3 .1 dB less."""

CANDIDATES = 13
"""Depths tried, :data:`SWEEP` to either side."""

DOUBT = 0.1
"""Depth error, canonical units, that costs 1: the worth of the network's own; with .06 and with .2 .1 dB less."""

ON_BACKGROUND = 3.0
"""Cost of falling on another view's background; with 1 .05 dB less, 10 is as good."""

SURFACE = 0.1
"""How near to another view's surface a candidate gains up to 1, and how far before it one costs 1, canonical units."""

COLOUR = 0.15
"""Mean difference of colours at which that gain is gone."""

NEIGHBOURS = 5
"""Side of the window, pixels of the splat grid, whose splats are moved by their costs' mean: the network's depth errors
are smooth over about 8."""

TEMPERATURE = 0.3
"""Of the softmin over candidates, in units of cost; with .03 and with 1 .2 dB less."""

RESCUE = 0.3
"""How far along its ray a splat on a background is looked for a place, canonical units."""

RESCUE_STEPS = 30
"""Depths tried for it to either side."""

ENDS = 1.5
"""Where a splat's axis ends, standard deviations."""

WIDTHS = (1.0, 0.5, 0.25)
"""Widths tried of an axis whose ends stick out."""


@dataclass(frozen=True)
class Splats:
    """Some splats of all samples of a batch in one list."""

    sample: Int[Tensor, " m"]
    view: Int[Tensor, " m"]
    index: Int[Tensor, " m"]
    """Among its sample's splats."""
    means: Float[Tensor, "m 3"]

    def __getitem__(self, chosen: Bool[Tensor, " m"]) -> "Splats":
        return Splats(self.sample[chosen], self.view[chosen], self.index[chosen], self.means[chosen])


@dataclass(frozen=True)
class Lines:
    """Lines in space and who looks at them."""

    sample: Int[Tensor, " m"]
    view: Int[Tensor, " m"]
    """That looks."""
    start: Float[Tensor, "m 3"]
    direction: Float[Tensor, "m 3"]
    """Not necessarily unit."""


@dataclass(frozen=True)
class Shown:
    """What the given views show, as pixels of one size."""

    cameras: Cameras
    """[b, v], with images of that size."""
    valid: Bool[Tensor, "b v"]
    alpha: Float[Tensor, "b v h w"]

    def look(
        self, lines: Lines, steps: Float[Tensor, " k"]
    ) -> tuple[Int[Tensor, "m k"], Bool[Tensor, "m k"], Float[Tensor, "m k"]]:
        """Where a view sees points along lines.

        Args:
            steps: of the lines' directions, one a point on each line.

        Returns:
            index of the pixel into images flattened as "(b v h w)"; whether there is one; distance from the camera.
        """
        height, width = self.alpha.shape[-2:]
        sample, view = lines.sample, lines.view
        T, focal = self.cameras.T_camera_world[sample, view], self.cameras.focal_px[sample, view]
        start = torch.einsum("mij,mj->mi", T[:, :3, :3], lines.start) + T[:, :3, 3]
        along = torch.einsum("mij,mj->mi", T[:, :3, :3], lines.direction)
        x, y, z = (a[:, None] + b[:, None] * steps for a, b in zip(start.unbind(1), along.unbind(1), strict=True))
        scale = focal[:, None] / z
        column, row = (x * scale + width / 2).nan_to_num(-1.0), (y * scale + height / 2).nan_to_num(-1.0)
        inside = (column >= 0) & (column < width) & (row >= 0) & (row < height) & (z > 0)
        pixel = row.clamp(0, height - 1).long() * width + column.clamp(0, width - 1).long()
        image = (sample * self.alpha.shape[1] + view) * (height * width)
        return image[:, None] + pixel, inside, torch.sqrt(x * x + y * y + z * z)

    def background(self, lines: Lines, steps: Float[Tensor, " k"]) -> Bool[Tensor, "m k"]:
        """Which points along lines fall on the background of a view; none of a view that is absent."""
        pixel, inside, _ = self.look(lines, steps)
        return inside & (self.alpha.flatten()[pixel] < 0.5) & self.valid[lines.sample, lines.view][:, None]


def agree(gaussians: Gaussians, inputs: NetworkInput) -> Gaussians:
    """The same Gaussians [b, n], those of given views where the other given views want them, none sticking out.

    n runs over views, rows, columns as the network's outputs do; ``inputs`` are those that it saw. Samples of less than
    two views stay as they are.
    """
    views = inputs.view_valid.shape[1]
    per_view = gaussians.opacities.shape[1] // views
    side = round(per_view**0.5)
    several = inputs.view_valid.sum(1) >= 2
    opaque = (gaussians.opacities > OPAQUE) & several[:, None]
    if not bool(opaque.any()):
        return gaussians
    sample, index = opaque.nonzero(as_tuple=True)
    splats = Splats(sample, index // per_view, index, gaussians.means[sample, index])
    rgba = pooled_rgba(inputs.images, inputs.images.shape[-1] // side)
    shown = Shown(inputs.cameras.resized(side), inputs.view_valid, rgba[:, :, 3])
    seen = splats[inputs.view_valid[splats.sample, splats.view]]
    means = gaussians.means.clone()
    ray = torch.nn.functional.normalize(seen.means - shown.cameras.positions[seen.sample, seen.view], dim=-1)
    seen = replace(seen, means=seen.means + swept(seen, ray, shown, rgba[:, :, :3])[:, None] * ray)
    seen = replace(seen, means=seen.means + rescued(seen, ray, shown)[:, None] * ray)
    means[seen.sample, seen.index] = seen.means
    splats = replace(splats, means=means[splats.sample, splats.index])
    fine = Shown(inputs.cameras, inputs.view_valid, inputs.images[:, :, 3])
    return replace(gaussians, means=means, scales=narrowed(gaussians, splats, fine))


def agree_layers(
    still: Gaussians, part: Gaussians, moving: Float[Tensor, "b n"], inputs: NetworkInput
) -> tuple[Gaussians, Gaussians]:
    """:func:`agree` for two surfaces a pixel: those that the given views show go where the other views want them.

    Args:
        still: [b, n] what stays.
        part: [b, n] the moving part.
        moving: probability that the pixel shows the part.
    """
    shows_part = (part.opacities > 0.5) & ((moving > 0.5) | (still.opacities < 0.5))

    def merged(first: Gaussians, second: Gaussians) -> Gaussians:
        """The second where the part is shown, else the first."""
        pairs = ((getattr(first, f.name), getattr(second, f.name)) for f in fields(Gaussians))
        return Gaussians(*(torch.where(shows_part[(..., *[None] * (a.ndim - 2))], b, a) for a, b in pairs))

    agreed = agree(merged(still, part), inputs)
    return merged(agreed, still), merged(part, agreed)


def swept(
    seen: Splats, ray: Float[Tensor, "m 3"], shown: Shown, rgb: Float[Tensor, "b v 3 h w"]
) -> Float[Tensor, " m"]:
    """How far each splat is to go along its ray, by a sweep over depths about its own."""
    steps = torch.linspace(-SWEEP, SWEEP, CANDIDATES, device=ray.device)
    views, side = shown.alpha.shape[1:3]
    distance = (seen.means - shown.cameras.positions[seen.sample, seen.view]).norm(dim=-1)
    surface = torch.full_like(shown.alpha, torch.inf).flatten(2)
    surface[seen.sample, seen.view, seen.index % side**2] = distance
    surface = surface.unflatten(2, (side, side)).masked_fill(shown.alpha <= 0.5, torch.inf)
    near = -max_pool2d(-surface, 3, 1, 1)
    far = max_pool2d(surface.masked_fill(surface.isinf(), -torch.inf), 3, 1, 1)
    near = near.masked_fill(near.isinf(), -torch.inf)  # where no splat is: nothing to stand before
    own_colour = rearrange(rgb, "b v c h w -> b v (h w) c")[seen.sample, seen.view, seen.index % side**2]
    colours = rearrange(rgb, "b v c h w -> c (b v h w)")
    cost = torch.zeros(len(ray), CANDIDATES, device=ray.device)
    for turn in range(1, views):
        other = (seen.view + turn) % views
        pixel, inside, away = shown.look(Lines(seen.sample, other, seen.means, ray), steps)
        alpha = shown.alpha.flatten()[pixel]
        before, behind = near.flatten()[pixel] - away, away - far.flatten()[pixel]
        miss = torch.maximum(before, behind).clamp(min=0) / SURFACE
        difference = (colours[:, pixel] - own_colour.mT[..., None]).abs().mean(0)
        gain = (1 - miss**2).clamp(min=0) * (1 - difference / COLOUR).clamp(min=-1)
        on_object = (before / SURFACE).clamp(0, 1) - gain
        found = torch.where(alpha < 0.5, ON_BACKGROUND, on_object)
        cost += torch.where(inside & shown.valid[seen.sample, other][:, None], found, 0.0)
    cost = mean_of_neighbours(cost, seen, views, side, len(shown.valid)) + (steps / DOUBT) ** 2
    return torch.softmax(-cost / TEMPERATURE, 1) @ steps


def mean_of_neighbours(
    cost: Float[Tensor, "m k"], seen: Splats, views: int, side: int, batch: int
) -> Float[Tensor, "m k"]:
    """Costs averaged with those of the splats around in the same view."""
    image, pixel = seen.sample * views + seen.view, seen.index % side**2
    grid = cost.new_zeros(batch * views, side**2, cost.shape[1] + 1)
    grid[image, pixel] = torch.cat([cost, torch.ones_like(cost[:, :1])], 1)
    pooled = avg_pool2d(rearrange(grid, "i (h w) k -> i k h w", h=side), NEIGHBOURS, 1, NEIGHBOURS // 2)
    around = rearrange(pooled, "i k h w -> i (h w) k")[image, pixel]
    return around[:, :-1] / around[:, -1:]


def rescued(seen: Splats, ray: Float[Tensor, "m 3"], shown: Shown) -> Float[Tensor, " m"]:
    """How far splats on another view's background go along their rays to the nearest place that is on none.

    Zero for the others, and where there is none.
    """
    views = shown.alpha.shape[1]
    order = torch.arange(1, RESCUE_STEPS + 1, device=ray.device) * (RESCUE / RESCUE_STEPS)
    steps = torch.cat([torch.zeros_like(order[:1]), torch.stack([order, -order], 1).flatten()])

    def fits(some: Splats, way: Float[Tensor, "m 3"], tried: Float[Tensor, " k"]) -> Bool[Tensor, "m k"]:
        good = torch.ones(len(way), len(tried), dtype=torch.bool, device=way.device)
        for turn in range(1, views):
            good &= ~shown.background(Lines(some.sample, (some.view + turn) % views, some.means, way), tried)
        return good

    shift = torch.zeros_like(ray[:, 0])
    lost = ~fits(seen, ray, steps[:1])[:, 0]
    good = fits(seen[lost], ray[lost], steps)
    shift[lost] = steps[good.byte().argmax(1)]  # the first, which is zero where none is good
    return shift


def narrowed(gaussians: Gaussians, splats: Splats, fine: Shown) -> Float[Tensor, "b n 3"]:
    """Scales of all Gaussians; axes that end on a given view's background as much narrower as it takes.

    Args:
        gaussians: [b, n].
        splats: those to look at, where they now are.
        fine: the views with all their pixels.
    """
    axes = matrix_from_quaternion(gaussians.quats[splats.sample, splats.index])
    scales = gaussians.scales[splats.sample, splats.index]
    widths = torch.tensor(WIDTHS, device=axes.device)
    steps = ENDS * torch.cat([widths, -widths])
    columns = []
    for axis, scale in zip(axes.unbind(2), scales.unbind(1), strict=True):
        out = torch.zeros(len(axis), len(steps), dtype=torch.bool, device=axis.device)
        for view in range(fine.alpha.shape[1]):
            chosen = torch.full_like(splats.view, view)
            out |= fine.background(Lines(splats.sample, chosen, splats.means, scale[:, None] * axis), steps)
        sticks = rearrange(out, "m (ends widths) -> m ends widths", ends=2).any(1)
        sticks[:, -1] = False  # the narrowest has to do
        columns.append(scale * widths[sticks.byte().argmin(1)])
    result = gaussians.scales.clone()
    result[splats.sample, splats.index] = torch.stack(columns, 1)
    return result
