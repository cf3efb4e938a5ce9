"""Which image files are opened: a fixed list of formats, judged by content.

Pillow recognises PostScript in a file of any name and starts Ghostscript on it, which runs it as a program.
"""

import logging
import os
import struct
import sys
import threading
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from io import BytesIO
from pathlib import Path
from typing import IO, Any

import numpy as np
from PIL import Image, UnidentifiedImageError

# Where no program has set logging up, Pillow's remarks on damaged files would be printed beside our one line.
logging.getLogger("PIL").addHandler(logging.NullHandler())

IMAGE_FORMATS = ("PNG", "JPEG", "WEBP", "BMP", "TIFF", "GIF", "PPM", "TGA")
"""Pillow's names of the formats that are opened; JPEG covers MPO, a phone's JPEG with a second picture."""

IMAGE_ERRORS = (
    OSError, UnidentifiedImageError, Image.DecompressionBombError, SyntaxError, ValueError, IndexError, KeyError,
    TypeError, AttributeError, RuntimeError, ArithmeticError, struct.error, zlib.error,
)  # fmt: skip
"""What Pillow raises for damaged files; its decoders let more through than its own errors."""


def open_image(file: Path | BytesIO) -> Image.Image:
    """Open an image as ``Image.open`` does, if it has one of :data:`IMAGE_FORMATS`.

    Raises:
        UnidentifiedImageError: it has none of them.
        OSError: it cannot be read.
    """
    image = Image.open(file, formats=IMAGE_FORMATS)
    if image.format == "TIFF":
        if image.width * image.height > MAX_TIFF_PIXELS:
            raise Image.DecompressionBombError(f"{image.width}x{image.height} pixels")
        image.filename = ""  # else Pillow maps the file into memory, and takes lying pixels for standing ones
        with _quiet_stderr():
            image.load()
    return image


MAX_TIFF_PIXELS = 2**26


def in_8_bits(image: Image.Image) -> Image.Image:
    """An image, grey of 16 bits reduced to 8, which Pillow's ``convert`` cuts off at 255."""
    if not image.mode.startswith("I"):
        return image
    grey = np.asarray(image, dtype=np.float32).clip(0, 65535)
    return Image.fromarray((grey / 257).round().astype(np.uint8))


@contextmanager
def _quiet_stderr() -> Iterator[None]:
    """While it lasts libtiff, which prints each damage that it finds, prints nothing."""
    with open(os.devnull, "wb") as nowhere, stderr_to(nowhere):
        yield


@contextmanager
def stderr_to(file: IO[bytes]) -> Iterator[None]:
    """While it lasts what libraries and the processes that begin meanwhile print on standard error goes to a file."""
    with _REDIRECTING:
        sys.stderr.flush()
        kept = os.dup(2)
        try:
            os.dup2(file.fileno(), 2)
            yield
        finally:
            os.dup2(kept, 2)
            os.close(kept)


_REDIRECTING = threading.RLock()
"""Threads take turns: one that puts back what another has put there would lose what was there first."""


_USUAL_OPEN = Image.open

UNREADABLE = "partrm_unreadable"
"""Key in the ``info`` of an image that stands for one which cannot be read: says why."""


@contextmanager
def marked_images() -> Iterator[None]:
    """While it lasts ``Image.open`` in this thread opens :data:`IMAGE_FORMATS` alone, and never fails.

    For libraries that open images on their own, PostScript among them, and leave out without a word what they cannot
    read: one black pixel stands for it, whose ``info`` says by :data:`UNREADABLE` why.
    """
    usual, ours = _USUAL_OPEN, threading.get_ident()

    def open_marked(file: Any, *rest: Any, **options: Any) -> Image.Image:
        if threading.get_ident() != ours:
            return usual(file, *rest, **options)
        try:
            image = usual(file, formats=IMAGE_FORMATS)
            if image.format == "TIFF" and image.width * image.height > MAX_TIFF_PIXELS:
                raise Image.DecompressionBombError(f"{image.width}x{image.height} pixels")
            with _quiet_stderr():
                image.load()
        except UnidentifiedImageError:
            reason = f"no image of the formats {', '.join(IMAGE_FORMATS)}"
        except IMAGE_ERRORS as error:
            reason = " ".join(str(error).split())[:200] or type(error).__name__
        else:
            return image
        image = Image.new("RGB", (1, 1))
        image.info[UNREADABLE] = reason
        return image

    with _MARKING:
        Image.open = open_marked
        try:
            yield
        finally:
            Image.open = usual


_MARKING = threading.RLock()
"""Threads take turns here too: one that ended first would leave the other without."""
