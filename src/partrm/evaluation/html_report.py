"""The report as one HTML file that needs nothing else, and samples in pictures for it and for the contact sheet."""

import base64
import html
import io
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import UInt8
from PIL import Image

from partrm.evaluation.results import Results, SampleRow
from partrm.evaluation.runner import first_view_mask, render_on_white
from partrm.evaluation.samples import SHOWN, EvaluationSet, RunSettings
from partrm.evaluation.tables import Table, report_tables
from partrm.imaging.drawing import draw_arrows, draw_label, draw_mask, to_bytes
from partrm.inference.decode import apply_joint_motion, read_motion, run_network
from partrm.model.checkpoints import LoadedModel

SHOWN_EACH = 3
"""Samples shown of each kind: best, median, worst by motion error."""

PANEL_PX = 256

PANELS = ("source with drag", "predicted part", "prediction", "truth", "difference (white: none)")


BINS = 24

HISTOGRAMS = {
    "motion_error_ratio": ("motion error (1: as if nothing moved)", 0.0, 2.0),
    "iou": ("IoU of the moving part", 0.0, 1.0),
    "axis_error_deg": ("joint axis error (degrees)", 0.0, 90.0),
    "drag_error_px": ("drag error (px of 256)", 0.0, 64.0),
    "psnr_moved": ("PSNR over the moved region (dB)", 5.0, 35.0),
}
"""Label and range of the figures drawn; what lies outside counts in the end bins."""

WIDTH, HEIGHT, FOOT = 300, 120, 20
"""Of a histogram, px; the foot holds the axis."""

STYLE = """
:root { color-scheme: light; }
body { font: 15px/1.5 system-ui, sans-serif; color: #1c2430; background: #fff; max-width: 1180px;
  margin: 2rem auto; padding: 0 1.2rem; }
h1 { font-size: 1.6rem; margin-bottom: .3rem; } h2 { font-size: 1.15rem; margin: 2.2rem 0 .6rem; }
p.lead { color: #4a5666; margin-top: 0; overflow-wrap: anywhere; }
.scroll { overflow-x: auto; }
table { border-collapse: collapse; font-variant-numeric: tabular-nums; font-size: .86rem; width: 100%; }
th, td { padding: .3rem .6rem; border-bottom: 1px solid #e3e7ec; text-align: right; vertical-align: top; }
th { border-bottom: 2px solid #b9c2cd; white-space: nowrap; }
th:first-child, td:first-child { text-align: left; min-width: 11rem; }
td .interval { display: block; color: #6b7684; font-size: .92em; white-space: nowrap; }
.plots { display: grid; grid-template-columns: repeat(auto-fill, 300px); gap: 1.4rem 2.4rem; }
figure { margin: 0; } figcaption { font-size: .86rem; color: #4a5666; overflow-wrap: anywhere; }
svg rect { fill: #3f6fb0; } svg text { font: 11px system-ui, sans-serif; fill: #4a5666; }
svg line { stroke: #b9c2cd; } svg line.mark { stroke: #d2452d; stroke-width: 2; }
.case { margin: 0 0 1.3rem; } .panels { display: grid; grid-template-columns: repeat(5, 1fr); gap: 4px; }
.panels img { width: 100%; border: 1px solid #e3e7ec; display: block; box-sizing: border-box; }
.panels span { font-size: .78rem; color: #6b7684; }
"""


@dataclass(frozen=True)
class QualitativeExample:
    """One sample in pictures, first view."""

    place: str
    """``best``, ``median`` or ``worst``, or the word that was asked for."""
    row: SampleRow
    panels: tuple[UInt8[np.ndarray, "h w 3"], ...]
    """One for each of :data:`PANELS`."""

    @property
    def label(self) -> str:
        what, metrics = self.row.label, self.row.metrics.model
        named = {"iou": "IoU {:.2f}", "motion_error_ratio": "motion error {:.2f}", "psnr": "PSNR {:.1f} dB"}
        numbers = ", ".join(form.format(metrics[name]) for name, form in named.items() if metrics[name] is not None)
        return f"{self.place}: sample {what.sample}, {what.object}, {what.transition}; {numbers}"


def choose_samples(rows: Sequence[SampleRow]) -> dict[int, str]:
    """Samples to show with the word for each: best, median and worst by motion error (by PSNR where none is known)."""
    errors = [(row.metrics.model.motion_error_ratio, row.label.sample) for row in rows]
    known = [(error, sample) for error, sample in errors if error is not None]
    if not known:
        psnr = [(row.metrics.model.psnr, row.label.sample) for row in rows]
        known = [(-math.inf if value is None else -value, sample) for value, sample in psnr]
    order = [sample for _, sample in sorted(known, key=lambda pair: pair[0])]
    middle = max(0, (len(order) - SHOWN_EACH + 1) // 2)
    parts = {"best": order[:SHOWN_EACH], "median": order[middle : middle + SHOWN_EACH], "worst": order[-SHOWN_EACH:]}
    chosen: dict[int, str] = {}
    for word, some in parts.items():
        for sample in some:
            chosen.setdefault(sample, word)
    return chosen


def examples_of(
    evalset: EvaluationSet,
    model: LoadedModel,
    settings: RunSettings,
    rows: Sequence[SampleRow],
    chosen: Mapping[int, str] | None = None,
) -> list[QualitativeExample]:
    """Samples in pictures: those ``chosen``, with a word for each, or the best, median and worst."""
    chosen = choose_samples(rows) if chosen is None else chosen
    numbers = list(chosen)
    by_sample = {row.label.sample: row for row in rows}
    source = evalset.open(next(model.network.parameters()).device)
    inputs = source.inputs(numbers, settings, model.config.image_size_px)
    output = run_network(model.articulated, inputs)
    views = source.first_views(numbers, settings, PANEL_PX)
    examples = []
    for index, number in enumerate(numbers):
        gaussians, part, joint = read_motion(output, inputs, index)
        moved = apply_joint_motion(gaussians, part, joint.T_after_before)
        predicted = render_on_white(moved, views.cameras[[index]])[0]
        drags = inputs.drags[index]
        start, end = drags.start[drags.valid].cpu(), drags.end[drags.valid].cpu()
        before, after = to_bytes(views.before[index]), views.after[index]
        start_px, end_px = (PANEL_PX * (0.5 + (points - 0.5) / SHOWN) for points in (start, end))
        mask = first_view_mask(output, index)
        panels = (
            draw_arrows(before, start_px, end_px),
            draw_mask(before, torch.nn.functional.pad(mask, 4 * [round(mask.shape[-1] * (SHOWN - 1) / 2)])),
            to_bytes(predicted),
            to_bytes(after),
            to_bytes(1 - (predicted - after).abs()),
        )
        examples.append(QualitativeExample(chosen[number], by_sample[number], panels))
    return examples


def contact_sheet(examples: Sequence[QualitativeExample]) -> UInt8[np.ndarray, "h w 3"]:
    """Examples under each other, each below a line of text."""
    return np.concatenate([draw_label(np.concatenate(e.panels, 1), e.label) for e in examples], 0)


def page(results: Results, examples: Sequence[QualitativeExample], headline: str) -> str:
    """The whole file.

    Args:
        headline: what was evaluated, plain text.
    """
    name, dropped = html.escape(results.identity.data.name), results.identity.data.dropped
    reasons = "".join(f"<li>{html.escape(reason)}</li>" for reason in dropped)
    pieces = [
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">',
        '<meta name="viewport" content="width=device-width, initial-scale=1">',
        f"<title>partrm eval: {name}</title><style>{STYLE}</style></head><body>",
        f'<h1>Evaluation on {name}</h1><p class="lead">{html.escape(headline)}</p>',
        "<p>Means, below them 95&nbsp;% bootstrap intervals over objects.",
        f"Candidates left out: {len(dropped)}.</p>" + (f"<ul>{reasons}</ul>" if dropped else ""),
        *(table_html(table) for table in report_tables(results)),
        '<h2>How the errors are spread</h2><div class="plots">',
        *histograms(results.samples),
        "</div><h2>Best, median and worst samples by motion error (by PSNR where it is not known)</h2>",
        *(example_html(example) for example in examples),
        "</body></html>\n",
    ]
    return "\n".join(pieces)


def table_html(table: Table) -> str:
    """A section with the table; intervals go below their means."""
    head = "".join(f"<th>{html.escape(text)}</th>" for text in table.heads)
    rows = "".join(f"<tr>{''.join(cell_html(text) for text in row)}</tr>" for row in table.rows)
    title = html.escape(table.title)
    return f'<h2>{title}</h2><div class="scroll"><table><tr>{head}</tr>{rows}</table></div>'


def cell_html(text: str) -> str:
    """A table cell."""
    mean, bracket, rest = text.partition(" [")
    interval = f'<span class="interval">[{html.escape(rest)}</span>' if bracket else ""
    return f"<td>{html.escape(mean)}{interval}</td>"


def histograms(rows: Sequence[SampleRow]) -> list[str]:
    """A drawing of each of :data:`HISTOGRAMS` that some sample has."""
    drawn = []
    for name, (label, low, high) in HISTOGRAMS.items():
        values = [value for row in rows if (value := row.metrics.model[name]) is not None]
        if values:
            drawn.append(histogram_svg(values, label, low, high))
    return drawn


def histogram_svg(values: Sequence[float], label: str, low: float, high: float) -> str:
    """Counts of values in equal bins with a red line at the median."""
    clipped = np.clip(values, low, high)
    counts, _ = np.histogram(clipped, BINS, (low, high))
    step, tallest = WIDTH / BINS, max(int(counts.max()), 1)
    plot = HEIGHT - FOOT
    bars = "".join(
        f'<rect x="{i * step + 0.5:.1f}" y="{plot - plot * c / tallest:.1f}" width="{step - 1:.1f}" '
        f'height="{plot * c / tallest:.1f}"><title>{c}</title></rect>'
        for i, c in enumerate(counts.tolist())
    )
    middle = float(np.median(values))
    at = WIDTH * (min(max(middle, low), high) - low) / (high - low)
    outside = int(np.count_nonzero(np.asarray(values) > high))
    beyond = f", {outside} beyond {high:g}" if outside else ""
    return (
        f'<figure><svg width="{WIDTH}" height="{HEIGHT}" viewBox="0 0 {WIDTH} {HEIGHT}" role="img">{bars}'
        f'<line x1="0" y1="{plot}" x2="{WIDTH}" y2="{plot}"/>'
        f'<line class="mark" x1="{at:.1f}" y1="0" x2="{at:.1f}" y2="{plot}"/>'
        f'<text x="0" y="{plot + 15}">{low:g}</text>'
        f'<text x="{WIDTH}" y="{plot + 15}" text-anchor="end">{high:g}</text>'
        f'<text x="{WIDTH / 2}" y="{plot + 15}" text-anchor="middle">highest bar: {tallest}</text></svg>'
        f"<figcaption>{html.escape(label)}<br>median {middle:.3g} (red), {len(values)} samples{beyond}"
        "</figcaption></figure>"
    )


def example_html(example: QualitativeExample) -> str:
    """A sample's panels over its label."""
    images = "".join(
        f'<div><img alt="{html.escape(name)}" src="{data_uri(Image.fromarray(panel))}"><span>{html.escape(name)}'
        "</span></div>"
        for name, panel in zip(PANELS, example.panels, strict=True)
    )
    return (
        f'<figure class="case"><div class="panels">{images}</div>'
        f"<figcaption>{html.escape(example.label)}</figcaption></figure>"
    )


def data_uri(image: Image.Image) -> str:
    """A picture as a ``data:`` address: WebP of high quality, a tenth of a PNG (``contact_sheet.png`` is exact)."""
    buffer = io.BytesIO()
    image.save(buffer, "WEBP", quality=92, method=6)
    return "data:image/webp;base64," + base64.b64encode(buffer.getvalue()).decode("ascii")
