"""Run folders, recipes and pools that nobody's training has: one line, no foreign error, no waiting."""

import json
import os
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from support.boxes import cabinet

from partrm.errors import ConfigError
from partrm.files import OutputError
from partrm.synthesis.mesh_pool import Pool, PoolError, load_pool, save_pool
from partrm.training.config import NetworkChanges, TrainConfig, TrainingError
from partrm.training.run_log import RunLog, cut_log
from partrm.training.run_state import load_state
from partrm.training.trainer import network_config

ROW = json.dumps({"step": 1, "group": "coarse"}) + "\n"


@pytest.mark.parametrize(
    "damage",
    [b"{\n", b"\0\0\n", b"[]\n", b"null\n", b"{}\n", b'{"step": "x"}\n', b'{"step": NaN}\n', b"\xff\n"],
)
def test_logs_whose_last_line_is_no_row_are_told(damage, tmp_path):
    path = tmp_path / "log.jsonl"
    path.write_bytes(ROW.encode() + damage)
    with pytest.raises(TrainingError, match=r"log\.jsonl: its last lines are no rows"):
        cut_log(path, 5)
    assert path.read_bytes() == ROW.encode() + damage


def test_logs_lose_what_was_cut_short_and_later_rows(tmp_path):
    path = tmp_path / "log.jsonl"
    path.write_text(ROW + ROW.replace("1", "7") + ROW[:9])
    cut_log(path, 5)
    assert path.read_text() == ROW


@pytest.mark.parametrize("make", [os.mkfifo, os.mkdir])
def test_what_is_no_file_is_not_read_as_a_log(make, tmp_path):
    make(tmp_path / "log.jsonl")
    with pytest.raises(TrainingError, match=r"log\.jsonl: cannot be read"):
        cut_log(tmp_path / "log.jsonl", 5)


def test_a_file_where_tensorboard_writes_is_told(tmp_path):
    pytest.importorskip("tensorboard")
    (tmp_path / "tensorboard").write_text("mine")
    with pytest.raises(OutputError, match="tensorboard: cannot be written"):
        RunLog(tmp_path, active=True)


def test_a_pipe_is_not_waited_for_as_a_checkpoint(tmp_path):
    os.mkfifo(tmp_path / "checkpoint-0.pt")
    with pytest.raises(TrainingError, match="no regular file"):
        load_state(tmp_path / "checkpoint-0.pt")


@pytest.mark.whole_run  # recipes are read without the tests' checks of types
@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"pool_shares": (1.0, float("nan"))}, "--pool-shares"),
        ({"pool_shares": (float("inf"), float("inf"))}, "--pool-shares"),
        ({"device": "tpu"}, "--device tpu"),
        ({"val_pools": (1, 2)}, "--val-pools"),
    ],
)
def test_configs_that_nobody_can_run_are_refused(changes, words):
    config = TrainConfig(pool=(Path("a"), Path("b")), out=Path("o"))
    with pytest.raises(ConfigError, match=words):
        replace(config, **changes)


@pytest.mark.parametrize("changes", [{"layers": 3}, {"down_channels": (1, 2)}, {"down_channels": (-32, 0)}])
def test_networks_that_there_are_not_are_refused(changes):
    with pytest.raises(ConfigError, match="--network"):
        NetworkChanges(**changes)


def test_as_many_widths_as_the_preset_has():
    config = TrainConfig(pool=(), out=Path("o"), preset="tiny", network=NetworkChanges(down_channels=(32,) * 9))
    with pytest.raises(TrainingError, match="preset tiny"):
        network_config(config)


@pytest.mark.parametrize(("name", "value"), [("roles", 127), ("axis", 1e30), ("axis", 0)])
def test_pools_of_other_roles_or_axes_are_refused(name, value, tmp_path, monkeypatch):
    save = np.savez

    def other(file, **arrays):
        save(file, **arrays | {name: np.full_like(arrays[name], value)})

    monkeypatch.setattr(np, "savez", other)
    save_pool(Pool.from_objects([cabinet()]), tmp_path / "a.npz")
    with pytest.raises(PoolError, match=name):
        load_pool(tmp_path / "a.npz")
