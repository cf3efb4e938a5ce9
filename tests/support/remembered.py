"""Answers of networks, kept: the pages and the examples all ask about the same door with the same weights."""

from hashlib import sha256

import pytest
import torch

from partrm.model.inputs import NetworkInput
from partrm.model.network import NetworkOutput, PartRMNetwork

ANSWERS: dict[str, NetworkOutput] = {}


def remember(patch: pytest.MonkeyPatch) -> None:
    """Let a network that is not trained answer what was asked before as it did then; weights are told by their sums."""
    forward = PartRMNetwork.forward

    def remembered(network: PartRMNetwork, inputs: NetworkInput, unet=None) -> NetworkOutput:
        listened_to = any(module._forward_hooks for module in network.modules())
        if torch.is_grad_enabled() or unet is not None or listened_to:
            return forward(network, inputs, unet)
        sums = torch.stack([weight.double().sum() for weight in network.parameters()])
        asked = (sums, *(value for _, value in sorted(inputs.leaves().items())))
        key = sha256(b"".join(value.cpu().contiguous().numpy().tobytes() for value in asked)).hexdigest()
        if key not in ANSWERS:
            ANSWERS[key] = forward(network, inputs)
        return ANSWERS[key]

    patch.setattr(PartRMNetwork, "forward", remembered)
