"""What can be looked at: pictures, posed views, articulated objects, Gaussian files, earlier predictions, uploads."""

import io
import math
import tempfile
import warnings
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import torch
from einops import rearrange
from jaxtyping import Float
from PIL import Image
from torch import Tensor

from partrm.errors import PartRMError, PartRMWarning
from partrm.files import read_json
from partrm.geometry.cameras import CANONICAL_DISTANCE, CANONICAL_FOVY_RAD, MASK_BOX_FILL, Cameras, orbit_poses
from partrm.geometry.framing import nominal_crops
from partrm.geometry.gaussians import Gaussians, load_ply
from partrm.geometry.joints import JointMotion, JointType
from partrm.imaging.cutout import ImageError, NoObjectError
from partrm.imaging.decoding import MAX_PIXELS, decode
from partrm.imaging.formats import IMAGE_ERRORS
from partrm.imaging.grabcut import Box, Stroke
from partrm.imaging.images import FramedImage, crop_square, load_image
from partrm.imaging.photos import WORK_SIDE_PX, CutoutRequest, open_photo
from partrm.inference.source import IMAGE_SUFFIXES, SourceViews, load_source, single_view, view_through_lens
from partrm.viewer.display import MovableGaussians

OBJECT_SUFFIXES = (".urdf", ".xml")

RENDER_SIDE_PX = 512
"""Side of the picture that is made of an articulated object."""

RENDER_AZIMUTH_DEG, RENDER_ELEVATION_DEG = -28.0, 20.0
"""Where that picture is taken from, about the object's front."""

MAX_UPLOAD_BYTES = 32_000_000

MAX_UPLOAD_PIXELS = 16_000_000
"""Of formats that are decoded whole; JPEG files, as phones write them, are decoded small: :data:`MAX_PIXELS`."""

UPLOAD_FORMATS = {"PNG": ".png", "JPEG": ".jpg", "WEBP": ".webp", "BMP": ".bmp", "TIFF": ".tif"}
"""Image formats taken from the page, by their content, and the names that they get on disk."""


MIN_CROP, MAX_CROP = 0.1, 4.0
"""Of the sizes of crops, shares of the first; what a page sends is not trusted."""

OTHER_FILES = (".splat", ".spz", ".ksplat", ".sog", ".glb", ".gltf", ".obj", ".usdz", ".usd", ".usda", ".stl", ".fbx")
"""Files of 3D content that cannot be opened."""


class ViewError(PartRMError):
    """Something that cannot be looked at; the message says what and why."""


@dataclass(frozen=True)
class OpenedPicture:
    """A picture of an object, on which drags can be drawn."""

    title: str
    rgba: Float[Tensor, "4 h w"]
    """The (first) picture, user pixels."""
    views: SourceViews
    adjustable: bool
    """Whether the user may correct the object's mask, and move and resize the square that the network sees."""
    cut_by: str = "alpha"
    """What found the object (:class:`partrm.imaging.photos.Photo`); ``nothing`` where that is left to the user."""
    box_px: Box | None = None
    """Drawn about the object by the user."""
    strokes: tuple[Stroke, ...] = ()
    """By which the user has corrected the mask."""
    fovy_rad: float | None = None
    """Vertical field of view of the picture, where its file tells the lens."""

    @property
    def is_photo(self) -> bool:
        """Whether it shows more than its object: not an image that came with a mask."""
        return self.cut_by != "alpha"


def open_path(path: Path, size_px: int | None) -> OpenedPicture | MovableGaussians:
    """Open a file or folder given on the command line.

    Args:
        path: an image, a folder of posed views, a ``.urdf`` or MuJoCo ``.xml`` file, a Gaussian ``.ply`` file, or the
            folder of a prediction.
        size_px: side of the network's images; None where there is no network, so that only Gaussians can be opened.

    Raises:
        ViewError: none of these, or a picture where there is no network.
        ImageError, CameraFileError, GaussianFileError, ObjectError: broken files.
        ImportError: an articulated object without the packages that read and render it; names the extra.
    """
    if not path.exists():
        raise ViewError(f"{path}: no such file or folder")
    if (path / "prediction.json").is_file():
        return open_prediction(path)
    if path.suffix.lower() == ".ply":
        return open_gaussians(path)
    if path.suffix.lower() in OTHER_FILES:
        raise ViewError(
            f"{path}: {path.suffix} files are not opened; give a picture, a folder of posed views, a .urdf or MuJoCo "
            ".xml file, a 3D Gaussian .ply file, or the folder of a prediction"
        )
    if size_px is None:
        raise ViewError(f"{path}: drags need a model")
    if path.suffix.lower() in OBJECT_SUFFIXES:
        return photograph_object(path, size_px)
    if path.is_dir():
        views = load_source(path, size_px)
        first = sorted(f for f in path.iterdir() if f.suffix.lower() in IMAGE_SUFFIXES and not f.name.startswith("."))
        return OpenedPicture(path.name, load_image(first[0]), views, adjustable=False)
    return open_picture(path, size_px)


def needs_model(path: Path | None) -> bool:
    """Whether what is to be opened can be dragged, so that the page needs a network."""
    return path is None or not (path.suffix.lower() == ".ply" or (path / "prediction.json").is_file())


def open_picture(
    path: Path, size_px: int, framing: Literal["auto", "canonical"] = "auto", title: str = ""
) -> OpenedPicture:
    """A single image file, its object framed as ``partrm predict`` does; all of it where no object is found."""
    try:
        photo = open_photo(path, CutoutRequest())
    except NoObjectError:
        opened = decode(path, max_side_px=WORK_SIDE_PX)
        rgba = rearrange(torch.from_numpy(opened.pixels), "h w c -> c h w")
        return picture_of(rgba, size_px, framing, title or path.name, "nothing", opened.fovy_rad)
    fovy_rad = photo.fovy_rad if framing == "auto" else None
    return picture_of(torch.from_numpy(photo.rgba), size_px, framing, title or path.name, photo.cut_by, fovy_rad)


def picture_of(
    rgba: Float[Tensor, "4 h w"],
    size_px: int,
    framing: Literal["auto", "canonical"],
    title: str,
    cut_by: str = "alpha",
    fovy_rad: float | None = None,
) -> OpenedPicture:
    """An image in memory, with its vertical field of view where that is known; see :func:`open_picture`."""
    views = _views(rgba, size_px, framing, cut_by, fovy_rad)
    return OpenedPicture(title, rgba, views, adjustable=True, cut_by=cut_by, fovy_rad=fovy_rad)


def reframed(picture: OpenedPicture) -> OpenedPicture:
    """The picture, its crop about the mask that it has now."""
    size_px = picture.views.framed[0].image.shape[-1]
    return replace(picture, views=_views(picture.rgba, size_px, "auto", picture.cut_by, picture.fovy_rad))


def _views(
    rgba: Float[Tensor, "4 h w"],
    size_px: int,
    framing: Literal["auto", "canonical"],
    cut_by: str,
    fovy_rad: float | None,
) -> SourceViews:
    if fovy_rad is None:
        return replace(single_view(rgba, size_px, framing), cut_by=cut_by)
    return replace(view_through_lens(rgba, fovy_rad, size_px, "exif"), cut_by=cut_by)


def recrop(picture: OpenedPicture, base: FramedImage, scale: float, right: float, down: float) -> OpenedPicture:
    """The picture with another square for the network: ``base``'s, scaled and shifted by shares of its side."""
    if not (MIN_CROP <= scale <= MAX_CROP and abs(right) <= MAX_CROP and abs(down) <= MAX_CROP):
        raise ViewError(f"a crop of size {scale:g}, moved by {right:g} and {down:g}, is out of range")
    size_px = base.image.shape[-1]
    side = size_px / base.scale
    new = max(16, round(side * scale))
    middle = base.to_source_px(torch.tensor([size_px / 2, size_px / 2]))
    x, y = (middle + side * torch.tensor([right, down])).tolist()
    if picture.fovy_rad is None:
        framed = crop_square(picture.rgba, (round(x - new / 2), round(y - new / 2)), new, size_px)
        views = SourceViews((framed,), nominal_crops(1, size_px, "cpu")[0], torch.eye(4), 1.0, picture.rgba)
    else:
        half = new * MASK_BOX_FILL / 2
        box = x - half, y - half, x + half, y + half
        views = view_through_lens(picture.rgba, picture.fovy_rad, size_px, "exif", box)
    if not bool((views.framed[0].image[3] > 0.5).any()):
        raise ViewError("the crop shows nothing of the object")
    return replace(picture, views=replace(views, cut_by=picture.cut_by))


def photograph_object(path: Path, size_px: int) -> OpenedPicture:
    """An articulated object, closed, as the canonical camera sees it from half left and above.

    Raises:
        ObjectError: a file that cannot be used.
        ImportError: the reader or the renderer is not installed; the message names the extra.
    """
    from partrm.objects.descriptions import root_of
    from partrm.objects.mjcf import load_mjcf
    from partrm.objects.urdf import load_urdf
    from partrm.rendering.meshes import Instances, Lights, MeshScene, material_table, render_meshes

    obj = load_urdf(path) if path.suffix.lower() == ".urdf" or root_of(path) == "robot" else load_mjcf(path)
    for note in obj.notes:
        warnings.warn(f"{path}: {note}", PartRMWarning, stacklevel=2)
    scene = MeshScene.from_objects([obj])
    T_object_part = torch.from_numpy(obj.T_object_part(obj.closed_q())).float()
    instances = Instances.of_objects(scene, torch.tensor([0]), T_object_part[None], material_table([obj]))
    angles = torch.tensor([math.radians(RENDER_AZIMUTH_DEG), math.radians(RENDER_ELEVATION_DEG)])
    T = orbit_poses(angles[0], angles[1], CANONICAL_DISTANCE)
    fovy = torch.full((1, 1), CANONICAL_FOVY_RAD)
    cameras = Cameras(T[None, None], fovy, RENDER_SIDE_PX, RENDER_SIDE_PX)
    image = render_meshes(scene, instances, cameras, Lights.reference(1), samples_per_axis=3)[0, 0]
    return picture_of(image, size_px, "canonical", path.name)


def open_gaussians(path: Path) -> MovableGaussians:
    """A Gaussian PLY file, brought into view where it is of another size or place."""
    gaussians = load_ply(path)
    return MovableGaussians(in_view(gaussians), torch.zeros(len(gaussians), dtype=torch.bool), None)


def in_view(gaussians: Gaussians) -> Gaussians:
    """Gaussians as they are if most lie within the page's object frame, else centred and scaled to it."""
    if len(gaussians) == 0:
        raise ViewError("the file holds no Gaussians")
    center = gaussians.means.median(0).values
    reach = float((gaussians.means - center).norm(dim=-1).quantile(0.9)) if len(gaussians) < 10**7 else 1.0
    if float(center.norm()) < 0.5 and 0.1 < reach < 0.8:
        return gaussians
    scale = 0.5 / max(reach, 1e-9)
    return replace(gaussians, means=(gaussians.means - center) * scale, scales=gaussians.scales * scale)


def open_prediction(folder: Path) -> MovableGaussians:
    """The folder that ``partrm predict`` wrote; of a network that tells no joint the state after the drag, at rest.

    Raises:
        ViewError: files that do not belong together, or a broken ``prediction.json``.
    """
    told = _read_joint(folder)
    if told is None:
        return open_gaussians(folder / "gaussians.ply")
    before, after = load_ply(folder / "gaussians_before.ply"), load_ply(folder / "gaussians.ply")
    if len(before) != len(after):
        raise ViewError(f"{folder}: {len(before)} Gaussians before and {len(after)} after do not belong together")
    moving = (after.means - before.means).abs().amax(-1) > 1e-6
    return MovableGaussians(before, moving, told)


def _read_joint(folder: Path) -> JointMotion | None:
    """What ``prediction.json`` says of the joint; None where the network tells none."""
    try:
        joint = read_json(folder / "prediction.json")["joint"]
        if joint is None:
            return None
        read = JointMotion(
            type=JointType[joint["type"].upper()],
            axis=torch.tensor(joint["axis"], dtype=torch.float32).reshape(3),
            pivot=torch.tensor(joint["pivot"], dtype=torch.float32).reshape(3),
            amount=float(joint["amount"]),
            confidence=float(joint["confidence"]),
        )
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RuntimeError, OverflowError) as error:
        raise ViewError(f"{folder}/prediction.json: not a prediction's description ({str(error)[:200]})") from error
    numbers = torch.cat([read.axis, read.pivot, torch.tensor([read.amount, read.confidence])])
    if not bool(torch.isfinite(numbers).all()) or not 0.5 < float(read.axis.norm()) < 2:
        raise ViewError(f"{folder}/prediction.json: the joint's numbers are not finite, or its axis has no length")
    return read


def open_upload(name: str, content: bytes, folder: Path, size_px: int) -> OpenedPicture:
    """An image that came from a browser; it touches the disk only inside ``folder``, under a name of ours.

    Args:
        name: what the user calls it; only shown.
        content: bytes of the file, not trusted.
        folder: temporary folder.

    Raises:
        ViewError: too large, not one of :data:`UPLOAD_FORMATS`, too many pixels, damaged, or no object in it.
    """
    if len(content) > MAX_UPLOAD_BYTES:
        raise ViewError(f"the file is larger than {MAX_UPLOAD_BYTES // 10**6} MB")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            with Image.open(io.BytesIO(content), formats=list(UPLOAD_FORMATS)) as image:
                kind = "JPEG" if image.format == "MPO" else str(image.format)  # a phone's JPEG with a second picture
                suffix, (width, height) = UPLOAD_FORMATS[kind], image.size
    except (*IMAGE_ERRORS, EOFError) as error:
        raise ViewError(f"not an image that can be read here; give one of {', '.join(UPLOAD_FORMATS)}") from error
    most = MAX_PIXELS if kind == "JPEG" else MAX_UPLOAD_PIXELS
    if width * height > most:
        raise ViewError(f"{width}x{height} pixels are too many, at most {most // 10**6} megapixels of a {kind} file")
    title = "".join(c for c in Path(name).name if c.isprintable())[:60] or "upload"
    with tempfile.NamedTemporaryFile(dir=folder, suffix=suffix) as file:
        file.write(content)
        file.flush()
        try:
            return open_picture(Path(file.name), size_px, title=title)
        except ImageError as error:  # which names the temporary file
            raise ViewError(str(error).replace(file.name, title)) from error
