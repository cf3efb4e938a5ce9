"""What the network eats and what it is taught: one batch of samples.

Everything is in the canonical frame of each sample's first view, and describes the source state; the target state is
the source state with the moving Gaussians carried by ``JointTruth.T_after_before``.
"""

from dataclasses import dataclass

from jaxtyping import Bool, Float, Int
from torch import Tensor

from partrm.geometry.cameras import Cameras
from partrm.geometry.tensor_record import TensorRecord
from partrm.model.inputs import NetworkInput


@dataclass(frozen=True)
class MotionTargets(TensorRecord):
    """The exact surface behind every splat pixel of every view: our Gaussian database."""

    point: Float[Tensor, "b v h w 3"]
    """Surface point, canonical frame; zero where the ray meets nothing."""
    distance: Float[Tensor, "b v h w"]
    """Distance from the camera along the pixel's ray; zero where nothing."""
    normal: Float[Tensor, "b v h w 3"]
    """Unit normal towards the camera, canonical frame; zero where nothing."""
    surface: Bool[Tensor, "b v h w"]
    """Whether the ray through the pixel's centre meets the object."""
    coverage: Float[Tensor, "b v h w"]
    """Anti-aliased alpha of the pixel, [0, 1]."""
    rgb: Float[Tensor, "b v h w 3"]
    """Straight colour of the pixel, [0, 1]."""
    moving: Bool[Tensor, "b v h w"]
    """Whether the point belongs to the dragged part, or to a part carried by it."""
    displacement: Float[Tensor, "b v h w 3"]
    """Exact motion of the point, canonical frame; zero where nothing moves."""


@dataclass(frozen=True)
class JointTruth(TensorRecord):
    """The joint behind each sample's motion, canonical frame."""

    type: Int[Tensor, " b"]
    """:class:`partrm.geometry.joints.JointType`."""
    axis: Float[Tensor, "b 3"]
    pivot: Float[Tensor, "b 3"]
    amount: Float[Tensor, " b"]
    """Radians or canonical units, signed about the axis."""
    T_after_before: Float[Tensor, "b 4 4"]


@dataclass(frozen=True)
class StateViews(TensorRecord):
    """Renders of the source and the target state from cameras of their own (appearance stage, evaluation)."""

    cameras: Cameras
    """[b, m], canonical frame."""
    before: Float[Tensor, "b m 4 h w"]
    """RGBA of the source state."""
    after: Float[Tensor, "b m 4 h w"]
    """RGBA of the target state."""


@dataclass(frozen=True)
class Samples(TensorRecord):
    """A batch of training or evaluation samples."""

    inputs: NetworkInput
    targets: MotionTargets
    """What every pixel shows."""
    joint: JointTruth
    valid: Bool[Tensor, " b"]
    """False where no candidate showed enough of a moving part; such rows carry no loss."""
    views: StateViews | None = None
    still: MotionTargets | None = None
    """What every pixel would show without the dragged part and what it carries."""
    part: MotionTargets | None = None
    """What every pixel would show of the dragged part, and what it carries, alone."""
