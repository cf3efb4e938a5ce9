"""Published figures stand in one file, and in the pages as they stand there."""

import json
import re
import shutil
from dataclasses import replace

import pytest
from figures import (
    FIGURES,
    PLACE,
    ROOT,
    TABLES,
    FiguresError,
    Published,
    filled,
    load_published,
    main,
    pages,
    stale_pages,
    taken,
)

from partrm.evaluation.results import load_results

MEASURED = re.compile(r"\d[\d.]*\s?(?:%|dB\b|°|ms\b|s\b|GB\b|MB\b)|(?<![\w.])\.\d\d\b")
"""Numbers with a unit, and fractions."""


@pytest.fixture
def copy(tmp_path):
    """The pages and the file of figures, to be changed."""
    (tmp_path / "docs").mkdir()
    for path in (ROOT / "README.md", ROOT / "docs" / "model_card.md", ROOT / "docs" / "photos.md", ROOT / FIGURES):
        shutil.copy(path, tmp_path / path.relative_to(ROOT))
    return tmp_path


def test_the_pages_hold_the_figures():
    stale = stale_pages(ROOT, load_published(ROOT / FIGURES))
    assert not stale, "run: python tools/docs/figures.py"


def test_the_readme_states_no_other_figures_and_is_short():
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    assert MEASURED.findall(text), "the expression finds figures"
    assert MEASURED.findall(PLACE.sub("", text)) == []
    assert len(text.splitlines()) <= 120


def distinctive(figure: str) -> bool:
    """Whether a figure is hardly another's by chance: three digits, but for all of something."""
    return len(re.sub(r"\D", "", figure)) >= 3 and figure != "100 %"


def test_no_page_types_a_published_figure():
    """Pages of experiments and the report hold those of their own run."""
    figures = {v for m in load_published(ROOT / FIGURES).measurements.values() for v in m.figures.values()}
    assert len([figure for figure in figures if distinctive(figure)]) > 15
    typed = []
    for path in [page for page in pages(ROOT) if page.parent.name not in ("experiments", "report")]:
        text = PLACE.sub("", path.read_text(encoding="utf-8"))
        for figure in filter(distinctive, figures):
            if re.search(rf"(?<![\w.]){re.escape(figure)}(?!\w)", text):
                typed.append((path.name, figure))
    assert typed == [], "give them a mark of figures"


def test_the_table_of_runs_says_the_same_of_the_published_one():
    published = load_published(ROOT / FIGURES)
    text = (ROOT / "docs" / "experiments" / "README.md").read_text(encoding="utf-8")
    (row,) = re.findall(rf"^\| {published['procedural.run']}\b.*$", text, re.MULTILINE)
    pairs = [
        f"{published[f'procedural.{name}']} / {published[f'real.{name}']}" for name in ("iou", "motion_error", "psnr")
    ]
    share = f"{published['procedural.type_right'].removesuffix(' %')} / {published['real.type_right']}"
    axis = f"{published['procedural.axis_deg']} / {published['real.axis_deg']}"
    for cell in (*pairs, share, axis, published["weights.samples"]):
        assert f"| {cell} |" in row, "docs/experiments/README.md and docs/figures.json differ"


def test_every_measurement_is_shown():
    text = "".join(path.read_text(encoding="utf-8") for path in pages(ROOT))
    names = {match["name"] for match in PLACE.finditer(text)}
    assert set(TABLES) <= names
    shown = {name.partition(".")[0] for name in names if "." in name} | {"procedural", "real", "laptop"}
    assert shown == set(load_published(ROOT / FIGURES).measurements)


def test_a_changed_figure_reaches_its_places_and_nothing_else(copy, capsys):
    content = json.loads((copy / FIGURES).read_text())
    content["measurements"]["photographs"]["figures"]["right_cut_out"] = "20"
    (copy / FIGURES).write_text(json.dumps(content))
    before = {path: path.read_text() for path in pages(copy)}
    assert main(["--root", str(copy), "--check"]) == 1
    assert {path: path.read_text() for path in pages(copy)} == before, "--check writes nothing"
    assert main(["--root", str(copy)]) == 0
    assert "README.md: written" in capsys.readouterr().out
    mark = "<!-- figures:photographs.right_cut_out -->"
    for path, text in before.items():
        assert path.read_text() == text.replace(f"{mark}19", f"{mark}20")
        assert path.read_text().count(f"{mark}20") >= 1
    assert main(["--root", str(copy), "--check"]) == 0


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("of <!-- figures:real.iuo --><!-- /figures -->", "no 'real.iuo'"),
        ("<!-- figures:acuracy -->\n<!-- /figures -->", "no table is called 'acuracy'"),
        ("<!-- figures:real.iou --><!-- /figures --> is good", "begins a line"),
        ("of <!-- figures:real.iou -->.8\n", "without its partner"),
        ("of .8<!-- /figures -->\n", "without its partner"),
        ("of <!-- figures real.iou -->.8<!-- /figures -->\n", "without its partner"),
    ],
)
def test_wrong_marks_are_told(text, reason):
    with pytest.raises(FiguresError, match=reason):
        filled(text, load_published(ROOT / FIGURES), "page.md")


def test_a_measurement_without_a_fact_is_refused(copy):
    content = json.loads((copy / FIGURES).read_text())
    content["measurements"]["real"]["hardware"] = ""
    (copy / FIGURES).write_text(json.dumps(content))
    with pytest.raises(FiguresError, match="real: hardware must be text"):
        load_published(copy / FIGURES)
    del content["measurements"]["real"]["hardware"]
    (copy / FIGURES).write_text(json.dumps(content))
    with pytest.raises(FiguresError, match="hardware"):
        load_published(copy / FIGURES)


def test_figures_are_taken_from_an_evaluation():
    results = load_results(ROOT / "tests" / "golden" / "evaluation" / "outline.json")
    published = load_published(ROOT / FIGURES)
    facts = {"run": "run 0", "hardware": "a CPU", "date": "2026-01-01"}
    new: Published = taken(published, "real", results, facts)
    assert new["real.psnr"] == f"{results.all.metrics.model.psnr.mean:.1f}"
    assert new["real.iou"] == f"{results.all.metrics.model.iou.mean:.2f}".replace("0.", ".")
    assert new["real.run"] == "run 0"
    assert new["real.on"] == published["real.on"]
    others = replace(new, measurements=new.measurements | {"real": published.measurements["real"]})
    assert others == published
    with pytest.raises(FiguresError, match="no measurement 'reel'"):
        taken(published, "reel", results, facts)
    with pytest.raises(FiguresError, match="weights: the evaluation gives no parameters"):
        taken(published, "weights", results, facts)
