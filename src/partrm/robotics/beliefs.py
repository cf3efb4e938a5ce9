"""What an arm believes of an object: a prediction in the robot's world, or, to compare, the truth."""

import math
from collections.abc import Callable

import numpy as np
import torch
from jaxtyping import Bool, Float

from partrm.assets.asset import Asset
from partrm.evaluation.samples import OPAQUE
from partrm.geometry.framing import Framing
from partrm.geometry.gaussians import Gaussians
from partrm.geometry.joints import JointMotion, JointType
from partrm.geometry.transforms import matrix_from_quaternion
from partrm.inference.prediction import Prediction
from partrm.inference.trajectory import TrajectoryError, gripper_at
from partrm.model.inputs import NetworkInput
from partrm.robotics.arm_plan import BelievedObject
from partrm.robotics.simulated_object import Task, triangle_areas
from partrm.synthesis.surface_points import sample_triangles

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

    held = prediction.trajectory(2).T_frame_gripper[0, :3, 3]
    eye = prediction.source.cameras.positions[0]
    return _believed((prediction.before, prediction.moving, prediction.joint), held, eye, placed, R, unit_m)


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
    R, unit_m = framing.R_canonical_object.mT.double().numpy(), diagonal_m / float(framing.scale)

    def placed(points: torch.Tensor) -> np.ndarray:
        return unit_m * points.double().numpy() @ R.T + diagonal_m * framing.target.double().numpy()

    try:
        held = gripper_at(gaussians, moving, joint, camera, pixel)[:3, 3]
    except TrajectoryError:
        held, moving = torch.zeros(3), torch.zeros_like(moving)
    return _believed((gaussians, moving, joint), held, camera.positions, placed, R, unit_m)


def _believed(
    answer: tuple[Gaussians, Bool[torch.Tensor, " n"], JointMotion],
    held: Float[torch.Tensor, "3"],
    eye: Float[torch.Tensor, "3"],
    placed: Callable[[torch.Tensor], np.ndarray],
    R: Float[np.ndarray, "3 3"],
    unit_m: float,
) -> BelievedObject:
    """An answer in the canonical frame, brought to another by a similarity.

    Args:
        answer: Gaussians, which are the part's, and the joint.
        held: the point of the part that the drag starts on.
        eye: where the camera stands.
        placed: carries points [n, 3] by the similarity.
        R: its rotation.
        unit_m: its scale, metres of a canonical unit.
    """
    gaussians, moving, joint = answer
    shown = gaussians.opacities > OPAQUE
    surface = disc_points(gaussians[shown])
    axis = math.copysign(1.0, joint.amount) * R @ joint.axis.double().numpy()
    return BelievedObject(
        points=placed(surface),
        moving=np.repeat(moving[shown].numpy(), len(surface) // max(1, int(shown.sum()))),
        start=placed(held[None])[0],
        joint=joint.type,
        axis=axis / np.linalg.norm(axis),
        pivot=placed(joint.pivot[None])[0],
        amount=abs(joint.amount) * (unit_m if joint.type == JointType.PRISMATIC else 1.0),
        seen_from=placed(eye[None])[0],
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
    generator, points, moving = torch.Generator().manual_seed(seed), [], []
    for number, (part, vertices) in enumerate(
        zip(task.object.parts, task.object.posed_vertices(task.q_source), strict=True)
    ):
        if len(part.faces):
            count = math.ceil(triangle_areas(vertices, part.faces).sum() / SURFACE_M**2)
            found, _ = sample_triangles(torch.from_numpy(vertices[part.faces]).float(), count, generator)
            points.append(found.double().numpy())
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
