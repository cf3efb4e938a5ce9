"""Poses of a gripper that holds the dragged part along its motion, for a robot to play."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from partrm.errors import PartRMError
from partrm.files import atomic_write
from partrm.geometry.cameras import Cameras
from partrm.geometry.gaussians import Gaussians
from partrm.geometry.joints import JointMotion, JointType
from partrm.geometry.transforms import invert_rigid, pose

TrajectoryFrame = Literal["canonical", "camera"]

SCHEMA = "partrm.trajectory/1"

FRAMES: dict[TrajectoryFrame, str] = {
    "canonical": "x right, y up, z towards the first camera",
    "camera": "OpenCV camera of the first image: x right, y down, z away from it",
}

GRIPPER = "origin where the part is held; z into the surface (approach), y the way fingers close, x across both"

OPAQUE = 0.5
"""Gaussians below it are no surface to hold."""

NEAREST = 8
"""Gaussians about the drag's start in the image, the foremost of which is held."""

NEIGHBOURS = 48
"""Gaussians about the held one, through which the surface's plane is laid."""


class TrajectoryError(PartRMError):
    """A trajectory that cannot be made; the message says why."""


@dataclass(frozen=True)
class Trajectory:
    """Poses of the gripper at equal steps of the motion."""

    frame: TrajectoryFrame
    T_frame_gripper: Float[Tensor, "n 4 4"]
    """Gripper to frame; lengths in :attr:`unit`."""
    share: Float[Tensor, " n"]
    """Of the predicted motion: 0 before it, 1 after it."""
    displacement: Float[Tensor, " n"]
    """Of the joint: radians, or lengths in :attr:`unit`."""
    joint: JointType
    unit: Literal["canonical unit", "m"]

    def to_json(self) -> dict[str, Any]:
        """All of it, with what the frames are."""
        revolute = self.joint == JointType.REVOLUTE
        return {
            "schema": SCHEMA,
            "frame": {"name": self.frame, "axes": FRAMES[self.frame]},
            "gripper": GRIPPER,
            "length_unit": self.unit,
            "joint": {"type": self.joint.name.lower(), "unit": "rad" if revolute else self.unit},
            "poses": [
                {"share": share, "displacement": displacement, "T_frame_gripper": T}
                for share, displacement, T in zip(
                    self.share.tolist(), self.displacement.tolist(), self.T_frame_gripper.tolist(), strict=True
                )
            ],
        }

    def save(self, path: str | Path) -> None:
        """Write it as JSON, whole or not at all.

        Raises:
            OutputError: it cannot be written.
        """
        atomic_write(path, json.dumps(self.to_json(), indent=1, allow_nan=False) + "\n")


def gripper_trajectory(
    T_canonical_gripper: Float[Tensor, "4 4"],
    joint: JointMotion,
    n: int,
    reach: float = 1.0,
    T_canonical_camera: Float[Tensor, "4 4"] | None = None,
    metres_per_unit: float | None = None,
) -> Trajectory:
    """The poses of a gripper that a joint carries.

    Args:
        T_canonical_gripper: its pose before the motion, canonical units.
        joint: canonical frame.
        n: poses, the first before the motion.
        reach: the last one's share of the predicted motion; beyond 1 the motion goes on.
        T_canonical_camera: given, poses are in that camera's frame, else in the canonical one.
        metres_per_unit: given, lengths are metres, else canonical units.

    Raises:
        TrajectoryError: fewer than two poses, or a reach or size that is not positive and finite.
    """
    if n < 2:
        raise TrajectoryError(f"{n} poses: a trajectory has at least 2")
    for name, value in (("reach", reach), ("size", 1.0 if metres_per_unit is None else metres_per_unit)):
        if not 0 < value < float("inf"):
            raise TrajectoryError(f"{name} {value:g}: must be positive and finite")
    scale = 1.0 if metres_per_unit is None else metres_per_unit
    share = torch.linspace(0, reach, n, dtype=torch.float64)
    precise = JointMotion(joint.type, joint.axis.double(), joint.pivot.double(), joint.amount, joint.confidence)
    T = torch.stack([precise.motion(float(t)) for t in share]) @ T_canonical_gripper.double()
    if T_canonical_camera is not None:
        T = invert_rigid(T_canonical_camera.double()) @ T
    T[:, :3, 3] *= scale
    return Trajectory(
        frame="canonical" if T_canonical_camera is None else "camera",
        T_frame_gripper=T,
        share=share,
        displacement=share * joint.amount * (1.0 if joint.type == JointType.REVOLUTE else scale),
        joint=joint.type,
        unit="canonical unit" if metres_per_unit is None else "m",
    )


def gripper_at(
    gaussians: Gaussians, moving: Bool[Tensor, " n"], joint: JointMotion, camera: Cameras, pixel: Float[Tensor, "2"]
) -> Float[Tensor, "4 4"]:
    """``T_canonical_gripper``: a gripper that comes straight at the part where a pixel shows it.

    Its fingers close along a hinge's axis, or along the upright direction of a slide (where these point into the
    surface, along the canonical x), laid into the surface.

    Args:
        gaussians: [n] canonical frame, before the motion.
        moving: which of them are the part's.
        joint: canonical frame.
        camera: unbatched, canonical frame.
        pixel: of the camera's image.

    Raises:
        TrajectoryError: nothing opaque moves.
    """
    part = gaussians.means[moving & (gaussians.opacities > OPAQUE)].double()
    if not len(part):
        raise TrajectoryError("nothing opaque moves: there is no part to hold")
    pixels, depth = camera.project(part.to(camera.T_world_camera.dtype))
    nearest = (pixels - pixel).norm(dim=-1).masked_fill(depth <= 0, float("inf")).argsort()[:NEAREST]
    held = part[nearest[depth[nearest].argmin()]]
    around = part[(part - held).norm(dim=-1).argsort()[:NEIGHBOURS]]
    inward = torch.linalg.svd(around - around.mean(0)).Vh[-1]
    away = held - camera.positions.double()
    z = inward if float(inward @ away) >= 0 else -inward
    upright, sideways = torch.eye(3, dtype=z.dtype)[1], torch.eye(3, dtype=z.dtype)[0]
    preferred = joint.axis.double() if joint.type == JointType.REVOLUTE else upright
    closing = next(d for d in (preferred, upright, sideways) if abs(float(d @ z)) < 0.9)
    y = torch.nn.functional.normalize(closing - z * (closing @ z), dim=0)
    return pose(torch.stack([torch.linalg.cross(y, z), y, z], 1), held)


def depth_in(T_canonical_camera: Float[Tensor, "4 4"], T_canonical_gripper: Float[Tensor, "4 4"]) -> float:
    """How far along a camera's optical axis a gripper lies, canonical units."""
    away = T_canonical_gripper[:3, 3].double() - T_canonical_camera[:3, 3].double()
    return float(away @ T_canonical_camera[:3, 2].double())


def metres_per_unit(size_m: float | None, depth_m: float | None, diagonal: float, depth: float) -> float | None:
    """Metres of a canonical unit by one of two measures; None by neither.

    Args:
        size_m: metres of the diagonal of the object's box.
        depth_m: metres from the camera, along its axis, to the held point.
        diagonal: of that box, canonical units.
        depth: of that point, canonical units.

    Raises:
        TrajectoryError: both are given, or one that is not positive and finite.
    """
    if size_m is not None and depth_m is not None:
        raise TrajectoryError("size and depth are both given: either tells the scale")
    for name, value in (("size", size_m), ("depth", depth_m)):
        if value is not None and not 0 < value < float("inf"):
            raise TrajectoryError(f"{name} {value:g} m: must be positive and finite")
    if depth_m is not None:
        return depth_m / depth
    return None if size_m is None else size_m / diagonal


def box_diagonal(gaussians: Gaussians) -> float:
    """Diagonal of the box about the opaque Gaussians, along the axes of their frame.

    Raises:
        TrajectoryError: none is opaque.
    """
    means = gaussians.means[gaussians.opacities > OPAQUE]
    if not len(means):
        raise TrajectoryError("nothing is opaque: the object has no size")
    return float((means.amax(0) - means.amin(0)).norm())
