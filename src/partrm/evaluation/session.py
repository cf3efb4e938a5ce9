"""A whole evaluation as the user asks for it: plan or take a set, run the model, write the results."""

import itertools
import json
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, closing, contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Generic, Literal, Protocol, TypeVar, runtime_checkable

import torch

from partrm.errors import PartRMError
from partrm.evaluation.eval_set import differing_samples, published_digests
from partrm.evaluation.html_report import examples_of
from partrm.evaluation.mesh_samples import EvalSet
from partrm.evaluation.parallel import AnyJob, Job, Ranks, evaluate_on_ranks, evaluate_on_workers
from partrm.evaluation.planning import ProceduralPlan, plan_procedural, plan_real
from partrm.evaluation.report import FILES, identify, results_of, save_results
from partrm.evaluation.results import Identity, Results, SampleRow
from partrm.evaluation.runner import AnyRow, check_framing, sample_count
from partrm.evaluation.samples import EvaluationSet, RunSettings
from partrm.evaluation.tables import absent, grid_table, number
from partrm.files import NOT_OURS, AppendedLines, OutputError, atomic_write, read_text, staged_folder
from partrm.metrics.lpips import Lpips
from partrm.model.checkpoints import LoadedModel, load_model
from partrm.model.devices import Precision, select_device

ROWS = "rows.jsonl"
"""Rows of an evaluation under way, so that a run that was cut off goes on where it stopped."""

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


class RowsError(PartRMError):
    """Rows that do not belong to this evaluation; the message says what to do."""


def plan_procedural_set(plan: ProceduralPlan, listener: Listener = SILENT) -> EvalSet:
    """The samples of a plan; says so when they should be those published, and are not.

    Raises:
        ObjectError: the packages that make the objects are not installed, or an unknown category.
        EvalSetError: too few samples.
    """
    with listener.track("planning", plan.count, 0) as advance:
        evalset = plan_procedural(plan, advance)
    differing = differing_samples(evalset, published_digests()) if plan.published else []
    if differing:
        listener.note(
            f"{len(differing)} of {len(evalset)} samples are not those published (the first is sample "
            f"{differing[0]}): compare figures only within this machine"
        )
    return evalset


def plan_real_set(listener: Listener = SILENT) -> EvalSet:
    """All samples of the real objects.

    Raises:
        ObjectError: the packages that hold the objects are not installed.
    """
    from partrm.objects.real_objects import real_object_names

    names = real_object_names()
    with listener.track("planning", len(names), 0) as advance:
        return plan_real(names, advance)


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

    def __post_init__(self) -> None:
        if self.workers < 1:
            raise PartRMError(f"workers {self.workers}: give at least 1")


def evaluate_into(
    evalset: EvaluationSet,
    out: Path,
    options: RunOptions | None = None,
    settings: RunSettings | None = None,
    listener: Listener = SILENT,
) -> Results:
    """Run a model over a set and write ``metrics.json``, two reports and a contact sheet into ``out``.

    Rows are kept in ``rows.jsonl`` as they come and removed at the end: the same call goes on after the last of them.
    Started by ``torchrun``, every rank takes a share of the samples, and the main one writes.

    Raises:
        PartRMError: no CUDA device, workers beside one, or another framing for a folder.
        CheckpointError: the model cannot be loaded, or does not tell parts and joints.
        OutputError: the folder cannot be written.
        RowsError: the folder holds rows of another unfinished evaluation.
        DatasetError: a file of a folder's sample is missing or broken.
        WorkerError: a worker failed.
    """
    options, settings = options or RunOptions(), settings or RunSettings()
    job = Job(evalset, options.model, settings, options.lpips)

    def identity(model: LoadedModel, device: str) -> Identity:
        return identify(evalset, model, settings, options.lpips, device)

    done = complete_rows(job, out, options, identity, SampleRow.from_json, listener, FILES)
    results = results_of(done.identity, done.rows)
    if done.main:
        examples = examples_of(evalset, done.model, settings, done.rows)
        with staged_folder(out) as folder:
            save_results(results, examples, done.seconds, folder)
        (out / ROWS).unlink()
        for line in summary_lines(results, out):
            listener.say(line)
    return results


@runtime_checkable
class Identified(Protocol):
    """What rows depend on."""

    def to_json(self) -> dict[str, Any]: ...


AnyIdentity = TypeVar("AnyIdentity", bound=Identified)


@dataclass(frozen=True)
class CompleteRows(Generic[AnyIdentity, AnyRow]):
    """All rows of an evaluation; those in ``rows.jsonl`` may go once the results are written."""

    identity: AnyIdentity
    rows: list[AnyRow]
    model: LoadedModel
    """On this process' device."""
    seconds: float
    main: bool
    """Whether this process writes and speaks."""


def complete_rows(
    job: AnyJob[AnyRow],
    out: Path,
    options: RunOptions,
    identity: Callable[[LoadedModel, str], AnyIdentity],
    row_of: Callable[[dict[str, Any]], AnyRow],
    listener: Listener = SILENT,
    files: Sequence[str] = (),
) -> CompleteRows[AnyIdentity, AnyRow]:
    """Make every row of a job, or those that ``rows.jsonl`` in ``out`` does not have; it is kept as they come.

    Args:
        identity: of the evaluation, from the model and ``cpu`` or ``cuda``.
        row_of: the row that a row's ``to_json`` wrote.
        files: names of what will be written beside the rows.

    Raises:
        as :func:`evaluate_into`.
    """
    evalset, settings = job.evalset, job.settings
    check_framing(evalset, settings)
    select_device(options.device)
    ranks = Ranks.of(options.device)
    if options.workers > 1 and (ranks.device.type != "cpu" or ranks.count > 1):
        raise PartRMError("--workers are processes on the CPU: give --device cpu, and no torchrun")
    if ranks.first(evalset.checksum) != evalset.checksum:
        raise PartRMError(
            "the ranks made different samples: make the set on one machine (partrm eval --pack SET.safetensors)"
        )
    model = load_model(options.model, ranks.device, settings.precision)
    assert model.articulated is model.network  # a network that tells no part is refused before anything is written
    known, path = identity(model, ranks.device.type), out / ROWS
    if ranks.main:
        with staged_folder(out):
            pass  # The folder is there now, and results can be written.
        if folder := next((out / name for name in files if (out / name).is_dir()), None):
            raise OutputError(f"{folder}: {NOT_OURS}")
    earlier = ranks.first(load_rows(path, known, row_of) if ranks.main else [])
    count = sample_count(evalset, settings)
    if len(earlier) > count:
        raise RowsError(f"{path}: {len(earlier)} rows of {count} samples; delete it or choose another folder")
    if earlier and ranks.main:
        listener.note(f"going on after {len(earlier)} of {count} samples")
    started = time.perf_counter()
    rows = _rows_of(job, options, model, ranks, earlier, lambda: keeping_rows(path, known, earlier), listener)
    assert len(rows) == count, "a sample was lost"
    return CompleteRows(known, rows, model, time.perf_counter() - started, ranks.main)


def _rows_of(
    job: AnyJob[AnyRow],
    options: RunOptions,
    model: LoadedModel,
    ranks: Ranks,
    earlier: Sequence[AnyRow],
    keeping: Callable[[], AbstractContextManager[Callable[[AnyRow], None]]],
    listener: Listener,
) -> list[AnyRow]:
    """Every row, by whatever processes there are; the main one keeps them on disk and tells how far it is."""
    if not ranks.main:
        return evaluate_on_ranks(job, model, ranks, lambda row: None, earlier)
    count = sample_count(job.evalset, job.settings)
    with listener.track("evaluating", count, len(earlier)) as advance, keeping() as keep:

        def keep_and_show(row: AnyRow) -> None:
            keep(row)
            advance()

        if options.workers > 1:
            threads = options.threads or max(1, torch.get_num_threads() // options.workers)
            return evaluate_on_workers(job, options.workers, keep_and_show, earlier, threads)
        return evaluate_on_ranks(job, model, ranks, keep_and_show, earlier)


def evaluate_grid(
    evalset: EvaluationSet,
    out: Path,
    options: RunOptions | None = None,
    limit: int | None = None,
    listener: Listener = SILENT,
    precision: Precision = "float32",
) -> list[Results]:
    """Evaluate with every setting of :data:`GRID_VIEWS` and :data:`GRID_DRAGS` on the same samples.

    Each setting gets a folder in ``out``; ``grid.md`` holds one table of all. A setting that was cut
    off goes on.

    Returns:
        the results of every setting.

    Raises:
        as :func:`evaluate_into`.
    """
    options = options or RunOptions()
    cells = []
    for views, drags in itertools.product(GRID_VIEWS, GRID_DRAGS):
        settings = RunSettings(views, drags, limit, precision=precision)
        cells.append(evaluate_into(evalset, out / f"views{views}_drags{drags}", options, settings, listener))
    lines = [f"# Evaluation on `{evalset.name}`, data checksum `{evalset.checksum}`", ""]
    lines += grid_table(cells).markdown()
    if Ranks.of(options.device).main:
        with staged_folder(out) as folder:
            (folder / "grid.md").write_text("\n".join(lines), encoding="utf-8")
        listener.say(f"table of all settings: {out / 'grid.md'}")
    return cells


def summary_lines(results: Results, out: Path) -> list[str]:
    """The means of an evaluation's main metrics, of its assets if there are any, and where its reports are."""

    def mean(method: str, metric: str) -> str:
        value = results.all.metrics[method][metric].mean
        return absent(metric) if value is None else number(value)

    numbers = (
        f"{results.all.samples} samples: IoU {mean('model', 'iou')}, "
        f"motion error {mean('model', 'motion_error_ratio')}, "
        f"PSNR {mean('model', 'psnr')} dB (copy {mean('copy', 'psnr')} dB, "
        f"oracle geometry {mean('oracle_geometry', 'psnr')} dB)"
    )
    lines = [numbers]
    if (assets := results.all.asset) is not None:
        chamfer, f02 = (
            absent("") if s.mean is None else number(s.mean) for s in (assets.part_chamfer, assets.part_f02)
        )
        lines.append(f"{assets.outside_chamfer.n} assets: chamfer of the moving part {chamfer}, F@.02 {f02}")
    return [*lines, f"report: {out / 'report.html'}, {out / 'report.md'}, {out / 'metrics.json'}"]


def load_rows(path: Path, identity: Identified, row_of: Callable[[dict[str, Any]], AnyRow]) -> list[AnyRow]:
    """The rows of a run that was cut off, in order; none if there was no such run. A half-written last line is dropped.

    Args:
        path: the file; its first line is the identity of the evaluation.
        identity: of this evaluation.
        row_of: the row that a row's ``to_json`` wrote.

    Raises:
        RowsError: the file belongs to another evaluation, or is damaged.
    """
    if not path.exists():
        return []
    try:
        lines = read_text(path, 2**32).split("\n")[:-1]
        if not lines:
            return []
        written, *rows = [json.loads(line) for line in lines]
        if not isinstance(written, dict):
            raise ValueError("its first line is no identity")
    except (OSError, ValueError, RecursionError) as error:
        raise RowsError(f"{path}: damaged ({str(error)[:200]}); delete it or choose another folder") from error
    ours = identity.to_json()
    if written != ours:
        differing = ", ".join(key for key in ours if written.get(key) != ours[key])
        raise RowsError(
            f"{path}: rows of an unfinished evaluation with another {differing}; delete it or choose another folder"
        )
    try:
        if [row["sample"] for row in rows] != list(range(len(rows))):
            raise RowsError(f"{path}: rows are missing; delete it or choose another folder")
        return [row_of(row) for row in rows]
    except RowsError:
        raise
    except (KeyError, TypeError, AttributeError, IndexError, ValueError) as error:
        raise RowsError(f"{path}: damaged ({repr(error)[:200]}); delete it or choose another folder") from error


@contextmanager
def keeping_rows(path: Path, identity: Identified, earlier: Sequence[AnyRow]) -> Iterator[Callable[[AnyRow], None]]:
    """A function that puts one row more on disk; the file begins with the identity and the earlier rows.

    The file is replaced as a whole at the start, then grows by whole lines, each on disk before the next row is made.
    """
    lines = [identity.to_json(), *(row.to_json() for row in earlier)]
    atomic_write(path, "".join(json.dumps(line, allow_nan=False) + "\n" for line in lines))
    with closing(AppendedLines(path)) as file:
        yield lambda row: file.add(json.dumps(row.to_json(), allow_nan=False))
