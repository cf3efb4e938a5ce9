"""Images from disk as RGBA tensors, cutting an object out of a plain background, and the canonical framing.

Everything here speaks pixel coordinates: x right, y down, the centre of the first pixel is (0.5, 0.5).
"""

import math
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from einops import rearrange
from jaxtyping import Bool, Float, Int
from PIL import Image, ImageOps
from scipy import ndimage
from torch import Tensor
from torch.nn.functional import avg_pool2d, grid_sample, interpolate, max_pool2d, pad

from partrm.cameras import FILLED, Cameras, cropped_to

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

WORK_SIDE_PX = 1024
"""The background is found on a copy of at most this side."""

PLAIN_TOLERANCE = 0.06
"""Euclidean RGB distance to the background, at least, above which a pixel is not of it, lit or in shadow."""

DARKEST_SHADE = 0.5
"""A shadow leaves at least this share of the background's light; what is darker belongs to the object."""

SHARP = 0.03
"""Gradient (RGB a pixel of the working copy) from which an edge is an object's and not a shadow's or the light's."""

FAINT = 0.04
"""RGB distance between the two sides of an edge below which it tells nothing."""

MAX_BORDER_SPREAD = 0.04
"""Robust standard deviation of the border's colour about the background's light, above which it is not plain."""

MIN_PLAIN_BORDER = 0.7
"""Share of the border that must show the background (the object may touch the rest)."""

MIN_OBJECT_SHARE = 0.002
"""Share of the image that the object must fill."""


class ImageError(ValueError):
    """An image that cannot be used; the message says which, why, and what to do."""


@dataclass(frozen=True)
class FramedImage:
    """A square that the network takes of an image, with the map between its pixels (canonical ones) and the user's."""

    image: Float[Tensor, "4 size size"]
    """RGBA, straight alpha, [0, 1]."""
    scale: float
    """Canonical pixels a source pixel; at its centre where ``H_source_canonical`` is given."""
    corner_px: tuple[float, float]
    """Source pixel coordinates (x, y) of the canonical image's top-left corner."""
    source_width: int
    """Pixels."""
    source_height: int
    """Pixels."""
    H_source_canonical: Float[Tensor, "3 3"] | None = None
    """Homography from canonical to source pixels where the square was taken by a camera turned aside; else None."""

    def to_canonical_px(self, source_px: Float[Tensor, "*batch 2"]) -> Float[Tensor, "*batch 2"]:
        """Pixel coordinates in the canonical image of pixel coordinates in the user's image."""
        if self.H_source_canonical is not None:
            return through_homography(torch.linalg.inv(self.H_source_canonical), source_px)
        return (source_px - source_px.new_tensor(self.corner_px)) * self.scale

    def to_source_px(self, canonical_px: Float[Tensor, "*batch 2"]) -> Float[Tensor, "*batch 2"]:
        """Inverse of :meth:`to_canonical_px`."""
        if self.H_source_canonical is not None:
            return through_homography(self.H_source_canonical, canonical_px)
        return canonical_px / self.scale + canonical_px.new_tensor(self.corner_px)

    def homography(self) -> Float[Tensor, "3 3"]:
        """From canonical to source pixels, whether the square was taken straight or turned."""
        if self.H_source_canonical is not None:
            return self.H_source_canonical
        (x, y), step = self.corner_px, 1 / self.scale
        return torch.tensor([[step, 0.0, x], [0.0, step, y], [0.0, 0.0, 1.0]])

    def map_to_source(self, values: Float[Tensor, "rows columns"]) -> Float[Tensor, "height width"]:
        """Resample a square map that covers the canonical image into the user's image (zero outside of it)."""
        grid = 2 * self.to_canonical_px(pixel_centres(self.source_width, self.source_height)) / self.image.shape[-1] - 1
        sampled = grid_sample(
            values[None, None].cpu(), grid[None], mode="bilinear", padding_mode="border", align_corners=False
        )[0, 0]
        return sampled * (grid.abs() <= 1).all(-1)


def through_homography(H: Float[Tensor, "3 3"], points: Float[Tensor, "*batch 2"]) -> Float[Tensor, "*batch 2"]:
    """Where a homography takes points of a plane."""
    mapped = torch.cat([points, torch.ones_like(points[..., :1])], -1) @ H.to(points).mT
    return mapped[..., :2] / mapped[..., 2:]


def pixel_centres(width: int, height: int) -> Float[Tensor, "height width 2"]:
    """Coordinates (x, y) of the centres of an image's pixels."""
    x, y = torch.arange(width) + 0.5, torch.arange(height) + 0.5
    return torch.stack(torch.meshgrid(x, y, indexing="xy"), -1)


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
            with Image.open(path) as image:
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


def cut_out(rgb: Float[Tensor, "3 h w"]) -> Float[Tensor, "4 h w"]:
    """Remove a plain background, evenly or unevenly lit, with the object's soft shadow on it.

    What has another hue than the background, or sharp edges, is the object for sure; what is smooth, of the
    background's colour and reached from the border is not. A watershed on the gradient divides the rest between them
    along the strongest edges (Meyer and Beucher 1990). Holes that the border does not reach stay inside. Pixels of the
    object beside the background get the alpha that explains their colour as a mixture of both, and the object's share
    of it as their colour.

    Raises:
        ImageError: the border is not of one colour, or nothing or nearly nothing stands out from it.
    """
    height, width = rgb.shape[1:]
    factor = min(1.0, WORK_SIDE_PX / max(height, width))
    size = (max(1, round(height * factor)), max(1, round(width * factor)))
    small = rgb if factor == 1 else interpolate(rgb[None], size, mode="bilinear", antialias=True)[0]
    foreground = _find_object(small, *_fit_background(small))
    if foreground.mean() < MIN_OBJECT_SHARE:
        raise ImageError("no object stands out from the background: give an RGBA image, or cut the object out")
    background = _beside(small, ~foreground)
    alpha = _soft_edge(torch.from_numpy(foreground), (small - background).norm(dim=0))
    if factor != 1:
        alpha = interpolate(alpha[None, None], (height, width), mode="bilinear")[0, 0].clamp(0, 1)
        background = interpolate(background[None], (height, width), mode="bilinear")[0]
    colour = ((rgb - (1 - alpha) * background) / alpha.clamp(min=0.1)).clamp(0, 1)
    return torch.cat([torch.where((alpha > 0) & (alpha < 1), colour, rgb), alpha[None]])


def _border(h: int, w: int) -> Bool[Tensor, "h w"]:
    band = max(1, round(0.015 * min(h, w)))
    border = torch.ones(h, w, dtype=torch.bool)
    border[band:-band, band:-band] = False
    return border


def _fit_background(rgb: Float[Tensor, "3 h w"]) -> tuple[Float[Tensor, "3 h w"], float]:
    """A quadratic of the place fitted to the colours of the image border, and their robust spread about it."""
    _, h, w = rgb.shape
    y, x = torch.meshgrid(torch.linspace(-1, 1, h), torch.linspace(-1, 1, w), indexing="ij")
    basis = torch.stack([torch.ones_like(x), x, y, x * x, x * y, y * y], -1)
    border = _border(h, w)
    colours, places = rgb[:, border].T, basis[border]
    coefficients = torch.zeros(basis.shape[-1], 3)
    coefficients[0] = colours.median(dim=0).values
    for reach in (0.25, 0.15, 0.1):
        near = (colours - places @ coefficients).norm(dim=1) <= reach
        if near.float().mean() < MIN_PLAIN_BORDER:
            break
        coefficients = torch.linalg.lstsq(places[near].double(), colours[near].double()).solution.float()
    distance = (colours - places @ coefficients).norm(dim=1)
    spread = 1.4826 * float(distance.median())
    plain = (distance <= max(PLAIN_TOLERANCE, 3 * spread)).float().mean()
    if spread > MAX_BORDER_SPREAD or float(plain) < MIN_PLAIN_BORDER:
        raise ImageError(
            "the background is not plain: give an RGBA image, or cut the object out (it may be any tool's)"
        )
    return rearrange(basis @ coefficients, "h w c -> c h w"), spread


def _find_object(
    rgb: Float[Tensor, "3 h w"], background: Float[Tensor, "3 h w"], spread: float
) -> Bool[np.ndarray, "h w"]:
    """Which pixels show the object: a watershed between what is the object for sure and what is not."""
    shade = (rgb * background).sum(0) / (background**2).sum(0).clamp(min=1e-3)
    in_shadow = shade.clamp(DARKEST_SHADE, 1.0) * background
    off, off_any_shade = ((rgb - other).norm(dim=0).numpy() for other in (background, in_shadow))
    gradient = np.sqrt(sum(ndimage.gaussian_gradient_magnitude(channel, 1.0) ** 2 for channel in rgb.numpy()))
    sharp = (gradient > max(SHARP, 3 * spread)) & (off > FAINT)
    inside = _without_specks(sharp | (off_any_shade > max(PLAIN_TOLERANCE, 4 * spread)))
    smooth = (gradient < max(SHARP / 3, 1.5 * spread)) & (off < max(FAINT / 1.5, 2.5 * spread)) & ~inside
    outside = _reached_from_border(smooth) | (_border(*inside.shape).numpy() & ~inside)
    markers = np.where(inside, 2, outside).astype(np.int16)
    gradient = np.where(markers > 0, 0, gradient)  # a basin starts at once, also on an edge
    height = (gradient / max(float(gradient.max()), 1e-6) * np.iinfo(np.uint16).max).astype(np.uint16)
    basins = ndimage.watershed_ift(height, markers, structure=np.ones((3, 3)))
    return _without_specks(np.asarray(ndimage.binary_fill_holes(basins == 2)))


def _components(mask: Bool[np.ndarray, "h w"]) -> Int[np.ndarray, "h w"]:
    """A positive label a 4-connected component, 0 outside."""
    labels, _ = ndimage.label(mask)  # pyright: ignore[reportGeneralTypeIssues]
    return labels


def _reached_from_border(mask: Bool[np.ndarray, "h w"]) -> Bool[np.ndarray, "h w"]:
    labels = _components(mask)
    border = np.concatenate([labels[0], labels[-1], labels[:, 0], labels[:, -1]])
    return mask & np.isin(labels, np.unique(border))


def _without_specks(mask: Bool[np.ndarray, "h w"]) -> Bool[np.ndarray, "h w"]:
    """Drop components smaller than a fiftieth of the largest."""
    labels = _components(mask)
    sizes = np.bincount(labels.ravel())
    sizes[0] = 0
    return (sizes >= max(1, sizes.max() / 50))[labels]


def _beside(rgb: Float[Tensor, "3 h w"], behind: Bool[np.ndarray, "h w"]) -> Float[Tensor, "3 h w"]:
    """Colours of the background, and near the object those of the background beside it, with its shadows."""
    clear = ndimage.binary_erosion(behind, border_value=1).astype(np.float32)
    weight = ndimage.gaussian_filter(clear, 4.0)
    blurred = np.stack([ndimage.gaussian_filter(channel * clear, 4.0) for channel in rgb.numpy()])
    near = torch.from_numpy(blurred / np.maximum(weight, 1e-4))
    return torch.where(torch.from_numpy(weight > 1e-3), near, rgb)


def _soft_edge(foreground: Bool[Tensor, "h w"], distance: Float[Tensor, "h w"]) -> Float[Tensor, "h w"]:
    """Alpha: 1 inside, 0 outside, and beside the background the colour's distance over that of the object nearby."""
    solid = foreground.float()[None, None]
    rim = (-max_pool2d(-solid, 5, 1, 2) < 1)[0, 0] & foreground
    nearby = max_pool2d((distance * foreground)[None, None], 7, 1, 3)[0, 0]
    told = rim & (nearby > FAINT)
    return torch.where(told, (distance / nearby.clamp(min=1e-6)).clamp(0, 1), foreground.float())


def frame_object(
    rgba: Float[Tensor, "4 h w"], size_px: int = 256, framing: Literal["auto", "filled", "canonical"] = "auto"
) -> FramedImage:
    """A square of ``size_px`` about the object of an image of unknown camera.

    ``auto`` centres the bounding box of the alpha mask and scales its diagonal to :data:`CANONICAL_BOX_DIAGONAL`, as
    under the canonical camera; ``filled`` lets its longer side have the share :data:`partrm.cameras.FILLED` of the
    square's, as our network wants it; ``canonical`` says that a square image already has the canonical camera, so it
    is only resized.

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
        if framing == "filled":
            side = max(1, round(max(bottom - top, right - left) / FILLED))
        else:
            side = max(1, round(((bottom - top) ** 2 + (right - left) ** 2) ** 0.5 / CANONICAL_BOX_DIAGONAL))
        corner = (round((left + right - side) / 2), round((top + bottom - side) / 2))
    return crop_square(rgba, corner, side, size_px)


def mask_box(rgba: Float[Tensor, "4 h w"]) -> tuple[Float[Tensor, "2"], Float[Tensor, "2"]]:
    """Corners (x, y), pixels, of the box about an image's object.

    Raises:
        ImageError: no pixel of alpha > 0.5.
    """
    rows, columns = (torch.nonzero((rgba[3] > 0.5).any(dim=d)).flatten() for d in (1, 0))
    if len(rows) == 0:
        raise ImageError("the image is fully transparent, there is no object in it")
    low, high = torch.stack([columns[0], rows[0]]), torch.stack([columns[-1], rows[-1]]) + 1
    return low.float(), high.float()


def crop_turned(rgba: Float[Tensor, "4 h w"], camera: Cameras, size_px: int) -> tuple[FramedImage, Cameras]:
    """The square about an object that a camera in the same place would take, turned towards it.

    Args:
        rgba: what ``camera`` [] took, of its size.
        size_px: side of the square.

    Returns:
        the square, in which the longer side of the mask's box has the share :data:`partrm.cameras.FILLED` or less, and
        its exact camera [].

    Raises:
        ImageError: no pixel of alpha > 0.5.
    """
    _, height, width = rgba.shape
    turned = cropped_to(camera, *mask_box(rgba)).resized(size_px)
    R = camera.T_world_camera[:3, :3].mT @ turned.T_world_camera[:3, :3]
    H = camera.K.double() @ R.double() @ torch.linalg.inv(turned.K.double())
    scale = float(turned.focal_px / camera.focal_px)
    # Several samples a pixel where pixels are skipped, so that nothing flickers.
    finer = min(max(1, math.ceil(1 / scale)), 8)
    places = through_homography(H, pixel_centres(finer * size_px, finer * size_px).double() / finer).float()
    grid = 2 * places / places.new_tensor([width, height]) - 1
    premultiplied = torch.cat([rgba[:3] * rgba[3:], rgba[3:]])
    sampled = grid_sample(premultiplied[None], grid[None], mode="bilinear", padding_mode="zeros", align_corners=False)
    mean = avg_pool2d(sampled, finer)[0]
    alpha = mean[3:].clamp(0, 1)
    rgb = torch.where(alpha > 1e-4, mean[:3] / alpha.clamp(min=1e-4), 0).clamp(0, 1)
    corner = through_homography(H, torch.zeros(2, dtype=torch.float64))
    framed = FramedImage(torch.cat([rgb, alpha]), scale, (float(corner[0]), float(corner[1])), width, height, H.float())
    return framed, turned


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
