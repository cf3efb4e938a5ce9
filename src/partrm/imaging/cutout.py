"""The object cut out of a photograph with a plain background."""

import numpy as np
from jaxtyping import Bool, Float, Int
from PIL import Image
from scipy import ndimage

from partrm.errors import PartRMError

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


FAINTEST_MATTE = 0.1
"""Highest opacity of an image, below which it shows no object."""


class ImageError(PartRMError):
    """An image that cannot be used; the message says which, why, and what to do."""


class NoObjectError(ImageError):
    """A photograph in which no object is found; a box or a mask helps."""


def cut_out(rgb: Float[np.ndarray, "3 h w"]) -> Float[np.ndarray, "4 h w"]:
    """Remove a plain background, evenly or unevenly lit, with the object's soft shadow on it.

    What has another hue than the background, or sharp edges, is the object for sure; what is smooth, of the
    background's colour and reached from the border is not. A watershed on the gradient divides the rest between them
    along the strongest edges (Meyer and Beucher 1990). Holes that the border does not reach stay inside. Pixels of the
    object beside the background get the alpha that explains their colour as a mixture of both, and the object's share
    of it as their colour.

    Args:
        rgb: in [0, 1], float32.

    Raises:
        ImageError: the border is not of one colour, or nothing or nearly nothing stands out from it.
    """
    return cut_out_in_place(np.concatenate([rgb, np.ones_like(rgb[:1])]))


def cut_out_in_place(image: Float[np.ndarray, "4 h w"]) -> Float[np.ndarray, "4 h w"]:
    """:func:`cut_out` of an image whose alpha is written into it, and whose colours at the edges are; itself."""
    import cv2

    rgb = image[:3]
    height, width = rgb.shape[1:]
    factor = min(1.0, WORK_SIDE_PX / max(height, width))
    size = (max(1, round(height * factor)), max(1, round(width * factor)))
    small = rgb if factor == 1 else _smaller(rgb, size)
    foreground = _find_object(small, *_fit_background(small))
    if foreground.mean() < MIN_OBJECT_SHARE:
        raise ImageError("no object stands out from the background: give an RGBA image, or cut the object out")
    background = _beside(small, ~foreground)
    alpha = _soft_edge(foreground, _lengths(small - background))
    if factor != 1:
        alpha = cv2.resize(alpha, (width, height), interpolation=cv2.INTER_LINEAR).clip(0, 1)
    y, x = np.nonzero((alpha > 0) & (alpha < 1))
    opacity = alpha[y, x]
    behind = _sampled(background, (x + 0.5) / width, (y + 0.5) / height)
    image[:3, y, x] = ((rgb[:, y, x] - (1 - opacity) * behind) / opacity.clip(min=0.1)).clip(0, 1)
    image[3] = alpha
    return image


def _sampled(
    image: Float[np.ndarray, "3 h w"], x: Float[np.ndarray, " n"], y: Float[np.ndarray, " n"]
) -> Float[np.ndarray, "3 n"]:
    """Colours at places given as shares of the width and the height, between pixels linearly."""
    _, height, width = image.shape
    places = np.stack([y * height, x * width]) - 0.5
    return np.stack([ndimage.map_coordinates(channel, places, order=1, mode="nearest") for channel in image])


def _smaller(rgb: Float[np.ndarray, "3 h w"], size: tuple[int, int]) -> Float[np.ndarray, "3 rows columns"]:
    """The image at another size, detail smoothed away; channel by channel, for large ones fill the memory."""
    rows, columns = size
    channels = [
        Image.fromarray(np.ascontiguousarray(c)).resize((columns, rows), Image.Resampling.BILINEAR) for c in rgb
    ]
    return np.stack([np.asarray(channel) for channel in channels])


def sound_matte(rgba: Float[np.ndarray, "4 h w"]) -> Float[np.ndarray, "4 h w"]:
    """An image with a mask, whose specks are dropped, and whose opacity reaches 1 if it is nowhere above one half.

    Its alpha is changed in place.

    Raises:
        ImageError: it is fully transparent.
    """
    highest = float(rgba[3].max())
    if highest < FAINTEST_MATTE:
        raise ImageError("the image is fully transparent, there is no object in it")
    if highest <= 0.5:
        rgba[3] /= highest
    seen = rgba[3] > 0.5
    rgba[3][seen & ~without_specks(seen)] = 0
    return rgba


def _border(h: int, w: int) -> Bool[np.ndarray, "h w"]:
    band = max(1, round(0.015 * min(h, w)))
    border = np.ones((h, w), bool)
    border[band:-band, band:-band] = False
    return border


def _fit_background(rgb: Float[np.ndarray, "3 h w"]) -> tuple[Float[np.ndarray, "3 h w"], float]:
    """A quadratic of the place fitted to the colours of the image border, and their robust spread about it."""
    _, h, w = rgb.shape
    y, x = np.meshgrid(*(np.linspace(-1, 1, side, dtype=np.float32) for side in (h, w)), indexing="ij")
    basis = np.stack([np.ones_like(x), x, y, x * x, x * y, y * y], -1)
    border = _border(h, w)
    colours, places = rgb[:, border].T, basis[border]
    coefficients = np.zeros((basis.shape[-1], 3), np.float32)
    coefficients[0] = _lower_median(colours)
    for reach in (0.25, 0.15, 0.1):
        near = np.linalg.norm(colours - places @ coefficients, axis=1) <= reach
        if near.mean() < MIN_PLAIN_BORDER:
            break
        solved, *_ = np.linalg.lstsq(places[near].astype(np.float64), colours[near].astype(np.float64))
        coefficients = solved.astype(np.float32)
    distance = np.linalg.norm(colours - places @ coefficients, axis=1)
    spread = 1.4826 * float(_lower_median(distance))
    plain = (distance <= max(PLAIN_TOLERANCE, 3 * spread)).mean()
    if spread > MAX_BORDER_SPREAD or float(plain) < MIN_PLAIN_BORDER:
        raise ImageError(
            "the background is not plain: give an RGBA image, or cut the object out (it may be any tool's)"
        )
    return np.moveaxis(basis @ coefficients, -1, 0), spread


def _lower_median(values: Float[np.ndarray, "n *rest"]) -> Float[np.ndarray, "*rest"]:
    """Along the first axis; of an even number the lower of the two in the middle."""
    middle = (len(values) - 1) // 2
    return np.asarray(np.partition(values, middle, axis=0)[middle])


def _find_object(
    rgb: Float[np.ndarray, "3 h w"], background: Float[np.ndarray, "3 h w"], spread: float
) -> Bool[np.ndarray, "h w"]:
    """Which pixels show the object: a watershed between what is the object for sure and what is not."""
    shade = (rgb * background).sum(0) / (background**2).sum(0).clip(min=1e-3)
    in_shadow = shade.clip(DARKEST_SHADE, 1.0) * background
    off, off_any_shade = (_lengths(rgb - other) for other in (background, in_shadow))
    gradient = np.sqrt(sum(ndimage.gaussian_gradient_magnitude(channel, 1.0) ** 2 for channel in rgb))
    sharp = (gradient > max(SHARP, 3 * spread)) & (off > FAINT)
    inside = without_specks(sharp | (off_any_shade > max(PLAIN_TOLERANCE, 4 * spread)))
    smooth = (gradient < max(SHARP / 3, 1.5 * spread)) & (off < max(FAINT / 1.5, 2.5 * spread)) & ~inside
    outside = _reached_from_border(smooth) | (_border(*inside.shape) & ~inside)
    markers = np.where(inside, 2, outside).astype(np.int16)
    gradient = np.where(markers > 0, 0, gradient)  # a basin starts at once, also on an edge
    height = (gradient / max(float(gradient.max()), 1e-6) * np.iinfo(np.uint16).max).astype(np.uint16)
    basins = ndimage.watershed_ift(height, markers, structure=np.ones((3, 3)))
    return without_specks(np.asarray(ndimage.binary_fill_holes(basins == 2)))


def _lengths(colours: Float[np.ndarray, "3 h w"]) -> Float[np.ndarray, "h w"]:
    """Euclidean norms over the channels."""
    return np.sqrt(np.square(colours).sum(0))


def components(mask: Bool[np.ndarray, "h w"]) -> Int[np.ndarray, "h w"]:
    """A positive label a 4-connected component, 0 outside."""
    labels, _ = ndimage.label(mask)  # pyright: ignore[reportGeneralTypeIssues]
    return labels


def _reached_from_border(mask: Bool[np.ndarray, "h w"]) -> Bool[np.ndarray, "h w"]:
    labels = components(mask)
    border = np.concatenate([labels[0], labels[-1], labels[:, 0], labels[:, -1]])
    return mask & np.isin(labels, np.unique(border))


def without_specks(mask: Bool[np.ndarray, "h w"]) -> Bool[np.ndarray, "h w"]:
    """Drop components smaller than a fiftieth of the largest."""
    labels = components(mask)
    sizes = np.bincount(labels.ravel())
    sizes[0] = 0
    return (sizes >= max(1, sizes.max() / 50))[labels]


def _beside(rgb: Float[np.ndarray, "3 h w"], behind: Bool[np.ndarray, "h w"]) -> Float[np.ndarray, "3 h w"]:
    """Colours of the background, and near the object those of the background beside it, with its shadows."""
    clear = ndimage.binary_erosion(behind, border_value=1).astype(np.float32)
    weight = ndimage.gaussian_filter(clear, 4.0)
    blurred = np.stack([ndimage.gaussian_filter(channel * clear, 4.0) for channel in rgb])
    return np.where(weight > 1e-3, blurred / np.maximum(weight, 1e-4), rgb)


def _soft_edge(foreground: Bool[np.ndarray, "h w"], distance: Float[np.ndarray, "h w"]) -> Float[np.ndarray, "h w"]:
    """Alpha: 1 inside, 0 outside, and beside the background the colour's distance over that of the object nearby."""
    rim = foreground & (np.asarray(ndimage.minimum_filter(foreground, 5, mode="nearest")) == 0)
    nearby = ndimage.maximum_filter(distance * foreground, 7, mode="nearest")
    share = (distance / nearby.clip(1e-6)).clip(0, 1)
    return np.where(rim & (nearby > FAINT), share, foreground.astype(np.float32))
