"""Files that appear whole or not at all."""

import errno
import json
import os
import re
import shutil
import socket
import stat
import tempfile
from collections import Counter
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from fnmatch import fnmatch
from itertools import chain
from pathlib import Path
from typing import Any

from partrm.errors import PartRMError

STAGING = ".partrm."
"""What names of temporary folders begin with; machine and process follow, so that those of dead ones are known."""

RECORD_KEY = "partrm_version"
"""In the JSON file that marks a folder as one of results: nothing is replaced in a folder without it."""

NAME_BYTES, PATH_BYTES = 255 - len(b"..part"), 4096 - 256
"""Longest name and path, with room for the temporary ones."""


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
    status = os.fstat(descriptor)
    if not stat.S_ISREG(status.st_mode):
        os.close(descriptor)
        raise OSError(errno.EINVAL, "not a regular file", str(path))
    with os.fdopen(descriptor, "rb") as file:
        # Not up to ``most``: that much would be set aside at once.
        content = file.read(status.st_size + 1) if status.st_size <= most else None
    if content is None or len(content) > most:
        raise OSError(errno.EFBIG, f"larger than {most / 2**20:.0f} MiB", str(path))
    return content


def read_text(path: str | Path, most: int = MAX_TEXT_BYTES) -> str:
    """Text (UTF-8, with or without a byte order mark) of a regular file of bounded size.

    Raises:
        OSError: as :func:`read_bytes`.
        ValueError: not UTF-8.
    """
    content = read_bytes(path, most)
    refuse_wide(content)
    return content.decode("utf-8-sig")


WIDE = re.compile(rb"\xff\xfe|\xfe\xff|\0\0\xfe\xff|[^\0]\0[^\0]\0|\0[^\0]\0[^\0]|\0\0\0[^\0]|[^\0]\0\0\0")
"""How text of two or four bytes a letter begins, with a byte order mark or ASCII."""


def refuse_wide(content: bytes) -> None:
    """Refuse text in UTF-16 or UTF-32, as some editors save it.

    Raises:
        ValueError: it is.
    """
    if WIDE.match(content):
        raise ValueError("its text is in UTF-16 or UTF-32; save it as UTF-8")


def read_json(path: str | Path, most: int = MAX_TEXT_BYTES) -> Any:
    """Content of a JSON file.

    Raises:
        OSError: as :func:`read_bytes`.
        ValueError: not UTF-8, or as :func:`parse_json`.
    """
    return parse_json(read_text(path, most))


def parse_json(text: str) -> Any:
    """What a JSON text says; no key of an object may say it twice.

    Raises:
        ValueError: not JSON, nested too deeply, a key twice, or numbers of too many digits.
    """
    try:
        return json.loads(text, object_pairs_hook=_distinct)
    except RecursionError as error:
        raise ValueError("nested too deeply") from error


def _distinct(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        twice = next(key for key, count in Counter(key for key, _ in pairs).items() if count > 1)
        raise ValueError(f"the key {twice[:60]!r} is there twice")
    return found


def check_path(path: str | Path) -> None:
    """Find out whether a path can name a file or folder of results.

    Raises:
        OutputError: it holds a NUL, is not UTF-8, is too long, or leads through a link to nothing.
    """
    shown = repr(str(path))[1:-1] if len(str(path)) < 200 else repr(str(path)[:60])[1:-1] + "..."
    try:
        encoded = str(path).encode()
    except UnicodeEncodeError as error:
        raise OutputError(f"{shown}: cannot write there (the path is not UTF-8)") from error
    if b"\0" in encoded:
        raise OutputError(f"{shown}: cannot write there (no path holds a NUL)")
    if len(encoded) > PATH_BYTES or any(len(part.encode()) > NAME_BYTES for part in Path(path).parts):
        raise OutputError(f"{shown}: cannot write there (File name too long)")
    absolute = Path(path).absolute()
    for place in (absolute, *absolute.parents):
        if place.is_symlink() and not place.exists():
            raise OutputError(f"{shown}: cannot write there ({place} is a link to nothing)")


def check_writable(folder: str | Path, names: Sequence[str] = (), record: str = "") -> None:
    """Find out before the work that :func:`staged_folder` can write there; leaves nothing behind.

    Args:
        folder: of the results.
        names: of entries that will be written; what stands there under such a name must be an earlier result.
        record: name of the JSON file that earlier results have.

    Raises:
        OutputError: it cannot.
    """
    check_path(folder)
    folder = Path(folder)
    nearest = next(path for path in (folder, *folder.absolute().parents) if path.exists())
    try:
        if not nearest.is_dir():
            raise OutputError(f"{folder}: cannot write there, {'it' if nearest == folder else nearest} is not a folder")
        with tempfile.TemporaryDirectory(dir=nearest, prefix=_staging_prefix()):
            pass
        _check_ours(folder, names, record)
    except OSError as error:
        raise OutputError(f"{folder}: cannot write there ({error.strerror})") from error


def check_file(path: str | Path) -> None:
    """Find out before the work that :func:`staged_file` can write there; leaves nothing behind.

    Raises:
        OutputError: it cannot, or a folder, a device or a pipe stands there.
    """
    check_path(path)
    path = Path(path)
    if path.exists() and not path.is_file():
        raise OutputError(f"{path}: cannot write there, it is no regular file")
    check_writable(path.parent)


def _check_ours(folder: Path, names: Sequence[str], record: str) -> None:
    """Refuse to replace what is no earlier result: all that stands in a folder without a record of ours."""
    if not _has_record(folder / record):
        for name in names:
            if os.path.lexists(folder / name) and not _is_empty_folder(folder / name):
                raise OutputError(f"{folder / name}: {NOT_OURS}")


def _is_empty_folder(path: Path) -> bool:
    return path.is_dir() and not path.is_symlink() and not any(path.iterdir())


NOT_OURS = "was not written by partrm and is not replaced; give another name"


def _has_record(path: Path) -> bool:
    try:
        content = read_json(path)
    except (OSError, ValueError):
        return False
    return isinstance(content, dict) and RECORD_KEY in content


def _staging_prefix() -> str:
    machine = re.sub(r"[^\w-]", "-", socket.gethostname())[:64]
    return f"{STAGING}{machine}.{os.getpid()}."


def _remove_stale(place: Path) -> None:
    """Remove the temporary folders of processes of this machine that have ended."""
    ours = _staging_prefix().rpartition(".")[0].rpartition(".")[0]
    for left in place.glob(f"{STAGING}*"):
        machine, _, rest = left.name.rpartition(".")[0].rpartition(".")
        if machine == ours and rest.isdigit() and left.is_dir() and not left.is_symlink() and not _runs(int(rest)):
            shutil.rmtree(left, ignore_errors=True)


def _runs(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except (PermissionError, OverflowError):
        return True
    return True


@contextmanager
def explained_full_disk(path: Path, needed: int = 0, staged: Path | None = None) -> Iterator[None]:
    """Let what a block raises on a full disk say which file it was, and how much room there is and is needed.

    Args:
        path: the file, or the folder, that is written.
        needed: bytes to be written, where that is known.
        staged: temporary file or folder that takes room and will be removed.

    Raises:
        OSError: with such words as its ``strerror``.
    """
    try:
        yield
    except Exception as error:
        code = getattr(error, "errno", None)
        if FULL in str(error) or LIMITED in str(error):
            raise
        told, free = code in (errno.ENOSPC, errno.EDQUOT) or bool(TOLD_FULL.search(str(error))), _free_bytes(path)
        if code == errno.EFBIG or (TORN in str(error) and free >= 2**20):
            raise OSError(errno.EFBIG, LIMITED, str(path)) from error
        if not told and not (isinstance(error, RuntimeError) and free < 2**20):
            raise
        free += 0 if staged is None else _size_bytes(staged)
        more = f"{_mebibytes(needed - free)} more are needed" if needed > free else "more is needed"
        words = f"{FULL} {_mebibytes(free)} free, {more}; free space and run again"
        raise OSError(code or errno.ENOSPC, words, str(path)) from error


LIMITED = "File too large: files are limited in size here (ulimit -f)"
TORN = "inline_container"  # in PyTorch's words for what it could not write
FULL = "No space left on device:"
TOLD_FULL = re.compile(r"No space left|\d+ requested and \d+ written")
"""In words of others; the latter are numpy's, whose error has no number."""


def _free_bytes(path: Path) -> int:
    nearest = next(place for place in (path, *path.absolute().parents) if place.exists())
    return shutil.disk_usage(nearest).free


def _size_bytes(path: Path) -> int:
    return sum(file.stat().st_size for file in (path, *path.rglob("*")) if file.is_file())


def _mebibytes(count: int) -> str:
    return f"{count / 2**20:.1f} MiB"


@contextmanager
def staged_file(path: str | Path) -> Iterator[Path]:
    """A temporary name beside ``path``; what the block writes there takes the place of ``path`` if it succeeds.

    Raises:
        OSError: from the block, or where the file cannot take its place, a device's or a pipe's among them; ``path`` is
            then as it was. On a full disk it says so.
    """
    path = Path(path)
    if path.exists() and not path.is_file():
        raise OSError(errno.EINVAL, "no regular file is there", str(path))
    # One name, so that the next writer replaces what a killed one left; hidden, so that it counts nowhere as a result.
    part = path.with_name(f".{path.name}.part")
    try:
        with explained_full_disk(path, staged=part):
            yield part
        part.replace(path)
    finally:
        part.unlink(missing_ok=True)


def atomic_write(path: str | Path, *content: bytes | memoryview | str) -> None:
    """Write a file (its pieces one after the other, text as UTF-8) that appears under its name, whole, or not at all.

    Raises:
        OutputError: it cannot be written.
    """
    pieces = [piece.encode("utf-8") if isinstance(piece, str) else piece for piece in content]
    try:
        size = sum(len(piece) for piece in pieces)
        with staged_file(path) as part, explained_full_disk(Path(path), size, part), part.open("wb") as file:
            file.writelines(pieces)
    except OSError as error:
        raise OutputError(f"{path}: cannot be written ({error.strerror})") from error


@contextmanager
def alone_in(folder: Path) -> Iterator[None]:
    """Make a folder of results and hold it, where the system can; it is free again however the process ends.

    Raises:
        OutputError: it cannot be written, or another command holds it.
    """
    check_writable(folder)
    fresh = not folder.exists()
    folder.mkdir(parents=True, exist_ok=True)
    try:
        with _held(folder):
            yield
    except BaseException:
        if fresh and not any(folder.iterdir()):
            folder.rmdir()
        raise


@contextmanager
def _held(folder: Path) -> Iterator[None]:
    try:
        import fcntl
    except ModuleNotFoundError:  # Windows
        yield
        return
    descriptor = os.open(folder, os.O_RDONLY | os.O_CLOEXEC)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            if isinstance(error, BlockingIOError):
                raise OutputError(f"{folder}: another command writes there; wait, or give another folder") from error
            if error.errno not in (errno.ENOSYS, errno.ENOTSUP, errno.ENOLCK, errno.EINVAL):
                raise
        yield
    finally:
        os.close(descriptor)


class AppendedLines:
    """A file that grows by whole lines."""

    def __init__(self, path: str | Path) -> None:
        """Open it, or make it.

        Raises:
            OutputError: it cannot be opened.
        """
        self.path = Path(path)
        try:
            self._file = self.path.open("ab", buffering=0)
        except OSError as error:
            raise OutputError(f"{path}: cannot be written ({error.strerror})") from error

    def add(self, line: str) -> None:
        """Append a line; it is on the disk when this returns.

        Raises:
            OutputError: it cannot be written; the file then ends as before.
        """
        data = line.encode() + b"\n"
        end, left = self._file.seek(0, os.SEEK_END), memoryview(data)
        try:
            with explained_full_disk(self.path, len(data)):
                while left:
                    left = left[self._file.write(left) :]
                os.fsync(self._file.fileno())
        except OSError as error:
            self._file.truncate(end)
            raise OutputError(f"{self.path}: cannot be written ({error.strerror})") from error

    def close(self) -> None:
        self._file.close()


@contextmanager
def staged_folder(folder: str | Path, without: Sequence[str] = (), record: str = "") -> Iterator[Path]:
    """A temporary folder, whose entries take their place in ``folder`` only if the block succeeds.

    Entries of the same name are replaced; what ``without`` names and an earlier result left is removed; others in
    ``folder`` stay. The temporary folder lies inside ``folder`` where that is there already, for a folder may be a disk
    of its own; else beside it. Temporary folders of processes that have died are removed.

    Args:
        folder: made if missing.
        without: names and patterns of files, and of folders if their files have such names too.
        record: name of the JSON file, one of the entries, that marks a folder of results: without one that is ours
            nothing is replaced or removed. Where no record is named, files replace files, and nothing else.

    Raises:
        OutputError: the folder cannot be made or written, or an entry stands there that was not written by us.
    """
    folder = Path(folder)
    check_writable(folder)
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        place = folder if folder.exists() else folder.parent
        _remove_stale(place)
        staging = Path(tempfile.mkdtemp(dir=place, prefix=_staging_prefix()))
    except OSError as error:
        raise OutputError(f"{folder}: cannot write there ({error.strerror})") from error
    try:
        with _named_as_final(staging, folder):
            yield staging
        try:
            with explained_full_disk(folder):
                _put_in_place(staging, folder, without, record)
        except OSError as error:
            raise OutputError(f"{folder}: cannot write there ({error.strerror})") from error
    finally:
        shutil.rmtree(staging, ignore_errors=True)


@contextmanager
def _named_as_final(staging: Path, folder: Path) -> Iterator[None]:
    """Let errors name files as they will be called, and a full disk the file that was being written."""
    try:
        with explained_full_disk(staging, staged=staging):
            yield
    except PartRMError as error:
        if str(staging) not in str(error):
            raise
        raise type(error)(str(error).replace(str(staging), str(folder))) from error
    except OSError as error:
        if not (error.strerror or "").startswith((FULL, LIMITED)):
            raise
        files = [path for path in staging.rglob("*") if path.is_file()]
        latest = max(files, key=lambda path: path.stat().st_mtime_ns, default=staging)
        where = folder / latest.relative_to(staging)
        raise OutputError(f"{where}: cannot be written ({error.strerror})") from error


def _put_in_place(staging: Path, folder: Path, without: Sequence[str], record: str) -> None:
    folder.mkdir(exist_ok=True)
    entries = sorted(staging.iterdir(), key=lambda entry: (entry.name == record, entry.name))
    fresh = {path.relative_to(staging) for path in staging.rglob("*")}
    _check_ours(folder, [e.name for e in entries if record or e.is_dir() or (folder / e.name).is_dir()], record)
    for entry in entries:
        _check_same_kind(folder / entry.name, folder, fresh, without)
    outdated = _outdated(folder, fresh, without, record)
    for entry in entries:
        _replace(entry, folder / entry.name)
    for old in outdated:
        _remove(old)


def _outdated(folder: Path, fresh: Collection[Path], without: Sequence[str], record: str) -> list[Path]:
    """What of an earlier result the new one lacks; nothing where there is no earlier one, or behind links.

    Raises:
        OutputError: a folder of it into which somebody has put files of other names.
    """
    if record and not _has_record(folder / record):
        return []
    found = [old for pattern in without for old in folder.glob(pattern) if old.relative_to(folder) not in fresh]
    found = [old for old in found if not any(place.is_symlink() for place in old.parents if folder in place.parents)]
    for path in chain.from_iterable(old.rglob("*") for old in found if old.is_dir() and not old.is_symlink()):
        if not path.is_dir() and not any(fnmatch(str(path.relative_to(folder)), pattern) for pattern in without):
            raise OutputError(f"{path}: {NOT_OURS}")
    return found


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def _check_same_kind(target: Path, folder: Path, fresh: Collection[Path], without: Sequence[str]) -> None:
    """Refuse to replace a folder of results into which somebody has put files of other names."""
    if not target.is_dir() or target.is_symlink():
        return
    known = {re.sub(r"\d+", "0", str(path)) for path in fresh}
    for path in target.rglob("*"):
        name = str(path.relative_to(folder))
        if re.sub(r"\d+", "0", name) not in known and not any(fnmatch(name, pattern) for pattern in without):
            raise OutputError(f"{path}: {NOT_OURS}")


def _replace(entry: Path, target: Path) -> None:
    """Move a file or a folder to where another of either kind may stand."""
    if entry.is_dir() or (target.is_dir() and not target.is_symlink()):
        _remove(target)
    entry.replace(target)
