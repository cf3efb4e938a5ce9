"""What the user gives: images and drags, checked and brought to the canonical frame.

Data flow::

    image, file or folder ─► load_source (open_photo cuts the object out) ─► SourceViews
    pixels of the user    ─► check_drags ─► DragPixels
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from jaxtyping import Bool, Float
from PIL import Image
from torch import Tensor

from partrm.geometry.cameras import Cameras, canonical_orbit, canonical_pose, canonicalise, load_cameras
from partrm.geometry.drag_numbers import DragError, check_drag_numbers
from partrm.geometry.framing import Framing, first_crops, framing_of_crops, nominal_crops
from partrm.imaging.cutout import ImageError
from partrm.imaging.decoding import ImageInput, TensorLike, in_order
from partrm.imaging.images import (
    FramedImage,
    as_rgba,
    frame_canonical,
    frame_diagonal,
    frame_object,
    frame_view,
    frame_views,
    resampled,
)
from partrm.imaging.photos import CutoutRequest, Photo, check_fovy, open_photo
from partrm.model.inputs import VIEWS

IMAGE_SUFFIXES = (".png", ".jpg", ".jpeg", ".webp", ".bmp", ".tif", ".tiff")
"""Files of a source folder that count as views, in the order of their names."""

SourceInput = ImageInput | Sequence[ImageInput]
"""What can be predicted from: an image, a folder of posed views, or images that go with cameras."""

DragInput = Sequence[Sequence[float | int]] | np.ndarray | Tensor
"""Drags as users have them: rows (x0, y0, x1, y1)."""


class OffObjectError(DragError):
    """A drag that starts on the background."""


@dataclass(frozen=True)
class SourceViews:
    """The 1 to 4 input views in the canonical frame of the first."""

    framed: tuple[FramedImage, ...]
    """Images at the network's size, with the maps to the user's pixels."""
    cameras: Cameras
    """[views] that take them, in the canonical frame, at the network's size."""
    T_canonical_world: Float[Tensor, "4 4"]
    """Acts on scaled points of the user's world frame."""
    world_scale: float
    """``p_canonical = T_canonical_world @ (world_scale * p_world)``."""
    first_image: Float[Tensor, "4 h w"]
    """The first image with its object's mask; its pixels are the user's, or fewer of a large photograph."""
    network_frame: Framing | None = None
    """Unbatched similarity from the canonical frame (as its object frame) to the one that the network answers in; None
    where they are the same."""
    cut_by: str = "alpha"
    """What found the object in the first image; see :class:`Photo`."""
    lens: Literal["unknown", "exif", "given"] = "unknown"
    """Where the first camera's field of view comes from."""

    def __post_init__(self) -> None:
        assert len(self.framed) == len(self.cameras.fovy_rad) <= VIEWS

    @property
    def first_alpha(self) -> Float[Tensor, "h w"]:
        """Object mask of the first image, in its pixels."""
        return self.first_image[3]

    @property
    def first_framed(self) -> FramedImage:
        """What the network sees of the first image, mapped to the pixels of :attr:`first_image`."""
        return self.framed[0].in_source_of(self.first_image.shape[2], self.first_image.shape[1])

    def first_picture(
        self, size_px: int, margin: float = 1.0, device: torch.device | str = "cpu"
    ) -> tuple[FramedImage, Cameras]:
        """The first image's crop in other pixels, and the camera [1] that takes it.

        Args:
            size_px: side of the picture.
            margin: how many times as wide as the crop it is, about the same middle.
            device: where the picture is made.
        """
        crop, camera = self.first_framed, self.cameras[:1]
        side = crop.image.shape[-1]
        step, corner = margin * side / size_px, side / 2 * (1 - margin)
        H = crop.H_source_framed @ torch.tensor([[step, 0.0, corner], [0.0, step, corner], [0.0, 0.0, 1.0]])
        fovy = 2 * torch.atan(margin * torch.tan(camera.fovy_rad / 2))
        picture = resampled(self.first_image, H, size_px, device)
        user_px = self.framed[0].source_width, self.framed[0].source_height
        return picture.in_source_of(*user_px), Cameras(camera.T_world_camera, fovy, size_px, size_px)

    def mask_in_user_px(self, mask: Float[Tensor, "h w"]) -> Float[Tensor, "height width"]:
        """A mask in pixels of :attr:`first_image` at the size of the user's image."""
        size = self.framed[0].source_height, self.framed[0].source_width
        if tuple(mask.shape) == size:
            return mask
        return torch.nn.functional.interpolate(mask[None, None], size, mode="bilinear")[0, 0]


@dataclass(frozen=True)
class DragPixels:
    """Checked drags in pixels of the user's first image."""

    start: Float[Tensor, "n 2"]
    """Where the part is touched, (x, y)."""
    end: Float[Tensor, "n 2"]
    """Where that point shall arrive, (x, y)."""
    snapped: Bool[Tensor, " n"]
    """Whether the start as given lay beside the object."""


def load_source(
    source: SourceInput | Photo,
    size_px: int,
    framing: Literal["auto", "canonical"] = "auto",
    cameras: Cameras | None = None,
    crop: bool = True,
    cutout: CutoutRequest | None = None,
    fovy_deg: float | None = None,
) -> SourceViews:
    """Check a single image, or 1 to 4 posed views in any world frame, and bring them to the canonical frame.

    Args:
        source: an image, or what :func:`open_photo` made of one; a sequence of images that go with ``cameras``; or a
            folder with ``cameras.json``, whose images go with the cameras in the order of their names.
        size_px: side of the network's images.
        framing: ``auto`` says that the lens of a single image is unknown; ``canonical`` that it has the canonical
            camera. Posed views have their own cameras.
        cameras: [views] of the images, square, in the images' size.
        crop: let every view show its object as large as the frame allows; without, all of what canonical cameras see,
            as the reference network needs it.
        cutout: how the object is found in a single opaque image.
        fovy_deg: vertical field of view of a single image's camera; by default what its EXIF data tell, if anything.

    Raises:
        ImageError: an image that cannot be used, or images that do not fit their cameras.
        CameraFileError: a broken ``cameras.json``.
    """
    cutout = CutoutRequest() if cutout is None else cutout
    check_fovy(fovy_deg)
    if isinstance(source, str | Path) and _is_folder(Path(source)):
        if cameras is not None:
            raise ImageError(f"{source}: a folder has its cameras in cameras.json, give no others")
        _refuse_photo_options("a folder of posed views", cutout, fovy_deg)
        return _load_posed_folder(Path(source), size_px, crop)
    if isinstance(source, Photo):
        return _of_photo(source, size_px, framing, crop, fovy_deg)
    images = [source] if isinstance(source, str | Path | Image.Image | np.ndarray | TensorLike) else list(source)
    if cameras is not None:
        _refuse_photo_options("images with cameras", cutout, fovy_deg)
        return _posed_views(
            "the views", [f"view {number}" for number in range(len(images))], images, cameras, size_px, crop
        )
    if len(images) != 1:
        raise ImageError(f"{len(images)} images given without cameras: give one image, or the cameras too")
    return _of_photo(open_photo(images[0], cutout), size_px, framing, crop, fovy_deg)


def _of_photo(
    photo: Photo, size_px: int, framing: Literal["auto", "canonical"], crop: bool, fovy_deg: float | None
) -> SourceViews:
    """The view that a photograph is."""
    if not crop:
        return _with_user_px(whole_view(torch.from_numpy(photo.rgba), size_px, framing), photo)
    if framing == "auto":
        return photo_view(photo, size_px, fovy_deg)
    if fovy_deg is not None:
        raise ImageError("the canonical camera has its own lens: give no field of view with canonical framing")
    return _with_user_px(single_view(torch.from_numpy(photo.rgba), size_px, framing), photo)


def _is_folder(path: Path) -> bool:
    try:
        return path.is_dir()
    except OSError as error:  # too long a name, or a folder on the way that may not be entered
        raise ImageError(f"{str(path)[:200]}: cannot be read ({error.strerror})") from error


def _refuse_photo_options(what: str, cutout: CutoutRequest, fovy_deg: float | None) -> None:
    if not cutout.is_default or fovy_deg is not None:
        raise ImageError(f"{what}: a box, a mask, a way to cut out and a field of view go with a single image")


def _with_user_px(views: SourceViews, photo: Photo) -> SourceViews:
    """Views of a photograph with maps to its own pixels rather than those of its working copy."""
    framed = views.framed[0].in_source_of(photo.width, photo.height)
    return replace(views, framed=(framed,), cut_by=photo.cut_by)


def photo_view(photo: Photo, size_px: int, fovy_deg: float | None = None) -> SourceViews:
    """A photograph, cropped about its object's mask; with its lens where that is known.

    The canonical frame is that of the crop: z towards the camera, the crop's middle at the origin.

    Args:
        photo: the photograph.
        size_px: side of the network's images.
        fovy_deg: vertical field of view of the whole photograph; by default what its file tells.
    """
    rgba = torch.from_numpy(photo.rgba)
    if fovy_deg is not None:
        views = view_through_lens(rgba, math.radians(fovy_deg), size_px, "given")
    elif photo.fovy_rad is not None:
        views = view_through_lens(rgba, photo.fovy_rad, size_px, "exif")
    else:
        views = single_view(rgba, size_px, "auto")
    return _with_user_px(views, photo)


def view_through_lens(
    rgba: Float[Tensor, "4 h w"],
    fovy_rad: float,
    size_px: int,
    lens: Literal["exif", "given"],
    box_px: tuple[float, float, float, float] | None = None,
) -> SourceViews:
    """One image of a known vertical field of view, cropped about its mask, or about a box.

    Raises:
        ImageError: no object, where no box is given.
    """
    _, height, width = rgba.shape
    taken = Cameras(canonical_pose(), torch.tensor(fovy_rad), width, height)
    framed, crop = frame_view(rgba, taken, size_px, box_px)
    camera = first_crops(crop.fovy_rad[None], size_px)[0]
    return SourceViews((framed,), camera, torch.eye(4), 1.0, rgba, lens=lens)


def single_view(rgba: Float[Tensor, "4 h w"], size_px: int, framing: Literal["auto", "canonical"]) -> SourceViews:
    """One image of an object, cropped about its mask; see :func:`load_source`.

    Raises:
        ImageError: no object, or an image that is not square with ``canonical``.
    """
    if framing == "canonical":
        if rgba.shape[1] != rgba.shape[2]:
            raise ImageError(
                f"the image has {rgba.shape[2]}x{rgba.shape[1]} pixels: canonical framing needs a square one"
            )
        return cropped_views([rgba], canonical_orbit(1, rgba.shape[2]), torch.eye(4), 1.0, size_px)
    nominal = nominal_crops(1, size_px, "cpu")[0]
    return SourceViews((frame_object(rgba, size_px),), nominal, torch.eye(4), 1.0, rgba)


def whole_view(rgba: Float[Tensor, "4 h w"], size_px: int, framing: Literal["auto", "canonical"]) -> SourceViews:
    """One image of an object as a canonical camera sees it; see :func:`load_source`.

    Raises:
        ImageError: no object, or an image that is not square with ``canonical``.
    """
    frame = frame_canonical if framing == "canonical" else frame_diagonal
    return SourceViews((frame(rgba, size_px),), canonical_orbit(1, size_px), torch.eye(4), 1.0, rgba)


def cropped_views(
    images: Sequence[Float[Tensor, "4 h w"]],
    cameras: Cameras,
    T_canonical_world: Float[Tensor, "4 4"],
    world_scale: float,
    size_px: int,
) -> SourceViews:
    """Images with their cameras [views] in the canonical frame, each cropped about its own mask.

    Raises:
        ImageError: an image that shows no object.
    """
    framed, crops = frame_views(images, cameras, size_px)
    frame = framing_of_crops(crops[:1], torch.zeros(1, 3))[0]
    return SourceViews(framed, crops, T_canonical_world, world_scale, images[0], frame, lens="given")


def _load_posed_folder(folder: Path, size_px: int, crop: bool) -> SourceViews:
    cameras = load_cameras(folder / "cameras.json")
    found = (f for f in folder.iterdir() if f.suffix.lower() in IMAGE_SUFFIXES and not f.name.startswith("."))
    try:
        files = in_order(found)
    except ValueError as error:
        raise ImageError(f"{folder}: {error}") from error
    return _posed_views(str(folder), [str(file) for file in files], files, cameras, size_px, crop)


def _posed_views(
    where: str, names: Sequence[str], images: Sequence[ImageInput], cameras: Cameras, size_px: int, crop: bool
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
    if crop:
        return cropped_views(opened, canonical, T_canonical_world, float(scale), size_px)
    framed = tuple(frame_canonical(rgba, size_px) for rgba in opened)
    return SourceViews(framed, canonical.resized(size_px), T_canonical_world, float(scale), opened[0])


def check_drags(drags: DragInput, source: SourceViews) -> DragPixels:
    """Check drags (x0, y0, x1, y1) in pixels of the user's first image; a sequence, an array or a tensor [n, 4].

    Raises:
        DragError: none or more than ten, not four finite numbers, a start farther from the object than :data:`SNAP`, or
            shorter than a pixel.
    """
    first = source.framed[0]
    try:
        return drags_on(drag_rows(drags), source.first_alpha, first.source_width, first.source_height)
    except OffObjectError as error:
        if not source.cut_by.startswith("grabcut"):
            raise
        raise OffObjectError(
            f"{error} that GrabCut found: give a (closer) --box, --mask FILE or an RGBA image"
        ) from error


def drag_rows(drags: DragInput) -> Sequence[Sequence[float | int]]:
    """Drags as rows of four finite numbers, checked as far as that goes without the image.

    Raises:
        DragError: as :func:`check_drags`.
    """
    rows = drags.tolist() if isinstance(drags, np.ndarray | Tensor) else drags
    if not all(isinstance(row, Sequence) for row in rows):
        raise DragError("drags come in rows of 4 values: give [(X0, Y0, X1, Y1), ...]")
    check_drag_numbers(rows)
    return rows


SEE_THROUGH = 0.1
"""Opacity from which a pixel is still the object's: glass, or a matte that is not sure."""

SNAP = 0.02
"""How far off the object a drag may start, as a share of the image's longer side; it then starts on the object."""


def drags_on(
    drags: Sequence[Sequence[float | int]],
    alpha: Float[Tensor, "h w"],
    width: int | None = None,
    height: int | None = None,
) -> DragPixels:
    """The same for an image of which the opacity is known, perhaps in fewer pixels than its ``width`` x ``height``."""
    check_drag_numbers(drags)
    rows, columns = alpha.shape
    scale = torch.tensor([columns / (width or columns), rows / (height or rows)], dtype=torch.float64)
    given = torch.tensor([list(drag) for drag in drags], dtype=torch.float64)
    own = given[:, :2] * scale
    found = [_on_object(x, y, alpha) for x, y in own.tolist()]
    for number, ((x, y), start) in enumerate(zip(given[:, :2].tolist(), found, strict=True), start=1):
        if start is None:
            size = f"{width or columns}x{height or rows}"
            if not (0 <= x < (width or columns) and 0 <= y < (height or rows)):
                raise DragError(f"drag {number}: its start ({x:g}, {y:g}) lies outside of the image of {size} pixels")
            raise OffObjectError(f"drag {number}: its start ({x:g}, {y:g}) lies on the background, not on the object")
    starts = torch.tensor(found, dtype=torch.float64)
    snapped = (starts != own).any(1)
    start = torch.where(snapped[:, None], starts / scale, given[:, :2])
    return DragPixels(start.float(), given[:, 2:].float(), snapped)


def _on_object(x: float, y: float, alpha: Float[Tensor, "h w"]) -> tuple[float, float] | None:
    """Where a drag starts: as given where that lies on the object, else at the nearest pixel of it, if it is near."""
    height, width = alpha.shape
    inside = 0 <= x < width and 0 <= y < height
    if inside and float(alpha[int(y), int(x)]) > 0.5:
        return x, y
    reach = SNAP * max(height, width)
    top, left = (max(0, math.floor(value - reach)) for value in (y, x))
    rows, columns = torch.nonzero(alpha[top : math.ceil(y + reach) + 1, left : math.ceil(x + reach) + 1] > 0.5).T
    away = torch.hypot(columns + left + 0.5 - x, rows + top + 0.5 - y)
    if len(away) and float(away.min()) <= reach:
        nearest = int(away.argmin())
        return float(columns[nearest] + left) + 0.5, float(rows[nearest] + top) + 0.5
    if inside and float(alpha[int(y), int(x)]) > SEE_THROUGH:
        return x, y
    return None
