"""Two evaluations on the same samples: paired differences with bootstrap intervals."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from partrm.errors import PartRMError
from partrm.evaluation.report import SCHEMA
from partrm.evaluation.scoring import METRICS, bootstrap_interval
from partrm.evaluation.tables import Table, framed, number


class CompareError(PartRMError):
    """Evaluations that cannot be compared; the message says why."""


@dataclass(frozen=True)
class Difference:
    """One figure of two evaluations over the samples where both have it."""

    name: str
    """Column of :data:`partrm.evaluation.scoring.METRICS`."""
    first: float
    """Mean."""
    second: float
    """Mean."""
    low: float | None
    """Interval of the mean of second - first; None for a single sample."""
    high: float | None
    n: int
    """Samples."""

    @property
    def mean(self) -> float:
        """Of second - first."""
        return self.second - self.first

    @property
    def differs(self) -> bool:
        """Whether the interval leaves out zero."""
        return self.low is not None and self.high is not None and (self.low > 0 or self.high < 0)


def load_results(path: Path) -> dict[str, Any]:
    """Read a ``metrics.json`` (or the one in a folder).

    Raises:
        CompareError: not such a file.
    """
    path = path / "metrics.json" if path.is_dir() else path
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise CompareError(f"{path}: cannot be read as metrics.json ({error})") from error
    schema = content.get("schema") if isinstance(content, dict) else None
    if schema != SCHEMA:
        raise CompareError(f"{path}: schema {schema!r}, needed is {SCHEMA!r}; evaluate again")
    return content


def paired_differences(first: dict[str, Any], second: dict[str, Any]) -> list[Difference]:
    """Second minus first for every metric of the model, matched by sample.

    Raises:
        CompareError: the evaluations are of different data or protocols, or share no sample.
    """
    a, b = first["data"], second["data"]
    if a["checksum"] != b["checksum"]:
        raise CompareError(
            f"different data: {a['name']} {a['checksum']} ({a['samples_in_set']} samples) and {b['name']} "
            f"{b['checksum']} ({b['samples_in_set']} samples); compare evaluations of one set"
        )
    if a["protocol"] != b["protocol"]:
        raise CompareError(
            f"different protocols: {a['protocol']} and {b['protocol']}; their figures measure other things"
        )
    other = {row["sample"]: row for row in second["samples"]}
    pairs = [(row, other[row["sample"]]) for row in first["samples"] if row["sample"] in other]
    if not pairs:
        raise CompareError("the evaluations share no sample")
    found = []
    for name in METRICS:
        both = [(x[name], y[name], x["object"]) for x, y in pairs if x[name] is not None and y[name] is not None]
        if both:
            before, after, objects = (list(column) for column in zip(*both, strict=True))
            low, high = bootstrap_interval([y - x for x, y in zip(before, after, strict=True)], objects)
            n = len(both)
            found.append(Difference(name, sum(before) / n, sum(after) / n, low, high, n))
    return found


def comparison(first: dict[str, Any], second: dict[str, Any]) -> list[str]:
    """The comparison as Markdown lines."""
    differences = paired_differences(first, second)
    rows = []
    for d in differences:
        interval = "" if d.low is None or d.high is None else f"[{number(d.low)}, {number(d.high)}]"
        next_action = "differs" if d.differs else "–"
        rows.append(
            (METRICS[d.name], number(d.first), number(d.second), number(d.mean), interval, next_action, str(d.n))
        )
    heads = ("figure", "A", "B", "B - A", "95 % interval", "", "samples")
    shared = {row["sample"] for row in first["samples"]} & {row["sample"] for row in second["samples"]}
    lines = ["# Comparison", ""]
    for letter, content in (("A", first), ("B", second)):
        model, settings = content["model"], content["settings"]
        left = len(content["samples"]) - len(shared)
        lines.append(
            f"- {letter}: model {model['name']} ({model['hash']}), {settings['views']} view(s){framed(content)}, "
            f"{settings['drags']} drag(s), source {content['code']['source']}, {len(content['samples'])} samples"
            + (f", {left} of them not in the other" if left else "")
        )
    lines += ["", f"Data {first['data']['name']}, checksum {first['data']['checksum']}; paired by sample.", ""]
    return [*lines, *Table("Paired differences", heads, tuple(rows)).markdown()]
