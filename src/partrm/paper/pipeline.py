"""The published pipeline: four views, perhaps drawn by a diffusion model, to the Gaussians of the next state."""

import json
import math
import time
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from partrm.files import staged_folder
from partrm.geometry.cameras import Cameras, canonical_orbit
from partrm.geometry.drag_numbers import MAX_DRAGS
from partrm.geometry.gaussians import Gaussians, save_ply
from partrm.imaging.cutout import ImageError
from partrm.imaging.drawing import to_bytes
from partrm.imaging.images import frame_canonical, frame_view, save_png
from partrm.inference.decode import MIN_OPACITY
from partrm.inference.pipeline import network_input
from partrm.inference.prediction import (
    DEFAULT_VIEWS,
    describe_given,
    pictured,
    render_rgba,
    with_drags,
)
from partrm.inference.source import DragPixels, SourceViews
from partrm.metrics.images import composite_on_white
from partrm.model.checkpoints import CheckpointError, LoadedModel
from partrm.model.inputs import VIEWS
from partrm.model.reference import ReferenceNetwork
from partrm.paper.novel_views import Draw, ViewPlan, complete_views
from partrm.paper.sam_drags import Segment, propagate


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

    def save(self, folder: str | Path, cameras: Cameras | None = None) -> None:
        """Write what there is of a prediction into ``folder``; see :func:`save_state_prediction`."""
        save_state_prediction(self, folder, cameras)


def with_drawn_views(
    source: SourceViews, condition: SourceViews, draw: Draw, plan: ViewPlan, elevation_deg: float, background: float
) -> SourceViews:
    """A single image completed to four views by a diffusion model; see :func:`partrm.paper.novel_views.complete_views`.

    Args:
        source: the image at the network's size.
        condition: the same at the size that the diffusion model sees.

    Raises:
        ImageError: posed views instead of one image, or a drawn view that cannot be used.
    """
    if len(source.framed) != 1:
        raise ImageError(f"a diffusion model completes one image, but {len(source.framed)} posed views are given")
    size_px = source.cameras.width
    drawn_px = max(size_px, condition.cameras.width)
    framed, cameras = complete_views(condition.framed[0].image, draw, plan, drawn_px, elevation_deg, background)
    if source.cameras.fovy_rad[0] == cameras.fovy_rad[0]:  # whole views, as the reference network sees them
        framed = tuple(frame_canonical(view.image, size_px) for view in framed)
        return replace(source, framed=source.framed + framed, cameras=cameras.resized(size_px))
    crops = [frame_view(view.image, cameras[1 + number], size_px) for number, view in enumerate(framed)]
    own = source.cameras
    T = torch.stack([own.T_world_camera[0], *(crop.T_world_camera for _, crop in crops)])
    fovy = torch.stack([own.fovy_rad[0], *(crop.fovy_rad for _, crop in crops)])
    pictures = tuple(picture for picture, _ in crops)
    return replace(source, framed=source.framed + pictures, cameras=Cameras(T, fovy, size_px, size_px))


def propagated_drags(drags: DragPixels, condition: SourceViews, segment: Segment, seed: int = 0) -> DragPixels:
    """The user's drags and others on the same parts, ten in all at most; see :func:`partrm.paper.sam_drags.propagate`.

    Args:
        drags: in pixels of the user's first image; so is the answer.
        condition: the views at the size that SAM sees.
        seed: of the points drawn.
    """
    first = condition.framed[0]
    starts, ends = (first.to_framed_px(points) for points in (drags.start, drags.end))
    side = first.image.shape[-1]
    starts = starts.clamp(0, side - 1e-3)
    generator = torch.Generator().manual_seed(seed)
    starts, ends = propagate(first.image, starts, ends, segment, MAX_DRAGS, generator)
    own, more = len(drags.start), slice(len(drags.start), None)
    assert len(starts) >= own
    return DragPixels(
        torch.cat([drags.start, first.to_source_px(starts[more])]),
        torch.cat([drags.end, first.to_source_px(ends[more])]),
        torch.cat([drags.snapped, torch.zeros(len(starts) - own, dtype=torch.bool)]),
    )


def predict_state(source: SourceViews, drags: DragPixels, model: LoadedModel) -> StatePrediction:
    """Run a reference network once on the device of its weights.

    Raises:
        ImageError: fewer views than it needs.
        CheckpointError: the weights of an articulated network.
    """
    network = model.network
    if not isinstance(network, ReferenceNetwork):
        raise CheckpointError(f"model {model.name!r} tells parts and joints: predict does not need four views of it")
    if len(source.framed) != VIEWS:
        raise ImageError(
            f"model {model.name!r} needs {VIEWS} views of the object, not {len(source.framed)}: give a folder of posed "
            "views, or let --multiview zero123 draw them"
        )
    started = time.perf_counter()
    device = next(network.parameters()).device
    inputs = network_input(source, drags, device)
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


OF_THE_PART = ("gaussians_before.ply", "motion.mp4", "part_mask.png")
"""Files of a prediction that a state head has not."""


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
    with staged_folder(out_dir, without=OF_THE_PART, record="prediction.json") as folder:
        started = time.perf_counter()
        save_ply(prediction.after, folder / "gaussians.ply")
        (folder / "views").mkdir()
        for index, view in enumerate(pictured(prediction.after, cameras)):
            save_png(view, folder / "views" / f"{index:03d}.png")
        first = prediction.source.framed[0]
        own = canonical_orbit(1, size, fovy_rad=prediction.fovy_rad)
        panels = [to_bytes(composite_on_white(image)) for image in (first.image, render_rgba(prediction.after, own)[0])]
        picture = np.concatenate([with_drags(panels[0], first, prediction.drags), panels[1]], axis=1)
        Image.fromarray(picture).save(folder / "before_after.png")
        timings = prediction.timings_s | {"render_and_save": time.perf_counter() - started}
        counted = {"count": len(prediction.after), "moving": None}
        content = {"joint": None, "part_mask": None, "gaussians": counted} | describe_given(
            prediction.source, prediction.drags, prediction.model_name, prediction.model_hash, cameras
        )
        text = json.dumps(content | {"timings_s": timings}, indent=1, allow_nan=False)
        (folder / "prediction.json").write_text(text + "\n", encoding="utf-8")
