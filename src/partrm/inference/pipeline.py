"""From images and drags to a prediction: 3D Gaussians before and after the drag, the moving part and its joint.

Data flow::

    image file or folder ─► load_source ─► SourceViews ─┐
    pixels of the user   ─► check_drags ─► DragPixels ──┴► predict ─► Prediction ─► outputs.save_prediction
"""

import math
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import torch
from einops import rearrange
from jaxtyping import Bool, Float
from torch import Tensor

from partrm.errors import PartRMError
from partrm.geometry.cameras import Cameras, canonical_orbit, canonicalise, load_cameras
from partrm.geometry.drags import MAX_DRAGS, Drags
from partrm.geometry.gaussians import Gaussians
from partrm.geometry.joints import JointMotion
from partrm.imaging.cutout import ImageError
from partrm.imaging.images import FramedImage, frame_object, load_image
from partrm.inference.decode import apply_joint_motion, read_motion, run_network
from partrm.model.checkpoints import LoadedModel
from partrm.model.inputs import VIEWS, NetworkInput
from partrm.model.network import NetworkOutput

IMAGE_SUFFIXES = (".png", ".jpg", ".jpeg", ".webp", ".bmp", ".tif", ".tiff")
"""Files of a source folder that count as views, in the order of their names."""

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
    end: Float[Tensor, "n 2"]


@dataclass(frozen=True)
class Prediction:
    """What one forward pass says about the dragged object, on the CPU, in the canonical frame."""

    before: Gaussians
    """[n] the object as given."""
    after: Gaussians
    """[n] the same Gaussians after the drag."""
    moving: Bool[Tensor, " n"]
    """Which of them belong to the dragged part."""
    joint: JointMotion
    """The joint and how far it moved."""
    part_mask: Float[Tensor, "h w"]
    """Moving part in the first image, user pixels: 1 on the part, else 0."""
    source: SourceViews
    drags: DragPixels
    model_name: str
    model_hash: str
    timings_s: dict[str, float]
    """Seconds of each step."""

    def at(self, t: float) -> Gaussians:
        """The object after the fraction ``t`` of the motion (0: before, 1: after)."""
        return apply_joint_motion(self.before, self.moving, self.joint.motion(t))


def load_source(path: str | Path, size_px: int, framing: Literal["auto", "canonical"] = "auto") -> SourceViews:
    """Read an image file, or a folder of 1 to 4 posed views with ``cameras.json`` (any world frame).

    Args:
        path: image file or folder; the images of a folder go with the cameras in the order of their names.
        size_px: side of the network's images.
        framing: ``auto`` brings a single image to the canonical framing from its mask; ``canonical`` says that it has
            the canonical camera already. Posed views keep their own cameras.

    Raises:
        ImageError: an image that cannot be used, or images that do not fit their cameras.
        CameraFileError: a broken ``cameras.json``.
    """
    path = Path(path)
    if path.is_dir():
        return _load_posed_views(path, size_px)
    image = load_image(path)
    framed = frame_object(image, size_px, framing)
    return SourceViews((framed,), canonical_orbit(1, size_px), torch.eye(4), 1.0, image[3])


def _load_posed_views(folder: Path, size_px: int) -> SourceViews:
    cameras = load_cameras(folder / "cameras.json")
    files = sorted(f for f in folder.iterdir() if f.suffix.lower() in IMAGE_SUFFIXES and not f.name.startswith("."))
    if not 1 <= len(files) <= VIEWS:
        raise ImageError(f"{folder}: holds {len(files)} images, needs 1 to {VIEWS} posed views")
    if len(files) != len(cameras.fovy_rad):
        raise ImageError(
            f"{folder}: {len(files)} images do not go with {len(cameras.fovy_rad)} cameras in cameras.json"
        )
    if cameras.width != cameras.height:
        raise ImageError(f"{folder}: posed views must be square, not {cameras.width}x{cameras.height}")
    images = [load_image(file) for file in files]
    asked = f"{cameras.width}x{cameras.height}"
    for file, image in zip(files, images, strict=True):
        given = f"{image.shape[2]}x{image.shape[1]}"
        if given != asked:
            raise ImageError(f"{file}: {given} pixels, but cameras.json says {asked}")
    if not bool((cameras.positions[0].norm() > 1e-6).all()):
        raise ImageError(f"{folder}: the first camera stands at the world's origin, where the object should be")
    canonical, T_canonical_world, scale = canonicalise(cameras)
    framed = tuple(frame_object(image, size_px, "canonical") for image in images)
    return SourceViews(framed, canonical.resized(size_px), T_canonical_world, float(scale), images[0][3])


def check_drags(drags: Sequence[Sequence[float | int]], source: SourceViews) -> DragPixels:
    """Check drags (x0, y0, x1, y1) in pixels of the user's first image.

    Raises:
        DragError: none or more than ten, not four finite numbers, start or end outside of the image, start not on the
            object, or shorter than a pixel.
    """
    return drags_on(drags, source.first_alpha)


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


def network_input(source: SourceViews, drags: DragPixels, device: torch.device | str = "cpu") -> NetworkInput:
    """One sample [b = 1] for the network; absent views are zero images under the cameras of the canonical orbit."""
    present, size_px = len(source.framed), source.cameras.width
    images = torch.zeros(VIEWS, 4, size_px, size_px)
    images[:present] = torch.stack([framed.image for framed in source.framed])
    absent = canonical_orbit(VIEWS, size_px)
    cameras = Cameras(
        torch.cat([source.cameras.T_world_camera, absent.T_world_camera[present:]]),
        torch.cat([source.cameras.fovy_rad, absent.fovy_rad[present:]]),
        size_px,
        size_px,
    )
    first = source.framed[0]
    canonical = Drags.from_pixels(
        first.to_canonical_px(drags.start), first.to_canonical_px(drags.end), size_px, size_px, view=0
    )
    return NetworkInput(
        images=images[None].to(device),
        cameras=cameras[None].to(device),
        view_valid=(torch.arange(VIEWS) < present)[None].to(device),
        drags=canonical[None].to(device),
    )


def predict(source: SourceViews, drags: DragPixels, model: LoadedModel) -> Prediction:
    """Run the network once on the device of its weights and read the part and its joint off the answer.

    Raises:
        CheckpointError: a network that does not tell parts and joints.
    """
    started = time.perf_counter()
    network = model.articulated
    device = next(network.parameters()).device
    inputs = network_input(source, drags, device)
    output = run_network(network, inputs)
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    networked = time.perf_counter()
    gaussians, part, joint = read_motion(output, inputs)
    return Prediction(
        before=gaussians,
        after=apply_joint_motion(gaussians, part, joint.T_after_before),
        moving=part,
        joint=joint,
        part_mask=_part_mask(output, source),
        source=source,
        drags=drags,
        model_name=model.name,
        model_hash=model.hash,
        timings_s={"network": networked - started, "joint": time.perf_counter() - networked},
    )


def _part_mask(output: NetworkOutput, source: SourceViews) -> Float[Tensor, "h w"]:
    """The moving pixels of the first view, carried to the user's pixels and cut by the object's mask there."""
    side = math.isqrt(output.moving.shape[1] // VIEWS)
    first = rearrange(output.moving[0], "(v h w) -> v h w", v=VIEWS, h=side, w=side)[0]
    probability = source.framed[0].map_to_source(first.float().cpu())
    return ((probability > 0.5) & (source.first_alpha > 0.5)).float()
