"""An evaluation by several processes gives the rows of one; and the code version that stands beside the figures."""

import dataclasses
import json
import multiprocessing
import os
import subprocess
import time
from importlib import resources
from pathlib import Path

import jsonschema
import psutil
import pytest
import torch
from support.ranks import begun, command, run_ranks
from support.small_evaluation import cabinet_set, untrained_checkpoint

import partrm
from partrm.cli import main
from partrm.errors import PartRMError
from partrm.evaluation import report
from partrm.evaluation.eval_set import save_eval_set
from partrm.evaluation.mesh_samples import EvalSet
from partrm.evaluation.parallel import Job, WorkerError, evaluate_on_workers
from partrm.evaluation.results import load_results
from partrm.evaluation.runner import CPU_BATCH, batches, evaluate
from partrm.evaluation.samples import RunSettings
from partrm.evaluation.session import RunOptions, evaluate_into
from partrm.metrics.lpips import Lpips, features_of, stages_of
from partrm.model.checkpoints import load_model

pytestmark = [pytest.mark.whole_run, pytest.mark.usefixtures("forking")]

SETTINGS = RunSettings(limit=CPU_BATCH + 1, novel_size_px=48)


@pytest.fixture(scope="module")
def evalset():
    return cabinet_set([])


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
    return untrained_checkpoint(tmp_path_factory.mktemp("model") / "tiny")


@pytest.fixture(scope="module")
def lpips():
    """Random weights: what travels to the workers, not what LPIPS says, is tested here."""
    torch.manual_seed(0)
    features = features_of("alex").requires_grad_(False)
    return Lpips("alex", "0" * 16, stages_of("alex", features), tuple(torch.rand(c) for c in (64, 192, 384, 256, 256)))


@pytest.fixture(scope="module")
def alone(evalset, checkpoint, lpips):
    return evaluate(evalset, load_model(checkpoint), SETTINGS, lambda row: None, lpips=lpips)


def assert_same_rows(rows, wanted, without=()):
    assert [row.label for row in rows] == [row.label for row in wanted]
    for row, other in zip(rows, wanted, strict=True):
        for method, metrics in row.metrics:
            for name, value in metrics:
                assert name in without or value == pytest.approx(other.metrics[method][name], abs=1e-4), (method, name)


def test_batches_hold_every_sample_once_wherever_a_run_goes_on():
    device = torch.device("cpu")
    whole = batches(10, 0, device)
    assert [number for numbers in whole for number in numbers] == list(range(10))
    assert {len(numbers) for numbers in whole[:-1]} == {CPU_BATCH}
    for known in range(11):
        left = batches(10, known, device)
        assert left == whole[len(whole) - len(left) :]
        assert set(range(known, 10)) <= {number for numbers in left for number in numbers}


def test_lpips_is_there_for_every_method(alone):
    for row in alone:
        assert row.metrics.model.lpips > 0
        assert all(metrics.lpips >= 0 for _, metrics in row.metrics)
        assert row.metrics.copy.ssim > 0.5


def test_workers_give_the_rows_of_one_process(evalset, checkpoint, lpips, alone):
    """Two workers with a batch each; the first sample is known from a run that was cut off."""
    kept, earlier = [], 1
    job = Job(evalset, str(checkpoint), SETTINGS, lpips)
    rows = evaluate_on_workers(job, 2, kept.append, alone[:earlier], threads=1)
    assert_same_rows(rows, alone)
    assert kept == rows[earlier:]


def test_a_failing_worker_is_told(evalset, tmp_path):
    job = Job(evalset, str(tmp_path / "nothing"), SETTINGS, None)
    with pytest.raises(WorkerError, match="neither bundled"):
        evaluate_on_workers(job, 1, lambda row: None)


class DeadlySet(EvalSet):
    """A set whose opening kills the process, as one that takes too much memory is killed."""

    def open(self, device):
        os._exit(9)


def test_a_worker_that_dies_is_told(evalset, checkpoint):
    deadly = DeadlySet(**{field.name: getattr(evalset, field.name) for field in dataclasses.fields(evalset)})
    with pytest.raises(WorkerError, match="a worker died"):
        evaluate_on_workers(Job(deadly, str(checkpoint), SETTINGS, None), 1, lambda row: None)


class TellingSet(EvalSet):
    """A set whose opening fails with the named semaphores that its process has and the one above it has not."""

    def open(self, device):
        def named(process):
            lines = Path(f"/proc/{process}/maps").read_text().splitlines()
            return {line.split()[4] for line in lines if "/dev/shm/sem." in line}  # inodes: one may have two names

        parent = multiprocessing.parent_process()
        assert parent is not None
        raise PartRMError(f"of its own: {sorted(named('self') - named(parent.pid))}")


@pytest.mark.skipif(not Path("/proc/self/maps").exists(), reason="what a process has open is in /proc on Linux alone")
def test_a_worker_has_nothing_that_its_death_leaves_behind(evalset, checkpoint):
    """Python's tracker of resources would say two lines of each semaphore after the one line of the command."""
    telling = TellingSet(**{field.name: getattr(evalset, field.name) for field in dataclasses.fields(evalset)})
    with pytest.raises(WorkerError, match=r"of its own: \[\]"):
        evaluate_on_workers(Job(telling, str(checkpoint), SETTINGS, None), 1, lambda row: None)


def test_two_ranks_gather_every_row(evalset, checkpoint, alone, tmp_path):
    """Two gloo processes under the agent of ``torchrun``: both score, one writes, the file is that of one."""
    save_eval_set(evalset, tmp_path / "set.safetensors")
    arguments = ["--data", tmp_path / "set.safetensors", "--model", checkpoint, "--device", "cpu"]
    arguments += ["--lpips", "none", "--limit", SETTINGS.limit, "--novel-size-px", "48", "--out", tmp_path / "two"]
    printed = run_ranks(2, tmp_path / "logs", command, "eval", *map(str, arguments))
    assert printed.count("report:") == 1
    two = load_results(tmp_path / "two")
    assert_same_rows(two.samples, alone, without=("lpips",))
    assert two.all.samples == SETTINGS.limit
    assert two.identity == report.identify(evalset, load_model(checkpoint), SETTINGS, None, "cpu")
    assert not (tmp_path / "two" / "rows.jsonl").exists()


def test_workers_end_with_the_evaluation_that_started_them(evalset, checkpoint, tmp_path):
    save_eval_set(evalset, tmp_path / "set.safetensors")
    arguments = ["--data", tmp_path / "set.safetensors", "--model", checkpoint, "--device", "cpu", "--workers", "2"]
    run = begun(command, "eval", *map(str, arguments), "--out", str(tmp_path / "out"))
    started: list[psutil.Process] = []
    while run.is_alive() and len(started) < 3:  # two workers, and what they are forked from
        started = psutil.Process(run.pid).children(recursive=True)
        time.sleep(0.02)
    run.kill()
    run.join()
    assert len(started) == 3
    _, alive = psutil.wait_procs(started, timeout=60)
    assert alive == []


def test_metrics_file_is_as_its_schema_says(evalset, checkpoint, tmp_path):
    evaluate_into(evalset, tmp_path, RunOptions(str(checkpoint), "cpu"), RunSettings(limit=1, novel_size_px=48))
    content = json.loads((tmp_path / "metrics.json").read_text())
    schema = json.loads((resources.files("partrm.evaluation") / "metrics.schema.json").read_text())
    validator = jsonschema.Draft202012Validator(schema)
    validator.check_schema(schema)
    validator.validate(content)
    assert content["code"]["version"] == partrm.__version__
    for wrong in (
        content | {"more": 1},
        content | {"code": content["code"] | {"source": "x"}},
        content | {"samples": [content["samples"][0] | {"iou": 1.2}]},
        content | {"samples": [{k: v for k, v in content["samples"][0].items() if k != "psnr"}]},
        content | {"samples": []},
    ):
        assert list(validator.iter_errors(wrong))


def test_workers_beside_a_gpu_or_none_are_refused(checkpoint, tmp_path, capsys):
    arguments = ["eval", "--data", "procedural", "--model", str(checkpoint), "--out", str(tmp_path / "out")]
    assert main([*arguments, "--workers", "0"]) == 2
    assert "workers 0" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_source_hash_changes_with_any_line_of_code_and_nothing_else(tmp_path, monkeypatch):
    package = tmp_path / "partrm"
    (package / "inner").mkdir(parents=True)
    (package / "a.py").write_text("x = 1\n")
    (package / "inner" / "b.py").write_text("y = 2\n")
    monkeypatch.setattr(report.resources, "files", lambda name: package)
    first = report.source_hash()
    (package / "weights.bin").write_bytes(b"1")
    (package / "inner" / "b.py").write_bytes(b"y = 2\r\n")
    assert report.source_hash() == first
    (package / "inner" / "b.py").write_text("y = 3\n")
    changed = report.source_hash()
    assert changed != first
    (package / "inner" / "b.py").rename(package / "inner" / "c.py")
    assert report.source_hash() not in (first, changed)
    assert report.git_commit() is None, "not in a checkout"


def test_commit_is_that_of_the_checkout_that_holds_the_package(tmp_path, monkeypatch):
    package = tmp_path / "partrm"
    package.mkdir()
    (package / "__init__.py").write_text("")
    git = ["git", "-C", str(tmp_path), "-c", "user.name=a", "-c", "user.email=a@b.c"]
    try:
        for command in (["init", "-q"], ["add", "."], ["commit", "-q", "-m", "x", "--no-verify"]):
            subprocess.run([*git, *command], check=True, capture_output=True)
        wanted = subprocess.run([*git, "rev-parse", "HEAD"], check=True, capture_output=True, text=True).stdout.strip()
    except FileNotFoundError:
        pytest.skip("git is not installed")
    monkeypatch.setattr(report.resources, "files", lambda name: package)
    assert report.git_commit() == wanted
    # An installed package inside of somebody else's checkout is not that checkout's.
    (tmp_path / "venv" / "partrm").mkdir(parents=True)
    monkeypatch.setattr(report.resources, "files", lambda name: tmp_path / "venv" / "partrm")
    assert report.git_commit() is None
