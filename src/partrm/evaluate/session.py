"""A whole evaluation as the user asks for it: plan or take a set, run the model, write the results."""

import time
from pathlib import Path
from typing import Literal

import torch
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from partrm.evaluate.report import contact_sheet, results, save_results
from partrm.evaluate.runs import RunSettings, evaluate
from partrm.evaluate.sets import EvalSet
from partrm.model.checkpoints import load_model
from partrm.outputs import staged_folder

PROCEDURAL_SAMPLES = 200
"""Size of the procedural set unless another is asked for."""


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
        if data == "procedural":
            return plan_procedural(count, seed, lambda: progress.advance(task))
        return plan_real(names, lambda: progress.advance(task))


def evaluate_into(
    evalset: EvalSet,
    out: Path,
    model: str = "base",
    device: Literal["auto", "cpu", "cuda"] = "auto",
    settings: RunSettings | None = None,
) -> dict:
    """Run a model over a set and write ``metrics.json``, ``report.md`` and ``contact_sheet.png`` into ``out``.

    Returns:
        the content of ``metrics.json``.

    Raises:
        ValueError: no CUDA device.
        CheckpointError: the model cannot be loaded.
        OutputError: the folder cannot be written.
    """
    settings = RunSettings() if settings is None else settings
    if device == "cuda" and not torch.cuda.is_available():
        raise ValueError("--device cuda: no CUDA device is available here, use --device cpu")
    if device == "auto":
        device = "cuda" if torch.cuda.is_available() else "cpu"
    loaded = load_model(model, device)
    with staged_folder(out) as folder:
        started = time.perf_counter()
        with _progress() as progress:
            task = progress.add_task("evaluating", total=min(settings.limit or len(evalset), len(evalset)))
            rows = evaluate(evalset, loaded, settings, lambda count: progress.advance(task, count))
        content = results(evalset, loaded, settings, rows, time.perf_counter() - started)
        save_results(content, contact_sheet(evalset, loaded, settings, rows), folder)
    whole, console = content["summary"]["all"], Console(highlight=False, soft_wrap=True)
    console.print(
        f"{whole['samples']} samples: IoU {whole['iou']['mean']:.3f}, "
        f"motion error ratio {whole['motion_error_ratio']['mean']:.3f}, "
        f"PSNR {whole['psnr']['mean']:.2f} dB (copy {whole['copy_psnr']['mean']:.2f} dB)"
    )
    console.print(f"report: {out / 'report.md'}, {out / 'metrics.json'}, {out / 'contact_sheet.png'}")
    return content


def _progress() -> Progress:
    console = Console(stderr=True)
    return Progress(
        TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn(), console=console
    )
