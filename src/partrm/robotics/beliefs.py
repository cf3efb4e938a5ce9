"""What an arm believes of an object: a prediction in the robot's world, or, to compare, the truth."""

import numpy as np
import torch

from partrm.assets.asset import Asset
from partrm.evaluation.samples import OPAQUE
from partrm.geometry.framing import Framing, joint_to_object
from partrm.geometry.gaussians import Gaussians
from partrm.geometry.joints import JointMotion, JointType
from partrm.geometry.transforms import matrix_from_quaternion
from partrm.inference.prediction import Prediction
from partrm.inference.trajectory import TrajectoryError, gripper_at
from partrm.model.inputs import NetworkInput
from partrm.robotics.arm_plan import BelievedObject
from partrm.robotics.simulated_object import Task

SURFACE_M = 0.003
"""Distance of the points that stand for a true surface, about."""


def believed_asset(prediction: Prediction, asset: Asset) -> BelievedObject:
    """A prediction in the frame of the asset that was made of it: metres, z up.

    Raises:
        TrajectoryError: nothing opaque moves.
    """
    R, unit_m = asset.orientation.R_asset_canonical, asset.metres_per_unit

    def placed(points: torch.Tensor) -> np.ndarray:
        return unit_m * (points.double().numpy() - asset.origin_canonical) @ R.T

    shown = prediction.before.opacities > OPAQUE
    surface, joint = disc_points(prediction.before[shown]), prediction.joint
    return BelievedObject(
        points=placed(surface),
        moving=np.repeat(prediction.moving[shown].numpy(), len(surface) // max(1, int(shown.sum()))),
        start=placed(prediction.trajectory(2).T_frame_gripper[0, :3, 3][None])[0],
        joint=joint.type,
        axis=np.sign(joint.amount) * R @ joint.axis.double().numpy(),
        pivot=placed(joint.pivot[None])[0],
        amount=abs(joint.amount) * (unit_m if joint.type == JointType.PRISMATIC else 1.0),
        seen_from=placed(prediction.source.cameras.positions[:1])[0],
    )


def as_believed(
    gaussians: Gaussians,
    moving: torch.Tensor,
    joint: JointMotion,
    inputs: NetworkInput,
    row: int,
    framing: Framing,
    diagonal_m: float,
) -> BelievedObject:
    """A prediction in the object's frame, metres.

    Args:
        gaussians: [n] canonical frame.
        moving: [n] which are the part's.
        joint: canonical frame.
        inputs: what the network saw.
        row: of the inputs.
        framing: of the canonical frame, as a calibrated camera and the object's size give it.
        diagonal_m: metres of an object unit.
    """
    camera = inputs.cameras[row][0].to("cpu")
    pixel = inputs.drags.start[row, 0].cpu() * camera.width
    in_object = joint_to_object(framing, joint)
    inverse = framing.R_canonical_object.mT / framing.scale

    def placed(points: torch.Tensor) -> np.ndarray:
        return (points.float() @ inverse.mT + framing.target).double().numpy() * diagonal_m

    shown = gaussians.opacities > OPAQUE
    surface = disc_points(gaussians[shown])
    try:
        held = gripper_at(gaussians, moving, joint, camera, pixel)[:3, 3]
    except TrajectoryError:
        held, moving = torch.zeros(3), torch.zeros_like(moving)
    sense = 1.0 if in_object.amount >= 0 else -1.0
    axis = in_object.axis.double().numpy()
    slides = in_object.type == JointType.PRISMATIC
    return BelievedObject(
        points=placed(surface),
        moving=np.repeat(moving[shown].numpy(), len(surface) // max(1, int(shown.sum()))),
        start=placed(held[None])[0],
        joint=in_object.type,
        axis=sense * axis / np.linalg.norm(axis),
        pivot=in_object.pivot.double().numpy() * diagonal_m,
        amount=abs(in_object.amount) * (diagonal_m if slides else 1.0),
        seen_from=placed(camera.positions[None])[0],
    )


def disc_points(gaussians: Gaussians) -> torch.Tensor:
    """[4 n, 3] points all over Gaussians [n], a standard deviation apart along their two long axes: no finger fits
    between two points of a surface."""
    R = matrix_from_quaternion(gaussians.quats)
    order = gaussians.scales.argsort(-1, descending=True)[:, :2]
    long = torch.take_along_dim(R * gaussians.scales[:, None], order[:, None].expand(-1, 3, -1), 2)
    steps = torch.cartesian_prod(*[torch.tensor([-0.5, 0.5])] * 2)
    return (gaussians.means[:, None] + steps @ long.mT).reshape(-1, 3)


def true_object(task: Task, start: np.ndarray, seen_from: np.ndarray, seed: int) -> BelievedObject:
    """All that could be known: points all over the true surface, and the true joint.

    Args:
        task: the object, metres.
        start: point of the part that the drag starts on.
        seen_from: where the camera stands.
        seed: of the points.
    """
    rng, points, moving = np.random.default_rng(seed), [], []
    for number, (part, vertices) in enumerate(
        zip(task.object.parts, task.object.posed_vertices(task.q_source), strict=True)
    ):
        if not len(part.faces):
            continue
        a, b, c = vertices[part.faces].transpose(1, 0, 2)
        area = 0.5 * np.linalg.norm(np.cross(b - a, c - a), axis=1)
        count = int(np.ceil(area.sum() / SURFACE_M**2))
        face = rng.choice(len(area), count, p=area / area.sum())
        u, v = rng.random((2, count, 1))
        u, v = np.where(u + v > 1, 1 - u, u), np.where(u + v > 1, 1 - v, v)
        points.append(a[face] + u * (b - a)[face] + v * (c - a)[face])
        moving.append(np.full(count, task.body_of(number) == task.part))
    joint = task.joint_at_source(task.part)
    return BelievedObject(
        points=np.concatenate(points),
        moving=np.concatenate(moving),
        start=start,
        joint=joint.type,
        axis=np.sign(task.span) * np.array(joint.axis),
        pivot=np.array(joint.pivot),
        amount=abs(task.span),
        seen_from=seen_from,
    )
