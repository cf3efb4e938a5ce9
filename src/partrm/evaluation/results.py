"""The results of an evaluation as values, and ``metrics.json``, which holds them.

The file has the schema ``partrm.metrics/3`` (``metrics.schema.json``). Its word for the framing that is called
``mask-box`` here and on the command line is ``outline``: it is translated where files are written and read, so that the
schema stays the same, files of both times are equal to the byte, and each can be compared with the other.
"""

import json
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from types import UnionType
from typing import (
    Any,
    Generic,
    Literal,
    Protocol,
    TypeVar,
    Union,
    get_args,
    get_origin,
    get_type_hints,
    runtime_checkable,
)

from partrm.errors import PartRMError
from partrm.evaluation.samples import InputFraming, PosedSettings, RunSettings, SampleLabel
from partrm.files import read_json

SCHEMA = "partrm.metrics/3"

RESAMPLES = 1000
"""Bootstrap resamples of a mean."""

COVERAGE = 0.95
"""Of the intervals."""

FRAMING_IN_FILE: dict[InputFraming, str] = {"canonical": "canonical", "mask-box": "outline"}
"""Words of the file."""

MAX_NUMBER = 1e300
"""Of what a file may hold; sums of such stay finite."""

T = TypeVar("T")
S = TypeVar("S")


class ResultsError(PartRMError):
    """Results that cannot be read or compared; the message says why."""


def made(kind: Callable[..., S], values: dict[str, Any]) -> S:
    """A record of a file's values, if they have its types.

    Raises:
        TypeError: they have others, or are of other names.
    """
    hints = get_type_hints(kind)
    for name, value in values.items():
        if name in hints and not _is(value, hints[name]):
            raise TypeError(f"{name} {str(value)[:60]!r}")
    return kind(**values)


def _is(value: Any, kind: Any) -> bool:
    """Whether a value has a type of a record; whole numbers are numbers, truth values and endless ones are not."""
    if get_origin(kind) in (Union, UnionType):
        return any(_is(value, one) for one in get_args(kind))
    if get_origin(kind) is Literal:
        return value in get_args(kind)
    if get_origin(kind) is tuple:
        return isinstance(value, tuple) and all(_is(item, get_args(kind)[0]) for item in value)
    if kind is float:
        return type(value) in (int, float) and abs(value) < MAX_NUMBER
    return type(value) is kind


def _value(values: dict[str, Any], name: str) -> float | None:
    """A metric of a file.

    Raises:
        TypeError: it is no number.
    """
    value = values[name]
    if value is not None and not _is(value, float):
        raise TypeError(f"{name} {str(value)[:60]!r}")
    return value


@runtime_checkable
class Row(Protocol):
    """One sample, of whatever an evaluation measures."""

    @property
    def label(self) -> SampleLabel:
        """Which it is."""
        ...

    def to_json(self) -> dict[str, Any]: ...


@dataclass(frozen=True)
class _Named(Generic[T]):
    """One value for each of the fields."""

    def __getitem__(self, name: str) -> T:
        return getattr(self, name)

    def __iter__(self) -> Iterator[tuple[str, T]]:
        """Names and values."""
        return ((f.name, getattr(self, f.name)) for f in fields(self))


@dataclass(frozen=True)
class ByMetric(_Named[T]):
    """One value for each metric."""

    iou: T = field(metadata={"meaning": "IoU of the moving part, view 0"})
    motion_error_ratio: T = field(metadata={"meaning": "error of the moved points / error of not moving"})
    type_correct: T = field(metadata={"meaning": "joint type right"})
    axis_error_deg: T = field(metadata={"meaning": "joint axis error (degrees, all samples)"})
    pivot_distance: T = field(metadata={"meaning": "distance of the axes (object diagonals, where both turn)"})
    amount_error_rad: T = field(metadata={"meaning": "error of the amount (radians, where both turn)"})
    amount_error_units: T = field(metadata={"meaning": "error of the amount (object diagonals, where both slide)"})
    drag_error_px: T = field(metadata={"meaning": "drag error (px of a 256 px image)"})
    confidence: T = field(metadata={"meaning": "confidence of the joint"})
    psnr: T = field(metadata={"meaning": "PSNR, views around (dB)"})
    psnr_moved: T = field(metadata={"meaning": "PSNR on the moved part's pixels (dB)"})
    ssim: T = field(metadata={"meaning": "SSIM, views around"})
    lpips: T = field(metadata={"meaning": "LPIPS (VGG), views around"})

    @staticmethod
    def each(value: Callable[[str], S]) -> "ByMetric[S]":
        """The value of each metric, from its name."""
        return ByMetric(**{name: value(name) for name in METRICS})


METRICS: dict[str, str] = {f.name: f.metadata["meaning"] for f in fields(ByMetric)}
"""Metrics, and what they are."""

SampleMetrics = ByMetric[float | None]
"""Of one answer to one sample; None where a metric has no meaning, no truth, or nothing that computes it."""


@dataclass(frozen=True)
class ByAssetMetric(_Named[T]):
    """One value for each metric of an exported asset."""

    exported: T = field(metadata={"meaning": "exported"})
    outside_chamfer: T = field(metadata={"meaning": "outside: chamfer (object diagonals)"})
    outside_f05: T = field(metadata={"meaning": "outside: F@.05"})
    outside_f02: T = field(metadata={"meaning": "outside: F@.02"})
    body_chamfer: T = field(metadata={"meaning": "what stays: chamfer (object diagonals)"})
    body_f05: T = field(metadata={"meaning": "what stays: F@.05"})
    body_f02: T = field(metadata={"meaning": "what stays: F@.02"})
    part_chamfer: T = field(metadata={"meaning": "moving part: chamfer (object diagonals)"})
    part_f05: T = field(metadata={"meaning": "moving part: F@.05"})
    part_f02: T = field(metadata={"meaning": "moving part: F@.02"})
    type_correct: T = field(metadata={"meaning": "joint type right"})
    axis_error_rad: T = field(metadata={"meaning": "joint axis error (radians, all samples)"})
    pivot_distance: T = field(metadata={"meaning": "distance of the axes (object diagonals, where both turn)"})
    up_error_deg: T = field(metadata={"meaning": "error of the asset's up (degrees)"})
    export_s: T = field(metadata={"meaning": "seconds to export"})

    @staticmethod
    def each(value: Callable[[str], S]) -> "ByAssetMetric[S]":
        """The value of each metric, from its name."""
        return ByAssetMetric(**{name: value(name) for name in ASSET_METRICS})


ASSET_METRICS: dict[str, str] = {f.name: f.metadata["meaning"] for f in fields(ByAssetMetric)}
"""Metrics of assets, and what they are; joints in the measures of MonoArt."""

AssetMetrics = ByAssetMetric[float | None]
"""Of the asset of one sample; None where there is none, or a metric has no meaning."""


@dataclass(frozen=True)
class ByMethod(_Named[T]):
    """One value for each of those who answer."""

    model: T = field(metadata={"meaning": "the model"})
    copy: T = field(metadata={"meaning": "copy of the source's true views"})
    no_motion: T = field(metadata={"meaning": "no motion: the model's reconstruction, unmoved"})
    oracle_motion: T = field(metadata={"meaning": "oracle motion: true part and true motion on the model's Gaussians"})
    oracle_geometry: T = field(
        metadata={"meaning": "oracle geometry: true surface Gaussians (not fitted to images) with true motion"}
    )

    @staticmethod
    def each(value: Callable[[str], S]) -> "ByMethod[S]":
        """The value of each method, from its name."""
        return ByMethod(**{name: value(name) for name in METHODS})


METHODS: dict[str, str] = {f.name: f.metadata["meaning"] for f in fields(ByMethod)}
"""Those who answer, and what they do; all but the model are ``baselines`` in the file."""


@dataclass(frozen=True)
class SampleRow:
    """One sample."""

    label: SampleLabel
    """Which it is."""
    metrics: ByMethod[SampleMetrics]
    asset: AssetMetrics | None = None
    """None where assets are not asked for."""

    def to_json(self) -> dict[str, Any]:
        """The row of ``metrics.json``: what the sample is, the model's metrics, the baselines'."""
        known = {name: value for name, value in asdict(self.label).items() if value is not None}
        baselines = {name: asdict(metrics) for name, metrics in self.metrics if name != "model"}
        row = known | asdict(self.metrics.model) | {"baselines": baselines}
        return row if self.asset is None else row | {"asset": asdict(self.asset)}

    @staticmethod
    def from_json(row: dict[str, Any]) -> "SampleRow":
        """The row that :meth:`to_json` wrote."""
        label = made(SampleLabel, {f.name: row[f.name] for f in fields(SampleLabel) if f.name in row})
        of = row["baselines"] | {"model": row}
        asset = ByAssetMetric.each(lambda name: _value(row["asset"], name)) if "asset" in row else None
        metrics = ByMethod.each(lambda method: ByMetric.each(lambda name: _value(of[method], name)))
        return SampleRow(label, metrics, asset)


@dataclass(frozen=True)
class Statistic:
    """A metric over some samples."""

    mean: float | None
    low: float | None
    """The mean's bootstrap interval begins here; None for a single value."""
    high: float | None
    """It ends here."""
    median: float | None
    n: int
    """Samples that have a value; without any the others are None."""


@dataclass(frozen=True)
class Summary:
    """Every metric of every method over some samples."""

    samples: int
    metrics: ByMethod[ByMetric[Statistic]]
    asset: ByAssetMetric[Statistic] | None = None
    """None where assets are not asked for."""

    def to_json(self) -> dict[str, Any]:
        """As ``metrics.json`` has it."""
        summary = {"samples": self.samples} | asdict(self.metrics)
        return summary if self.asset is None else summary | {"asset": asdict(self.asset)}

    @staticmethod
    def from_json(content: dict[str, Any]) -> "Summary":
        """The summary that :meth:`to_json` wrote."""

        def metrics_of(method: str) -> ByMetric[Statistic]:
            return ByMetric.each(lambda metric: made(Statistic, content[method][metric]))

        known = content.get("asset")
        asset = None if known is None else ByAssetMetric.each(lambda metric: made(Statistic, known[metric]))
        return Summary(content["samples"], ByMethod.each(metrics_of), asset)


@dataclass(frozen=True)
class CodeVersion:
    """What code made the metrics."""

    version: str
    """Of the package."""
    source: str
    """First 16 hex digits of the SHA-256 over the package's modules."""


@dataclass(frozen=True)
class DataIdentity:
    """Which samples."""

    name: str
    protocol: str
    checksum: str
    seed: int
    samples_in_set: int
    objects: int
    dropped: tuple[str, ...]
    """Candidates left out, with the reason."""


@dataclass(frozen=True)
class ModelIdentity:
    """Which weights."""

    name: str
    hash: str


@dataclass(frozen=True)
class LpipsIdentity:
    """Which network compares images."""

    net: str
    hash: str


@dataclass(frozen=True)
class Identity:
    """What the metrics of a sample depend on: two evaluations of the same identity have the same rows."""

    code: CodeVersion
    data: DataIdentity
    model: ModelIdentity
    lpips: LpipsIdentity | None
    """None where it was not computed."""
    settings: RunSettings
    posed: PosedSettings | None
    """None for files, whose views are their own."""
    device: str
    """``cpu`` or ``cuda``."""

    @property
    def where(self) -> str:
        """What the network ran on, in words."""
        return self.device if self.settings.precision == "float32" else f"{self.device} in {self.settings.precision}"

    def to_json(self) -> dict[str, Any]:
        """The first line of rows that are kept, and the head of ``metrics.json`` but for the commit."""
        settings = asdict(self.settings)
        if not self.settings.assets:
            del settings["assets"]  # files without assets stay as they were before there were any
        if self.settings.precision == "float32":
            del settings["precision"]  # likewise
        framing = FRAMING_IN_FILE[settings.pop("framing")]
        if self.posed is not None:
            settings |= asdict(self.posed) | {"framing": framing}
        return {
            "schema": SCHEMA,
            "code": asdict(self.code),
            "data": asdict(self.data) | {"dropped": list(self.data.dropped)},
            "model": asdict(self.model),
            "lpips": None if self.lpips is None else asdict(self.lpips),
            "settings": settings | {"device": self.device},
        }

    @staticmethod
    def from_json(content: dict[str, Any]) -> "Identity":
        """The identity that :meth:`to_json` wrote; without a framing, as before there was one, it is canonical."""
        data, lpips, settings = content["data"], content["lpips"], dict(content["settings"])
        device, framing = settings.pop("device"), settings.pop("framing", "canonical")
        words: dict[str, InputFraming] = {written: word for word, written in FRAMING_IN_FILE.items()}
        posed = {f.name: settings.pop(f.name) for f in fields(PosedSettings) if f.name in settings}
        return Identity(
            made(CodeVersion, {name: content["code"][name] for name in ("version", "source")}),
            made(DataIdentity, data | {"dropped": tuple(data["dropped"])}),
            made(ModelIdentity, content["model"]),
            None if lpips is None else made(LpipsIdentity, lpips),
            made(RunSettings, settings | {"framing": words[framing]}),
            made(PosedSettings, posed) if posed else None,
            device,
        )


@dataclass(frozen=True)
class Results:
    """A whole evaluation."""

    identity: Identity
    commit: str | None
    """Of the checkout that the package ran from."""
    all: Summary
    categories: dict[str, Summary]
    objects: dict[str, Summary]
    samples: tuple[SampleRow, ...]

    def to_json(self) -> dict[str, Any]:
        """The content of ``metrics.json``: lengths in object diagonals, undefined metrics as null."""
        head = self.identity.to_json()
        of_assets = {} if self.all.asset is None else {"asset_metrics": ASSET_METRICS}
        return head | {
            "code": head["code"] | {"commit": self.commit},
            "metrics": METRICS,
            **of_assets,
            "methods": METHODS,
            "intervals": {"coverage": COVERAGE, "resamples": RESAMPLES, "drawn": "objects"},
            "summary": {
                "all": self.all.to_json(),
                "categories": {name: summary.to_json() for name, summary in self.categories.items()},
                "objects": {name: summary.to_json() for name, summary in self.objects.items()},
            },
            "samples": [row.to_json() for row in self.samples],
        }

    @staticmethod
    def from_json(content: dict[str, Any]) -> "Results":
        """The results that :meth:`to_json` wrote."""
        summary = content["summary"]
        categories, objects = (
            {name: Summary.from_json(group) for name, group in summary[key].items()}
            for key in ("categories", "objects")
        )
        return Results(
            Identity.from_json(content),
            content["code"]["commit"],
            Summary.from_json(summary["all"]),
            categories,
            objects,
            tuple(SampleRow.from_json(row) for row in content["samples"]),
        )

    def text(self) -> str:
        """The whole file."""
        return json.dumps(self.to_json(), indent=1, allow_nan=False) + "\n"


def load_results(path: Path) -> Results:
    """Read a ``metrics.json`` (or the one in a folder).

    Raises:
        ResultsError: not such a file.
    """
    path = path / "metrics.json" if path.is_dir() else path
    try:
        content = read_json(path)
    except (OSError, ValueError) as error:
        raise ResultsError(f"{path}: cannot be read as metrics.json ({error})") from error
    schema = content.get("schema") if isinstance(content, dict) else None
    if schema != SCHEMA:
        raise ResultsError(f"{path}: schema {schema!r}, needed is {SCHEMA!r}; evaluate again")
    try:
        return Results.from_json(content)
    except (KeyError, TypeError, AttributeError, ValueError, IndexError, OverflowError) as error:
        raise ResultsError(f"{path}: not what the schema {SCHEMA} holds ({error!r}); evaluate again") from error
