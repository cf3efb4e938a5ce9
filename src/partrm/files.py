"""Files that appear whole or not at all."""

import shutil
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

STAGING = ".partrm."
"""What names of temporary folders begin with."""


class OutputError(ValueError):
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
def staged_folder(folder: str | Path, without: Sequence[str] = ()) -> Iterator[Path]:
    """A temporary folder, whose entries take their place in ``folder`` only if the block succeeds.

    Entries of the same name are replaced, those named in ``without`` removed, others in ``folder`` stay. The temporary
    folder lies inside ``folder`` where that is there already, for a folder may be a disk of its own; else beside it.

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
            for entry in sorted(staging.iterdir()):
                _replace(entry, folder / entry.name)
            for name in without:
                (folder / name).unlink(missing_ok=True)
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
