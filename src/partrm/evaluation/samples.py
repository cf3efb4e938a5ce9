"""What a stage (meshes, or pictures in a folder) hands to the run: settings, inputs and truths of samples."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal, Protocol, get_args, runtime_checkable

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from partrm.errors import PartRMError
from partrm.evaluation.scoring import GroundTruth
from partrm.geometry.cameras import Cameras
from partrm.geometry.drags import MAX_DRAGS
from partrm.geometry.gaussians import Gaussians
from partrm.model.inputs import VIEWS, NetworkInput

OPAQUE = 0.5
"""Opacity above which a splat counts as seen in part masks."""

DRAG_SIZE_PX = 256
"""Side of the image in whose pixels drag errors are given."""

SURFACE_POINTS = 2000
"""Points of the moving part that the motion error is taken on."""

InputFraming = Literal["canonical", "outline"]
"""How input images show their objects: by the true centre and size, or by the outline as ``predict`` frames photos."""


@dataclass(frozen=True)
class RunSettings:
    """What an evaluation varies."""

    views: int = 1
    """Input views, 1 to 4: the first, then by 90 degrees about the object's upright axis (folders: their first)."""
    drags: int = 1
    """Drags of each sample, 1 to 10, the first of those planned."""
    limit: int | None = None
    """Only the set's first samples."""
    novel_size_px: int = 256
    """Side of the images from around."""
    framing: InputFraming = "canonical"
    """Of single images of meshes; files are framed as they are, and several posed views have cameras that are known."""

    def __post_init__(self) -> None:
        if not (1 <= self.views <= VIEWS and 1 <= self.drags <= MAX_DRAGS and (self.limit is None or self.limit >= 1)):
            raise PartRMError(f"views must be 1 to {VIEWS}, drags 1 to {MAX_DRAGS}, a limit at least 1")
        if self.framing not in get_args(InputFraming):
            raise PartRMError(f"framing {self.framing!r}: must be canonical or outline")
        if self.framing == "outline" and self.views > 1:
            raise PartRMError(
                f"framing by the outline is for single images, not {self.views} views: posed views have known cameras"
            )


@dataclass(frozen=True)
class TrueSurface:
    """The true surface as Gaussians, and what the rays of the network's really meet; canonical frame, source state."""

    gaussians: Gaussians
    """[*batch, n] on the true surface, of the true colour; n runs over views, rows, columns as the network's do."""
    moving: Bool[Tensor, "*batch n"]
    """Which of them move."""
    network_moving: Bool[Tensor, "*batch n"]
    """Whether the ray of each of the network's Gaussians meets something that moves; the same where the true ones lie
    on the same rays."""

    def __getitem__(self, index) -> "TrueSurface":
        return TrueSurface(self.gaussians[index], self.moving[index], self.network_moving[index])


@dataclass(frozen=True)
class EvalBatch:
    """Some samples, ready for the network and for scoring."""

    inputs: NetworkInput
    truths: tuple[GroundTruth, ...]
    cameras: tuple[Cameras, ...]
    """[views] of each sample, canonical frame: whence every method's result is seen."""
    surfaces: tuple[TrueSurface | None, ...]
    """[n] of each sample; None where the data do not tell, and there are no oracles."""

    def __post_init__(self) -> None:
        assert len(self.truths) == len(self.cameras) == len(self.surfaces) == len(self.inputs.view_valid)


@dataclass(frozen=True)
class FirstViews:
    """The first views of some samples, for pictures."""

    cameras: Cameras
    """[b], canonical frame."""
    before: Float[Tensor, "b 3 h w"]
    """On white."""
    after: Float[Tensor, "b 3 h w"]
    """On white."""


@runtime_checkable
class SampleSource(Protocol):
    """A set on the device where it is rendered and scored."""

    @property
    def device(self) -> torch.device: ...
    def inputs(self, numbers: Sequence[int], settings: RunSettings, size_px: int) -> NetworkInput: ...
    def batch(self, numbers: Sequence[int], settings: RunSettings, size_px: int) -> EvalBatch: ...
    def describe(self, number: int) -> dict[str, Any]: ...
    def first_views(self, numbers: Sequence[int], settings: RunSettings, size_px: int) -> FirstViews: ...
