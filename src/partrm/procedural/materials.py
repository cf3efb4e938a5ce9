"""Random materials by role, in pure torch: batched over objects, on any device, seeded by a generator."""

from dataclasses import replace
from enum import IntEnum
from functools import cache

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from partrm.objects.materials import Material, MaterialTable, Pattern, Role


class Family(IntEnum):
    """Palettes."""

    WOOD = 0
    PAINT = 1
    SATURATED = 2
    WHITE = 3
    BLACK = 4
    GREY = 5
    STEEL = 6
    BRASS = 7
    GLASS = 8


_RANGES = {
    # hue, saturation, value, gloss: low and high
    Family.WOOD: (0.045, 0.11, 0.25, 0.75, 0.2, 0.9, 0.0, 0.35),
    Family.PAINT: (0.0, 1.0, 0.05, 0.45, 0.35, 0.95, 0.0, 0.5),
    Family.SATURATED: (0.0, 1.0, 0.6, 1.0, 0.3, 1.0, 0.0, 0.6),
    Family.WHITE: (0.0, 1.0, 0.0, 0.07, 0.82, 1.0, 0.0, 0.6),
    Family.BLACK: (0.0, 1.0, 0.0, 0.25, 0.02, 0.16, 0.0, 0.7),
    Family.GREY: (0.0, 1.0, 0.0, 0.1, 0.15, 0.8, 0.0, 0.5),
    Family.STEEL: (0.55, 0.65, 0.0, 0.06, 0.5, 0.85, 0.4, 0.9),
    Family.BRASS: (0.08, 0.13, 0.3, 0.65, 0.5, 0.85, 0.4, 0.9),
    Family.GLASS: (0.48, 0.66, 0.05, 0.85, 0.04, 0.5, 0.4, 1.0),
}

_FAMILY_WEIGHTS = {
    Role.BODY: (0.2, 0.2, 0.1, 0.17, 0.09, 0.13, 0.1, 0.01, 0.0),
    Role.MOVING: (0.18, 0.2, 0.13, 0.17, 0.09, 0.11, 0.1, 0.02, 0.0),
    Role.HANDLE: (0.06, 0.06, 0.08, 0.1, 0.28, 0.1, 0.24, 0.08, 0.0),
    Role.INTERIOR: (0.12, 0.18, 0.04, 0.38, 0.05, 0.17, 0.06, 0.0, 0.0),
    Role.GLASS: (0.0, 0.01, 0.01, 0.0, 0.12, 0.02, 0.0, 0.0, 0.84),
    Role.DETAIL: (0.04, 0.12, 0.12, 0.14, 0.3, 0.18, 0.08, 0.02, 0.0),
}

_HOME_WEIGHTS = {
    # what furniture and appliances in homes are mostly made of
    Role.BODY: (0.27, 0.05, 0.0, 0.31, 0.1, 0.13, 0.14, 0.0, 0.0),
    Role.MOVING: (0.27, 0.05, 0.0, 0.31, 0.1, 0.13, 0.14, 0.0, 0.0),
    Role.HANDLE: (0.04, 0.0, 0.0, 0.08, 0.3, 0.1, 0.42, 0.06, 0.0),
    Role.INTERIOR: (0.2, 0.05, 0.0, 0.45, 0.05, 0.2, 0.05, 0.0, 0.0),
    Role.GLASS: (0.0, 0.0, 0.0, 0.0, 0.45, 0.0, 0.0, 0.0, 0.55),
    Role.DETAIL: (0.0, 0.04, 0.04, 0.22, 0.4, 0.2, 0.1, 0.0, 0.0),
}

HOME_SHARE = 0.5
"""How often an object wears materials of homes, body and moving parts mostly alike, so that only seams tell."""

_PATTERN_WEIGHTS = {
    # plain, stripes, wood, checker, noise, brushed
    Family.WOOD: (0.1, 0.03, 0.82, 0.01, 0.04, 0.0),
    Family.PAINT: (0.62, 0.09, 0.04, 0.05, 0.17, 0.03),
    Family.SATURATED: (0.66, 0.1, 0.02, 0.07, 0.13, 0.02),
    Family.WHITE: (0.8, 0.03, 0.02, 0.02, 0.11, 0.02),
    Family.BLACK: (0.78, 0.03, 0.02, 0.02, 0.12, 0.03),
    Family.GREY: (0.62, 0.05, 0.02, 0.04, 0.22, 0.05),
    Family.STEEL: (0.35, 0.0, 0.0, 0.0, 0.05, 0.6),
    Family.BRASS: (0.5, 0.0, 0.0, 0.0, 0.05, 0.45),
    Family.GLASS: (0.95, 0.0, 0.0, 0.0, 0.05, 0.0),
}

_LOG_FREQUENCIES = {
    # natural logarithm of the periods per object unit: low and high
    Pattern.PLAIN: (1.0, 2.0),
    Pattern.STRIPES: (1.4, 3.4),
    Pattern.WOOD: (1.6, 3.3),
    Pattern.CHECKER: (1.4, 3.0),
    Pattern.NOISE: (1.0, 3.6),
    Pattern.BRUSHED: (3.4, 5.0),
}


def rgb_from_hsv(hsv: Float[Tensor, "*batch 3"]) -> Float[Tensor, "*batch 3"]:
    """Hue, saturation and value, all in [0, 1], to RGB (A. R. Smith, 1978)."""
    hue, saturation, value = hsv.unbind(-1)
    k = torch.tensor([5.0, 3.0, 1.0], device=hsv.device, dtype=hsv.dtype)
    ramp = (k + 6 * hue[..., None]) % 6
    ramp = torch.minimum(ramp, 4 - ramp).clamp(0, 1)
    return value[..., None] * (1 - saturation[..., None] * ramp)


@cache
def _tables(device: torch.device) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    """Ranges, family weights, pattern weights and frequencies as tensors, copied to each device once."""
    columns: list[dict] = [_RANGES, _FAMILY_WEIGHTS, _HOME_WEIGHTS, _PATTERN_WEIGHTS, _LOG_FREQUENCIES]
    ranges, families, homes, patterns, frequencies = (
        torch.tensor([c[k] for k in sorted(c)], device=device) for c in columns
    )
    return ranges.unflatten(-1, (4, 2)), families, homes, patterns, frequencies


def _pick(weights: Float[Tensor, "*batch n"], u: Float[Tensor, "*batch"]) -> Int[Tensor, "*batch"]:
    """Index drawn with these weights by uniform ``u``."""
    steps = weights.cumsum(-1)
    return (u[..., None] * steps[..., -1:] >= steps).sum(-1).clamp(max=weights.shape[-1] - 1)


def _between(bounds: Float[Tensor, "*batch 2"], u: Float[Tensor, "*batch"]) -> Float[Tensor, "*batch"]:
    low, high = bounds.unbind(-1)
    return low + (high - low) * u


def sample_sources(
    roles: Int[Tensor, "*batch slots"], home: Bool[Tensor, "*batch 1"], generator: torch.Generator
) -> Int[Tensor, "*batch slots"]:
    """Which slot each slot takes its material from (itself, the body, or the first moving part).

    With p = 0.4 (in homes 0.7) all moving parts look exactly like the body, with 0.26 they share another look,
    otherwise each has its own. Handles, interiors and details are sometimes those of the body or of the moving part.
    """
    device = roles.device
    u_object = torch.rand(*roles.shape[:-1], 3, generator=generator, device=device)
    own = torch.arange(roles.shape[-1], device=device).expand(roles.shape)
    body = (roles == Role.BODY).int().argmax(-1, keepdim=True).expand(roles.shape)
    moving = (roles == Role.MOVING).int().argmax(-1, keepdim=True).expand(roles.shape)
    mode, front, inside = (u_object[..., k, None] for k in range(3))
    alike = torch.where(home, 0.7, 0.4)
    shared = torch.where(mode < alike, body, moving)
    source = torch.where((roles == Role.MOVING) & (mode < alike + 0.26), shared, own)
    handle = torch.where(front < 0.12, body, torch.where(front < 0.27, torch.where(mode < alike, body, moving), own))
    source = torch.where(roles == Role.HANDLE, handle, source)
    source = torch.where((roles == Role.INTERIOR) & (inside < 0.35), body, source)
    u_detail = torch.rand(roles.shape, generator=generator, device=device)
    return torch.where((roles == Role.DETAIL) & (u_detail < 0.15), body, source)


def sample_materials(
    roles: Int[Tensor, "*batch slots"], generator: torch.Generator, home_share: float = 0.0
) -> MaterialTable:
    """Materials for slots with these :class:`Role` numbers (-1 for padding, whose materials mean nothing).

    ``generator`` must live on the device of ``roles``; colours are sRGB in [0, 1]. ``home_share``: how many objects
    wear materials of homes; 0 draws what the published evaluation set has.
    """
    device, shape = roles.device, roles.shape
    u = torch.rand(*shape, 20, generator=generator, device=device).unbind(-1)
    ranges, family_weights, home_weights, pattern_weights, log_frequencies = _tables(device)
    home = torch.zeros(*shape[:-1], 1, dtype=torch.bool, device=device)
    if home_share > 0:
        home = torch.rand(home.shape, generator=generator, device=device) < home_share
    weights = torch.where(home[..., None], home_weights[roles.clamp(min=0)], family_weights[roles.clamp(min=0)])
    family = _pick(weights, u[0])
    hsv = torch.stack([_between(ranges[family][..., k, :], u[1 + k]) for k in range(3)], -1)
    # A third of the moving parts are another tint or shade of their body.
    is_body = (roles == Role.BODY).int().argmax(-1, keepdim=True)
    body_hsv = torch.take_along_dim(hsv, is_body[..., None].expand(*shape[:-1], 1, 3), -2)
    shift = torch.stack([0.06 * (u[4] - 0.5), 0.4 * (u[5] - 0.5), 0.6 * (u[6] - 0.5)], -1)
    related = (body_hsv + shift).clamp(0, 1)
    is_related = ((roles == Role.MOVING) & (u[7] < 0.35))[..., None]
    family = torch.where(is_related[..., 0], torch.take_along_dim(family, is_body, -1), family)
    hsv = torch.where(is_related, related, hsv)
    pattern = _pick(pattern_weights[family], u[8])
    # The second colour is a shade of the first, or, on bold patterns, sometimes any colour.
    strength = torch.where(pattern == Pattern.BRUSHED, 0.15, torch.where(pattern == Pattern.NOISE, 0.35, 0.55))
    shade = 1 - strength * (0.25 + 0.75 * u[9])
    shade = torch.where(hsv[..., 2] < 0.25, 1 + 2.0 * (1 - shade), shade)
    hsv2 = torch.stack([(hsv[..., 0] + 0.04 * (u[10] - 0.5)) % 1, hsv[..., 1], (hsv[..., 2] * shade).clamp(0, 1)], -1)
    bold = ((pattern == Pattern.STRIPES) | (pattern == Pattern.CHECKER) | (pattern == Pattern.NOISE)) & (u[11] < 0.3)
    hsv2 = torch.where(bold[..., None], torch.stack([u[12], u[13], u[14]], -1), hsv2)
    frequency = _between(log_frequencies[pattern], u[15]).exp()
    along = torch.eye(3, device=device)[(u[16] * 3).long().clamp(max=2)]
    z = 2 * u[18] - 1
    ring, turn = (1 - z * z).clamp(min=0).sqrt(), 2 * torch.pi * u[19]
    anywhere = torch.stack([ring * torch.cos(turn), ring * torch.sin(turn), z], -1)
    direction = torch.where((u[17] < 0.8)[..., None], along, anywhere)
    gloss = _between(ranges[family][..., 3, :], (u[6] + u[13]) % 1)
    table = MaterialTable(
        rgb_from_hsv(hsv), rgb_from_hsv(hsv2), pattern, frequency, direction, gloss, torch.full_like(pattern, -1)
    )
    return _follow(table, sample_sources(roles, home, generator))


def _follow(table: MaterialTable, source: Int[Tensor, "*batch slots"]) -> MaterialTable:
    """Each slot's material taken from the slot ``source``."""

    def scalar(field: Tensor) -> Tensor:
        return torch.take_along_dim(field, source, -1)

    def vector(field: Float[Tensor, "*batch slots 3"]) -> Tensor:
        return torch.take_along_dim(field, source[..., None].expand(field.shape), -2)

    return MaterialTable(
        vector(table.color),
        vector(table.color2),
        scalar(table.pattern),
        scalar(table.frequency),
        vector(table.direction),
        scalar(table.gloss),
        scalar(table.texture),
    )


def with_sampled_materials(materials: tuple[Material, ...], seed: int) -> tuple[Material, ...]:
    """The same slots and roles with random looks, seeded, drawn on the CPU."""
    roles = torch.tensor([int(m.role) for m in materials])
    table = sample_materials(roles, torch.Generator().manual_seed(seed))

    def row(values: Tensor) -> tuple[float, float, float]:
        x, y, z = values.tolist()
        return x, y, z

    return tuple(
        replace(
            m,
            color=row(table.color[k]),
            color2=row(table.color2[k]),
            pattern=Pattern(int(table.pattern[k])),
            frequency=float(table.frequency[k]),
            direction=row(table.direction[k]),
            gloss=float(table.gloss[k]),
        )
        for k, m in enumerate(materials)
    )
