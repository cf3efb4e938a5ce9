"""How far predictions get a robot: every sample's true object, pulled open by guides that know more or less of it."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch

from partrm.evaluation.mesh_samples import EvalSet, MeshSamples, network_input
from partrm.evaluation.report import identify
from partrm.evaluation.results import Identity
from partrm.evaluation.samples import RunSettings, SampleLabel
from partrm.evaluation.session import SILENT, Listener, RunOptions, complete_rows
from partrm.geometry.framing import joint_to_object
from partrm.geometry.joints import JointMotion, JointType
from partrm.geometry.transforms import transform_points
from partrm.inference.ensemble import OTHERS, conclude_all, consult
from partrm.model.checkpoints import LoadedModel
from partrm.objects.articulated_object import ArticulatedObject, Joint, Part
from partrm.objects.materials import Material, Role
from partrm.robotics.arcs import Arc
from partrm.robotics.guides import Plan
from partrm.robotics.report import files_of, row_json, row_values, save_rows
from partrm.robotics.simulated_object import Task, simulate
from partrm.robotics.suction import PullResult, SuctionSettings, pull_in

SCHEMA = "partrm.manipulation/1"

GUIDES = {
    "true_joint": "true joint",
    "predicted_closed_loop": "predicted joint, closed loop",
    "predicted_joint": "predicted joint",
    "straight_closed_loop": "straight pull along the drag, closed loop",
    "straight_pull": "straight pull along the drag",
}
"""What leads the cup, and what it is called."""


@dataclass(frozen=True)
class ManipulationRow:
    """One sample: what each guide opened."""

    label: SampleLabel
    span: float
    """Signed remaining range from the source state, radians or metres."""
    pulls: dict[str, PullResult]
    """Of each of :data:`GUIDES`."""

    def to_json(self) -> dict[str, Any]:
        """As ``manipulation.json`` has it."""
        return row_json(self.label, self.span, self.pulls)

    @staticmethod
    def from_json(row: dict[str, Any]) -> "ManipulationRow":
        """The row that :meth:`to_json` wrote.

        Raises:
            KeyError, TypeError: a value is missing, or of another type.
        """
        return ManipulationRow(*row_values(row, PullResult, GUIDES))


@dataclass(frozen=True)
class ManipulationIdentity:
    """What the rows depend on."""

    evaluation: Identity
    suction: SuctionSettings

    def to_json(self) -> dict[str, Any]:
        """The head of ``manipulation.json``, but for the commit."""
        return self.evaluation.to_json() | {"schema": SCHEMA, "suction": asdict(self.suction)}


@dataclass(frozen=True)
class ManipulationJob:
    """What every process needs to know."""

    evalset: EvalSet
    model: str
    settings: RunSettings
    suction: SuctionSettings = field(default_factory=SuctionSettings)

    def scorer(self, model: LoadedModel) -> "Manipulator":
        """Open everything on the device of the model's weights; the simulation runs on the CPU."""
        device = next(model.network.parameters()).device
        return Manipulator(self.evalset.open(device), model, self.settings, self.suction)


@dataclass(frozen=True)
class Manipulator:
    """A model and a set, on one device."""

    stage: MeshSamples
    model: LoadedModel
    settings: RunSettings
    suction: SuctionSettings

    def rows(self, numbers: Sequence[int]) -> list[ManipulationRow]:
        """The rows of some samples."""
        return [pulled(sample, self.suction) for sample in self.planned(numbers)]

    def planned(self, numbers: Sequence[int]) -> "list[PlannedSample]":
        """What every guide plans for some samples; the prediction is that of :func:`partrm.inference.pipeline.predict`,
        of all questions together."""
        posed = self.stage.posed(numbers)
        inputs = network_input(self.stage, posed, numbers, self.settings, self.model.config.image_size_px)
        samples, plan = [inputs[[row]] for row in range(len(numbers))], self.stage.evalset.plan
        answers = conclude_all(consult(self.model.articulated, samples, [OTHERS] * len(samples)))
        found = []
        for row, (number, (answer, *_)) in enumerate(zip(numbers, answers, strict=True)):
            start = plan.drag_point[number, :1].double()
            predicted = joint_to_object(posed.framing[row].to("cpu"), answer.joint)
            chord = (transform_points(posed.T_motion[row].cpu().double(), start) - start)[0].numpy()
            task = task_of(self.stage.evalset, number, self.suction.diagonal_m)
            plans = plans_of(task, predicted, start[0].numpy(), chord, self.suction.diagonal_m)
            found.append(PlannedSample(self.stage.label(number), task, plans))
        return found


@dataclass(frozen=True)
class PlannedSample:
    """A joint to open, and what every guide plans."""

    label: SampleLabel
    task: Task
    plans: dict[str, Plan]
    """Of each of :data:`GUIDES`."""


def pulled(sample: PlannedSample, suction: SuctionSettings) -> ManipulationRow:
    """What each guide opens: of the same object, under the same draw of its resistance."""
    task, seed = sample.task, sample.label.sample
    simulated = simulate(task, suction.drawn(seed), suction.timestep_s)
    pulls = {name: pull_in(simulated, task, plan, suction, seed) for name, plan in sample.plans.items()}
    return ManipulationRow(sample.label, task.span, pulls)


def task_of(evalset: EvalSet, number: int, diagonal_m: float) -> Task:
    """A sample's true object in metres, and the joint to open: as far as its limit on the motion's side."""
    plan = evalset.plan
    obj = object_of(evalset, int(plan.object[number])).rescaled(diagonal_m, np.zeros(3))
    part = int(plan.part[number])
    source, target = (q[number, : len(obj.parts)].double().numpy() for q in (plan.q_source, plan.q_target))
    slides = np.array([p.joint is not None and p.joint.type == JointType.PRISMATIC for p in obj.parts])
    metric = np.where(slides, diagonal_m, 1.0)
    joint = obj.parts[part].joint
    assert joint is not None
    onward = float(target[part] - source[part])
    if joint.type == JointType.CONTINUOUS:
        span = onward * metric[part]  # it has no limit: as far as the planned motion
    else:
        span = (joint.upper if onward > 0 else joint.lower) - source[part] * metric[part]
    return Task(obj, part, source * metric, float(span))


def object_of(evalset: EvalSet, index: int) -> ArticulatedObject:
    """An object of a set, plainly coloured; object units."""
    scene, tables = evalset.scene, evalset.tables
    first, last = int(scene.part_offset[index]), int(scene.part_offset[index + 1])
    parts = []
    for slot in range(last - first):
        faces = scene.faces[scene.face_part == first + slot].long()
        used, renumbered = torch.unique(faces, return_inverse=True)
        joint, parent = None, int(tables.parent[index, slot])
        if parent >= 0:
            axis, pivot = (getattr(tables, name)[index, slot].double().tolist() for name in ("axis", "pivot"))
            lower, upper = float(tables.lower[index, slot]), float(tables.upper[index, slot])
            kind = JointType(int(tables.joint_type[index, slot]))
            joint = Joint(f"joint_{slot}", kind, parent, tuple(axis), tuple(pivot), lower, upper)
        vertices, faces = scene.vertices[used].double().numpy(), renumbered.reshape(-1, 3).numpy()
        parts.append(Part(f"part_{slot}", vertices, faces, np.zeros(len(faces), dtype=np.int64), joint))
    plain = (Material("plain", (0.7, 0.7, 0.7), Role.BODY),)
    return ArticulatedObject(evalset.object_names[index], evalset.categories[index], tuple(parts), plain)


def plans_of(
    task: Task, predicted: JointMotion, start: np.ndarray, chord: np.ndarray, diagonal_m: float
) -> dict[str, Plan]:
    """What each guide plans.

    Args:
        task: what is to be opened.
        predicted: joint, object frame and units.
        start: point of the part where the cup sits, object units.
        chord: from there to where the drag ends in space, object units.
        diagonal_m: metres of an object unit.
    """
    point = start * diagonal_m
    truth = task.joint_at_source(task.part)
    true = Arc.of_joint(truth.type, np.sign(task.span) * np.array(truth.axis), np.array(truth.pivot), point)
    axis, pivot = predicted.axis.double().numpy(), predicted.pivot.double().numpy() * diagonal_m
    sense = 1.0 if predicted.amount >= 0 else -1.0
    arc = Arc.of_joint(predicted.type, sense * axis / np.linalg.norm(axis), pivot, point)
    straight = Arc(point, chord / np.linalg.norm(chord), np.zeros(3))
    plans = {
        "true_joint": Plan(true),
        "predicted_closed_loop": Plan(arc, closed_loop=True),
        "predicted_joint": Plan(arc),
        "straight_closed_loop": Plan(straight, closed_loop=True),
        "straight_pull": Plan(straight),
    }
    assert set(plans) == set(GUIDES)
    return plans


def evaluate_manipulation(
    evalset: EvalSet,
    out: Path,
    options: RunOptions | None = None,
    settings: RunSettings | None = None,
    suction: SuctionSettings | None = None,
    listener: Listener = SILENT,
) -> list[ManipulationRow]:
    """Pull every sample's object open by every guide, and write ``manipulation.json`` and ``.md`` into ``out``.

    A run that was cut off goes on when it is called again, as :func:`partrm.evaluation.session.evaluate_into` does.

    Raises:
        SimulationError: MuJoCo is not installed, or a simulation failed.
        as :func:`partrm.evaluation.session.evaluate_into`.
    """
    options, settings = options or RunOptions(), settings or RunSettings()
    suction = suction or SuctionSettings()
    job = ManipulationJob(evalset, options.model, settings, suction)

    def identity(model: LoadedModel, device: str) -> ManipulationIdentity:
        return ManipulationIdentity(identify(evalset, model, settings, None, device), suction)

    done = complete_rows(job, out, options, identity, ManipulationRow.from_json, listener, files_of("manipulation"))
    if done.main:
        save_rows(done, GUIDES, out, "manipulation", listener)
    return done.rows
