"""What the user gives: images and drags, checked and brought to the canonical frame.

Data flow::

    image, file or folder ─► load_source ─► SourceViews
    pixels of the user    ─► check_drags ─► DragPixels
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from jaxtyping import Float
from PIL import Image
from torch import Tensor

from partrm.errors import PartRMError
from partrm.geometry.cameras import Cameras, canonical_orbit, canonicalise, load_cameras
from partrm.geometry.drags import MAX_DRAGS
from partrm.imaging.cutout import ImageError
from partrm.imaging.images import FramedImage, ImageInput, as_rgba, frame_object
from partrm.model.inputs import VIEWS

IMAGE_SUFFIXES = (".png", ".jpg", ".jpeg", ".webp", ".bmp", ".tif", ".tiff")
"""Files of a source folder that count as views, in the order of their names."""

SourceInput = ImageInput | Sequence[ImageInput]
"""What can be predicted from: an image, a folder of posed views, or images that go with cameras."""

DragInput = Sequence[Sequence[float | int]] | np.ndarray | Tensor
"""Drags as users have them: rows (x0, y0, x1, y1)."""

MIN_DRAG_PX = 1.0
"""A shorter drag has no direction."""


class DragError(PartRMError):
    """A drag that cannot be used; the message says which and why."""


@dataclass(frozen=True)
class SourceViews:
    """The 1 to 4 input views in the canonical frame of the first."""

    framed: tuple[FramedImage, ...]
    """Images at the network's size, with the maps to the user's pixels."""
    cameras: Cameras
    """[views] in the canonical frame, at the network's size."""
    T_canonical_world: Float[Tensor, "4 4"]
    """Acts on scaled points of the user's world frame."""
    world_scale: float
    """``p_canonical = T_canonical_world @ (world_scale * p_world)``."""
    first_alpha: Float[Tensor, "h w"]
    """Object mask of the first image, user pixels."""

    def __post_init__(self) -> None:
        assert len(self.framed) == len(self.cameras.fovy_rad) <= VIEWS


@dataclass(frozen=True)
class DragPixels:
    """Checked drags in pixels of the user's first image."""

    start: Float[Tensor, "n 2"]
    """Where the part is touched, (x, y)."""
    end: Float[Tensor, "n 2"]
    """Where that point shall arrive, (x, y)."""


def load_source(
    source: SourceInput,
    size_px: int,
    framing: Literal["auto", "canonical"] = "auto",
    cameras: Cameras | None = None,
) -> SourceViews:
    """Check a single image, or 1 to 4 posed views in any world frame, and bring them to the canonical frame.

    Args:
        source: an image; a sequence of images that go with ``cameras``; or a folder with ``cameras.json``, whose images
            go with the cameras in the order of their names.
        size_px: side of the network's images.
        framing: ``auto`` brings a single image to the canonical framing from its mask; ``canonical`` says that it has
            the canonical camera already. Posed views keep their own cameras.
        cameras: [views] of the images, square, in the images' size.

    Raises:
        ImageError: an image that cannot be used, or images that do not fit their cameras.
        CameraFileError: a broken ``cameras.json``.
    """
    if isinstance(source, str | Path) and Path(source).is_dir():
        if cameras is not None:
            raise ImageError(f"{source}: a folder has its cameras in cameras.json, give no others")
        return _load_posed_folder(Path(source), size_px)
    images = [source] if isinstance(source, str | Path | Image.Image | np.ndarray | Tensor) else list(source)
    if cameras is not None:
        return _posed_views("the views", [f"view {number}" for number in range(len(images))], images, cameras, size_px)
    if len(images) != 1:
        raise ImageError(f"{len(images)} images given without cameras: give one image, or the cameras too")
    rgba = as_rgba(images[0])
    return SourceViews((frame_object(rgba, size_px, framing),), canonical_orbit(1, size_px), torch.eye(4), 1.0, rgba[3])


def _load_posed_folder(folder: Path, size_px: int) -> SourceViews:
    cameras = load_cameras(folder / "cameras.json")
    files = sorted(f for f in folder.iterdir() if f.suffix.lower() in IMAGE_SUFFIXES and not f.name.startswith("."))
    return _posed_views(str(folder), [str(file) for file in files], files, cameras, size_px)


def _posed_views(
    where: str, names: Sequence[str], images: Sequence[ImageInput], cameras: Cameras, size_px: int
) -> SourceViews:
    """Images and their cameras, in the canonical frame of the first; errors speak of ``where`` and ``names``."""
    if not 1 <= len(images) <= VIEWS:
        raise ImageError(f"{where}: {len(images)} images, needs 1 to {VIEWS} posed views")
    if tuple(cameras.batch_shape) != (len(images),):
        count = " x ".join(str(n) for n in cameras.batch_shape) or "one unbatched"
        raise ImageError(f"{where}: {len(images)} images do not go with {count} cameras")
    if cameras.width != cameras.height:
        raise ImageError(f"{where}: posed views must be square, not {cameras.width}x{cameras.height}")
    opened = [as_rgba(image, name) for image, name in zip(images, names, strict=True)]
    asked = f"{cameras.width}x{cameras.height}"
    for name, rgba in zip(names, opened, strict=True):
        given = f"{rgba.shape[2]}x{rgba.shape[1]}"
        if given != asked:
            raise ImageError(f"{name}: {given} pixels, but its camera says {asked}")
    if not bool((cameras.positions[0].norm() > 1e-6).all()):
        raise ImageError(f"{where}: the first camera stands at the world's origin, where the object should be")
    canonical, T_canonical_world, scale = canonicalise(cameras.to("cpu"))
    framed = tuple(frame_object(rgba, size_px, "canonical") for rgba in opened)
    return SourceViews(framed, canonical.resized(size_px), T_canonical_world, float(scale), opened[0][3])


def check_drags(drags: DragInput, source: SourceViews) -> DragPixels:
    """Check drags (x0, y0, x1, y1) in pixels of the user's first image; a sequence, an array or a tensor [n, 4].

    Raises:
        DragError: none or more than ten, not four finite numbers, start or end outside of the image, start not on the
            object, or shorter than a pixel.
    """
    rows = drags.tolist() if isinstance(drags, np.ndarray | Tensor) else drags
    if not all(isinstance(row, Sequence) for row in rows):
        raise DragError("drags come in rows of 4 values: give [(X0, Y0, X1, Y1), ...]")
    return drags_on(rows, source.first_alpha)


def drags_on(drags: Sequence[Sequence[float | int]], alpha: Float[Tensor, "h w"]) -> DragPixels:
    """The same for an image of which the opacity is known; see :func:`check_drags`."""
    check_drag_numbers(drags)
    height, width = alpha.shape
    for number, (x0, y0, x1, y1) in enumerate(drags, start=1):
        for what, x, y in (("start", x0, y0), ("end", x1, y1)):
            if not (0 <= x < width and 0 <= y < height):
                raise DragError(
                    f"drag {number}: its {what} ({x:g}, {y:g}) lies outside of the image of {width}x{height} pixels"
                )
        if not float(alpha[int(y0), int(x0)]) > 0.5:
            raise DragError(f"drag {number}: its start ({x0:g}, {y0:g}) lies on the background, not on the object")
    points = torch.tensor([list(drag) for drag in drags], dtype=torch.float32)
    return DragPixels(points[:, :2], points[:, 2:])


def check_drag_numbers(drags: Sequence[Sequence[float | int]]) -> None:
    """What can be said about drags without the image; see :func:`check_drags`."""
    if not 1 <= len(drags) <= MAX_DRAGS:
        raise DragError(f"{len(drags)} drags given, needs 1 to {MAX_DRAGS}")
    for number, drag in enumerate(drags, start=1):
        if len(drag) != 4:
            raise DragError(f"drag {number}: has {len(drag)} values, needs 4: X0,Y0,X1,Y1")
        if not all(math.isfinite(value) for value in drag):
            raise DragError(f"drag {number}: its values must be finite numbers")
        x0, y0, x1, y1 = drag
        if math.hypot(x1 - x0, y1 - y0) < MIN_DRAG_PX:
            raise DragError(f"drag {number}: start and end are the same point, drag at least {MIN_DRAG_PX:g} pixel")
