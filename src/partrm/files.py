"""Files that appear whole or not at all."""

import errno
import json
import os
import shutil
import stat
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from partrm.errors import PartRMError

STAGING = ".partrm."
"""What names of temporary folders begin with."""


class OutputError(PartRMError):
    """Results that cannot be written; the message says where and why."""


MAX_TEXT_BYTES = 64 * 2**20
"""Of JSON files, file lists and descriptions of objects."""


def read_bytes(path: str | Path, most: int) -> bytes:
    """Content of a regular file of bounded size: no device and no pipe is ever read.

    Raises:
        OSError: missing, not a regular file, larger than ``most`` bytes, or no path that a file can have; its
            ``strerror`` is fit for a message.
    """
    try:
        # A pipe without a writer would block at opening.
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except ValueError as error:
        raise OSError(errno.EINVAL, "no file has such a name", repr(str(path))) from error
    with os.fdopen(descriptor, "rb") as file:
        status = os.fstat(descriptor)
        if not stat.S_ISREG(status.st_mode):
            raise OSError(errno.EINVAL, "not a regular file", str(path))
        content = file.read(most + 1) if status.st_size <= most else None
    if content is None or len(content) > most:
        raise OSError(errno.EFBIG, f"larger than {most / 2**20:.0f} MiB", str(path))
    return content


def read_text(path: str | Path, most: int = MAX_TEXT_BYTES) -> str:
    """Text (UTF-8, with or without a byte order mark) of a regular file of bounded size.

    Raises:
        OSError: as :func:`read_bytes`.
        ValueError: not UTF-8.
    """
    return read_bytes(path, most).decode("utf-8-sig")


def read_json(path: str | Path, most: int = MAX_TEXT_BYTES) -> Any:
    """Content of a JSON file.

    Raises:
        OSError: as :func:`read_bytes`.
        ValueError: not UTF-8, not JSON, nested too deeply, or numbers of too many digits.
    """
    try:
        return json.loads(read_text(path, most))
    except RecursionError as error:
        raise ValueError("nested too deeply") from error


def check_writable(folder: str | Path) -> None:
    """Find out before the work that :func:`staged_folder` can write there; leaves nothing behind.

    Raises:
        OutputError: it cannot.
    """
    folder = Path(folder)
    nearest = next(path for path in (folder, *folder.absolute().parents) if path.exists())
    try:
        if not nearest.is_dir():
            raise OutputError(f"{folder}: cannot write there, {'it' if nearest == folder else nearest} is not a folder")
        with tempfile.TemporaryDirectory(dir=nearest, prefix=STAGING):
            pass
    except OSError as error:
        raise OutputError(f"{folder}: cannot write there ({error.strerror})") from error


@contextmanager
def staged_file(path: str | Path) -> Iterator[Path]:
    """A temporary name beside ``path``; what the block writes there takes the place of ``path`` if it succeeds.

    Raises:
        OSError: from the block, or where the file cannot take its place; ``path`` is then as it was.
    """
    path = Path(path)
    # One name, so that the next writer replaces what a killed one left; hidden, so that it counts nowhere as a result.
    part = path.with_name(f".{path.name}.part")
    try:
        yield part
        part.replace(path)
    finally:
        part.unlink(missing_ok=True)


def atomic_write(path: str | Path, content: bytes | str) -> None:
    """Write a file (text as UTF-8) that appears under its name, whole, or not at all.

    Raises:
        OutputError: it cannot be written.
    """
    try:
        with staged_file(path) as part:
            part.write_bytes(content.encode("utf-8") if isinstance(content, str) else content)
    except OSError as error:
        raise OutputError(f"{path}: cannot be written ({error.strerror})") from error


@contextmanager
def staged_folder(folder: str | Path, without: Sequence[str] = ()) -> Iterator[Path]:
    """A temporary folder, whose entries take their place in ``folder`` only if the block succeeds.

    Entries of the same name are replaced, those named in ``without`` (names or patterns) removed, others in ``folder``
    stay. The temporary folder lies inside ``folder`` where that is there already, for a folder may be a disk of its
    own; else beside it.

    Raises:
        OutputError: the folder cannot be made or written.
    """
    folder = Path(folder)
    check_writable(folder)
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        place, prefix = (folder, STAGING) if folder.exists() else (folder.parent, f".{folder.name}.")
        staging = Path(tempfile.mkdtemp(dir=place, prefix=prefix))
    except OSError as error:
        raise OutputError(f"{folder}: cannot write there ({error.strerror})") from error
    try:
        yield staging
        try:
            folder.mkdir(exist_ok=True)
            entries = sorted(staging.iterdir())
            for entry in entries:
                _replace(entry, folder / entry.name)
            fresh = {entry.name for entry in entries}
            for old in [old for pattern in without for old in folder.glob(pattern) if old.name not in fresh]:
                old.unlink()
        except OSError as error:
            raise OutputError(f"{folder}: cannot write there ({error.strerror})") from error
    finally:
        shutil.rmtree(staging, ignore_errors=True)


def _replace(entry: Path, target: Path) -> None:
    """Move a file or a folder to where another of either kind may stand."""
    if target.is_dir() and not target.is_symlink():
        shutil.rmtree(target)
    elif entry.is_dir():
        target.unlink(missing_ok=True)
    entry.replace(target)
