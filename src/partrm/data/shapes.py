"""Flat shapes in an image: what stands before an object, where a photograph ends, what a cut-out took with it."""

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float
from torch import Tensor


@dataclass(frozen=True)
class Shapes:
    """n boxes and ellipses an image, in fractions of its side (x right, y down, the image is [0, 1]²)."""

    centre: Float[Tensor, "b n 2"]
    half: Float[Tensor, "b n 2"]
    """Half of width and height before turning."""
    turn_rad: Float[Tensor, "b n"]
    """From x to y."""
    round: Bool[Tensor, "b n"]
    """Ellipses; the others are boxes."""
    on: Bool[Tensor, "b n"]
    """The others contain nothing."""

    def __getitem__(self, index) -> "Shapes":
        return Shapes(*(getattr(self, name)[index] for name in self.__dataclass_fields__))

    def only(self, which: Bool[Tensor, "b n"]) -> "Shapes":
        """The same shapes, of which only some are on."""
        return Shapes(self.centre, self.half, self.turn_rad, self.round, self.on & which)

    def contain(self, points: Float[Tensor, "#b p 2"]) -> Bool[Tensor, "b n p"]:
        """Which points lie in which shapes."""
        x, y = (points[:, None] - self.centre[:, :, None]).unbind(-1)
        c, s = torch.cos(self.turn_rad)[..., None], torch.sin(self.turn_rad)[..., None]
        u, v = (c * x + s * y) / self.half[..., :1], (c * y - s * x) / self.half[..., 1:]
        inside = torch.where(self.round[..., None], u * u + v * v < 1, (u.abs() < 1) & (v.abs() < 1))
        return inside & self.on[..., None]

    def cover(self, side_px: int) -> Bool[Tensor, "b n h w"]:
        """Which pixel centres of a square image lie in which shapes."""
        return self.contain(pixel_centres(side_px, self.centre.device)[None]).unflatten(-1, (side_px, side_px))

    def zoomed(self, middle: Float[Tensor, "b 2"], factor: Float[Tensor, " b"]) -> "Shapes":
        """The shapes in an image ``factor`` times as large whose centre is at ``middle`` of this one."""
        k = factor[:, None, None]
        centre = (self.centre - middle[:, None]) * k + 0.5
        return Shapes(centre, self.half * k, self.turn_rad, self.round, self.on)

    def bounds(self) -> tuple[Float[Tensor, "b n 2"], Float[Tensor, "b n 2"]]:
        """Lowest and highest corner of the upright box about each shape (of ellipses a little large)."""
        c, s = torch.cos(self.turn_rad).abs()[..., None], torch.sin(self.turn_rad).abs()[..., None]
        reach = c * self.half + s * self.half.flip(-1)
        return self.centre - reach, self.centre + reach


def pixel_centres(side_px: int, device: torch.device | str) -> Float[Tensor, "p 2"]:
    """x and y of the pixel centres of a square image, row by row, fractions of its side."""
    at = (torch.arange(side_px, device=device) + 0.5) / side_px
    y, x = torch.meshgrid(at, at, indexing="ij")
    return torch.stack([x, y], -1).flatten(0, 1)
