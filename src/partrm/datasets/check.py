"""``partrm data check``: every entry there, whole, in one split, its points projecting where they must."""

import math
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import torch

from partrm.datasets.build import (
    SPLITS,
    load_record,
    record_files,
    require_record,
    shared_files,
    split_checksum,
    summary_of,
)
from partrm.datasets.object_writer import BuildConfig, digest, entry_files
from partrm.datasets.partdrag4d import PROCESSED, RENDERS, DatasetError, EntryName, PartDrag4D, State, read_file_list
from partrm.files import read_json

ON_OBJECT = 0.99
"""Share of an entry's visible points that must fall on its first image (edges thinner than sub-samples may lack)."""


@dataclass(frozen=True)
class Checked:
    """What checking one thing found."""

    name: str
    """The lists, an object, or an entry."""
    problems: tuple[str, ...]


def load_manifest(root: Path) -> dict[str, Any]:
    """The manifest of a finished build.

    Raises:
        DatasetError: folder or manifest missing, or broken.
    """
    if not os.path.isdir(root):
        raise DatasetError(f"{root}: no such folder")
    path = root / "manifest.json"
    try:
        manifest = read_json(path)
        points = manifest["points"]
        numbers = [float(points["scale"]), *map(float, points["offset"])]
        if len(numbers) != 4 or not all(map(math.isfinite, numbers)):
            raise ValueError("points are not a scale and an offset")
        if not isinstance(manifest["split"]["checksum"], str) or not isinstance(manifest["objects"], list):
            raise ValueError("split or objects are no such things")
        for record in manifest["objects"]:
            require_record(record)
        return manifest
    except FileNotFoundError as error:
        raise DatasetError(f"{path}: missing; the build is not finished, run it again") from error
    except (OSError, ValueError, KeyError, TypeError, OverflowError) as error:
        raise DatasetError(f"{path}: not a manifest ({str(error)[:200]})") from error


def check_dataset(root: Path) -> Iterator[Checked]:
    """The lists, then every object and entry, as they are checked; damage is reported, and the rest checked.

    Raises:
        DatasetError: no finished build there.
    """
    return _checked(root, load_manifest(root))


def _checked(root: Path, manifest: dict[str, Any]) -> Iterator[Checked]:
    yield Checked("lists", tuple(_list_problems(root, manifest)))
    yield Checked("files", tuple(_file_problems(root, manifest)))
    try:
        data = PartDrag4D(root, [])
    except DatasetError as error:
        yield Checked("folders", (str(error),))
        return
    for record in manifest["objects"]:
        yield Checked(record["mesh"], tuple(_reported(record["mesh"], _object_problems(root, record))))
        for name, checksum in record["entries"].items():
            found = _entry_problems(data, record["category"], EntryName.parse(name), checksum)
            yield Checked(name, tuple(_reported(name, found)))


def _reported(name: str, problems: Iterator[str]) -> Iterator[str]:
    """Problems; whatever damage makes a reader raise is one more."""
    try:
        yield from problems
    except OSError as error:
        yield f"{name}: cannot be read ({error.strerror}: {error.filename})"
    except Exception as error:  # one damaged file never ends the check
        kind = "" if isinstance(error, DatasetError) else f"{type(error).__name__} "
        yield f"{name}: {kind}{' '.join(str(error).split())}"
        return


def _list_problems(root: Path, manifest: dict[str, Any]) -> Iterator[str]:
    lists: dict[str, list[EntryName]] = {}
    for split in SPLITS:
        try:
            lists[split] = list(read_file_list(root / f"{split}_filelist.txt").values())
        except DatasetError as error:
            yield str(error)
    split_of: dict[str, str] = {}
    for split, names in lists.items():
        for name in names:
            if split_of.setdefault(name.mesh, split) != split:
                yield f"object {name.mesh} is in {split_of[name.mesh]} and in {split}"
    listed = {str(name) for names in lists.values() for name in names}
    known = {name for record in manifest["objects"] for name in record["entries"]}
    yield from (f"{name}: in no file list" for name in sorted(known - listed))
    yield from (f"{name}: listed, but not of this build" for name in sorted(listed - known))
    if split_checksum(split_of) != manifest["split"]["checksum"]:
        yield "the file lists do not have the manifest's split (checksum)"
    records = []
    for path in record_files(root):
        try:
            records.append(load_record(path))
        except DatasetError as error:
            yield str(error)
    if [r for r in records if "refused" not in r] != manifest["objects"]:
        yield "the records in objects/ are not the manifest's"


def _file_problems(root: Path, manifest: dict[str, Any]) -> Iterator[str]:
    """Damage of the files beside the entries, and what is not of this build."""
    recorded = manifest.get("files", {})
    for name, checksum in recorded.items() if isinstance(recorded, dict) else ():
        try:
            if digest([root / Path(name).name]) != checksum:
                yield f"{name}: corrupt (checksum)"
        except OSError as error:
            yield f"{name}: cannot be read ({error.strerror})"
    try:
        request = read_json(root / "build.json")
        if any(request[key] != manifest[key] for key in ("format", "config", "device")):
            yield "build.json: of another build than manifest.json"
        records = [r for path in record_files(root) if (r := _sound_record(path))]
        scale, offset = _points_of(request["config"], manifest["points"])
        summary = summary_of(records, len(request["plan"]), scale, offset)
        for key in ("points", "counts", "split", "refused"):
            if summary[key] != manifest[key]:
                yield f"manifest.json: {key} is not what the records in objects/ say"
    except (OSError, ValueError, KeyError, TypeError, AttributeError, OverflowError) as error:
        yield f"build.json: not the request of a build ({' '.join(str(error).split())[:200]})"
    known = {name for record in manifest["objects"] for name in record["entries"]}
    of_objects = {(record["category"], record["mesh"]) for record in manifest["objects"]}
    for folder in sorted((root / RENDERS).glob("*")):
        if folder.name not in known:
            yield f"{RENDERS}/{folder.name}: not of this build"
    for folder in sorted((root / PROCESSED).glob("*/*")):
        if (folder.parent.name, folder.name) not in of_objects:
            yield f"{PROCESSED}/{folder.parent.name}/{folder.name}: not of this build"


def _points_of(config: dict[str, Any], points: dict[str, Any]) -> tuple[float, Sequence[float]]:
    """Scale and offset that follow from a request; those of the manifest where another version made the request."""
    if set(config) != {f.name for f in fields(BuildConfig)}:
        return points["scale"], points["offset"]
    values: dict[str, Any] = {key: tuple(v) if isinstance(v, list) else v for key, v in config.items()}
    made = BuildConfig(**values)
    return made.points_scale, made.points_offset


def _sound_record(path: Path) -> dict[str, Any] | None:
    try:
        return load_record(path)
    except DatasetError:
        return None  # told with the lists


def _object_problems(root: Path, record: dict[str, Any]) -> Iterator[str]:
    mesh = record["mesh"]
    if digest(shared_files(root, record["category"], mesh)) != record["shared"]:
        yield f"{mesh}: joints, materials or parts are missing or changed"


def _entry_problems(data: PartDrag4D, category: str, name: EntryName, checksum: str) -> Iterator[str]:
    try:
        found = digest(entry_files(data.root, category, name))
    except FileNotFoundError as error:
        yield f"{name}: missing {Path(str(error.filename)).name}"
        return
    except OSError as error:
        yield f"{name}: cannot be read ({error.strerror})"
        return
    if found != checksum:
        yield f"{name}: corrupt (checksum)"
    try:
        state = data.load(name)
    except DatasetError as error:
        yield f"{name}: {error}"
        return
    share = share_on_object(state)
    if share < ON_OBJECT:
        yield f"{name}: misprojected, {share:.1%} of its visible points fall on the first image"


def share_on_object(state: State) -> float:
    """Share of an entry's visible points that fall within a pixel of what its first image shows."""
    if not len(state.visible):
        return 1.0
    pixels, depth = state.cameras[0].project(state.points[state.visible])
    # Sub-samples may miss the last half pixel of a silhouette.
    alpha = torch.nn.functional.max_pool2d(state.images[:1, 3:], 3, 1, 1)[0, 0]
    h, w = alpha.shape
    x, y = pixels.floor().long().unbind(-1)
    inside = (x >= 0) & (y >= 0) & (x < w) & (y < h) & (depth > 0)
    on = inside & (alpha[y.clamp(0, h - 1), x.clamp(0, w - 1)] > 0)
    return float(on.float().mean())
