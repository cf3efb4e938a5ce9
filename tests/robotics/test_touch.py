"""Closed fingers feel where a part is, and push it shut."""

from dataclasses import replace

import numpy as np
import pytest
from support.armed_cabinet import DOOR, DRAWER, OBJECT, SETTINGS, case

from partrm.robotics.arm import ArmResult, ArmRun, open_with_arm
from partrm.robotics.arm_plan import BelievedObject
from partrm.robotics.beliefs import true_object
from partrm.robotics.panda import HOME, Kinematics, panda_file
from partrm.robotics.simulated_arm import TouchSettings, arm_xml
from partrm.robotics.simulated_object import DRAGGED, SimulationError, Task
from partrm.robotics.touch import touched

pytest.importorskip("mink", reason="the arm's kinematics are solved by mink (extra `robot`)")
try:
    panda_file()
except SimulationError as error:
    pytest.skip(str(error), allow_module_level=True)

TOUCHING = replace(SETTINGS, touch=TouchSettings(probes=3))


@pytest.fixture(scope="module")
def kinematics():
    return Kinematics()


def shifted(believed: BelievedObject, farther: float) -> BelievedObject:
    """Believed farther from the camera, each point in the pixel where it was."""
    eye = believed.seen_from
    scale = 1 + farther / np.linalg.norm(believed.start - eye)
    points, start, pivot = (eye + scale * (p - eye) for p in (believed.points, believed.start, believed.pivot))
    return replace(believed, points=points, start=start, pivot=pivot)


@pytest.mark.parametrize(("part", "farther"), [(DOOR, 0.06), (DRAWER, -0.06)])
def test_a_surface_believed_too_far_or_too_near_is_found(part, farther, kinematics):
    task, true = case(part)
    moved = []

    def watch(model, data):
        moved.append(abs(float(data.joint(DRAGGED).qpos[0])))

    found = touched(arm_xml(task, TOUCHING, 0), shifted(true, farther), TOUCHING, kinematics, watch=watch)
    assert found.probes == 3
    assert found.met >= 2
    assert max(moved) < 0.02, "the joint is held: a touch does not move the part"
    assert np.linalg.norm(found.believed.start - true.start) < 0.018, "a prior of 4 cm holds 6 cm back, at a slant"
    assert np.linalg.norm(found.believed.pivot - true.pivot) < 0.03
    off = np.linalg.norm(found.believed.points - true.points, axis=1)[true.moving]
    assert np.quantile(off, 0.9) < 0.024
    assert true.axis @ found.believed.axis > 0.99


def test_where_nothing_is_met_the_prediction_stays(kinematics):
    task, true = case(DRAWER)
    aside = np.array([0.0, 1.0, 0.0])
    moved = {name: getattr(true, name) + aside for name in ("points", "start", "pivot", "seen_from")}
    elsewhere = replace(true, **moved)
    found = touched(arm_xml(task, TOUCHING, 0), elsewhere, TOUCHING, kinematics)
    assert (found.probes, found.met) == (3, 0)
    assert found.seconds > 1
    assert found.believed is elsewhere


def test_no_part_and_no_probes_are_no_touch(kinematics):
    task, true = case(DRAWER)
    bare = replace(true, moving=np.zeros_like(true.moving))
    assert touched(arm_xml(task, TOUCHING, 0), bare, TOUCHING, kinematics).probes == 0
    assert touched(arm_xml(task, TOUCHING, 0), true, SETTINGS, kinematics).probes == 0


def test_what_is_met_speaks_for_where_the_part_is(kinematics):
    task, true = case(DRAWER)
    found = touched(arm_xml(task, TOUCHING, 0), true, TOUCHING, kinematics)
    out = np.eye(4)
    out[:3, 3] = 0.05 * true.axis
    pulled = true.moved(out, 0.5)
    assert len(found.points) == found.met >= 2
    assert found.speaks_for(true, pulled)
    assert not found.speaks_for(pulled, true)
    assert not found.speaks_for(true, shifted(true, 0.002)), "a probe does not tell millimetres"
    assert not replace(found, points=found.points[:0]).speaks_for(true, pulled)


def test_what_slid_along_a_part_that_stayed_is_felt_and_tried_where_the_part_is(kinematics, monkeypatch):
    """The first round believes that it has led the drawer by 8 cm."""
    task, true = case(DRAWER)
    whole, tried = ArmRun.open, []

    def slides(run, believed, state=None):
        tried.append(believed)
        if len(tried) > 1:
            return whole(run, believed, state)
        run.arm.begin(np.array(HOME), 0.0, state)
        out = np.eye(4)
        out[:3, 3] = 0.08 * believed.axis
        run.believed, run.led = believed.moved(out, 0.4), True
        return ArmResult(0.0, "came off", 1.0, 1)

    monkeypatch.setattr(ArmRun, "open", slides)
    found = open_with_arm(task, true, TOUCHING, kinematics)
    assert np.linalg.norm(tried[1].start - true.start) < 0.02, "not where it was thought to have gone"
    assert found.opened > 0.9
    assert found.probes == 9, "three of the first round, three that told, three where the part is"


def test_a_drawer_that_nothing_can_hold_is_pushed_shut(kinematics):
    """Its bar is not believed, only its flush front."""
    source = OBJECT.closed_q()
    source[DRAWER] = 0.08
    task = Task(OBJECT, DRAWER, source, -0.08)
    start = OBJECT.posed_vertices(source)[DRAWER][-8:].mean(0)
    true = true_object(task, start, np.array([1.4, -0.3, 0.5]), 0)
    front = OBJECT.parts[DRAWER].vertices[:-8, 0].max() + 0.08
    seen = ~true.moving | ((true.points[:, 0] < front + 1e-3) & (true.points[:, 0] > front - 0.03))
    believed = replace(true, points=true.points[seen], moving=true.moving[seen])
    found = open_with_arm(task, believed, TOUCHING, kinematics)
    assert found.ending == "open"
    assert found.opened > 0.99
    assert found.met == 3
