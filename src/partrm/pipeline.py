"""From images and drags to a prediction: 3D Gaussians before and after the drag, the moving part and its joint.

Data flow::

    image file or folder ─► load_source ─► SourceViews ─┐
    pixels of the user   ─► check_drags ─► DragPixels ──┴► predict ─► Prediction ─► partrm.outputs.save_prediction
"""

import math
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import torch
from einops import rearrange
from jaxtyping import Bool, Float
from torch import Tensor

from partrm.articulation.estimate import EstimatedJoint
from partrm.articulation.kinematics import JointType
from partrm.cameras import (
    ABSENT_FOVY_RAD,
    CANONICAL_FOVY_RAD,
    INPUT_FOVY_RAD,
    Cameras,
    canonical_orbit,
    canonicalise,
    filled_frame,
    load_cameras,
)
from partrm.data.samples import VIEWS, NetworkInput
from partrm.drags import MAX_DRAGS, Drags
from partrm.gaussians import Gaussians
from partrm.images import FramedImage, ImageError, crop_turned, frame_object, load_image
from partrm.model.checkpoints import LoadedModel
from partrm.model.network import NetworkOutput
from partrm.model.reference import ReferenceNetwork
from partrm.motion import MIN_OPACITY, carry, read_motion, run_network
from partrm.multiview import Draw, ViewPlan, complete_views
from partrm.segmentation import Segment, propagate
from partrm.transforms import invert_rigid

IMAGE_SUFFIXES = (".png", ".jpg", ".jpeg", ".webp", ".bmp", ".tif", ".tiff")
"""Files of a source folder that count as views, in the order of their names."""

MAX_WORK_PX = 2048
"""Larger posed views are made this small before objects are cut out of them."""

MIN_DRAG_PX = 1.0
"""A shorter drag has no direction."""


class DragError(ValueError):
    """A drag that cannot be used; the message says which and why."""


@dataclass(frozen=True)
class SourceViews:
    """The 1 to 4 input views in the canonical frame of the first, or of the whole image that it was cropped from."""

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
    lens_known: bool = False
    """Whether the cameras are the true ones; an image of unknown camera has an assumed one."""

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
    joint: EstimatedJoint
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
        return carry(self.before, self.moving, self.joint.motion(t))


@dataclass(frozen=True)
class StatePrediction:
    """What the reference network's state head says: the object after the drag, on the CPU, in the canonical frame."""

    after: Gaussians
    """[n] the object after the drag."""
    source: SourceViews
    drags: DragPixels
    fovy_rad: float
    """Field of view under which the network took the object, and under which pictures of it look right."""
    model_name: str
    model_hash: str
    timings_s: dict[str, float]
    """Seconds of each step."""


def load_source(
    path: str | Path, size_px: int, framing: Literal["auto", "canonical"] = "auto", filled: bool = True
) -> SourceViews:
    """Read an image file, or a folder of 1 to 4 posed views with ``cameras.json`` (any world frame).

    Args:
        path: image file or folder; the images of a folder go with the cameras in the order of their names.
        size_px: side of the network's images.
        framing: ``canonical`` says that a single image has the canonical camera; ``auto`` that its camera is unknown.
            Posed views keep their own cameras.
        filled: take the square that each object fills, as our network wants it; else objects have the size that the
            canonical camera gives them, as the reference network wants it.

    Raises:
        ImageError: an image that cannot be used, or images that do not fit their cameras.
        CameraFileError: a broken ``cameras.json``.
    """
    path = Path(path)
    if not path.is_dir():
        return single_view(load_image(path), size_px, framing, filled)
    if not filled:
        return _load_posed_views(path, size_px)
    return filled_views(_load_posed_views(path, None), size_px)


def single_view(
    rgba: Float[Tensor, "4 h w"], size_px: int, framing: Literal["auto", "canonical"] = "auto", filled: bool = True
) -> SourceViews:
    """A single image in memory; see :func:`load_source`.

    Raises:
        ImageError: no object in it, or not square with ``canonical``.
    """
    if framing == "canonical":
        side_px = max(size_px, min(rgba.shape[-1], MAX_WORK_PX)) if filled else size_px
        framed = frame_object(rgba, side_px, framing)
        whole = SourceViews((framed,), canonical_orbit(1, side_px), torch.eye(4), 1.0, rgba[3], lens_known=True)
        return filled_views(whole, size_px) if filled else whole
    framed = frame_object(rgba, size_px, "filled" if filled else "auto")
    fovy = INPUT_FOVY_RAD if filled else CANONICAL_FOVY_RAD
    return SourceViews((framed,), canonical_orbit(1, size_px, fovy_rad=fovy), torch.eye(4), 1.0, rgba[3])


def filled_views(source: SourceViews, size_px: int) -> SourceViews:
    """The squares of ``size_px`` that objects fill, of views of known cameras; see :func:`partrm.images.crop_turned`.

    Raises:
        ImageError: a view that shows no object.
    """
    cropped = [crop_turned(framed.image, source.cameras[view], size_px) for view, framed in enumerate(source.framed)]
    framed = tuple(
        replace(
            inner,
            scale=inner.scale * outer.scale,
            corner_px=tuple(outer.to_source_px(torch.tensor(inner.corner_px)).tolist()),
            source_width=outer.source_width,
            source_height=outer.source_height,
            H_source_canonical=outer.homography() @ inner.homography(),
        )
        for outer, (inner, _) in zip(source.framed, cropped, strict=True)
    )
    T = torch.stack([camera.T_world_camera for _, camera in cropped])
    fovy = torch.stack([camera.fovy_rad for _, camera in cropped])
    return replace(source, framed=framed, cameras=Cameras(T, fovy, size_px, size_px), lens_known=True)


def _load_posed_views(folder: Path, size_px: int | None) -> SourceViews:
    """Whole posed views at a size, by default their own (at most :data:`MAX_WORK_PX`)."""
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
    size_px = min(cameras.width, MAX_WORK_PX) if size_px is None else size_px
    framed = tuple(frame_object(image, size_px, "canonical") for image in images)
    return SourceViews(
        framed, canonical.resized(size_px), T_canonical_world, float(scale), images[0][3], lens_known=True
    )


def with_drawn_views(
    source: SourceViews, condition: SourceViews, draw: Draw, plan: ViewPlan, elevation_deg: float, background: float
) -> SourceViews:
    """A single image completed to four views by a diffusion model; see :func:`partrm.multiview.complete_views`.

    Args:
        source: the image at the network's size.
        condition: the same at the size that the diffusion model sees.

    Raises:
        ImageError: posed views instead of one image, or a drawn view that cannot be used.
    """
    if len(source.framed) != 1:
        raise ImageError(f"a diffusion model completes one image, but {len(source.framed)} posed views are given")
    size_px = source.cameras.width
    framed, cameras = complete_views(condition.framed[0].image, draw, plan, size_px, elevation_deg, background)
    return replace(source, framed=source.framed + framed, cameras=cameras)


def propagated_drags(drags: DragPixels, condition: SourceViews, segment: Segment, seed: int = 0) -> DragPixels:
    """The user's drags and others on the same parts, ten in all at most; see :func:`partrm.segmentation.propagate`.

    Args:
        drags: in pixels of the user's first image; so is the answer.
        condition: the views at the size that SAM sees.
        seed: of the points drawn.
    """
    first = condition.framed[0]
    starts, ends = (first.to_canonical_px(points) for points in (drags.start, drags.end))
    side = first.image.shape[-1]
    starts = starts.clamp(0, side - 1e-3)
    generator = torch.Generator().manual_seed(seed)
    starts, ends = propagate(first.image, starts, ends, segment, MAX_DRAGS, generator)
    own, more = len(drags.start), slice(len(drags.start), None)
    assert len(starts) >= own
    return DragPixels(
        torch.cat([drags.start, first.to_source_px(starts[more])]),
        torch.cat([drags.end, first.to_source_px(ends[more])]),
    )


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


def network_input(
    source: SourceViews, drags: DragPixels, device: torch.device | str = "cpu", absent_fovy_rad: float = ABSENT_FOVY_RAD
) -> NetworkInput:
    """One sample [b = 1] for a network, in the frame of the source's cameras.

    Absent views are zero images under the cameras of the canonical orbit, with this field of view.
    """
    present, size_px = len(source.framed), source.cameras.width
    images = torch.zeros(VIEWS, 4, size_px, size_px)
    images[:present] = torch.stack([framed.image for framed in source.framed])
    absent = canonical_orbit(VIEWS, size_px, fovy_rad=absent_fovy_rad)
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
    valid = torch.arange(VIEWS) < present
    return NetworkInput(
        images=images[None].to(device),
        cameras=cameras[None].to(device),
        view_valid=valid[None].to(device),
        drags=canonical[None].to(device),
        lens_known=(valid & source.lens_known)[None].to(device),
    )


def predict(source: SourceViews, drags: DragPixels, model: LoadedModel) -> Prediction:
    """Run the network once on the device of its weights and read the part and its joint off the answer.

    Raises:
        CheckpointError: a network that does not tell parts and joints.
    """
    started = time.perf_counter()
    network = model.articulated
    device = next(network.parameters()).device
    cameras, T_frame_canonical, scale = filled_frame(source.cameras)
    inputs = network_input(replace(source, cameras=cameras), drags, device)
    output = run_network(network, inputs)
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    networked = time.perf_counter()
    gaussians, part, joint = read_motion(output, inputs)
    T, larger = invert_rigid(T_frame_canonical), 1 / float(scale)
    gaussians = gaussians.transformed(T).scaled(larger)
    joint = moved_joint(joint, T, larger)
    return Prediction(
        before=gaussians,
        after=carry(gaussians, part, joint.T_after_before),
        moving=part,
        joint=joint,
        part_mask=_part_mask(output, source),
        source=source,
        drags=drags,
        model_name=model.name,
        model_hash=model.hash,
        timings_s={"network": networked - started, "joint": time.perf_counter() - networked},
    )


def predict_state(source: SourceViews, drags: DragPixels, model: LoadedModel) -> StatePrediction:
    """Run a reference network once on the device of its weights.

    Raises:
        ImageError: fewer views than it needs.
    """
    network = model.network
    assert isinstance(network, ReferenceNetwork)
    if len(source.framed) != VIEWS:
        raise ImageError(
            f"model {model.name!r} needs {VIEWS} views of the object, not {len(source.framed)}: give a folder of posed "
            "views, or let --multiview zero123 draw them"
        )
    started = time.perf_counter()
    device = next(network.parameters()).device
    inputs = network_input(source, drags, device, CANONICAL_FOVY_RAD)
    with torch.inference_mode():
        gaussians = network(inputs)[0].to("cpu")
    networked = time.perf_counter()
    return StatePrediction(
        after=gaussians[gaussians.opacities >= MIN_OPACITY],
        source=source,
        drags=drags,
        fovy_rad=math.radians(network.config.ray_fovy_deg),
        model_name=model.name,
        model_hash=model.hash,
        timings_s={"network": networked - started},
    )


def moved_joint(joint: EstimatedJoint, T: Float[Tensor, "4 4"], larger: float) -> EstimatedJoint:
    """The joint in another frame: points go by the rigid ``T``, then by a scaling about the origin."""
    slides = joint.type == JointType.PRISMATIC
    return replace(
        joint,
        axis=T[:3, :3] @ joint.axis,
        pivot=larger * (T[:3, :3] @ joint.pivot + T[:3, 3]),
        amount=joint.amount * (larger if slides else 1.0),
    )


def _part_mask(output: NetworkOutput, source: SourceViews) -> Float[Tensor, "h w"]:
    """The moving pixels of the first view, carried to the user's pixels and cut by the object's mask there."""
    side = math.isqrt(output.moving.shape[1] // VIEWS)
    first = rearrange(output.moving[0], "(v h w) -> v h w", v=VIEWS, h=side, w=side)[0]
    probability = source.framed[0].map_to_source(first.float().cpu())
    return ((probability > 0.5) & (source.first_alpha > 0.5)).float()
