"""How many true objects an arm opens that reads a prediction; and, to tell what holds it, one that knows more."""

from collections import Counter
from collections.abc import Collection, Sequence
from dataclasses import asdict, dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any

from partrm.evaluation.mesh_samples import EvalSet, MeshSamples, network_input
from partrm.evaluation.report import identify
from partrm.evaluation.results import Identity
from partrm.evaluation.samples import RunSettings, SampleLabel
from partrm.evaluation.session import SILENT, Listener, RunOptions, complete_rows
from partrm.evaluation.tables import Table, with_interval
from partrm.inference.decode import read_motion, run_network
from partrm.model.checkpoints import LoadedModel
from partrm.robotics.arm import FAILURES, ArmResult, open_with_arm
from partrm.robotics.arm_plan import BelievedObject
from partrm.robotics.beliefs import as_believed, true_object
from partrm.robotics.manipulation import task_of
from partrm.robotics.panda import Kinematics
from partrm.robotics.report import SUCCESS_SHARES, files_of, row_json, row_values, save_rows, success
from partrm.robotics.simulated_arm import ArmSettings

SCHEMA = "partrm.arm/1"

ARMS = {
    "predicted": "prediction",
    "untouched": "prediction, nothing touched",
    "true_joint": "predicted surface, true joint",
    "true_object": "true surface, true joint",
}
"""What an arm knows, and what that is called."""


@dataclass(frozen=True)
class ArmRow:
    """One sample: how far the arm got by each knowledge."""

    label: SampleLabel
    span: float
    """Signed remaining range from the source state, radians or metres."""
    pulls: dict[str, ArmResult]
    """Of the :data:`ARMS` that were asked for."""

    def to_json(self) -> dict[str, Any]:
        """As ``arm.json`` has it."""
        return row_json(self.label, self.span, self.pulls)

    @staticmethod
    def from_json(row: dict[str, Any], knowledge: Collection[str] = tuple(ARMS)) -> "ArmRow":
        """The row that :meth:`to_json` wrote.

        Raises:
            KeyError, TypeError: a value is missing, or of another type.
        """
        return ArmRow(*row_values(row, ArmResult, knowledge))


@dataclass(frozen=True)
class ArmIdentity:
    """What the rows depend on."""

    evaluation: Identity
    arm: ArmSettings
    knowledge: tuple[str, ...]
    """Of :data:`ARMS`."""

    def to_json(self) -> dict[str, Any]:
        """The head of ``arm.json``, but for the commit."""
        plain = asdict(self.arm) | {"plan": asdict(self.arm.plan)}
        return self.evaluation.to_json() | {"schema": SCHEMA, "arm": listed(plain), "knowledge": list(self.knowledge)}


def listed(value: Any) -> Any:
    """A nested value as JSON would give it back."""
    if isinstance(value, dict):
        return {key: listed(one) for key, one in value.items()}
    return [listed(one) for one in value] if isinstance(value, tuple | list) else value


@dataclass(frozen=True)
class ArmJob:
    """What every process needs to know."""

    evalset: EvalSet
    model: str
    settings: RunSettings
    arm: ArmSettings = field(default_factory=ArmSettings)
    knowledge: tuple[str, ...] = tuple(ARMS)

    def scorer(self, model: LoadedModel) -> "ArmOperator":
        """Open everything on the device of the model's weights; the simulation runs on the CPU."""
        device = next(model.network.parameters()).device
        return ArmOperator(self.evalset.open(device), model, self)


@dataclass(frozen=True)
class ArmOperator:
    """A model and a set, on one device."""

    stage: MeshSamples
    model: LoadedModel
    job: ArmJob

    @cached_property
    def kinematics(self) -> Kinematics:
        """Of the arm, made once."""
        return Kinematics()

    def rows(self, numbers: Sequence[int]) -> list[ArmRow]:
        """The rows of some samples."""
        return [self._row(number, predicted) for number, predicted in zip(numbers, self.believed(numbers), strict=True)]

    def believed(self, numbers: Sequence[int]) -> list[BelievedObject]:
        """What the model says of some samples; without points where it shows no part."""
        posed = self.stage.posed(numbers)
        inputs = network_input(self.stage, posed, numbers, self.job.settings, self.model.config.image_size_px)
        output = run_network(self.model.articulated, inputs)
        found = []
        for row in range(len(numbers)):
            gaussians, moving, joint = read_motion(output, inputs, row)
            framing = posed.framing[row].to("cpu")
            found.append(as_believed(gaussians, moving, joint, inputs, row, framing, self.job.arm.diagonal_m))
        return found

    def _row(self, number: int, predicted: BelievedObject) -> ArmRow:
        arm = self.job.arm
        task = task_of(self.stage.evalset, number, arm.diagonal_m)
        start = self.stage.evalset.plan.drag_point[number, 0].double().numpy() * arm.diagonal_m
        truth = true_object(task, start, predicted.seen_from, number)
        knowledge = {
            "predicted": predicted,
            "untouched": predicted,
            "true_joint": replace(
                predicted, joint=truth.joint, axis=truth.axis, pivot=truth.pivot, amount=truth.amount
            ),
            "true_object": truth,
        }
        untouched = replace(arm, touch=replace(arm.touch, probes=0))
        settings = {"untouched": untouched, "true_object": untouched}
        pulls = {
            name: open_with_arm(task, knowledge[name], settings.get(name, arm), self.kinematics, number)
            for name in self.job.knowledge
        }
        return ArmRow(self.stage.label(number), task.span, pulls)


def evaluate_arm(
    evalset: EvalSet,
    out: Path,
    options: RunOptions | None = None,
    settings: RunSettings | None = None,
    arm: ArmSettings | None = None,
    knowledge: Sequence[str] = tuple(ARMS),
    listener: Listener = SILENT,
) -> list[ArmRow]:
    """Let an arm open every sample's object by each knowledge, and write ``arm.json`` and ``.md`` into ``out``.

    A run that was cut off goes on when it is called again, as :func:`partrm.evaluation.session.evaluate_into` does.

    Raises:
        SimulationError: MuJoCo, mink or the arm's model is not there, or a simulation failed.
        as :func:`partrm.evaluation.session.evaluate_into`.
    """
    options, settings, arm = options or RunOptions(), settings or RunSettings(), arm or ArmSettings()
    job = ArmJob(evalset, options.model, settings, arm, tuple(knowledge))

    def identity(model: LoadedModel, device: str) -> ArmIdentity:
        return ArmIdentity(identify(evalset, model, settings, None, device), arm, job.knowledge)

    def row_of(row: dict[str, Any]) -> ArmRow:
        return ArmRow.from_json(row, job.knowledge)

    done = complete_rows(job, out, options, identity, row_of, listener, files_of("arm"))
    if done.main:
        save_rows(done, {name: ARMS[name] for name in knowledge}, out, "arm", listener, reach_tables)
    return done.rows


def reach_tables(rows: Sequence[ArmRow]) -> list[Table]:
    """What the arm opens of what it can reach, and why not the others."""
    names = list(rows[0].pulls)
    reached = []
    for name in names:
        some = [row for row in rows if row.pulls[name].reachable]
        share = with_interval("success", success(some, name, SUCCESS_SHARES[0])) if some else ""
        reached.append((ARMS[name], str(len(some)), share))
    endings = {name: Counter(why(row.pulls[name]) for row in rows) for name in names}
    meaning: dict[str, str] = {"open": "", **FAILURES}
    shown = [key for key in meaning if any(endings[name][key] for name in names)]
    return [
        Table(
            f"Opened ≥ {SUCCESS_SHARES[0]:.0%} of what is reachable",
            ("arm knows", "reachable", "opened"),
            tuple(reached),
        ),
        Table(
            "Samples by their end",
            ("end", "", *(ARMS[name] for name in names)),
            tuple((key, meaning[key], *(str(endings[name][key]) for name in names)) for key in shown),
        ),
    ]


def why(result: ArmResult) -> str:
    """How a run ended; ``open`` whatever stopped it after it had succeeded."""
    return "open" if result.opened >= SUCCESS_SHARES[0] else result.ending
