"""Image files, PIL images, arrays and tensors as floating-point RGBA, and what a file tells of its camera.

Here and in all that cuts objects out, nothing imports PyTorch, which takes a second: a photograph is opened meanwhile.
"""

import math
import warnings
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import numpy as np
from jaxtyping import Float
from PIL import ExifTags, Image

from partrm.errors import first_line
from partrm.imaging.cutout import ImageError
from partrm.imaging.formats import IMAGE_ERRORS, open_image


@runtime_checkable
class TensorLike(Protocol):
    """A tensor of PyTorch."""

    shape: Any

    def detach(self) -> Any: ...


ImageInput = str | Path | Image.Image | np.ndarray | TensorLike
"""An image as users have it: a file, a PIL image, an array [h, w, 3 or 4], or a tensor [3 or 4, h, w].

Arrays and tensors are RGB or RGBA (straight alpha), uint8 in 0..255 or floating-point in [0, 1].
"""

MIN_SIDE_PX = 16
"""Smaller images hold no object that could be reconstructed."""

MAX_PIXELS = 64_000_000
"""Larger images are refused before they are decoded."""

FOVY_DEG = 3.0, 140.0
"""Least and greatest vertical field of view of a photograph; cameras write other ones for an unknown lens."""

FILM_DIAGONAL_MM = math.hypot(36, 24)
"""What a focal length in 35 mm terms refers to (CIPA DCG-001)."""

UNIT_MM = {2: 25.4, 3: 10.0, 4: 1.0, 5: 1e-3}
"""Millimetres of EXIF's units of resolution."""

UPRIGHT = {
    2: Image.Transpose.FLIP_LEFT_RIGHT, 3: Image.Transpose.ROTATE_180, 4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE, 6: Image.Transpose.ROTATE_270, 7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}  # fmt: skip
"""What undoes EXIF's orientations; from 5 on width and height change places."""

HEIF_BRANDS = (b"heic", b"heix", b"hevc", b"heim", b"heis", b"mif1", b"msf1", b"avif")
"""What follows ``ftyp`` in files of phones that Pillow does not read here."""


@dataclass(frozen=True)
class DecodedImage:
    """An image's pixels and what its file says of them."""

    name: str
    """What errors call it."""
    pixels: Float[np.ndarray, "h w 4"]
    """RGBA, straight alpha, [0, 1]; perhaps fewer than the image has."""
    has_alpha: bool
    width: int
    """Of the image, upright, pixels."""
    height: int
    """Likewise."""
    focal_px: float | None = None
    """Focal length in pixels of the image, where the file tells it."""

    @property
    def fovy_rad(self) -> float | None:
        """Vertical field of view, where the file tells a lens that can be (:data:`FOVY_DEG`)."""
        fovy_rad = None if self.focal_px is None else 2 * math.atan(self.height / 2 / self.focal_px)
        least, most = FOVY_DEG
        return fovy_rad if fovy_rad is not None and least <= math.degrees(fovy_rad) <= most else None


def decode(image: ImageInput, name: str = "the image", max_side_px: int | None = None) -> DecodedImage:
    """Pixels of an image, upright (EXIF orientation applied), grey as RGB, 16 bits kept where the decoder does.

    Args:
        image: a file, or pixels.
        name: what errors call an image that is no file.
        max_side_px: larger images are made smaller, before they take much memory.

    Raises:
        ImageError: missing, empty, corrupt, animated, HEIC, smaller than 16 px or larger than 64 megapixels; an array
            of another shape or type, or with values outside of its range.
    """
    if isinstance(image, str | Path):
        return _decode_file(Path(image), max_side_px)
    if isinstance(image, Image.Image):
        with _told_as_image_errors(name):
            _check_header(name, image)
            return _decode_picture(name, image, max_side_px)
    if isinstance(image, TensorLike):
        pixels = image.detach().cpu().numpy()
        if pixels.ndim == 3:
            pixels = pixels.transpose(1, 2, 0)
        layout = "[3 or 4, h, w]"
    else:
        pixels, layout = image, "[h, w, 3 or 4]"
    if pixels.ndim != 3 or pixels.shape[2] not in (3, 4):
        raise ImageError(f"{name}: has the shape {list(image.shape)}, needs {layout}")
    return _decode_array(name, pixels, max_side_px)


def _decode_file(path: Path, max_side_px: int | None) -> DecodedImage:
    try:
        if not path.is_file():
            raise ImageError(f"{path}: there is no such image file")
        if path.stat().st_size == 0:
            raise ImageError(f"{path}: the file is empty")
        with path.open("rb") as file:
            head = file.read(12)
    except OSError as error:
        raise ImageError(f"{str(path)[:200]}: cannot be read ({error.strerror})") from error
    if head[4:8] == b"ftyp" and head[8:12] in HEIF_BRANDS:
        raise ImageError(f"{path}: HEIC and AVIF photographs are not read, save it as JPEG or PNG")
    with _told_as_image_errors(str(path)), warnings.catch_warnings():
        # What Pillow warns about is checked below, raised, or of no weight: damaged EXIF data mean upright.
        warnings.simplefilter("ignore")
        with open_image(path) as image:
            _check_header(str(path), image)
            return _decode_picture(str(path), image, max_side_px)


@contextmanager
def _told_as_image_errors(name: str) -> Iterator[None]:
    """Turn what Pillow's decoders raise on damaged files into our error."""
    try:
        yield
    except ImageError:
        raise
    except Image.DecompressionBombError as error:
        raise ImageError(f"{name}: the image is too large, at most {MAX_PIXELS // 10**6} megapixels") from error
    except (*IMAGE_ERRORS, EOFError, MemoryError, AssertionError) as error:  # Pillow asserts that palettes are there
        raise ImageError(f"{name}: not a readable image, or damaged ({first_line(error)})") from error


def _check_header(name: str, image: Image.Image) -> None:
    _check_size(name, *image.size)
    # Phones put a gain map or a second eye's picture behind the photo, as "MPO".
    if getattr(image, "n_frames", 1) > 1 and image.format != "MPO":
        raise ImageError(f"{name}: the image is animated or has several pages, give one still image")


def _check_size(name: str, width: int, height: int) -> None:
    if min(width, height) < MIN_SIDE_PX:
        raise ImageError(f"{name}: {width}x{height} pixels are too few, each side needs at least {MIN_SIDE_PX}")
    if width * height > MAX_PIXELS:
        raise ImageError(
            f"{name}: {width}x{height} pixels are too many, at most {MAX_PIXELS // 10**6} megapixels: make it smaller"
        )


def _decode_picture(name: str, image: Image.Image, max_side_px: int | None) -> DecodedImage:
    if image.mode == "F":
        raise ImageError(f"{name}: floating-point images have no fixed range, give an 8- or 16-bit image")
    width, height = image.size
    focal_px = focal_length_px(image)
    if max_side_px is not None and image.mode in ("RGB", "L"):
        image.draft(image.mode, (max_side_px, max_side_px))  # a JPEG decodes to the next size above at once
    image.load()
    orientation = _exif(image).get(ExifTags.Base.Orientation)
    if isinstance(orientation, int) and orientation in UPRIGHT:
        image = image.transpose(UPRIGHT[orientation])
        if orientation >= 5:
            width, height = height, width
    if image.mode.startswith("I"):
        grey = np.asarray(image, dtype=np.float32) / 65535
        if grey.min() < 0 or grey.max() > 1:
            raise ImageError(f"{name}: 32-bit integer images have no fixed range, give an 8- or 16-bit image")
        pixels = _reduced(np.stack([grey, grey, grey, np.ones_like(grey)], -1), max_side_px)
        return DecodedImage(name, pixels, False, width, height, focal_px)
    has_alpha = image.has_transparency_data
    converted = image.convert("RGBA" if has_alpha else "RGB")
    factor = 1.0 if max_side_px is None else max_side_px / max(converted.size)
    if factor < 1:
        size = tuple(max(1, round(side * factor)) for side in converted.size)
        converted = converted.resize((size[0], size[1]), Image.Resampling.BOX)
    pixels = np.asarray(converted.convert("RGBA"), dtype=np.float32)
    pixels /= 255
    return DecodedImage(name, pixels, has_alpha, width, height, focal_px)


def _decode_array(name: str, array: np.ndarray, max_side_px: int | None) -> DecodedImage:
    """An array [h, w, 3 or 4]."""
    height, width, channels = array.shape
    _check_size(name, width, height)
    if array.dtype == np.uint8:
        picture = _decode_picture(name, Image.fromarray(np.ascontiguousarray(array)), max_side_px)
        return replace(picture, has_alpha=channels == 4)
    if not np.issubdtype(array.dtype, np.floating):
        raise ImageError(f"{name}: pixels of type {array.dtype} have no known range, give uint8 or floats in [0, 1]")
    pixels = array.astype(np.float32)
    if not (np.isfinite(pixels).all() and pixels.min() >= 0 and pixels.max() <= 1):
        raise ImageError(f"{name}: floating-point pixels must lie in [0, 1]; divide by 255, or give uint8")
    if channels == 3:
        pixels = np.concatenate([pixels, np.ones_like(pixels[..., :1])], -1)
    return DecodedImage(name, _reduced(pixels, max_side_px), channels == 4, width, height)


def _reduced(pixels: Float[np.ndarray, "h w 4"], max_side_px: int | None) -> Float[np.ndarray, "small_h small_w 4"]:
    """Straight-alpha pixels with at most ``max_side_px`` to a side."""
    import cv2

    factor = 1.0 if max_side_px is None else max_side_px / max(pixels.shape[:2])
    if factor >= 1:
        return pixels
    size = max(1, round(pixels.shape[1] * factor)), max(1, round(pixels.shape[0] * factor))
    premultiplied = np.concatenate([pixels[..., :3] * pixels[..., 3:], pixels[..., 3:]], -1)
    small = cv2.resize(premultiplied, size, interpolation=cv2.INTER_AREA)
    small[..., :3] /= np.maximum(small[..., 3:], 1e-4)
    return small.clip(0, 1)


def _exif(image: Image.Image, ifd: int | None = None) -> dict[int, Any]:
    """EXIF's tags, or those of one of its parts; none where they are damaged, which spoils no picture."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            return dict(image.getexif() if ifd is None else image.getexif().get_ifd(ifd))
        except IMAGE_ERRORS:
            return {}


def focal_length_px(image: Image.Image) -> float | None:
    """Focal length in pixels as EXIF tells it (35 mm equivalent, or by the sensor's resolution); None if it does not.

    A file that has been cropped (its proportions are not those that EXIF names) tells nothing.
    """
    tags = _exif(image, ExifTags.IFD.Exif)

    def number(tag: int) -> float:
        try:
            value = float(tags.get(tag, 0))
        except (TypeError, ValueError, ZeroDivisionError):
            return 0.0
        return value if math.isfinite(value) and value > 0 else 0.0

    taken = number(0xA002), number(0xA003)
    given = image.size
    if min(taken) > 0:
        proportions = sorted(taken)[1] / sorted(taken)[0], max(given) / min(given)
        if abs(proportions[0] / proportions[1] - 1) > 0.02:
            return None
    if film_mm := number(0xA405):
        return film_mm / FILM_DIAGONAL_MM * math.hypot(*given)
    lens_mm, resolution, unit = number(0x920A), number(0xA20E), UNIT_MM.get(int(number(0xA210)))
    if lens_mm and resolution and unit and min(taken) > 0:
        return lens_mm * resolution / unit * max(given) / max(taken)
    return None


def in_order(paths: Iterable[Path]) -> list[Path]:
    """Files of views in the order of their numbers, or of their names where not all are numbers.

    Raises:
        ValueError: a number is missing or twice there; they run from 0 (or 1) without a gap.
    """
    files = sorted(paths)
    if not files or not all(file.stem.isascii() and file.stem.isdigit() and len(file.stem) < 10 for file in files):
        return files
    files.sort(key=lambda file: int(file.stem))
    numbers = [int(file.stem) for file in files]
    first = 1 if numbers[0] == 1 else 0
    for number, file in enumerate(files, first):
        if int(file.stem) != number:
            raise ValueError(f"the image {number:03d} is missing or twice there: numbers run without a gap")
    return files
