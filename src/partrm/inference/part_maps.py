"""What a picture says of its parts without a drag: the small network beside the bundled weights, read.

``benchmarks/part_network.py`` trains it on procedural objects; the large network itself stays as it is.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Bool, Float
from scipy.ndimage import gaussian_filter, maximum_filter
from torch import Tensor
from torch.nn.functional import interpolate, max_pool2d

from partrm.errors import PartRMError
from partrm.geometry.drags import Drags
from partrm.geometry.joints import JointMotion
from partrm.inference.ensemble import Claim, first_view_alone
from partrm.inference.joint_fit import joints_from_votes
from partrm.model.checkpoints import CheckpointError, Unfilled, checkpoint_folder, load_tensors, misfit
from partrm.model.inputs import NetworkInput
from partrm.model.network import BASE, PartRMNetwork
from partrm.model.part_network import OPENED_RAD, PartNetwork, features_without_drags, shape_of_features

FILE = "parts.safetensors"
"""The weights, in the folder of the bundled model whose features they read."""


MIN_MOVABLE = 0.4
"""Probability from which a pixel is looked at."""

MIN_PIXELS = 16
"""Of a proposal, splats."""

VOTE_BLUR = 1.5
"""Standard deviation of a vote on a part's middle, splats."""

MIN_VOTES = 0.08
"""Height of a part's middle among the votes, as a share of the highest."""

APART = 3
"""Splats between two middles, at least."""


class PartNetworkError(PartRMError):
    """A network whose features the small network does not know."""


@dataclass(frozen=True)
class PartMaps:
    """What is said of one picture, on a grid of splats, on the CPU; network's frame."""

    movable: Float[Tensor, "side side"]
    """Probability that it shows a part that moves."""
    centre: Float[Tensor, "side side 2"]
    """Where the middle of what the part shows lies, x and y, splats."""
    hinge_logit: Float[Tensor, "side side"]
    """Log-odds that the part turns, against that it slides."""
    axis: Float[Tensor, "side side 3"]
    """Opening is right-handed about it, or along it; shorter than 1 where unsure."""
    to_axis: Float[Tensor, "side side 3"]
    """From the surface to its hinge."""
    displacement: Float[Tensor, "side side 3"]
    """Where the surface goes when the part opens a little."""
    points: Float[Tensor, "side side 3"]
    """The surface that it shows."""

    def groups(self, alpha: Float[Tensor, "side side"]) -> Bool[Tensor, "k side side"]:
        """Pixels of one part each: every pixel that may move belongs to the middle nearest to its vote.

        Args:
            alpha: opacity of the object.
        """
        side = len(alpha)
        looked = (self.movable > MIN_MOVABLE) & (alpha > 0.5)
        if int(looked.sum()) < MIN_PIXELS:
            return torch.zeros(0, side, side, dtype=torch.bool)
        middles = middles_of(self.centre[looked], self.movable[looked], side)
        owner = torch.full((side, side), -1)
        owner[looked] = torch.cdist(self.centre[looked], middles).argmin(1)
        whole = torch.stack([owner == number for number in range(len(middles))])
        return whole[whole.sum((1, 2)) >= MIN_PIXELS]

    def sureness(self, mask: Bool[Tensor, "side side"]) -> tuple[bool, float]:
        """Whether a part turns, and how sure and how much of one mind its pixels are about its joint, [0, 1]."""
        turning = torch.sigmoid(self.hinge_logit[mask]).mean()
        sure = (2 * turning - 1).abs() * self.axis[mask].mean(0).norm().clamp(max=1)
        return bool(turning > 0.5), float(sure)

    def joint(self, mask: Bool[Tensor, "side side"]) -> JointMotion:
        """The joint that the pixels of a part vote for, opened a little.

        Raises:
            ValueError: an empty mask.
        """
        logit = self.hinge_logit[mask]
        votes = (
            self.points[mask], self.displacement[mask], self.movable[mask], logit, self.axis[mask], self.to_axis[mask],
            torch.full_like(logit, OPENED_RAD),
        )  # fmt: skip
        (joint,) = joints_from_votes(*(values[None] for values in votes)).unbatched()
        return joint


def parts_file() -> Path:
    """Where the small network's weights lie.

    Raises:
        CheckpointError: no weights are bundled.
    """
    return checkpoint_folder("base") / FILE


def middles_of(votes: Float[Tensor, "n 2"], weights: Float[Tensor, " n"], side: int) -> Float[Tensor, "k 2"]:
    """Where votes pile up, x and y, splats."""
    cell = votes.floor().long().clamp(0, side - 1)
    heap = torch.zeros(side * side).index_add(0, cell[:, 1] * side + cell[:, 0], weights).reshape(side, side).numpy()
    heap = gaussian_filter(heap, VOTE_BLUR, mode="constant", truncate=3.0)
    peak = (heap == maximum_filter(heap, 2 * APART + 1)) & (heap > MIN_VOTES * heap.max())
    row, column = np.nonzero(peak)
    return torch.from_numpy(np.stack([column, row], -1)).float() + 0.5


@cache
def load_part_network(device: torch.device) -> PartNetwork:
    """The trained small network.

    Raises:
        CheckpointError: as :func:`read_part_network`, or no weights are bundled.
    """
    return read_part_network(parts_file()).to(device)


def read_part_network(path: Path) -> PartNetwork:
    """A small network from its file of weights.

    Raises:
        CheckpointError: a missing or damaged file, or weights of another network.
    """
    weights = load_tensors(path)
    with Unfilled():
        network = PartNetwork(*shape_of_features(BASE))
    try:
        network.load_state_dict(weights, assign=True)
    except RuntimeError as error:
        raise CheckpointError(f"{path}: not the small network's weights ({misfit(error)}); install it again") from error
    return network.eval()


def knows(network: PartRMNetwork) -> bool:
    """Whether the small network can read a network's features: those of the bundled one, or tuned from it."""
    return shape_of_features(network.config) == shape_of_features(BASE)


def coverage(images: Float[Tensor, "b v 4 h w"], side: int) -> Float[Tensor, "b side side"]:
    """Opacity of first views on a grid of splats, on the CPU."""
    return interpolate(images[:, 0, 3:].cpu(), (side, side), mode="area")[:, 0]


def maps_of(network: PartRMNetwork, shown: NetworkInput) -> list[PartMaps]:
    """What is said of samples of one view each.

    Raises:
        PartNetworkError: a network of another shape than the bundled one.
    """
    if not knows(network):
        raise PartNetworkError("parts are found with the bundled model's features: take base, or weights tuned from it")
    features, points = features_without_drags(network, shown)
    small = load_part_network(shown.images.device)
    with torch.inference_mode(), network.rounding():
        said = small(shown.images[:, 0], {name: value.float() for name, value in features.items()}).to("cpu")
    side = said.movable_logit.shape[-1]
    middles = torch.arange(side) + 0.5
    own = torch.stack(torch.meshgrid(middles, middles, indexing="xy"), -1)
    return [
        PartMaps(
            movable=torch.sigmoid(said.movable_logit[row]),
            centre=own + said.to_middle[row],
            hinge_logit=said.hinge_logit[row],
            axis=said.axis[row],
            to_axis=said.to_axis[row],
            displacement=said.displacement[row],
            points=points[row].float().cpu(),
        )
        for row in range(len(points))
    ]


def claims_on(network: PartRMNetwork, samples: Sequence[NetworkInput]) -> list[Claim | None]:
    """The part of each sample [b = 1] that most of its drags start on, as it is seen without them; None where none is.

    Args:
        network: one that :func:`knows`.
        samples: of single images.
    """
    shown = NetworkInput.cat([first_view_alone(sample).without_drags() for sample in samples])
    maps = maps_of(network, shown)
    alpha = coverage(shown.images, len(maps[0].movable))
    return [claim_of(*own, sample.drags) for own, sample in zip(zip(maps, alpha, strict=True), samples, strict=True)]


def claim_of(maps: PartMaps, alpha: Float[Tensor, "side side"], drags: Drags) -> Claim | None:
    """The part that most of a sample's drags start on; None where none does."""
    groups, side = maps.groups(alpha), len(alpha)
    starts = (side * drags.start[0][drags.valid[0]].cpu()).long().clamp(0, side - 1)
    near = max_pool2d(groups[None].float(), 3, 1, 1)[0] if len(groups) else groups
    touched = near[:, starts[:, 1], starts[:, 0]].sum(1)
    if not len(groups) or not bool(touched.any()):
        return None
    mask = groups[int(touched.argmax())]
    turns, sure = maps.sureness(mask)
    return Claim(torch.where(mask, maps.movable, 0.0), alpha > 0.5, turns, sure)
