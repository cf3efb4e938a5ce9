"""Distributed training is training: several processes take the steps that one takes on the same global batch."""

import json
from pathlib import Path

import pytest
import torch

from partrm.model.checkpoints import read_checkpoint

pytest.importorskip("warp", reason="training renders its samples with warp-lang (extra `data`)")
pytest.importorskip("accelerate", reason="training needs accelerate (extra `train`)")

from support.ranks import run_ranks
from support.tiny_training import run_and_die, run_and_resume, steps

pytestmark = [pytest.mark.whole_run, pytest.mark.usefixtures("forking")]


@pytest.fixture(scope="module")
def folder(tmp_path_factory, forking) -> Path:
    """What one process, this one, has left in ``1``, and two in ``2``: those have trained and resumed before."""
    folder = tmp_path_factory.mktemp("processes")
    steps(str(folder / "1"))
    run_ranks(2, folder / "logs", run_and_resume, str(folder / "2"))
    return folder


@pytest.fixture(scope="module")
def results(folder: Path) -> list[dict]:
    """Losses and final weights of the same steps by one process and by two."""
    return [json.loads((folder / count / "result.json").read_text()) for count in ("1", "2")]


def test_two_processes_have_the_losses_of_one(results: list[dict]) -> None:
    one, two = (result["losses"] for result in results)
    assert two == pytest.approx(one, rel=2e-3)
    assert one[-1] != pytest.approx(one[0], rel=2e-3), "the steps change something"


def test_two_processes_end_at_the_weights_of_one(results: list[dict]) -> None:
    one, two = (result["weights"] for result in results)
    assert max(abs(a - b) for a, b in zip(one, two, strict=True)) < 2e-3


def test_two_processes_end_where_they_would_have_without_a_stop(folder: Path) -> None:
    """REFERENCE_DEFECTS C1, C10: distributed steps run, and a resumed run ends where an uninterrupted one does."""
    whole, legs = (folder / "2" / name for name in ("whole", "legs"))
    (wanted, _, _), (found, _, _) = (read_checkpoint(run / "weights") for run in (whole, legs))
    assert all(torch.allclose(found[name], value, atol=1e-5) for name, value in wanted.items())
    logs = [
        [json.loads(line)["step"] for line in (run / "log.jsonl").read_text().splitlines()] for run in (whole, legs)
    ]
    assert logs[0] == logs[1] == [5, 7]


def test_a_run_of_which_a_rank_was_killed_ends_as_if_it_had_not(folder: Path, tmp_path: Path) -> None:
    """Rank 0 had saved a step that rank 1 had not: both go on from the one before it."""
    run_ranks(2, tmp_path / "logs", run_and_die, str(tmp_path), restarts=1)
    runs = folder / "2" / "whole", tmp_path / "torn"
    wanted, found = ((run / "weights" / "model-00001-of-00001.safetensors").read_bytes() for run in runs)
    assert wanted == found
    logs = [[json.loads(line) for line in (run / "log.jsonl").read_text().splitlines()] for run in runs]
    wanted, found = ([{k: v for k, v in row.items() if k not in TIMED} for row in log] for log in logs)
    assert wanted == found
    assert [row["step"] for row in found] == [5, 7]


TIMED = "samples_per_s", "waiting_share"
