"""A prediction, and its files: PLY, views, before-and-after picture, motion video, ``prediction.json``."""

import json
import math
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import scipy.linalg
import torch
from jaxtyping import Bool, Float, UInt8
from PIL import Image
from torch import Tensor

from partrm import __version__
from partrm.files import staged_folder
from partrm.geometry.cameras import Cameras, canonical_orbit
from partrm.geometry.gaussians import Gaussians, save_ply
from partrm.geometry.joints import JointMotion
from partrm.imaging.drawing import DRAG_COLOR, draw_arrows, draw_mask, to_bytes
from partrm.imaging.images import FramedImage, resampled, save_image
from partrm.inference.decode import apply_joint_motion
from partrm.inference.source import DragPixels, SourceViews
from partrm.metrics.images import composite_on_white
from partrm.rendering.splats import render_splats

DEFAULT_VIEWS = 8
"""Cameras of the orbit under which the after state is rendered when none are asked for."""

VIEW_PX = 256
"""Side of those renders; their lens is the one of absent views, so that the object fills them."""

PICTURE_PX = 320
"""Side of each panel of the before-and-after picture."""

PICTURE_MARGIN = 1.5
"""How many times as wide as the network's crop the panels are."""

MOTION_FRAMES = 16
"""Frames of the motion video, from before to after."""

FRAMES_PER_SECOND = 12

TINT = 0.45
"""Share of the part's colour where the before-and-after picture shows it."""


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
    """The views that it was made from, with the maps to the user's pixels."""
    drags: DragPixels
    """The drags that it was made from."""
    model_name: str
    """Of the weights: a bundled name or a checkpoint's."""
    model_hash: str
    """First 16 hex digits of the SHA-256 over the weights' files."""
    timings_s: dict[str, float]
    """Seconds of each step."""

    def at(self, t: float) -> Gaussians:
        """The object after the fraction ``t`` of the motion (0: before, 1: after)."""
        return apply_joint_motion(self.before, self.moving, self.joint.motion(t))

    @property
    def confidence(self) -> float:
        """Share of the predicted motion's energy that the joint explains, [0, 1]."""
        return self.joint.confidence

    def render(self, cameras: Cameras | None = None, t: float = 1.0) -> Float[Tensor, "views 4 h w"]:
        """Straight-alpha RGBA images, [0, 1], of the object after the fraction ``t`` of the motion.

        Args:
            cameras: [views] in the canonical frame; by default 8 around the object, the first of them the image's own.
            t: 0 before the motion, 1 after it.
        """
        return render_rgba(self.at(t), default_cameras(self.source) if cameras is None else cameras)

    def save(self, folder: str | Path, cameras: Cameras | None = None) -> None:
        """Write what ``partrm predict`` writes into ``folder``; see :func:`save_prediction`."""
        save_prediction(self, folder, cameras)


def default_cameras(source: SourceViews) -> Cameras:
    """Eight cameras around the object, in the canonical frame; the first is the first image's own."""
    return canonical_orbit(DEFAULT_VIEWS, source.cameras.width)


def render_rgba(gaussians: Gaussians, cameras: Cameras) -> Float[Tensor, "views 4 h w"]:
    """Straight-alpha RGBA images of Gaussians [n] from cameras [views], on the Gaussians' device."""
    return render_splats(gaussians, cameras).rgba().clamp(0, 1)


def save_prediction(prediction: Prediction, out_dir: str | Path, cameras: Cameras | None = None) -> None:
    """Write a prediction into ``out_dir``: all files or none.

    ``gaussians.ply`` (after), ``gaussians_before.ply``, ``views/NNN.png`` (RGBA, after, from ``cameras`` [views] in the
    canonical frame, by default 8 around the object), ``before_after.png``, ``motion.mp4`` (from the first of the
    cameras), ``part_mask.png`` (first image's pixels) and ``prediction.json``.

    Raises:
        OutputError: the folder cannot be written.
    """
    cameras = default_cameras(prediction.source) if cameras is None else cameras
    with staged_folder(out_dir) as folder:
        started = time.perf_counter()
        save_ply(prediction.after, folder / "gaussians.ply")
        save_ply(prediction.before, folder / "gaussians_before.ply")
        (folder / "views").mkdir()
        for index, view in enumerate(render_rgba(prediction.after, cameras)):
            save_image(view, folder / "views" / f"{index:03d}.png")
        save_image(prediction.part_mask[None], folder / "part_mask.png")
        Image.fromarray(before_after(prediction)).save(folder / "before_after.png")
        save_motion(prediction, cameras[:1], folder / "motion.mp4")
        timings = prediction.timings_s | {"render_and_save": time.perf_counter() - started}
        content = json.dumps(describe(prediction, cameras) | {"timings_s": timings}, indent=1, allow_nan=False)
        (folder / "prediction.json").write_text(content + "\n", encoding="utf-8")


def describe(prediction: Prediction, cameras: Cameras) -> dict:
    """The content of ``prediction.json`` but for the timings; lengths in object diagonals, angles in radians."""
    joint = prediction.joint
    p = prediction
    return describe_given(p.source, p.drags, p.model_name, p.model_hash, cameras) | {
        "joint": {
            "type": joint.type.name.lower(),
            "axis": joint.axis.tolist(),
            "pivot": joint.pivot.tolist(),
            "amount": joint.amount,
            "unit": "rad" if joint.type.name == "REVOLUTE" else "object diagonals",
            "confidence": joint.confidence,
            "T_after_before": joint.T_after_before.tolist(),
        },
        "part_mask": "part_mask.png",
        "gaussians": {"count": len(prediction.after), "moving": int(prediction.moving.sum())},
    }


def describe_given(source: SourceViews, drags: DragPixels, model_name: str, model_hash: str, cameras: Cameras) -> dict:
    """What any prediction says of its model, its input and its views."""
    first = source.framed[0]
    return {
        "partrm_version": __version__,
        "model": {"name": model_name, "hash": model_hash},
        "frame": "canonical: x right, y up, z towards the first camera, which stands at (0, 0, 2.4)",
        "drags_px": torch.cat([drags.start, drags.end], 1).tolist(),
        "source": {
            "views": len(source.framed),
            "width": first.source_width,
            "height": first.source_height,
            "camera": describe_camera(source),
            "T_canonical_world": source.T_canonical_world.tolist(),
            "world_scale": source.world_scale,
        },
        "views": {
            "fovy_deg": math.degrees(float(cameras.fovy_rad[0])),
            "width": cameras.width,
            "height": cameras.height,
            "cameras": cameras.T_world_camera.tolist(),
        },
    }


def describe_camera(source: SourceViews) -> dict:
    """The camera of the user's first image: ``K`` in its pixels, ``T_canonical_camera`` (OpenCV, camera to canonical).

    Of an image of unknown lens it is the camera that the network was told, with its principal point where the crop's
    middle lies.
    """
    crop = source.cameras[0]
    projection = source.framed[0].H_source_framed.double() @ crop.K.double()
    K, R_user_crop = (torch.from_numpy(m) for m in scipy.linalg.rq(projection.numpy()))
    signs = torch.diag(K.diagonal().sign())
    K, R_user_crop = K @ signs, signs @ R_user_crop
    T = crop.T_world_camera.double().clone()
    T[:3, :3] = T[:3, :3] @ R_user_crop.T
    return {"K": (K / K[2, 2]).tolist(), "T_canonical_camera": T.tolist()}


def picture_view(source: SourceViews) -> tuple[FramedImage, Cameras]:
    """The first image with what is about its crop, and the camera [1] that takes it: parts move out of the crop."""
    crop, camera = source.framed[0], source.cameras[:1]
    side = crop.image.shape[-1]
    step = PICTURE_MARGIN * side / PICTURE_PX
    first = side / 2 - step * PICTURE_PX / 2
    H = crop.H_source_framed @ torch.tensor([[step, 0.0, first], [0.0, step, first], [0.0, 0.0, 1.0]])
    fovy = 2 * torch.atan(PICTURE_MARGIN * torch.tan(camera.fovy_rad / 2))
    return resampled(source.first_image, H, PICTURE_PX), Cameras(camera.T_world_camera, fovy, PICTURE_PX, PICTURE_PX)


def before_after(prediction: Prediction) -> UInt8[np.ndarray, "h w 3"]:
    """Three pictures on white, all from the first input camera: input with part and drags, before, after."""
    first, camera = picture_view(prediction.source)
    states = [composite_on_white(render_rgba(state, camera))[0] for state in (prediction.before, prediction.after)]
    panels = [to_bytes(image) for image in (composite_on_white(first.image), *states)]
    tinted = draw_mask(panels[0], _mask_in_framed_px(first, prediction.part_mask), opacity=TINT)
    return np.concatenate([with_drags(tinted, first, prediction.drags), *panels[1:]], axis=1)


def with_drags(
    picture: UInt8[np.ndarray, "h w 3"], first: FramedImage, drags: DragPixels
) -> UInt8[np.ndarray, "h w 3"]:
    """The first canonical image with the drags drawn as arrows."""
    start, end = first.to_framed_px(drags.start), first.to_framed_px(drags.end)
    return draw_arrows(picture, start, end, DRAG_COLOR, rim=False)


def _mask_in_framed_px(first: FramedImage, mask: Float[Tensor, "h w"]) -> Float[Tensor, "size size"]:
    """A mask resampled from the user's pixels to those of a picture (nearest, zero outside)."""
    size = first.image.shape[-1]
    centres = torch.arange(size) + 0.5
    grid = torch.stack(torch.meshgrid(centres, centres, indexing="xy"), -1)
    x, y = first.to_source_px(grid).floor().long().unbind(-1)
    h, w = mask.shape
    inside = (x >= 0) & (x < w) & (y >= 0) & (y < h)
    return mask[y.clamp(0, h - 1), x.clamp(0, w - 1)] * inside


def save_motion(prediction: Prediction, camera: Cameras, path: Path) -> None:
    """Write the part's motion from before to after as an H.264 video, on white, from one camera [1]."""
    import imageio_ffmpeg

    # The codec wants even sides: one row or column of white more where they are odd.
    width, height = camera.width + camera.width % 2, camera.height + camera.height % 2
    video = imageio_ffmpeg.write_frames(
        str(path), (width, height), fps=FRAMES_PER_SECOND, codec="libx264", quality=7, macro_block_size=2
    )
    video.send(None)
    try:
        for frame in range(MOTION_FRAMES):
            picture = np.full((height, width, 3), 255, dtype=np.uint8)
            state = prediction.at(frame / (MOTION_FRAMES - 1))
            picture[: camera.height, : camera.width] = to_bytes(composite_on_white(render_rgba(state, camera))[0])
            video.send(picture)
    finally:
        video.close()
