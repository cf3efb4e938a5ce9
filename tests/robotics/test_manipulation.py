"""`partrm eval --task manipulation` on the cabinet, with an untrained model."""

import json
import pickle

import numpy as np
import pytest
from support.boxes import cabinet
from support.small_evaluation import cabinet_set

from partrm.cli import main
from partrm.evaluation.eval_set import save_eval_set
from partrm.evaluation.samples import RunSettings
from partrm.evaluation.session import RowsError
from partrm.files import OutputError
from partrm.robotics import manipulation
from partrm.robotics.manipulation import (
    GUIDES,
    ManipulationJob,
    ManipulationRow,
    evaluate_manipulation,
    object_of,
    task_of,
)
from partrm.robotics.suction import SuctionSettings

QUICK = SuctionSettings(speed_m_per_s=0.4, turn_rad_per_s=4.0, timestep_s=0.005, timeout_s=2.0, refit_m=0.04)
SETTINGS = RunSettings()


@pytest.fixture(scope="module")
def finished(evalset, options, tmp_path_factory):
    out = tmp_path_factory.mktemp("finished")
    return out, evaluate_manipulation(evalset, out, options, SETTINGS, QUICK)


def test_the_true_joint_opens_everything_and_rows_say_so(finished):
    out, rows = finished
    assert [row.pulls["true_joint"].opened > 0.99 for row in rows] == [True, True]
    assert [row.pulls["straight_pull"].opened > 0.9 for row in rows] == [False, True]
    assert all(set(row.pulls) == set(GUIDES) for row in rows)
    content = json.loads((out / "manipulation.json").read_text(encoding="utf-8"))
    assert [ManipulationRow.from_json(row) for row in content["samples"]] == rows
    assert {path.name for path in out.iterdir()} == {"manipulation.json", "manipulation.md"}


def test_summaries_are_means_with_intervals_by_type_and_category(finished):
    out, rows = finished
    summary = json.loads((out / "manipulation.json").read_text(encoding="utf-8"))["summary"]
    assert list(summary) == ["all", "prismatic", "revolute", "StorageFurniture"]
    assert summary["revolute"]["samples"] == 1
    straight = summary["all"]["straight_pull"]
    assert straight["success_90"]["mean"] == pytest.approx(0.5)
    assert straight["left"]["mean"] == pytest.approx(np.mean([row.pulls["straight_pull"].left for row in rows]))
    assert straight["success_90"]["low"] <= 0.5 <= straight["success_90"]["high"]
    assert summary["all"]["true_joint"]["success_90"]["mean"] == 1.0
    report = (out / "manipulation.md").read_text(encoding="utf-8")
    assert all(name in report for name in GUIDES.values())


def test_a_run_that_was_cut_off_goes_on_to_the_same_file(evalset, options, finished, tmp_path, monkeypatch):
    whole, real, made = (finished[0] / "manipulation.json").read_text(), manipulation.pulled, []

    def killed(sample, suction):
        made.append(sample.label.sample)
        if made == [0, 1]:
            raise KeyboardInterrupt
        return real(sample, suction)

    monkeypatch.setattr(manipulation, "pulled", killed)
    with pytest.raises(KeyboardInterrupt):
        evaluate_manipulation(evalset, tmp_path, options, SETTINGS, QUICK)
    with pytest.raises(RowsError, match="another suction"):
        evaluate_manipulation(evalset, tmp_path, options, SETTINGS, SuctionSettings())
    evaluate_manipulation(evalset, tmp_path, options, SETTINGS, QUICK)
    assert made == [0, 1, 0, 1]
    assert (tmp_path / "manipulation.json").read_text() == whole


def test_a_job_travels_to_workers(evalset):
    job = pickle.loads(pickle.dumps(ManipulationJob(evalset, "base", SETTINGS, QUICK)))
    assert (job.evalset.checksum, job.suction) == (evalset.checksum, QUICK)


def test_objects_of_a_set_are_the_objects(evalset):
    true, found = cabinet(), object_of(evalset, 0)
    q = np.array([0.0, 0.7, 0.2])
    for one, other in zip(true.posed_vertices(q), found.posed_vertices(q), strict=True):
        np.testing.assert_allclose(np.unique(one.round(5), axis=0), np.unique(other.round(5), axis=0), atol=2e-5)
    assert found.joint_limits == pytest.approx(true.joint_limits, abs=1e-6)


def test_tasks_go_to_the_limit_on_the_motions_side_in_metres():
    whole = cabinet_set([])
    spans = [task_of(whole, number, 0.6).span for number in range(len(whole))]
    door, drawer = (cabinet().joint_limits[part, 1] for part in (1, 2))
    wanted = [door, -door, 0.7 * door, 0.6 * drawer, -0.6 * drawer, 0.6 * 0.7 * drawer]
    assert spans == pytest.approx(wanted, rel=1e-5)


def test_the_command_takes_packed_sets(evalset, options, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(manipulation, "SuctionSettings", lambda: QUICK)
    save_eval_set(evalset, tmp_path / "set.safetensors")
    arguments = ["--data", str(tmp_path / "set.safetensors"), "--task", "manipulation", "--limit", "1"]
    out = tmp_path / "out"
    assert main(["eval", *arguments, "--model", options.model, "--device", "cpu", "--out", str(out)]) == 0
    assert "true joint: 1.000 opened to 90%" in capsys.readouterr().out
    assert (out / "manipulation.json").is_file()


def test_a_folder_in_the_place_of_results_is_told_before_the_work(evalset, options, tmp_path, monkeypatch):
    (tmp_path / "manipulation.md").mkdir()
    monkeypatch.setattr(manipulation.ManipulationJob, "scorer", lambda *_: pytest.fail("it began"))
    with pytest.raises(OutputError, match=r"manipulation\.md: was not written by partrm"):
        evaluate_manipulation(evalset, tmp_path, options, SETTINGS, QUICK)
    assert [path.name for path in tmp_path.iterdir()] == ["manipulation.md"]


@pytest.mark.parametrize("more", [["--grid"], ["--lpips", "none"], ["--novel-size-px", "64"]])
def test_options_of_images_are_refused(more, tmp_path):
    arguments = ["eval", "--data", "real", "--task", "manipulation", "--out", str(tmp_path / "out"), *more]
    assert main(arguments) == 2
    assert not (tmp_path / "out").exists()


def test_a_folder_of_images_is_refused(tmp_path):
    arguments = ["eval", "--data", str(tmp_path), "--task", "manipulation", "--out", str(tmp_path / "out")]
    assert main(arguments) == 2


@pytest.mark.parametrize(
    ("path", "value"),
    [
        (("category",), ["a"]),
        (("joint_type",), 3),
        (("span",), float("nan")),
        (("span",), "1"),
        (("pulls", "true_joint", "opened"), [1.0]),
        (("pulls", "true_joint", "ending"), "flew away"),
        (("pulls", "true_joint"), None),
    ],
)
def test_rows_of_other_types_are_refused(path, value):
    label = {"sample": 0, "object": "a", "category": "b", "part": 1, "transition": "opening", "joint_type": "revolute"}
    pull = {"opened": 1.0, "ending": "open", "seconds": 2.0}
    row = label | {"span": 1.0, "pulls": {guide: dict(pull) for guide in manipulation.GUIDES}}
    assert manipulation.ManipulationRow.from_json(row).pulls["true_joint"].opened == 1.0
    place = row
    for key in path[:-1]:
        place = place[key]
    place[path[-1]] = value
    with pytest.raises(TypeError):
        manipulation.ManipulationRow.from_json(row)
