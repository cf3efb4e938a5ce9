"""Files that appear whole or not at all."""

import shutil
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from partrm.errors import PartRMError

STAGING = ".partrm."
"""What names of temporary folders begin with."""


class OutputError(PartRMError):
    """Results that cannot be written; the message says where and why."""


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
