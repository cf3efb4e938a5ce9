"""``partrm eval``: a model's figures on fixed samples."""

import json as json_format
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from partrm.commands import UsageError
from partrm.errors import PartRMError

if TYPE_CHECKING:
    from partrm.evaluation.mesh_samples import EvalSet
    from partrm.evaluation.planning import ProceduralPlan
    from partrm.evaluation.samples import EvaluationSet, RunSettings
    from partrm.evaluation.session import Listener, RunOptions

MADE_HERE = ("procedural", "real")
"""Words for sets that are made here; a folder of such a name is given as ``./real``."""

NOVEL_SIZE_PX = 256
"""Side of the images from around."""

DESCRIPTION = """Evaluate a model on fixed samples: which part moves, how, and how the result looks from all around.

What --data takes:
  procedural   held-out objects made here from seeds that training never uses (needs partrm[data])
  real         every joint of articulated objects made by others, in three transitions each, from two wheels:
               pip install --no-deps gymnasium-robotics metaworld
  SET          a set that --pack wrote; it needs neither of the above
  DIR          PartDrag-4D (what `partrm data build` writes, or the download), or your own samples
               (docs/evaluation.md)

Writes into the folder OUT:
  metrics.json        summary with intervals, one row a sample, model hash, data checksum, code, settings
  report.html         one page: tables, histograms, best, median and worst samples in pictures
  report.md           the tables
  contact_sheet.png   the pictures
  grid.md             with --grid: one table of all settings, each of which gets a folder

With --task manipulation a suction cup pulls every true object open in MuJoCo, led by the true joint, the predicted one
(open and closed loop) and the drag alone (docs/robotics.md); it writes manipulation.json and manipulation.md.
With --task arm a Franka Panda grasps and opens them, led by the prediction, then by more of the truth; it writes
arm.json and arm.md.

A run that was cut off goes on when called again with the same arguments.
Several GPUs: torchrun --nproc-per-node N -m partrm eval ...

Examples:
  partrm eval --data real --out eval_real
  partrm eval --data procedural --limit 50 --views 4 --drags 10 --out eval_procedural
  partrm eval --data real --framing mask-box --out eval_as_photos
  partrm eval --data real --limit 8 --assets --out eval_assets
  partrm eval --data PartDrag-4D --file-list val_filelist.txt --out eval_partdrag
  partrm eval --data PartDrag-4D --protocol reference --views 4 --drags 10 --out eval_published
  partrm eval --data procedural --workers 8 --device cpu --out eval_cpu
  partrm eval --data real --grid --out eval_grid
  partrm eval --data procedural --pack set.safetensors     # where the objects can be made
  partrm eval --data set.safetensors --out eval_gpu        # where the GPU is
  partrm eval --data real --task manipulation --workers 2 --device cpu --out eval_robot
  partrm eval --data real --task arm --workers 2 --device cpu --out eval_arm
  partrm eval --compare eval_real/metrics.json eval_mine/metrics.json
"""


def evaluate(
    data: str | None = None,
    out: Path | None = None,
    task: Literal["prediction", "manipulation", "arm"] = "prediction",
    limit: int | None = None,
    views: int = 1,
    drags: int = 1,
    framing: Literal["canonical", "mask-box"] = "canonical",
    novel_size_px: int = NOVEL_SIZE_PX,
    assets: bool = False,
    model: str = "base",
    device: Literal["auto", "cpu", "cuda"] = "auto",
    precision: Literal["float32", "bfloat16"] = "float32",
    seed: int = 0,
    categories: tuple[str, ...] = (),
    motion_fraction: float = 1.0,
    protocol: Literal["corrected", "reference"] | None = None,
    file_list: Path | None = None,
    lpips: Literal["auto", "none"] | Path = "auto",
    workers: int = 1,
    grid: bool = False,
    pack: Path | None = None,
    compare: tuple[Path, Path] | None = None,
    json: bool = False,
) -> None:
    """Evaluate a model on fixed samples, pack these samples into a file, or compare two evaluations.

    Args:
        data: which objects: procedural, real, a packed set, or a folder.
        out: folder for the results; made if missing.
        task: prediction scores images, parts and joints; manipulation how far a suction cup opens the true objects, arm
            how far a Franka Panda does.
        limit: number of samples (default: 500 procedural ones, all of the others).
        views: input views, 1 to 4.
        drags: drags of each sample, 1 to 10.
        framing: of single images of procedural and real objects: canonical, the true centre and size in place; or
            mask-box, as predict frames a photo, by its mask alone.
        novel_size_px: side of the images from around that procedural and real objects are scored in.
        assets: export every answer too, and compare its surfaces with the true ones (docs/export.md; needs
            partrm[export]).
        model: name of the bundled weights, or a checkpoint folder.
        device: auto takes a CUDA device if there is one.
        precision: of the network's numbers; bfloat16 takes half the time on CPUs with AMX.
        seed: of states and cameras of the procedural samples, of start states of PartDrag-4D.
        categories: procedural objects of these instead of the 34 published categories, such as toilet lamp.
        motion_fraction: procedural motions are cut to this part: short drags.
        protocol: of PartDrag-4D: corrected (default), or reference, the published script's, faults and all.
        file_list: of PartDrag-4D; by default its test list, else the first that is there.
        lpips: auto computes it where VGG16's weights lie in the hub's cache; or their file. On a CPU LPIPS takes most
            of the time.
        workers: processes on the CPU; the figures do not depend on it.
        grid: every setting of 1 or 4 views and 1, 5 or 10 drags, instead of one.
        pack: write the procedural or real samples to this file (.safetensors), for --data elsewhere, and nothing else.
        compare: two metrics.json of the same data: paired differences, second minus first, and nothing else.
        json: print the summary as metrics.json has it, one line of JSON, and all else on standard error.
    """
    _check_json(json, compare is not None or pack is not None or grid or task != "prediction")
    if compare is not None:
        if data is not None or out is not None or pack is not None or grid:
            raise UsageError("--compare takes two metrics.json and no --data, --out, --pack or --grid")
        return _compare(*compare)
    if data is None or (out is None and pack is None):
        raise UsageError("give --data and --out, or --compare")
    _check_pack_and_grid(pack is not None, grid, out is not None, (views, drags, framing) == (1, 1, "canonical"))
    if task != "prediction":
        _check_robot(task, data, pack, grid, novel_size_px, lpips)
    _check_assets(assets, data, pack is not None or grid or task != "prediction")
    _check_data(data, protocol or file_list, bool(categories) or motion_fraction != 1, framing, pack)

    # Heavy imports stay below what can be said without them.
    from partrm.evaluation.folder_sets import open_folder
    from partrm.evaluation.planning import PUBLISHED_CATEGORIES, PUBLISHED_SAMPLES, ProceduralPlan
    from partrm.evaluation.samples import RunSettings
    from partrm.evaluation.session import RunOptions

    with _usage_errors():
        settings = RunSettings(views, drags, limit, novel_size_px, framing, assets, precision)
        options = RunOptions(model, device, workers)
        samples = PUBLISHED_SAMPLES if limit is None else limit
        plan = ProceduralPlan(samples, seed, categories or PUBLISHED_CATEGORIES, motion_fraction)

    def open_data(listener: "Listener") -> "EvaluationSet":
        if Path(data).is_dir() and data not in MADE_HERE:
            return open_folder(Path(data), protocol, file_list, limit, seed)
        return _open_meshes(data, plan, listener)

    if pack is not None:
        _pack(data, plan, pack)
    else:
        assert out is not None
        _run(open_data, out, options, lpips, settings, task, grid, json)


def _check_json(json: bool, of_others: bool) -> None:
    """Only the evaluation of predictions has a summary to print."""
    if json and of_others:
        raise UsageError("--json prints the summary of one evaluation: no --compare, --pack, --grid or robot")


def _check_pack_and_grid(pack: bool, grid: bool, out: bool, inputs_by_default: bool) -> None:
    """What a packed set and a grid do not take."""
    if pack and (out or grid):
        raise UsageError("--pack writes the set and nothing else: give it without --out and --grid")
    if grid and not inputs_by_default:
        raise UsageError("--grid sets views, drags and framing itself")


def _check_robot(task: str, data: str, pack: Path | None, grid: bool, novel_size_px: int, lpips: object) -> None:
    """What only images take is said before anything is imported."""
    if data not in MADE_HERE and Path(data).is_dir():
        raise UsageError(f"--task {task} needs true objects: --data {data} is a folder of images")
    if pack is not None or grid or novel_size_px != NOVEL_SIZE_PX or lpips != "auto":
        raise UsageError(f"--task {task} scores no images: it takes no --pack, --grid, --novel-size-px or --lpips")


def _check_assets(assets: bool, data: str, of_others: bool) -> None:
    """Assets need true objects, and the packages that make them, before anything else is done."""
    if not assets:
        return
    if of_others:
        raise UsageError("--assets is for one evaluation: no --pack, --grid or --task")
    if data not in MADE_HERE and Path(data).is_dir():
        raise UsageError(f"--assets needs true objects: --data {data} is a folder of images")
    from partrm.assets.export import DEFAULT_FORMATS, require_packages
    from partrm.evaluation.assets import SETTINGS

    require_packages(SETTINGS, DEFAULT_FORMATS)


def _check_data(
    data: str,
    of_folder: object,
    of_procedural: bool,
    framing: Literal["canonical", "mask-box"],
    pack: Path | None,
) -> None:
    """What the data do not take is said before anything is imported.

    Args:
        of_folder: an option for PartDrag-4D, if one was given.
        of_procedural: whether an option for procedural objects was given.
    """
    made, packed = data in MADE_HERE, Path(data).is_file()
    if not (made or packed or Path(data).is_dir()):
        raise UsageError(f"--data {data}: give procedural, real, a packed set or a folder; no folder is there")
    if of_folder is not None and (made or packed):
        raise UsageError("--protocol and --file-list are for PartDrag-4D folders")
    if of_procedural and data != "procedural":
        raise UsageError("--categories and --motion-fraction are for procedural samples")
    if framing != "canonical" and not (made or packed):
        raise UsageError(f"--framing {framing} is for procedural and real: a folder's images are framed as they are")
    if pack is not None and not made:
        raise UsageError("--pack is for procedural and real")


@contextmanager
def _usage_errors() -> Iterator[None]:
    """Which values there are is said by the settings themselves, once; here it becomes exit code 2."""
    try:
        yield
    except PartRMError as error:
        raise UsageError(str(error)) from error


def _open_meshes(data: str, plan: "ProceduralPlan", listener: "Listener") -> "EvalSet":
    from partrm.evaluation.eval_set import load_eval_set
    from partrm.evaluation.session import plan_procedural_set, plan_real_set

    if data == "procedural":
        return plan_procedural_set(plan, listener)
    return plan_real_set(listener) if data == "real" else load_eval_set(Path(data))


def _run(
    open_data: "Callable[[Listener], EvaluationSet]",
    out: Path,
    options: "RunOptions",
    lpips: Literal["auto", "none"] | Path,
    settings: "RunSettings",
    task: Literal["prediction", "manipulation", "arm"],
    grid: bool,
    json: bool,
) -> None:
    """Evaluate; the main one of several ranks speaks and writes."""
    from partrm.commands.console import evaluation_listener
    from partrm.evaluation.mesh_samples import EvalSet
    from partrm.evaluation.parallel import Ranks
    from partrm.evaluation.session import SILENT, evaluate_grid, evaluate_into
    from partrm.files import alone_in, check_writable
    from partrm.metrics.lpips import find_lpips
    from partrm.model.checkpoints import load_model
    from partrm.model.devices import select_device
    from partrm.robotics.arm_evaluation import evaluate_arm
    from partrm.robotics.manipulation import evaluate_manipulation
    from partrm.robotics.panda import mink_package, panda_file
    from partrm.robotics.simulated_object import mujoco_package

    select_device(options.device)
    # Found out now rather than after the planning: there are weights, and the results can be written.
    load_model(options.model)
    if task != "prediction":
        mujoco_package()
        if task == "arm":
            mink_package()
            panda_file()
    else:
        options = replace(options, lpips=find_lpips(lpips))
    ranks = Ranks.of(options.device)
    if ranks.main:
        check_writable(out)
    listener = evaluation_listener(json) if ranks.main else SILENT
    evalset = open_data(listener)
    with alone_in(out) if ranks.main else nullcontext():
        if task == "manipulation":
            assert isinstance(evalset, EvalSet)
            evaluate_manipulation(evalset, out, options, settings, listener=listener)
        elif task == "arm":
            assert isinstance(evalset, EvalSet)
            evaluate_arm(evalset, out, options, settings, listener=listener)
        elif grid:
            evaluate_grid(evalset, out, options, settings.limit, listener, settings.precision)
        else:
            results = evaluate_into(evalset, out, options, settings, listener)
            if json and ranks.main:
                print(json_format.dumps(results.all.to_json(), allow_nan=False))


def _pack(data: str, plan: "ProceduralPlan", path: Path) -> None:
    from partrm.commands.console import evaluation_listener
    from partrm.evaluation.eval_set import save_eval_set
    from partrm.files import check_file

    check_file(path)  # before the planning
    listener = evaluation_listener()
    evalset = _open_meshes(data, plan, listener)
    save_eval_set(evalset, path)
    objects = len(evalset.object_names)
    listener.say(f"{path}: {len(evalset)} samples of {objects} objects, checksum {evalset.checksum}")
    for reason in evalset.dropped:
        listener.say(f"left out: {reason}")


def _compare(first: Path, second: Path) -> None:
    from partrm.evaluation.report import comparison
    from partrm.evaluation.results import load_results

    print("\n".join(comparison(load_results(first), load_results(second))))
