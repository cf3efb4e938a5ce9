"""`partrm eval --task arm` on the cabinet, with an untrained model and an arm that only says what it was told."""

import json
import pickle
from dataclasses import dataclass, field, replace

import numpy as np
import pytest

from partrm.evaluation.samples import RunSettings, SampleLabel
from partrm.evaluation.session import RowsError
from partrm.geometry.joints import JointType
from partrm.robotics import arm_evaluation
from partrm.robotics.arm import FAILURES, ArmResult
from partrm.robotics.arm_evaluation import ARMS, ArmJob, ArmOperator, ArmRow, evaluate_arm, reach_tables, why
from partrm.robotics.arm_plan import BelievedObject
from partrm.robotics.manipulation import task_of
from partrm.robotics.simulated_arm import ArmSettings

SETTINGS = RunSettings()
OPENED = ArmResult(0.95, "came off", 12.0, 2, 5, 4)
MISSED = ArmResult(0.25, "missed", 8.0, 8, 5, 0)


@dataclass
class ToldArm:
    """Stands in for the simulated arm: keeps what it is told, and opens what it knows the true joint of."""

    told: list[tuple[int, BelievedObject, ArmSettings]] = field(default_factory=list)
    breaks_at: int | None = None
    """Number of a call that is interrupted."""

    def __call__(self, task, believed, settings, kinematics, seed):
        assert kinematics == "kinematics"
        self.told.append((seed, believed, settings))
        if len(self.told) - 1 == self.breaks_at:
            raise KeyboardInterrupt
        truth = task.joint_at_source(task.part)
        return OPENED if np.allclose(believed.pivot, truth.pivot) else MISSED


@pytest.fixture
def arm(monkeypatch):
    told = ToldArm()
    monkeypatch.setattr(arm_evaluation, "open_with_arm", told)
    monkeypatch.setattr(ArmOperator, "kinematics", "kinematics")
    return told


def row(number: int, joint_type: str, **pulls: ArmResult) -> ArmRow:
    return ArmRow(SampleLabel(number, f"object_{number}", "Box", 1, "opening", joint_type, 0.5), 1.2, pulls)


def test_each_arm_is_told_what_it_knows_and_no_more(arm, evalset, options, tmp_path):
    evaluate_arm(evalset, tmp_path, options, SETTINGS)
    assert [seed for seed, *_ in arm.told] == [0] * 4 + [1] * 4, "the same draw of resistance for every knowledge"
    for number in range(2):
        told = dict(zip(ARMS, arm.told[4 * number : 4 * number + 4], strict=True))
        believed = {name: one for name, (_, one, _) in told.items()}
        probes = {name: settings.touch.probes for name, (_, _, settings) in told.items()}
        assert probes == {"predicted": 5, "untouched": 0, "true_joint": 5, "true_object": 0}
        assert believed["untouched"] is believed["predicted"]
        assert believed["true_joint"].points is believed["predicted"].points
        task = task_of(evalset, number, ArmSettings().diagonal_m)
        for name in ("true_joint", "true_object"):
            assert believed[name].joint == (JointType.REVOLUTE, JointType.PRISMATIC)[number]
            np.testing.assert_allclose(believed[name].pivot, task.joint_at_source(task.part).pivot)
            assert believed[name].amount == pytest.approx(task.span)
        assert not np.allclose(believed["predicted"].pivot, believed["true_joint"].pivot)
        true, low = believed["true_object"], task.object.posed_vertices(task.q_source)[task.part].min(0)
        assert (true.points[true.moving] >= low - 1e-6).all()
        assert np.array_equal(true.seen_from, believed["predicted"].seen_from)


def test_rows_summaries_and_the_report_say_what_was_opened(arm, evalset, options, tmp_path):
    rows = evaluate_arm(evalset, tmp_path, options, SETTINGS)
    assert [{name: why(pull) for name, pull in one.pulls.items()} for one in rows] == 2 * [
        {"predicted": "missed", "untouched": "missed", "true_joint": "open", "true_object": "open"}
    ]
    content = json.loads((tmp_path / "arm.json").read_text(encoding="utf-8"))
    assert [ArmRow.from_json(one) for one in content["samples"]] == rows
    assert content["samples"][0]["pulls"]["predicted"]["left"] == 0.75
    assert content["summary"]["all"]["predicted"]["success_90"]["mean"] == 0.0
    assert content["summary"]["revolute"]["true_joint"]["success_90"]["mean"] == 1.0
    assert content["guides"] == ARMS
    assert content["arm"]["touch"]["probes"] == 5
    assert {path.name for path in tmp_path.iterdir()} == {"arm.json", "arm.md"}
    report = (tmp_path / "arm.md").read_text(encoding="utf-8")
    assert all(name in report for name in ARMS.values())
    assert FAILURES["missed"] in report


def test_a_run_that_was_cut_off_goes_on_and_only_with_its_own_rows(arm, evalset, options, tmp_path):
    known = ("predicted", "true_object")
    whole, cut = tmp_path / "whole", tmp_path / "cut"
    evaluate_arm(evalset, whole, options, SETTINGS, knowledge=known)
    assert len(arm.told) == 4

    rows, first = [], ArmJob(evalset, options.model, RunSettings(limit=1), knowledge=known)
    evaluate_arm(evalset, cut, options, first.settings, knowledge=known)
    rows = json.loads((cut / "arm.json").read_text(encoding="utf-8"))["samples"]
    assert len(rows) == 1

    arm.told.clear()
    arm.breaks_at = 2
    with pytest.raises(KeyboardInterrupt):
        evaluate_arm(evalset, cut, options, SETTINGS, knowledge=known)
    kept = (cut / "rows.jsonl").read_text(encoding="utf-8")
    (cut / "rows.jsonl").write_text(kept + json.dumps(rows[0]) + "\n", encoding="utf-8")
    with pytest.raises(RowsError, match="another knowledge"):
        evaluate_arm(evalset, cut, options, SETTINGS)
    with pytest.raises(RowsError, match="another arm"):
        evaluate_arm(evalset, cut, options, SETTINGS, ArmSettings(rounds=1), known)
    arm.told.clear()
    arm.breaks_at = None
    evaluate_arm(evalset, cut, options, SETTINGS, knowledge=known)
    assert [seed for seed, *_ in arm.told][-2:] == [1, 1]
    assert (cut / "arm.json").read_text() == (whole / "arm.json").read_text()


def test_a_job_travels_to_workers(evalset):
    job = pickle.loads(pickle.dumps(ArmJob(evalset, "base", SETTINGS, ArmSettings(rounds=2), ("predicted",))))
    assert (job.evalset.checksum, job.arm.rounds, job.knowledge) == (evalset.checksum, 2, ("predicted",))


def test_what_the_arm_could_not_reach_is_not_counted_among_what_it_could():
    nothing, far = ArmResult(0.0, "no grasp", 1.0), ArmResult(0.0, "out of reach", 1.0)
    rows = [
        row(0, "revolute", predicted=OPENED, true_object=OPENED),
        row(1, "revolute", predicted=MISSED, true_object=OPENED),
        row(2, "prismatic", predicted=nothing, true_object=far),
    ]
    reach, ends = reach_tables(rows)
    shares = {name: (count, share.split()[0]) for name, count, share in reach.rows}
    assert shares == {"prediction": ("2", "0.500"), "true surface, true joint": ("2", "1.000")}
    assert [(end, *counts) for end, _, *counts in ends.rows] == [
        ("open", "1", "2"),
        ("no grasp", "1", "0"),
        ("out of reach", "0", "1"),
        ("missed", "1", "0"),
    ]


def test_where_nothing_is_in_reach_no_share_is_given():
    reach, _ = reach_tables([row(0, "revolute", predicted=ArmResult(0.0, "no grasp", 1.0))])
    assert reach.rows == (("prediction", "0", ""),)


@pytest.mark.parametrize(
    ("result", "end"),
    [(replace(OPENED, opened=0.9), "open"), (replace(OPENED, opened=0.89), "came off"), (MISSED, "missed")],
)
def test_what_is_open_enough_is_open_whatever_ended_it(result, end):
    assert why(result) == end
