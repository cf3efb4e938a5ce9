"""The tables of a report as plain data, so that Markdown and HTML show the same."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from partrm.datasets.sources import GENERATORS
from partrm.evaluation.results import (
    ASSET_METRICS,
    METHODS,
    METRICS,
    ByAssetMetric,
    Identity,
    Results,
    SampleRow,
    Statistic,
    Summary,
)
from partrm.evaluation.scoring import summarise_by

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
    """What stands for a missing number: LPIPS was not computed (no weights), others have no meaning or truth there."""
    return NOT_COMPUTED if column == "lpips" else "–"


def with_interval(column: str, value: Statistic) -> str:
    """A mean and its interval."""
    if value.mean is None:
        return absent(column)
    if value.low is None or value.high is None:
        return number(value.mean)
    return f"{number(value.mean)} [{number(value.low)}, {number(value.high)}]"


def framed(identity: Identity) -> str:
    """How the input images were framed, as words behind their number; nothing for folders, framed as they are."""
    return "" if identity.posed is None else f" of {identity.settings.framing} framing"


def method_rows(summary: Summary, columns: Mapping[str, str]) -> tuple[tuple[str, ...], ...]:
    """Every method's means of some metrics."""
    return tuple(
        (meaning, *(with_interval(column, summary.metrics[method][column]) for column in columns))
        for method, meaning in METHODS.items()
    )


def method_table(summary: Summary) -> Table:
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
    return Table("Methods, all samples", ("method", *columns.values()), method_rows(summary, columns))


def metric_table(summary: Summary) -> Table:
    """Every metric of the model."""
    rows = []
    for name, value in summary.metrics.model:
        low_high = "" if value.low is None or value.high is None else f"[{number(value.low)}, {number(value.high)}]"
        mean, median = (absent(name) if v is None else number(v) for v in (value.mean, value.median))
        rows.append((METRICS[name], mean, low_high, median, str(value.n)))
    return Table("The model, all figures", ("figure", "mean", "95 % interval", "median", "samples"), tuple(rows))


def asset_table(assets: ByAssetMetric[Statistic]) -> Table:
    """Every metric of the exported assets."""
    rows = tuple(
        (ASSET_METRICS[name], with_interval(name, s), absent(name) if s.median is None else number(s.median), str(s.n))
        for name, s in assets
    )
    return Table("Exported assets", ("figure", "mean", "median", "samples"), rows)


def group_table(title: str, groups: Mapping[str, Summary]) -> Table:
    """The model's main metrics of each category or object, beside what copying gets."""
    columns = (("iou", "IoU"), ("motion_error_ratio", "motion error"), ("type_correct", "type"))
    columns += (("axis_error_deg", "axis (deg)"), ("psnr", "PSNR"), ("psnr_moved", "PSNR, moved"))
    rows = [
        (
            name,
            str(group.samples),
            *(with_interval(column, group.metrics.model[column]) for column, _ in columns),
            with_interval("psnr_moved", group.metrics.copy.psnr_moved),
        )
        for name, group in groups.items()
    ]
    return Table(title, ("", "samples", *(head for _, head in columns), "copy: PSNR, moved"), tuple(rows))


def partdrag_table(samples: Sequence[SampleRow]) -> Table:
    """Procedural samples by the PartDrag-4D category that their generator builds for; the others together."""
    category_of = {generator: category for category, generators in GENERATORS.items() for generator in generators}
    groups = summarise_by(samples, lambda row: category_of.get(row.label.category, OTHER))
    ordered = {name: groups[name] for name in (*sorted(GENERATORS), OTHER) if name in groups}
    return group_table("PartDrag-4D categories", ordered)


def report_tables(results: Results) -> list[Table]:
    """All tables of one evaluation; objects only where they have several samples."""
    tables = [method_table(results.all), metric_table(results.all)]
    if results.all.asset is not None:
        tables.append(asset_table(results.all.asset))
    if results.identity.data.name == "procedural":
        tables.append(partdrag_table(results.samples))
    tables.append(group_table("Categories", results.categories))
    if len(results.objects) < results.all.samples:
        tables.append(group_table("Objects", results.objects))
    return tables


def grid_table(cells: Sequence[Results]) -> Table:
    """One line for each setting and method of a grid of evaluations of the same set."""
    columns = {"iou": "IoU", "motion_error_ratio": "motion error", "psnr": "PSNR", "psnr_moved": "PSNR, moved"}
    columns |= {"ssim": "SSIM", "lpips": "LPIPS"}
    rows = []
    for cell in cells:
        settings = cell.identity.settings
        head = (str(settings.views), str(settings.drags), str(cell.all.samples))
        rows += [(name, *head, *row[1:]) for name, row in zip(METHODS, method_rows(cell.all, columns), strict=True)]
    return Table("Input views and drags", ("method", "views", "drags", "samples", *columns.values()), tuple(rows))
