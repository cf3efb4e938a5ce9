"""A network's answer as it is read: seen and hidden surfaces apart."""

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from partrm.geometry.gaussians import Gaussians
from partrm.geometry.tensor_record import TensorRecord
from partrm.model.network import JointVotes


def together(device: torch.device) -> bool:
    """Whether all of a batch is read at once there: a GPU waits for its next kernel, a CPU for its memory."""
    return device.type != "cpu"


@dataclass(frozen=True)
class Reading(TensorRecord):
    """A network's answer with its layers sorted: what each pixel shows, and what that hides."""

    gaussians: Gaussians
    """[b, n] what each pixel shows, source state, canonical frame."""
    hidden: Gaussians | None
    """[b, n] the other layer of each pixel, behind or beside it: of the part where the rest is seen, and the other way
    round. None of networks of one layer."""
    moving_logit: Float[Tensor, "b n"]
    """Log-odds that what a pixel shows belongs to the dragged part."""
    displacement: Float[Tensor, "b n 3"]
    votes: JointVotes | None
    view_valid: Bool[Tensor, "b v"]
    closed: bool = False
    """Whether its splats are as wide as they are shown; else they are widened by one factor (``decode.widened``)."""

    def row(self, sample: int) -> "Reading":
        """One sample of the batch, as a batch of one."""
        return self[sample : sample + 1]

    @property
    def moving(self) -> Float[Tensor, "b n"]:
        """Probability that what a pixel shows belongs to the dragged part."""
        return torch.sigmoid(self.moving_logit)
