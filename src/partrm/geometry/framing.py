"""The frames of first views: similarities between the frame that something is given in and the one the network sees.

Three frames meet here: the *object* frame (what a camera's picture is known in), the *canonical* frame of a first view,
and cameras of crops. The canonical frame of a crop has its axis as z; its origin is as deep as the object's centre;
lengths are such that the crop shows :data:`INPUT_HALF_WIDTH` to each side of the origin.
"""

from dataclasses import dataclass, replace

import torch
from jaxtyping import Float
from torch import Tensor

from partrm.geometry.cameras import INPUT_FOVY_RAD, INPUT_HALF_WIDTH, Cameras, canonical_pose
from partrm.geometry.gaussians import Gaussians
from partrm.geometry.joints import JointMotion, JointType
from partrm.geometry.tensor_record import TensorRecord
from partrm.geometry.transforms import multiply_quaternions, pose, quaternion_from_matrix


@dataclass(frozen=True)
class Framing(TensorRecord):
    """The similarity between the object frame (z up, diagonal 1) and the canonical frame of the first view."""

    R_canonical_object: Float[Tensor, "*b 3 3"]
    target: Float[Tensor, "*b 3"]
    """Point of the object frame that becomes the canonical origin."""
    scale: Float[Tensor, "*b"]
    """Canonical units per object unit."""

    def points_to_canonical(self, points: Float[Tensor, "b n 3"]) -> Float[Tensor, "b n 3"]:
        return self.scale[:, None, None] * ((points - self.target[:, None]) @ self.R_canonical_object.mT)

    def directions_to_canonical(self, directions: Float[Tensor, "b 3"]) -> Float[Tensor, "b 3"]:
        return (self.R_canonical_object @ directions[..., None]).squeeze(-1)

    def motion_to_canonical(self, T_object: Float[Tensor, "b 4 4"]) -> Float[Tensor, "b 4 4"]:
        """The rigid motion of the object frame, expressed on canonical points."""
        Rc, Rm, t = self.R_canonical_object, T_object[:, :3, :3], T_object[:, :3, 3]
        shift = (Rm @ self.target[..., None]).squeeze(-1) + t - self.target
        return pose(Rc @ Rm @ Rc.mT, self.scale[:, None] * (Rc @ shift[..., None]).squeeze(-1))

    def cameras_to_object(self, cameras: Cameras) -> Cameras:
        """Canonical-frame cameras [b, v] in the object frame (positions scale, images stay the same)."""
        Ro = self.R_canonical_object.mT[:, None]
        R = Ro @ cameras.T_world_camera[..., :3, :3]
        position = (Ro @ (cameras.positions / self.scale[:, None, None])[..., None]).squeeze(-1) + self.target[:, None]
        return Cameras(pose(R, position), cameras.fovy_rad, cameras.width, cameras.height)

    def cameras_to_canonical(self, cameras: Cameras) -> Cameras:
        """Object-frame cameras [b, v] in the canonical frame: the inverse of :meth:`cameras_to_object`."""
        Rc = self.R_canonical_object[:, None]
        R = Rc @ cameras.T_world_camera[..., :3, :3]
        position = (Rc @ (cameras.positions - self.target[:, None])[..., None]).squeeze(-1)
        return Cameras(pose(R, self.scale[:, None, None] * position), cameras.fovy_rad, cameras.width, cameras.height)


def framing_of_crops(crops: Cameras, centre: Float[Tensor, "b 3"]) -> Framing:
    """The canonical frames of first views that are crops of the object.

    Args:
        crops: [b] cameras in the object frame.
        centre: of the objects, object frame.
    """
    forward, position = crops.T_world_camera[:, :3, 2], crops.positions
    depth = ((centre - position) * forward).sum(-1).clamp(min=0.1)
    scale = INPUT_HALF_WIDTH / (torch.tan(crops.fovy_rad / 2) * depth)
    R = canonical_pose(position.device)[:3, :3] @ crops.T_world_camera[:, :3, :3].mT
    return Framing(R, position + depth[:, None] * forward, scale)


def first_crops(fovy_rad: Float[Tensor, " b"], size_px: int) -> Cameras:
    """[b, 1] cameras of crops with these fields of view in the canonical frame, on its axis."""
    b, device = len(fovy_rad), fovy_rad.device
    T = canonical_pose(device).expand(b, 1, 4, 4).clone()
    T[:, 0, 2, 3] = INPUT_HALF_WIDTH / torch.tan(fovy_rad / 2)
    return Cameras(T, fovy_rad[:, None], size_px, size_px)


def nominal_crops(b: int, size_px: int, device: torch.device | str) -> Cameras:
    """[b, 1] cameras that are told of crops whose lens is unknown."""
    return first_crops(torch.full((b,), INPUT_FOVY_RAD, device=device), size_px)


def with_nominal_lens(cameras: Cameras) -> Cameras:
    """Cameras [b, v] of which the first is told as that of a crop of unknown lens."""
    nominal = nominal_crops(len(cameras.fovy_rad), cameras.width, cameras.device)
    T = torch.cat([nominal.T_world_camera, cameras.T_world_camera[:, 1:]], 1)
    return Cameras(T, torch.cat([nominal.fovy_rad, cameras.fovy_rad[:, 1:]], 1), cameras.width, cameras.height)


def gaussians_to_object(framing: Framing, gaussians: Gaussians) -> Gaussians:
    """One set of Gaussians [n] of a canonical frame in the object frame of an unbatched framing."""
    R, scale = framing.R_canonical_object.mT, framing.scale
    quats = multiply_quaternions(quaternion_from_matrix(R)[None], gaussians.quats)
    means = gaussians.means @ R.mT / scale + framing.target
    return Gaussians(means, quats, gaussians.scales / scale, gaussians.opacities, gaussians.colors)


def joint_to_object(framing: Framing, joint: JointMotion) -> JointMotion:
    """A joint of a canonical frame in the object frame of an unbatched framing."""
    R, scale = framing.R_canonical_object.mT, framing.scale
    amount = joint.amount / float(scale) if joint.type == JointType.PRISMATIC else joint.amount
    return replace(joint, axis=R @ joint.axis, pivot=R @ joint.pivot / scale + framing.target, amount=amount)
