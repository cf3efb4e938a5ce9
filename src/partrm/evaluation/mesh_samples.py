"""Samples of known meshes: whatever the network and the scoring need is ray-cast from them."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from partrm.evaluation.baselines import true_surfaces
from partrm.evaluation.eval_set import EvalSet
from partrm.evaluation.planning import canonical_framing
from partrm.evaluation.samples import DRAG_SIZE_PX, SURFACE_POINTS, EvalBatch, FirstViews, InputFraming, RunSettings
from partrm.evaluation.scoring import GroundTruth
from partrm.geometry.cameras import CANONICAL_FOVY_RAD, Cameras, canonical_orbit, orbit_poses
from partrm.geometry.drags import MAX_DRAGS, Drags
from partrm.geometry.joints import JointMotion, JointType
from partrm.geometry.transforms import pose, transform_points
from partrm.metrics.images import composite_on_white
from partrm.model.inputs import VIEWS, NetworkInput
from partrm.rendering.meshes import MeshScene, render_meshes, trace_surfaces
from partrm.synthesis.posed_scenes import (
    PosedBatch,
    joint_truth,
    mask_box_framing,
    moved_instances,
    moving_mask,
    pose_batch,
    render_states,
)
from partrm.synthesis.scenarios import Framing, first_view, turned_cameras

NOVEL_VIEWS = 8
NOVEL_ELEVATION_DEG = 20.0

MASK_BOX_PX = 256
"""Side of the images that outlines are read off."""

MASK_BOX_ROUNDS = 3
"""What two give ``images.frame_object`` would scale by up to 2.9 % more, what three give by 0.8 % (45 real samples)."""


@dataclass(frozen=True)
class MeshSamples:
    """A set of meshes on the device where it is rendered."""

    evalset: EvalSet
    scene: MeshScene

    @staticmethod
    def of(evalset: EvalSet, device: torch.device | str) -> "MeshSamples":
        return MeshSamples(evalset, evalset.scene.scene(device))

    @property
    def device(self) -> torch.device:
        return self.scene.device

    def posed(self, rows: Sequence[int], framing: InputFraming = "canonical") -> PosedBatch:
        """The source states of some samples under the reference's light.

        With ``outline``, first views look from the same direction, but at the middle of the outline that they show and
        from where it has the size that ``partrm predict`` gives to an image of unknown camera.
        """
        plan = self.evalset.plan[list(rows)].to(self.device)
        true = canonical_framing(plan.azimuth_rad, plan.elevation_rad)
        tables = self.evalset.tables.to(self.device)
        materials = self.evalset.materials.to(self.device)[plan.object]
        generator = torch.Generator(self.device)
        posed = pose_batch(self.scene, tables, plan.scenario, true, materials, False, generator)
        if framing == "canonical":
            return posed

        def shows(cameras: Cameras) -> Bool[Tensor, "b h w"]:
            return render_meshes(self.scene, posed.instances, cameras, posed.lights, shadows=False)[:, 0, 3] > 0.5

        return replace(posed, framing=mask_box_framing(true, MASK_BOX_PX, MASK_BOX_ROUNDS, shows))

    def inputs(self, numbers: Sequence[int], settings: RunSettings, size_px: int) -> NetworkInput:
        """What the network sees of some samples."""
        return network_input(self, self.posed(numbers, settings.framing), numbers, settings, size_px)

    def batch(self, numbers: Sequence[int], settings: RunSettings, size_px: int) -> EvalBatch:
        """Inputs at ``size_px``, truths, cameras around and true surfaces of some samples."""
        posed = self.posed(numbers, settings.framing)
        inputs = network_input(self, posed, numbers, settings, size_px)
        cameras = novel_cameras(posed, self.evalset.plan.azimuth_rad[list(numbers)], settings.novel_size_px)
        truths = truths_of(self, posed, numbers, settings, cameras, size_px // 2)
        surface = true_surfaces(self.scene, posed, inputs.cameras)
        rows = range(len(numbers))
        return EvalBatch(
            inputs, tuple(truths), tuple(cameras[row] for row in rows), tuple(surface[row] for row in rows)
        )

    def first_views(self, numbers: Sequence[int], settings: RunSettings, size_px: int) -> FirstViews:
        """Both states as the first camera sees them."""
        posed = self.posed(numbers, settings.framing)
        cameras = first_view(len(numbers), size_px, self.device)
        states = render_states(self.scene, posed, cameras)
        before, after = composite_on_white(states.before)[:, 0], composite_on_white(states.after)[:, 0]
        return FirstViews(cameras[:, 0], before, after)

    def describe(self, number: int) -> dict[str, Any]:
        """What a sample is, as the first columns of its row."""
        evalset = self.evalset
        index, part = int(evalset.plan.object[number]), int(evalset.plan.part[number])
        kind = int(evalset.tables.joint_type[index, part])
        turns = kind in (JointType.REVOLUTE, JointType.CONTINUOUS)
        return {
            "sample": number,
            "object": evalset.object_names[index],
            "category": evalset.categories[index],
            "part": part,
            "transition": evalset.transitions[number],
            "joint_type": "revolute" if turns else "prismatic",
            "amount": float(evalset.plan.q_target[number, part] - evalset.plan.q_source[number, part]),
        }


def about_the_object(framing: Framing, cameras: Cameras) -> Cameras:
    """Cameras [b, views] of canonical framings, moved to where they take the same pictures of the object in others.

    Whatever is scored is seen from these: however an input image is framed, its sample is judged by the same true
    images and by drags in the same pixels. About the origin of its framing instead, an object framed larger would fill
    more of the images that PSNR and SSIM are means over, and the same error of shape would cost more.
    """
    centre = framing.points_to_canonical(torch.zeros_like(framing.target)[:, None])
    T = cameras.T_world_camera.clone()
    T[..., :3, 3] = framing.scale[:, None, None] * T[..., :3, 3] + centre
    return replace(cameras, T_world_camera=T)


def input_cameras(posed: PosedBatch, views: int, size_px: int) -> tuple[Cameras, Bool[Tensor, "b v"]]:
    """[b, 4] canonical-frame cameras, the first ``views`` present; absent ones are those of the canonical orbit."""
    b, device = len(posed.framing.scale), posed.framing.scale.device
    number = torch.arange(VIEWS, device=device)
    up = posed.framing.R_canonical_object[:, None, :, 2].expand(b, VIEWS, 3)
    turned = turned_cameras(first_view(b, size_px, device), up, (number * (math.pi / 2)).expand(b, VIEWS))
    absent = canonical_orbit(VIEWS, size_px, device).T_world_camera.expand(b, VIEWS, 4, 4)
    valid = (number < views).expand(b, VIEWS)
    T = torch.where(valid[..., None, None], turned.T_world_camera, absent)
    return Cameras(T, turned.fovy_rad, size_px, size_px), valid


def network_input(
    stage: MeshSamples, posed: PosedBatch, numbers: Sequence[int], settings: RunSettings, size_px: int
) -> NetworkInput:
    """What the network sees of some samples."""
    cameras, valid = input_cameras(posed, settings.views, size_px)
    shown = posed.framing.cameras_to_object(cameras)[:, : settings.views]
    images = render_meshes(stage.scene, posed.instances, shown, posed.lights)
    images = torch.nn.functional.pad(images, (0, 0, 0, 0, 0, 0, 0, VIEWS - settings.views))
    points = drag_points(stage, posed, numbers, MAX_DRAGS)
    first = cameras[:, 0]
    start, _ = first.project(points)
    end, _ = first.project(transform_points(posed.framing.motion_to_canonical(posed.T_motion), points))
    given = torch.arange(MAX_DRAGS, device=stage.device) < settings.drags
    view = torch.zeros(start.shape[:2], dtype=torch.long, device=stage.device)
    drags = Drags(start / size_px, end / size_px, view, given.expand(view.shape))
    return NetworkInput(images, cameras, valid, drags)


def drag_points(
    stage: MeshSamples, posed: PosedBatch, numbers: Sequence[int], count: int
) -> Float[Tensor, "b count 3"]:
    """The planned drag points of some samples, canonical frame."""
    return posed.framing.points_to_canonical(stage.evalset.plan.drag_point[list(numbers), :count].to(stage.device))


def novel_cameras(posed: PosedBatch, azimuth_rad: Float[Tensor, " b"], size_px: int) -> Cameras:
    """[b, 8] canonical-frame cameras all around, the first 22.5 degrees beside the input view.

    About the object's true centre, 2.4 of its diagonals away, whatever the framing (:func:`about_the_object`).
    """
    step = 2 * math.pi / NOVEL_VIEWS
    R = posed.framing.R_canonical_object
    azimuth = azimuth_rad.to(R.device)[:, None] + step * (torch.arange(NOVEL_VIEWS, device=R.device) + 0.5)
    elevation = torch.full_like(azimuth, math.radians(NOVEL_ELEVATION_DEG))
    T_canonical_object = pose(R, torch.zeros_like(R[..., 0]))[:, None]
    T = T_canonical_object @ orbit_poses(azimuth, elevation)
    around = Cameras(T, torch.full_like(azimuth, CANONICAL_FOVY_RAD), size_px, size_px)
    return about_the_object(posed.framing, around)


def truths_of(
    stage: MeshSamples,
    posed: PosedBatch,
    numbers: Sequence[int],
    settings: RunSettings,
    cameras: Cameras,
    splat_px: int,
) -> list[GroundTruth]:
    """The truths of some samples; images from ``cameras`` [b, views], masks of the first view at ``splat_px``."""
    joint = joint_truth(stage.evalset.tables.to(stage.device), posed)
    first = posed.framing.cameras_to_object(first_view(len(numbers), splat_px, stage.device))
    part_mask = moving_mask(trace_surfaces(stage.scene, posed.instances, first), posed.carried)[:, 0].cpu()
    states = render_states(stage.scene, posed, cameras)
    before, after = composite_on_white(states.before), composite_on_white(states.after)
    around = posed.framing.cameras_to_object(cameras)
    moved = [
        moving_mask(trace_surfaces(stage.scene, instances, around), posed.carried)
        for instances in (posed.instances, moved_instances(posed))
    ]
    points = drag_points(stage, posed, numbers, settings.drags).cpu()
    surface = surface_points(stage.evalset, posed, numbers)
    views = about_the_object(posed.framing, first_view(len(numbers), DRAG_SIZE_PX, stage.device))[:, 0].to("cpu")
    return [
        GroundTruth(
            part_mask=part_mask[row],
            points=surface[row],
            joint=JointMotion(
                JointType(int(joint.type[row])),
                joint.axis[row].cpu(),
                joint.pivot[row].cpu(),
                float(joint.amount[row]),
                1.0,
            ),
            T_after_before=joint.T_after_before[row].cpu(),
            drag_points=points[row],
            camera=views[row],
            diagonal=float(posed.framing.scale[row]),
            before=before[row],
            after=after[row],
            moved=moved[0][row] | moved[1][row],
        )
        for row in range(len(numbers))
    ]


def surface_points(evalset: EvalSet, posed: PosedBatch, numbers: Sequence[int]) -> Float[Tensor, "b p 3"]:
    """Points spread evenly over the whole surface of all that moves, source state, canonical frame, on the CPU."""
    arrays, found = evalset.scene, []
    assert bool((arrays.face_part.diff() >= 0).all()), "faces must be in the order of their parts"
    for row, number in enumerate(numbers):
        slots = posed.carried[row].nonzero()[:, 0].cpu()
        parts = posed.instances.part[row].cpu()[slots].to(arrays.face_part.dtype)
        first, last = (torch.searchsorted(arrays.face_part, parts, right=right).tolist() for right in (False, True))
        face = torch.cat([torch.arange(a, b) for a, b in zip(first, last, strict=True)])
        generator = torch.Generator().manual_seed(number)
        points, of_face = sample_surface(arrays.vertices[arrays.faces[face].long()], SURFACE_POINTS, generator)
        slot = slots[torch.searchsorted(parts, arrays.face_part[face][of_face])]
        T = posed.instances.T_world_part[row].cpu()[slot]
        found.append((T[:, :3, :3] @ points[..., None]).squeeze(-1) + T[:, :3, 3])
    return posed.framing.points_to_canonical(torch.stack(found).to(posed.T_motion.device)).cpu()


def sample_surface(
    corners: Float[Tensor, "f 3 3"], count: int, generator: torch.Generator
) -> tuple[Float[Tensor, "count 3"], Int[Tensor, " count"]]:
    """Points uniform over the area of some triangles, and the triangle of each."""
    edges = corners[:, 1:] - corners[:, :1]
    area = torch.cross(edges[:, 0], edges[:, 1], dim=-1).norm(dim=-1).double()
    of_face = torch.multinomial(area, count, replacement=True, generator=generator)
    u, v = torch.rand(2, count, generator=generator)
    folded = u + v > 1
    u, v = torch.where(folded, 1 - u, u), torch.where(folded, 1 - v, v)
    chosen = edges[of_face]
    return corners[of_face, 0] + u[:, None] * chosen[:, 0] + v[:, None] * chosen[:, 1], of_face
