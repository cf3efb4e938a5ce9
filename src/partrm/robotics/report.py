"""What robots opened, as files: figures with intervals as JSON, tables as Markdown."""

import json
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any, Protocol, TypeVar, runtime_checkable

from partrm.evaluation.report import git_commit
from partrm.evaluation.results import COVERAGE, MAX_NUMBER, RESAMPLES, Identity, Statistic, made
from partrm.evaluation.samples import SampleLabel
from partrm.evaluation.scoring import summarise_values
from partrm.evaluation.session import ROWS, CompleteRows, Listener
from partrm.evaluation.tables import Table, with_interval
from partrm.files import staged_folder

SUCCESS_SHARES = (0.9, 0.75, 0.5)
"""A pull succeeds that opens so much of the remaining range."""


@runtime_checkable
class Pull(Protocol):
    """How far one guide got."""

    @property
    def opened(self) -> float:
        """Share of the remaining range."""
        ...

    @property
    def left(self) -> float:
        """Share of it that is left."""
        ...


@runtime_checkable
class PulledRow(Protocol):
    """One sample: what each guide opened."""

    @property
    def label(self) -> SampleLabel: ...
    @property
    def pulls(self) -> Mapping[str, Pull]: ...
    def to_json(self) -> dict[str, Any]: ...


@runtime_checkable
class RobotIdentity(Protocol):
    """What the rows depend on."""

    @property
    def evaluation(self) -> Identity: ...
    def to_json(self) -> dict[str, Any]: ...


AnyPulled = TypeVar("AnyPulled", bound=PulledRow)
Result = TypeVar("Result")


def row_json(label: SampleLabel, span: float, pulls: Mapping[str, Any]) -> dict[str, Any]:
    """A sample's row as both evaluations of robots write it; ``pulls`` are dataclasses with ``left``."""
    known = {name: value for name, value in asdict(label).items() if value is not None}
    return known | {"span": span, "pulls": {name: asdict(p) | {"left": p.left} for name, p in pulls.items()}}


def row_values(
    row: dict[str, Any], kind: Callable[..., Result], names: Collection[str]
) -> tuple[SampleLabel, float, dict[str, Result]]:
    """Label, span and pulls of a row that :func:`row_json` made.

    Args:
        row: of a file.
        kind: the dataclass of a pull.
        names: of the pulls.

    Raises:
        KeyError, TypeError: a value is missing, or of another type.
    """
    label, span = made(SampleLabel, {f.name: row[f.name] for f in fields(SampleLabel) if f.name in row}), row["span"]
    if type(span) not in (int, float) or not abs(span) < MAX_NUMBER:
        raise TypeError(f"span {str(span)[:60]!r}")
    values = [f.name for f in fields(kind)]  # pyright: ignore[reportArgumentType]
    return label, float(span), {name: made(kind, {v: row["pulls"][name][v] for v in values}) for name in names}


def files_of(stem: str) -> tuple[str, str]:
    """Names of the files that :func:`save_rows` writes."""
    return f"{stem}.json", f"{stem}.md"


def save_rows(
    done: CompleteRows[Any, Any],
    guides: Mapping[str, str],
    out: Path,
    stem: str,
    listener: Listener,
    more: Callable[[Sequence[Any]], Sequence[Table]] = lambda rows: (),
) -> None:
    """Write ``STEM.json`` and ``STEM.md`` into ``out``, and say what each guide opened.

    Args:
        done: every row.
        guides: their keys and names.
        out: the folder, in which the rows of the run under way then go.
        stem: of both files.
        listener: is told.
        more: tables of the rows beside those of guides and groups.

    Raises:
        OutputError: the folder cannot be written.
    """
    tables = [*guide_tables(done.rows, guides), *more(done.rows)]
    results, report = files_of(stem)
    with staged_folder(out) as folder:
        content = json.dumps(results_json(done.identity, done.rows, guides), indent=1, allow_nan=False)
        (folder / results).write_text(content + "\n", encoding="utf-8")
        (folder / report).write_text(report_text(stem, done.identity, tables, done.seconds), encoding="utf-8")
    (out / ROWS).unlink()
    for guide, name in guides.items():
        share = success(done.rows, guide, SUCCESS_SHARES[0])
        listener.say(f"{name}: {with_interval('success', share)} opened to {SUCCESS_SHARES[0]:.0%}")
    listener.say(f"report: {out / report}, {out / results}")


def success(rows: Sequence[PulledRow], guide: str, share: float) -> Statistic:
    """Share of the samples that a guide opens so far, with its interval over objects."""
    return over_rows(rows, lambda row: float(row.pulls[guide].opened >= share))


def over_rows(rows: Sequence[PulledRow], value: Callable[[PulledRow], float]) -> Statistic:
    """A value's statistic over some rows."""
    return summarise_values([value(row) for row in rows], [row.label.object for row in rows])


def statistics_of(rows: Sequence[PulledRow], guide: str) -> dict[str, Statistic]:
    """Success at every share, and the mean share of the range that is left."""
    named = {f"success_{round(100 * share)}": success(rows, guide, share) for share in SUCCESS_SHARES}
    return named | {"left": over_rows(rows, lambda row: row.pulls[guide].left)}


def groups_of(rows: Sequence[AnyPulled]) -> dict[str, list[AnyPulled]]:
    """All samples, those of each joint type, those of each category."""
    groups: dict[str, list[AnyPulled]] = {"all": list(rows)}
    for key in (lambda row: str(row.label.joint_type), lambda row: row.label.category):
        for name in sorted({key(row) for row in rows}):
            groups[name] = [row for row in rows if key(row) == name]
    return groups


def results_json(identity: RobotIdentity, rows: Sequence[PulledRow], guides: Mapping[str, str]) -> dict[str, Any]:
    """The content of the JSON: metres, radians, seconds."""
    head = identity.to_json()
    summary = {
        group: {"samples": len(some)}
        | {guide: {name: asdict(s) for name, s in statistics_of(some, guide).items()} for guide in guides}
        for group, some in groups_of(rows).items()
    }
    return head | {
        "code": head["code"] | {"commit": git_commit()},
        "guides": dict(guides),
        "intervals": {"coverage": COVERAGE, "resamples": RESAMPLES, "drawn": "objects"},
        "summary": summary,
        "samples": [row.to_json() for row in rows],
    }


def guide_tables(rows: Sequence[PulledRow], guides: Mapping[str, str]) -> list[Table]:
    """Every guide, and every group of samples."""
    shares = [f"opened ≥ {share:.0%}" for share in SUCCESS_SHARES]
    of_guides = [
        (name, *(with_interval(column, value) for column, value in statistics_of(rows, guide).items()))
        for guide, name in guides.items()
    ]
    of_groups = [
        (name, str(len(some)), *(with_interval(guide, success(some, guide, SUCCESS_SHARES[0])) for guide in guides))
        for name, some in groups_of(rows).items()
    ]
    return [
        Table("Guides, all samples", ("guide", *shares, "range left"), tuple(of_guides)),
        Table(f"Opened ≥ {SUCCESS_SHARES[0]:.0%}", ("", "samples", *guides.values()), tuple(of_groups)),
    ]


def report_text(stem: str, identity: RobotIdentity, tables: Sequence[Table], seconds: float) -> str:
    """The report as Markdown."""
    known = identity.evaluation
    head = (
        f"Model {known.model.name} ({known.model.hash}), partrm {known.code.version} (source {known.code.source}), "
        f"{known.where}, {known.settings.views} view(s), {known.settings.drags} drag(s), {known.settings.framing} "
        f"framing, data checksum {known.data.checksum}, {seconds:.0f} s."
    )
    lines = [f"# {stem.capitalize()} on `{known.data.name}`", "", head, ""]
    lines += ["Means, with 95 % bootstrap intervals over objects.", ""]
    for table in tables:
        lines += table.markdown()
    return "\n".join(lines)
