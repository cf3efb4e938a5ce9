"""Results for the documentation: the page of each evaluation and one Markdown table of all, small enough to commit.

From the repository root, after ``partrm eval --out eval_procedural …`` and the like:
``python tools/docs/publish_report.py eval_procedural eval_real``. Writes ``docs/report``.
"""

import argparse
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path

from partrm.errors import PartRMError
from partrm.evaluation.results import Results, load_results
from partrm.evaluation.tables import Table, framed, group_table, method_rows
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
        ResultsError: a folder without ``metrics.json``.
        PublishError: two folders of one name, a missing page, or more than :data:`MAX_BYTES`.
        OutputError: the folder cannot be written.
    """
    if len({folder.name for folder in results}) < len(results):
        raise PublishError("two of the folders have one name, and so would their pages")
    read = {folder.name: load_results(folder) for folder in results}
    pages = {folder.name: folder / "report.html" for folder in results}
    missing = [str(path) for path in pages.values() if not path.is_file()]
    if missing:
        raise PublishError(f"{missing[0]}: the page is missing; evaluate again")
    text = index(read)
    size = sum(path.stat().st_size for path in pages.values()) + len(text.encode())
    if size > MAX_BYTES:
        raise PublishError(f"{size} bytes are more than {MAX_BYTES}: publish fewer evaluations")
    with staged_folder(docs) as folder:
        for name, path in pages.items():
            shutil.copyfile(path, folder / f"{name}.html")
        (folder / "README.md").write_text(text, encoding="utf-8")
    return [docs / "README.md", *(docs / f"{name}.html" for name in pages)]


def index(evaluations: Mapping[str, Results]) -> str:
    """The Markdown file: what was evaluated, every method on every set, and the model in each category."""
    lines = [
        "# Evaluation of the bundled model",
        "",
        "Means with 95 % bootstrap intervals over objects; [evaluation.md](../evaluation.md) says what is measured.",
        "The pages show categories, the spread of the errors, and the best, median and worst samples in pictures.",
        "",
    ]
    for name, results in evaluations.items():
        lines += section(name, results)
    return "\n".join(lines).rstrip() + "\n"


def section(name: str, results: Results) -> list[str]:
    """One evaluation."""
    known = results.identity
    data, model, settings, code = known.data, known.model, known.settings, known.code
    described = (
        f"{results.all.samples} samples of {data.objects} objects, {settings.views} input view(s){framed(known)}, "
        f"{settings.drags} drag(s), {known.device}; model `{model.name}` {model.hash}, data {data.checksum} "
        f"({data.protocol}), partrm {code.version}, source {code.source}. [Page]({name}.html)"
    )
    categories = group_table(f"{name}: categories", results.categories)
    table = Table(name, ("method", *COLUMNS.values()), method_rows(results.all, COLUMNS))
    return [*table.markdown(), described, "", *categories.markdown()]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("results", type=Path, nargs="+", help="folders that partrm eval wrote")
    parser.add_argument("--docs", type=Path, default=Path("docs/report"), help="folder for README.md and the pages")
    arguments = parser.parse_args()
    for path in publish(arguments.results, arguments.docs):
        print(f"{path}: {path.stat().st_size} bytes")


if __name__ == "__main__":
    main()
