"""The drag as a hint on how far a joint moved: the dragged points shall arrive where their drags end."""

import math
from dataclasses import replace

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from partrm.geometry.cameras import Cameras
from partrm.geometry.joints import JointType
from partrm.geometry.transforms import screw_motion, transform_points
from partrm.inference.joint_fit import JointBatch
from partrm.inference.reading import Reading
from partrm.model.inputs import NetworkInput

DRAG_SIGMA = 0.01
"""How far off a dragged point may well arrive, fractions of the image. With this and the next two the mean motion-error
ratio of single images fell from .344 to .324 (45 motions of real objects), from .326 to .299 (90 procedural ones)."""

AMOUNT_SIGMA = 0.2
"""How far off the network's amount may well be, as a share of it."""

MIN_AMOUNT_SIGMA = {JointType.REVOLUTE: 0.1, JointType.PRISMATIC: 0.03}
"""Added to it: radians or canonical units."""

LARGEST = {JointType.REVOLUTE: math.pi, JointType.PRISMATIC: 1.2}
"""Amounts are looked for up to these, in both directions."""

MIN_TOUCHED = 0.1
"""Opaque moving Gaussians about a start, of six at most, below which it touches nothing."""

NEAREST_DEPTH = 0.05
"""Points closer to the camera's plane count as arriving nowhere."""


def drag_anchors(
    output: Reading, inputs: NetworkInput
) -> tuple[Float[Tensor, "b d 3"], Float[Tensor, "b d 2"], Cameras, Bool[Tensor, "b d"]]:
    """Where the drags of a batch touch the part, and where they shall take it.

    Returns:
        Points of the part that are touched, canonical frame: on the ray of each start, as deep as the Gaussians about
        it; the ends of those drags, fractions of the image; the camera of each; and which of them count, as valid drags
        whose starts show opaque Gaussians that move.
    """
    drags, views = inputs.drags, inputs.view_valid.shape[1]
    side = math.isqrt(output.moving_logit.shape[1] // views)
    rows = torch.arange(len(drags.view), device=drags.view.device)[:, None]
    cameras = inputs.cameras[rows, drags.view]
    means = output.gaussians.means.unflatten(1, (views, side * side))[rows, drags.view]
    shown = (output.moving * output.gaussians.opacities).unflatten(1, (views, side * side))[rows, drags.view]
    centre = torch.arange(side, device=means.device) + 0.5
    x, y = centre.repeat(side), centre.repeat_interleave(side)
    near = torch.exp(-0.5 * ((x - side * drags.start[..., :1]) ** 2 + (y - side * drags.start[..., 1:]) ** 2))
    weight = near * shown
    depth = ((means - cameras.positions[..., None, :]) * cameras.T_world_camera[..., None, :3, 2]).sum(-1)
    total = weight.sum(-1)
    depth = (depth * weight).sum(-1) / total.clamp(min=1e-9)
    across = (drags.start - 0.5) * (depth * cameras.width / cameras.focal_px)[..., None]
    local = torch.cat([across, depth[..., None]], -1)
    points = transform_points(cameras.T_world_camera, local[..., None, :])[..., 0, :]
    return points, drags.end, cameras, drags.valid & (total > MIN_TOUCHED)


def constrain_to_drags(
    joints: JointBatch,
    points: Float[Tensor, "b d 3"],
    ends: Float[Tensor, "b d 2"],
    cameras: Cameras,
    touched: Bool[Tensor, "b d"],
) -> JointBatch:
    """The joints with the amounts that suit both the network's and the drags, each with its doubt (robustly).

    Args:
        joints: as read off the network's answer; axes and pivots stay, but for the axes' signs.
        points: touched points before the motion, in the joints' frames.
        ends: where they shall arrive, fractions of the image.
        cameras: [b, d] of the images that the drags are drawn in.
        touched: which drags count; a joint without one stays.
    """
    found = joints.amount.float()[:, None]

    def by_type(values: dict[JointType, float]) -> Float[Tensor, "b 1"]:
        return torch.where(joints.prismatic, values[JointType.PRISMATIC], values[JointType.REVOLUTE])[:, None]

    doubt = AMOUNT_SIGMA * found + by_type(MIN_AMOUNT_SIGMA)

    def cost(amounts: Float[Tensor, "b n"]) -> Float[Tensor, "b n"]:
        shape = amounts.shape
        axis, pivot = (way[:, None].expand(*shape, 3) for way in (joints.axis, joints.pivot))
        T = screw_motion(axis, pivot, amounts, joints.prismatic[:, None].expand(shape))
        moved = transform_points(T, points[:, None].expand(*shape, -1, -1))
        pixels, depth = cameras.project(moved.transpose(1, 2))
        missed = ((pixels / cameras.width - ends[..., None, :]).norm(dim=-1) / DRAG_SIGMA).clamp(max=1e3)
        missed = _robust(torch.where(depth > NEAREST_DEPTH, missed, 1e3))
        counted = torch.where(touched[..., None], missed, 0.0).sum(1) / touched.sum(1, keepdim=True).clamp(min=1)
        return counted + _robust((amounts - found) / doubt)

    step = by_type(LARGEST) / 360
    coarse = torch.arange(-360, 361, device=step.device) * step
    best = coarse.gather(1, cost(coarse).argmin(1, keepdim=True))
    fine = best + torch.linspace(-1, 1, 81, device=step.device) * step
    amount = fine.gather(1, cost(fine).argmin(1, keepdim=True))[:, 0].double()
    amount = torch.where(touched.any(1), amount, joints.amount)
    axis = torch.where(amount[:, None] >= 0, joints.axis, -joints.axis)
    return replace(joints, axis=axis, amount=amount.abs())


def _robust(doubts: Float[Tensor, "*shape"]) -> Float[Tensor, "*shape"]:
    """Quadratic up to about one doubt, linear beyond (pseudo-Huber)."""
    return torch.sqrt(doubts**2 + 1) - 1
