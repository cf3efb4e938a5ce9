"""Pictures as a video."""

import errno
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterable
from pathlib import Path
from types import ModuleType
from typing import IO

import numpy as np
from jaxtyping import UInt8

from partrm.errors import PartRMError, first_line, shortage_in, told_shortage
from partrm.files import TOLD_FULL
from partrm.imaging.formats import stderr_to


class VideoError(PartRMError):
    """A video that cannot be written here; the message says what to install."""


def require_video() -> None:
    """Find out before the work that videos can be written.

    Raises:
        VideoError: the package or its ffmpeg is missing, or does not run.
    """
    _writer()


def save_video(
    pictures: Iterable[UInt8[np.ndarray, "h w 3"]], size_px: tuple[int, int], frames_per_second: int, path: str | Path
) -> None:
    """Write an H.264 video; one row or column of white more where the sides are odd, since the codec wants even ones.

    Args:
        pictures: all of one size.
        size_px: their width and height.
        frames_per_second: pictures shown a second.
        path: of the file.

    Raises:
        VideoError: as :func:`require_video`, or an ffmpeg that cannot write it.
    """
    width, height = size_px[0] + size_px[0] % 2, size_px[1] + size_px[1] % 2
    writer = _writer()
    with tempfile.TemporaryFile(dir=Path(path).parent) as said:
        try:
            video = writer.write_frames(
                str(path),
                (width, height),
                fps=frames_per_second,
                codec="libx264",
                quality=7,
                macro_block_size=2,
                output_params=["-preset", "veryfast"],
            )
            with stderr_to(said):
                video.send(None)
            try:
                for picture in pictures:
                    padding = (0, height - picture.shape[0]), (0, width - picture.shape[1]), (0, 0)
                    even = np.pad(picture, padding, constant_values=255) if any(map(any, padding)) else picture
                    video.send(np.ascontiguousarray(even))
            finally:
                video.close()
        except OSError as error:
            if TOLD_FULL.search(str(error)):
                raise
            words = _first_words(said) or " ".join(str(error).split())[-200:]
            raise VideoError(f"{path}: ffmpeg cannot write it: {_advice(words)}") from error
        _require_whole(Path(path), _first_words(said))


def _first_words(said: IO[bytes]) -> str:
    """What ffmpeg said first of what is wrong."""
    said.seek(0)
    lines = said.read(4096).decode(errors="replace").splitlines()
    return next((" ".join(line.split())[:200] for line in lines if line.strip()), "")


def _advice(words: str) -> str:
    return shortage_in(words) or (f"{words}; " if words else "") + ANOTHER


def _require_whole(path: Path, words: str) -> None:
    """The package does not say how its ffmpeg ended: a video that was cut short lacks its index, the box ``moov``.

    Raises:
        OSError: the disk is full.
        VideoError: something else kept ffmpeg from it.
    """
    if path.exists() and b"moov" in path.read_bytes():
        return
    if shutil.disk_usage(path.parent).free < 2**20:
        raise OSError(errno.ENOSPC, "No space left on device", str(path))
    raise VideoError(f"{path}: ffmpeg did not finish it: {_advice(words)}")


ANOTHER = "for another ffmpeg pip install --upgrade imageio-ffmpeg, and unset IMAGEIO_FFMPEG_EXE"


def _writer() -> ModuleType:
    """imageio-ffmpeg, whose ffmpeg runs.

    Raises:
        VideoError: it is missing, or does not run.
    """
    try:
        import imageio_ffmpeg

        program = imageio_ffmpeg.get_ffmpeg_exe()
    except ImportError as error:
        raise VideoError(
            f"videos need the package imageio-ffmpeg ({first_line(error)}): pip install imageio-ffmpeg"
        ) from error
    except RuntimeError as error:
        # The package takes a program that cannot be started for want of processes for a missing one.
        if (short := _shortage_of_processes()) is not None:
            raise VideoError(f"videos need ffmpeg, which cannot be started: {short}") from error
        raise VideoError(
            "videos need a program ffmpeg, and imageio-ffmpeg brings none for this platform: install ffmpeg"
        ) from error
    if shutil.which(program) is None:  # the package takes what the environment names untried
        raise VideoError(f"{program}: there is no such program ffmpeg; {ANOTHER}")
    return imageio_ffmpeg


def _shortage_of_processes() -> str | None:
    """Why no process can be started now, in one line; None where one can."""
    try:
        subprocess.run([sys.executable, "-c", ""], check=False)
    except OSError as error:
        return told_shortage(error) or str(error)
    return None
