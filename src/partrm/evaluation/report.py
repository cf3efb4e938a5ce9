"""The results of an evaluation on disk, with the code that made them, and the comparison of two evaluations."""

import hashlib
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from importlib import resources
from pathlib import Path

from PIL import Image

from partrm import __version__
from partrm.evaluation.html_report import QualitativeExample, contact_sheet, page
from partrm.evaluation.results import (
    METRICS,
    CodeVersion,
    DataIdentity,
    Identity,
    LpipsIdentity,
    ModelIdentity,
    Results,
    ResultsError,
    SampleRow,
)
from partrm.evaluation.samples import EvaluationSet, RunSettings
from partrm.evaluation.scoring import bootstrap_interval, summarise, summarise_by
from partrm.evaluation.tables import Table, framed, number, report_tables
from partrm.metrics.lpips import Lpips
from partrm.model.checkpoints import LoadedModel

GIT_SECONDS = 10


def source_hash() -> str:
    """First 16 hex digits of the SHA-256 over names and lines of all of the package's modules, in order."""
    root = Path(str(resources.files("partrm")))
    digest = hashlib.sha256()
    for path in sorted(root.rglob("*.py")):
        text = path.read_text(encoding="utf-8").replace("\r\n", "\n")
        digest.update(f"{path.relative_to(root).as_posix()}\0{text}\0".encode())
    return digest.hexdigest()[:16]


def git_commit() -> str | None:
    """Commit of the checkout that the package runs from; None for an installed package, or without git."""
    root = Path(str(resources.files("partrm")))
    command = ["git", "-C", str(root), "ls-files", "--error-unmatch", "__init__.py"]
    try:
        if subprocess.run(command, capture_output=True, timeout=GIT_SECONDS, check=False).returncode:
            return None
        command = ["git", "-C", str(root), "rev-parse", "HEAD"]
        done = subprocess.run(command, capture_output=True, timeout=GIT_SECONDS, check=True, text=True)
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.strip()


def identify(
    evalset: EvaluationSet, model: LoadedModel, settings: RunSettings, lpips: Lpips | None, device_type: str
) -> Identity:
    """What the metrics of an evaluation's samples depend on.

    The commit does not belong to it, since it changes with files that are no code.
    """
    return Identity(
        code=CodeVersion(__version__, source_hash()),
        data=DataIdentity(
            name=evalset.name,
            protocol=evalset.protocol,
            checksum=evalset.checksum,
            seed=evalset.seed,
            samples_in_set=len(evalset),
            objects=len(evalset.object_names),
            dropped=evalset.dropped,
        ),
        model=ModelIdentity(model.name, model.hash),
        lpips=None if lpips is None else LpipsIdentity(lpips.net, lpips.hash),
        settings=settings,
        posed=evalset.posed_settings,
        device=device_type,
    )


def results_of(identity: Identity, rows: Sequence[SampleRow]) -> Results:
    """Rows with their summaries."""
    return Results(
        identity=identity,
        commit=git_commit(),
        all=summarise(rows),
        categories=summarise_by(rows, lambda row: row.label.category),
        objects=summarise_by(rows, lambda row: row.label.object),
        samples=tuple(rows),
    )


FILES = ("metrics.json", "report.md", "report.html", "contact_sheet.png")


def save_results(results: Results, examples: Sequence[QualitativeExample], seconds: float, folder: Path) -> None:
    """Write the four files into an existing folder."""
    (folder / "metrics.json").write_text(results.text(), encoding="utf-8")
    (folder / "report.md").write_text(markdown(results, seconds), encoding="utf-8")
    (folder / "report.html").write_text(page(results, examples, headline(results, seconds)), encoding="utf-8")
    Image.fromarray(contact_sheet(examples)).save(folder / "contact_sheet.png")


def headline(results: Results, seconds: float) -> str:
    """What was evaluated, in a sentence."""
    known = results.identity
    model, data, settings = known.model, known.data, known.settings
    return (
        f"Model {model.name} ({model.hash}), partrm {known.code.version} (source {known.code.source}), {known.where}, "
        f"protocol {data.protocol}, {settings.views} view(s){framed(known)}, {settings.drags} drag(s), "
        f"{len(results.samples)} samples of {data.objects} objects, data checksum {data.checksum}, {seconds:.0f} s."
    )


def markdown(results: Results, seconds: float) -> str:
    """The report: what was evaluated, all methods, all metrics, and the main ones of each category and object."""
    data = results.identity.data
    lines = [f"# Evaluation on `{data.name}`", "", headline(results, seconds), ""]
    lines += [f"Candidates left out: {len(data.dropped)}" + (":" if data.dropped else ".")]
    lines += [*[f"- {reason}" for reason in data.dropped], ""]
    lines += ["Means, with 95 % bootstrap intervals over objects.", ""]
    for table in report_tables(results):
        lines += table.markdown()
    return "\n".join([*lines, "![best, median and worst samples](contact_sheet.png)", ""])


@dataclass(frozen=True)
class Difference:
    """One metric of two evaluations over the samples where both have it."""

    name: str
    """Of :data:`partrm.evaluation.results.METRICS`."""
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


def paired_differences(first: Results, second: Results) -> list[Difference]:
    """Second minus first for every metric of the model, matched by sample.

    Raises:
        ResultsError: the evaluations are of different data or protocols, or share no sample.
    """
    a, b = first.identity.data, second.identity.data
    if a.checksum != b.checksum:
        raise ResultsError(
            f"different data: {a.name} {a.checksum} ({a.samples_in_set} samples) and {b.name} "
            f"{b.checksum} ({b.samples_in_set} samples); compare evaluations of one set"
        )
    if a.protocol != b.protocol:
        raise ResultsError(f"different protocols: {a.protocol} and {b.protocol}; their figures measure other things")
    other = {row.label.sample: row.metrics.model for row in second.samples}
    rows = [row for row in first.samples if row.label.sample in other]
    if not rows:
        raise ResultsError("the evaluations share no sample")
    found = []
    for name in METRICS:
        pairs = [(row.metrics.model[name], other[row.label.sample][name], row.label.object) for row in rows]
        both = [(x, y, of) for x, y, of in pairs if x is not None and y is not None]
        if both:
            low, high = bootstrap_interval([y - x for x, y, _ in both], [of for _, _, of in both])
            n = len(both)
            found.append(Difference(name, sum(x for x, _, _ in both) / n, sum(y for _, y, _ in both) / n, low, high, n))
    return found


def comparison(first: Results, second: Results) -> list[str]:
    """The comparison as Markdown lines."""
    rows = []
    for d in paired_differences(first, second):
        interval = "" if d.low is None or d.high is None else f"[{number(d.low)}, {number(d.high)}]"
        verdict = "differs" if d.differs else "–"
        rows.append((METRICS[d.name], number(d.first), number(d.second), number(d.mean), interval, verdict, str(d.n)))
    heads = ("figure", "A", "B", "B - A", "95 % interval", "", "samples")
    shared = {row.label.sample for row in first.samples} & {row.label.sample for row in second.samples}
    lines = ["# Comparison", ""]
    for letter, results in (("A", first), ("B", second)):
        known, settings = results.identity, results.identity.settings
        left = len(results.samples) - len(shared)
        lines.append(
            f"- {letter}: model {known.model.name} ({known.model.hash}), {known.where}, {settings.views} view(s)"
            f"{framed(known)}, {settings.drags} drag(s), source {known.code.source}, {len(results.samples)} samples"
            + (f", {left} of them not in the other" if left else "")
        )
    data = first.identity.data
    lines += ["", f"Data {data.name}, checksum {data.checksum}; paired by sample.", ""]
    return [*lines, *Table("Paired differences", heads, tuple(rows)).markdown()]
