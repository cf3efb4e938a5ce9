"""Pictures of samples: the contact sheet and the panels of the HTML report."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from einops import rearrange
from jaxtyping import Bool, Float, UInt8
from PIL import Image, ImageDraw
from torch import Tensor

from partrm.evaluation.baselines import render_on_white
from partrm.evaluation.eval_set import EvalSet
from partrm.evaluation.folder_sets import FolderSet
from partrm.evaluation.runner import first_view_mask, sample_source_of
from partrm.evaluation.samples import RunSettings
from partrm.inference.decode import apply_joint_motion, read_motion, run_network
from partrm.model.checkpoints import LoadedModel

SHOWN_EACH = 3
"""Samples shown of each kind: best, median, worst by motion error."""

PANEL_PX = 256

PART_COLOR = (230, 60, 40)
"""Tint of the predicted part and colour of drags, RGB 0..255."""

PANELS = ("source with drag", "predicted part", "prediction", "truth", "difference (white: none)")


@dataclass(frozen=True)
class QualitativeExample:
    """One sample in pictures, first view."""

    kind: str
    """``best``, ``median`` or ``worst``, or the word that was asked for."""
    row: dict[str, Any]
    panels: tuple[UInt8[np.ndarray, "h w 3"], ...]
    """One for each of :data:`PANELS`."""

    @property
    def label(self) -> str:
        r = self.row
        named = {"iou": "IoU {:.2f}", "motion_error_ratio": "motion error {:.2f}", "psnr": "PSNR {:.1f} dB"}
        figures = ", ".join(form.format(r[name]) for name, form in named.items() if r[name] is not None)
        return f"{self.kind}: sample {r['sample']}, {r['object']}, {r['transition']}; {figures}"


def chosen_samples(rows: Sequence[dict[str, Any]]) -> dict[int, str]:
    """Samples to show with the word for each: best, median and worst by motion error (by PSNR where none is known)."""
    known = [row for row in rows if row["motion_error_ratio"] is not None]
    if known:
        order = sorted(known, key=lambda row: row["motion_error_ratio"])
    else:
        order = sorted(rows, key=lambda row: -math.inf if row["psnr"] is None else -row["psnr"])
    middle = max(0, (len(order) - SHOWN_EACH + 1) // 2)
    parts = {"best": order[:SHOWN_EACH], "median": order[middle : middle + SHOWN_EACH], "worst": order[-SHOWN_EACH:]}
    chosen: dict[int, str] = {}
    for word, some in parts.items():
        for row in some:
            chosen.setdefault(row["sample"], word)
    return chosen


def examples_of(
    evalset: EvalSet | FolderSet,
    model: LoadedModel,
    settings: RunSettings,
    rows: Sequence[dict[str, Any]],
    chosen: Mapping[int, str] | None = None,
) -> list[QualitativeExample]:
    """Samples in pictures: those ``chosen``, with a word for each, or the best, median and worst."""
    chosen = chosen_samples(rows) if chosen is None else chosen
    numbers = list(chosen)
    by_sample = {row["sample"]: row for row in rows}
    stage = sample_source_of(evalset, next(model.network.parameters()).device)
    inputs = stage.inputs(numbers, settings, model.config.image_size_px)
    output = run_network(model.articulated, inputs)
    views = stage.first_views(numbers, settings, PANEL_PX)
    cases = []
    for index, number in enumerate(numbers):
        gaussians, part, joint = read_motion(output, inputs, index)
        after = views.after[index]
        predicted = render_on_white(apply_joint_motion(gaussians, part, joint.T_after_before), views.cameras[[index]])[
            0
        ]
        drags = inputs.drags[index]
        start, end = drags.start[drags.valid].cpu(), drags.end[drags.valid].cpu()
        source = to_bytes(views.before[index])
        panels = (
            with_drags(source, start * PANEL_PX, end * PANEL_PX),
            tinted(source, first_view_mask(output, index)),
            to_bytes(predicted),
            to_bytes(after),
            to_bytes(1 - (predicted - after).abs()),
        )
        cases.append(QualitativeExample(chosen[number], by_sample[number], panels))
    return cases


def contact_sheet(cases: Sequence[QualitativeExample]) -> UInt8[np.ndarray, "h w 3"]:
    """Cases under each other, each below a line of text."""
    return np.concatenate([labelled(np.concatenate(case.panels, 1), case.label) for case in cases], 0)


def to_bytes(image: Float[Tensor, "3 h w"]) -> UInt8[np.ndarray, "h w 3"]:
    """An image in [0, 1] as 8 bit."""
    return rearrange((image.clamp(0, 1) * 255).round().to(torch.uint8).cpu(), "c h w -> h w c").numpy()


def tinted(picture: UInt8[np.ndarray, "h w 3"], mask: Bool[Tensor, "side side"]) -> UInt8[np.ndarray, "h w 3"]:
    """The picture with the mask (of any resolution) laid over it."""
    full = torch.nn.functional.interpolate(mask.float()[None, None], picture.shape[:2], mode="nearest")[0, 0]
    share = 0.6 * full.numpy()[..., None]
    return (picture * (1 - share) + np.array(PART_COLOR) * share).round().astype(np.uint8)


def with_drags(
    picture: UInt8[np.ndarray, "h w 3"], start_px: Float[Tensor, "n 2"], end_px: Float[Tensor, "n 2"]
) -> UInt8[np.ndarray, "h w 3"]:
    """The picture with an arrow for each drag."""
    image = Image.fromarray(picture)
    draw = ImageDraw.Draw(image)
    for (x0, y0), (x1, y1) in zip(start_px.tolist(), end_px.tolist(), strict=True):
        draw.line([x0, y0, x1, y1], fill=(255, 255, 255), width=5)
        draw.line([x0, y0, x1, y1], fill=PART_COLOR, width=2)
        angle = math.atan2(y1 - y0, x1 - x0)
        head = [(x1 - 8 * math.cos(angle + turn), y1 - 8 * math.sin(angle + turn)) for turn in (-0.45, 0.45)]
        draw.polygon([(x1, y1), *head], fill=PART_COLOR)
        draw.ellipse([x0 - 3, y0 - 3, x0 + 3, y0 + 3], fill=PART_COLOR)
    return np.asarray(image)


def labelled(picture: UInt8[np.ndarray, "h w 3"], text: str) -> UInt8[np.ndarray, "tall w 3"]:
    """The picture under a line of text."""
    image = Image.new("RGB", (picture.shape[1], 16), (255, 255, 255))
    ImageDraw.Draw(image).text((4, 2), text, fill=(20, 20, 20))
    return np.concatenate([np.asarray(image), picture], 0)
