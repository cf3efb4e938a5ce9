"""A whole evaluation as the user asks for it: plan or take a set, run the model, write the results."""

import itertools
import time
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import torch

from partrm.errors import PartRMError
from partrm.evaluation import published
from partrm.evaluation.eval_set import EvalSet, EvalSetError
from partrm.evaluation.folder_sets import FolderSet
from partrm.evaluation.parallel import Job, Ranks, Row, evaluate_on_ranks, evaluate_on_workers
from partrm.evaluation.pictures import examples_of
from partrm.evaluation.report import identity, results, save_results
from partrm.evaluation.rows import NAME as ROWS
from partrm.evaluation.rows import keeping_rows, load_rows
from partrm.evaluation.runner import check_framing, sample_count
from partrm.evaluation.samples import RunSettings
from partrm.evaluation.tables import absent, grid_table, number
from partrm.files import staged_folder
from partrm.metrics.lpips import Lpips
from partrm.model.checkpoints import LoadedModel, load_model
from partrm.model.devices import select_device

PROCEDURAL_SAMPLES = 500
"""Size of the procedural set unless another is asked for."""

GRID_VIEWS = (1, 4)
GRID_DRAGS = (1, 5, 10)


def _untracked(what: str, total: int, completed: int) -> AbstractContextManager[Callable[[], None]]:
    return nullcontext(lambda: None)


@dataclass(frozen=True)
class Listener:
    """Who is told how far an evaluation is: nobody, unless a command listens."""

    say: Callable[[str], None] = lambda text: None
    """One line about the results."""
    note: Callable[[str], None] = lambda text: None
    """One line beside them."""
    track: Callable[[str, int, int], AbstractContextManager[Callable[[], None]]] = _untracked
    """What is done, how many in all, how many already; gives what is to be called after each."""


SILENT = Listener()


def plan_set(
    data: Literal["procedural", "real"],
    limit: int | None = None,
    seed: int = 0,
    listener: Listener = SILENT,
    kinds: Sequence[str] = (),
    motion_share: float = 1.0,
) -> EvalSet:
    """The procedural set of ``limit`` samples, or all samples of the real objects (``limit`` then does not matter).

    Args:
        listener: is told how far it is.
        kinds: procedural categories other than those of the published samples.
        motion_share: procedural motions are cut to this share.

    Raises:
        ObjectError: the packages that hold or make the objects are not installed, or an unknown category.
        EvalSetError: kinds or a share of real objects, or a share that is none.
    """
    from partrm.evaluation.planning import plan_procedural, plan_real
    from partrm.objects.real_objects import real_object_names

    others = bool(kinds) or motion_share != 1
    if others and data == "real":
        raise EvalSetError("kinds and a share of the motions are for procedural samples")
    count = PROCEDURAL_SAMPLES if limit is None else limit
    names = real_object_names()
    with listener.track("planning", count if data == "procedural" else len(names), 0) as advance:
        if data == "real":
            return plan_real(names, advance)
        evalset = plan_procedural(count, seed, advance, kinds, motion_share)
    if seed == published.SEED and not others:
        differing = published.differing_samples(evalset, published.published_digests())
        if differing:
            listener.note(
                f"{len(differing)} of {len(evalset)} samples are not those published (the first is sample "
                f"{differing[0]}): compare figures only within this machine"
            )
    return evalset


@dataclass(frozen=True)
class RunOptions:
    """What an evaluation runs with, beside the set and the settings."""

    model: str = "base"
    """Name of the bundled weights, or a checkpoint folder."""
    device: Literal["auto", "cpu", "cuda"] = "auto"
    workers: int = 1
    """Processes on the CPU."""
    threads: int | None = None
    """Of each worker; by default the machine's, shared."""
    lpips: Lpips | None = None
    """None leaves the column empty."""


def evaluate_into(
    evalset: EvalSet | FolderSet,
    out: Path,
    means: RunOptions | None = None,
    settings: RunSettings | None = None,
    listener: Listener = SILENT,
) -> dict:
    """Run a model over a set and write ``metrics.json``, two reports and a contact sheet into ``out``.

    Rows are kept in ``rows.jsonl`` as they come and removed at the end: the same call goes on after the last of them.
    Started by ``torchrun``, every rank takes a share of the samples, and the main one writes.

    Returns:
        the content of ``metrics.json``.

    Raises:
        PartRMError: no CUDA device, workers beside one, or another framing for a folder.
        CheckpointError: the model cannot be loaded, or does not tell parts and joints.
        OutputError: the folder cannot be written.
        RowsError: the folder holds rows of another unfinished evaluation.
        DatasetError: a file of a folder's sample is missing or broken.
        WorkerError: a worker failed.
    """
    means, settings = means or RunOptions(), settings or RunSettings()
    check_framing(evalset, settings)
    select_device(means.device)
    ranks = Ranks.of(means.device)
    if means.workers > 1 and (ranks.device.type != "cpu" or ranks.count > 1):
        raise PartRMError("--workers are processes on the CPU: give --device cpu, and no torchrun")
    if ranks.first(evalset.checksum) != evalset.checksum:
        raise PartRMError(
            "the ranks made different samples: pack the set on one machine (python -m partrm.evaluation pack)"
        )
    model = load_model(means.model, ranks.device)
    assert model.articulated is model.network  # a network that tells no part is refused before anything is written
    known, path = identity(evalset, model, settings, means.lpips, ranks.device.type), out / ROWS
    if ranks.main:
        with staged_folder(out):
            pass  # The folder is there now, and results can be written.
    earlier, count = ranks.first(load_rows(path, known) if ranks.main else []), sample_count(evalset, settings)
    if earlier and ranks.main:
        listener.note(f"going on after {len(earlier)} of {count} samples")
    started = time.perf_counter()
    job = Job(evalset, means.model, settings, means.lpips)
    rows = _rows_of(job, means, model, ranks, earlier, lambda: keeping_rows(path, known, earlier), listener)
    content = results(known, rows)
    assert len(content["samples"]) == count == content["summary"]["all"]["samples"], "a sample was lost"
    if ranks.main:
        seconds, cases = time.perf_counter() - started, examples_of(evalset, model, settings, rows)
        with staged_folder(out) as folder:
            save_results(content, cases, seconds, folder)
        path.unlink()
        for line in summary_lines(content, out):
            listener.say(line)
    return content


def _rows_of(
    job: Job,
    means: RunOptions,
    model: LoadedModel,
    ranks: Ranks,
    earlier: Sequence[Row],
    keeping: Callable[[], AbstractContextManager[Callable[[Row], None]]],
    listener: Listener,
) -> list[Row]:
    """Every row, by whatever processes there are; the main one keeps them on disk and tells how far it is."""
    if not ranks.main:
        return evaluate_on_ranks(job, model, ranks, lambda row: None, earlier)
    count = sample_count(job.evalset, job.settings)
    with listener.track("evaluating", count, len(earlier)) as advance, keeping() as keep:

        def keep_and_show(row: Row) -> None:
            keep(row)
            advance()

        if means.workers > 1:
            threads = means.threads or max(1, torch.get_num_threads() // means.workers)
            return evaluate_on_workers(job, means.workers, keep_and_show, earlier, threads)
        return evaluate_on_ranks(job, model, ranks, keep_and_show, earlier)


def evaluate_grid(
    evalset: EvalSet | FolderSet,
    out: Path,
    means: RunOptions | None = None,
    limit: int | None = None,
    listener: Listener = SILENT,
) -> list[dict]:
    """Evaluate with every setting of :data:`GRID_VIEWS` and :data:`GRID_DRAGS` on the same samples.

    Each setting gets a folder in ``out``; ``grid.md`` holds one table of all. A setting that was cut
    off goes on.

    Returns:
        the ``metrics.json`` of every setting.

    Raises:
        as :func:`evaluate_into`.
    """
    means = means or RunOptions()
    cells = []
    for views, drags in itertools.product(GRID_VIEWS, GRID_DRAGS):
        settings = RunSettings(views, drags, limit)
        cells.append(evaluate_into(evalset, out / f"views{views}_drags{drags}", means, settings, listener))
    lines = [f"# Evaluation on `{evalset.name}`, data checksum `{evalset.checksum}`", ""]
    lines += grid_table(cells).markdown()
    if Ranks.of(means.device).main:
        with staged_folder(out) as folder:
            (folder / "grid.md").write_text("\n".join(lines), encoding="utf-8")
        listener.say(f"table of all settings: {out / 'grid.md'}")
    return cells


def summary_lines(content: dict, out: Path) -> tuple[str, str]:
    """The means of an evaluation's main figures, and where its reports are."""
    whole = content["summary"]["all"]

    def mean(method: str, column: str) -> str:
        value = whole[method][column]["mean"]
        return absent(column) if value is None else number(value)

    figures = (
        f"{whole['samples']} samples: IoU {mean('model', 'iou')}, "
        f"motion error {mean('model', 'motion_error_ratio')}, "
        f"PSNR {mean('model', 'psnr')} dB (copy {mean('copy', 'psnr')} dB, "
        f"oracle geometry {mean('oracle_geometry', 'psnr')} dB)"
    )
    return figures, f"report: {out / 'report.html'}, {out / 'report.md'}, {out / 'metrics.json'}"
