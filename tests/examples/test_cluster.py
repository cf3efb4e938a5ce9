"""Files for clusters: what they would start is what the command line takes, and an array's shares are the whole."""

import os
import shlex
import subprocess
from pathlib import Path

import pytest

from partrm.cli import main

CLUSTER = Path(__file__).parents[2] / "examples" / "cluster"


def test_the_shares_of_a_slurm_array_are_the_whole_file(tmp_path):
    (tmp_path / "jobs.jsonl").write_text("".join(f'{{"name": "{n}"}}\n' for n in range(7)))
    fake = tmp_path / "partrm"
    fake.write_text('#!/bin/sh\nprintf "%s\\n" "$*"\n')
    fake.chmod(0o755)
    own = {"PATH": f"{tmp_path}:{os.environ['PATH']}", "SLURM_ARRAY_TASK_COUNT": "3", "SLURM_GPUS": "1"}
    found = []
    for task in range(3):
        words = ["bash", str(CLUSTER / "predict_array.sbatch"), str(tmp_path / "jobs.jsonl"), str(tmp_path / "out")]
        environment = os.environ | own | {"SLURM_ARRAY_TASK_ID": str(task)}
        run = subprocess.run(words, capture_output=True, text=True, check=True, env=environment)
        share = tmp_path / f"jobs.{task}-of-3.jsonl"
        expected = f"predict --jobs {share} --out {tmp_path / 'out' / str(task)} --save json ply --gpus 1"
        assert run.stdout.strip() == expected
        found += share.read_text().splitlines()
    assert sorted(found) == (tmp_path / "jobs.jsonl").read_text().splitlines()


def test_the_command_of_the_ray_job_is_one(capsys):
    pytest.importorskip("ray", reason="the Ray executor is an extra: pip install 'partrm[ray]'")
    yaml = pytest.importorskip("yaml", reason="PyYAML reads the file: pip install 'partrm[dev]'")
    spec = yaml.safe_load((CLUSTER / "predict_rayjob.yaml").read_text())["spec"]
    program, *words = shlex.split(spec["entrypoint"])
    assert program == "partrm"
    assert main(words) == 1
    jobs = words[words.index("--jobs") + 1]
    assert f"{jobs}: cannot be read" in capsys.readouterr().err
    (group,) = spec["rayClusterSpec"]["workerGroupSpecs"]
    (worker,) = group["template"]["spec"]["containers"]
    cards = group["replicas"] * int(worker["resources"]["limits"]["nvidia.com/gpu"])
    assert int(words[words.index("--gpus") + 1]) == cards
