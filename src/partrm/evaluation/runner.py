"""Run a model over an evaluation set, batch by batch: the model's answers, the baselines', and their metrics.

Data flow::

    EvalSet ─► MeshSamples ─────┐
    FolderSet ─► FolderSamples ─┴► EvalBatch ─► network ─► answers ─► scoring ─► rows
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TypeVar

import torch
from jaxtyping import Bool
from torch import Tensor

from partrm.errors import PartRMError
from partrm.evaluation.baselines import baseline_answers, first_view_grid, render_on_white
from partrm.evaluation.results import Row, SampleRow
from partrm.evaluation.samples import (
    OPAQUE,
    EvaluationSet,
    GroundTruth,
    MethodOutput,
    RunSettings,
    SampleSource,
    TrueSurface,
)
from partrm.evaluation.scoring import score_answers
from partrm.geometry.cameras import Cameras
from partrm.inference.decode import apply_joint_motion, read_motion, run_network
from partrm.inference.reading import Reading
from partrm.metrics.lpips import Lpips
from partrm.model.checkpoints import LoadedModel
from partrm.model.inputs import NetworkInput

AnyRow = TypeVar("AnyRow", bound=Row)

CPU_BATCH, CUDA_BATCH = 4, 32
"""Samples scored together; metrics do not depend on who scores which batch."""


def sample_count(evalset: EvaluationSet, settings: RunSettings) -> int:
    """How many samples of a set an evaluation takes."""
    return len(evalset) if settings.limit is None else min(settings.limit, len(evalset))


def check_framing(evalset: EvaluationSet, settings: RunSettings) -> None:
    """Files are framed as they are.

    Raises:
        PartRMError: another framing is asked of a folder.
    """
    if settings.framing != "canonical" and evalset.posed_settings is None:
        raise PartRMError(f"{evalset.name}: its images are framed as they are, framing is for procedural and real")


@dataclass(frozen=True)
class Scorer:
    """A model, a set and the settings, on one device."""

    stage: SampleSource
    model: LoadedModel
    settings: RunSettings
    lpips: Lpips | None
    """None leaves the column empty."""

    @staticmethod
    def of(evalset: EvaluationSet, model: LoadedModel, settings: RunSettings, lpips: Lpips | None = None) -> "Scorer":
        """Everything on the device of the model's weights.

        Raises:
            PartRMError: another framing is asked of a folder.
        """
        check_framing(evalset, settings)
        device = next(model.network.parameters()).device
        return Scorer(evalset.open(device), model, settings, None if lpips is None else lpips.to(device))

    def rows(self, numbers: Sequence[int]) -> list[SampleRow]:
        """The rows of some samples."""
        batch = self.stage.batch(numbers, self.settings, self.model.config.image_size_px)
        output = run_network(self.model.articulated, batch.inputs)
        found = []
        for row, number in enumerate(numbers):
            answers = answers_of(output, batch.inputs, row, batch.truths[row], batch.surfaces[row], batch.cameras[row])
            found.append(SampleRow(self.stage.label(number), score_answers(batch.truths[row], answers, self.lpips)))
        return found


def batches(count: int, known: int, device: torch.device) -> list[range]:
    """The numbers of each batch of ``count`` samples that holds one beyond the first ``known``.

    A batch is the same whoever runs it and wherever a run goes on, and so are all metrics.
    """
    size = CPU_BATCH if device.type == "cpu" else CUDA_BATCH
    return [range(first, min(first + size, count)) for first in range(known // size * size, count, size)]


def evaluate(
    evalset: EvaluationSet,
    model: LoadedModel,
    settings: RunSettings,
    keep: Callable[[SampleRow], None],
    earlier: Sequence[SampleRow] = (),
    lpips: Lpips | None = None,
) -> list[SampleRow]:
    """One row a sample, in the set's order.

    Args:
        model: runs on the device of its weights; everything is rendered there.
        keep: called with each row as soon as it is known.
        earlier: the first rows, known from a run that was cut off.
        lpips: None leaves that column empty.
    """
    scorer, count = Scorer.of(evalset, model, settings, lpips), sample_count(evalset, settings)
    rows = list(earlier)
    for numbers in batches(count, len(rows), scorer.stage.device):
        add_rows(rows, scorer.rows(numbers), keep)
    check_complete(rows, count)
    return rows


def add_rows(rows: list[AnyRow], more: Sequence[AnyRow], keep: Callable[[AnyRow], None]) -> None:
    """Append the rows of a batch that are not there yet, each handed to ``keep``."""
    for row in more:
        if row.label.sample >= len(rows):
            rows.append(row)
            keep(row)


def check_complete(rows: Sequence[Row], count: int) -> None:
    """Every sample has one row, in order."""
    assert [row.label.sample for row in rows] == list(range(count)), "a sample was lost"


def answers_of(
    output: Reading,
    inputs: NetworkInput,
    row: int,
    truth: GroundTruth,
    surface: TrueSurface | None,
    cameras: Cameras,
) -> dict[str, MethodOutput]:
    """What every method says of one sample of a batch; the model exactly as ``predict`` reads it."""
    gaussians, part, joint = read_motion(output, inputs, row)
    after = render_on_white(apply_joint_motion(gaussians, part, joint.T_after_before), cameras)
    still = render_on_white(gaussians, cameras)
    answers = {"model": MethodOutput(first_view_mask(output, row), joint, after)}
    reconstruction = output.gaussians[row], None if output.hidden is None else output.hidden[row]
    return answers | baseline_answers(truth, reconstruction, still, surface, cameras)


def first_view_mask(output: Reading, row: int) -> Bool[Tensor, "side side"]:
    """Splats of the first view that are opaque and move, each more likely than not."""
    return first_view_grid((output.moving[row] > 0.5) & (output.gaussians.opacities[row] > OPAQUE))
