"""A prediction on disk: PLY files, views, before-and-after picture, motion video, ``prediction.json``."""

import json
import math
import shutil
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import torch
from einops import rearrange
from jaxtyping import Float, UInt8
from PIL import Image, ImageDraw
from torch import Tensor

from partrm import __version__
from partrm.cameras import Cameras, canonical_orbit
from partrm.gaussians import Gaussians, save_ply
from partrm.images import FramedImage, pixel_centres, save_image
from partrm.pipeline import DragPixels, Prediction, SourceViews, StatePrediction
from partrm.rendering.splats import render_splats

DEFAULT_VIEWS = 8
"""Cameras of the orbit under which the after state is rendered when none are asked for."""

PICTURE_PX = 256
"""Least side of pictures whose size nobody asks for: the network's own images may be smaller."""

MOTION_FRAMES = 16
"""Frames of the motion video, from before to after."""

FRAMES_PER_SECOND = 12

PART_COLOR = (230, 60, 40)
"""Tint of the moving part in the before-and-after picture, RGB 0..255."""

DRAG_COLOR = (20, 90, 230)
"""The drags in that picture."""


STAGING = ".partrm."
"""What names of temporary folders begin with."""

OF_THE_PART = ("gaussians_before.ply", "motion.mp4", "part_mask.png")
"""Files of a prediction that a state head has not."""


class OutputError(ValueError):
    """Results that cannot be written; the message says where and why."""


def check_writable(folder: str | Path) -> None:
    """Find out before the work that :func:`staged_folder` can write there; leaves nothing behind.

    Raises:
        OutputError: it cannot.
    """
    folder = Path(folder)
    nearest = next(path for path in (folder, *folder.absolute().parents) if path.exists())
    try:
        if not nearest.is_dir():
            raise OutputError(f"{folder}: cannot write there, {'it' if nearest == folder else nearest} is not a folder")
        with tempfile.TemporaryDirectory(dir=nearest, prefix=STAGING):
            pass
    except OSError as error:
        raise OutputError(f"{folder}: cannot write there ({error.strerror})") from error


@contextmanager
def staged_folder(folder: str | Path, without: Sequence[str] = ()) -> Iterator[Path]:
    """A temporary folder, whose entries take their place in ``folder`` only if the block succeeds.

    Entries of the same name are replaced, those named in ``without`` removed, others in ``folder`` stay. The temporary
    folder lies inside ``folder`` where that is there already, for a folder may be a disk of its own; else beside it.

    Raises:
        OutputError: the folder cannot be made or written.
    """
    folder = Path(folder)
    check_writable(folder)
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        place, prefix = (folder, STAGING) if folder.exists() else (folder.parent, f".{folder.name}.")
        staging = Path(tempfile.mkdtemp(dir=place, prefix=prefix))
    except OSError as error:
        raise OutputError(f"{folder}: cannot write there ({error.strerror})") from error
    try:
        yield staging
        try:
            folder.mkdir(exist_ok=True)
            for entry in sorted(staging.iterdir()):
                _replace(entry, folder / entry.name)
            for name in without:
                (folder / name).unlink(missing_ok=True)
        except OSError as error:
            raise OutputError(f"{folder}: cannot write there ({error.strerror})") from error
    finally:
        shutil.rmtree(staging, ignore_errors=True)


def _replace(entry: Path, target: Path) -> None:
    """Move a file or a folder to where another of either kind may stand."""
    if target.is_dir() and not target.is_symlink():
        shutil.rmtree(target)
    elif entry.is_dir():
        target.unlink(missing_ok=True)
    entry.replace(target)


def render_rgba(gaussians: Gaussians, cameras: Cameras) -> Float[Tensor, "views 4 h w"]:
    """Straight-alpha RGBA images of Gaussians [n] from cameras [views], on the Gaussians' device."""
    return render_splats(gaussians, cameras).rgba().clamp(0, 1)


def on_white(rgba: Float[Tensor, "*batch 4 h w"]) -> Float[Tensor, "*batch 3 h w"]:
    """Composite straight-alpha images on white."""
    rgb, alpha = rgba[..., :3, :, :], rgba[..., 3:, :, :]
    return rgb * alpha + 1 - alpha


def save_prediction(prediction: Prediction, out_dir: str | Path, cameras: Cameras | None = None) -> None:
    """Write a prediction into ``out_dir``: all files or none.

    ``gaussians.ply`` (after), ``gaussians_before.ply``, ``views/NNN.png`` (RGBA, after, from ``cameras`` [views] in the
    canonical frame, by default 8 around the object), ``before_after.png``, ``motion.mp4`` (from the first of the
    cameras), ``part_mask.png`` (first image's pixels) and ``prediction.json``.

    Raises:
        OutputError: the folder cannot be written.
    """
    cameras = canonical_orbit(DEFAULT_VIEWS, picture_px(prediction.source)) if cameras is None else cameras
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


def save_state_prediction(prediction: StatePrediction, out_dir: str | Path, cameras: Cameras | None = None) -> None:
    """Write what a state head predicts into ``out_dir``: all files or none.

    As :func:`save_prediction`, without what needs the state before or the joint: ``gaussians.ply``, ``views/NNN.png``,
    ``before_after.png`` (input and after) and ``prediction.json``, where ``joint`` and ``part_mask`` are null. What an
    earlier prediction left of the others is removed. Pictures have the field of view that the network assumes.

    Raises:
        OutputError: the folder cannot be written.
    """
    size = prediction.source.cameras.width
    cameras = canonical_orbit(DEFAULT_VIEWS, size, fovy_rad=prediction.fovy_rad) if cameras is None else cameras
    with staged_folder(out_dir, without=OF_THE_PART) as folder:
        started = time.perf_counter()
        save_ply(prediction.after, folder / "gaussians.ply")
        (folder / "views").mkdir()
        for index, view in enumerate(render_rgba(prediction.after, cameras)):
            save_image(view, folder / "views" / f"{index:03d}.png")
        first = prediction.source.framed[0]
        own = canonical_orbit(1, size, fovy_rad=prediction.fovy_rad)
        panels = [_to_bytes(on_white(image)) for image in (first.image, render_rgba(prediction.after, own)[0])]
        picture = np.concatenate([_with_drags(panels[0], first, prediction.drags), panels[1]], axis=1)
        Image.fromarray(picture).save(folder / "before_after.png")
        timings = prediction.timings_s | {"render_and_save": time.perf_counter() - started}
        counted = {"count": len(prediction.after), "moving": None}
        content = {"joint": None, "part_mask": None, "gaussians": counted} | _describe_given(prediction, cameras)
        text = json.dumps(content | {"timings_s": timings}, indent=1, allow_nan=False)
        (folder / "prediction.json").write_text(text + "\n", encoding="utf-8")


def describe(prediction: Prediction, cameras: Cameras) -> dict:
    """The content of ``prediction.json`` but for the timings; lengths in object diagonals, angles in radians."""
    joint = prediction.joint
    return _describe_given(prediction, cameras) | {
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


def _describe_given(prediction: Prediction | StatePrediction, cameras: Cameras) -> dict:
    """What any prediction says of its model, its input and its views."""
    source: SourceViews = prediction.source
    first = source.framed[0]
    return {
        "partrm_version": __version__,
        "model": {"name": prediction.model_name, "hash": prediction.model_hash},
        "frame": "canonical: x right, y up, z towards the first camera, which stands at (0, 0, 2.4)",
        "drags_px": torch.cat([prediction.drags.start, prediction.drags.end], 1).tolist(),
        "source": {
            "views": len(source.framed),
            "width": first.source_width,
            "height": first.source_height,
            "canonical_px_per_source_px": first.scale,
            "canonical_corner_in_source_px": list(first.corner_px),
            "T_canonical_world": source.T_canonical_world.tolist(),
            "world_scale": source.world_scale,
            "lens_known": source.lens_known,
            "camera": _source_camera(source),
        },
        "views": {
            "fovy_deg": math.degrees(float(cameras.fovy_rad[0])),
            "width": cameras.width,
            "height": cameras.height,
            "cameras": cameras.T_world_camera.tolist(),
        },
    }


def _source_camera(source: SourceViews) -> dict:
    """The pinhole camera of the first image in the user's pixels, assumed or known: ``K`` and its canonical pose."""
    first, camera = source.framed[0], source.cameras[0]
    K, T = camera.K.double(), camera.T_world_camera.double()
    H = first.homography().double()
    if first.H_source_canonical is None:
        return {"K": (H @ K).tolist(), "T_canonical_camera": T.tolist()}
    # A turned square: the image plane is the user's, so K is upper triangular only after the turn is undone.
    K_user, R = upper_triangular(H @ K)
    T = T.clone()
    T[:3, :3] = T[:3, :3] @ R.mT
    return {"K": K_user.tolist(), "T_canonical_camera": T.tolist()}


def upper_triangular(M: Float[Tensor, "3 3"]) -> tuple[Float[Tensor, "3 3"], Float[Tensor, "3 3"]]:
    """Intrinsics ``K`` (K[2, 2] = 1, positive focal lengths) and rotation R of ``M ~ K R`` (RQ decomposition)."""
    flip = torch.eye(3, dtype=M.dtype).flip(0)
    M = M * torch.linalg.det(M).sign()
    Q, U = torch.linalg.qr((flip @ M).mT)
    K, R = flip @ U.mT @ flip, flip @ Q.mT
    signs = torch.diag(K.diagonal().sign())
    K, R = K @ signs, signs @ R
    return K / K[2, 2], R


def picture_px(source: SourceViews) -> int:
    """Side of pictures whose size nobody asks for."""
    return max(source.cameras.width, PICTURE_PX)


def before_after(prediction: Prediction) -> UInt8[np.ndarray, "h w 3"]:
    """Three pictures on white, all from the first input camera: input with part and drags, before, after."""
    source = prediction.source
    side = picture_px(source)
    first, camera = source.framed[0], source.cameras[:1].resized(side)
    states = [on_white(render_rgba(state, camera))[0] for state in (prediction.before, prediction.after)]
    given = torch.nn.functional.interpolate(on_white(first.image)[None], (side, side), mode="bilinear")[0]
    panels = [_to_bytes(image) for image in (given, *states)]
    tinted = _tint(panels[0], _mask_in_canonical_px(prediction, side))
    return np.concatenate([_with_drags(tinted, first, prediction.drags), *panels[1:]], axis=1)


def _with_drags(
    picture: UInt8[np.ndarray, "h w 3"], first: FramedImage, drags: DragPixels
) -> UInt8[np.ndarray, "h w 3"]:
    """The first canonical image, at any size, with the drags drawn as arrows."""
    drawn = Image.fromarray(picture)
    draw = ImageDraw.Draw(drawn)
    larger = len(picture) / first.image.shape[-1]
    starts, ends = ((larger * first.to_canonical_px(p)).tolist() for p in (drags.start, drags.end))
    for (x0, y0), (x1, y1) in zip(starts, ends, strict=True):
        draw.line([x0, y0, x1, y1], fill=DRAG_COLOR, width=2)
        angle = math.atan2(y1 - y0, x1 - x0)
        head = [(x1 - 8 * math.cos(angle + turn), y1 - 8 * math.sin(angle + turn)) for turn in (-0.45, 0.45)]
        draw.polygon([(x1, y1), *head], fill=DRAG_COLOR)
        draw.ellipse([x0 - 3, y0 - 3, x0 + 3, y0 + 3], fill=DRAG_COLOR)
    return np.asarray(drawn)


def _mask_in_canonical_px(prediction: Prediction, size: int) -> Float[Tensor, "size size"]:
    """The part mask resampled from the user's pixels to the first canonical image of a size (nearest, zero outside)."""
    first, mask = prediction.source.framed[0], prediction.part_mask
    grid = pixel_centres(size, size) * (first.image.shape[-1] / size)
    x, y = first.to_source_px(grid).floor().long().unbind(-1)
    h, w = mask.shape
    inside = (x >= 0) & (x < w) & (y >= 0) & (y < h)
    return mask[y.clamp(0, h - 1), x.clamp(0, w - 1)] * inside


def _tint(picture: UInt8[np.ndarray, "h w 3"], mask: Float[Tensor, "h w"]) -> UInt8[np.ndarray, "h w 3"]:
    share = 0.45 * mask.numpy()[..., None]
    return (picture * (1 - share) + np.array(PART_COLOR) * share).round().astype(np.uint8)


def _to_bytes(image: Float[Tensor, "3 h w"]) -> UInt8[np.ndarray, "h w 3"]:
    return rearrange((image.clamp(0, 1) * 255).round().to(torch.uint8), "c h w -> h w c").numpy()


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
            picture[: camera.height, : camera.width] = _to_bytes(on_white(render_rgba(state, camera))[0])
            video.send(picture)
    finally:
        video.close()
