"""Objects of several movable parts in pictures, and which parts each picture shows."""

import math
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from partrm.evaluation.mesh_samples import MASK_BOX_PX, canonical_framing
from partrm.geometry.cameras import crop_cameras, mask_boxes
from partrm.geometry.joints import JointMotion, JointType
from partrm.geometry.transforms import transform_points
from partrm.objects.articulated_object import ArticulatedObject
from partrm.rendering.meshes import MeshScene, material_table, render_meshes, trace_surfaces
from partrm.synthesis.posed_scenes import framed_as_cropped, joint_truth, pose_batch, silhouettes
from partrm.synthesis.scenarios import JointTables, Scenario, first_view

MULTI_PART = (
    "cabinet", "mixed_cabinet", "drawers", "sliding_cabinet", "chest", "desk", "refrigerator", "oven",
    "kitchen_refrigerator", "kitchen_range", "kitchen_base_cabinet", "kitchen_wall_cabinet", "kitchen_sink_cabinet",
    "kitchen_recursive_cabinet", "kitchen_island", "window",
)  # fmt: skip
"""Categories whose objects mostly have several parts."""

MIN_SHOWN = 0.01
"""Least share of the picture that a part must fill to count."""

ANGLE_RAD, SHIFT = 0.7, 0.3
"""How far hinges and slides are opened that tell directions, radians and canonical units."""


@dataclass(frozen=True)
class TruePart:
    """One part that moves and that the picture shows."""

    mask: Bool[Tensor, "side side"]
    """What of the picture's splats it carries, parts on it too."""
    joint: JointMotion
    """Canonical frame of the picture's crop; towards the farther end of its range."""


@dataclass(frozen=True)
class Scene:
    """A picture of an object, cropped about it, and what moves in it."""

    name: str
    picture: Float[Tensor, "4 size size"]
    parts: tuple[TruePart, ...]
    owner: Int[Tensor, "side side"]
    """Which part, from 0, each splat is of, of parts on parts the smaller; -1 what stays."""
    displacement: Float[Tensor, "side side 3"]
    """Where it goes when its part opens a little, canonical units."""


def pictured(
    obj: ArticulatedObject, generator: torch.Generator, size_px: int, side: int, augment: bool = False
) -> Scene:
    """An object in a random state (seven joints of ten closed) before a random camera.

    Args:
        obj: what is pictured.
        generator: on the CPU.
        size_px: of the picture.
        side: of its grid of splats.
        augment: whether light and labels are random, as in training.
    """
    scene, tables, materials = MeshScene.from_objects([obj]), JointTables.from_objects([obj]), material_table([obj])
    limits, closed = torch.as_tensor(obj.joint_limits).float(), torch.from_numpy(obj.closed_q()).float()
    draw = torch.rand(2 * len(closed) + 2, generator=generator)
    opened = limits[:, 0] + (limits[:, 1] - limits[:, 0]) * draw[: len(closed)]
    q = torch.where(draw[len(closed) : -2] < 0.3, opened, closed)
    movable = torch.tensor(obj.movable)
    k = len(movable)
    targets = q.repeat(k, 1)
    span = limits[movable]
    farther = torch.where(span[:, 1] - q[movable] > q[movable] - span[:, 0], span[:, 1], span[:, 0])
    targets[torch.arange(k), movable] = farther
    azimuth, elevation = (math.radians(float(a + (b - a) * u)) for a, b, u in ((-60, 60, draw[-2]), (8, 40, draw[-1])))
    zeros = torch.zeros(k, dtype=torch.long)
    scenario = Scenario(zeros, movable, q.repeat(k, 1), targets)
    framing = canonical_framing(torch.full((k,), azimuth), torch.full((k,), elevation))
    first = first_view(k, MASK_BOX_PX, "cpu")
    posed = pose_batch(scene, tables, scenario, framing, first, materials[zeros], augment, generator)
    cameras = framing.cameras_to_object(first)
    box = mask_boxes(silhouettes(scene, posed[[0]], cameras[[0]]))
    posed = framed_as_cropped(posed, crop_cameras(cameras, box.expand(k, -1, -1))[:, 0])
    shown, instances = posed.framing.cameras_to_object(posed.first), posed.instances[[0]]
    picture = render_meshes(scene, instances, shown[[0]].resized(size_px), posed.lights[[0]])[0, 0]
    maps = trace_surfaces(scene, instances, shown[[0]].resized(side))
    slot = maps.part[0, 0].long()
    masks = posed.carried[:, slot.clamp(min=0)] & (slot >= 0)
    truth = joint_truth(tables, posed)
    parts = [
        TruePart(masks[row], JointMotion(JointType(int(truth.type[row])), truth.axis[row], truth.pivot[row],
                                         float(truth.amount[row]), 1.0))
        for row in range(k)
        if float(masks[row].float().mean()) >= MIN_SHOWN
    ]  # fmt: skip
    points = posed.framing[[0]].points_to_canonical(maps.point_world[0, 0].reshape(1, -1, 3)).reshape(side, side, 3)
    owner, displacement = torch.full((side, side), -1), torch.zeros(side, side, 3)
    for number in sorted(range(len(parts)), key=lambda n: -int(parts[n].mask.sum())):
        part = parts[number]
        owner[part.mask] = number
        amount = math.copysign(ANGLE_RAD if part.joint.type == JointType.REVOLUTE else SHIFT, part.joint.amount)
        T = JointMotion(part.joint.type, part.joint.axis, part.joint.pivot, amount, 1.0).T_after_before
        own = points[part.mask]
        displacement[part.mask] = transform_points(T, own) - own
    return Scene(obj.name, picture, tuple(parts), owner, displacement)
