"""A Panda before a cabinet of which it knows everything."""

from dataclasses import replace

import numpy as np
import pytest
from support.armed_cabinet import DOOR, DRAWER, QUICK, SETTINGS, case

from partrm.robotics.arm import ArmRun, open_with_arm
from partrm.robotics.arm_plan import ArmPlan, plan_arm
from partrm.robotics.panda import HOME, JOINTS, LIMIT_MARGIN_RAD, PREFIX, Kinematics, panda_file
from partrm.robotics.simulated_object import DRAGGED, SimulationError

pytest.importorskip("mink", reason="the arm's kinematics are solved by mink (extra `robot`)")
try:
    panda_file()
except SimulationError as error:
    pytest.skip(str(error), allow_module_level=True)


@pytest.fixture(scope="module")
def kinematics():
    return Kinematics()


def test_inverse_kinematics_reach_what_is_near_and_say_what_is_not(kinematics):
    T = np.eye(4)
    T[:3, :3], T[:3, 3] = np.array([[0, 0, 1], [0, 1, 0], [-1, 0, 0]]), [0.5, 0.1, 0.4]
    assert kinematics.reach(T, np.array(HOME)).there
    T[0, 3] = 1.5
    assert kinematics.reach(T, np.array(HOME)).position_m > 0.3


def test_an_arm_pressed_beyond_its_joints_ends_stays_there(kinematics):
    q = np.array(HOME)
    q[1] = kinematics.model.jnt_range[1, 1] + 0.5
    T = np.eye(4)
    T[:3, 3] = [0.5, 0.1, 0.4]
    np.testing.assert_array_equal(kinematics.follow(T, q, np.array(HOME), 0.01).q, q)


@pytest.mark.parametrize(("part", "seed"), [(DRAWER, 0), (DRAWER, 1), (DOOR, 0), (DOOR, 1)])
def test_the_true_joint_opens_whatever_points_are_drawn(part, seed, kinematics):
    states, torques, widths = [], [], []

    def watch(model, data):
        states.append(data.qpos.copy())
        torques.append(np.abs(data.actuator_force[:JOINTS]).max())
        widths.append(2 * data.joint(f"{PREFIX}finger_joint1").qpos[0])

    found = open_with_arm(*case(part, seed=seed), SETTINGS, kinematics, watch=watch)
    assert found.ending == "open"
    assert found.opened > 0.99
    assert found.grasps == 1
    assert np.isfinite(states).all()
    assert max(torques) < 40, "neither a joint's end nor the arm itself is in its way"
    assert min(widths) > 0.006, "the bar stays between the fingers"


def test_the_planned_way_keeps_off_the_joints_ends_and_does_not_jump(kinematics):
    _, believed = case(DOOR)
    plan = plan_arm(believed, kinematics, QUICK)
    assert isinstance(plan, ArmPlan)
    low, high = kinematics.model.jnt_range[:JOINTS].T
    for planned in plan.grasps:
        q = np.stack([planned.q_before, *planned.q_along])
        assert (np.minimum(q - low, high - q) > LIMIT_MARGIN_RAD - 1e-3).all()
        assert np.abs(np.diff(q, axis=0)).max() < QUICK.step_turn
        np.testing.assert_allclose(planned.q_after(0.5 / (len(planned.q_along) - 1)), q[1:3].mean(0))
        assert not any(kinematics.meets_itself(one) for one in q)


def test_grasps_like_those_that_have_failed_are_left_out(kinematics):
    _, believed = case(DRAWER)
    plan = plan_arm(believed, kinematics, QUICK)
    assert isinstance(plan, ArmPlan)
    failed = [next(plan.grasps).grasp]
    again = plan_arm(believed, kinematics, QUICK, failed)
    assert isinstance(again, ArmPlan)
    assert not any(planned.grasp.is_like(failed[0]) for planned in again.grasps)


def test_a_part_that_slips_is_taken_again_where_it_is_by_then(kinematics, monkeypatch):
    """The fingers open by themselves once, 4 cm on."""
    slipped, close = [], ArmRun._take

    def take(run, grasp):
        taken.append(grasp.T_object_gripper)
        runs.append(run)
        return close(run, grasp)

    taken: list[np.ndarray] = []
    runs: list[ArmRun] = []
    monkeypatch.setattr(ArmRun, "_take", take)

    def watch(model, data):
        if len(taken) == 1 and data.joint(DRAGGED).qpos[0] > 0.04:
            runs[0].arm.opening = 0.08
            slipped.append(float(data.joint(DRAGGED).qpos[0]))

    found = open_with_arm(*case(DRAWER), SETTINGS, kinematics, watch=watch)
    assert slipped
    assert found.grasps == 2
    assert found.opened > 0.9
    moved = taken[1][:3, 3] - taken[0][:3, 3]
    assert moved[0] == pytest.approx(max(slipped), abs=0.02), "somewhere on the bar, where that is by then"


def test_a_locked_joint_fails_with_a_finite_state(kinematics):
    states = []
    task, believed = case(DRAWER, locked=True)
    found = open_with_arm(task, believed, SETTINGS, kinematics, watch=lambda model, data: states.append(data.qpos))
    assert found.ending in ("stuck", "came off", "missed")
    assert found.grasps > 1
    assert found.reachable
    assert abs(found.opened) < 0.05
    assert np.isfinite(states).all()


def test_what_the_arm_cannot_reach_or_hold_is_told_apart(kinematics):
    task, believed = case(DRAWER)
    far = replace(believed, amount=3.0)
    found = open_with_arm(task, far, SETTINGS, kinematics)
    assert (found.ending, found.reachable, found.opened) == ("out of reach", False, 0.0)
    bare = replace(believed, moving=np.zeros_like(believed.moving))
    assert plan_arm(bare, kinematics, QUICK) == "no grasp"
