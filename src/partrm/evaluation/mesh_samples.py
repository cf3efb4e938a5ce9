"""Sets of known meshes and their samples: whatever the network and the scoring need is ray-cast from them."""

import hashlib
import json
import math
from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from typing import Any

import torch
from einops import rearrange
from jaxtyping import Float, Int, UInt8
from torch import Tensor

from partrm.errors import PartRMError
from partrm.evaluation.samples import (
    DRAG_SIZE_PX,
    SURFACE_POINTS,
    EvalBatch,
    FirstViews,
    GroundTruth,
    PosedSettings,
    RunSettings,
    SampleLabel,
    TrueSurface,
    padded_input,
    shown_around,
)
from partrm.geometry.cameras import CANONICAL_FOVY_RAD, Cameras, crop_cameras, mask_boxes, orbit_poses
from partrm.geometry.framing import Framing, with_nominal_lens
from partrm.geometry.joints import JointMotion, JointType
from partrm.geometry.tensor_record import TensorRecord
from partrm.geometry.transforms import pose, transform_points
from partrm.metrics.images import composite_on_white
from partrm.model.inputs import NetworkInput
from partrm.objects.materials import MaterialTable
from partrm.rendering.meshes import MeshScene, Textures, render_meshes, trace_surfaces
from partrm.synthesis.posed_scenes import (
    PosedBatch,
    framed_as_cropped,
    joint_truth,
    motion_targets,
    moved_instances,
    moving_mask,
    pose_batch,
    render_states,
)
from partrm.synthesis.scenarios import JointTables, Scenario, first_view, frame_from, turned_cameras
from partrm.synthesis.surface_points import sample_triangles
from partrm.synthesis.target_gaussians import surface_gaussians

NOVEL_VIEWS = 8
NOVEL_ELEVATION_DEG = 20.0

MASK_BOX_PX = 256
"""Side of the images that boxes of masks are read off."""


class EvalSetError(PartRMError):
    """A set that cannot be read or made; the message says why."""


@dataclass(frozen=True)
class SceneArrays(TensorRecord):
    """What a :class:`MeshScene` is built from."""

    vertices: Float[Tensor, "v 3"]
    """Object frames at rest."""
    faces: Int[Tensor, "f 3"]
    face_part: Int[Tensor, " f"]
    """Global part of each face."""
    face_material: Int[Tensor, " f"]
    part_offset: Int[Tensor, " offsets"]
    """First global part of each object, then the number of all parts."""
    texels: UInt8[Tensor, "texels 3"]
    texture_offset: Int[Tensor, " textures"]
    texture_height: Int[Tensor, " textures"]
    texture_width: Int[Tensor, " textures"]
    corner_uv: Float[Tensor, "f 3 2"] | None = None

    @staticmethod
    def of(scene: MeshScene) -> "SceneArrays":
        """The arrays of a built scene."""
        t = scene.textures
        return SceneArrays(
            scene.vertices, scene.faces, scene.face_part, scene.face_material, scene.part_offset,
            t.texels, t.offset, t.height, t.width, scene.corner_uv,
        )  # fmt: skip

    def scene(self, device: torch.device | str = "cpu") -> MeshScene:
        """Build the ray-casting scene on a device."""
        textures = Textures(self.texels, self.texture_offset, self.texture_height, self.texture_width)
        return MeshScene.from_arrays(
            self.vertices, self.faces, self.face_part, self.face_material, self.part_offset,
            self.corner_uv, textures, device,
        )  # fmt: skip


@dataclass(frozen=True)
class EvalSamples(TensorRecord):
    """The samples of a set: states, first camera (canonical framing: scale 1, no offset) and drag points."""

    object: Int[Tensor, " n"]
    part: Int[Tensor, " n"]
    """Slot of the dragged part."""
    q_source: Float[Tensor, "n parts"]
    q_target: Float[Tensor, "n parts"]
    azimuth_rad: Float[Tensor, " n"]
    """Where the first camera stands, object frame: 0 before the front, positive towards +y."""
    elevation_rad: Float[Tensor, " n"]
    drag_point: Float[Tensor, "n drags 3"]
    """Points of the moving part that the first camera sees, object frame, source state; the first is the one used
    where a sample has one drag."""

    def __len__(self) -> int:
        return len(self.object)

    @property
    def scenario(self) -> Scenario:
        return Scenario(self.object, self.part, self.q_source, self.q_target)


@dataclass(frozen=True)
class EvalSet:
    """Everything that an evaluation needs but the model, on the CPU."""

    name: str
    """``procedural`` or ``real``."""
    seed: int
    object_names: tuple[str, ...]
    categories: tuple[str, ...]
    """One an object."""
    transitions: tuple[str, ...]
    """What each sample does, one a sample."""
    dropped: tuple[str, ...]
    """Candidate samples left out, with the reason; never silent."""
    scene: SceneArrays
    tables: JointTables
    materials: MaterialTable
    """[objects, slots]."""
    plan: EvalSamples

    def __post_init__(self) -> None:
        if len(self.transitions) != len(self.plan):
            raise EvalSetError(f"{len(self.transitions)} transitions of {len(self.plan)} samples")
        if not len(self.object_names) == len(self.categories) == len(self.scene.part_offset) - 1:
            raise EvalSetError("names, categories and parts are not of the same objects")

    def __len__(self) -> int:
        return len(self.plan)

    @property
    def protocol(self) -> str:
        """How samples are posed and scored: everything is ray-cast here, nothing is read from pictures."""
        return "rendered"

    @property
    def posed_settings(self) -> PosedSettings:
        return PosedSettings(NOVEL_VIEWS, NOVEL_ELEVATION_DEG)

    @property
    def checksum(self) -> str:
        """First 16 hex digits of the SHA-256 over all arrays and names."""
        digest = hashlib.sha256(json.dumps(self.record(), sort_keys=True).encode())
        for name, value in sorted(self.tensors().items()):
            digest.update(f"{name} {value.dtype} {list(value.shape)}".encode())
            digest.update(value.contiguous().numpy().tobytes())
        return digest.hexdigest()[:16]

    def open(self, device: torch.device | str) -> "MeshSamples":
        """The set where it is rendered and scored."""
        return MeshSamples(self, self.scene.scene(device))

    def tensors(self) -> dict[str, Tensor]:
        """All arrays under dotted names (``plan.part``)."""
        records = {f.name: value for f in fields(self) if isinstance(value := getattr(self, f.name), TensorRecord)}
        return {f"{name}.{leaf}": value for name, record in records.items() for leaf, value in record.leaves().items()}

    def record(self) -> dict[str, Any]:
        """What remains, as JSON values."""
        values = {f.name: getattr(self, f.name) for f in fields(self)}
        plain = {name: value for name, value in values.items() if not isinstance(value, TensorRecord)}
        return {name: list(value) if isinstance(value, tuple) else value for name, value in plain.items()}


def canonical_framing(azimuth_rad: Float[Tensor, " b"], elevation_rad: Float[Tensor, " b"]) -> Framing:
    """Framing of first views without offset and with scale 1, as a canonical image has it."""
    zeros = torch.zeros(len(azimuth_rad), 3, device=azimuth_rad.device)
    return frame_from(azimuth_rad, elevation_rad, zeros, torch.ones_like(azimuth_rad))


@dataclass(frozen=True)
class MeshSamples:
    """A set of meshes on the device where it is rendered."""

    evalset: EvalSet
    scene: MeshScene

    @property
    def device(self) -> torch.device:
        return self.scene.device

    def posed(self, rows: Sequence[int]) -> PosedBatch:
        """The source states of some samples under the reference's light, in the frames of crops of their first views.

        The picture is the canonical camera's; what the network sees of it is a crop about the object's mask.
        """
        plan = self.evalset.plan[list(rows)].to(self.device)
        true = canonical_framing(plan.azimuth_rad, plan.elevation_rad)
        tables = self.evalset.tables.to(self.device)
        materials = self.evalset.materials.to(self.device)[plan.object]
        first = first_view(len(true.scale), MASK_BOX_PX, self.device)
        generator = torch.Generator(self.device)
        posed = pose_batch(self.scene, tables, plan.scenario, true, first, materials, False, generator)
        cameras = true.cameras_to_object(first)
        return framed_as_cropped(posed, crop_cameras(cameras, self.mask_boxes(posed, cameras))[:, 0])

    def mask_boxes(self, posed: PosedBatch, cameras: Cameras) -> Float[Tensor, "b v 4"]:
        """The boxes about the source states' masks in pictures from cameras [b, v], object frame."""
        alpha = render_meshes(self.scene, posed.instances, cameras, posed.lights, shadows=False)[:, :, 3]
        return mask_boxes(alpha > 0.5)

    def true_cameras(self, numbers: Sequence[int], views: int, size_px: int) -> Cameras:
        """[b, views] canonical cameras of some samples, object frame: the first, and turned about the upright axis."""
        plan = self.evalset.plan[list(numbers)].to(self.device)
        first = canonical_framing(plan.azimuth_rad, plan.elevation_rad).cameras_to_object(
            first_view(len(numbers), size_px, self.device)
        )
        b = len(numbers)
        axis = torch.tensor([0.0, 0.0, 1.0], device=self.device).expand(b, views, 3)
        turn = (torch.arange(views, device=self.device) * (math.pi / 2)).expand(b, views)
        return turned_cameras(first, axis, turn)

    def inputs(self, numbers: Sequence[int], settings: RunSettings, size_px: int) -> NetworkInput:
        """What the network sees of some samples."""
        return network_input(self, self.posed(numbers), numbers, settings, size_px)

    def batch(self, numbers: Sequence[int], settings: RunSettings, size_px: int) -> EvalBatch:
        """Inputs at ``size_px``, truths, cameras around and true surfaces of some samples."""
        posed = self.posed(numbers)
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
        posed = self.posed(numbers)
        cameras = shown_around(posed.first.resized(size_px))
        states = render_states(self.scene, posed, cameras)
        before, after = composite_on_white(states.before)[:, 0], composite_on_white(states.after)[:, 0]
        return FirstViews(cameras[:, 0], before, after)

    def label(self, number: int) -> SampleLabel:
        """Which sample it is."""
        evalset = self.evalset
        index, part = int(evalset.plan.object[number]), int(evalset.plan.part[number])
        turns = int(evalset.tables.joint_type[index, part]) in (JointType.REVOLUTE, JointType.CONTINUOUS)
        return SampleLabel(
            sample=number,
            object=evalset.object_names[index],
            category=evalset.categories[index],
            part=part,
            transition=evalset.transitions[number],
            joint_type="revolute" if turns else "prismatic",
            amount=float(evalset.plan.q_target[number, part] - evalset.plan.q_source[number, part]),
        )


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


def input_cameras(stage: MeshSamples, posed: PosedBatch, numbers: Sequence[int], views: int, size_px: int) -> Cameras:
    """[b, views] canonical-frame cameras that take the crops."""
    first = posed.first.resized(size_px)
    if views == 1:
        return first
    others = stage.true_cameras(numbers, views, MASK_BOX_PX)[:, 1:]
    crops = posed.framing.cameras_to_canonical(crop_cameras(others, stage.mask_boxes(posed, others)))
    return Cameras.cat([first, crops.resized(size_px)], dim=1)


def network_input(
    stage: MeshSamples, posed: PosedBatch, numbers: Sequence[int], settings: RunSettings, size_px: int
) -> NetworkInput:
    """What the network sees of some samples: with the framing ``mask-box`` it is not told the lens."""
    cameras = input_cameras(stage, posed, numbers, settings.views, size_px)
    shown = posed.framing.cameras_to_object(cameras)
    images = render_meshes(stage.scene, posed.instances, shown, posed.lights)
    points = drag_points(stage, posed, numbers, settings.drags)
    first = cameras[:, 0]
    start, _ = first.project(points)
    end, _ = first.project(transform_points(posed.framing.motion_to_canonical(posed.T_motion), points))
    told = cameras if settings.framing == "canonical" else with_nominal_lens(cameras)
    return padded_input(images, told, start / size_px, end / size_px)


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
    first = posed.framing.cameras_to_object(posed.first.resized(splat_px))
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
    views = posed.framing.cameras_to_canonical(stage.true_cameras(numbers, 1, DRAG_SIZE_PX))[:, 0].to("cpu")
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
        points, of_face = sample_triangles(arrays.vertices[arrays.faces[face].long()], SURFACE_POINTS, generator)
        slot = slots[torch.searchsorted(parts, arrays.face_part[face][of_face])]
        T = posed.instances.T_world_part[row].cpu()[slot]
        found.append((T[:, :3, :3] @ points[..., None]).squeeze(-1) + T[:, :3, 3])
    return posed.framing.points_to_canonical(torch.stack(found).to(posed.T_motion.device)).cpu()


def true_surfaces(
    scene: MeshScene, posed: PosedBatch, cameras: Cameras, images: Float[Tensor, "b 4 4 h w"] | None = None
) -> TrueSurface:
    """True Gaussians [b, n] of some samples.

    Args:
        cameras: [b, 4] the network's input cameras, canonical frame; its Gaussians lie on a grid of half their pixels.
        images: RGBA from all of these cameras where the scene has no materials; rendered by default.

    Each Gaussian is the disc on the surface that its pixel sees, as opaque as its pixel is covered.
    """
    side = cameras.width // 2
    in_object = posed.framing.cameras_to_object(cameras)
    maps = trace_surfaces(scene, posed.instances, in_object.resized(side))
    if images is None:
        images = render_meshes(scene, posed.instances, in_object, posed.lights)
    targets = motion_targets(scene, posed, maps, in_object.resized(side), images)
    gaussians = surface_gaussians(targets, cameras)
    moving = rearrange(targets.moving, "b v h w -> b (v h w)")
    return TrueSurface(gaussians, moving, moving)
