"""The results of an evaluation on disk: ``metrics.json``, ``report.md``, ``report.html``, ``contact_sheet.png``."""

import json
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from PIL import Image

from partrm.evaluation.eval_set import EvalSet
from partrm.evaluation.folder_sets import FolderSet
from partrm.evaluation.html_report import page
from partrm.evaluation.mesh_samples import NOVEL_ELEVATION_DEG, NOVEL_VIEWS
from partrm.evaluation.pictures import QualitativeExample, contact_sheet
from partrm.evaluation.provenance import code_version, git_commit
from partrm.evaluation.samples import RunSettings
from partrm.evaluation.scoring import COVERAGE, METHODS, METRICS, RESAMPLES, summarise, summarise_by
from partrm.evaluation.tables import framed, report_tables
from partrm.metrics.lpips import Lpips
from partrm.model.checkpoints import LoadedModel

SCHEMA = "partrm.metrics/3"
"""``metrics.schema.json`` says what a file of this schema holds."""


def identity(
    evalset: EvalSet | FolderSet, model: LoadedModel, settings: RunSettings, lpips: Lpips | None, device_type: str
) -> dict[str, Any]:
    """What the figures of a sample depend on: two evaluations of the same identity have the same rows."""
    varied, posed = asdict(settings), {"novel_views": NOVEL_VIEWS, "novel_elevation_deg": NOVEL_ELEVATION_DEG}
    posed["framing"] = varied.pop("framing")
    return {
        "schema": SCHEMA,
        "code": code_version(),
        "data": {
            "name": evalset.name,
            "protocol": evalset.protocol,
            "checksum": evalset.checksum,
            "seed": evalset.seed,
            "samples_in_set": len(evalset),
            "objects": len(evalset.object_names),
            "dropped": list(evalset.dropped),
        },
        "model": {"name": model.name, "hash": model.hash},
        "lpips": None if lpips is None else {"net": lpips.net, "hash": lpips.hash},
        "settings": varied | (posed if isinstance(evalset, EvalSet) else {}) | {"device": device_type},
    }


def results(known: dict[str, Any], rows: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """The content of ``metrics.json``: lengths in object diagonals, undefined figures as null.

    Args:
        known: :func:`identity`.
    """
    return known | {
        "code": known["code"] | {"commit": git_commit()},
        "metrics": METRICS,
        "methods": METHODS,
        "intervals": {"coverage": COVERAGE, "resamples": RESAMPLES, "drawn": "objects"},
        "summary": {
            "all": summarise(rows),
            "categories": summarise_by(rows, "category"),
            "objects": summarise_by(rows, "object"),
        },
        "samples": list(rows),
    }


def save_results(content: dict[str, Any], cases: Sequence[QualitativeExample], seconds: float, folder: Path) -> None:
    """Write the four files into an existing folder."""
    text = json.dumps(content, indent=1, allow_nan=False)
    (folder / "metrics.json").write_text(text + "\n", encoding="utf-8")
    (folder / "report.md").write_text(markdown(content, seconds), encoding="utf-8")
    (folder / "report.html").write_text(page(content, cases, headline(content, seconds)), encoding="utf-8")
    Image.fromarray(contact_sheet(cases)).save(folder / "contact_sheet.png")


def headline(content: dict[str, Any], seconds: float) -> str:
    """What was evaluated, in a sentence."""
    data, model, settings = content["data"], content["model"], content["settings"]
    return (
        f"Model {model['name']} ({model['hash']}), partrm {content['code']['version']} (source "
        f"{content['code']['source']}), {settings['device']}, protocol {data['protocol']}, "
        f"{settings['views']} view(s){framed(content)}, {settings['drags']} drag(s), {len(content['samples'])} samples "
        f"of {data['objects']} objects, data checksum {data['checksum']}, {seconds:.0f} s."
    )


def markdown(content: dict[str, Any], seconds: float) -> str:
    """The report: what was evaluated, all methods, all figures, and the main ones of each category and object."""
    data = content["data"]
    lines = [f"# Evaluation on `{data['name']}`", "", headline(content, seconds), ""]
    lines += [f"Candidates left out: {len(data['dropped'])}" + ("." if not data["dropped"] else ":")]
    lines += [*[f"- {reason}" for reason in data["dropped"]], ""]
    lines += ["Means, with 95 % bootstrap intervals over objects.", ""]
    for table in report_tables(content):
        lines += table.markdown()
    return "\n".join([*lines, "![best, median and worst samples](contact_sheet.png)", ""])
