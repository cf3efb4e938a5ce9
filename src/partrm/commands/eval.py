"""``partrm eval``: a model's figures on fixed samples."""

from pathlib import Path
from typing import Literal

from partrm.commands import UsageError

DESCRIPTION = """Evaluate a model on fixed samples: which part moves, how, and how the result looks from all around.

procedural: held-out objects made here from seeds that training never uses (needs partrm[data]).
real: every joint of articulated objects made by others, in three transitions each, read from two wheels:
  pip install --no-deps gymnasium-robotics metaworld

Writes into the folder OUT:
  metrics.json        summary, one row a sample, model hash, data checksum, settings
  report.md           the same as tables
  contact_sheet.png   best, median and worst samples: source with drag, predicted part, predicted after, true after

Examples:
  partrm eval --data real --out eval_real
  partrm eval --data procedural --limit 50 --views 4 --drags 10 --out eval_procedural
  partrm eval --data real --model runs/mine --device cuda --out eval_mine
"""


def evaluate(
    data: Literal["procedural", "real"],
    out: Path,
    limit: int | None = None,
    views: int = 1,
    drags: int = 1,
    model: str = "base",
    device: Literal["auto", "cpu", "cuda"] = "auto",
    seed: int = 0,
) -> None:
    """Evaluate a model on fixed samples.

    Args:
        data: which objects.
        out: folder for the results; made if missing.
        limit: number of samples (default: 200 procedural ones, all real ones).
        views: input views, 1 to 4.
        drags: drags of each sample, 1 to 10.
        model: name of the bundled weights, or a checkpoint folder.
        device: auto takes a CUDA device if there is one.
        seed: of states and cameras of the procedural samples.
    """
    if not 1 <= views <= 4:
        raise UsageError(f"--views {views}: give 1 to 4")
    if not 1 <= drags <= 10:
        raise UsageError(f"--drags {drags}: give 1 to 10")
    if limit is not None and limit < 1:
        raise UsageError(f"--limit {limit}: give at least 1")

    # Heavy imports stay below what can be said without them.
    import torch

    from partrm.evaluate.runs import RunSettings
    from partrm.evaluate.session import evaluate_into, plan_set
    from partrm.model.checkpoints import load_model
    from partrm.outputs import staged_folder

    if device == "cuda" and not torch.cuda.is_available():
        raise ValueError("--device cuda: no CUDA device is available here, use --device cpu")
    # Found out now rather than after the planning: there are weights, and the results can be written.
    load_model(model)
    with staged_folder(out):
        pass
    evaluate_into(plan_set(data, limit, seed), out, model, device, RunSettings(views, drags, limit))
