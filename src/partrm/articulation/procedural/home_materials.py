"""Materials as homes have them: lacquer, wood, steel, black glass, mostly the same on body and fronts."""

from enum import IntEnum
from functools import cache

import torch
from jaxtyping import Float, Int
from torch import Tensor

from partrm.articulation.materials import MaterialTable, Pattern, Role
from partrm.articulation.procedural.materials import between, pick, rgb_from_hsv


class Finish(IntEnum):
    """Surfaces of furniture and appliances."""

    WHITE_LACQUER = 0
    CREAM = 1
    GREY = 2
    ANTHRACITE = 3
    LIGHT_WOOD = 4
    BROWN_WOOD = 5
    DARK_WOOD = 6
    STEEL = 7
    BLACK_PLASTIC = 8
    BLACK_GLASS = 9
    WHITE_PLASTIC = 10
    BRASS = 11
    PASTEL = 12


_FINISHES = {
    # low and high of: hue, saturation, value, gloss, second colour's brightness, log of pattern periods; then pattern
    Finish.WHITE_LACQUER: (0.05, 0.65, 0.0, 0.04, 0.86, 1.0, 0.1, 0.7, 0.97, 1.0, 1.0, 3.0, Pattern.NOISE),
    Finish.CREAM: (0.08, 0.15, 0.06, 0.25, 0.75, 0.97, 0.0, 0.4, 0.9, 1.0, 1.0, 3.0, Pattern.NOISE),
    Finish.GREY: (0.5, 0.7, 0.0, 0.1, 0.35, 0.8, 0.0, 0.5, 0.9, 1.05, 1.0, 3.5, Pattern.NOISE),
    Finish.ANTHRACITE: (0.5, 0.7, 0.0, 0.2, 0.1, 0.3, 0.0, 0.6, 0.85, 1.1, 1.0, 3.5, Pattern.NOISE),
    Finish.LIGHT_WOOD: (0.08, 0.12, 0.2, 0.5, 0.65, 0.92, 0.0, 0.3, 0.6, 0.92, 1.8, 3.6, Pattern.WOOD),
    Finish.BROWN_WOOD: (0.05, 0.1, 0.45, 0.75, 0.35, 0.7, 0.0, 0.45, 0.45, 0.88, 1.8, 3.6, Pattern.WOOD),
    Finish.DARK_WOOD: (0.03, 0.09, 0.35, 0.7, 0.12, 0.35, 0.0, 0.5, 0.4, 0.85, 1.8, 3.6, Pattern.WOOD),
    Finish.STEEL: (0.5, 0.65, 0.0, 0.06, 0.5, 0.8, 0.4, 0.9, 0.82, 0.96, 3.4, 5.0, Pattern.BRUSHED),
    Finish.BLACK_PLASTIC: (0.0, 1.0, 0.0, 0.15, 0.03, 0.14, 0.1, 0.7, 0.9, 1.2, 1.0, 3.5, Pattern.NOISE),
    Finish.BLACK_GLASS: (0.5, 0.7, 0.0, 0.3, 0.01, 0.08, 0.7, 1.0, 1.0, 1.0, 1.0, 2.0, Pattern.PLAIN),
    Finish.WHITE_PLASTIC: (0.05, 0.65, 0.0, 0.06, 0.75, 0.97, 0.1, 0.5, 0.97, 1.0, 1.0, 3.0, Pattern.NOISE),
    Finish.BRASS: (0.09, 0.13, 0.35, 0.65, 0.5, 0.85, 0.4, 0.9, 0.85, 0.97, 3.4, 5.0, Pattern.BRUSHED),
    Finish.PASTEL: (0.0, 1.0, 0.1, 0.55, 0.4, 0.9, 0.0, 0.5, 0.92, 1.0, 1.0, 3.5, Pattern.NOISE),
}

_WEIGHTS = {
    # white lacquer, cream, grey, anthracite, light, brown, dark wood, steel, black plastic, black glass, white plastic,
    # brass, pastel
    Role.BODY: (0.2, 0.08, 0.08, 0.06, 0.13, 0.14, 0.08, 0.07, 0.06, 0.0, 0.06, 0.0, 0.04),
    Role.MOVING: (0.2, 0.08, 0.08, 0.05, 0.13, 0.12, 0.06, 0.1, 0.05, 0.04, 0.05, 0.0, 0.04),
    Role.HANDLE: (0.03, 0.0, 0.04, 0.04, 0.03, 0.04, 0.03, 0.42, 0.25, 0.0, 0.03, 0.09, 0.0),
    Role.INTERIOR: (0.3, 0.1, 0.12, 0.05, 0.12, 0.07, 0.03, 0.08, 0.05, 0.0, 0.08, 0.0, 0.0),
    Role.GLASS: (0.0, 0.0, 0.0, 0.05, 0.0, 0.0, 0.0, 0.0, 0.1, 0.85, 0.0, 0.0, 0.0),
    Role.DETAIL: (0.04, 0.02, 0.08, 0.08, 0.02, 0.02, 0.02, 0.27, 0.27, 0.04, 0.12, 0.02, 0.0),
}

SAME_FRONTS = 0.7
"""How often moving parts have exactly the material of the body, so that only seams, handles and shadows tell."""


@cache
def _tables(device: torch.device) -> tuple[Tensor, Tensor, Tensor]:
    """Ranges [finishes, 6, 2], patterns [finishes] and weights [roles, finishes], copied to each device once."""
    rows = torch.tensor([_FINISHES[finish] for finish in Finish])
    weights = torch.tensor([_WEIGHTS[role] for role in sorted(_WEIGHTS)])
    return rows[:, :12].unflatten(-1, (6, 2)).to(device), rows[:, 12].long().to(device), weights.to(device)


def sample_home_materials(roles: Int[Tensor, "b slots"], generator: torch.Generator) -> MaterialTable:
    """Home materials for slots with these :class:`Role` numbers (-1: padding), on the generator's device."""
    u = torch.rand(*roles.shape, 10, generator=generator, device=roles.device).unbind(-1)
    of_object = torch.rand(len(roles), 5, generator=generator, device=roles.device)
    ranges, patterns, weights = _tables(roles.device)
    # Slots of one role look alike in a home, but for details.
    by_role = torch.rand(len(roles), len(weights), 10, generator=generator, device=roles.device)
    shared = by_role.gather(1, roles.clamp(min=0)[..., None].expand(*roles.shape, 10)).unbind(-1)
    alone = (roles == Role.DETAIL) | ((roles == Role.MOVING) & (of_object[:, 3:4] < 0.12))
    u = [torch.where(alone, own, of_role) for own, of_role in zip(u, shared, strict=True)]
    finish = pick(weights[roles.clamp(min=0)], u[0])
    hue, saturation, value, gloss, shade, frequency = (
        between(ranges[finish][..., k, :], x) for k, x in enumerate(u[1:7])
    )
    pattern = patterns[finish]
    grain = torch.where(of_object[:, :1] < 0.6, 2, torch.where(of_object[:, :1] < 0.8, 1, 0)).expand(roles.shape)
    table = MaterialTable(
        rgb_from_hsv(torch.stack([hue, saturation, value], -1)),
        rgb_from_hsv(torch.stack([hue, saturation, (value * shade).clamp(0, 1)], -1)),
        torch.where((pattern == Pattern.NOISE) & (u[7] < 0.5), int(Pattern.PLAIN), pattern),
        frequency.exp(),
        torch.eye(3, device=roles.device)[grain],
        gloss,
        torch.full_like(pattern, -1),
    )
    own = torch.arange(roles.shape[1], device=roles.device).expand(roles.shape)
    body = (roles == Role.BODY).int().argmax(-1, keepdim=True)
    source = torch.where((roles == Role.MOVING) & (of_object[:, 1:2] < SAME_FRONTS), body, own)
    source = torch.where((roles == Role.INTERIOR) & (of_object[:, 2:3] < 0.35), body, source)
    source = torch.where((roles == Role.HANDLE) & (of_object[:, 4:5] < 0.15), body, source)
    return table.followed(source)


def some_home_materials(
    table: MaterialTable, roles: Int[Tensor, "b slots"], share: float, generator: torch.Generator
) -> MaterialTable:
    """The table with this share of the objects in materials of homes."""
    home = sample_home_materials(roles, generator)
    chosen = torch.rand(len(roles), generator=generator, device=roles.device) < share

    def either(name: str) -> Float[Tensor, "b slots ..."]:
        drawn, usual = getattr(home, name), getattr(table, name)
        return torch.where(chosen.view(-1, *[1] * (usual.ndim - 1)), drawn.to(usual.dtype), usual)

    return MaterialTable(**{name: either(name) for name in MaterialTable.__dataclass_fields__})
