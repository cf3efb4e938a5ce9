"""Forward kinematics of trees of one-degree-of-freedom joints, batched over objects and states."""

from dataclasses import dataclass
from enum import IntEnum

import torch
from jaxtyping import Float, Int
from torch import Tensor

from partrm.geometry.transforms import screw_motion

MIN_CONFIDENCE = 0.6
"""Joints of lower confidence are uncertain: fewer than half of them are right (docs/photos.md)."""


class JointType(IntEnum):
    """Joint types as stored in arrays; ``continuous`` is revolute without limits."""

    FIXED = 0
    REVOLUTE = 1
    PRISMATIC = 2
    CONTINUOUS = 3


def forward_kinematics(
    parent: Int[Tensor, "*batch parts"],
    joint_type: Int[Tensor, "*batch parts"],
    axis: Float[Tensor, "*batch parts 3"],
    pivot: Float[Tensor, "*batch parts 3"],
    q: Float[Tensor, "*batch parts"],
) -> Float[Tensor, "*batch parts 4 4"]:
    """``T_object_part(q)`` of every part; the identity at q = 0, since meshes are stored in the object's rest frame.

    Args:
        parent: index of each part's parent, smaller than its own, -1 for a root.
        joint_type: :class:`JointType` of the joint that carries the part.
        axis: unit joint axis in the object frame at rest (ignored for fixed joints).
        pivot: a point of the joint axis in the object frame at rest.
        q: joint position of each part, radians or object units.
    """
    fixed = joint_type == JointType.FIXED
    own = screw_motion(axis, pivot, torch.where(fixed, torch.zeros_like(q), q), joint_type == JointType.PRISMATIC)
    eye = torch.eye(4, dtype=q.dtype, device=q.device).expand_as(own[..., 0, :, :])
    poses: list[Tensor] = []
    for index in range(parent.shape[-1]):
        above = eye
        if poses:
            known = torch.stack(poses, -3)
            choice = parent[..., index].clamp(min=0)[..., None, None, None].expand(*eye.shape[:-2], 1, 4, 4)
            picked = torch.take_along_dim(known, choice, -3).squeeze(-3)
            above = torch.where((parent[..., index] >= 0)[..., None, None], picked, eye)
        poses.append(above @ own[..., index, :, :])
    return torch.stack(poses, -3)


@dataclass(frozen=True)
class JointMotion:
    """One joint and how far it moved, in the frame of the points that it was estimated from."""

    type: JointType
    """REVOLUTE or PRISMATIC."""
    axis: Float[Tensor, "3"]
    """Unit direction; the motion is right-handed about it (revolute) or along it (prismatic)."""
    pivot: Float[Tensor, "3"]
    """The point of the axis nearest to the part's centre; that centre itself for a prismatic joint."""
    amount: float
    """Radians or units of the frame; positive by the choice of the axis' sign."""
    confidence: float
    """Share of the displacements' energy that this one rigid motion explains, [0, 1]."""

    def motion(self, t: float) -> Float[Tensor, "4 4"]:
        """``T_at_t_source``: the motion after the fraction ``t`` of the amount (0: none, 1: all)."""
        amount = self.axis.new_tensor(self.amount * t)
        prismatic = torch.tensor(self.type == JointType.PRISMATIC, device=self.axis.device)
        return screw_motion(self.axis, self.pivot, amount, prismatic)

    @property
    def T_after_before(self) -> Float[Tensor, "4 4"]:
        """The whole motion."""
        return self.motion(1.0)
