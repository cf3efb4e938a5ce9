"""Run a model over an evaluation set, batch by batch: the model's answers, the baselines', and their metrics.

The baselines are what a prediction is measured against, from the same samples: copies, no motion, and oracles of motion
and geometry. Read from one to the next they say where quality is lost: ``oracle_geometry`` is what Gaussians on the
true surface give, on the input views' rays and without being fitted to any image (surfaces that no input view sees are
missing), ``oracle_motion`` loses what the reconstruction loses, the model what finding part and motion loses.

Data flow::

    EvalSet ─► MeshSamples ─────┐
    FolderSet ─► FolderSamples ─┴► EvalBatch ─► network ─► answers ─► scoring ─► rows
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TypeVar

import torch
from einops import rearrange
from jaxtyping import Bool, Float
from torch import Tensor

from partrm.errors import PartRMError
from partrm.evaluation.assets import score_asset
from partrm.evaluation.mesh_samples import MeshSamples
from partrm.evaluation.results import AssetMetrics, Row, SampleRow
from partrm.evaluation.samples import (
    OPAQUE,
    EvalBatch,
    EvaluationSet,
    GroundTruth,
    MethodOutput,
    RunSettings,
    SampleSource,
    TrueSurface,
)
from partrm.evaluation.scoring import score_answers
from partrm.geometry.cameras import Cameras
from partrm.geometry.gaussians import Gaussians
from partrm.inference.decode import apply_joint_motion, read_motion, reading_of, widened
from partrm.inference.reading import Reading
from partrm.metrics.lpips import Lpips
from partrm.model.checkpoints import LoadedModel
from partrm.model.inputs import VIEWS, NetworkInput
from partrm.model.network import NetworkOutput
from partrm.rendering.splats import render_splats

AnyRow = TypeVar("AnyRow", bound=Row)

CPU_BATCH, CUDA_BATCH = 4, 32
"""Samples scored together; metrics do not depend on who scores which batch."""


def sample_count(evalset: EvaluationSet, settings: RunSettings) -> int:
    """How many samples of a set an evaluation takes."""
    return len(evalset) if settings.limit is None else min(settings.limit, len(evalset))


def check_framing(evalset: EvaluationSet, settings: RunSettings) -> None:
    """Files are framed as they are, and do not tell whole surfaces.

    Raises:
        PartRMError: another framing, or assets, are asked of a folder.
    """
    if settings.assets and evalset.posed_settings is None:
        raise PartRMError(f"{evalset.name}: assets are compared with true objects, which are procedural and real")
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
            PartRMError: another framing, or assets, are asked of a folder.
        """
        check_framing(evalset, settings)
        device = next(model.network.parameters()).device
        return Scorer(evalset.open(device), model, settings, None if lpips is None else lpips.to(device))

    def rows(self, numbers: Sequence[int]) -> list[SampleRow]:
        """The rows of some samples."""
        config = self.model.articulated.config
        batch = self.stage.batch(numbers, self.settings, config.image_size_px, config.splat_stride)
        with torch.inference_mode():
            said = self.model.articulated(batch.inputs)
        output, found = reading_of(said, batch.inputs), []
        assets = self._assets(numbers, batch, said) if self.settings.assets else [None] * len(numbers)
        for row, number in enumerate(numbers):
            answers = answers_of(output, batch.inputs, row, batch.truths[row], batch.surfaces[row], batch.cameras[row])
            metrics = score_answers(batch.truths[row], answers, self.lpips)
            found.append(SampleRow(self.stage.label(number), metrics, assets[row]))
        return found

    def _assets(self, numbers: Sequence[int], batch: EvalBatch, said: NetworkOutput) -> list[AssetMetrics]:
        """The assets of some samples, compared."""
        assert isinstance(self.stage, MeshSamples)
        closed = reading_of(said, batch.inputs, close=True)
        return [
            score_asset(self.stage, number, self.model, (batch.inputs, closed, row), batch.truths[row])
            for row, number in enumerate(numbers)
        ]


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


def baseline_answers(
    truth: GroundTruth,
    reconstruction: tuple[Gaussians, Gaussians | None],
    still: Float[Tensor, "views 3 h w"],
    surface: TrueSurface | None,
    cameras: Cameras,
) -> dict[str, MethodOutput]:
    """The answers of all baselines to one sample; without oracles where the data do not tell surface and motion.

    Args:
        reconstruction: all the network's Gaussians of this sample before the motion: seen [n], and hidden [n] by them.
        still: that reconstruction seen from ``cameras`` [views].
        surface: [n].
    """
    answers = {"copy": MethodOutput(None, None, truth.before), "no_motion": MethodOutput(None, None, still)}
    if surface is None or truth.T_after_before is None:
        return answers
    T = truth.T_after_before.to(cameras.device)
    shown, hidden = reconstruction[0].to(cameras.device), reconstruction[1]
    everything, moving = shown, surface.network_moving
    if hidden is not None:
        everything = Gaussians.concatenate([shown, hidden.to(cameras.device)])
        moving = torch.cat([moving, ~moving])
    ours = apply_joint_motion(widened(everything, moving), moving, T)
    true = apply_joint_motion(surface.gaussians, surface.moving, T)
    seen = first_view_grid(surface.network_moving & (shown.opacities > OPAQUE))
    true_seen = first_view_grid(surface.moving & (surface.gaussians.opacities > OPAQUE))
    return answers | {
        "oracle_motion": MethodOutput(seen, truth.joint, render_on_white(ours, cameras)),
        "oracle_geometry": MethodOutput(true_seen, truth.joint, render_on_white(true, cameras)),
    }


def first_view_grid(values: Bool[Tensor, " n"]) -> Bool[Tensor, "side side"]:
    """The first of four views of a value for each Gaussian, on the CPU."""
    side = math.isqrt(len(values) // VIEWS)
    return rearrange(values, "(v h w) -> v h w", v=VIEWS, h=side)[0].cpu()


def render_on_white(gaussians: Gaussians, cameras: Cameras) -> Float[Tensor, "views 3 h w"]:
    """Images of Gaussians on white, on the cameras' device."""
    with torch.inference_mode():
        return render_splats(gaussians.to(cameras.device), cameras).rgb.clamp(0, 1)
