"""Rows of ``benchmarks/reference.py`` as Markdown and JSON, written after each, so that a run cut short is not lost."""

import gc
import json
import time
import traceback
from collections.abc import Callable
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import torch

FORWARD, LOOPED_FORWARD = "forward, one sample", "forward, one sample, plain loops"
GRAPHED_TRAINING = "training step, network as CUDA graphs"
TO_RENDERS, TRAINING = "images on the host to renders", "training step"
LOOPED_TRAINING = "training step, plain loops"


@dataclass(frozen=True)
class Row:
    """One measurement."""

    name: str
    milliseconds: float
    """Median."""
    teraflop: float = 0.0
    """Matrix arithmetic of one run, as counted or estimated; 0 when not."""
    peak_gib: float = 0.0
    """Most memory allocated."""
    note: str = ""


@dataclass
class Report:
    """Rows so far, written after each of them."""

    out: Path | None
    """Markdown file; a .json of the same name beside it holds the figures."""
    facts: dict[str, Any]
    """Where and what; "matrix peak, TFLOP/s" among them."""
    rows: list[Row] = field(default_factory=list)
    failures: list[str] = field(default_factory=list)
    tables: dict[str, dict[str, float]] = field(default_factory=dict)

    def measure(self, name: str, work: Callable[[], Row | None]) -> None:
        """Run one measurement; a failure is printed and kept, and does not end the others."""
        started = time.perf_counter()
        try:
            row = work()
        except Exception as error:
            traceback.print_exc()
            self.failures.append(f"{name}: {type(error).__name__} {str(error).splitlines()[0]}")
        else:
            if row is not None:
                self.rows.append(replace(row, name=name))
                print(f"{name}: {row.milliseconds:.2f} ms, {row.peak_gib:.1f} GiB ({row.note})", flush=True)
        print(f"  [{time.perf_counter() - started:.0f} s]", flush=True)
        gc.collect()
        if torch.cuda.is_available():
            torch.cuda.empty_cache()
        self.write()

    def take(self, path: Path, what: str) -> None:
        """Rows and failures that another process wrote; ``what`` names it."""
        if not path.is_file():
            self.failures.append(f"{what}: its process wrote nothing")
            return
        content = json.loads(path.read_text(encoding="utf-8"))
        self.rows += [Row(**row) for row in content["rows"]]
        self.failures += content["failures"]
        self.write()

    def write(self) -> None:
        """Write what there is."""
        if self.out is None:
            return
        self.out.parent.mkdir(parents=True, exist_ok=True)
        self.out.write_text(self.markdown(), encoding="utf-8")
        content = {"facts": self.facts, "rows": [asdict(row) for row in self.rows], "tables": self.tables}
        content |= {"failures": self.failures}
        self.out.with_suffix(".json").write_text(json.dumps(content, indent=1, default=str), encoding="utf-8")

    def markdown(self) -> str:
        """The tables."""
        lines = [f"- {name}: {value}" for name, value in self.facts.items()]
        lines += ["", "| what | median | of the matrix peak | memory | |", "| --- | --: | --: | --: | --- |"]
        for row in self.rows:
            share = row.teraflop / (row.milliseconds * 1e-3) / self.facts["matrix peak, TFLOP/s"]
            arithmetic = f"{share:.0%} ({row.teraflop:.2f} TFLOP)" if row.teraflop else ""
            lines.append(
                f"| {row.name} | {row.milliseconds:.2f} ms | {arithmetic} | {row.peak_gib:.1f} GiB | {row.note} |"
            )
        lines += [f"| {name} | failed | | | {why} |" for name, _, why in (f.partition(": ") for f in self.failures)]
        lines += [""]
        lines += [f"- ratio, {name}: {value:.1f}" for name, value in self.ratios().items()]
        for name, table in self.tables.items():
            lines += ["", f"| {name} | ms | |", "| --- | --: | --: |"]
            total = sum(table.values())
            lines += [f"| {kind} | {ms:.2f} | {ms / total:.0%} |" for kind, ms in table.items()]
        return "\n".join(lines) + "\n"

    def ratios(self) -> dict[str, float]:
        """Baseline over ours."""
        times = {row.name: row.milliseconds for row in self.rows}
        pairs = {"forward": (FORWARD, LOOPED_FORWARD), "training step": (TRAINING, LOOPED_TRAINING)}
        return {n: times[slow] / times[fast] for n, (fast, slow) in pairs.items() if {fast, slow} <= set(times)}
