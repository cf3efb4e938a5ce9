"""Training goes on where single steps have no finite loss or gradient, and stops where many in a row have none."""

from dataclasses import dataclass

import torch
from jaxtyping import Int
from torch import Tensor

MOST_SKIPPED = 20
"""Steps in a row without a finite loss and gradient that end a training."""


class TrainingError(RuntimeError):
    """Training that must stop; the message says at which step and why."""


@dataclass(frozen=True)
class StepGuard:
    """Keeps steps whose loss or gradient is not finite from the weights, without waiting for the device."""

    skipped: Int[Tensor, ""]
    """Number of such steps."""
    in_a_row: Int[Tensor, ""]
    """Of them up to now, without another step between them."""
    longest: Int[Tensor, ""]
    """Most that ever were in a row."""

    @staticmethod
    def on(device: torch.device) -> "StepGuard":
        """A guard that has seen nothing."""
        return StepGuard(*torch.zeros(3, dtype=torch.long, device=device).unbind())

    @torch.no_grad()
    def cleared(self, loss: Tensor, norm: Tensor, gradients: list[Tensor]) -> Int[Tensor, ""]:
        """Set all gradients to zero where the loss or the gradients' norm is not finite; the steps skipped so far.

        All processes must call it: a step is skipped by all of them or by none.
        """
        good = (loss.isfinite() & norm.isfinite()).float()
        if torch.distributed.is_initialized():
            torch.distributed.all_reduce(good, torch.distributed.ReduceOp.MIN)
        for gradient in gradients:  # not a number times zero is none either
            gradient.nan_to_num_(0.0, 0.0, 0.0)
        torch._foreach_mul_(gradients, good)
        bad = 1 - good.long()
        self.skipped.add_(bad)
        self.in_a_row.add_(1).mul_(bad)
        torch.maximum(self.longest, self.in_a_row, out=self.longest)
        return self.skipped.clone()

    def check(self, step: int) -> None:
        """Stop where too many steps in a row were skipped; waits for the device.

        Raises:
            TrainingError: :data:`MOST_SKIPPED` or more were.
        """
        if int(self.longest) >= MOST_SKIPPED:
            raise TrainingError(
                f"step {step}: loss or gradient were not finite in {int(self.longest)} steps in a row; resume from the "
                "last checkpoint with a lower learning rate"
            )
