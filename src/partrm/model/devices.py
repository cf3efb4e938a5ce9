"""Where networks run, and in which numbers."""

from typing import Literal

import torch

from partrm.errors import PartRMError

Precision = Literal["float32", "bfloat16"]
"""Of the numbers that a network's convolutions and attention are computed in; the joint is read in float32 anyway."""


class DeviceError(PartRMError):
    """A device that this machine does not have."""


def select_device(device: Literal["auto", "cpu", "cuda"] | str | torch.device = "auto") -> str:
    """A device by its name for torch; ``auto`` is CUDA where there is a card, else the CPU.

    Raises:
        DeviceError: a CUDA device where there is none.
    """
    name = str(device)
    if name == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    if name.startswith("cuda") and not torch.cuda.is_available():
        raise DeviceError(f"--device {name}: no CUDA device is available here, use --device cpu")
    return name
