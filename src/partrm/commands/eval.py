"""``partrm eval``: a model's figures on fixed samples."""

from pathlib import Path
from typing import TYPE_CHECKING, Literal

from partrm.commands import UsageError
from partrm.errors import PartRMError

if TYPE_CHECKING:
    from partrm.evaluation.eval_set import EvalSet
    from partrm.evaluation.folder_sets import FolderSet
    from partrm.evaluation.samples import RunSettings
    from partrm.evaluation.session import Listener

DESCRIPTION = """Evaluate a model on fixed samples: which part moves, how, and how the result looks from all around.

What --data takes:
  procedural   held-out objects made here from seeds that training never uses (needs partrm[data])
  real         every joint of articulated objects made by others, in three transitions each, from two wheels:
               pip install --no-deps gymnasium-robotics metaworld
  DIR          PartDrag-4D (what `partrm data build` writes, or the download), or your own samples
               (docs/evaluation.md)

Writes into the folder OUT:
  metrics.json        summary with intervals, one row a sample, model hash, data checksum, code, settings
  report.html         one page: tables, histograms, best, median and worst samples in pictures
  report.md           the tables
  contact_sheet.png   the pictures
  grid.md             with --grid: one table of all settings, each of which gets a folder

A run that was cut off goes on when called again with the same arguments.
Several GPUs: torchrun --nproc-per-node N -m partrm eval ...

Examples:
  partrm eval --data real --out eval_real
  partrm eval --data procedural --limit 50 --views 4 --drags 10 --out eval_procedural
  partrm eval --data real --framing outline --out eval_as_photos
  partrm eval --data PartDrag-4D --file-list val_filelist.txt --out eval_partdrag
  partrm eval --data PartDrag-4D --protocol reference --views 4 --drags 10 --out eval_published
  partrm eval --data procedural --workers 8 --device cpu --out eval_cpu
  partrm eval --data real --grid --out eval_grid
  partrm eval --compare eval_real/metrics.json eval_mine/metrics.json
"""


def evaluate(
    data: str | None = None,
    out: Path | None = None,
    limit: int | None = None,
    views: int = 1,
    drags: int = 1,
    framing: Literal["canonical", "outline"] = "canonical",
    model: str = "base",
    device: Literal["auto", "cpu", "cuda"] = "auto",
    seed: int = 0,
    protocol: Literal["corrected", "reference"] | None = None,
    file_list: Path | None = None,
    lpips: Literal["auto", "none"] | Path = "auto",
    workers: int = 1,
    grid: bool = False,
    compare: tuple[Path, Path] | None = None,
) -> None:
    """Evaluate a model on fixed samples, or compare two evaluations.

    Args:
        data: which objects: procedural, real, or a folder.
        out: folder for the results; made if missing.
        limit: number of samples (default: 500 procedural ones, all of the others).
        views: input views, 1 to 4.
        drags: drags of each sample, 1 to 10.
        framing: of single images of procedural and real objects: canonical, the true centre and size in place; or
            outline, as predict frames a photo, by its mask alone.
        model: name of the bundled weights, or a checkpoint folder.
        device: auto takes a CUDA device if there is one.
        seed: of states and cameras of the procedural samples, of start states of PartDrag-4D.
        protocol: of PartDrag-4D: corrected (default), or reference, the published script's, faults and all.
        file_list: of PartDrag-4D; by default its test list, else the first that is there.
        lpips: auto computes it where VGG16's weights lie in the hub's cache; or their file. On a CPU LPIPS takes most
            of the time.
        workers: processes on the CPU; the figures do not depend on it.
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
    if workers < 1:
        raise UsageError(f"--workers {workers}: give at least 1")
    if data not in ("procedural", "real") and not Path(data).is_dir():
        raise UsageError(f"--data {data}: give procedural, real or a folder; no folder is there")
    if data in ("procedural", "real") and (protocol is not None or file_list is not None):
        raise UsageError("--protocol and --file-list are for PartDrag-4D folders")
    if framing != "canonical" and data not in ("procedural", "real"):
        raise UsageError(f"--framing {framing} is for procedural and real: a folder's images are framed as they are")
    settings = _settings(views, drags, limit, framing, grid)

    # Heavy imports stay below what can be said without them.
    from partrm.commands.console import evaluation_listener
    from partrm.evaluation.parallel import Ranks
    from partrm.evaluation.session import SILENT, RunOptions, evaluate_grid, evaluate_into
    from partrm.files import check_writable
    from partrm.metrics.lpips import find_lpips
    from partrm.model.checkpoints import load_model
    from partrm.model.devices import select_device

    select_device(device)
    # Found out now rather than after the planning: there are weights, and the results can be written.
    load_model(model)
    means = RunOptions(model, device, workers, lpips=find_lpips(lpips))
    ranks = Ranks.of(device)
    if ranks.main:
        check_writable(out)
    listener = evaluation_listener() if ranks.main else SILENT
    evalset = _open(data, limit, seed, protocol, file_list, listener)
    if grid:
        evaluate_grid(evalset, out, means, limit, listener)
    else:
        evaluate_into(evalset, out, means, settings, listener)


def _settings(
    views: int, drags: int, limit: int | None, framing: Literal["canonical", "outline"], grid: bool
) -> "RunSettings":
    """What the evaluation varies; which values there are is said by :class:`RunSettings`, once."""
    from partrm.evaluation.samples import RunSettings

    if grid and (views, drags, framing) != (1, 1, "canonical"):
        raise UsageError("--grid sets views, drags and framing itself")
    try:
        return RunSettings(views, drags, limit, framing=framing)
    except PartRMError as error:
        raise UsageError(str(error)) from error


def _open(
    data: str,
    limit: int | None,
    seed: int,
    protocol: Literal["corrected", "reference"] | None,
    file_list: Path | None,
    listener: "Listener",
) -> "EvalSet | FolderSet":
    from partrm.evaluation.folder_sets import open_folder
    from partrm.evaluation.session import plan_set

    if data == "procedural" or data == "real":
        return plan_set(data, limit, seed, listener)
    return open_folder(Path(data), protocol, file_list, limit, seed)


def _compare(first: Path, second: Path) -> None:
    from partrm.evaluation.compare import comparison, load_results

    print("\n".join(comparison(load_results(first), load_results(second))))
