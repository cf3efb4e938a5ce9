"""Samples of known meshes: whatever the network and the scoring need is ray-cast from them."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from partrm.articulation.estimate import EstimatedJoint
from partrm.articulation.kinematics import JointType
from partrm.cameras import (
    ABSENT_FOVY_RAD,
    CANONICAL_FOVY_RAD,
    INPUT_FOVY_RAD,
    Cameras,
    canonical_orbit,
    cropped_to,
    filled_frame,
    orbit_poses,
)
from partrm.data.online import (
    PosedBatch,
    joint_truth,
    moved_instances,
    moving_mask,
    outline_framing,
    pose_batch,
    render_states,
)
from partrm.data.posed_views import box_of
from partrm.data.samples import VIEWS, NetworkInput
from partrm.data.scenarios import Framing, first_view, turned_cameras
from partrm.drags import MAX_DRAGS, Drags
from partrm.evaluate.baselines import true_surfaces
from partrm.evaluate.batches import DRAG_SIZE_PX, SURFACE_POINTS, EvalBatch, FirstViews, InputFraming, RunSettings
from partrm.evaluate.planning import canonical_framing
from partrm.evaluate.scoring import Truth
from partrm.evaluate.sets import EvalSet
from partrm.metrics import composite_on_white
from partrm.rendering.meshes import MeshScene, render_meshes, trace_surfaces
from partrm.transforms import pose, transform_points

NOVEL_VIEWS = 8
NOVEL_ELEVATION_DEG = 20.0

OUTLINE_PX = 256
"""Side of the images that outlines are read off."""

OUTLINE_ROUNDS = 3
"""What two give ``images.frame_object`` would scale by up to 2.9 % more, what three give by 0.8 % (45 real samples)."""


@dataclass(frozen=True)
class MeshStage:
    """A set of meshes on the device where it is rendered."""

    evalset: EvalSet
    scene: MeshScene

    @staticmethod
    def of(evalset: EvalSet, device: torch.device | str) -> "MeshStage":
        return MeshStage(evalset, evalset.scene.scene(device))

    @property
    def device(self) -> torch.device:
        return self.scene.device

    def posed(self, rows: Sequence[int], framing: InputFraming = "canonical") -> PosedBatch:
        """The source states of some samples under the reference's light.

        With ``outline``, first views look from the same direction, but at the middle of the outline that they show and
        from where it has the size that ``partrm predict`` gives to an image of unknown camera. With ``canonical`` the
        frame is the canonical camera's; what the network sees of it, and in which frame, :meth:`seen` says.
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

        return replace(posed, framing=outline_framing(true, OUTLINE_PX, OUTLINE_ROUNDS, shows))

    def seen(
        self, numbers: Sequence[int], settings: RunSettings, size_px: int
    ) -> tuple[PosedBatch, Cameras, Bool[Tensor, "b v"]]:
        """Some samples in the frames that the network answers in, its input cameras [b, 4], and which are present.

        Of images with the canonical camera, and of several views, the network sees the squares that the objects fill,
        from cameras in the same places turned towards them, and answers in the first one's frame.
        """
        posed = self.posed(numbers, settings.framing)
        if settings.framing == "outline":
            return posed, *input_cameras(posed, settings.views, size_px)
        whole, _ = input_cameras(posed, settings.views, OUTLINE_PX, CANONICAL_FOVY_RAD)
        given = posed.framing.cameras_to_object(whole[:, : settings.views])
        shown = render_meshes(self.scene, posed.instances, given, posed.lights, shadows=False)[:, :, 3] > 0.5
        left_top, right_bottom = box_of(shown)
        cropped = cropped_to(whole[:, : settings.views], left_top * OUTLINE_PX, right_bottom * OUTLINE_PX)
        cameras, T_frame_canonical, scale = filled_frame(cropped)
        framing = reframed(posed.framing, T_frame_canonical, scale)
        return replace(posed, framing=framing), *with_absent(cameras.resized(size_px))

    def inputs(self, numbers: Sequence[int], settings: RunSettings, size_px: int) -> NetworkInput:
        """What the network sees of some samples."""
        return network_input(self, *self.seen(numbers, settings, size_px), numbers, settings)

    def batch(self, numbers: Sequence[int], settings: RunSettings, size_px: int) -> EvalBatch:
        """Inputs at ``size_px``, truths, cameras around and true surfaces of some samples."""
        posed, given, valid = self.seen(numbers, settings, size_px)
        inputs = network_input(self, posed, given, valid, numbers, settings)
        cameras = novel_cameras(posed, self.evalset.plan.azimuth_rad[list(numbers)], settings.novel_size_px)
        truths = truths_of(self, posed, numbers, settings, cameras, given[:, :1].resized(size_px // 2))
        surface = true_surfaces(self.scene, posed, inputs.cameras)
        rows = range(len(numbers))
        return EvalBatch(
            inputs, tuple(truths), tuple(cameras[row] for row in rows), tuple(surface[row] for row in rows)
        )

    def first_views(self, numbers: Sequence[int], settings: RunSettings, size_px: int) -> FirstViews:
        """Both states as the first camera sees them."""
        posed, given, _ = self.seen(numbers, settings, size_px)
        cameras = given[:, :1]
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


def cameras_to_canonical(framing: Framing, cameras: Cameras) -> Cameras:
    """Object-frame cameras [b, views] in the canonical frames (inverse of :meth:`Framing.cameras_to_object`)."""
    R = framing.R_canonical_object[:, None] @ cameras.T_world_camera[..., :3, :3]
    return replace(cameras, T_world_camera=pose(R, framing.points_to_canonical(cameras.positions)))


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


def reframed(framing: Framing, T: Float[Tensor, "b 4 4"], scale: Float[Tensor, " b"]) -> Framing:
    """Framings whose frames are reached from those of others by a scaling about the origin, then by rigid motions."""
    R = T[:, :3, :3]
    back = (R.mT @ T[:, :3, 3:])[..., 0]
    moved = (framing.R_canonical_object.mT @ back[..., None])[..., 0] / (scale * framing.scale)[:, None]
    return Framing(R @ framing.R_canonical_object, framing.target - moved, framing.scale * scale)


def with_absent(cameras: Cameras) -> tuple[Cameras, Bool[Tensor, "b v"]]:
    """Present cameras [b, k] followed by those of absent views, [b, 4], and which are present."""
    b, present = cameras.batch_shape
    absent = canonical_orbit(VIEWS, cameras.width, cameras.device, ABSENT_FOVY_RAD)[present:]
    T = torch.cat([cameras.T_world_camera, absent.T_world_camera.expand(b, -1, 4, 4)], 1)
    fovy = torch.cat([cameras.fovy_rad, absent.fovy_rad.expand(b, -1)], 1)
    valid = (torch.arange(VIEWS, device=cameras.device) < present).expand(b, VIEWS)
    return Cameras(T, fovy, cameras.width, cameras.height), valid


def input_cameras(
    posed: PosedBatch, views: int, size_px: int, fovy_rad: float = INPUT_FOVY_RAD
) -> tuple[Cameras, Bool[Tensor, "b v"]]:
    """[b, 4] canonical-frame cameras, the first ``views`` present, 90 degrees apart; absent ones are as in training."""
    b, device = len(posed.framing.scale), posed.framing.scale.device
    number = torch.arange(views, device=device)
    up = posed.framing.R_canonical_object[:, None, :, 2].expand(b, views, 3)
    first = first_view(b, size_px, device, fovy_rad)
    return with_absent(turned_cameras(first, up, (number * (math.pi / 2)).expand(b, views)))


def network_input(
    stage: MeshStage,
    posed: PosedBatch,
    cameras: Cameras,
    valid: Bool[Tensor, "b v"],
    numbers: Sequence[int],
    settings: RunSettings,
) -> NetworkInput:
    """What the network sees of some samples through its input cameras [b, 4]."""
    size_px = cameras.width
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
    return NetworkInput(images, cameras, valid, drags, valid & (settings.framing == "canonical"))


def drag_points(stage: MeshStage, posed: PosedBatch, numbers: Sequence[int], count: int) -> Float[Tensor, "b count 3"]:
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
    stage: MeshStage, posed: PosedBatch, numbers: Sequence[int], settings: RunSettings, cameras: Cameras, own: Cameras
) -> list[Truth]:
    """The truths of some samples; images from ``cameras`` [b, views], masks from the first input cameras [b, 1]."""
    joint = joint_truth(stage.evalset.tables.to(stage.device), posed)
    maps = trace_surfaces(stage.scene, posed.instances, posed.framing.cameras_to_object(own))
    part_mask = moving_mask(maps, posed.carried)[:, 0].cpu()
    states = render_states(stage.scene, posed, cameras)
    before, after = composite_on_white(states.before), composite_on_white(states.after)
    around = posed.framing.cameras_to_object(cameras)
    moved = [
        moving_mask(trace_surfaces(stage.scene, instances, around), posed.carried)
        for instances in (posed.instances, moved_instances(posed))
    ]
    points = drag_points(stage, posed, numbers, settings.drags).cpu()
    surface = surface_points(stage.evalset, posed, numbers)
    true = stage.posed(numbers).framing
    usual = true.cameras_to_object(first_view(len(numbers), DRAG_SIZE_PX, stage.device, CANONICAL_FOVY_RAD))
    views = cameras_to_canonical(posed.framing, usual)[:, 0].to("cpu")
    return [
        Truth(
            part_mask=part_mask[row],
            points=surface[row],
            joint=EstimatedJoint(
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
