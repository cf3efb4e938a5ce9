"""The results of an evaluation on disk: ``metrics.json``, ``report.md`` and ``contact_sheet.png``."""

import json
import math
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import torch
from einops import rearrange
from jaxtyping import Bool, Float, UInt8
from PIL import Image, ImageDraw
from torch import Tensor

from partrm import __version__
from partrm.data.online import render_states
from partrm.data.scenarios import first_view
from partrm.evaluate.runs import (
    NOVEL_ELEVATION_DEG,
    NOVEL_VIEWS,
    RunSettings,
    Stage,
    first_view_mask,
    network_input,
    render_on_white,
    run_network,
)
from partrm.evaluate.scoring import METRICS, summarise, summarise_by
from partrm.evaluate.sets import EvalSet
from partrm.metrics import composite_on_white
from partrm.model.checkpoints import LoadedModel
from partrm.pipeline import carry, read_motion

SCHEMA = "partrm.metrics/1"

SHEET_EACH = 2
"""Samples on the contact sheet of each kind: best, median, worst by motion error."""

PANEL_PX = 256

PART_COLOR = (230, 60, 40)
"""Tint of the predicted part and colour of drags, RGB 0..255."""


def results(
    evalset: EvalSet, model: LoadedModel, settings: RunSettings, rows: Sequence[dict[str, Any]], seconds: float
) -> dict[str, Any]:
    """The content of ``metrics.json``: lengths in object diagonals, undefined figures as null."""
    device = next(model.network.parameters()).device
    return {
        "schema": SCHEMA,
        "partrm_version": __version__,
        "data": {
            "name": evalset.name,
            "checksum": evalset.checksum,
            "seed": evalset.seed,
            "samples_in_set": len(evalset),
            "objects": len(evalset.object_names),
            "dropped": list(evalset.dropped),
        },
        "model": {"name": model.name, "hash": model.hash},
        "settings": asdict(settings)
        | {
            "novel_views": NOVEL_VIEWS,
            "novel_elevation_deg": NOVEL_ELEVATION_DEG,
            "device": device.type,
        },
        "seconds": round(seconds, 2),
        "metrics": METRICS,
        "summary": {
            "all": summarise(rows),
            "categories": summarise_by(rows, "category"),
            "objects": summarise_by(rows, "object"),
        },
        "samples": list(rows),
    }


def save_results(content: dict[str, Any], sheet: UInt8[np.ndarray, "h w 3"], folder: Path) -> None:
    """Write the three files into an existing folder."""
    text = json.dumps(content, indent=1, allow_nan=False)
    (folder / "metrics.json").write_text(text + "\n", encoding="utf-8")
    (folder / "report.md").write_text(markdown(content), encoding="utf-8")
    Image.fromarray(sheet).save(folder / "contact_sheet.png")


def markdown(content: dict[str, Any]) -> str:
    """The report: what was evaluated, all figures, and the main ones of each category and object."""
    data, model, settings = content["data"], content["model"], content["settings"]
    whole = content["summary"]["all"]
    lines = [
        f"# Evaluation on `{data['name']}`",
        "",
        f"Model `{model['name']}` ({model['hash']}), partrm {content['partrm_version']}, {settings['device']}, "
        f"{settings['views']} view(s), {settings['drags']} drag(s), {whole['samples']} samples of "
        f"{data['objects']} objects, data checksum `{data['checksum']}`, {content['seconds']:.0f} s.",
        "",
        f"Candidates left out: {len(data['dropped'])}" + ("." if not data["dropped"] else ":"),
        *[f"- {reason}" for reason in data["dropped"]],
        "",
        "| figure | mean | median | samples |",
        "|---|---:|---:|---:|",
    ]
    for name, meaning in content["metrics"].items():
        value = whole[name]
        lines.append(f"| {meaning} | {_number(value['mean'])} | {_number(value['median'])} | {value['n']} |")
    groups = ["categories"] + (["objects"] if len(content["summary"]["objects"]) < whole["samples"] else [])
    for group in groups:
        lines += ["", f"## By {'category' if group == 'categories' else 'object'} (means; axis error: median)", ""]
        lines += _group_table(content["summary"][group])
    lines += ["", "![best, median and worst samples](contact_sheet.png)", ""]
    return "\n".join(lines)


def _group_table(groups: dict[str, Any]) -> list[str]:
    columns = ("iou", "motion_error_ratio", "type_correct", "psnr", "copy_psnr", "psnr_moved", "copy_psnr_moved")
    heads = ("IoU", "motion", "type", "PSNR", "copy", "PSNR moved", "copy moved")
    lines = [f"| | samples | {' | '.join(heads)} | axis (deg) |", "|---|" + "---:|" * (len(heads) + 2)]
    for name, group in groups.items():
        values = [_number(group[column]["mean"]) for column in columns]
        lines.append(f"| {name} | {group['samples']} | {' | '.join(values)} | {_axis(group)} |")
    return lines


def _axis(group: dict[str, Any]) -> str:
    return _number(group["axis_error_deg"]["median"])


def _number(value: float | None) -> str:
    return "not computed" if value is None else f"{value:.3f}" if abs(value) < 10 else f"{value:.1f}"


def chosen_samples(rows: Sequence[dict[str, Any]]) -> dict[int, str]:
    """Samples for the contact sheet with the word for each: best, median and worst by motion error."""
    order = sorted(rows, key=lambda row: row["motion_error_ratio"])
    middle = max(0, len(order) // 2 - SHEET_EACH // 2)
    parts = {"best": order[:SHEET_EACH], "median": order[middle : middle + SHEET_EACH], "worst": order[-SHEET_EACH:]}
    chosen: dict[int, str] = {}
    for word, some in parts.items():
        for row in some:
            chosen.setdefault(row["sample"], word)
    return chosen


def contact_sheet(
    evalset: EvalSet, model: LoadedModel, settings: RunSettings, rows: Sequence[dict[str, Any]]
) -> UInt8[np.ndarray, "h w 3"]:
    """Some samples, one a line, in the first view: source with drags, predicted part, predicted after, true after."""
    chosen = chosen_samples(rows)
    numbers = list(chosen)
    stage = Stage.of(evalset, next(model.network.parameters()).device)
    posed = stage.posed(numbers)
    inputs = network_input(stage, posed, numbers, settings, model.config.image_size_px)
    output = run_network(model, inputs)
    camera = first_view(len(numbers), PANEL_PX, stage.device)
    states = render_states(stage.scene, posed, camera)
    before, after = composite_on_white(states.before)[:, 0], composite_on_white(states.after)[:, 0]
    lines = []
    for index, number in enumerate(numbers):
        gaussians, part, joint = read_motion(output, index)
        predicted = render_on_white(carry(gaussians, part, joint.T_after_before), camera[index])[0]
        drags = inputs.drags[index]
        start, end = drags.start[drags.valid].cpu(), drags.end[drags.valid].cpu()
        source = before[index]
        panels = [
            with_drags(to_bytes(source), start * PANEL_PX, end * PANEL_PX),
            tinted(to_bytes(source), first_view_mask(output, index)),
            to_bytes(predicted),
            to_bytes(after[index]),
        ]
        row = next(r for r in rows if r["sample"] == number)
        label = f"{chosen[number]}: {row['object']} {row['transition']}  IoU {row['iou']:.2f}"
        lines.append(labelled(np.concatenate(panels, 1), f"{label}  motion {row['motion_error_ratio']:.2f}"))
    return np.concatenate(lines, 0)


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
