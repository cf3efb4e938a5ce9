"""Two kills of two commands, as the script deals them out by the dozen: old results or whole new ones, nothing left."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from killed_commands import MARK, content, processes, temporaries
from support.small_evaluation import cabinet_set, untrained_checkpoint

pytest.importorskip("warp", reason="evaluation renders its samples with warp-lang (extra `eval`)")

from partrm.cli import main
from partrm.evaluation.eval_set import save_eval_set
from partrm.files import staged_folder
from partrm.imaging.images import save_image

pytestmark = pytest.mark.whole_run


def killed(words: list[str], how: signal.Signals, work: Path, begun: Callable[[], bool]) -> None:
    """Start a command, kill it as soon as it has begun to write, and wait until its processes have ended."""
    (work / "tmp").mkdir()
    environment = {**os.environ, "TMPDIR": str(work / "tmp"), MARK: str(work)}
    run = subprocess.Popen([sys.executable, "-m", "partrm", *words], env=environment, stderr=subprocess.DEVNULL)
    while run.poll() is None and not begun():
        time.sleep(0.005)
    run.send_signal(how)
    assert run.wait() == (-how if how == signal.SIGKILL else 128 + how)
    deadline = time.time() + 20
    while processes(str(work)) and time.time() < deadline:
        time.sleep(0.02)
    assert processes(str(work)) == {}


def test_a_killed_prediction_leaves_the_one_of_before(tmp_path):
    image, out = torch.rand(4, 128, 128, generator=torch.Generator().manual_seed(0)), tmp_path / "out"
    image[3] = 0
    image[3, 30:90, 30:90] = 1
    save_image(image, tmp_path / "image.png")
    model = untrained_checkpoint(tmp_path / "tiny")
    words = ["predict", str(tmp_path / "image.png"), "--model", str(model), "--detail", "0", "--out", str(out)]
    assert main([*words, "--drag", "60,60,40,60"]) == 0
    old = content(out)
    killed([*words, "--drag", "70,70,70,40"], signal.SIGKILL, tmp_path, lambda: any(out.glob(".partrm.*/*")))
    assert temporaries(tmp_path)
    assert {name: data for name, data in content(out).items() if not name.startswith(".partrm.")} == old
    with staged_folder(out):
        assert len(temporaries(tmp_path)) == 1, "its own alone"
    assert content(out) == old


def test_a_stopped_evaluation_leaves_its_rows_and_goes_on_to_the_same_bytes(tmp_path):
    model = untrained_checkpoint(tmp_path / "tiny")
    save_eval_set(cabinet_set([]), tmp_path / "set.safetensors")
    words = ["eval", "--data", str(tmp_path / "set.safetensors"), "--limit", "2", "--novel-size-px", "48"]
    words += ["--lpips", "none", "--model", str(model), "--device", "cpu", "--out"]
    assert main([*words, str(tmp_path / "whole")]) == 0
    rows = tmp_path / "torn" / "rows.jsonl"
    killed([*words, str(rows.parent)], signal.SIGTERM, tmp_path, rows.exists)
    assert [path.name for path in rows.parent.iterdir()] == ["rows.jsonl"]
    assert temporaries(tmp_path) == set()
    assert main([*words, str(rows.parent)]) == 0
    assert content(rows.parent) == content(tmp_path / "whole")
