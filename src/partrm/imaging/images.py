"""Images from disk as RGBA tensors, cutting an object out of a plain background, and the canonical framing.

Pixel coordinates are those of docs/conventions.md: x right, y down, the centre of the first pixel is (0.5, 0.5).
"""

import math
import zlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from einops import rearrange
from jaxtyping import Float, UInt8
from PIL import Image
from torch import Tensor
from torch.nn.functional import interpolate, pad

from partrm.geometry.cameras import MASK_BOX_FILL, Cameras, crop_cameras
from partrm.imaging.cutout import ImageError, cut_out_in_place, sound_matte
from partrm.imaging.decoding import ImageInput, decode

CANONICAL_BOX_DIAGONAL = 0.63
"""Diagonal of an object's bounding box in the image, in image sides, under the canonical camera.

Median over random boxes of space diagonal 1 (sides 1 : 5 at most) seen at distance 2.4 with a field of view of 39.6
degrees from azimuths of +-60 and elevations of 0 to 45 degrees: 0.635, with a spread of 10 % (the longer side of the
box spreads as much, the square root of its area more).
"""


@dataclass(frozen=True)
class FramedImage:
    """A square picture of an object made of the user's image, with the map between the pixels of both."""

    image: Float[Tensor, "4 size size"]
    """RGBA, straight alpha, [0, 1]."""
    H_source_framed: Float[Tensor, "3 3"]
    """Homography from pixel coordinates of ``image`` to those of the user's image."""
    source_width: int
    """Pixels."""
    source_height: int
    """Pixels."""

    @property
    def scale(self) -> float:
        """Pixels of ``image`` a source pixel, at its middle."""
        middle = torch.tensor([self.image.shape[-1] / 2] * 2)
        left, right = self.to_source_px(
            torch.stack([middle - torch.tensor([0.5, 0.0]), middle + torch.tensor([0.5, 0.0])])
        )
        return 1 / float((right - left).norm())

    @property
    def corner_px(self) -> tuple[float, float]:
        """Source pixel coordinates (x, y) of the top-left corner of ``image``."""
        x, y = self.to_source_px(torch.zeros(2)).tolist()
        return x, y

    def to_framed_px(self, source_px: Float[Tensor, "*batch 2"]) -> Float[Tensor, "*batch 2"]:
        """Pixel coordinates in ``image`` of pixel coordinates in the user's image."""
        return _mapped(torch.linalg.inv(self.H_source_framed.double()), source_px)

    def to_source_px(self, framed_px: Float[Tensor, "*batch 2"]) -> Float[Tensor, "*batch 2"]:
        """Inverse of :meth:`to_framed_px`."""
        return _mapped(self.H_source_framed, framed_px)

    def in_source_of(self, width: int, height: int) -> "FramedImage":
        """The same picture, mapped to a smaller or larger copy of the user's image."""
        H = torch.diag(torch.tensor([width / self.source_width, height / self.source_height, 1.0]))
        return replace(self, H_source_framed=H @ self.H_source_framed, source_width=width, source_height=height)

    def map_to_source(self, values: Float[Tensor, "rows columns"]) -> Float[Tensor, "height width"]:
        """Resample a square map that covers ``image`` into the user's image (zero outside of it)."""
        x, y = torch.arange(self.source_width) + 0.5, torch.arange(self.source_height) + 0.5
        mapped = torch.empty(self.source_height, self.source_width)
        for top in range(0, self.source_height, ROWS_AT_ONCE):  # the places of all pixels of a photograph are many
            rows = slice(top, top + ROWS_AT_ONCE)
            pixels = torch.stack(torch.meshgrid(x, y[rows], indexing="xy"), -1)
            grid = 2 * self.to_framed_px(pixels) / self.image.shape[-1] - 1
            sampled = torch.nn.functional.grid_sample(
                values[None, None].cpu(), grid[None], mode="bilinear", padding_mode="border", align_corners=False
            )[0, 0]
            mapped[rows] = sampled * (grid.abs() <= 1).all(-1)
        return mapped


def _mapped(H: Float[Tensor, "3 3"], pixels: Float[Tensor, "*batch 2"]) -> Float[Tensor, "*batch 2"]:
    moved = torch.nn.functional.pad(pixels.double(), (0, 1), value=1.0) @ H.to(pixels.device).double().T
    return (moved[..., :2] / moved[..., 2:]).to(pixels.dtype)


def load_image(path: str | Path) -> Float[Tensor, "4 h w"]:
    """Read an image file of one object as RGBA in [0, 1], straight alpha.

    An alpha channel that is not all opaque is taken as the object's mask. Otherwise the background must be plain and is
    removed (:func:`cut_out`). The EXIF orientation is applied, grey becomes RGB, 16-bit grey is divided by 65535,
    16-bit colour is reduced to 8 bits by the decoder, palettes and CMYK are converted.

    Raises:
        ImageError: missing, empty, corrupt, animated, smaller than 16 px, larger than 64 megapixels, fully transparent,
            or opaque with a background that is not plain.
    """
    return as_rgba(Path(path))


def as_rgba(image: ImageInput, name: str = "the image") -> Float[Tensor, "4 h w"]:
    """An image of one object as RGBA in [0, 1], straight alpha, like :func:`load_image` from the same pixels.

    Args:
        image: a file, or pixels (:data:`ImageInput`).
        name: what errors call an image that is no file.

    Raises:
        ImageError: as :func:`load_image`; or an array of another shape or type, or with values outside of its range.
    """
    decoded = decode(image, name)
    return with_mask(decoded.name, decoded.pixels, decoded.has_alpha)


def with_mask(name: str, pixels: Float[np.ndarray, "h w 4"], has_alpha: bool) -> Float[Tensor, "4 h w"]:
    """The image, cut out of its background where its alpha channel tells no object."""
    image = pixels.transpose(2, 0, 1)
    opaque = not has_alpha or bool((image[3] == 1).all())
    try:
        return torch.from_numpy(cut_out_in_place(image) if opaque else sound_matte(image))
    except ImageError as error:
        raise ImageError(f"{name}: {error}") from error


def save_image(image: Float[Tensor, "channels h w"], path: str | Path) -> None:
    """Write an image of 1 (grey), 3 (RGB) or 4 (RGBA, straight alpha) channels in [0, 1] with 8 bits a channel."""
    pixels = (image.detach().clamp(0, 1) * 255).round().to(torch.uint8).cpu()
    rows = pixels[0] if len(pixels) == 1 else rearrange(pixels, "c h w -> h w c")
    save_png(rows.contiguous().numpy(), path)


def save_png(pixels: UInt8[np.ndarray, "h w *channels"], path: str | Path) -> None:
    """Write pixels of 8 bits a channel as a PNG file."""
    # Runs alone compress renders and masks as well as the usual search for repeats does, in half the time.
    Image.fromarray(pixels).save(path, compress_type=zlib.Z_RLE)


ROWS_AT_ONCE = 256
"""Of a photograph, whose places of all pixels would fill the memory."""


def mask_box_px(rgba: Float[Tensor, "4 h w"]) -> tuple[int, int, int, int]:
    """Left, top, right and bottom of what an image shows of its object, pixels.

    Raises:
        ImageError: no pixel of alpha > 0.5.
    """
    rows, columns = (torch.nonzero((rgba[3] > 0.5).any(dim=d)).flatten() for d in (1, 0))
    if len(rows) == 0:
        raise ImageError("the image is fully transparent, there is no object in it")
    return int(columns[0]), int(rows[0]), int(columns[-1]) + 1, int(rows[-1]) + 1


def frame_object(rgba: Float[Tensor, "4 h w"], size_px: int) -> FramedImage:
    """The square in which the longer side of the object's mask fills :data:`MASK_BOX_FILL`, as ``size_px`` pixels.

    Raises:
        ImageError: no pixel of alpha > 0.5.
    """
    left, top, right, bottom = mask_box_px(rgba)
    side = max(1, round(max(right - left, bottom - top) / MASK_BOX_FILL))
    return crop_square(rgba, (round((left + right - side) / 2), round((top + bottom - side) / 2)), side, size_px)


def frame_view(
    rgba: Float[Tensor, "4 h w"], camera: Cameras, size_px: int, box_px: tuple[float, float, float, float] | None = None
) -> tuple[FramedImage, Cameras]:
    """The same of an image whose camera is known, exactly: turned towards the middle of the mask's box.

    Args:
        rgba: of one object, as the camera takes it.
        camera: unbatched, of the image's size.
        size_px: side of the picture to make.
        box_px: left, top, right and bottom, in place of the mask's box.

    Returns:
        the picture, and the camera that would take it.

    Raises:
        ImageError: no pixel of alpha > 0.5.
    """
    _, height, width = rgba.shape
    box = torch.tensor(box_px or mask_box_px(rgba)) / torch.tensor([width, height, width, height])
    crop = crop_cameras(camera, box).resized(size_px)
    R = camera.T_world_camera[:3, :3].mT @ crop.T_world_camera[:3, :3]
    H = (camera.K.double() @ R.double() @ torch.linalg.inv(crop.K.double())).float()
    return resampled(rgba, H, size_px), crop


def frame_views(
    images: Sequence[Float[Tensor, "4 h w"]], cameras: Cameras, size_px: int
) -> tuple[tuple[FramedImage, ...], Cameras]:
    """:func:`frame_view` of several images, of any sizes, with their cameras [views].

    Raises:
        ImageError: an image that shows no object.
    """
    framed = [frame_view(rgba, cameras[n].resized(rgba.shape[-1]), size_px) for n, rgba in enumerate(images)]
    T, fovy = (torch.stack([getattr(crop, name) for _, crop in framed]) for name in ("T_world_camera", "fovy_rad"))
    return tuple(picture for picture, _ in framed), Cameras(T, fovy, size_px, size_px)


def resampled(
    rgba: Float[Tensor, "4 h w"],
    H_source_framed: Float[Tensor, "3 3"],
    size_px: int,
    device: torch.device | str = "cpu",
) -> FramedImage:
    """The picture of ``size_px`` squared whose pixels a homography takes to those of an image; empty outside of it.

    It is made on ``device``; the image and the homography are on the CPU.
    """
    # First a square of source pixels around it with detail smoothed away, then the homography within that.
    ends = torch.tensor([[0.0, 0.0], [size_px, 0.0], [0.0, size_px], [size_px, size_px]])
    corners = _mapped(H_source_framed, ends)
    (x0, y0), (x1, y1) = corners.amin(0).floor().int().tolist(), corners.amax(0).ceil().int().tolist()
    side = max(1, x1 - x0, y1 - y0)
    rough = crop_square(rgba, (x0, y0), side, min(side, 2 * size_px), device)
    x = torch.arange(size_px, device=device) + 0.5
    grid = torch.stack(torch.meshgrid(x, x, indexing="xy"), -1)
    pixels = 2 * rough.to_framed_px(_mapped(H_source_framed, grid)) / rough.image.shape[-1] - 1
    premultiplied = torch.cat([rough.image[:3] * rough.image[3:], rough.image[3:]])
    if rough.image.shape[-1] == 2 * size_px:
        premultiplied = torch.nn.functional.avg_pool2d(premultiplied[None], 3, 1, 1, count_include_pad=False)[0]
    sampled = torch.nn.functional.grid_sample(premultiplied[None], pixels[None], align_corners=False)[0]
    return FramedImage(_straight(sampled), H_source_framed, rgba.shape[2], rgba.shape[1])


def frame_canonical(rgba: Float[Tensor, "4 h w"], size_px: int) -> FramedImage:
    """A square image that has the canonical camera already, resized: what the reference network sees.

    Raises:
        ImageError: an image that is not square.
    """
    _, height, width = rgba.shape
    if height != width:
        raise ImageError(f"the image has {width}x{height} pixels: canonical framing needs a square one")
    return crop_square(rgba, (0, 0), width, size_px)


def frame_diagonal(rgba: Float[Tensor, "4 h w"], size_px: int) -> FramedImage:
    """The square in which the mask's box has the diagonal that objects have under the canonical camera.

    Raises:
        ImageError: no pixel of alpha > 0.5.
    """
    left, top, right, bottom = mask_box_px(rgba)
    side = max(1, round(((bottom - top) ** 2 + (right - left) ** 2) ** 0.5 / CANONICAL_BOX_DIAGONAL))
    return crop_square(rgba, (round((left + right - side) / 2), round((top + bottom - side) / 2)), side, size_px)


def crop_square(
    rgba: Float[Tensor, "4 h w"],
    corner: tuple[int, int],
    side: int,
    size_px: int,
    device: torch.device | str = "cpu",
) -> FramedImage:
    """The square of ``side`` source pixels at ``corner`` (x, y), which may lie outside, resized to ``size_px``."""
    _, height, width = rgba.shape
    factor = max(1, side // (LARGE_FACTOR * size_px)) if side > LARGE_SIDE_PX else 1
    side = factor * math.ceil(side / factor)
    square = _crop(rgba, corner, side, factor, device)
    resized = interpolate(square[None], (size_px, size_px), mode="bilinear", antialias=True, align_corners=False)[0]
    step = side / size_px
    H = torch.tensor([[step, 0.0, corner[0]], [0.0, step, corner[1]], [0.0, 0.0, 1.0]])
    return FramedImage(_straight(resized), H, width, height)


def _straight(premultiplied: Float[Tensor, "4 h w"]) -> Float[Tensor, "4 h w"]:
    """Straight alpha of premultiplied colours."""
    alpha = premultiplied[3:].clamp(0, 1)
    rgb = torch.where(alpha > 1e-4, premultiplied[:3] / alpha.clamp(min=1e-4), 0).clamp(0, 1)
    return torch.cat([rgb, alpha])


LARGE_SIDE_PX = 6000
"""A larger square is reduced before it is filled up to a square: a narrow image's would fill the memory."""

LARGE_FACTOR = 3
"""It keeps at least so many pixels a side for each that is asked for."""


def _crop(
    rgba: Float[Tensor, "4 h w"], corner: tuple[int, int], side: int, factor: int, device: torch.device | str
) -> Float[Tensor, "4 reduced reduced"]:
    """The square of ``side`` pixels at ``corner`` (x, y), premultiplied, zero outside of the image; on a device.

    Each of its pixels is the mean of ``factor`` x ``factor`` source pixels, which divides ``side``.
    """
    _, height, width = rgba.shape
    (x, y), far_x, far_y = corner, corner[0] + side, corner[1] + side
    inside = rgba[:, min(max(y, 0), height) : max(far_y, 0), min(max(x, 0), width) : max(far_x, 0)].to(device)
    left, top = min(max(-x, 0), side), min(max(-y, 0), side)
    if factor == 1:
        whole = torch.cat([inside[:3] * inside[3:], inside[3:]])
    else:
        whole = _reduced(inside, left % factor, top % factor, factor)
        left, top, side = left // factor, top // factor, side // factor
    return pad(whole, (left, side - left - whole.shape[2], top, side - top - whole.shape[1]))


def _reduced(rgba: Float[Tensor, "4 h w"], left: int, top: int, factor: int) -> Float[Tensor, "4 rows columns"]:
    """Means of premultiplied pixels, those of ``left`` columns and ``top`` rows before the image being empty."""
    _, height, width = rgba.shape
    rows, right = math.ceil((height + top) / factor), -(width + left) % factor
    strips = []
    for row in range(rows):  # one by one: the whole would be copied several times
        first, last = row * factor - top, (row + 1) * factor - top
        strip = rgba[:, max(first, 0) : last]
        premultiplied = torch.cat([strip[:3] * strip[3:], strip[3:]])
        filled = pad(premultiplied, (left, right, max(-first, 0), max(last - height, 0)))
        strips.append(filled.reshape(4, factor, -1, factor).mean((1, 3)))
    return torch.stack(strips, 1)
