"""The object cut out of any background: GrabCut (Rother et al. 2004) on a small copy, its edge drawn at full size."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float, UInt8
from scipy import ndimage

from partrm.imaging.cutout import NoObjectError, components

WORK_SIDE_PX = 400
"""GrabCut runs on a copy of at most this side."""

ROUNDS = 5
"""Rounds of GrabCut: colour models, then a cut."""

BOX_SURROUND = 0.25
"""How much of what is about a box GrabCut sees, to each side, as a share of the box's longer side."""

BOX_SLACK = 0.015
"""How far a box may cut into the object, as a share of its longer side: people draw boxes by hand."""

CORE = 0.25
"""Half-axes of the ellipse in a box's middle that starts as the object's, as a share of the box's sides."""

FULL_BOX = 0.85
"""Share of what GrabCut sees from which on hardly anything lies outside of the box."""

SIDES, CORNERS = 0.9, 1.35
"""Of a superellipse u⁴ + v⁴ in such a box: beyond it what is like the border, and anything, starts as background."""

TOUCHED = 0.02
"""Radius about a drag's start that belongs to the object for sure, as a share of the image's longer side."""

BORDER = 0.02
"""Width of the border that starts as the background's where no box tells more, as a share of the shorter side."""

SURE, LIKELY = 0.2, 0.7
"""Without a box: how much of the image's middle, as a share of its half-axes, is the object's for sure, and likely."""

MIN_SHARE, MAX_SHARE = 0.01, 0.97
"""Of what GrabCut saw that an object found without a box may fill."""

MIN_BOX_SHARE = 0.15
"""Share of the box that the object must fill."""

Box = tuple[float, float, float, float]
"""Left, top, right and bottom, pixels."""


@dataclass(frozen=True)
class Stroke:
    """A line painted by hand that says what belongs to the object, or what does not."""

    points: tuple[tuple[float, float], ...]
    """Corners (x, y) of the line, pixels of the image; one is a dot."""
    radius: float
    """Of the brush, pixels of the image."""
    adds: bool
    """Whether what it covers belongs to the object."""

    def covers(
        self, shape: tuple[int, int], left: int = 0, top: int = 0, factor: float = 1.0
    ) -> Bool[np.ndarray, "h w"]:
        """Pixels that it covers.

        Args:
            shape: rows and columns of the image, or of a copy of it.
            left: where the copy begins, pixels of the image.
            top: likewise.
            factor: pixels of the copy a pixel of the image.
        """
        import cv2

        corners = ((np.array(self.points) - (left, top)) * factor * SUBPIXELS - SUBPIXELS / 2).round().astype(np.int32)
        covered = np.zeros(shape, np.uint8)
        width = max(1, round(2 * self.radius * factor))
        shift = SUBPIXELS.bit_length() - 1
        cv2.polylines(covered, [np.repeat(corners, 2, 0)], False, 1, width, cv2.LINE_8, shift)
        return covered > 0


SUBPIXELS = 16
"""Of the places of strokes, each way."""


def painted(alpha: Float[np.ndarray, "h w"], strokes: Sequence[Stroke]) -> Float[np.ndarray, "h w"]:
    """A mask with strokes painted over it in their order."""
    alpha = alpha.copy()
    for stroke in strokes:
        alpha[stroke.covers((alpha.shape[0], alpha.shape[1]))] = float(stroke.adds)
    return alpha


@dataclass(frozen=True)
class Window:
    """A rectangle of an image and the small copy that GrabCut sees of it."""

    left: int
    top: int
    right: int
    bottom: int
    factor: float
    """Pixels of the copy a pixel of the image."""
    pixels: UInt8[np.ndarray, "h w 3"]
    """The copy, RGB."""

    def to_copy(self, x: float, y: float) -> tuple[float, float]:
        """Pixel coordinates in the copy."""
        return (x - self.left) * self.factor, (y - self.top) * self.factor


NO_POINTS = np.zeros((0, 2))
"""Where no drag starts."""


def grab_cut(
    rgb: Float[np.ndarray, "3 h w"],
    box: Box | None,
    touched: Float[np.ndarray, "n 2"] = NO_POINTS,
    strokes: Sequence[Stroke] = (),
) -> Float[np.ndarray, "4 h w"]:
    """Cut an object out of any background.

    Args:
        rgb: the photograph.
        box: the object's, in pixels; without, the object is what differs from the image's border.
        touched: points (x, y) that belong to the object for sure: where drags start.
        strokes: painted by hand, later ones over earlier ones; the cut goes where they tell, within the box.

    Returns:
        RGBA, straight alpha, soft at the object's edge.

    Raises:
        NoObjectError: nothing, or nearly all of the image, was found.
    """
    _, height, width = rgb.shape
    window = _window(rgb, _surrounding(box, width, height) if box is not None else (0, 0, width, height))
    near = _discs(window, touched, max(1.0, TOUCHED * max(height, width) * window.factor))
    if box is None:
        labels, inside = _labels_of_border(window.pixels, near), float(near.size)
    else:
        left, top = window.to_copy(box[0], box[1])
        right, bottom = window.to_copy(box[2], box[3])
        labels = _labels_of_box(window.pixels, (left, top, right, bottom), near)
        inside = max(1.0, (right - left) * (bottom - top))
    for stroke in strokes:
        covered = stroke.covers(near.shape, window.left, window.top, window.factor)
        labels[covered] = _sure_label(stroke.adds)
        near = near | covered if stroke.adds else near & ~covered
    found = _one_object(_cut(window.pixels, labels), near)
    share = float(found.sum()) / inside
    if share < (MIN_SHARE if box is None else MIN_BOX_SHARE) or (box is None and share > MAX_SHARE):
        raise NoObjectError("no object stands out from the background")
    return np.concatenate([rgb, painted(_full_alpha(rgb, window, found), strokes)[None]])


def _sure_label(is_object: bool) -> int:
    import cv2

    return cv2.GC_FGD if is_object else cv2.GC_BGD


def _discs(window: Window, points: Float[np.ndarray, "n 2"], radius: float) -> Bool[np.ndarray, "h w"]:
    """Pixels of the copy near points of the image."""
    h, w = window.pixels.shape[:2]
    y, x = np.mgrid[:h, :w] + 0.5
    near = np.zeros((h, w), bool)
    for point in points.tolist():
        px, py = window.to_copy(point[0], point[1])
        near |= (x - px) ** 2 + (y - py) ** 2 <= radius**2
    return near


def _surrounding(box: Box, width: int, height: int) -> tuple[int, int, int, int]:
    """The box with what is about it, within the image."""
    left, top, right, bottom = box
    room = BOX_SURROUND * max(right - left, bottom - top)
    return (
        max(0, int(left - room)),
        max(0, int(top - room)),
        min(width, int(np.ceil(right + room))),
        min(height, int(np.ceil(bottom + room))),
    )


def _window(rgb: Float[np.ndarray, "3 h w"], bounds: tuple[int, int, int, int]) -> Window:
    import cv2

    left, top, right, bottom = bounds
    part = np.ascontiguousarray(rgb[:, top:bottom, left:right].transpose(1, 2, 0))
    factor = min(1.0, WORK_SIDE_PX / max(part.shape[:2]))
    size = (max(1, round(part.shape[1] * factor)), max(1, round(part.shape[0] * factor)))
    small = cv2.resize(part, size, interpolation=cv2.INTER_AREA)
    return Window(left, top, right, bottom, factor, (small * 255).round().clip(0, 255).astype(np.uint8))


def _labels_of_box(
    pixels: UInt8[np.ndarray, "h w 3"], box: Box, near: Bool[np.ndarray, "h w"]
) -> UInt8[np.ndarray, "h w"]:
    """What is outside of the box is background; inside, the middle is the object's and the corners are not."""
    import cv2

    h, w = pixels.shape[:2]
    left, top, right, bottom = box
    y, x = np.mgrid[:h, :w] + 0.5
    slack = BOX_SLACK * max(right - left, bottom - top)
    inside = (x > left - slack) & (x < right + slack) & (y > top - slack) & (y < bottom + slack)
    u, v = 2 * (x - left) / (right - left) - 1, 2 * (y - top) / (bottom - top) - 1
    labels = np.where(inside, cv2.GC_PR_FGD, cv2.GC_BGD).astype(np.uint8)
    if inside.mean() > FULL_BOX:  # hardly anything is outside: corners that are like the border tell what is behind
        like = np.isin(_labels_of_border(pixels, near), (cv2.GC_BGD, cv2.GC_PR_BGD))
        labels[inside & (u**4 + v**4 > SIDES) & like] = cv2.GC_PR_BGD
        labels[inside & (u**4 + v**4 > CORNERS)] = cv2.GC_PR_BGD
    labels[(u**2 + v**2 < CORE**2) | near] = cv2.GC_FGD
    return labels


def _labels_of_border(pixels: UInt8[np.ndarray, "h w 3"], near: Bool[np.ndarray, "h w"]) -> UInt8[np.ndarray, "h w"]:
    """What is unlike the border and near the middle is likely the object's."""
    import cv2

    h, w = pixels.shape[:2]
    lab = cv2.cvtColor(pixels, cv2.COLOR_RGB2LAB).astype(np.float32)
    band = max(1, round(BORDER * min(h, w)))
    border = np.ones((h, w), bool)
    border[band:-band, band:-band] = False
    samples = lab[border]
    criteria = (cv2.TERM_CRITERIA_EPS + cv2.TERM_CRITERIA_MAX_ITER, 20, 1.0)
    cv2.setRNGSeed(0)
    first = np.zeros((len(samples), 1), np.int32)
    _, _, centres = cv2.kmeans(samples, min(6, len(samples)), first, criteria, 1, cv2.KMEANS_PP_CENTERS)
    unlike = np.stack([np.linalg.norm(lab - centre, axis=-1) for centre in centres]).min(0)
    unlike = cv2.GaussianBlur(unlike, (0, 0), 0.01 * max(h, w))
    y, x = np.mgrid[:h, :w] + 0.5
    anchor = (x[near].mean(), y[near].mean()) if near.any() else (w / 2, h / 2)
    middle = ((0.3 * anchor[0] + 0.35 * w), (0.3 * anchor[1] + 0.35 * h))
    u, v = (x - middle[0]) / (w / 2), (y - middle[1]) / (h / 2)
    level = unlike * np.exp(-0.625 * ((2 * x / w - 1) ** 2 + (2 * y / h - 1) ** 2))
    level = np.clip(level / max(float(level.max()), 1e-6) * 255, 0, 255).astype(np.uint8)
    threshold, _ = cv2.threshold(level, 0, 255, cv2.THRESH_BINARY + cv2.THRESH_OTSU)
    reach = (u**4 + v**4) ** 0.25
    labels = np.where((level > threshold) | (reach < LIKELY), cv2.GC_PR_FGD, cv2.GC_PR_BGD).astype(np.uint8)
    labels[border & (level <= threshold)] = cv2.GC_BGD
    labels[near | (reach < SURE)] = cv2.GC_FGD
    return labels


def _cut(pixels: UInt8[np.ndarray, "h w 3"], labels: UInt8[np.ndarray, "h w"]) -> Bool[np.ndarray, "h w"]:
    import cv2

    known = np.isin(labels, (cv2.GC_FGD, cv2.GC_PR_FGD))
    if known.all() or not known.any():
        return known
    cv2.setRNGSeed(0)
    models = np.zeros((1, 65)), np.zeros((1, 65))
    mask, *_ = cv2.grabCut(pixels, labels.copy(), (0, 0, 1, 1), *models, ROUNDS, cv2.GC_INIT_WITH_MASK)
    return np.isin(mask, (cv2.GC_FGD, cv2.GC_PR_FGD))


def _one_object(found: Bool[np.ndarray, "h w"], near: Bool[np.ndarray, "h w"]) -> Bool[np.ndarray, "h w"]:
    """The largest component and those that drags touch, thin bridges cut, holes filled."""
    radius = max(1, round(0.008 * max(found.shape)))
    y, x = np.mgrid[-radius : radius + 1, -radius : radius + 1]
    opened = np.asarray(ndimage.binary_opening(found, x**2 + y**2 <= radius**2), bool) | (near & found)
    labels = components(opened)
    sizes = np.bincount(labels.ravel())
    sizes[0] = 0
    if not sizes.any():
        return found
    kept = sizes >= sizes.max() / 8
    kept[np.unique(labels[near & opened])] = True
    kept[0] = False
    return np.asarray(ndimage.binary_fill_holes(kept[labels]), bool)


def _full_alpha(
    rgb: Float[np.ndarray, "3 h w"], window: Window, found: Bool[np.ndarray, "rows columns"]
) -> Float[np.ndarray, "h w"]:
    """The mask at the image's size; its edge follows the image's by a guided filter (He et al. 2010)."""
    import cv2

    alpha = np.zeros(rgb.shape[1:], np.float32)
    guide = np.ascontiguousarray(rgb[:, window.top : window.bottom, window.left : window.right].mean(0), np.float32)
    size = guide.shape[1], guide.shape[0]
    rough = cv2.resize(found.astype(np.float32), size, interpolation=cv2.INTER_LINEAR)
    radius = max(2, round(2 / window.factor))
    fine = guided_filter(guide, rough, radius)
    alpha[window.top : window.bottom, window.left : window.right] = np.clip(2 * fine - 0.5, 0, 1)
    return alpha


def guided_filter(
    guide: Float[np.ndarray, "h w"], values: Float[np.ndarray, "h w"], radius: int, smoothness: float = 1e-4
) -> Float[np.ndarray, "h w"]:
    """Values smoothed so that they follow the guide's edges: in each window a linear function of the guide."""
    import cv2

    def mean(x: np.ndarray) -> np.ndarray:
        return cv2.boxFilter(x, -1, (2 * radius + 1, 2 * radius + 1), borderType=cv2.BORDER_REFLECT)

    guide_mean, value_mean = mean(guide), mean(values)
    slope = (mean(guide * values) - guide_mean * value_mean) / (mean(guide * guide) - guide_mean**2 + smoothness)
    offset = value_mean - slope * guide_mean
    return mean(slope) * guide + mean(offset)
