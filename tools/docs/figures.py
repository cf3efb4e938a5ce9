"""Published figures: ``docs/figures.json`` holds each once, this fills them into the pages' marked places.

From the repository root:

    python tools/docs/figures.py                                   # fill README.md and docs/
    python tools/docs/figures.py --check                           # exit code 1 where a page is not up to date
    python tools/docs/figures.py --take real=eval_real --run "run 10" --hardware "NVIDIA H200" --date 2026-12-01

``--take`` reads the figures of a measurement from the ``metrics.json`` of ``partrm eval`` first. A place in a page is
``<!-- figures:NAME -->…<!-- /figures -->``: a table of TABLES, or one figure or fact as MEASUREMENT.FIGURE.
"""

import argparse
import json
import re
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from partrm.errors import PartRMError
from partrm.evaluation.results import Results, load_results
from partrm.files import atomic_write, read_json

ROOT = Path(__file__).parents[2]
FIGURES = Path("docs/figures.json")
PLACE = re.compile(r"<!-- figures:(?P<name>[\w.]+) -->(?P<old>.*?)<!-- /figures -->", re.DOTALL)
MARK = re.compile(r"<!-- /?figures\b")
FACTS = ("on", "run", "hardware", "date", "how")


class FiguresError(PartRMError):
    """Figures or pages that cannot be used; the message says which and why."""


@dataclass(frozen=True)
class Measurement:
    """Figures that were measured at once."""

    on: str
    """Samples or things that were measured."""
    run: str
    """Whose weights."""
    hardware: str
    date: str
    how: str
    """The command, or where it stands."""
    figures: dict[str, str]
    """As they are printed."""


@dataclass(frozen=True)
class Published:
    """Content of ``docs/figures.json``."""

    what: dict[str, str]
    """What a figure of a name is."""
    measurements: dict[str, Measurement]

    def __getitem__(self, name: str) -> str:
        """A figure or fact by MEASUREMENT.FIGURE.

        Raises:
            FiguresError: there is none.
        """
        measurement, _, figure = name.partition(".")
        found = self.measurements.get(measurement)
        known = {} if found is None else found.figures | {fact: getattr(found, fact) for fact in FACTS}
        if figure not in known:
            raise FiguresError(f"{FIGURES}: no {name!r}")
        return known[figure]


def load_published(path: Path) -> Published:
    """Read the file of figures.

    Raises:
        FiguresError: not JSON, or a measurement without one of its facts or with an empty one.
    """
    try:
        content = read_json(path)
        measurements = {name: Measurement(**entry) for name, entry in content["measurements"].items()}
        published = Published(content["what"], measurements)
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise FiguresError(f"{path}: cannot be read as figures ({error})") from error
    for name, measurement in measurements.items():
        lacking = [fact for fact in FACTS if not getattr(measurement, fact)]
        lacking += [key for key, value in measurement.figures.items() if not (isinstance(value, str) and value)]
        if lacking:
            raise FiguresError(f"{path}: {name}: {', '.join(lacking)} must be text that is not empty")
    return published


def to_json(published: Published) -> str:
    """The file's content."""
    measurements = {name: vars(measurement) for name, measurement in published.measurements.items()}
    return json.dumps({"what": published.what, "measurements": measurements}, indent=1, ensure_ascii=False) + "\n"


def table(header: tuple[str, ...], rows: Mapping[str, tuple[str, ...]]) -> str:
    """A Markdown table; the rows are named by their first cell."""
    lines = [header, ("---",) * len(header), *((name, *cells) for name, cells in rows.items())]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in lines)


ACCURACY = {
    "iou": "{iou}", "motion_error": "{motion_error} (median {motion_error_median})", "type_right": "{type_right}",
    "axis_deg": "{axis_deg}", "psnr_moved": "{psnr_moved} / {psnr_moved_copy} dB",
}  # fmt: skip
DETAILED = {
    "iou": "{iou} (median {iou_median})", "motion_error": ACCURACY["motion_error"], "type_right": "{type_right}",
    "axis_deg": "{axis_deg}", "drag_px": "{drag_px} px of 256", "psnr_moved": ACCURACY["psnr_moved"],
    "psnr": "{psnr} / {psnr_copy} / {psnr_oracle} dB", "ssim": "{ssim}",
}  # fmt: skip


def rendered(published: Published, corner: str, cells: Mapping[str, str]) -> str:
    """A table of the two sets of renders.

    Raises:
        FiguresError: a figure is missing.
    """
    sets = [published.measurements[name] for name in ("procedural", "real")]
    try:
        rows = {published.what[key]: tuple(cell.format(**s.figures) for s in sets) for key, cell in cells.items()}
    except KeyError as error:
        raise FiguresError(f"{FIGURES}: a table needs {error.args[0]!r}") from error
    return table((corner, *(s.on for s in sets)), rows)


def timings(published: Published) -> str:
    """What a prediction costs on a small machine."""
    here = published.measurements["laptop"]
    figure, what = here.figures, published.what
    rows = {
        what["predict"]: (f"{figure['predict']}, {what['network']} {figure['network']}; {figure['memory']} at most",),
        what["compile"]: (f"some {figure['compile']} more",),
        what["splats"]: (f"{figure['splats']} / {figure['splats_gradients']}",),
    }
    return table((f"{here.hardware}, {here.date}", ""), rows)


TABLES: dict[str, Callable[[Published], str]] = {
    "accuracy": lambda published: rendered(published, "one image, one drag", ACCURACY),
    "accuracy_detailed": lambda published: rendered(
        published, "one image framed by its mask's box, one drag", DETAILED
    ),
    "timings": timings,
}
"""Tables by their names in the pages."""


def filled(text: str, published: Published, page: str) -> str:
    """A page with the figures in its marked places.

    Args:
        text: the page.
        published: the figures.
        page: its name, for errors.

    Raises:
        FiguresError: an unknown name, a mark without its partner, or one that would end a paragraph.
    """

    def fill(match: re.Match[str]) -> str:
        name = match["name"]
        inline = "." in name
        if name not in TABLES and not inline:
            raise FiguresError(f"{page}: no table is called {name!r}; there are {', '.join(TABLES)}")
        begins_line = match.start() == 0 or text[match.start() - 1] == "\n"
        if inline and begins_line:
            raise FiguresError(f"{page}: the mark of {name} begins a line, where Markdown takes it for a block of HTML")
        content = published[name] if inline else f"\n\n{TABLES[name](published)}\n\n"
        return f"<!-- figures:{name} -->{content}<!-- /figures -->"

    done = PLACE.sub(fill, text)
    if len(MARK.findall(text)) != 2 * len(PLACE.findall(text)):
        raise FiguresError(f"{page}: a mark of figures without its partner")
    return done


def pages(root: Path) -> list[Path]:
    """Pages that may hold figures."""
    return [root / "README.md", *sorted((root / "docs").rglob("*.md"))]


def stale_pages(root: Path, published: Published) -> dict[Path, str]:
    """Pages that do not hold the figures, and what they should be."""
    texts = {path: path.read_text(encoding="utf-8") for path in pages(root)}
    made = {path: filled(text, published, str(path.relative_to(root))) for path, text in texts.items()}
    return {path: made[path] for path, text in texts.items() if made[path] != text}


def figures_of(results: Results) -> dict[str, str]:
    """An evaluation's figures as they are printed; those without a value are left out."""
    model, copy, oracle = results.all.metrics.model, results.all.metrics.copy, results.all.metrics.oracle_geometry
    values = {
        "iou": (model.iou.mean, fraction), "iou_median": (model.iou.median, fraction),
        "motion_error": (model.motion_error_ratio.mean, fraction),
        "motion_error_median": (model.motion_error_ratio.median, fraction),
        "type_right": (model.type_correct.mean, lambda x: f"{100 * x:.0f} %"),
        "axis_deg": (model.axis_error_deg.median, lambda x: f"{x:.1f}°"),
        "drag_px": (model.drag_error_px.median, one_digit),
        "psnr_moved": (model.psnr_moved.mean, one_digit), "psnr_moved_copy": (copy.psnr_moved.mean, one_digit),
        "psnr": (model.psnr.mean, one_digit), "psnr_copy": (copy.psnr.mean, one_digit),
        "psnr_oracle": (oracle.psnr.mean, one_digit), "ssim": (model.ssim.mean, fraction),
    }  # fmt: skip
    return {name: printed(value) for name, (value, printed) in values.items() if value is not None}


def fraction(value: float) -> str:
    """Two digits, without the zero before the point."""
    return f"{value:.2f}".removeprefix("0")


def one_digit(value: float) -> str:
    return f"{value:.1f}"


def taken(published: Published, name: str, results: Results, facts: Mapping[str, str]) -> Published:
    """The figures with those of a measurement replaced by an evaluation's.

    Raises:
        FiguresError: no measurement of that name, or an evaluation that lacks a figure of it.
    """
    if name not in published.measurements:
        raise FiguresError(f"{FIGURES}: no measurement {name!r}; there are {', '.join(published.measurements)}")
    old = published.measurements[name]
    new = {key: value for key, value in figures_of(results).items() if key in old.figures}
    if lacking := old.figures.keys() - new:
        raise FiguresError(f"{name}: the evaluation gives no {', '.join(sorted(lacking))}")
    return replace(published, measurements=published.measurements | {name: replace(old, **facts, figures=new)})


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", action="store_true", help="write nothing; exit code 1 where a page is stale")
    parser.add_argument("--take", nargs="+", default=[], metavar="MEASUREMENT=EVAL", help="folders of partrm eval")
    for fact in ("run", "hardware", "date"):
        parser.add_argument(f"--{fact}", help="of what --take reads")
    parser.add_argument("--root", type=Path, default=ROOT, help="the repository")
    arguments = parser.parse_args(argv)
    facts = {fact: value for fact in ("run", "hardware", "date") if (value := getattr(arguments, fact))}
    if bool(arguments.take) != (len(facts) == 3):
        parser.error("--take, --run, --hardware and --date go together")
    published = load_published(arguments.root / FIGURES)
    for pair in arguments.take:
        name, _, folder = pair.partition("=")
        published = taken(published, name, load_results(Path(folder)), facts)
    stale = stale_pages(arguments.root, published)
    for path, text in stale.items():
        print(f"{path.relative_to(arguments.root)}: {'not up to date' if arguments.check else 'written'}")
        if not arguments.check:
            atomic_write(path, text)
    if arguments.take and not arguments.check:
        atomic_write(arguments.root / FIGURES, to_json(published))
    return int(arguments.check and bool(stale))


if __name__ == "__main__":
    try:
        sys.exit(main())
    except PartRMError as error:
        sys.exit(str(error))
