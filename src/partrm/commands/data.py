"""``partrm data build|pool|check|show``: datasets in PartDrag-4D's layout and pools to train on, from any objects."""

import io
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Literal

import tyro

from partrm.datasets.object_writer import BuildConfig
from partrm.datasets.pools import ProceduralCounts
from partrm.datasets.sources import SourceError

DESCRIPTION = """Pack articulated objects to train on; make a dataset of states, views and point clouds of them.

Examples:
  partrm data build procedural --limit 16 --out data16
  partrm data build procedural:Microwave cabinet.urdf model.xml ~/partnet-mobility --out mixed --workers 4
  partrm data build 7120 --preset reference --backend blender --out like-the-paper
  partrm data build procedural --limit 20000 --out big --gpus 4 --workers-per-gpu 8
  partrm data build procedural --limit 20000 --out big --executor ray
  partrm data pool procedural --per-category 140 --out train.npz --workers 8
  partrm data pool procedural --per-category 9000 --shard-objects 10000 --out train --workers 8
  partrm data pool drawer.urdf door.urdf lamp.xml --out own.npz
  partrm data pool real --out real.npz
  partrm data check data16
  partrm data show data16
"""


@dataclass(frozen=True)
class Build:
    """Build a dataset. A build that was stopped, even killed, goes on when it is started again.

    Writes PartDrag-4D's folders (render_PartDrag4D, processed_data_partdrag4d), file lists split by object
    and manifest.json, which lists every source that was refused and why.
    """

    sources: tyro.conf.Positional[tuple[str, ...]]
    """procedural, procedural:CATEGORY, a PartNet-Mobility folder or a folder of them, .urdf or MuJoCo .xml files."""
    out: Path
    """Folder of the dataset: empty, or this build's."""
    config: Annotated[BuildConfig, tyro.conf.arg(name="")] = field(default_factory=BuildConfig)
    limit: int | None = None
    """Most objects in all (procedural sources make 96 without)."""
    executor: Literal["local", "ray"] = "local"
    """local: processes of this machine; ray: tasks on a Ray cluster that shares the output folder (extra `ray`)."""
    ray_address: str | None = None
    """Address of the Ray cluster; by default the one running on this machine, else one is started here."""
    workers: int | None = None
    """Processes on CPUs, by default 1; with Ray the most tasks at once, by default one a core of the cluster."""
    gpus: int = 0
    """Build on so many CUDA cards instead of on CPUs."""
    workers_per_gpu: int = 1
    """Processes that share a card."""
    allow_outside: tuple[Path, ...] = ()
    """Folders whose files the sources may name (meshes, textures, includes) beside those below their own."""


@dataclass(frozen=True)
class Pool:
    """Pack objects into one file that `partrm train --pool` takes. Sources that are refused are listed, with why."""

    sources: tyro.conf.Positional[tuple[str, ...]]
    """procedural, procedural:CATEGORY, real, a PartNet-Mobility folder or a folder of them, .urdf or MuJoCo .xml
    files. real: the objects of two robotics benchmarks that the evaluation takes."""
    out: Path
    """File to write; with --shard-objects the folder, made here."""
    counts: Annotated[ProceduralCounts, tyro.conf.arg(name="")] = field(default_factory=ProceduralCounts)
    shard_objects: int | None = None
    """Write files of at most so many objects, of all kinds each, and hold no more of them in memory."""
    workers: int = 2
    """Processes."""
    allow_outside: tuple[Path, ...] = ()
    """Folders whose files the sources may name (meshes, textures, includes) beside those below their own."""


@dataclass(frozen=True)
class Check:
    """Find missing, corrupt, misprojected or unsplit entries: exit code 0 when every entry is sound."""

    folder: tyro.conf.Positional[Path]
    """A dataset that was built."""


@dataclass(frozen=True)
class Show:
    """Make a contact sheet: first and last state, drags, another view, part ids, depth."""

    folder: tyro.conf.Positional[Path]
    """A dataset that was built."""
    out: Path | None = None
    """The picture, by default contact_sheet.png in the folder."""
    limit: int = 12
    """Most rows, one an object and moving part."""


Command = (
    Annotated[Build, tyro.conf.subcommand("build")]
    | Annotated[Pool, tyro.conf.subcommand("pool")]
    | Annotated[Check, tyro.conf.subcommand("check")]
    | Annotated[Show, tyro.conf.subcommand("show")]
)


def data(command: Annotated[Command, tyro.conf.arg(name="")]) -> int:
    """Run one of the commands."""
    if isinstance(command, Build):
        return _build(command)
    if isinstance(command, Pool):
        return _pool(command)
    return _check(command.folder) if isinstance(command, Check) else _show(command)


def _build(command: Build) -> int:
    from partrm.commands import UsageError

    if command.limit is not None and command.limit < 1:
        raise UsageError(f"--limit {command.limit}: give 1 or more")
    return _build_with_progress(command)


def _build_with_progress(command: Build) -> int:
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        TextColumn,
        TimeElapsedColumn,
        TimeRemainingColumn,
    )
    from rich.text import Text

    from partrm.commands import UsageError
    from partrm.commands.console import plain_console, quiet_progress
    from partrm.datasets.build import build
    from partrm.datasets.executors import Workers

    workers = Workers(command.executor, command.workers, command.gpus, command.workers_per_gpu, command.ray_address)
    console = plain_console()
    columns = (
        TextColumn("objects"), BarColumn(), MofNCompleteColumn(), TextColumn("{task.fields[rate]}"),
        TimeElapsedColumn(), TextColumn("left"), TimeRemainingColumn(elapsed_when_finished=False),
    )  # fmt: skip
    with quiet_progress(*columns) as progress:
        task = progress.add_task("objects", total=None, rate="")

        def report(done: int, planned: int, entries: int) -> None:
            elapsed = progress.tasks[task].elapsed or 0.0
            rate = f"{entries} states, {entries / elapsed:.2f}/s" if elapsed and entries else ""
            progress.update(task, completed=done, total=planned, rate=rate)

        try:
            result = build(
                command.sources,
                command.out,
                command.config,
                limit=command.limit,
                workers=workers,
                allow_outside=command.allow_outside,
                report=report,
            )
        except SourceError as error:
            raise UsageError(str(error)) from error
    for where, note in result.notes:
        console.print(Text.assemble(("note", "cyan"), f" {where}: {note}"))
    for where, reason in result.refused:
        console.print(Text.assemble(("refused", "yellow"), f" {where}: {reason}"))
    console.print(f"{result.objects} objects, {result.entries} states in {command.out} ({result.made} made now)")
    return 0


def _pool(command: Pool) -> int:
    from rich.progress import Progress
    from rich.text import Text

    from partrm.commands import UsageError
    from partrm.commands.console import plain_console, quiet_progress
    from partrm.datasets.pools import plan_pool, save_pools
    from partrm.files import check_file, check_path

    if command.workers < 1:
        raise UsageError("--workers: out of range")
    if command.shard_objects is not None and command.shard_objects < 1:
        raise UsageError(f"--shard-objects {command.shard_objects}: give 1 or more")
    check_path(command.out)
    if not command.out.parent.is_dir():
        raise UsageError(f"--out {command.out}: no such folder {command.out.parent}; make it first")
    if command.shard_objects is not None and command.out.exists():
        raise UsageError(f"--out {command.out}: is there already; shards get a folder of their own")
    if command.shard_objects is None:
        check_file(command.out)
        _require_replaceable(command.out)
    try:
        sources = plan_pool(command.sources, command.counts, command.allow_outside)
    except SourceError as error:
        raise UsageError(str(error)) from error
    console = plain_console()
    with quiet_progress(*Progress.get_default_columns()) as progress:
        task = progress.add_task("objects", total=len(sources))

        def report(done: int, of: int) -> None:
            progress.update(task, completed=done, total=of)

        packed = save_pools(sources, command.out, command.shard_objects, command.workers, report)
    for where, note in packed.notes:
        console.print(Text.assemble(("note", "cyan"), f" {where}: {note}"))
    for where, reason in packed.refused:
        console.print(Text.assemble(("refused", "yellow"), f" {where}: {reason}"))
    files = "" if command.shard_objects is None else f", {packed.files} files"
    console.print(f"{packed.objects} objects of {packed.categories} categories in {command.out}{files}")
    return 0


def _require_replaceable(path: Path) -> None:
    """Refuse to write over what is no pool, such as a source.

    Raises:
        OutputError: it is none.
    """
    from partrm.files import NOT_OURS, OutputError
    from partrm.synthesis.mesh_pool import MAGIC

    if path.exists():
        with path.open("rb") as file:
            if file.read(len(MAGIC)) != MAGIC:
                raise OutputError(f"{path}: {NOT_OURS}")


def _check(folder: Path) -> int:
    from rich.progress import Progress

    from partrm.commands.console import plain_console, quiet_progress
    from partrm.datasets.check import check_dataset

    console, problems, checked = plain_console(), [], 0
    with quiet_progress(*Progress.get_default_columns()) as progress:
        for found in progress.track(check_dataset(folder), description="checked"):
            problems += found.problems
            checked += 1
    for problem in problems:
        console.print(problem)
    console.print(f"{checked} checked, {len(problems)} problems" if problems else f"{checked} checked, all sound")
    return 1 if problems else 0


def _show(command: Show) -> int:
    from PIL import Image, PngImagePlugin

    from partrm.commands import UsageError
    from partrm.commands.console import plain_console
    from partrm.datasets.contact_sheet import contact_sheet
    from partrm.files import atomic_write, check_file, check_path

    if command.limit < 1:
        raise UsageError("--limit: out of range")
    if command.out is not None:
        check_path(command.out)
        _require_picture_name(command.out)
        check_file(command.out)
    target = command.out or command.folder / "contact_sheet.png"
    _require_sheet(target)
    picture, mark = io.BytesIO(), PngImagePlugin.PngInfo()
    mark.add_text("Comment", SHEET)
    kind = Image.registered_extensions()[target.suffix.lower()]
    sheet = Image.fromarray(contact_sheet(command.folder, command.limit))
    sheet.save(picture, kind, **{"PNG": {"pnginfo": mark}, "JPEG": {"comment": SHEET}}.get(kind, {}))
    atomic_write(target, picture.getvalue())
    plain_console().print(f"contact sheet: {target}")
    return 0


SHEET = "a contact sheet of partrm"
"""By this comment PNG and JPEG files are known as such."""


def _require_sheet(path: Path) -> None:
    """Refuse to write over what is no sheet, such as a photograph.

    Raises:
        OutputError: it is none.
    """
    from partrm.files import NOT_OURS, OutputError
    from partrm.imaging.formats import IMAGE_ERRORS, open_image

    try:
        with open_image(path) as image:
            mark = image.info.get("Comment") or image.info.get("comment", b"")
    except FileNotFoundError:
        return
    except IMAGE_ERRORS:
        mark = b""
    if mark not in (SHEET, SHEET.encode()):
        raise OutputError(f"{path}: {NOT_OURS}")


def _require_picture_name(path: Path) -> None:
    from PIL import Image

    from partrm.commands import UsageError

    if Image.registered_extensions().get(path.suffix.lower()) not in Image.SAVE:
        raise UsageError(f"--out {path}: give a name that ends as pictures do, such as .png or .jpg")
    if not path.parent.is_dir():
        raise UsageError(f"--out {path}: no such folder {path.parent}; make it first")
