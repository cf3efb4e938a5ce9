"""``partrm data build``: plan, workers, one record an object, split lists and manifest.

An object's record (``objects/<mesh>.json``) is written when all of its entries stand; a build that is started again
skips objects with a record, but for refused ones, and entries whose render folder stands. Nothing written depends on
time, on the number of workers or on interruptions.
"""

import hashlib
import json
import platform
import shutil
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from partrm import __version__
from partrm.datasets.executors import ExecutorError, Workers, require_workers, run_tasks
from partrm.datasets.object_writer import BuildConfig, ObjectWriter, digest, entry_files, object_seed, replace_text
from partrm.datasets.partdrag4d import PROCESSED, RENDERS, DatasetError, EntryName
from partrm.datasets.sources import Source, load_source, plan_sources, require_generators
from partrm.errors import PartRMError
from partrm.files import alone_in, check_path, read_json, read_text
from partrm.objects.articulated_object import PackageMissingError
from partrm.objects.textures import textured
from partrm.rendering.meshes import RendererMissingError

FORMAT = "partrm-partdrag4d-1"
SPLITS = ("train", "val", "test")

HELD_OUT = 0.05
"""Share of the objects in each of val and test, at least one where there are three or more."""

LISTED_PACKAGES = ("numpy", "torch", "warp-lang", "trimesh", "yourdfpy", "mujoco", "scene-synthesizer", "bpy")


class BuildError(PartRMError):
    """A build that cannot go on; the message says why and what to do."""


@dataclass(frozen=True)
class BuildResult:
    """What a build made."""

    objects: int
    entries: int
    refused: tuple[tuple[str, str], ...]
    """(source, reason) of every object left out."""
    made: int
    """Entries of this run; the others stood already."""
    notes: tuple[tuple[str, str], ...] = ()
    """(source, what was left out or looks odd) of objects that were built."""


def split_objects(meshes: list[str], seed: int) -> dict[str, str]:
    """Split of every object: by the order of their hashes, so that it does not hang on the order of sources."""
    ranked = sorted(meshes, key=lambda mesh: hashlib.sha256(f"{seed}:{mesh}".encode()).hexdigest())
    held = max(1, round(HELD_OUT * len(meshes))) if len(meshes) >= len(SPLITS) else 0
    names = ["val"] * held + ["test"] * held + ["train"] * (len(meshes) - 2 * held)
    return dict(zip(ranked, names, strict=True))


def split_checksum(split: dict[str, str]) -> str:
    """Checksum of which object is in which split."""
    return hashlib.sha256("\n".join(sorted(f"{s} {m}" for m, s in split.items())).encode()).hexdigest()


def _claim(root: Path, request: dict) -> None:
    """Make the folder this build's, or find that it is."""
    path = root / "build.json"
    text = json.dumps(request, indent=1, ensure_ascii=False)
    if path.is_file():
        try:
            written = read_text(path)
        except (OSError, ValueError) as error:
            raise BuildError(f"{path}: cannot be read ({error}); give another --out") from error
        if written != text:
            raise BuildError(f"{root}: holds a build of other sources or settings; give another --out")
        return
    if any(p.name != ".lock" for p in root.iterdir()):  # earlier versions held their folders by such a file
        raise BuildError(f"{root}: is not empty and holds no build; give another --out")
    replace_text(path, text)


def build(
    words: tuple[str, ...],
    root: Path,
    config: BuildConfig,
    *,
    limit: int | None = None,
    workers: Workers = Workers(),  # noqa: B008 - frozen
    allow_outside: tuple[Path, ...] = (),
    report: Callable[[int, int, int], None] = lambda objects, of, entries: None,
) -> BuildResult:
    """Build a dataset below ``root``, or go on with one that was interrupted.

    Args:
        words: SOURCE words.
        root: the dataset's folder, empty or of the same build.
        config: what is made of each object.
        limit: most objects.
        workers: who works, and on what device.
        allow_outside: folders whose files the sources may name beside those below their own.
        report: called with objects done, objects planned and entries made now, whenever they change.

    Raises:
        SourceError: a word means nothing.
        BuildError: the folder is another build's or in use, cannot be written (a full disk), a worker died, memory
            or a package that a source needs is missing, or no object could be used.
        RendererMissingError: the backend is not installed.
    """
    if config.backend == "blender":
        from partrm.rendering.blender import require_blender

        require_blender()
    planned = plan_sources(words, limit, config.seed, allow_outside)
    try:
        require_workers(workers)
        require_generators(planned)
    except (ExecutorError, PackageMissingError) as error:
        raise BuildError(str(error)) from error
    check_path(root)
    split = split_objects([source.mesh for source in planned], config.seed)
    with alone_in(root):
        request = {"format": FORMAT, "config": asdict(config), "device": workers.device, "limit": limit}
        _claim(root, request | {"plan": [_planned(source) for source in planned]})
        try:
            made = _run(planned, split, root, config, workers, report)
            return _finish(planned, split, root, config, workers.device, made)
        except ExecutorError as error:
            raise BuildError(str(error)) from error
        except OSError as error:
            raise BuildError(f"{error.filename or root}: cannot write ({error.strerror or error})") from error


def _planned(source: Source) -> dict[str, Any]:
    """A source as the plan has it; without what most have not, so that older builds go on."""
    return {key: value for key, value in asdict(source).items() if key != "allow_outside" or value}


def _run(
    planned: list[Source],
    split: dict[str, str],
    root: Path,
    config: BuildConfig,
    workers: Workers,
    report: Callable[[int, int, int], None],
) -> int:
    """Make the objects without a record, and those that were refused once more; entries made."""
    whole = {record["mesh"] for record in load_records(root) if "refused" not in record}
    waiting = [source for source in planned if source.mesh not in whole]
    done, made = len(planned) - len(waiting), 0
    report(done, len(planned), made)
    here = workers.executor == "local" and workers.device == "cpu" and (workers.count or 1) == 1
    if here and config.backend == "warp":
        for source in waiting:
            for _ in build_object(root, source, split[source.mesh], config):
                made += 1
                report(done, len(planned), made)
            done += 1
            report(done, len(planned), made)
        return made
    tasks = [(source, split[source.mesh]) for source in waiting]
    work, give_up = partial(_build_whole, root.absolute(), config), partial(_refuse_task, root)
    for entries in run_tasks(work, tasks, workers, give_up):
        made += entries
        done += 1
        report(done, len(planned), made)
    return made


def _build_whole(root: Path, config: BuildConfig, task: tuple[Source, str], device: str) -> int:
    source, split = task
    return sum(1 for _ in build_object(root, source, split, config, device))


def _refuse_task(root: Path, task: tuple[Source, str], reason: str) -> int:
    source, split = task
    _refuse(root, {"mesh": source.mesh, "where": source.where, "split": split}, reason)
    return 0


def _refuse(root: Path, record: dict[str, Any], reason: str) -> None:
    """Leave nothing of an object but a record of why."""
    _remove_entries(root, record["mesh"])
    refused = {key: record[key] for key in ("mesh", "where", "split")} | {"refused": reason}
    (root / "objects").mkdir(parents=True, exist_ok=True)
    replace_text(_record_path(root, record["mesh"]), json.dumps(refused, indent=1, ensure_ascii=False))


def _record_path(root: Path, mesh: str) -> Path:
    return root / "objects" / f"{mesh}.json"


def build_object(root: Path, source: Source, split: str, config: BuildConfig, device: str = "cpu") -> Iterator[str]:
    """Make what is missing of one object, yielding the names of new entries, then write its record.

    An object that cannot be used gets a record with the reason instead, and leaves no other file behind.

    Raises:
        BuildError: the source needs a package or more memory than there is, which says nothing about the object.
    """
    (root / "objects").mkdir(parents=True, exist_ok=True)
    record: dict[str, Any] = {"mesh": source.mesh, "where": source.where, "split": split}
    try:
        loaded = load_source(source)
        if config.textures == "images":
            loaded = textured(loaded, object_seed(source.mesh, config.seed) + 3)
        writer = ObjectWriter(root, loaded, config, device)
        yield from writer.write()
        record |= {
            "category": loaded.category,
            "source": loaded.source,
            "moving": [loaded.parts[i].name for i in loaded.movable],
            "faces": sum(len(p.faces) for p in loaded.parts),
            **({"notes": list(loaded.notes)} if loaded.notes else {}),
            "shared": digest(shared_files(root, loaded.category, source.mesh)),
            "entries": {str(n): digest(entry_files(root, loaded.category, n)) for n, _ in writer.entries},
        }
    except (PackageMissingError, RendererMissingError) as error:
        raise BuildError(f"{error}, then run again") from error
    except MemoryError as error:
        message = f"{source.where}: out of memory; run again with more of it, or with fewer workers"
        raise BuildError(message) from error
    except OSError:
        raise
    except Exception as error:  # one bad object never ends a build
        _refuse(root, record, _reason(error))
        return
    replace_text(_record_path(root, source.mesh), json.dumps(record, indent=1, ensure_ascii=False))


def _reason(error: Exception) -> str:
    """Why an object is refused, in one line that any file can hold."""
    text = " ".join(str(error).split()).encode("utf-8", "backslashreplace").decode()
    return text if text and isinstance(error, ValueError) else f"{type(error).__name__}: {text}".rstrip(": ")


def _remove_entries(root: Path, mesh: str) -> None:
    """Remove all that was written of an object: a later try, with its source mended, starts afresh."""
    for below, pattern in ((RENDERS, f"{mesh}_*"), (RENDERS, f".{mesh}_*.part"), (PROCESSED, f"*/{mesh}")):
        for folder in list((root / below).glob(pattern)):
            shutil.rmtree(folder)


def shared_files(root: Path, category: str, mesh: str) -> list[Path]:
    """What all entries of an object have in common."""
    folder = root / PROCESSED / category / mesh
    return sorted(p for p in folder.rglob("*") if p.is_file() and p.parent.name != "motion")


def load_records(root: Path) -> list[dict[str, Any]]:
    """Records of all objects, by name.

    Raises:
        DatasetError: a broken record.
    """
    return [load_record(path) for path in record_files(root)]


def record_files(root: Path) -> list[Path]:
    """Files of the records of all objects, by name."""
    return sorted((root / "objects").glob("*.json"))


def load_record(path: Path) -> dict[str, Any]:
    """The record of one object: whole, or refused.

    Raises:
        DatasetError: not a record of the object that its file is called after.
    """
    try:
        record = read_json(path)
        if not isinstance(record, dict) or record.get("mesh") != path.stem:
            raise ValueError("it is not of that object")
        if "refused" in record:
            _require_texts(record, ("where", "split", "refused"))
        else:
            require_record(record)
    except (OSError, ValueError, TypeError) as error:
        raise DatasetError(f"{path}: not a record ({error}); remove it and build again") from error
    return record


def require_record(record: Any) -> None:
    """Check the types of a whole object's record.

    Raises:
        ValueError: one is another.
    """
    if not isinstance(record, dict):
        raise ValueError("a record is no table")
    _require_texts(record, ("mesh", "where", "split", "category", "source", "shared"))
    entries = record.get("entries")
    if not isinstance(entries, dict) or not all(isinstance(value, str) for value in entries.values()):
        raise ValueError("entries are not names with checksums")
    if any("/" in text or text.startswith(".") for text in (record["mesh"], record["category"], *entries)):
        raise ValueError("a name leads elsewhere")
    for name in entries:
        EntryName.parse(name)


def _require_texts(record: dict[str, Any], keys: tuple[str, ...]) -> None:
    for key in keys:
        if not isinstance(record.get(key), str):
            raise ValueError(f"{key} is no text")


def summary_of(records: list[dict[str, Any]], planned: int, scale: float, offset: Sequence[float]) -> dict[str, Any]:
    """What a manifest says of all objects together: points, counts, split, objects and refusals."""
    whole = [r for r in records if "refused" not in r]
    refused = [{"source": r["where"], "reason": r["refused"]} for r in records if "refused" in r]
    kept = {r["mesh"]: r["split"] for r in whole}
    entries = sum(len(r["entries"]) for r in whole)
    return {
        "points": {"scale": scale, "offset": list(offset)},
        "counts": {"planned": planned, "objects": len(whole), "refused": len(refused), "entries": entries},
        "split": {"checksum": split_checksum(kept), **{s: [m for m in kept if kept[m] == s] for s in SPLITS}},
        "objects": whole,
        "refused": refused,
    }


def _finish(
    planned: list[Source], split: dict[str, str], root: Path, config: BuildConfig, device: str, made: int
) -> BuildResult:
    """Write the lists and, last, the manifest."""
    records = load_records(root)
    whole = [r for r in records if "refused" not in r]
    refused = [(r["where"], r["refused"]) for r in records if "refused" in r]
    if not whole:
        raise BuildError(f"{root}: no object could be used; the first: {refused[0][1]}")
    kept = {r["mesh"]: split[r["mesh"]] for r in whole}
    for part in SPLITS:
        names = [name for r in whole if kept[r["mesh"]] == part for name in r["entries"]]
        replace_text(root / f"{part}_filelist.txt", "".join(f"{RENDERS}/{name}\n" for name in names))
    entries = sum(len(r["entries"]) for r in whole)
    manifest = {
        "format": FORMAT,
        "partrm": __version__,
        "packages": {name: _version(name) for name in LISTED_PACKAGES} | {"python": platform.python_version()},
        "config": asdict(config),
        "device": device,
        **summary_of(records, len(planned), config.points_scale, config.points_offset),
    }
    manifest["files"] = {name: digest([root / name]) for name in ("build.json", *map("{}_filelist.txt".format, SPLITS))}
    replace_text(root / "manifest.json", json.dumps(manifest, indent=1, ensure_ascii=False))
    notes = tuple((r["where"], note) for r in whole for note in r.get("notes", ()))
    return BuildResult(len(whole), entries, tuple(refused), made, notes)


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return ""
