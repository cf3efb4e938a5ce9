"""``partrm predict``: images and drags in, moved 3D Gaussians and the joint out."""

import json as json_format
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import tyro

from partrm.commands import UsageError, without_collecting
from partrm.commands.photographs import CUT_BY, NOTHING_KNOWN, Photograph, begin_opening

if TYPE_CHECKING:
    from rich.console import Console

    from partrm.api import PartRM
    from partrm.imaging.photos import Photo
    from partrm.inference.prediction import Prediction
    from partrm.inference.source import DragPixels, SourceViews
    from partrm.model.devices import Precision
    from partrm.paper.pipeline import StatePrediction

DESCRIPTION = """Drag a part of an object in an image, get the object after the part has moved.

SOURCE is a photograph of an object or an RGBA image of it, or a folder of 1 to 4 posed views (000.png, 001.png, ...)
with cameras.json. Drags are in pixels of the (first) image.

The object is cut out of a photograph: by --box (GrabCut finds it inside), by --mask, else by its plain background, else
by GrabCut alone, which is a guess: look at mask.png.

Writes into the folder OUT:
  gaussians.ply         3D Gaussians after the drag (gaussians_before.ply: before), for any 3DGS viewer
  views/NNN.png         the object after the drag, RGBA, from 8 cameras around it or those of --cameras
  before_after.png      input with part and drag, before, after
  motion.mp4            the part moving
  part_mask.png         the moving part in the first image
  mask.png              the object in it
  input.png             the object cut out of the first image
  prediction.json       the joint (type, axis, pivot, amount, confidence), timings, model

A reference network (partrm import) knows the state after the drag alone: it writes no gaussians_before.ply, motion.mp4
and part_mask.png, and needs four views.

With --multiview zero123, Zero123++ v1.2 draws the other views of a single image (needs partrm[zero123]; its weights
are under CC-BY-NC 4.0). --zero123-unet gives it weights fine-tuned on PartDrag-4D, whose cameras it then draws.

With --propagate sam, SAM finds the dragged part and drags other points of it too, ten in all (needs partrm[sam]): the
reference's weights want that, the bundled ones do not.

Examples:
  partrm predict microwave.png --drag 150,130,90,140 --out result
  partrm predict kitchen.jpg --box 420,310,1210,1480 --drag 812,640,700,655 --out result
  partrm predict photo.jpg --mask object.png --drag 812,640,700,655 --drag 810,700,698,716 --out result
  partrm predict views_folder --drag 150,130,90,140 --cameras cameras.json --out result
  partrm predict --jobs jobs.jsonl --out results --workers 2 --save json ply
  partrm predict photo.jpg --drag 812,640,700,655 --model partrm-big --multiview zero123 --propagate sam --out result
"""


RESULTS = (
    "gaussians.ply", "gaussians_before.ply", "views", "part_mask.png", "before_after.png", "motion.mp4",
    "mask.png", "input.png", "prediction.json",
)  # fmt: skip
"""What is written into the folder OUT."""


@dataclass(frozen=True)
class Many:
    """Many jobs from one file: {"name": …, "image": …, "drags": [[X0, Y0, X1, Y1]] or "parts": true, …} a line."""

    jobs: Path | None = None
    """File of jobs; each gets a folder of its name in OUT. The same command again goes on where it was cut off."""
    save: tuple[Literal["json", "ply", "views", "masks", "input", "before_after", "motion", "asset", "all"], ...] = (
        "all",
    )
    """What is written of each job; prediction.json always is, of a job with parts parts.json, picture and masks. asset:
    of a job with parts."""
    batch: int = 8
    """Jobs that share a pass of the network."""
    executor: Literal["local", "ray"] = "local"
    """local: processes of this machine; ray: actors of Ray Data on a cluster whose nodes all see files and OUT."""
    workers: int | None = None
    """Processes on CPUs; by default 1 here, and as many as a Ray cluster has cores."""
    gpus: int = 0
    """CUDA cards."""
    workers_per_gpu: int = 1
    """Processes that share a card."""
    ray_address: str | None = None
    """Address of the Ray cluster; by default the one of this machine."""


@dataclass(frozen=True)
class Extra:
    """Views and drags made by other models."""

    multiview: Literal["none", "zero123"] = "none"
    """What draws the other views of a single image."""
    zero123: str = "sudo-ai/zero123plus-v1.2"
    """Folder or Hub repository of Zero123++."""
    zero123_unet: Path | None = None
    """Fine-tuned weights of its U-Net (.safetensors, .ckpt, .bin)."""
    elevation_deg: float | None = None
    """Of the image's camera above the horizon (by default 20, or 38.7 with --zero123-unet)."""
    propagate: Literal["none", "sam"] = "none"
    """What finds more drags on the dragged part."""
    sam: str = "facebook/sam-vit-base"
    """Folder or Hub repository of SAM, for --propagate and --cutout."""


def predict(
    out: Path,
    source: tyro.conf.Positional[Path | None] = None,
    drag: Annotated[tuple[str, ...], tyro.conf.UseAppendAction, tyro.conf.arg(metavar="X0,Y0,X1,Y1")] = (),
    cameras: Path | None = None,
    framing: Literal["auto", "canonical"] = "auto",
    model: str = "base",
    device: Literal["auto", "cpu", "cuda"] = "auto",
    precision: Literal["float32", "bfloat16"] = "float32",
    ensemble: bool = True,
    detail: int | None = None,
    json: bool = False,
    photo: Annotated[Photograph, tyro.conf.arg(name="")] = NOTHING_KNOWN,
    extra: Annotated[Extra, tyro.conf.arg(name="")] = Extra(),
    many: Annotated[Many, tyro.conf.arg(name="")] = Many(),
) -> int:
    """Drag a part of an object in an image, get the object after the part has moved.

    Args:
        out: folder for the results; made if missing.
        source: image file, or folder of posed views with cameras.json.
        drag: a drag from (X0, Y0) on the part to (X1, Y1), in pixels of the first image; 1 to 10 of them.
        cameras: cameras.json with the cameras (canonical frame) for views/ and motion.mp4.
        framing: auto finds the object from its mask; canonical: the image has the canonical camera already.
        model: name of the bundled weights, or a checkpoint folder.
        device: auto takes a CUDA device if there is one.
        precision: of the network's numbers; bfloat16 takes half the time on CPUs with AMX.
        ensemble: ask in three ways (as given, mirrored, pulled further) and take the mean of those that agree.
        detail: side of the grid of splats of what the image shows, 64 to 1024, or 0 for the network's own (by default
            384 on a CPU, 512 on a GPU): more show more of the photograph, and take longer to draw.
        json: print the joint as prediction.json has it, one line of JSON (null: no joint), and all else on standard
            error.
        photo: what is known of a photograph.
        extra: views and drags made by other models.
        many: many jobs from one file.
    """
    if many.jobs is not None:
        alone = source, drag, cameras, framing, device, ensemble, detail, json, photo, extra
        if alone != (None, (), None, "auto", "auto", True, None, False, NOTHING_KNOWN, Extra()):
            raise UsageError("--jobs goes with --model, --precision and its own options; the rest stands in its lines")
        return predict_jobs(many, many.jobs, out, model, precision)
    with without_collecting():
        source, drags = check_single(source, many), parse_drags(drag)
        check_extra(extra, source)
        opening = begin_opening(source, photo, framing, drags)

        # Heavy imports stay below what can be said without them.
        from partrm.api import PartRM
        from partrm.commands.console import plain_console
        from partrm.files import check_writable
        from partrm.geometry.cameras import load_cameras
        from partrm.imaging.video import require_video
        from partrm.inference.detail import check_detail
        from partrm.inference.source import check_drags
        from partrm.rendering.splats import load_kernels

        if detail is not None:
            check_detail(detail)
        target = None if cameras is None else load_cameras(cameras)
        check_writable(out, RESULTS, "prediction.json")
        console = plain_console(stderr=json)
        kernels, video = (ThreadPoolExecutor(1).submit(prepare) for prepare in (load_kernels, require_video))
        loaded = PartRM.from_pretrained(model, device, precision=precision)
        opened = opening.result(loaded.device, extra.sam)
        views = loaded.open(opened, framing, fovy_deg=photo.fovy_deg)
        console.print(CUT_BY[views.cut_by])
        checked = check_drags(drags, views)
        if extra != Extra():
            with console.status("other models look at the image"):
                views, checked = _add(views, checked, opened, framing, extra, device)
        if not loaded.gives_state_alone:  # which has no motion to show
            video.result()
        prediction, shown, found = _answer(loaded, views, checked, ensemble, detail, console)
        kernels.result()
        prediction.save(out, target)
        console.print(f"{found}; network {prediction.timings_s['network']:.1f} s")
        say_what_is_there(console, out, shown, json)
        return 0


def _answer(
    loaded: "PartRM",
    views: "SourceViews",
    drags: "DragPixels",
    ensemble: bool,
    detail: int | None,
    console: "Console",
) -> tuple["Prediction | StatePrediction", tuple[str, ...], str]:
    """What the weights say, the pictures that are written of it, and what they found in words."""
    from partrm.inference.prediction import ADVICE

    if loaded.gives_state_alone:
        found = f"the state after the drag ({loaded.model.name} tells no joint)"
        return loaded.predict_state(views, drags), ("before_after.png", "views"), found
    prediction = loaded.predict(views, drags, ensemble=ensemble, detail_px=detail)
    if prediction.uncertain:
        console.print(ADVICE)
    return prediction, ("before_after.png", "motion.mp4", "views"), _found(prediction)


def say_what_is_there(console: "Console", out: Path, shown: tuple[str, ...], json: bool) -> None:
    """Name the pictures; with ``json`` print the joint as prediction.json has it, one line on standard output."""
    from partrm.files import read_json

    console.print(f"pictures: {', '.join(str(out / name) for name in shown)}")
    if json:
        print(json_format.dumps(read_json(out / "prediction.json").get("joint")))


def predict_jobs(many: Many, path: Path, out: Path, model: str, precision: "Precision" = "float32") -> int:
    """All jobs of a file; 1 if one failed.

    Raises:
        JobsError: a wrong line, or a folder that holds another batch.
        ConfigError: numbers that nobody has.
    """
    from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn

    from partrm.commands.console import plain_console, quiet_progress
    from partrm.datasets.executors import Workers
    from partrm.errors import require_ranges
    from partrm.files import alone_in
    from partrm.imaging.video import require_video
    from partrm.inference.prediction import OUTPUTS, Output
    from partrm.jobs.jobs_file import read_jobs
    from partrm.jobs.running import FAILURES, BatchSettings, run_jobs

    require_ranges({"--batch": (many.batch, 1, 256)})
    workers = Workers(many.executor, many.workers, many.gpus, many.workers_per_gpu, many.ray_address)
    jobs = read_jobs(path)
    outputs: tuple[Output, ...] = tuple(
        name for name in OUTPUTS if name == "json" or name in many.save or "all" in many.save
    )
    if "motion" in outputs and not all(job.parts for job in jobs):
        require_video()
    settings = BatchSettings(model, outputs, many.batch, bool({"asset", "all"} & set(many.save)), precision)
    rate = TextColumn("{task.fields[rate]}")
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), rate, TimeRemainingColumn())
    with quiet_progress(*columns) as progress:

        def report(done: int) -> None:
            if not progress.tasks:
                progress.add_task("jobs", total=len(jobs), completed=done, rate="")
            (bar,) = progress.tasks
            progress.update(bar.id, completed=done, rate="" if bar.speed is None else f"{bar.speed:.2f}/s")

        with alone_in(out):
            failures = run_jobs(jobs, out, settings, workers, report)
    plain_console().print(f"{len(jobs) - len(failures)} of {len(jobs)} jobs done: {out}")
    if failures:
        plain_console().print(f"{len(failures)} failed: {out / FAILURES}")
    return 1 if failures else 0


def _found(prediction: "Prediction") -> str:
    """The joint in words."""
    joint = prediction.joint
    if not bool(prediction.moving.any()):
        return "nothing moves: the network found no part under the drag"
    amount = f"{joint.amount:.2f} rad" if joint.type.name == "REVOLUTE" else f"{joint.amount:.3f} object diagonals"
    return f"{joint.type.name.lower()} joint, moved by {amount}, confidence {prediction.confidence:.2f}"


def check_single(source: Path | None, many: Many) -> Path:
    """The source of a prediction without --jobs.

    Raises:
        UsageError: there is none, or an option that goes with --jobs.
    """
    if source is None:
        raise UsageError("give an image, a folder of posed views, or --jobs FILE")
    if many != Many():
        raise UsageError("--save, --batch, --executor, --workers and --gpus go with --jobs")
    return source


def check_extra(extra: Extra, source: Path) -> None:
    """What can be said about the other models' options without them.

    Raises:
        UsageError: options that do not go together, or out of range.
    """
    if extra.multiview == "none" and (extra.zero123_unet is not None or extra.elevation_deg is not None):
        raise UsageError("--zero123-unet and --elevation-deg go with --multiview zero123")
    if extra.elevation_deg is not None and not -80 <= extra.elevation_deg <= 80:
        raise UsageError(f"--elevation-deg {extra.elevation_deg:g}: give -80 to 80")
    if extra.multiview != "none" and source.is_dir():
        raise UsageError("--multiview zero123 completes a single image, not a folder of posed views")


def _add(
    views: "SourceViews",
    drags: "DragPixels",
    source: "Photo | Path",
    framing: Literal["auto", "canonical"],
    extra: Extra,
    device: Literal["auto", "cpu", "cuda"],
) -> tuple["SourceViews", "DragPixels"]:
    """The views completed by Zero123++, the drags by SAM, where asked for."""
    from partrm.inference.source import load_source
    from partrm.model.devices import select_device
    from partrm.paper.novel_views import CONDITION_PX, PARTDRAG_ELEVATION_DEG, PARTDRAG_PLAN, ZERO123_PLAN
    from partrm.paper.pipeline import propagated_drags, with_drawn_views
    from partrm.paper.sam_drags import load_sam
    from partrm.paper.zero123 import load_zero123

    condition, device_name = load_source(source, CONDITION_PX, framing, crop=False), select_device(device)
    if extra.propagate == "sam":
        drags = propagated_drags(drags, condition, load_sam(extra.sam, device_name))
    if extra.multiview == "zero123":
        artist = load_zero123(extra.zero123, extra.zero123_unet, device_name)
        plan, usual = (PARTDRAG_PLAN, PARTDRAG_ELEVATION_DEG) if artist.fine_tuned else (ZERO123_PLAN, 20.0)
        elevation = usual if extra.elevation_deg is None else extra.elevation_deg
        views = with_drawn_views(views, condition, artist.draw, plan, elevation, artist.background)
    return views, drags


def parse_drags(texts: tuple[str, ...]) -> list[tuple[float, ...]]:
    """Drags of the command line, X0,Y0,X1,Y1 each.

    Raises:
        UsageError: none or too many, or not four finite numbers each, or of no length.
    """
    if not texts:
        raise UsageError("give at least one --drag X0,Y0,X1,Y1")
    drags = []
    for text in texts:
        try:
            drags.append(tuple(float(value) for value in text.split(",")))
        except ValueError as error:
            raise UsageError(f"--drag {text}: not numbers X0,Y0,X1,Y1") from error

    from partrm.geometry.drag_numbers import DragError, check_drag_numbers

    try:
        check_drag_numbers(drags)
    except DragError as error:
        raise UsageError(str(error)) from error
    return drags
