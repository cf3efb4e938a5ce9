"""The drag as a hint on how far a joint moved: the dragged points shall arrive where their drags end."""

import math
from dataclasses import replace

import torch
from jaxtyping import Float
from torch import Tensor

from partrm.articulation.estimate import EstimatedJoint
from partrm.articulation.kinematics import JointType
from partrm.cameras import Cameras
from partrm.data.samples import NetworkInput
from partrm.model.network import NetworkOutput
from partrm.transforms import screw_motion, transform_points

ARRIVAL_DOUBT = 0.02
"""How far off a dragged point may well arrive, fractions of an image that the object fills. With this (0.01 of images
twice as wide) and the next two the mean motion-error ratio of single images fell from .344 to .324 (45 motions of real
objects), from .326 to .299 (90 procedural ones)."""

AMOUNT_DOUBT = 0.2
"""How far off the network's amount may well be, as a share of it."""

LEAST_DOUBT = {JointType.REVOLUTE: 0.1, JointType.PRISMATIC: 0.03}
"""Added to it: radians or canonical units."""

LARGEST = {JointType.REVOLUTE: math.pi, JointType.PRISMATIC: 1.2}
"""Amounts are looked for up to these, in both directions."""

LEAST_TOUCHED = 0.1
"""Opaque moving Gaussians about a start, of six at most, below which it touches nothing."""

NEAREST_DEPTH = 0.05
"""Points closer to the camera's plane count as arriving nowhere."""


def touched_points(
    output: NetworkOutput, inputs: NetworkInput, sample: int
) -> tuple[Float[Tensor, "d 3"], Float[Tensor, "d 2"], Cameras]:
    """The valid drags of one sample whose starts show opaque Gaussians that move, on the CPU.

    Returns:
        Points of the part that are touched, canonical frame: on the ray of each start, as deep as the Gaussians about
        it; the ends of those drags, fractions of the image; the camera of each.
    """
    views = inputs.view_valid.shape[1]
    side = math.isqrt(output.moving.shape[1] // views)
    drags = inputs.drags[sample].to("cpu")
    start, end, view = drags.start[drags.valid], drags.end[drags.valid], drags.view[drags.valid]
    cameras = inputs.cameras[sample].to("cpu")[view]
    means = output.carriers.means[sample].cpu().unflatten(0, (views, side * side))[view]
    shown = (output.moving[sample] * output.carriers.opacities[sample]).cpu().unflatten(0, (views, side * side))[view]
    centre = torch.arange(side) + 0.5
    x, y = centre.repeat(side), centre.repeat_interleave(side)
    near = torch.exp(-0.5 * ((x - side * start[:, :1]) ** 2 + (y - side * start[:, 1:]) ** 2))
    weight = near * shown
    depth = ((means - cameras.positions[:, None]) * cameras.T_world_camera[:, None, :3, 2]).sum(-1)
    total = weight.sum(1)
    touched = total > LEAST_TOUCHED
    depth = (depth * weight).sum(1) / total.clamp(min=1e-9)
    across = (start - 0.5) * (depth * cameras.width / cameras.focal_px)[:, None]
    local = torch.cat([across, depth[:, None]], 1)
    points = transform_points(cameras.T_world_camera, local[:, None])[:, 0]
    return points[touched], end[touched], cameras[touched]


def agreed_with_drags(
    joint: EstimatedJoint, points: Float[Tensor, "d 3"], ends: Float[Tensor, "d 2"], cameras: Cameras
) -> EstimatedJoint:
    """The joint with the amount that suits both the network's and the drags, each with its doubt (robustly).

    Args:
        joint: as read off the network's answer; its axis and pivot stay, but for the axis' sign.
        points: touched points before the motion, in the joint's frame; none leave the joint as it is.
        ends: where they shall arrive, fractions of the image.
        cameras: [d] of the images that the drags are drawn in.
    """
    if len(points) == 0:
        return joint
    doubt = AMOUNT_DOUBT * joint.amount + LEAST_DOUBT[joint.type]
    prismatic = torch.tensor(joint.type == JointType.PRISMATIC)

    def cost(amounts: Float[Tensor, " n"]) -> Float[Tensor, " n"]:
        n = len(amounts)
        T = screw_motion(joint.axis.expand(n, 3), joint.pivot.expand(n, 3), amounts, prismatic.expand(n))
        moved = transform_points(T, points.expand(n, -1, -1))
        pixels, depth = cameras.project(moved.transpose(0, 1))
        missed = ((pixels / cameras.width - ends[:, None]).norm(dim=-1) / ARRIVAL_DOUBT).clamp(max=1e3)
        missed = torch.where(depth > NEAREST_DEPTH, missed, 1e3)
        return _robust(missed).mean(0) + _robust((amounts - joint.amount) / doubt)

    step = LARGEST[joint.type] / 360
    coarse = torch.arange(-360, 361) * step
    best = coarse[cost(coarse).argmin()]
    fine = best + torch.linspace(-1, 1, 81) * step
    amount = float(fine[cost(fine).argmin()])
    return replace(joint, axis=joint.axis if amount >= 0 else -joint.axis, amount=abs(amount))


def _robust(doubts: Float[Tensor, "*shape"]) -> Float[Tensor, "*shape"]:
    """Quadratic up to about one doubt, linear beyond (pseudo-Huber)."""
    return torch.sqrt(doubts**2 + 1) - 1
