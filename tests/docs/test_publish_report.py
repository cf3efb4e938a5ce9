"""What the documentation's script publishes of evaluations."""

import shutil

import pytest
from publish_report import PublishError, publish
from support.small_evaluation import cabinet_set, untrained_checkpoint

from partrm.evaluation.samples import RunSettings
from partrm.evaluation.session import RunOptions, evaluate_into
from partrm.evaluation.tables import number


def test_published_pages_and_table_hold_the_figures(tmp_path):
    first, second = tmp_path / "procedural", tmp_path / "real"
    evalset, checkpoint = cabinet_set([]), untrained_checkpoint(tmp_path / "tiny")
    results = evaluate_into(evalset, first, RunOptions(str(checkpoint), "cpu"), RunSettings(limit=1, novel_size_px=48))
    shutil.copytree(first, second)
    files = publish([first, second], tmp_path / "docs" / "report")
    assert sorted(p.name for p in files) == ["README.md", "procedural.html", "real.html"]
    text = files[0].read_text()
    value = results.all.metrics.model.psnr.mean
    assert text.count(f"| {number(value)}") >= 2
    for name in ("procedural", "real"):
        assert (tmp_path / "docs" / "report" / f"{name}.html").read_text() == (first / "report.html").read_text()
        assert f"({name}.html)" in text
    assert results.identity.model.hash in text
    (first / "report.html").write_text("x" * 3_000_000)
    with pytest.raises(PublishError, match="more than"):
        publish([first], tmp_path / "docs" / "report")
    (second / "report.html").unlink()
    with pytest.raises(PublishError, match="page is missing"):
        publish([second], tmp_path / "docs" / "report")
    with pytest.raises(PublishError, match="one name"):
        publish([first, first], tmp_path / "docs" / "report")
