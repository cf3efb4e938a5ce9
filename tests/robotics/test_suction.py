"""The suction protocol on a cabinet of which everything is known."""

from dataclasses import replace

import numpy as np
import pytest
from support.boxes import box, cabinet

from partrm.geometry.joints import JointType
from partrm.objects.articulated_object import ArticulatedObject, Joint, Part
from partrm.robotics.arcs import Arc
from partrm.robotics.guides import Plan
from partrm.robotics.simulated_object import (
    JointResistance,
    SimulationError,
    Task,
    pieces_of,
    shell_inertia,
    simulate,
)
from partrm.robotics.suction import SuctionSettings, pull

SETTINGS = SuctionSettings(speed_m_per_s=0.2, turn_rad_per_s=2.0, timestep_s=0.004, refit_m=0.02)
OBJECT = cabinet().rescaled(0.6, np.zeros(3))
DOOR, DRAWER = 1, 2


def task(part: int, obj: ArticulatedObject = OBJECT, q: float = 0.0, locked: bool = False) -> Task:
    source = obj.closed_q()
    source[part] = q
    return Task(obj, part, source, float(obj.joint_limits[part, 1] - q), locked)


def plan(of: Task, pivot_off: tuple[float, float, float] = (0.0, 0.0, 0.0), closed_loop: bool = False) -> Plan:
    """The true joint's way of the corner that is farthest from the hinge, its pivot moved."""
    joint = of.joint_at_source(of.part)
    vertices = of.object.posed_vertices(of.q_source)[of.part]
    axis, pivot = np.array(joint.axis), np.array(joint.pivot)
    point = vertices[np.linalg.norm(np.cross(vertices - pivot, axis), axis=1).argmax()]
    return Plan(Arc.of_joint(joint.type, axis, pivot + np.array(pivot_off), point), closed_loop)


@pytest.mark.parametrize(("part", "q"), [(DOOR, 0.0), (DOOR, 0.7), (DRAWER, 0.0), (DRAWER, 0.1)])
def test_the_true_joint_opens(part, q):
    found = pull(task(part, q=q), plan(task(part, q=q)), SETTINGS)
    assert (found.ending, found.opened > 0.99, found.left < 0.01) == ("open", True, True)


WRONG = (0.0, -0.12, 0.0)


def test_a_wrong_hinge_fails_and_the_closed_loop_mends_it():
    open_loop = pull(task(DOOR), plan(task(DOOR), WRONG), SETTINGS)
    assert open_loop.ending == "came off"
    assert open_loop.opened < 0.75
    assert pull(task(DOOR), plan(task(DOOR), WRONG, closed_loop=True), SETTINGS).ending == "open"


def test_a_straight_pull_opens_drawers_only():
    for part, opens in ((DRAWER, True), (DOOR, False)):
        arc = plan(task(part)).arc
        found = pull(task(part), Plan(Arc(arc.start, arc.tangent, np.zeros(3))), SETTINGS)
        assert (found.opened > 0.9) == opens


@pytest.mark.parametrize("closed_loop", [False, True])
def test_a_locked_joint_fails_with_a_finite_state(closed_loop):
    held = task(DOOR, locked=True)
    found = pull(held, plan(held, closed_loop=closed_loop), SETTINGS)
    assert found.ending == "came off"
    assert np.isfinite(found.opened)
    assert abs(found.opened) < 0.05


def test_the_same_seed_gives_the_same_figures():
    settings, wrong = replace(SETTINGS, timeout_s=0.8), plan(task(DOOR), WRONG, closed_loop=True)
    first, again, other = (pull(task(DOOR), wrong, settings, seed) for seed in (1, 1, 2))
    assert first == again
    assert first.opened != other.opened
    assert first.ending == "timeout"


def test_a_weak_cup_does_not_move_a_stiff_door():
    stiff = replace(SETTINGS, resistance=JointResistance(hinge_friction=20.0))
    assert pull(task(DOOR), plan(task(DOOR)), stiff).ending == "came off"


def with_post() -> ArticulatedObject:
    """The cabinet with a post that stands in the door's way."""
    body = OBJECT.parts[0]
    vertices, faces = box([0.25, 0.05, 0.0], [0.3, 0.1, 0.2])
    more = replace(
        body,
        vertices=np.concatenate([body.vertices, vertices]),
        faces=np.concatenate([body.faces, faces + len(body.vertices)]),
        face_material=np.concatenate([body.face_material, np.zeros(len(faces), dtype=body.face_material.dtype)]),
    )
    return replace(OBJECT, parts=(more, *OBJECT.parts[1:]))


def test_what_stands_in_the_way_stops_the_part():
    blocked = task(DOOR, with_post())
    found = pull(blocked, plan(blocked), SETTINGS)
    assert found.ending == "came off"
    assert 0.05 < found.opened < 0.9


def lid() -> ArticulatedObject:
    """A lid that a hinge along y carries; it lies open by nothing but its cup."""
    panel, faces = box([0.0, -0.2, 0.0], [0.4, 0.2, 0.01])
    joint = Joint("hinge", JointType.REVOLUTE, 0, (0.0, -1.0, 0.0), (0.0, 0.0, 0.0), 0.0, 1.4)
    zeros = np.zeros(len(faces), dtype=np.int64)
    base = Part("base", panel - [0.5, 0, 0.1], faces, zeros)
    return ArticulatedObject("lid", "Box", (base, Part("lid", panel, faces, zeros, joint)), OBJECT.materials)


def test_gravity_weighs_on_a_lid():
    found = pull(task(1, lid()), plan(task(1, lid())), SETTINGS)
    assert found.ending == "open"
    heavy = replace(SETTINGS, resistance=JointResistance(surface_density=40.0))
    assert pull(task(1, lid()), plan(task(1, lid())), heavy).ending == "came off"
    floating = replace(heavy, resistance=JointResistance(surface_density=40.0, gravity=0.0))
    assert pull(task(1, lid()), plan(task(1, lid())), floating).ending == "open"


def test_bodies_weigh_what_their_surface_weighs():
    vertices, faces = box([-0.5, -0.5, -0.5], [0.5, 0.5, 0.5])
    mass, centre, inertia = shell_inertia(vertices[faces], 2.0)
    assert mass == pytest.approx(12.0)
    np.testing.assert_allclose(centre, 0, atol=1e-12)
    # A hollow cube of side a: 5 m a^2 / 18 about each axis.
    np.testing.assert_allclose(inertia, np.eye(3) * 5 * 12 / 18, atol=1e-12)
    simulated = simulate(task(DOOR), JointResistance(surface_density=2.0), 0.002)
    door = OBJECT.parts[DOOR]
    assert simulated.model.body_mass[simulated.body] == pytest.approx(shell_inertia(door.vertices[door.faces], 2.0)[0])


def test_pieces_are_convex_where_they_fill_their_hull():
    walls = pieces_of(OBJECT.parts[0].vertices, OBJECT.parts[0].faces)
    assert [piece.convex for piece in walls] == [True] * 6
    vertices, faces = box([0, 0, 0], [1, 1, 1])
    bent = vertices + np.array([0.0, 0.0, 1.0]) * (np.arange(8) == 7)[:, None]
    assert len(pieces_of(bent, faces)) == 1
    open_box = faces[2:]
    assert not pieces_of(vertices, open_box)[0].convex
    sheet = pieces_of(vertices, faces[:2])[0]
    assert sheet.convex
    assert len(sheet.vertices) == 8


def test_what_cannot_be_opened_is_refused():
    with pytest.raises(SimulationError, match="no joint that moves"):
        Task(OBJECT, 0, OBJECT.closed_q(), 1.0)
    with pytest.raises(SimulationError, match="no range left"):
        Task(OBJECT, DOOR, OBJECT.closed_q(), 0.0)
