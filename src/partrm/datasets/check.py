"""``partrm data check``: every entry there, whole, in one split, its points and drags projecting where they must."""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from partrm.datasets.build import SPLITS, load_records, shared_files, split_checksum
from partrm.datasets.object_writer import digest, entry_files
from partrm.datasets.partdrag4d import DatasetError, EntryName, PartDrag4D, State, read_file_list
from partrm.geometry.joints import JointType
from partrm.geometry.transforms import screw_motion, transform_points
from partrm.synthesis.samples import Samples, load_samples

ON_OBJECT = 0.99
"""Share of an entry's visible points that must fall on its first image (edges thinner than sub-samples may lack)."""

DRAG_TOLERANCE_PX = 0.6
"""Largest distance of a stored drag's end from where its material point arrives."""


@dataclass(frozen=True)
class Checked:
    """What checking one thing found."""

    name: str
    """The lists, an object, or an entry."""
    problems: tuple[str, ...]
    drags: "DragFigures | None" = None
    """Of an object's compact samples."""


@dataclass(frozen=True)
class DragFigures:
    """How the drags of some samples project."""

    samples: int
    """Valid ones."""
    drags: int
    on_part: int
    """Drags whose start shows their moving part in view 0."""
    worst_px: float
    """Largest distance of a drag's start or end from where its material point is seen, pixels of the image."""

    def __add__(self, other: "DragFigures") -> "DragFigures":
        return DragFigures(
            self.samples + other.samples,
            self.drags + other.drags,
            self.on_part + other.on_part,
            max(self.worst_px, other.worst_px),
        )


def load_manifest(root: Path) -> dict[str, Any]:
    """The manifest of a finished build.

    Raises:
        DatasetError: folder or manifest missing, or broken.
    """
    if not root.is_dir():
        raise DatasetError(f"{root}: no such folder")
    path = root / "manifest.json"
    try:
        manifest = json.loads(path.read_text(encoding="utf-8"))
        _ = manifest["points"]["scale"], manifest["split"]["checksum"], manifest["objects"]
        return manifest
    except FileNotFoundError as error:
        raise DatasetError(f"{path}: missing; the build is not finished, run it again") from error
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise DatasetError(f"{path}: not a manifest ({error})") from error


def check_dataset(root: Path) -> Iterator[Checked]:
    """The lists, then every object and entry, as they are checked.

    Raises:
        DatasetError: no finished build there.
    """
    return _checked(root, load_manifest(root))


def _checked(root: Path, manifest: dict[str, Any]) -> Iterator[Checked]:
    yield Checked("lists", tuple(_list_problems(root, manifest)))
    try:
        data = PartDrag4D(root, [], scale=manifest["points"]["scale"], offset=tuple(manifest["points"]["offset"]))
    except DatasetError as error:
        yield Checked("folders", (str(error),))
        return
    for record in manifest["objects"]:
        yield _check_object(root, record)
        for name, checksum in record["entries"].items():
            yield Checked(name, tuple(_entry_problems(data, record["category"], EntryName.parse(name), checksum)))


def _list_problems(root: Path, manifest: dict[str, Any]) -> Iterator[str]:
    lists: dict[str, list[EntryName]] = {}
    for split in SPLITS:
        try:
            lists[split] = read_file_list(root / f"{split}_filelist.txt")
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
    if [r for r in load_records(root) if "refused" not in r] != manifest["objects"]:
        yield "the records in objects/ are not the manifest's"


def _check_object(root: Path, record: dict[str, Any]) -> Checked:
    mesh, problems = record["mesh"], []
    if digest(shared_files(root, record["category"], mesh)) != record["shared"]:
        problems.append(f"{mesh}: joints, materials or parts are missing or changed")
    if not record["samples"]:
        return Checked(mesh, tuple(problems))
    path = root / "samples" / record["split"] / f"{mesh}.samples.safetensors"
    where = path.relative_to(root)
    if not path.is_file():
        return Checked(mesh, (*problems, f"{where}: missing"))
    if digest([path]) != record["samples"]:
        return Checked(mesh, (*problems, f"{where}: corrupt"))
    try:
        figures = drag_figures(load_samples(path))
    except ValueError as error:
        return Checked(mesh, (*problems, str(error)))
    if figures.on_part < figures.drags or figures.worst_px > DRAG_TOLERANCE_PX:
        astray = figures.drags - figures.on_part
        problems.append(f"{where}: a drag is misprojected ({figures.worst_px:.2f} px, {astray} not on their part)")
    return Checked(mesh, tuple(problems), figures)


def drag_figures(samples: Samples) -> DragFigures:
    """How the drags of the valid samples of a batch project into their first images."""
    size, grid = samples.inputs.images.shape[-1], samples.targets.moving.shape[-1]
    drags, first = samples.inputs.drags, samples.inputs.cameras[:, 0]
    used = drags.valid & samples.valid[:, None]
    x, y = (drags.start * grid).floor().long().clamp(0, grid - 1).unbind(-1)
    row = torch.arange(len(x))[:, None].expand_as(x)
    moving = samples.targets.moving[:, 0][row, y, x]
    point = samples.targets.point[:, 0][row, y, x]
    start, _ = first.project(point)
    # From axis, pivot and amount, which were found apart from the matrix that made the drags.
    joint = samples.joint
    T_after_before = screw_motion(joint.axis, joint.pivot, joint.amount, joint.type == JointType.PRISMATIC)
    end, _ = first.project(transform_points(T_after_before, point))
    inside = (drags.end > -1).all(-1) & (drags.end < 2).all(-1)  # ends further out are clamped
    error = torch.where(inside, _distance(end, drags.end * size), 0.0)
    error = torch.maximum(error, _distance(start, drags.start * size)) * used
    return DragFigures(
        samples=int(samples.valid.sum()),
        drags=int(used.sum()),
        on_part=int((moving & used).sum()),
        worst_px=float(error.nan_to_num(float("inf")).max()),
    )


def _distance(a: Float[Tensor, "*batch 2"], b: Float[Tensor, "*batch 2"]) -> Float[Tensor, "*batch"]:
    return (a - b).norm(dim=-1)


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
