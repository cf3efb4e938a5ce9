"""A prediction, and its files: PLY, views, before-and-after picture, motion video, ``prediction.json``."""

import json
import math
import time
from collections.abc import Collection, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Literal, get_args

import numpy as np
import scipy.linalg
import torch
from jaxtyping import Bool, Float, UInt8
from torch import Tensor

from partrm import __version__
from partrm.files import staged_folder
from partrm.geometry.cameras import CANONICAL_DISTANCE, CANONICAL_FOVY_RAD, INPUT_HALF_WIDTH, Cameras, canonical_orbit
from partrm.geometry.gaussians import Gaussians, save_moved_plys
from partrm.geometry.joints import MIN_CONFIDENCE, JointMotion, JointType
from partrm.geometry.transforms import invert_rigid, transform_points
from partrm.imaging.drawing import DRAG_COLOR, draw_arrows, draw_mask, draw_polyline, to_bytes
from partrm.imaging.images import FramedImage, save_image, save_png
from partrm.imaging.video import save_video
from partrm.inference.decode import apply_joint_motion
from partrm.inference.source import DragPixels, SourceViews
from partrm.inference.trajectory import (
    Trajectory,
    TrajectoryFrame,
    box_diagonal,
    depth_in,
    gripper_at,
    gripper_trajectory,
    metres_per_unit,
)
from partrm.metrics.images import composite_on_white
from partrm.rendering.splats import SplatImages, render_splats, render_states

if TYPE_CHECKING:
    from partrm.assets.asset import AssetSettings
    from partrm.assets.export import Format
    from partrm.assets.predicted import PredictedObject

ADVICE = "uncertain: pull further along the motion, or drag the part in two or three places"
"""What is said of an answer below it."""

DEFAULT_VIEWS = 8
"""Cameras of the orbit under which the after state is rendered when none are asked for."""

VIEW_PX = 768
"""Side of those renders and of the video."""

VIEW_MARGIN = 1.4
"""How many times as wide as the network's crop they are: from other sides objects are longer, and parts stand out."""

SHOWN, SHOWN_SHARE = 0.5, 0.998
"""Opacity from which splats of the part are to be in the views, and how many of them in all."""

PART_MARGIN, MAX_VIEW_FOVY_RAD = 1.05, math.radians(80)
"""How much wider than the part's way the views are, and how wide at most."""

PICTURE_PX = 768
"""Side of each panel of the before-and-after picture."""

PICTURE_MARGIN = 1.5
"""How many times as wide as the network's crop the panels are."""

MOTION_FRAMES, FRAMES_PER_SECOND = 16, 12
"""Of the motion video, from before to after."""

INPUT = "input.png"
"""The object cut out of the first image, beside a prediction."""

PIXELS_AT_ONCE = 2**21
"""Of the views that are rendered together; more cameras take longer, not more memory."""

MAX_PHOTO_PX = 1024
"""Side of the photo that is kept with a prediction."""

TINT = 0.45
"""Share of the part's colour where the before-and-after picture shows it."""

AXIS_COLOR, PATH_COLOR = (20, 160, 60), (240, 170, 20)
"""A hinge's axis in it, and where the part's middle goes."""

PATH_STEPS = 24
"""Pieces of that path."""

AXIS_LENGTH, MIN_AXIS = 0.78, 0.065
"""Half the length of the axis drawn, as a share of the part's reach about its middle; canonical units at least."""


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
    part: Float[Tensor, "size size"]
    """Probability that what the network's picture of the first image shows belongs to the dragged part."""
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
    alternatives: tuple[JointMotion, ...] = ()
    """Other joints that the network thinks of, the likeliest first, at most two."""
    chance_right: float | None = None
    """:func:`partrm.inference.ensemble.chance_right`; None where another joint was chosen, or one question asked."""
    precision: str = "float32"
    """Of the network's numbers."""

    @cached_property
    def part_mask(self) -> Float[Tensor, "h w"]:
        """Moving part in the first image, user pixels: 1 on the part, else 0."""
        source = self.source
        found = ((source.first_framed.map_to_source(self.part) > 0.5) & (source.first_alpha > 0.5)).float()
        return (source.mask_in_user_px(found) > 0.5).float()

    def on_cpu(self) -> "Prediction":
        """The same with all tensors on the CPU."""
        if self.before.means.device.type == "cpu":
            return self
        before = self.before.to("cpu")
        after = replace(before, means=self.after.means.cpu(), quats=self.after.quats.cpu())
        return replace(self, before=before, after=after, moving=self.moving.cpu(), part=self.part.cpu())

    def at(self, t: float) -> Gaussians:
        """The object after the fraction ``t`` of the motion (0: before, 1: after)."""
        return apply_joint_motion(self.before, self.moving, self.joint.motion(t))

    @property
    def confidence(self) -> float:
        """Share of the predicted motion's energy that the joint explains, [0, 1]."""
        return self.joint.confidence

    @property
    def uncertain(self) -> bool:
        """Whether fewer than half of such answers are right."""
        unlikely = self.chance_right is not None and self.chance_right < 0.5
        return self.joint.confidence < MIN_CONFIDENCE or unlikely

    def with_alternative(self, number: int) -> "Prediction":
        """The prediction with one of :attr:`alternatives` as its joint, which takes the place of the joint there.

        Raises:
            IndexError: there is no such alternative.
        """
        joint = self.alternatives[number]
        others = (self.joint, *(other for other in self.alternatives if other is not joint))
        after = apply_joint_motion(self.before, self.moving, joint.T_after_before)
        return replace(self, joint=joint, after=after, alternatives=others, chance_right=None)

    def render(self, cameras: Cameras | None = None, t: float = 1.0) -> Float[Tensor, "views 4 h w"]:
        """Straight-alpha RGBA images, [0, 1], of the object after the fraction ``t`` of the motion.

        Args:
            cameras: [views] in the canonical frame; by default 8 around the object, the first of them the image's own.
            t: 0 before the motion, 1 after it.
        """
        return render_rgba(self.at(t), default_cameras(self) if cameras is None else cameras)

    def trajectory(
        self,
        n: int = 16,
        frame: TrajectoryFrame = "canonical",
        size_m: float | None = None,
        reach: float = 1.0,
        *,
        depth_m: float | None = None,
    ) -> Trajectory:
        """Poses of a gripper that holds the part where the first drag starts, from before the motion to after it.

        Its z goes into the surface, its y is the way its fingers close; the joint carries it as it carries the part.

        Args:
            n: poses, at equal steps of the motion; at least 2.
            frame: ``canonical`` (x right, y up, z towards the first camera), or ``camera``, the OpenCV camera of the
                user's first image: with that camera's pose on the robot, the poses are the robot's.
            size_m: metres of the diagonal of the box about the object as it is in the picture; lengths are then metres,
                else canonical units (about the object's diagonal). Where posed views were given in metres, a canonical
                unit is ``1 / source.world_scale`` metres.
            reach: the last pose's share of the predicted motion; beyond 1 the motion goes on.
            depth_m: in place of ``size_m``, what a depth camera that took the first image measures at the pixel where
                the first drag starts: metres along its optical axis. With ``frame="camera"`` the first pose lies there.

        Raises:
            TrajectoryError: fewer than 2 poses; a reach, size or depth that is not positive; both of the latter; or
                nothing opaque moves.
        """
        source = self.source
        pixel = source.framed[0].to_framed_px(self.drags.start[0])
        held = gripper_at(self.before, self.moving, self.joint, source.cameras[0], pixel)
        T_camera = torch.tensor(describe_camera(source)["T_canonical_camera"])
        unit_m = metres_per_unit(size_m, depth_m, box_diagonal(self.before), depth_in(T_camera, held))
        return gripper_trajectory(held, self.joint, n, reach, T_camera if frame == "camera" else None, unit_m)

    def save(self, folder: str | Path, cameras: Cameras | None = None) -> None:
        """Write what ``partrm predict`` writes into ``folder``; see :func:`save_prediction`."""
        save_prediction(self, folder, cameras)

    def export(
        self,
        folder: str | Path,
        settings: "AssetSettings | None" = None,
        formats: "Sequence[Format] | None" = None,
    ) -> None:
        """Write the prediction as an articulated asset; see :func:`partrm.assets.export.export_prediction`."""
        from partrm.assets.export import DEFAULT_FORMATS, export_prediction

        export_prediction(self.to_predicted(), folder, settings, DEFAULT_FORMATS if formats is None else formats)

    def to_predicted(self) -> "PredictedObject":
        """What an asset is made from.

        Raises:
            AssetError: nothing moves, or everything does.
        """
        from partrm.assets.predicted import PosedImage, PredictedObject

        picture, camera = input_photo(self.source)
        photo = PosedImage(picture, camera)
        return PredictedObject(self.before, self.moving, self.joint, photo, self.model_name, self.model_hash)


def input_photo(source: SourceViews) -> tuple[Float[Tensor, "4 size size"], Cameras]:
    """The first image around its object, in as many pixels as it has (at most :data:`MAX_PHOTO_PX`), and its camera."""
    first = source.framed[0].image.shape[-1]
    size = min(MAX_PHOTO_PX, max(first, round(first / source.first_framed.scale)))
    picture, camera = source.first_picture(size)
    return picture.image, camera


def default_cameras(prediction: Prediction) -> Cameras:
    """Eight cameras around the object, in the canonical frame, that show the part on its whole way.

    The first is where the first image's own is. They see as much as the image shows, more where the part stands out.
    """
    frame = prediction.source.network_frame
    half = INPUT_HALF_WIDTH if frame is None else INPUT_HALF_WIDTH / float(frame.scale) + float(frame.target.norm())
    fovy = min(2 * math.atan(VIEW_MARGIN * half / CANONICAL_DISTANCE), CANONICAL_FOVY_RAD)
    cameras = canonical_orbit(DEFAULT_VIEWS, VIEW_PX, fovy_rad=fovy)
    part = prediction.moving & (prediction.before.opacities > SHOWN)
    if not bool(part.any()):
        return cameras
    means = prediction.before.means[part].cpu()
    way = torch.cat([transform_points(prediction.joint.motion(t), means) for t in (0.0, 0.5, 1.0)])
    seen = transform_points(invert_rigid(cameras.T_world_camera), way.expand(len(cameras.T_world_camera), -1, -1))
    aside = (seen[..., :2].abs().amax(-1) / seen[..., 2].clamp(min=0.1)).flatten()
    reach = PART_MARGIN * float(aside.kthvalue(1 + int(SHOWN_SHARE * (len(aside) - 1))).values)
    fovy = max(fovy, min(2 * math.atan(reach), MAX_VIEW_FOVY_RAD))
    return replace(cameras, fovy_rad=torch.full_like(cameras.fovy_rad, fovy))


def render_rgba(gaussians: Gaussians, cameras: Cameras) -> Float[Tensor, "views 4 h w"]:
    """Straight-alpha RGBA images of Gaussians [n] from cameras [views], on the Gaussians' device."""
    return torch.cat([shown.rgba().clamp(0, 1) for shown in _rendered_by_parts(gaussians, cameras)])


def pictured(gaussians: Gaussians, cameras: Cameras) -> Iterator[UInt8[np.ndarray, "h w 4"]]:
    """The images of :func:`render_rgba` with 8 bits a channel, one after another."""
    for shown in _rendered_by_parts(gaussians, cameras):
        yield from shown.rgba_bytes()


def _rendered_by_parts(gaussians: Gaussians, cameras: Cameras) -> Iterator[SplatImages]:
    """Images from so many cameras at a time as have :data:`PIXELS_AT_ONCE` pixels."""
    count = max(1, PIXELS_AT_ONCE // (cameras.width * cameras.height))
    for first in range(0, len(cameras.fovy_rad), count):
        yield render_splats(gaussians, cameras[first : first + count])


Output = Literal["json", "ply", "views", "masks", "input", "before_after", "motion"]
"""What can be written of a prediction; see :func:`save_prediction`."""

OUTPUTS: tuple[Output, ...] = get_args(Output)


def save_prediction(
    prediction: Prediction,
    out_dir: str | Path,
    cameras: Cameras | None = None,
    outputs: Collection[Output] = OUTPUTS,
    timings: bool = True,
) -> None:
    """Write a prediction into ``out_dir``: all files asked for or none.

    ``gaussians.ply`` (after), ``gaussians_before.ply``, ``views/NNN.png`` (RGBA, after, from ``cameras`` [views] in the
    canonical frame, by default 8 around the object), ``before_after.png``, ``motion.mp4`` (from the first of the
    cameras), ``part_mask.png`` and ``mask.png`` (part and object, first image's pixels), ``input.png`` (the object cut
    out of the first image) and ``prediction.json``, which is always written.

    Args:
        prediction: what is written.
        out_dir: made if missing.
        cameras: of views and motion.
        outputs: the files.
        timings: whether ``prediction.json`` says how long it took: without, the same prediction is the same bytes.

    Raises:
        OutputError: the folder cannot be written.
    """
    cameras = default_cameras(prediction) if cameras is None else cameras
    with staged_folder(out_dir, record="prediction.json") as folder, ThreadPoolExecutor(1) as pool:
        started = time.perf_counter()
        beside = "motion" in outputs
        video = pool.submit(save_motion, prediction, cameras[:1], folder / "motion.mp4") if beside else None
        described = describe(prediction, cameras)
        if "ply" in outputs:
            before, after = folder / "gaussians_before.ply", folder / "gaussians.ply"
            save_moved_plys(prediction.before, before, prediction.after, after)
        if "views" in outputs:
            (folder / "views").mkdir()
            for index, view in enumerate(pictured(prediction.after, cameras)):
                save_png(view, folder / "views" / f"{index:03d}.png")
        else:
            del described["views"]
        if "masks" in outputs:
            save_image(prediction.part_mask[None], folder / "part_mask.png")
            save_image(prediction.source.mask_in_user_px(prediction.source.first_alpha)[None], folder / "mask.png")
        else:
            del described["part_mask"], described["mask"]
        if "input" in outputs:
            described["source"]["input"] = _save_input(prediction, folder)
        if "before_after" in outputs:
            save_png(before_after(prediction), folder / "before_after.png")
        if video is not None:
            video.result()
        if timings:
            described["timings_s"] = prediction.timings_s | {"render_and_save": time.perf_counter() - started}
        content = json.dumps(described, indent=1, allow_nan=False)
        (folder / "prediction.json").write_text(content + "\n", encoding="utf-8")


def _save_input(prediction: Prediction, folder: Path) -> dict:
    """Write the object cut out of the first image; its file and camera."""
    photo, camera = input_photo(prediction.source)
    save_image(photo, folder / INPUT)
    return {
        "file": INPUT,
        "fovy_deg": math.degrees(float(camera.fovy_rad[0])),
        "T_canonical_camera": camera.T_world_camera[0].tolist(),
    }


def describe(prediction: Prediction, cameras: Cameras) -> dict:
    """The content of ``prediction.json`` but for the timings; lengths in object diagonals, angles in radians."""
    p = prediction
    return describe_given(p.source, p.drags, p.model_name, p.model_hash, cameras) | {
        "joint": describe_joint(p.joint),
        "chance_right": p.chance_right,
        "uncertain": p.uncertain,
        "alternatives": [describe_joint(joint) for joint in p.alternatives],
        "part_mask": "part_mask.png",
        "mask": "mask.png",
        "gaussians": {"count": len(p.after), "moving": int(p.moving.sum())},
        "precision": p.precision,
    }


def describe_joint(joint: JointMotion) -> dict:
    """A joint, canonical frame; radians or object diagonals."""
    return {
        "type": joint.type.name.lower(),
        "axis": joint.axis.tolist(),
        "pivot": joint.pivot.tolist(),
        "amount": joint.amount,
        "unit": "rad" if joint.type.name == "REVOLUTE" else "object diagonals",
        "confidence": joint.confidence,
        "T_after_before": joint.T_after_before.tolist(),
    }


def describe_given(source: SourceViews, drags: DragPixels, model_name: str, model_hash: str, cameras: Cameras) -> dict:
    """What any prediction says of its model, its input and its views."""
    first = source.framed[0]
    return {
        "partrm_version": __version__,
        "model": {"name": model_name, "hash": model_hash},
        "frame": "canonical: x right, y up, z towards the first camera, which stands at (0, 0, 2.4)",
        "drags_px": torch.cat([drags.start, drags.end], 1).tolist(),
        "drags_snapped": drags.snapped.tolist(),
        "drags_end_outside": drags_end_outside(source, drags),
        "source": {
            "views": len(source.framed),
            "width": first.source_width,
            "height": first.source_height,
            "cut_by": source.cut_by,
            "lens": source.lens,
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


def drags_end_outside(source: SourceViews, drags: DragPixels) -> list[bool]:
    """Which drags end outside of the user's image."""
    size = torch.tensor([source.framed[0].source_width, source.framed[0].source_height])
    return ((drags.end < 0) | (drags.end > size)).any(1).tolist()


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
    return source.first_picture(PICTURE_PX, PICTURE_MARGIN)


def before_after(prediction: Prediction) -> UInt8[np.ndarray, "h w 3"]:
    """Three pictures on white, all from the first input camera: input with part and drags, before, after."""
    first, camera = picture_view(prediction.source)
    states = [render_splats(state, camera).rgb[0] for state in (prediction.before, prediction.after)]
    panels = [to_bytes(image) for image in (composite_on_white(first.image), *states)]
    tinted = draw_mask(panels[0], _mask_in_framed_px(first, prediction.part_mask), opacity=TINT)
    drawn = with_joint(with_drags(tinted, first, prediction.drags), prediction, camera[0])
    return np.concatenate([drawn, *panels[1:]], axis=1)


def with_joint(
    picture: UInt8[np.ndarray, "h w 3"], prediction: Prediction, camera: Cameras
) -> UInt8[np.ndarray, "h w 3"]:
    """A picture that an unbatched camera took with the joint's axis, and the path of the part's middle along it."""
    joint = prediction.joint
    if not bool(prediction.moving.any()):
        return picture
    part = prediction.before.means[prediction.moving]
    middle = part.median(0).values
    half = max(MIN_AXIS, AXIS_LENGTH * float((part - middle).norm(dim=-1).quantile(0.9)))
    path = torch.stack([transform_points(joint.motion(t / PATH_STEPS), middle[None])[0] for t in range(PATH_STEPS + 1)])
    lines = [(path, PATH_COLOR)]
    if joint.type == JointType.REVOLUTE:
        along = (middle - joint.pivot) @ joint.axis
        ends = torch.tensor([[along - half], [along + half]])
        lines.append((joint.pivot + ends * joint.axis, AXIS_COLOR))
    for points, color in lines:
        pixels, depth = camera.project(points)
        if bool((depth > 0).all()):
            picture = draw_polyline(picture, pixels, color, width=max(3, picture.shape[0] // 160))
    return picture


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
    states = (prediction.at(frame / (MOTION_FRAMES - 1)) for frame in range(MOTION_FRAMES))
    pictures = (to_bytes(shown.rgb[0]) for shown in render_states(states, camera))
    save_video(pictures, (camera.width, camera.height), FRAMES_PER_SECOND, path)
