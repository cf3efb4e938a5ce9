"""What the modules of an evaluation hand to each other: sets, settings, and inputs and truths of samples."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal, Protocol, get_args, runtime_checkable

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor
from torch.nn.functional import pad

from partrm.errors import PartRMError, require_ranges
from partrm.geometry.cameras import Cameras
from partrm.geometry.drag_numbers import MAX_DRAGS
from partrm.geometry.drags import Drags
from partrm.geometry.gaussians import Gaussians
from partrm.geometry.joints import JointMotion
from partrm.geometry.tensor_record import TensorRecord
from partrm.model.devices import Precision
from partrm.model.inputs import VIEWS, NetworkInput, with_absent_views

OPAQUE = 0.5
"""Opacity above which a splat counts as seen in part masks."""

DRAG_SIZE_PX = 256
"""Side of the image in whose pixels drag errors are given."""

NOVEL_SIZES_PX = (16, 2048)
"""Least and greatest side of the images from around: SSIM's window is 11 wide."""

SURFACE_POINTS = 2000
"""Points of the moving part that the motion error is taken on."""

InputFraming = Literal["canonical", "mask-box"]
"""How input images show their objects: by the true centre and size, or by the mask's box as ``predict`` frames
photos."""


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
    assets: bool = False
    """Whether every answer is exported too, and its asset compared (:mod:`partrm.evaluation.assets`)."""
    precision: Precision = "float32"
    """Of the network's numbers."""

    def __post_init__(self) -> None:
        if not (1 <= self.views <= VIEWS and 1 <= self.drags <= MAX_DRAGS and (self.limit is None or self.limit >= 1)):
            raise PartRMError(f"views must be 1 to {VIEWS}, drags 1 to {MAX_DRAGS}, a limit at least 1")
        require_ranges({"--novel-size-px": (self.novel_size_px, *NOVEL_SIZES_PX)})
        if self.precision not in get_args(Precision):
            raise PartRMError(f"precision {self.precision!r}: must be {' or '.join(get_args(Precision))}")
        if self.framing not in get_args(InputFraming):
            raise PartRMError(f"framing {self.framing!r}: must be {' or '.join(get_args(InputFraming))}")
        if self.framing == "mask-box" and self.views > 1:
            raise PartRMError(
                f"mask-box framing is for single images, not {self.views} views: posed views have known cameras"
            )


@dataclass(frozen=True)
class PosedSettings:
    """How the cameras stand that samples of meshes are scored from."""

    novel_views: int
    """Equal steps of azimuth around the object."""
    novel_elevation_deg: float


@dataclass(frozen=True)
class SampleLabel:
    """Which sample it is."""

    sample: int
    """Number in its set."""
    object: str
    category: str
    part: int
    """Slot of the part that moves."""
    transition: str
    """What it does."""
    joint_type: str | None = None
    """``revolute`` or ``prismatic``; None where files do not tell."""
    amount: float | None = None
    """Signed change of the joint, radians or object diagonals; likewise."""


@dataclass(frozen=True)
class GroundTruth:
    """What one sample really is, canonical frame; None where the data do not tell."""

    part_mask: Bool[Tensor, "side side"] | None
    """Moving part in the first view, one value a splat, on the CPU."""
    points: Float[Tensor, "p 3"] | None
    """Points on the surface of what moves, before the motion, on the CPU."""
    joint: JointMotion | None
    """The true joint; its amount is signed."""
    T_after_before: Float[Tensor, "4 4"] | None
    drag_points: Float[Tensor, "d 3"] | None
    """Points of the surface that the drags start on, on the CPU."""
    camera: Cameras
    """[], of the pixels that drag errors are given in: the first view, the object at its true size."""
    before: Float[Tensor, "views 3 h w"]
    """Source state from around, on white."""
    after: Float[Tensor, "views 3 h w"]
    """Target state from around, on white."""
    moved: Bool[Tensor, "views h w"] | None
    """Pixels of the moving part before or after."""
    diagonal: float = 1.0
    """Length that figures of lengths are given in, canonical units: the object's diagonal where it is known."""
    as_published: bool = False
    """Whether images are scored as the reference's script does (:mod:`partrm.paper.eval_protocol`)."""


@dataclass(frozen=True)
class MethodOutput:
    """What a method says of one sample."""

    part_mask: Bool[Tensor, "side side"] | None
    """None where the method looks for no part."""
    joint: JointMotion | None
    """None where the method moves nothing."""
    after: Float[Tensor, "views 3 h w"]
    """On white, from the truth's cameras."""


@dataclass(frozen=True)
class TrueSurface(TensorRecord):
    """The true surface as Gaussians, and what the rays of the network's really meet; canonical frame, source state."""

    gaussians: Gaussians
    """[*batch, n] on the true surface, of the true colour; n runs over views, rows, columns as the network's do."""
    moving: Bool[Tensor, "*batch n"]
    """Which of them move."""
    network_moving: Bool[Tensor, "*batch n"]
    """Whether the ray of each of the network's Gaussians meets something that moves; the same where the true ones lie
    on the same rays."""


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


SHOWN = 1.5
"""How many times as wide pictures are as the crops that the network sees, so that opened parts lie inside."""


def shown_around(crops: Cameras) -> Cameras:
    """Cameras at the same places that see as much more as pictures show."""
    return replace(crops, fovy_rad=2 * torch.atan(SHOWN * torch.tan(crops.fovy_rad / 2)))


@dataclass(frozen=True)
class FirstViews:
    """The first views of some samples, for pictures: :data:`SHOWN` times as wide as what the network sees of them."""

    cameras: Cameras
    """[b], canonical frame."""
    before: Float[Tensor, "b 3 h w"]
    """On white."""
    after: Float[Tensor, "b 3 h w"]
    """On white."""


@dataclass(frozen=True)
class LabelledMesh:
    """The object's surface in the source state."""

    vertices: Float[Tensor, "v 3"]
    faces: Int[Tensor, "f 3"]
    moving: Bool[Tensor, " f"]
    """Faces of the part that moves."""


@dataclass(frozen=True)
class WorldSample:
    """Pictures of two states and what is known of the motion between them."""

    before: Float[Tensor, "views 4 h w"]
    """RGBA, straight alpha, square."""
    after: Float[Tensor, "views 4 h w"]
    cameras: Cameras
    """[views], world frame; the first is the one that drags are given in."""
    inputs: tuple[int, ...]
    """Views that the network may see, the first among them first; at most four."""
    scored: tuple[int, ...]
    """Views that results are compared in."""
    drag_start: Float[Tensor, "d 2"]
    """Fractions of the first view."""
    drag_end: Float[Tensor, "d 2"]
    drag_points: Float[Tensor, "d 3"] | None = None
    """Where the drags start in space."""
    T_after_before: Float[Tensor, "4 4"] | None = None
    """Motion of the part."""
    joint: JointMotion | None = None
    points: Float[Tensor, "p 3"] | None = None
    """Points of the part, before the motion."""
    moved: Bool[Tensor, "views h w"] | None = None
    """Where the part is seen before or after; taken from ``solid`` where there is one."""
    part: Bool[Tensor, "h w"] | None = None
    """Where the first view shows the part before; likewise."""
    solid: LabelledMesh | None = None
    input_images: Float[Tensor, "inputs 4 h w"] | None = None
    """What the network sees where that is not ``before[inputs]`` (faults of the published protocol)."""
    as_published: bool = False
    """Whether images are scored as the published script does."""

    def __post_init__(self) -> None:
        assert len(self.before) == len(self.after) == len(self.cameras.fovy_rad)
        assert self.inputs
        assert self.inputs[0] == 0
        assert self.scored
        assert len(self.inputs) <= 4


@runtime_checkable
class SampleSource(Protocol):
    """A set on the device where it is rendered and scored."""

    @property
    def device(self) -> torch.device: ...
    def inputs(self, numbers: Sequence[int], settings: RunSettings, size_px: int) -> NetworkInput: ...
    def batch(self, numbers: Sequence[int], settings: RunSettings, size_px: int) -> EvalBatch: ...
    def label(self, number: int) -> SampleLabel: ...
    def first_views(self, numbers: Sequence[int], settings: RunSettings, size_px: int) -> FirstViews: ...


@runtime_checkable
class EvaluationSet(Protocol):
    """Fixed samples, wherever they lie."""

    @property
    def name(self) -> str: ...
    @property
    def seed(self) -> int: ...
    @property
    def protocol(self) -> str:
        """How samples are posed and scored."""
        ...

    @property
    def checksum(self) -> str:
        """16 hex digits that differ for sets that differ."""
        ...

    @property
    def dropped(self) -> tuple[str, ...]:
        """Candidate samples left out, with the reason."""
        ...

    @property
    def object_names(self) -> tuple[str, ...]: ...
    @property
    def posed_settings(self) -> PosedSettings | None:
        """None where the cameras are the samples' own, and images are framed as they are."""
        ...

    def __len__(self) -> int: ...
    def open(self, device: torch.device | str) -> SampleSource: ...


def padded_input(
    images: Float[Tensor, "b views 4 size size"],
    cameras: Cameras,
    drag_start: Float[Tensor, "b drags 2"],
    drag_end: Float[Tensor, "b drags 2"],
) -> NetworkInput:
    """Some samples as the network sees them, absent views and drags filled up.

    Args:
        images: RGBA, straight alpha, of the first views.
        cameras: [b, views] canonical frame.
        drag_start: fractions of the first view.
        drag_end: likewise.
    """
    b, views = images.shape[:2]
    drags, device = drag_start.shape[1], images.device
    told, valid = with_absent_views(cameras)
    start, end = (pad(points, (0, 0, 0, MAX_DRAGS - drags)) for points in (drag_start, drag_end))
    view = torch.zeros(b, MAX_DRAGS, dtype=torch.long, device=device)
    given = (torch.arange(MAX_DRAGS, device=device) < drags).expand(b, MAX_DRAGS)
    return NetworkInput(
        images=pad(images, (0, 0, 0, 0, 0, 0, 0, VIEWS - views)),
        cameras=told,
        view_valid=valid,
        drags=Drags(start, end, view, given),
    )
