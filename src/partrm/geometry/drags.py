"""Drags: pixel pairs on one part of the object in one of the input views."""

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from partrm.geometry.tensor_record import TensorRecord


@dataclass(frozen=True)
class Drags(TensorRecord):
    """A batch of padded lists of drags, in fractions of the image: x right, y down, (0, 0) the top-left corner."""

    start: Float[Tensor, "*batch n 2"]
    """Where the part is touched, [0, 1] x [0, 1]."""
    end: Float[Tensor, "*batch n 2"]
    """Where that point shall arrive; may lie outside of the image."""
    view: Int[Tensor, "*batch n"]
    """Input view in which the drag is given."""
    valid: Bool[Tensor, "*batch n"]
    """False for padding."""

    @staticmethod
    def from_pixels(
        start_px: Float[Tensor, "n 2"], end_px: Float[Tensor, "n 2"], width: int, height: int, view: int = 0
    ) -> "Drags":
        """Drags of one sample from pixel coordinates (centre of the first pixel at 0.5) in view ``view``."""
        size = start_px.new_tensor([width, height])
        n = len(start_px)
        return Drags(start_px / size, end_px / size, torch.full((n,), view), torch.ones(n, dtype=torch.bool))

    def padded(self, count: int) -> "Drags":
        """The same drags in lists of ``count``, at least as many as there are; those added are not valid."""
        more = count - self.valid.shape[-1]
        zeros = self.start.new_zeros(*self.start.shape[:-2], more, 2)
        return Drags(
            torch.cat([self.start, zeros], -2),
            torch.cat([self.end, zeros], -2),
            torch.cat([self.view, self.view.new_zeros(zeros.shape[:-1])], -1),
            torch.cat([self.valid, self.valid.new_zeros(zeros.shape[:-1])], -1),
        )
