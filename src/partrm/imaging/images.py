"""Images from disk as RGBA tensors, cutting an object out of a plain background, and the canonical framing.

Pixel coordinates are those of docs/conventions.md: x right, y down, the centre of the first pixel is (0.5, 0.5).
"""

import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from einops import rearrange
from jaxtyping import Float
from PIL import Image, ImageOps
from torch import Tensor
from torch.nn.functional import interpolate, pad

from partrm.imaging.cutout import ImageError, cut_out
from partrm.imaging.formats import open_image

MIN_SIDE_PX = 16
"""Smaller images hold no object that could be reconstructed."""

MAX_PIXELS = 64_000_000
"""Larger images are refused before they are decoded."""

CANONICAL_BOX_DIAGONAL = 0.63
"""Diagonal of an object's bounding box in the image, in image sides, under the canonical camera.

Median over random boxes of space diagonal 1 (sides 1 : 5 at most) seen at distance 2.4 with a field of view of 39.6
degrees from azimuths of +-60 and elevations of 0 to 45 degrees: 0.635, with a spread of 10 % (the longer side of the
box spreads as much, the square root of its area more).
"""


@dataclass(frozen=True)
class FramedImage:
    """An image brought to the canonical framing, with the map between its pixels and the user's."""

    image: Float[Tensor, "4 size size"]
    """RGBA, straight alpha, [0, 1]."""
    scale: float
    """Canonical pixels a source pixel."""
    corner_px: tuple[float, float]
    """Source pixel coordinates (x, y) of the canonical image's top-left corner."""
    source_width: int
    """Pixels."""
    source_height: int
    """Pixels."""

    def to_canonical_px(self, source_px: Float[Tensor, "*batch 2"]) -> Float[Tensor, "*batch 2"]:
        """Pixel coordinates in the canonical image of pixel coordinates in the user's image."""
        return (source_px - source_px.new_tensor(self.corner_px)) * self.scale

    def to_source_px(self, canonical_px: Float[Tensor, "*batch 2"]) -> Float[Tensor, "*batch 2"]:
        """Inverse of :meth:`to_canonical_px`."""
        return canonical_px / self.scale + canonical_px.new_tensor(self.corner_px)

    def map_to_source(self, values: Float[Tensor, "rows columns"]) -> Float[Tensor, "height width"]:
        """Resample a square map that covers the canonical image into the user's image (zero outside of it)."""
        side_px = self.image.shape[-1] / self.scale
        x = (torch.arange(self.source_width) + 0.5 - self.corner_px[0]) / side_px
        y = (torch.arange(self.source_height) + 0.5 - self.corner_px[1]) / side_px
        grid = torch.stack(torch.meshgrid(2 * x - 1, 2 * y - 1, indexing="xy"), -1)
        sampled = torch.nn.functional.grid_sample(
            values[None, None].cpu(), grid[None], mode="bilinear", padding_mode="border", align_corners=False
        )[0, 0]
        return sampled * (grid.abs() <= 1).all(-1)


def load_image(path: str | Path) -> Float[Tensor, "4 h w"]:
    """Read an image of one object as RGBA in [0, 1], straight alpha.

    An alpha channel that is not all opaque is taken as the object's mask. Otherwise the background must be plain and is
    removed (:func:`cut_out`). The EXIF orientation is applied, grey becomes RGB, 16-bit grey is divided by 65535,
    16-bit colour is reduced to 8 bits by the decoder, palettes and CMYK are converted.

    Raises:
        ImageError: missing, empty, corrupt, animated, smaller than 16 px, larger than 64 megapixels, fully transparent,
            or opaque with a background that is not plain.
    """
    pixels, has_alpha = _decode(Path(path))
    image = rearrange(torch.from_numpy(pixels), "h w c -> c h w")
    if not has_alpha or bool((image[3] == 1).all()):
        try:
            return cut_out(image[:3])
        except ImageError as error:
            raise ImageError(f"{path}: {error}") from error
    if not bool((image[3] > 0.5).any()):
        raise ImageError(f"{path}: the image is fully transparent, there is no object in it")
    return image


def save_image(image: Float[Tensor, "channels h w"], path: str | Path) -> None:
    """Write an image of 1 (grey), 3 (RGB) or 4 (RGBA, straight alpha) channels in [0, 1] with 8 bits a channel."""
    pixels = (image.detach().clamp(0, 1) * 255).round().to(torch.uint8).cpu()
    rows = pixels[0] if len(pixels) == 1 else rearrange(pixels, "c h w -> h w c")
    Image.fromarray(rows.contiguous().numpy()).save(path)


def _decode(path: Path) -> tuple[Float[np.ndarray, "h w 4"], bool]:
    """Pixels in [0, 1] and whether the file has an alpha channel."""
    if not path.is_file():
        raise ImageError(f"{path}: there is no such image file")
    if path.stat().st_size == 0:
        raise ImageError(f"{path}: the file is empty")
    try:
        with warnings.catch_warnings():
            # The limit below is ours, lower than the one that Pillow warns about.
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)
            warnings.filterwarnings("ignore", "Corrupt EXIF data")  # its orientation is then taken as upright
            with open_image(path) as image:
                _check_header(path, image)
                return _to_rgba(path, ImageOps.exif_transpose(image))
    except ImageError:
        raise
    except Image.DecompressionBombError as error:
        raise ImageError(f"{path}: the image is too large, at most {MAX_PIXELS // 10**6} megapixels") from error
    except (OSError, SyntaxError, ValueError, EOFError, TypeError, IndexError, MemoryError, ArithmeticError) as error:
        # What Pillow's decoders raise on damaged files.
        raise ImageError(f"{path}: not a readable image, or damaged ({error})".replace("\n", " ")) from error


def _check_header(path: Path, image: Image.Image) -> None:
    width, height = image.size
    if min(width, height) < MIN_SIDE_PX:
        raise ImageError(f"{path}: {width}x{height} pixels are too few, each side needs at least {MIN_SIDE_PX}")
    if width * height > MAX_PIXELS:
        raise ImageError(
            f"{path}: {width}x{height} pixels are too many, at most {MAX_PIXELS // 10**6} megapixels: make it smaller"
        )
    # Phones put a gain map or a second eye's picture behind the photo, as "MPO".
    if getattr(image, "n_frames", 1) > 1 and image.format != "MPO":
        raise ImageError(f"{path}: the image is animated or has several pages, give one still image")


def _to_rgba(path: Path, image: Image.Image) -> tuple[Float[np.ndarray, "h w 4"], bool]:
    if image.mode == "F":
        raise ImageError(f"{path}: floating-point images have no fixed range, give an 8- or 16-bit image")
    if image.mode.startswith("I"):
        grey = np.asarray(image, dtype=np.float32) / 65535
        if grey.min() < 0 or grey.max() > 1:
            raise ImageError(f"{path}: 32-bit integer images have no fixed range, give an 8- or 16-bit image")
        return np.stack([grey, grey, grey, np.ones_like(grey)], -1), False
    has_alpha = image.has_transparency_data
    converted = image.convert("RGBA" if has_alpha else "RGB").convert("RGBA")
    return np.asarray(converted, dtype=np.float32) / 255, has_alpha


def frame_object(
    rgba: Float[Tensor, "4 h w"], size_px: int = 256, framing: Literal["auto", "canonical"] = "auto"
) -> FramedImage:
    """Bring an image of an object to the canonical framing (docs/conventions.md): a square of ``size_px``.

    ``auto`` centres the bounding box of the alpha mask and scales it to :data:`CANONICAL_BOX_DIAGONAL`; ``canonical``
    says that a square image already has the canonical camera, so it is only resized.

    Raises:
        ImageError: no pixel of alpha > 0.5, or an image that is not square with ``canonical``.
    """
    _, height, width = rgba.shape
    if framing == "canonical":
        if height != width:
            raise ImageError(f"the image has {width}x{height} pixels: canonical framing needs a square one")
        corner, side = (0, 0), width
    else:
        rows, columns = (torch.nonzero((rgba[3] > 0.5).any(dim=d)).flatten() for d in (1, 0))
        if len(rows) == 0:
            raise ImageError("the image is fully transparent, there is no object in it")
        top, bottom = int(rows[0]), int(rows[-1]) + 1
        left, right = int(columns[0]), int(columns[-1]) + 1
        side = max(1, round(((bottom - top) ** 2 + (right - left) ** 2) ** 0.5 / CANONICAL_BOX_DIAGONAL))
        corner = (round((left + right - side) / 2), round((top + bottom - side) / 2))
    return crop_square(rgba, corner, side, size_px)


def crop_square(rgba: Float[Tensor, "4 h w"], corner: tuple[int, int], side: int, size_px: int) -> FramedImage:
    """The square of ``side`` source pixels at ``corner`` (x, y), which may lie outside, resized to ``size_px``."""
    _, height, width = rgba.shape
    premultiplied = torch.cat([rgba[:3] * rgba[3:], rgba[3:]])
    square = _crop(premultiplied, corner, side)
    resized = interpolate(square[None], (size_px, size_px), mode="bilinear", antialias=True, align_corners=False)[0]
    alpha = resized[3:].clamp(0, 1)
    rgb = torch.where(alpha > 1e-4, resized[:3] / alpha.clamp(min=1e-4), 0).clamp(0, 1)
    return FramedImage(torch.cat([rgb, alpha]), size_px / side, (float(corner[0]), float(corner[1])), width, height)


def _crop(image: Float[Tensor, "c h w"], corner: tuple[int, int], side: int) -> Float[Tensor, "c side side"]:
    """The square of ``side`` pixels at ``corner`` (x, y), zero outside of the image."""
    _, height, width = image.shape
    (x, y), far_x, far_y = corner, corner[0] + side, corner[1] + side
    inside = image[:, min(max(y, 0), height) : max(far_y, 0), min(max(x, 0), width) : max(far_x, 0)]
    left, top = min(max(-x, 0), side), min(max(-y, 0), side)
    return pad(inside, (left, side - left - inside.shape[2], top, side - top - inside.shape[1]))
