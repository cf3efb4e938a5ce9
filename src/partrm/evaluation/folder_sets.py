"""Evaluation sets that lie in folders: PartDrag-4D (built here or downloaded), or a simple layout of the user's."""

import hashlib
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import torch

from partrm.datasets.partdrag4d import (
    RENDERS,
    DatasetError,
    EntryName,
    PartDrag4D,
    entries_of,
    read_file_list,
    render_folders,
)
from partrm.evaluation.folder_samples import FileSample, FolderSamples
from partrm.evaluation.partdrag4d_pairs import Protocol, StatePair, state_pairs
from partrm.evaluation.user_samples import simple_samples
from partrm.files import read_bytes

LISTS = ("test_filelist.txt", "val_filelist.txt", "val_filelist_partdrag4d.txt", "train_filelist.txt")
"""File lists looked for, the first that is there and has entries is taken."""


@dataclass(frozen=True)
class FolderSet:
    """Samples that are read from files as they are needed."""

    name: str
    """Of the folder, and of the file list."""
    seed: int
    protocol: Literal["corrected", "reference", "simple"]
    samples: tuple[FileSample, ...]
    dropped: tuple[str, ...]
    """Candidates left out, with the reason; never silent."""
    checksum: str
    """First 16 hex digits of the SHA-256 over all files of all samples."""

    def __len__(self) -> int:
        return len(self.samples)

    @property
    def object_names(self) -> tuple[str, ...]:
        """Distinct objects, in the order of their first samples."""
        return tuple(dict.fromkeys(sample.object for sample in self.samples))

    @property
    def posed_settings(self) -> None:
        """Files have cameras of their own."""

    def open(self, device: torch.device | str) -> FolderSamples:
        """The set where it is scored."""
        return FolderSamples(self.samples, torch.device(device))


def open_folder(
    root: Path, protocol: Protocol | None = None, file_list: Path | None = None, limit: int | None = None, seed: int = 0
) -> FolderSet:
    """A user's folder as an evaluation set; what it is, is seen from what it holds.

    Args:
        root: a PartDrag-4D folder, or one of the simple layout (docs/evaluation.md).
        protocol: of PartDrag-4D (``corrected`` by default).
        file_list: of PartDrag-4D; by default the first of :data:`LISTS` in the folder, else all renders.
        limit: only the first samples.
        seed: of start states and of drags of the published protocol.

    Raises:
        DatasetError: neither layout, a missing or broken file, or no usable sample.
    """
    if os.path.isdir(root / RENDERS):
        return _open_partdrag(root, protocol or "corrected", file_list, limit, seed)
    if protocol is not None or file_list is not None:
        raise DatasetError(f"{root}: --protocol and --file-list are for PartDrag-4D, but it has no folder {RENDERS}")
    samples = simple_samples(root)[:limit]
    return FolderSet(_name(root), seed, "simple", tuple(samples), (), _checksum(root, samples))


def _open_partdrag(root: Path, protocol: Protocol, file_list: Path | None, limit: int | None, seed: int) -> FolderSet:
    name, lines = _entries(root, file_list)
    dataset = PartDrag4D(root, list(lines.values()))
    present, kept = set(render_folders(root)), list[StatePair]()
    reasons: dict[tuple[EntryName, EntryName], str | None] = {}  # a list may name an entry very often
    missing = dict.fromkeys(str(entry) for entry in lines.values() if str(entry) not in present)
    dropped = [f"{entry}: {name} names it, but {RENDERS} has no such folder" for entry in missing]
    for pair in state_pairs(dataset, lines, protocol, seed):
        if limit is not None and len(kept) == limit:
            break
        if str(pair.source) in missing:
            continue
        states = pair.source, pair.target
        if states not in reasons:
            reasons[states] = pair.draggable()
        reason = reasons[states]
        if reason is None:
            kept.append(pair)
        else:
            dropped.append(f"{pair.source} to state {pair.target.state}: {reason}")
    if not kept:
        first = f" (first left out: {dropped[0]})" if dropped else ""
        raise DatasetError(f"{root}: {name} has no pair of states whose motion the first view shows{first}")
    label = f"{_name(root)} ({name})"
    distinct = list({(pair.source, pair.target): pair for pair in kept}.values())
    return FolderSet(label, seed, protocol, tuple(kept), tuple(dropped), _checksum(root, distinct))


def _entries(root: Path, file_list: Path | None) -> tuple[str, dict[int, EntryName]]:
    """Name of the list, and its entries by line."""
    if file_list is not None:
        lines = read_file_list(file_list)
        if not lines:
            raise DatasetError(f"{file_list}: names no entry")
        return file_list.name, lines
    for name in LISTS:
        if os.path.lexists(root / name) and (lines := read_file_list(root / name)):
            return name, lines
    return "all renders", dict(enumerate(entries_of(root)))


def _name(root: Path) -> str:
    """Of a folder, as reports can show it."""
    return os.fsencode(root.resolve().name).decode("utf-8", "replace")


MAX_SAMPLE_BYTES = 2**30
"""Of each file of a sample."""


def _checksum(root: Path, samples: Sequence[FileSample]) -> str:
    digest = hashlib.sha256()
    for path in sorted({path for sample in samples for path in sample.files()}):
        try:
            content = read_bytes(path, MAX_SAMPLE_BYTES)
        except OSError as error:
            raise DatasetError(f"{path}: cannot be read ({error.strerror})") from error
        digest.update(path.relative_to(root).as_posix().encode() + b"\0" + hashlib.sha256(content).digest())
    return digest.hexdigest()[:16]
