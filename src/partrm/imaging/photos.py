"""A photograph opened: the object cut out of it the way that was asked for, at a size that memory bears.

Data flow::

    file or pixels ─► decode (at most WORK_SIDE_PX a side) ─► mask, plain background, GrabCut or SAM ─► Photo
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import numpy as np
from jaxtyping import Float

from partrm.imaging.cutout import ImageError, NoObjectError, cut_out, sound_matte
from partrm.imaging.decoding import FOVY_DEG, DecodedImage, ImageInput, decode
from partrm.imaging.grabcut import Box, grab_cut

if TYPE_CHECKING:
    from torch import Tensor

WORK_SIDE_PX = 2048
"""Photographs are worked on at most at this size; masks come back in the photograph's own."""

MIN_BOX_PX = 8
"""Shorter sides of a box hold no object."""

SAME_BOX = 0.7
"""Overlap (IoU) with the box asked for from which an object on a plain background is the one that is meant."""

Method = Literal["auto", "plain", "grabcut", "sam"]

NEXT_STEPS = "give --box X0,Y0,X1,Y1 around the object, --mask FILE, or an RGBA image"

SegmentObject = Callable[["Tensor", "Tensor | None", "Tensor"], "Tensor"]
"""The mask [h, w] of what a box [4] and points [n, 2] (pixels) show of an image [3, h, w]: what SAM does."""


@dataclass(frozen=True)
class CutoutRequest:
    """How the object is found in a photograph that has no alpha channel."""

    method: Method = "auto"
    """``auto``: a plain background where there is one, else GrabCut."""
    box_px: tuple[float, float, float, float] | None = None
    """Left, top, right and bottom of the object, pixels of the photograph."""
    mask: ImageInput | None = None
    """The object's mask, of the photograph's size: grey, or the alpha of an RGBA image."""
    touched_px: tuple[tuple[float, float], ...] = ()
    """Points of the object, pixels of the photograph: where drags start."""
    segment: SegmentObject | None = None
    """What ``sam`` asks."""

    @property
    def is_default(self) -> bool:
        """Whether nothing was asked for."""
        return self.method == "auto" and self.box_px is None and self.mask is None


@dataclass(frozen=True)
class Photo:
    """A photograph of one object."""

    rgba: Float[np.ndarray, "4 h w"]
    """With the object's mask, straight alpha, [0, 1]; at most :data:`WORK_SIDE_PX` to a side."""
    width: int
    """Of the photograph itself, pixels."""
    height: int
    """Likewise."""
    cut_by: str
    """What found the object: ``alpha``, ``mask``, ``plain``, ``grabcut box``, ``grabcut`` or ``sam``."""
    fovy_rad: float | None = None
    """Vertical field of view, where its file tells the lens."""


def open_photo(image: ImageInput, request: CutoutRequest, name: str = "the image") -> Photo:
    """Open a photograph and find the object in it.

    Raises:
        ImageError: an image, a box or a mask that cannot be used; or no object found, and what to do next.
    """
    decoded = decode(image, name, WORK_SIDE_PX)
    given = decoded.pixels.transpose(2, 0, 1)
    masked = decoded.has_alpha and not bool((given[3] == 1).all())
    try:
        if masked and not request.is_default:
            raise ImageError("the image has a mask in its alpha channel already: give no --box, --mask or --cutout")
        if masked:
            rgba, cut_by = sound_matte(given), "alpha"
        else:
            rgba, cut_by = _cut_out(given[:3], decoded, request)
    except ImageError as error:
        raise type(error)(f"{decoded.name}: {error}") from error
    return Photo(rgba, decoded.width, decoded.height, cut_by, decoded.fovy_rad)


def _cut_out(
    rgb: Float[np.ndarray, "3 h w"], decoded: DecodedImage, request: CutoutRequest
) -> tuple[Float[np.ndarray, "4 h w"], str]:
    """The object, and what found it."""
    scale = rgb.shape[2] / decoded.width, rgb.shape[1] / decoded.height
    if request.mask is not None:
        if request.box_px is not None or request.method != "auto":
            raise ImageError("--mask tells the object: give no --box or --cutout beside it")
        return np.concatenate([rgb, _given_mask(request.mask, decoded, rgb)[None]]), "mask"
    box = None if request.box_px is None else _checked_box(request.box_px, decoded, scale)
    touched = np.array(request.touched_px, np.float32).reshape(-1, 2) * np.array(scale, np.float32)
    if request.method == "sam":
        if request.segment is None:
            raise ImageError("--cutout sam needs a model that segments")
        if box is None and len(touched) == 0:
            raise ImageError("SAM needs a box or a point of the object: give --box X0,Y0,X1,Y1")
        found = _segmented(request.segment, rgb, box, touched)
        if not found.any():
            raise ImageError(f"SAM found nothing: {NEXT_STEPS}")
        return np.concatenate([rgb, found[None]]), "sam"
    if request.method in ("auto", "plain"):
        try:
            rgba = _shown(cut_out(rgb))
        except ImageError as error:
            if request.method == "plain":
                raise ImageError(f"{error}; else give --cutout grabcut with --box X0,Y0,X1,Y1") from error
        else:
            if box is None or _overlap(rgba[3], box) > SAME_BOX:
                return rgba, "plain"
    try:
        return _shown(grab_cut(rgb, box, touched)), "grabcut" if box is None else "grabcut box"
    except ImageError as error:
        tighter = "draw --box closer about the object, or give --mask FILE or an RGBA image"
        raise type(error)(f"{error}: {NEXT_STEPS if box is None else tighter}") from error


def _segmented(
    segment: SegmentObject, rgb: Float[np.ndarray, "3 h w"], box: Box | None, touched: Float[np.ndarray, "n 2"]
) -> Float[np.ndarray, "h w"]:
    """What a network finds, which takes tensors."""
    import torch

    about = None if box is None else torch.tensor(box)
    return segment(torch.from_numpy(rgb), about, torch.from_numpy(touched)).float().numpy()


def _shown(rgba: Float[np.ndarray, "4 h w"]) -> Float[np.ndarray, "4 h w"]:
    """The object, if it is more than a faint edge.

    Raises:
        NoObjectError: it is not.
    """
    if not bool((rgba[3] > 0.5).any()):
        raise NoObjectError("no object stands out from the background")
    return rgba


def _overlap(alpha: Float[np.ndarray, "h w"], box: Box) -> float:
    """IoU of the box about a mask with another."""
    rows, columns = (np.flatnonzero((alpha > 0.5).any(axis=axis)) for axis in (1, 0))
    own = int(columns[0]), int(rows[0]), int(columns[-1]) + 1, int(rows[-1]) + 1
    width, height = (min(own[i + 2], box[i + 2]) - max(own[i], box[i]) for i in (0, 1))
    areas = [(b[2] - b[0]) * (b[3] - b[1]) for b in (own, box)]
    inside = max(0.0, width) * max(0.0, height)
    return inside / (sum(areas) - inside)


def check_fovy(fovy_deg: float | None) -> None:
    """Refuse what is no field of view of a photograph.

    Raises:
        ImageError: outside of 3 to 140 degrees.
    """
    least, most = FOVY_DEG
    if fovy_deg is not None and not least <= fovy_deg <= most:
        raise ImageError(f"a vertical field of view of {fovy_deg:g} degrees: give {least:g} to {most:g}")


def check_box(box: tuple[float, ...]) -> None:
    """What can be said about a box without the image.

    Raises:
        ImageError: not four finite numbers, or empty.
    """
    shown = ",".join(f"{value:g}" for value in box)
    if len(box) != 4 or not all(math.isfinite(value) for value in box):
        raise ImageError(f"the box {shown}: give four finite numbers X0,Y0,X1,Y1")
    if box[2] - box[0] < 1 or box[3] - box[1] < 1:
        raise ImageError(f"the box {shown} is empty: X1 must be greater than X0, Y1 greater than Y0")


def _checked_box(box_px: tuple[float, ...], decoded: DecodedImage, scale: tuple[float, float]) -> Box:
    """The box within the image, in working pixels."""
    check_box(box_px)
    shown = ",".join(f"{value:g}" for value in box_px)
    size = f"the image of {decoded.width}x{decoded.height} pixels"
    left, top = max(0.0, box_px[0]), max(0.0, box_px[1])
    right, bottom = min(float(decoded.width), box_px[2]), min(float(decoded.height), box_px[3])
    if right <= left or bottom <= top:
        raise ImageError(f"the box {shown} lies outside of {size}")
    box = left * scale[0], top * scale[1], right * scale[0], bottom * scale[1]
    if min(box[2] - box[0], box[3] - box[1]) < MIN_BOX_PX:
        raise ImageError(f"the box {shown} shows too little of {size}: give at least {MIN_BOX_PX} pixels each way")
    return box


def _given_mask(mask: ImageInput, decoded: DecodedImage, rgb: Float[np.ndarray, "3 h w"]) -> Float[np.ndarray, "h w"]:
    """The user's mask in working pixels."""
    import cv2

    pixels = mask[..., None].repeat(3, -1) if isinstance(mask, np.ndarray) and mask.ndim == 2 else mask
    own = decode(pixels, "the mask", WORK_SIDE_PX)
    if (own.width, own.height) != (decoded.width, decoded.height):
        raise ImageError(
            f"the mask{f' {mask}' if isinstance(mask, str | Path) else ''} has {own.width}x{own.height} pixels, "
            f"the image {decoded.width}x{decoded.height}: give one of the same size"
        )
    has_mask = own.has_alpha and bool((own.pixels[..., 3] < 1).any())
    grey = own.pixels[..., 3] if has_mask else own.pixels[..., :3].mean(-1)
    alpha = cv2.resize(grey, (rgb.shape[2], rgb.shape[1]), interpolation=cv2.INTER_AREA)
    if not (alpha > 0.5).any():
        raise ImageError("the mask shows no object: white is the object, black is not")
    return alpha
