"""A whole evaluation as the user asks for it: plan or take a set, run the model, write the results."""

import itertools
import time
from pathlib import Path
from typing import Literal

import torch
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from partrm.evaluate import published
from partrm.evaluate.pictures import cases_of
from partrm.evaluate.report import identity, results, save_results
from partrm.evaluate.rows import NAME as ROWS
from partrm.evaluate.rows import keeping_rows, load_rows
from partrm.evaluate.runs import RunSettings, evaluate, sample_count
from partrm.evaluate.sets import EvalSet
from partrm.evaluate.tables import grid_table
from partrm.model.checkpoints import load_model
from partrm.outputs import staged_folder

PROCEDURAL_SAMPLES = 500
"""Size of the procedural set unless another is asked for."""

GRID_VIEWS = (1, 4)
GRID_DRAGS = (1, 5, 10)


def plan_set(data: Literal["procedural", "real"], limit: int | None = None, seed: int = 0) -> EvalSet:
    """The procedural set of ``limit`` samples, or all samples of the real objects (``limit`` then does not matter).

    Raises:
        ObjectError: the packages that hold or make the objects are not installed.
    """
    from partrm.articulation.real import real_object_names
    from partrm.evaluate.planning import plan_procedural, plan_real

    count = PROCEDURAL_SAMPLES if limit is None else limit
    names = real_object_names()
    with _progress() as progress:
        task = progress.add_task("planning", total=count if data == "procedural" else len(names))
        if data == "real":
            return plan_real(names, lambda: progress.advance(task))
        evalset = plan_procedural(count, seed, lambda: progress.advance(task))
    if seed == published.SEED:
        differing = published.differing_samples(evalset, published.published_digests())
        if differing:
            Console(stderr=True).print(
                f"{len(differing)} of {len(evalset)} samples are not those published (the first is sample "
                f"{differing[0]}): compare figures only within this machine"
            )
    return evalset


def evaluate_into(
    evalset: EvalSet,
    out: Path,
    model: str = "base",
    device: Literal["auto", "cpu", "cuda"] = "auto",
    settings: RunSettings | None = None,
) -> dict:
    """Run a model over a set and write ``metrics.json``, two reports and a contact sheet into ``out``.

    Rows are kept in ``rows.jsonl`` as they come and removed at the end: the same call goes on after the last of them.

    Returns:
        the content of ``metrics.json``.

    Raises:
        ValueError: no CUDA device.
        CheckpointError: the model cannot be loaded.
        OutputError: the folder cannot be written.
        RowsError: the folder holds rows of another unfinished evaluation.
    """
    settings = RunSettings() if settings is None else settings
    if device == "cuda" and not torch.cuda.is_available():
        raise ValueError("--device cuda: no CUDA device is available here, use --device cpu")
    if device == "auto":
        device = "cuda" if torch.cuda.is_available() else "cpu"
    loaded = load_model(model, device)
    with staged_folder(out):
        pass  # The folder is there now, and results can be written.
    known, path = identity(evalset, loaded, settings), out / ROWS
    earlier, count = load_rows(path, known), sample_count(evalset, settings)
    if earlier:
        Console(stderr=True).print(f"going on after {len(earlier)} of {count} samples")
    started = time.perf_counter()
    with _progress() as progress, keeping_rows(path, known, earlier) as keep:
        task = progress.add_task("evaluating", total=count, completed=len(earlier))

        def keep_and_show(row: dict) -> None:
            keep(row)
            progress.advance(task)

        rows = evaluate(evalset, loaded, settings, keep_and_show, earlier)
    content = results(known, rows)
    assert len(content["samples"]) == count == content["summary"]["all"]["samples"], "a sample was lost"
    seconds, cases = time.perf_counter() - started, cases_of(evalset, loaded, settings, rows)
    with staged_folder(out) as folder:
        save_results(content, cases, seconds, folder)
    path.unlink()
    _print_summary(content, out)
    return content


def evaluate_grid(
    evalset: EvalSet,
    out: Path,
    model: str = "base",
    device: Literal["auto", "cpu", "cuda"] = "auto",
    limit: int | None = None,
) -> list[dict]:
    """Evaluate with every setting of :data:`GRID_VIEWS` and :data:`GRID_DRAGS` on the same samples.

    Each setting gets a folder in ``out``; ``grid.md`` holds one table of all. A setting that was cut
    off goes on.

    Returns:
        the ``metrics.json`` of every setting.

    Raises:
        as :func:`evaluate_into`.
    """
    cells = []
    for views, drags in itertools.product(GRID_VIEWS, GRID_DRAGS):
        cells.append(
            evaluate_into(evalset, out / f"views{views}_drags{drags}", model, device, RunSettings(views, drags, limit))
        )
    lines = [f"# Evaluation on `{evalset.name}`, data checksum `{evalset.checksum}`", ""]
    lines += grid_table(cells).markdown()
    with staged_folder(out) as folder:
        (folder / "grid.md").write_text("\n".join(lines), encoding="utf-8")
    Console(highlight=False, soft_wrap=True).print(f"table of all settings: {out / 'grid.md'}")
    return cells


def _print_summary(content: dict, out: Path) -> None:
    whole, console = content["summary"]["all"], Console(highlight=False, soft_wrap=True)
    figures = whole["model"]
    console.print(
        f"{whole['samples']} samples: IoU {figures['iou']['mean']:.3f}, "
        f"motion error {figures['motion_error_ratio']['mean']:.3f}, "
        f"PSNR {figures['psnr']['mean']:.2f} dB (copy {whole['copy']['psnr']['mean']:.2f} dB, "
        f"oracle geometry {whole['oracle_geometry']['psnr']['mean']:.2f} dB)"
    )
    console.print(f"report: {out / 'report.html'}, {out / 'report.md'}, {out / 'metrics.json'}")


def _progress() -> Progress:
    console = Console(stderr=True)
    return Progress(
        TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn(), console=console
    )
