"""Surface materials: one :class:`Material` an object's slot, and :class:`MaterialTable`, the same as tensors."""

from dataclasses import dataclass, fields
from enum import IntEnum

import numpy as np
import torch
from jaxtyping import Float, Int, UInt8
from torch import Tensor


class Pattern(IntEnum):
    """Solid (3D) patterns, evaluated in the rest frame of the part, so that no UV map is needed."""

    PLAIN = 0
    STRIPES = 1
    """Alternating bands of the two colours along ``direction``."""
    WOOD = 2
    """Noisy rings stretched along ``direction``."""
    CHECKER = 3
    NOISE = 4
    """Smooth value noise mixing the two colours."""
    BRUSHED = 5
    """Fine noise, constant along ``direction``: brushed metal."""


class Role(IntEnum):
    """What a material slot is on its object; decides which random materials suit it."""

    BODY = 0
    MOVING = 1
    """Door, drawer front, lid, screen half."""
    HANDLE = 2
    INTERIOR = 3
    GLASS = 4
    """Dark glossy pane (opaque)."""
    DETAIL = 5
    """Knob, dial, key, label, foot."""


@dataclass(frozen=True)
class Material:
    """The look of one material slot of an object."""

    name: str
    color: tuple[float, float, float]
    """sRGB in [0, 1]; multiplied with the texture where there is one."""
    role: Role = Role.BODY
    color2: tuple[float, float, float] = (0.0, 0.0, 0.0)
    """Second colour of the pattern."""
    pattern: Pattern = Pattern.PLAIN
    frequency: float = 10.0
    """Pattern periods per object unit (bounding-box diagonal 1)."""
    direction: tuple[float, float, float] = (0.0, 0.0, 1.0)
    """Pattern direction in the part's rest frame."""
    gloss: float = 0.0
    """Strength of the specular highlight, [0, 1]."""
    texture: UInt8[np.ndarray, "h w 3"] | None = None
    """sRGB image, row 0 at the top (v = 1), sampled by the faces' UVs."""


@dataclass(frozen=True)
class MaterialTable:
    """Materials of a batch of objects as tensors, one row a slot."""

    color: Float[Tensor, "*batch slots 3"]
    color2: Float[Tensor, "*batch slots 3"]
    pattern: Int[Tensor, "*batch slots"]
    frequency: Float[Tensor, "*batch slots"]
    direction: Float[Tensor, "*batch slots 3"]
    gloss: Float[Tensor, "*batch slots"]
    texture: Int[Tensor, "*batch slots"]
    """Index into the textures of the scene, -1 for none."""

    def to(self, device: torch.device | str) -> "MaterialTable":
        return MaterialTable(**{f.name: getattr(self, f.name).to(device) for f in fields(self)})

    def __getitem__(self, index) -> "MaterialTable":
        return MaterialTable(**{f.name: getattr(self, f.name)[index] for f in fields(self)})

    def followed(self, source: Int[Tensor, "*batch slots"]) -> "MaterialTable":
        """Each slot's material taken from the slot ``source``."""

        def taken(values: Tensor) -> Tensor:
            index = source if values.ndim == source.ndim else source[..., None].expand(values.shape)
            return torch.take_along_dim(values, index, source.ndim - 1)

        return MaterialTable(**{f.name: taken(getattr(self, f.name)) for f in fields(self)})

    @staticmethod
    def from_materials(materials: tuple[Material, ...], texture_index: list[int] | None = None) -> "MaterialTable":
        """Table of one object's slots; ``texture_index`` gives the scene's texture number of each (-1: none)."""
        texture_index = [-1] * len(materials) if texture_index is None else texture_index
        return MaterialTable(
            color=torch.tensor([m.color for m in materials], dtype=torch.float32).reshape(-1, 3),
            color2=torch.tensor([m.color2 for m in materials], dtype=torch.float32).reshape(-1, 3),
            pattern=torch.tensor([int(m.pattern) for m in materials]),
            frequency=torch.tensor([m.frequency for m in materials], dtype=torch.float32),
            direction=torch.tensor([m.direction for m in materials], dtype=torch.float32).reshape(-1, 3),
            gloss=torch.tensor([m.gloss for m in materials], dtype=torch.float32),
            texture=torch.tensor(texture_index),
        )
