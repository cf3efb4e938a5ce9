"""One sample as files tell it, in their own world frame: pictures of both states, and what is known of the motion."""

from dataclasses import dataclass

from jaxtyping import Bool, Float, Int
from torch import Tensor

from partrm.geometry.cameras import Cameras
from partrm.geometry.joints import JointMotion


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
