"""The tables of a report as plain data, so that Markdown and HTML show the same."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from partrm.datasets.sources import GENERATORS
from partrm.evaluation.scoring import METHODS, summarise_by

NOT_COMPUTED = "not computed"

OTHER = "not in PartDrag-4D"
"""Procedural objects of kinds that PartDrag-4D does not have."""


@dataclass(frozen=True)
class Table:
    """Rows of text under column heads; the first column names the row."""

    title: str
    heads: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]

    def __post_init__(self) -> None:
        assert all(len(row) == len(self.heads) for row in self.rows)

    def markdown(self) -> list[str]:
        """Lines of a Markdown section."""
        lines = [f"## {self.title}", "", f"| {' | '.join(self.heads)} |"]
        lines.append("|---|" + "---:|" * (len(self.heads) - 1))
        return [*lines, *(f"| {' | '.join(row)} |" for row in self.rows), ""]


def number(value: float) -> str:
    """Three decimals below 10, else one."""
    return f"{value:.3f}" if abs(value) < 10 else f"{value:.1f}"


def absent(column: str) -> str:
    """What stands for a missing figure: LPIPS was not computed (no weights), others have no meaning or truth there."""
    return NOT_COMPUTED if column == "lpips" else "–"


def with_interval(column: str, value: Mapping[str, Any]) -> str:
    """A mean and its interval."""
    if value["mean"] is None:
        return absent(column)
    if value["low"] is None:
        return number(value["mean"])
    return f"{number(value['mean'])} [{number(value['low'])}, {number(value['high'])}]"


def framed(content: Mapping[str, Any]) -> str:
    """How the input images were framed, as words behind their number; nothing for folders, framed as they are.

    Results of meshes from before there was the setting do not name it: they are canonical.
    """
    rendered = content["data"]["protocol"] == "rendered"
    words = {"canonical": " of canonical framing", "outline": " framed by the outline"}
    return words[content["settings"].get("framing", "canonical")] if rendered else ""


def method_table(summary: Mapping[str, Any]) -> Table:
    """Every method on the same samples."""
    columns = {
        "iou": "IoU",
        "motion_error_ratio": "motion error",
        "drag_error_px": "drag error (px)",
        "psnr": "PSNR (dB)",
        "psnr_moved": "PSNR, moved (dB)",
        "ssim": "SSIM",
        "lpips": "LPIPS",
    }
    rows = [
        (meaning, *(with_interval(column, summary[method][column]) for column in columns))
        for method, meaning in METHODS.items()
    ]
    return Table("Methods, all samples", ("method", *columns.values()), tuple(rows))


def metric_table(content: Mapping[str, Any]) -> Table:
    """Every figure of the model."""
    rows = []
    for name, meaning in content["metrics"].items():
        value = content["summary"]["all"]["model"][name]
        low_high = "" if value["low"] is None else f"[{number(value['low'])}, {number(value['high'])}]"
        mean, median = (absent(name) if v is None else number(v) for v in (value["mean"], value["median"]))
        rows.append((meaning, mean, low_high, median, str(value["n"])))
    return Table("The model, all figures", ("figure", "mean", "95 % interval", "median", "samples"), tuple(rows))


def group_table(title: str, groups: Mapping[str, Any]) -> Table:
    """The model's main figures of each category or object, beside what copying gets."""
    columns = (("iou", "IoU"), ("motion_error_ratio", "motion error"), ("type_correct", "type"))
    columns += (("axis_error_deg", "axis (deg)"), ("psnr", "PSNR"), ("psnr_moved", "PSNR, moved"))
    rows = [
        (
            name,
            str(group["samples"]),
            *(with_interval(column, group["model"][column]) for column, _ in columns),
            with_interval("psnr_moved", group["copy"]["psnr_moved"]),
        )
        for name, group in groups.items()
    ]
    return Table(title, ("", "samples", *(head for _, head in columns), "copy: PSNR, moved"), tuple(rows))


def partdrag_table(samples: Sequence[Mapping[str, Any]]) -> Table:
    """Procedural samples by the PartDrag-4D category that their generator builds for; the others together."""
    category_of = {generator: category for category, generators in GENERATORS.items() for generator in generators}
    regrouped = [{**row, "category": category_of.get(row["category"], OTHER)} for row in samples]
    groups = summarise_by(regrouped, "category")
    ordered = {name: groups[name] for name in (*sorted(GENERATORS), OTHER) if name in groups}
    return group_table("PartDrag-4D categories", ordered)


def report_tables(content: Mapping[str, Any]) -> list[Table]:
    """All tables of one evaluation; objects only where they have several samples."""
    summary = content["summary"]
    tables = [method_table(summary["all"]), metric_table(content)]
    if content["data"]["name"] == "procedural":
        tables.append(partdrag_table(content["samples"]))
    tables.append(group_table("Categories", summary["categories"]))
    if len(summary["objects"]) < summary["all"]["samples"]:
        tables.append(group_table("Objects", summary["objects"]))
    return tables


def grid_table(cells: Sequence[Mapping[str, Any]]) -> Table:
    """One line for each setting and method of a grid of evaluations of the same set."""
    columns = (("iou", "IoU"), ("motion_error_ratio", "motion error"), ("psnr", "PSNR"), ("psnr_moved", "PSNR, moved"))
    columns += (("ssim", "SSIM"), ("lpips", "LPIPS"))
    rows = [
        (
            name,
            str(cell["settings"]["views"]),
            str(cell["settings"]["drags"]),
            str(cell["summary"]["all"]["samples"]),
            *(with_interval(column, cell["summary"]["all"][name][column]) for column, _ in columns),
        )
        for cell in cells
        for name in METHODS
    ]
    heads = ("method", "views", "drags", "samples", *(head for _, head in columns))
    return Table("Input views and drags", heads, tuple(rows))
