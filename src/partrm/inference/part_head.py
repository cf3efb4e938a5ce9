"""Which pixels of a picture show something that moves, and where it goes, said without a drag.

A small head reads the network's own features of a picture without drags. It was fitted to the bundled weights on
procedural objects (``benchmarks/part_head.py``); the network itself stays as it is.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from importlib import resources

import torch
from einops import rearrange
from jaxtyping import Float
from safetensors.torch import load_file
from torch import Tensor, nn
from torch.nn.functional import adaptive_avg_pool2d, interpolate

from partrm.errors import PartRMError
from partrm.geometry.drags import Drags
from partrm.model.inputs import NetworkInput
from partrm.model.network import PartRMNetwork

FILE = "part_head.safetensors"
"""The fitted weights, beside this module."""

WIDTH = 128

OUTPUTS = (1, 3, 2)
"""Log-odds that it moves, where it goes, the way to its part's middle."""

DISPLACEMENT_SCALE, CENTRE_SCALE = 0.25, 16.0
"""What an output of 1 means: canonical units, splats."""


class PartHeadError(PartRMError):
    """A network whose features the head does not know."""


@dataclass(frozen=True)
class PartMaps:
    """What the head says of one picture, on a grid of splats, on the CPU."""

    movable: Float[Tensor, "side side"]
    """Probability that it shows a part that moves."""
    displacement: Float[Tensor, "side side 3"]
    """Where that goes when the part opens by 40 degrees or 0.3, network's frame."""
    points: Float[Tensor, "side side 3"]
    """The surface that it shows, network's frame."""
    centre: Float[Tensor, "side side 2"]
    """Where the middle of what the part shows lies, x and y, splats."""


class PartHead(nn.Module):
    """Features of all levels brought to a grid of half the splats' resolution; the same small network at every cell."""

    mean: Tensor
    deviation: Tensor

    def __init__(self, width: int) -> None:
        """Fresh weights for so many features."""
        super().__init__()
        self.register_buffer("mean", torch.zeros(width))
        self.register_buffer("deviation", torch.ones(width))
        self.layers = nn.Sequential(
            nn.Linear(width, WIDTH), nn.SiLU(), nn.Linear(WIDTH, WIDTH), nn.SiLU(), nn.Linear(WIDTH, sum(OUTPUTS))
        )

    def forward(self, cells: Float[Tensor, "*cells width"]) -> Float[Tensor, "*cells outputs"]:
        """The outputs of each cell from its features."""
        return self.layers((cells - self.mean) / self.deviation)


def cells_of(features: Mapping[str, Float[Tensor, "b _ _ _"]]) -> Float[Tensor, "b cells cells width"]:
    """Features of all levels side by side, on a grid of half the resolution of the finest."""
    cells = max(value.shape[-1] for value in features.values()) // 2
    same = [
        adaptive_avg_pool2d(value, cells)
        if value.shape[-1] > cells
        else interpolate(value, (cells, cells), mode="bilinear")
        for value in features.values()
    ]
    return rearrange(torch.cat(same, 1), "b c h w -> b h w c")


def features_without_drags(
    network: PartRMNetwork, shown: NetworkInput
) -> tuple[dict[str, Float[Tensor, "b _ _ _"]], Float[Tensor, "b side side 3"]]:
    """What the network's levels make of samples of one view each, their drags taken away; and the surfaces shown."""
    blocks = {"mid": network.mid} | {f"up{level}": block for level, block in enumerate(network.up)}
    blocks["fine"] = network.fine
    found: dict[str, Tensor] = {}

    def keep(name: str):
        return lambda _module, _inputs, output: found.update({name: output})

    hooks = [block.register_forward_hook(keep(name)) for name, block in blocks.items()]
    d = shown.drags
    none = Drags(torch.zeros_like(d.start), torch.zeros_like(d.end), d.view, torch.zeros_like(d.valid))
    try:
        with torch.inference_mode():
            output = network(NetworkInput(shown.images, shown.cameras, shown.view_valid, none))
    finally:
        for hook in hooks:
            hook.remove()
    side = network.config.splat_grid
    return found, output.seen.means.unflatten(1, (side, side))


@cache
def load_part_head() -> PartHead:
    """The fitted head, on the CPU."""
    stored = load_file(str(resources.files("partrm.inference") / FILE))
    weights = {name: value.float() for name, value in stored.items()}
    head = PartHead(len(weights["mean"]))
    head.load_state_dict(weights)
    return head.eval()


def part_maps(network: PartRMNetwork, shown: NetworkInput) -> PartMaps:
    """What the head says of one sample [b = 1] of one view.

    Raises:
        PartHeadError: a network of another shape than the bundled one.
    """
    head = load_part_head()
    features, points = features_without_drags(network, shown)
    cells = cells_of({name: value.float().cpu() for name, value in features.items()})
    if cells.shape[-1] != len(head.mean):
        raise PartHeadError("parts are found with the bundled model's features: take base, or weights tuned from it")
    with torch.inference_mode():
        coarse = rearrange(head(cells), "b h w c -> b c h w")
        raw = interpolate(coarse, scale_factor=2, mode="bilinear")[0]
    movable, displacement, way = raw.split(OUTPUTS)
    side = raw.shape[-1]
    middles = torch.arange(side) + 0.5
    own = torch.stack(torch.meshgrid(middles, middles, indexing="xy"), -1)
    return PartMaps(
        torch.sigmoid(movable[0]),
        DISPLACEMENT_SCALE * displacement.permute(1, 2, 0),
        points[0].float().cpu(),
        own + CENTRE_SCALE * way.permute(1, 2, 0),
    )
