"""Results for the documentation: the page of each evaluation and one Markdown table of all, small enough to commit."""

import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from partrm.errors import PartRMError
from partrm.evaluation.compare import load_results
from partrm.evaluation.scoring import METHODS
from partrm.evaluation.tables import Table, framed, group_table, with_interval
from partrm.files import staged_folder

MAX_BYTES = 3_000_000
"""Of all that is published."""

COLUMNS = {
    "iou": "IoU",
    "motion_error_ratio": "motion error",
    "type_correct": "joint type",
    "axis_error_deg": "axis (deg)",
    "drag_error_px": "drag (px of 256)",
    "psnr": "PSNR (dB)",
    "psnr_moved": "PSNR, moved (dB)",
    "ssim": "SSIM",
    "lpips": "LPIPS",
}


class PublishError(PartRMError):
    """Results that cannot be published; the message says why."""


def publish(results: Sequence[Path], docs: Path) -> list[Path]:
    """Copy the page of each evaluation to ``docs/NAME.html`` and write ``docs/README.md`` with a table of all.

    Args:
        results: folders that ``partrm eval`` wrote; each gives its own name to its page.
        docs: made if missing; other files in it stay.

    Returns:
        the files written.

    Raises:
        CompareError: a folder without ``metrics.json``.
        PublishError: two folders of one name, a missing page, or more than :data:`MAX_BYTES`.
        OutputError: the folder cannot be written.
    """
    if len({folder.name for folder in results}) < len(results):
        raise PublishError("two of the folders have one name, and so would their pages")
    contents = {folder.name: load_results(folder) for folder in results}
    pages = {folder.name: folder / "report.html" for folder in results}
    missing = [str(path) for path in pages.values() if not path.is_file()]
    if missing:
        raise PublishError(f"{missing[0]}: the page is missing; evaluate again")
    text = index(contents)
    size = sum(path.stat().st_size for path in pages.values()) + len(text.encode())
    if size > MAX_BYTES:
        raise PublishError(f"{size} bytes are more than {MAX_BYTES}: publish fewer evaluations")
    with staged_folder(docs) as folder:
        for name, path in pages.items():
            shutil.copyfile(path, folder / f"{name}.html")
        (folder / "README.md").write_text(text, encoding="utf-8")
    return [docs / "README.md", *(docs / f"{name}.html" for name in pages)]


def index(contents: Mapping[str, Mapping[str, Any]]) -> str:
    """The Markdown file: what was evaluated, every method on every set, and the model in each category."""
    lines = [
        "# Evaluation of the bundled model",
        "",
        "Means with 95 % bootstrap intervals over objects; [evaluation.md](../evaluation.md) says what is measured.",
        "The pages show categories, the spread of the errors, and the best, median and worst samples in pictures.",
        "",
    ]
    for name, content in contents.items():
        lines += section(name, content)
    return "\n".join(lines).rstrip() + "\n"


def section(name: str, content: Mapping[str, Any]) -> list[str]:
    """One evaluation."""
    data, model, settings, code = (content[key] for key in ("data", "model", "settings", "code"))
    whole = content["summary"]["all"]
    rows = [
        (meaning, *(with_interval(column, whole[method][column]) for column in COLUMNS))
        for method, meaning in METHODS.items()
    ]
    described = (
        f"{whole['samples']} samples of {data['objects']} objects, {settings['views']} input view(s){framed(content)}, "
        f"{settings['drags']} drag(s), {settings['device']}; model `{model['name']}` {model['hash']}, data "
        f"{data['checksum']} ({data['protocol']}), partrm {code['version']}, source {code['source']}. "
        f"[Page]({name}.html)"
    )
    categories = group_table(f"{name}: categories", content["summary"]["categories"])
    return [*Table(name, ("method", *COLUMNS.values()), tuple(rows)).markdown(), described, "", *categories.markdown()]
