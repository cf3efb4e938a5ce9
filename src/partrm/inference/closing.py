"""Splats that close the surface they sample: as wide as the gaps to their neighbours on the network's grid.

A network learns widths from renders of its own resolution and from the sides that it was taught. Where a surface lies
aslant to its view the grid's steps in space grow, and looked at from elsewhere it would fall into rows of dots.
"""

from dataclasses import replace

import torch
from einops import rearrange
from jaxtyping import Bool, Float
from torch import Tensor
from torch.nn.functional import normalize

from partrm.geometry.cameras import Cameras
from partrm.geometry.gaussians import Gaussians
from partrm.geometry.planes import flattened
from partrm.geometry.transforms import matrix_from_quaternion, quaternion_from_matrix
from partrm.model.network import NetworkOutput

CLOSING = 0.5
"""Standard deviation that closes a surface, as a share of the step to the next splat."""

LONGEST = 6.0
"""A step up to so many times its length on a surface that faces the camera is along one surface; a longer one leads to
another, and counts as much."""

THERE = 0.1
"""Opacity from which on a neighbour belongs to a surface."""

OPAQUE = 0.3
"""Below it a splat tells of no flat part."""


def with_closed_surfaces(output: NetworkOutput, cameras: Cameras) -> NetworkOutput:
    """The same answer, every layer's splats :func:`closed`.

    Args:
        output: of a batch b of samples of v views, [b, n] with n = v side side.
        cameras: [b, v] that its splats were made for, canonical frame.
    """
    part = output.part
    if part is not None:
        part = replace(part, gaussians=closed(part.gaussians, cameras))
    return replace(output, gaussians=closed(output.gaussians, cameras), part=part)


def with_flat_parts(output: NetworkOutput, cameras: Cameras) -> NetworkOutput:
    """The same answer, the part's splats that given views show :func:`flattened`.

    Args:
        output: of a batch b of samples of v views, [b, n] with n = v side side; of a network of one layer it stays.
        cameras: [b, v] that its splats were made for, canonical frame.
    """
    if output.part is None:
        return output
    gaussians, v = output.part.gaussians, cameras.batch_shape[-1]
    side = round((gaussians.opacities.shape[-1] / v) ** 0.5)
    means = rearrange(gaussians.means.clone(), "b (v h w) c -> b v h w c", v=v, h=side)
    shown = (output.moving_logit > 0) & (gaussians.opacities >= OPAQUE)
    there = rearrange(shown, "b (v h w) -> b v h w", v=v, h=side)
    shown = output.view_valid
    given = means[shown].float().cpu(), there[shown].cpu(), cameras.positions[shown].cpu()
    means[shown] = torch.stack([flattened(*view) for view in zip(*given, strict=True)]).to(means)
    flat = replace(gaussians, means=rearrange(means, "b v h w c -> b (v h w) c"))
    return replace(output, part=replace(output.part, gaussians=flat))


def closed(gaussians: Gaussians, cameras: Cameras) -> Gaussians:
    """Splats [b, v side side] of square grids, none narrower than :data:`CLOSING` of the steps to its neighbours.

    Each is turned into the plane of its neighbours; one that has none along a row or a column stays as it is.

    Args:
        gaussians: by views, rows and columns.
        cameras: [b, v] of the grids.
    """
    views = cameras.batch_shape[-1]
    side = round((gaussians.opacities.shape[-1] / views) ** 0.5)
    points = rearrange(gaussians.means, "b (v h w) c -> b v h w c", v=views, h=side)
    there = rearrange(gaussians.opacities, "b (v h w) -> b v h w", v=views, h=side) > THERE
    facing = 2 * torch.tan(cameras.fovy_rad / 2) * cameras.positions.norm(dim=-1) / side
    limit = LONGEST * facing[..., None, None].to(points)
    along, down = (_step(points, there, limit, dim).flatten(1, 3) for dim in (3, 2))
    normal = torch.linalg.cross(along, down)
    lengths = along.norm(dim=-1) * down.norm(dim=-1)
    flat = normal.norm(dim=-1) > 1e-3 * lengths.clamp(min=1e-9)
    first, third = normalize(along, dim=-1), normalize(normal, dim=-1)
    second = torch.linalg.cross(third, first)
    # Sums of products in place of small matrix products, of which a GPU's library makes a kernel each.
    axes = matrix_from_quaternion(gaussians.quats) * gaussians.scales[..., None, :]
    u, v, w = ((axes * direction[..., None]).sum(-2) for direction in (first, second, third))
    covariance = [(u * u).sum(-1), (u * v).sum(-1), (v * v).sum(-1)]
    for step in (along, down):
        way = normalize(step, dim=-1)
        x, y = (way * first).sum(-1), (way * second).sum(-1)
        xx, xy, yy = x * x, x * y, y * y
        a, b, c = covariance
        lack = ((CLOSING * step.norm(dim=-1)) ** 2 - (a * xx + 2 * b * xy + c * yy)).clamp(min=0)
        covariance = [a + lack * xx, b + lack * xy, c + lack * yy]
    cos, sin, wide, narrow = _principal(*covariance)
    major = cos[..., None] * first + sin[..., None] * second
    turned = torch.stack([major, torch.linalg.cross(third, major), third], -1)
    thick = w.norm(dim=-1)
    return replace(
        gaussians,
        scales=torch.where(flat[..., None], torch.stack([wide, narrow, thick], -1), gaussians.scales),
        quats=torch.where(flat[..., None], quaternion_from_matrix(turned), gaussians.quats),
    )


def _step(
    points: Float[Tensor, "b v h w 3"], there: Bool[Tensor, "b v h w"], limit: Float[Tensor, "b v 1 1"], dim: int
) -> Float[Tensor, "b v h w 3"]:
    """The shorter of the steps from the last and to the next point along ``dim``; zero where neither is there."""
    step = points.diff(dim=dim)
    both = there.narrow(dim, 1, step.shape[dim]) & there.narrow(dim, 0, step.shape[dim])
    length = step.norm(dim=-1).masked_fill(~both, torch.inf)
    end = torch.full_like(length.narrow(dim, 0, 1), torch.inf)
    before, after = torch.cat([end, length], dim), torch.cat([length, end], dim)
    none = torch.zeros_like(step.narrow(dim, 0, 1))
    shorter = torch.where((before <= after)[..., None], torch.cat([none, step], dim), torch.cat([step, none], dim))
    length = torch.minimum(before, after)
    share = torch.where(length.isfinite(), (limit / length.clamp(min=1e-9)).clamp(max=1.0), 0.0)
    return shorter * share[..., None]


def _principal(
    a: Float[Tensor, "*batch"], b: Float[Tensor, "*batch"], c: Float[Tensor, "*batch"]
) -> tuple[Float[Tensor, "*batch"], ...]:
    """Of covariances [[a, b], [b, c]]: cosine and sine of the major axis, and the standard deviations along both."""
    angle = 0.5 * torch.atan2(2 * b, a - c)
    middle, half = (a + c) / 2, torch.sqrt(((a - c) / 2) ** 2 + b**2)
    return angle.cos(), angle.sin(), (middle + half).clamp(min=1e-12).sqrt(), (middle - half).clamp(min=1e-12).sqrt()
