"""Run a model over an evaluation set, batch by batch: the model's answers, the baselines', and their figures.

Data flow::

    EvalSet ─► mesh_stage ───┐
    FolderSet ─► folder_stage ┴► EvalBatch ─► network ─► answers ─► scoring ─► rows
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Bool
from torch import Tensor

from partrm.cameras import Cameras
from partrm.data.samples import NetworkInput
from partrm.evaluate.baselines import baseline_answers, first_view_grid, render_on_white
from partrm.evaluate.batches import OPAQUE, RunSettings, Stage, TrueSurface
from partrm.evaluate.folder_sets import FolderSet
from partrm.evaluate.folder_stage import FolderStage
from partrm.evaluate.mesh_stage import MeshStage
from partrm.evaluate.perceptual import Lpips
from partrm.evaluate.scoring import METHODS, Answer, Truth, score_answers
from partrm.evaluate.sets import EvalSet
from partrm.model.checkpoints import LoadedModel
from partrm.model.network import NetworkOutput
from partrm.pipeline import carry, read_motion, run_network

CPU_BATCH, CUDA_BATCH = 4, 32
"""Samples scored together; figures do not depend on who scores which batch."""


def stage_of(evalset: EvalSet | FolderSet, device: torch.device | str) -> Stage:
    """A set opened on a device."""
    return MeshStage.of(evalset, device) if isinstance(evalset, EvalSet) else FolderStage.of(evalset, device)


def sample_count(evalset: EvalSet | FolderSet, settings: RunSettings) -> int:
    """How many samples of a set an evaluation takes."""
    return len(evalset) if settings.limit is None else min(settings.limit, len(evalset))


def check_framing(evalset: EvalSet | FolderSet, settings: RunSettings) -> None:
    """Files are framed as they are.

    Raises:
        ValueError: another framing is asked of a folder.
    """
    if settings.framing != "canonical" and not isinstance(evalset, EvalSet):
        raise ValueError(f"{evalset.name}: its images are framed as they are, framing is for procedural and real")


@dataclass(frozen=True)
class Scorer:
    """A model, a set and the settings, on one device."""

    stage: Stage
    model: LoadedModel
    settings: RunSettings
    lpips: Lpips | None
    """None leaves the column empty."""

    @staticmethod
    def of(
        evalset: EvalSet | FolderSet, model: LoadedModel, settings: RunSettings, lpips: Lpips | None = None
    ) -> "Scorer":
        """Everything on the device of the model's weights.

        Raises:
            ValueError: another framing is asked of a folder.
        """
        check_framing(evalset, settings)
        device = next(model.network.parameters()).device
        return Scorer(stage_of(evalset, device), model, settings, None if lpips is None else lpips.to(device))

    def rows(self, numbers: Sequence[int]) -> list[dict[str, Any]]:
        """The rows of some samples: what each is, and the figures of every method."""
        batch = self.stage.batch(numbers, self.settings, self.model.config.image_size_px)
        output = run_network(self.model.articulated, batch.inputs)
        found = []
        for row, number in enumerate(numbers):
            answers = answers_of(output, batch.inputs, row, batch.truths[row], batch.surfaces[row], batch.cameras[row])
            scored = score_answers(batch.truths[row], answers, self.lpips)
            baselines = {name: scored[name] for name in METHODS if name != "model"}
            found.append(self.stage.describe(number) | scored["model"] | {"baselines": baselines})
        return found


def batches(count: int, known: int, device: torch.device) -> list[range]:
    """The numbers of each batch of ``count`` samples that holds one beyond the first ``known``.

    A batch is the same whoever runs it and wherever a run goes on, and so are all figures.
    """
    size = CPU_BATCH if device.type == "cpu" else CUDA_BATCH
    return [range(first, min(first + size, count)) for first in range(known // size * size, count, size)]


def evaluate(
    evalset: EvalSet | FolderSet,
    model: LoadedModel,
    settings: RunSettings,
    keep: Callable[[dict[str, Any]], None],
    earlier: Sequence[dict[str, Any]] = (),
    lpips: Lpips | None = None,
) -> list[dict[str, Any]]:
    """One row a sample, in the set's order: what it is, and the columns of :data:`partrm.evaluate.scoring.METRICS`.

    ``baselines`` in a row holds the same columns for each of :data:`partrm.evaluate.scoring.METHODS` but the model.

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


def add_rows(
    rows: list[dict[str, Any]], more: Sequence[dict[str, Any]], keep: Callable[[dict[str, Any]], None]
) -> None:
    """Append the rows of a batch that are not there yet, each handed to ``keep``."""
    for row in more:
        if row["sample"] >= len(rows):
            rows.append(row)
            keep(row)


def check_complete(rows: Sequence[dict[str, Any]], count: int) -> None:
    """Every sample has one row, in order."""
    assert [row["sample"] for row in rows] == list(range(count)), "a sample was lost"


def answers_of(
    output: NetworkOutput, inputs: NetworkInput, row: int, truth: Truth, surface: TrueSurface | None, cameras: Cameras
) -> dict[str, Answer]:
    """What every method says of one sample of a batch; the model exactly as ``predict`` reads it."""
    gaussians, part, joint = read_motion(output, inputs, row)
    after = render_on_white(carry(gaussians, part, joint.T_after_before), cameras)
    still = render_on_white(gaussians, cameras)
    answers = {"model": Answer(first_view_mask(output, row), joint, after)}
    return answers | baseline_answers(truth, output, row, still, surface, cameras)


def first_view_mask(output: NetworkOutput, row: int) -> Bool[Tensor, "side side"]:
    """Splats of the first view that are opaque and move, each more likely than not."""
    return first_view_grid((output.moving[row] > 0.5) & (output.carriers.opacities[row] > OPAQUE))
