"""SE(3) as pure torch functions: 4x4 poses, wxyz quaternions, screw motions.

Every pose is named ``T_target_source`` and maps column vectors from the source to the target frame, so that adjacent
frames cancel: ``T_a_c = T_a_b @ T_b_c``. All functions broadcast over leading dimensions.
"""

import math

import torch
from jaxtyping import Bool, Float
from torch import Tensor


def pose(rotation: Float[Tensor, "*batch 3 3"], translation: Float[Tensor, "*batch 3"]) -> Float[Tensor, "*batch 4 4"]:
    """Assemble a 4x4 rigid transform from its rotation and translation."""
    T = torch.zeros(*rotation.shape[:-2], 4, 4, dtype=rotation.dtype, device=rotation.device)
    T[..., :3, :3] = rotation
    T[..., :3, 3] = translation
    T[..., 3, 3] = 1.0
    return T


def invert_rigid(T_b_a: Float[Tensor, "*batch 4 4"]) -> Float[Tensor, "*batch 4 4"]:
    """Inverse of a rigid transform, ``T_a_b``, without a matrix solve."""
    R_a_b = T_b_a[..., :3, :3].mT
    return pose(R_a_b, -(R_a_b @ T_b_a[..., :3, 3:]).squeeze(-1))


def transform_points(T_b_a: Float[Tensor, "*batch 4 4"], points_a: Float[Tensor, "*batch n 3"]) -> Tensor:
    """Map points [..., n, 3] of frame a into frame b; the leading dimensions broadcast."""
    return points_a @ T_b_a[..., :3, :3].mT + T_b_a[..., None, :3, 3]


def even_directions(count: int) -> Float[Tensor, "count 3"]:
    """Unit directions evenly over the sphere, from +z to -z, double precision (Fibonacci lattice)."""
    index = torch.arange(count, dtype=torch.float64) + 0.5
    z, angle = 1 - 2 * index / count, math.pi * (1 + math.sqrt(5)) * index
    radius = torch.sqrt(1 - z * z)
    return torch.stack([radius * torch.cos(angle), radius * torch.sin(angle), z], -1)


def skew(v: Float[Tensor, "*batch 3"]) -> Float[Tensor, "*batch 3 3"]:
    """Cross-product matrix: ``skew(v) @ w == cross(v, w)``."""
    x, y, z = v.unbind(-1)
    zero = torch.zeros_like(x)
    return torch.stack([zero, -z, y, z, zero, -x, -y, x, zero], -1).unflatten(-1, (3, 3))


def rotation_from_axis_angle(
    axis: Float[Tensor, "*batch 3"], angle_rad: Float[Tensor, "*batch"]
) -> Float[Tensor, "*batch 3 3"]:
    """Rodrigues' formula. ``axis`` must have unit length (a zero axis gives the identity)."""
    K = skew(axis)
    s, c = torch.sin(angle_rad)[..., None, None], torch.cos(angle_rad)[..., None, None]
    eye = torch.eye(3, dtype=axis.dtype, device=axis.device)
    return eye + s * K + (1 - c) * (K @ K)


def screw_motion(
    axis: Float[Tensor, "*batch 3"],
    pivot: Float[Tensor, "*batch 3"],
    amount: Float[Tensor, "*batch"],
    prismatic: Bool[Tensor, "*batch"],
) -> Float[Tensor, "*batch 4 4"]:
    """Motion of a one-degree-of-freedom joint, in the frame of its axis and pivot.

    Args:
        axis: unit direction of the joint.
        pivot: a point on the axis; ignored where ``prismatic``.
        amount: radians (revolute) or length units of the frame (prismatic), signed.
        prismatic: True for translation along the axis, False for rotation about it (right-handed).
    """
    zero = torch.zeros_like(amount)
    R = rotation_from_axis_angle(axis, torch.where(prismatic, zero, amount))
    turned = pivot - (R @ pivot[..., None]).squeeze(-1)
    return pose(R, torch.where(prismatic[..., None], axis * amount[..., None], turned))


def matrix_from_quaternion(wxyz: Float[Tensor, "*batch 4"]) -> Float[Tensor, "*batch 3 3"]:
    """Rotation matrix of a unit quaternion (w, x, y, z)."""
    w, x, y, z = wxyz.unbind(-1)
    rows = [
        1 - 2 * (y * y + z * z), 2 * (x * y - w * z), 2 * (x * z + w * y),
        2 * (x * y + w * z), 1 - 2 * (x * x + z * z), 2 * (y * z - w * x),
        2 * (x * z - w * y), 2 * (y * z + w * x), 1 - 2 * (x * x + y * y),
    ]  # fmt: skip
    return torch.stack(rows, -1).unflatten(-1, (3, 3))


def quaternion_from_matrix(R: Float[Tensor, "*batch 3 3"]) -> Float[Tensor, "*batch 4"]:
    """Unit quaternion (w, x, y, z), w >= 0, by the largest of the four components (stable at every angle)."""
    m00, m11, m22 = R[..., 0, 0], R[..., 1, 1], R[..., 2, 2]
    squares = torch.stack([1 + m00 + m11 + m22, 1 + m00 - m11 - m22, 1 - m00 + m11 - m22, 1 - m00 - m11 + m22], -1)
    wx, wy, wz = R[..., 2, 1] - R[..., 1, 2], R[..., 0, 2] - R[..., 2, 0], R[..., 1, 0] - R[..., 0, 1]
    xy, xz, yz = R[..., 1, 0] + R[..., 0, 1], R[..., 0, 2] + R[..., 2, 0], R[..., 2, 1] + R[..., 1, 2]
    w2, x2, y2, z2 = squares.unbind(-1)
    candidates = torch.stack(
        [
            torch.stack([w2, wx, wy, wz], -1),
            torch.stack([wx, x2, xy, xz], -1),
            torch.stack([wy, xy, y2, yz], -1),
            torch.stack([wz, xz, yz, z2], -1),
        ],
        -2,
    )
    best = squares.argmax(-1)
    q = torch.take_along_dim(candidates, best[..., None, None].expand(*best.shape, 1, 4), -2).squeeze(-2)
    q = q / q.norm(dim=-1, keepdim=True)
    return torch.where(q[..., :1] < 0, -q, q)


def multiply_quaternions(
    q_c_b: Float[Tensor, "*#batch 4"], q_b_a: Float[Tensor, "*#batch 4"]
) -> Float[Tensor, "*batch 4"]:
    """Hamilton product of (w, x, y, z) quaternions: first ``q_b_a``, then ``q_c_b``."""
    w1, x1, y1, z1 = q_c_b.unbind(-1)
    w2, x2, y2, z2 = q_b_a.unbind(-1)
    return torch.stack(
        [
            w1 * w2 - x1 * x2 - y1 * y2 - z1 * z2,
            w1 * x2 + x1 * w2 + y1 * z2 - z1 * y2,
            w1 * y2 - x1 * z2 + y1 * w2 + z1 * x2,
            w1 * z2 + x1 * y2 - y1 * x2 + z1 * w2,
        ],
        -1,
    )
