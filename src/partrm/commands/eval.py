"""``partrm eval``: a model's figures on fixed samples."""

from pathlib import Path
from typing import Literal

from partrm.commands import UsageError

DESCRIPTION = """Evaluate a model on fixed samples: which part moves, how, and how the result looks from all around.

procedural: held-out objects made here from seeds that training never uses (needs partrm[data]).
real: every joint of articulated objects made by others, in three transitions each, read from two wheels:
  pip install --no-deps gymnasium-robotics metaworld

Writes into the folder OUT:
  metrics.json        summary with intervals, one row a sample, model hash, data checksum, settings
  report.html         one page: tables, histograms, best, median and worst samples in pictures
  report.md           the tables
  contact_sheet.png   the pictures
A run that was cut off goes on when called again with the same arguments. With --grid: one folder for each setting of 1
or 4 views and 1, 5 or 10 drags, and grid.md with one table of all.

Examples:
  partrm eval --data real --out eval_real
  partrm eval --data procedural --limit 50 --views 4 --drags 10 --out eval_procedural
  partrm eval --data real --grid --out eval_grid
  partrm eval --data real --model runs/mine --device cuda --out eval_mine
  partrm eval --compare eval_real/metrics.json eval_mine/metrics.json
"""


def evaluate(
    data: Literal["procedural", "real"] | None = None,
    out: Path | None = None,
    limit: int | None = None,
    views: int = 1,
    drags: int = 1,
    model: str = "base",
    device: Literal["auto", "cpu", "cuda"] = "auto",
    seed: int = 0,
    grid: bool = False,
    compare: tuple[Path, Path] | None = None,
) -> None:
    """Evaluate a model on fixed samples, or compare two evaluations.

    Args:
        data: which objects.
        out: folder for the results; made if missing.
        limit: number of samples (default: 500 procedural ones, all real ones).
        views: input views, 1 to 4.
        drags: drags of each sample, 1 to 10.
        model: name of the bundled weights, or a checkpoint folder.
        device: auto takes a CUDA device if there is one.
        seed: of states and cameras of the procedural samples.
        grid: every setting of 1 or 4 views and 1, 5 or 10 drags, instead of one.
        compare: two metrics.json of the same data: paired differences, second minus first, and nothing else.
    """
    if compare is not None:
        if data is not None or out is not None or grid:
            raise UsageError("--compare takes two metrics.json and no --data, --out or --grid")
        _compare(*compare)
        return
    if data is None or out is None:
        raise UsageError("give --data and --out, or --compare")
    if grid and (views, drags) != (1, 1):
        raise UsageError("--grid sets views and drags itself")
    if not 1 <= views <= 4:
        raise UsageError(f"--views {views}: give 1 to 4")
    if not 1 <= drags <= 10:
        raise UsageError(f"--drags {drags}: give 1 to 10")
    if limit is not None and limit < 1:
        raise UsageError(f"--limit {limit}: give at least 1")

    # Heavy imports stay below what can be said without them.
    import torch

    from partrm.evaluate.runs import RunSettings
    from partrm.evaluate.session import evaluate_grid, evaluate_into, plan_set
    from partrm.model.checkpoints import load_model
    from partrm.outputs import staged_folder

    if device == "cuda" and not torch.cuda.is_available():
        raise ValueError("--device cuda: no CUDA device is available here, use --device cpu")
    # Found out now rather than after the planning: there are weights, and the results can be written.
    load_model(model)
    with staged_folder(out):
        pass
    evalset = plan_set(data, limit, seed)
    if grid:
        evaluate_grid(evalset, out, model, device, limit)
    else:
        evaluate_into(evalset, out, model, device, RunSettings(views, drags, limit))


def _compare(first: Path, second: Path) -> None:
    from partrm.evaluate.compare import comparison, load_results

    print("\n".join(comparison(load_results(first), load_results(second))))
