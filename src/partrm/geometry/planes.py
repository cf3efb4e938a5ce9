"""Surfaces that are nearly flat become flat: doors, lids and fronts are, however a network's depths waver.

One plane is found in what a view shows of a part; if it explains the part, what lies near it is moved onto it along
the view's rays. Handles stand before the plane and stay; seams and curled rims lie behind it and follow.
"""

import numpy as np
import torch
from jaxtyping import Bool, Float
from scipy.ndimage import label
from torch import Tensor
from torch.nn.functional import max_pool2d, normalize

NEAR = 0.025
"""What belongs to a plane lies within this of it, canonical units."""

FOOT = 0.008
"""Where a handle's foot ends, canonical units before the plane."""

FLAT_SHARE = 0.8
"""Of the part that a plane must explain; parts of several faces are left alone."""

RIM_CELLS, RIM_REACH = 2, 0.12
"""Strips up to twice as many cells wide, between cells of the plane or along the part's rim, are the plane's too, if
they lie within so many canonical units of it."""

TRIPLES, TRIPLE_REACH = 256, 14
"""Planes that are tried, each through three points within so many cells."""

REFITS = 4
"""Least-squares fits to what lies near the best of them."""

STEEP = 0.15
"""Cosine to its rays below which a plane is seen too aslant to move anything onto it."""

LEAST_CELLS = 60
"""Fewer hold no plane that is worth it."""

BENT, BENT_SHARE = 0.010, 0.6
"""A surface is bent that a paraboloid explains so much better than its plane: by this standard deviation (canonical
units), and this share of the residuals' energy."""


def flattened(
    points: Float[Tensor, "side side 3"], mask: Bool[Tensor, "side side"], origin: Float[Tensor, "3"]
) -> Float[Tensor, "side side 3"]:
    """Points of a view's grid, on one plane where they nearly lie on one; else as they are.

    Args:
        points: by rows and columns, CPU.
        mask: which of them are of the surface.
        origin: of the view's rays, along which points move.
    """
    count = int(mask.sum())
    plane = _plane(points, mask) if count >= LEAST_CELLS else None
    if plane is None:
        return points
    behind = points @ plane[:3] - plane[3]
    near = mask & (behind.abs() < NEAR)
    if int(near.sum()) < FLAT_SHARE * count or is_bent(points[near], behind[near]):
        return points
    rays = normalize(points - origin, dim=-1)
    facing = rays @ plane[:3]
    strips = mask & ~_grown(~_grown(near | ~mask)) & (behind.abs() < RIM_REACH)
    rim = _grown(~mask)
    handle = _raised(behind * facing.sign(), mask & ~(rim & strips))
    follows = (near & ~handle) | (strips & ((behind * facing > 0) | rim))
    onto = points - (behind / facing)[..., None] * rays
    return torch.where((follows & (facing.abs() > STEEP))[..., None], onto, points)


def _plane(points: Float[Tensor, "side side 3"], mask: Bool[Tensor, "side side"]) -> Float[Tensor, "4"] | None:
    """Unit normal and offset of the plane that most points lie near to (RANSAC); None where hardly any do."""
    generator = torch.Generator().manual_seed(0)
    side, flat, weight = len(points), points.flatten(0, 1), mask.flatten().float()
    first = torch.multinomial(weight, TRIPLES, replacement=True, generator=generator)
    step = torch.randint(-TRIPLE_REACH, TRIPLE_REACH + 1, (2, TRIPLES, 2), generator=generator)
    row, column = (torch.stack([first // side, first % side], -1) + step).clamp(0, side - 1).unbind(-1)
    second, third = row * side + column
    a, b, c = flat[first], flat[second], flat[third]
    normal = torch.linalg.cross(b - a, c - a)
    length = normal.norm(dim=-1)
    sound = (length > 1e-6) & (weight[second] > 0) & (weight[third] > 0)
    normal = normal / length.clamp(min=1e-9)[:, None]
    inside = points[mask]
    off = (inside @ normal.T - (normal * a).sum(-1)) / NEAR
    score = (1 - off**2).clamp(min=0).sum(0).masked_fill(~sound, 0.0)
    best = score.argmax()
    if float(score[best]) < LEAST_CELLS / 2:
        return None
    n, d = normal[best], (normal[best] * a[best]).sum()
    for _ in range(REFITS):
        share = (1 - ((inside @ n - d) / (2 * NEAR)) ** 2).clamp(min=0) ** 2
        n, d = fitted_plane(inside, share)
    return torch.cat([n, d[None]])


def fitted_plane(
    points: Float[Tensor, "n 3"], weights: Float[Tensor, " n"]
) -> tuple[Float[Tensor, "3"], Float[Tensor, ""]]:
    """Unit normal and offset of the plane from which weighted points lie off least (squares); its sign is any."""
    middle = (points * weights[:, None]).sum(0) / weights.sum()
    centred = (points - middle) * weights.sqrt()[:, None]
    normal = torch.linalg.eigh(centred.T @ centred).eigenvectors[:, 0]
    return normal, normal @ middle


def _raised(behind: Float[Tensor, "side side"], mask: Bool[Tensor, "side side"]) -> Bool[Tensor, "side side"]:
    """What stands before a plane and reaches beyond what lies near it, down to its foot."""
    pieces = np.empty(mask.shape, np.int32)
    label((mask & (behind < -FOOT)).numpy(), np.ones((3, 3)), output=pieces)
    tall = set(pieces[(mask & (behind < -NEAR)).numpy()].tolist())
    return torch.from_numpy(np.isin(pieces, list(tall - {0})))


def is_bent(points: Float[Tensor, "n 3"], residual: Float[Tensor, " n"]) -> bool:
    """Whether the residuals of a plane are those of a bent surface."""
    centred = points - points.mean(0)
    x, y = (centred @ torch.linalg.eigh(centred.T @ centred).eigenvectors[:, 1:]).unbind(-1)
    terms = torch.stack([x * x, x * y, y * y, x, y, torch.ones_like(x)], -1)
    explained = terms @ torch.linalg.lstsq(terms, residual[:, None]).solution[:, 0]
    energy = float((explained**2).mean() / (residual**2).mean().clamp(min=1e-12))
    return float(explained.std()) > BENT and energy > BENT_SHARE


def _grown(mask: Bool[Tensor, "side side"]) -> Bool[Tensor, "side side"]:
    return max_pool2d(mask[None].float(), 2 * RIM_CELLS + 1, 1, RIM_CELLS)[0] > 0.5
