"""Results as values against the files that were written before they were values."""

import json
from pathlib import Path

import pytest

from partrm.cli import main
from partrm.evaluation.results import Results, load_results
from partrm.evaluation.scoring import summarise, summarise_by

GOLDEN = Path(__file__).parents[1] / "golden" / "evaluation"
FILES = [GOLDEN / "outline.json", GOLDEN / "folder.json"]
"""Meshes in the framing that was called ``outline`` on the command line, too; and files, which have fewer columns."""


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_files_of_before_are_read_and_written_to_the_byte(path):
    assert load_results(path).text() == path.read_text(encoding="utf-8")


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_summaries_of_before_follow_from_their_rows(path):
    results = load_results(path)
    assert summarise(results.samples) == results.all
    assert summarise_by(results.samples, lambda row: row.label.category) == results.categories
    assert summarise_by(results.samples, lambda row: row.label.object) == results.objects


def test_the_framing_of_before_has_its_name_of_now(tmp_path, capsys):
    content = json.loads(FILES[0].read_text(encoding="utf-8"))
    assert content["settings"]["framing"] == "outline"
    assert Results.from_json(content).identity.settings.framing == "mask-box"
    assert main(["eval", "--compare", str(FILES[0]), str(FILES[0])]) == 0
    assert capsys.readouterr().out.count("1 view(s) of mask-box framing") == 2


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda c: c["samples"][0].update(iou="a"), "iou"),
        (lambda c: c["samples"][0].update(iou=float("nan")), "iou"),
        (lambda c: c["samples"][0].update(iou=10**400), "iou"),
        (lambda c: c["samples"][0].update(sample=[1]), "sample"),
        (lambda c: c["samples"][0].update(object=3), "object"),
        (lambda c: c["samples"][0]["baselines"].update(copy=3), "metrics.json"),
        (lambda c: c["settings"].update(views="1"), "views"),
        (lambda c: c["data"].update(dropped=[3]), "dropped"),
        (lambda c: c["summary"]["all"]["model"]["iou"].update(n="a"), "n 'a'"),
        (lambda c: c["model"].update(name=None), "name"),
    ],
)
def test_values_of_other_types_are_refused_where_the_file_is_read(change, words, tmp_path, capsys):
    content = json.loads(FILES[0].read_text(encoding="utf-8"))
    change(content)
    (tmp_path / "metrics.json").write_text(json.dumps(content))
    assert main(["eval", "--compare", str(FILES[0]), str(tmp_path)]) == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert words in line
    assert "not what the schema partrm.metrics/3 holds" in line
