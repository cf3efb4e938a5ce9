"""Run a model over an evaluation set: inputs, truths and the model's answers, batch by batch."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from partrm.articulation.estimate import EstimatedJoint
from partrm.articulation.kinematics import JointType
from partrm.cameras import CANONICAL_FOVY_RAD, Cameras, canonical_orbit, orbit_poses
from partrm.data.online import PosedBatch, joint_truth, moved_instances, moving_mask, pose_batch, render_states
from partrm.data.samples import VIEWS, NetworkInput
from partrm.data.scenarios import first_view, turned_cameras
from partrm.drags import MAX_DRAGS, Drags
from partrm.evaluate.baselines import (
    OPAQUE,
    TrueSurface,
    baseline_answers,
    first_view_grid,
    render_on_white,
    true_surfaces,
)
from partrm.evaluate.planning import canonical_framing
from partrm.evaluate.scoring import Answer, Truth, score
from partrm.evaluate.sets import EvalSet
from partrm.metrics import composite_on_white
from partrm.model.checkpoints import LoadedModel
from partrm.model.network import NetworkOutput
from partrm.pipeline import carry, read_motion
from partrm.rendering.meshes import MeshScene, render_meshes, trace_surfaces
from partrm.transforms import pose, transform_points

NOVEL_VIEWS = 8
NOVEL_ELEVATION_DEG = 20.0

DRAG_SIZE_PX = 256
"""Side of the image in whose pixels drag errors are given."""

SURFACE_POINTS = 2000
"""Points of the moving part that the motion error is taken on."""


@dataclass(frozen=True)
class RunSettings:
    """What an evaluation varies."""

    views: int = 1
    """Input views, 1 to 4: the first, then by 90 degrees about the object's upright axis."""
    drags: int = 1
    """Drags of each sample, 1 to 10, the first of those planned."""
    limit: int | None = None
    """Only the set's first samples."""
    novel_size_px: int = 256
    """Side of the images from around."""

    def __post_init__(self) -> None:
        if not (1 <= self.views <= VIEWS and 1 <= self.drags <= MAX_DRAGS and (self.limit is None or self.limit >= 1)):
            raise ValueError(f"views must be 1 to {VIEWS}, drags 1 to {MAX_DRAGS}, a limit at least 1")


@dataclass(frozen=True)
class Stage:
    """A set on the device where it is rendered."""

    evalset: EvalSet
    scene: MeshScene

    @staticmethod
    def of(evalset: EvalSet, device: torch.device | str) -> "Stage":
        return Stage(evalset, evalset.scene.scene(device))

    @property
    def device(self) -> torch.device:
        return self.scene.device

    def posed(self, rows: Sequence[int]) -> PosedBatch:
        """The source states of some samples under the reference's light."""
        plan = self.evalset.plan[list(rows)].to(self.device)
        framing = canonical_framing(plan.azimuth_rad, plan.elevation_rad)
        tables = self.evalset.tables.to(self.device)
        materials = self.evalset.materials.to(self.device)[plan.object]
        generator = torch.Generator(self.device)
        return pose_batch(self.scene, tables, plan.scenario, framing, materials, False, generator)


def evaluate(
    evalset: EvalSet,
    model: LoadedModel,
    settings: RunSettings,
    keep: Callable[[dict[str, Any]], None],
    earlier: Sequence[dict[str, Any]] = (),
) -> list[dict[str, Any]]:
    """One row a sample, in the set's order: what it is, and the columns of :data:`partrm.evaluate.scoring.METRICS`.

    ``baselines`` in a row holds the same columns for each of :data:`partrm.evaluate.scoring.METHODS` but the model.

    Args:
        model: runs on the device of its weights; everything is rendered there.
        keep: called with each row as soon as it is known.
        earlier: the first rows, known from a run that was cut off; batches stay the same, and so do all figures.
    """
    device = next(model.network.parameters()).device
    stage = Stage.of(evalset, device)
    count = sample_count(evalset, settings)
    batch = 4 if device.type == "cpu" else 32
    rows = list(earlier)
    for first in range(len(rows) // batch * batch, count, batch):
        numbers = range(first, min(first + batch, count))
        if len(rows) > numbers[-1]:
            continue
        posed = stage.posed(numbers)
        inputs = network_input(stage, posed, numbers, settings, model.config.image_size_px)
        output = run_network(model, inputs)
        cameras = novel_cameras(posed, evalset.plan.azimuth_rad[list(numbers)], settings.novel_size_px)
        truths = truths_of(stage, posed, numbers, settings, cameras, model.config.image_size_px // 2)
        surface = true_surfaces(stage.scene, posed, inputs.cameras)
        for row, number in enumerate(numbers):
            if number >= len(rows):
                scored = score_sample(truths[row], output, surface, row, cameras[row])
                rows.append(describe(evalset, number) | scored)
                keep(rows[-1])
    assert [row["sample"] for row in rows] == list(range(count)), "a sample was lost"
    return rows


def sample_count(evalset: EvalSet, settings: RunSettings) -> int:
    """How many samples of a set an evaluation takes."""
    return len(evalset) if settings.limit is None else min(settings.limit, len(evalset))


def score_sample(
    truth: Truth, output: NetworkOutput, surface: TrueSurface, row: int, cameras: Cameras
) -> dict[str, Any]:
    """The figures of the model and of every baseline for one sample of a batch."""
    gaussians, _, _ = read_motion(output, row)
    still = render_on_white(gaussians, cameras)
    baselines = baseline_answers(truth, output.gaussians[row], still, surface, row, cameras)
    # SSIM is the slowest figure by far on a CPU, so only for the prediction itself.
    scored = {name: score(truth, answer, with_ssim=False) for name, answer in baselines.items()}
    return {**score(truth, answer_of(output, row, cameras)), "baselines": scored}


def describe(evalset: EvalSet, number: int) -> dict[str, Any]:
    """What a sample is, as the first columns of its row."""
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


def run_network(model: LoadedModel, inputs: NetworkInput) -> NetworkOutput:
    """One forward pass, as ``predict`` does it."""
    with torch.inference_mode():
        return model.articulated(inputs)


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
    stage: Stage, posed: PosedBatch, numbers: Sequence[int], settings: RunSettings, size_px: int
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


def drag_points(stage: Stage, posed: PosedBatch, numbers: Sequence[int], count: int) -> Float[Tensor, "b count 3"]:
    """The planned drag points of some samples, canonical frame."""
    return posed.framing.points_to_canonical(stage.evalset.plan.drag_point[list(numbers), :count].to(stage.device))


def novel_cameras(posed: PosedBatch, azimuth_rad: Float[Tensor, " b"], size_px: int) -> Cameras:
    """[b, 8] canonical-frame cameras all around, the first 22.5 degrees beside the input view."""
    step = 2 * math.pi / NOVEL_VIEWS
    R = posed.framing.R_canonical_object
    azimuth = azimuth_rad.to(R.device)[:, None] + step * (torch.arange(NOVEL_VIEWS, device=R.device) + 0.5)
    elevation = torch.full_like(azimuth, math.radians(NOVEL_ELEVATION_DEG))
    T_canonical_object = pose(R, torch.zeros_like(R[..., 0]))[:, None]
    T = T_canonical_object @ orbit_poses(azimuth, elevation)
    return Cameras(T, torch.full_like(azimuth, CANONICAL_FOVY_RAD), size_px, size_px)


def truths_of(
    stage: Stage, posed: PosedBatch, numbers: Sequence[int], settings: RunSettings, cameras: Cameras, splat_px: int
) -> list[Truth]:
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
    view = first_view(1, DRAG_SIZE_PX, "cpu")[0, 0]
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
            camera=view,
            before=before[row],
            after=after[row],
            moved=moved[0][row] | moved[1][row],
        )
        for row in range(len(numbers))
    ]


def surface_points(evalset: EvalSet, posed: PosedBatch, numbers: Sequence[int]) -> Float[Tensor, "b p 3"]:
    """Points spread evenly over the whole surface of all that moves, source state, canonical frame, on the CPU."""
    arrays, found = evalset.scene, []
    for row, number in enumerate(numbers):
        slots = posed.carried[row].nonzero()[:, 0].cpu()
        parts = posed.instances.part[row].cpu()[slots]
        face = torch.isin(arrays.face_part.long(), parts).nonzero()[:, 0]
        generator = torch.Generator().manual_seed(number)
        points, of_face = sample_surface(arrays.vertices[arrays.faces[face].long()], SURFACE_POINTS, generator)
        slot = slots[torch.searchsorted(parts, arrays.face_part[face][of_face].long())]
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


def answer_of(output: NetworkOutput, row: int, cameras: Cameras) -> Answer:
    """The network's answer to one sample, exactly as ``predict`` reads it, seen from ``cameras`` [views]."""
    gaussians, part, joint = read_motion(output, row)
    after = carry(gaussians, part, joint.T_after_before)
    return Answer(first_view_mask(output, row), joint, render_on_white(after, cameras))


def first_view_mask(output: NetworkOutput, row: int) -> Bool[Tensor, "side side"]:
    """Splats of the first view that are opaque and move, each more likely than not."""
    return first_view_grid((output.moving[row] > 0.5) & (output.gaussians.opacities[row] > OPAQUE))
