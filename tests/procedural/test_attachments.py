"""Mechanisms on faces: each moves as its name says, whichever way its face looks."""

import numpy as np
import pytest

from partrm.geometry.joints import JointType
from partrm.objects.materials import Role
from partrm.procedural import attachments, generate
from partrm.procedural.assemblies import SIDES
from partrm.procedural.attachments import COVERS, MECHANISMS, Face
from partrm.procedural.builder import ObjectBuilder
from partrm.procedural.shapes import box

CENTRE = np.array([0.3, -0.2, 0.5])


def attached(mechanism, side, seed, hollow=False):
    """One mechanism on a face of a unit box, and the face's outward normal."""
    b = ObjectBuilder("test", np.random.default_rng(seed))
    R = SIDES[side]
    b.add(0, box(CENTRE - R[:, 0] / 2 - 0.5, CENTRE - R[:, 0] / 2 + 0.5), b.new_slot(Role.BODY))
    with b.placed(R, CENTRE):
        mechanism(b, Face(R, CENTRE, 0.9, 0.7, 0.8, hollow))
    return b.build("test"), R[:, 0]


def moved(obj, part, share):
    """Vertices of a part at a share of its joint's range."""
    q = obj.closed_q()
    q[part] = obj.joint_limits[part] @ [1 - share, share]
    return obj.posed_vertices(q)[part]


@pytest.mark.parametrize("side", SIDES)
@pytest.mark.parametrize("mechanism", tuple(dict.fromkeys((*COVERS, *MECHANISMS))), ids=lambda m: m.__name__)
def test_mechanisms_stand_on_their_face_and_move(mechanism, side):
    for seed in range(4):
        obj, normal = attached(mechanism, side, seed)
        assert obj.movable
        for part in obj.movable:
            points = obj.posed_vertices(obj.closed_q())[part]
            assert ((points - CENTRE) @ normal).max() > 0, "nothing to be seen outside"
            assert np.linalg.norm(points - CENTRE, axis=1).min() < 1.6
            lower, upper = obj.joint_limits[part]
            assert lower < upper
            assert np.abs(moved(obj, part, 0.0) - moved(obj, part, 1.0)).max() > 0.01


@pytest.mark.parametrize("side", SIDES)
def test_each_moves_the_way_of_its_kind(side):
    for seed in range(6):
        for name in ("drawer", "plunger", "cap"):
            obj, normal = attached(getattr(attachments, f"_{name}"), side, seed)
            joint = obj.parts[1].joint
            assert joint.type == JointType.PRISMATIC
            np.testing.assert_allclose(joint.axis, normal, atol=1e-12)
        for name in ("knob", "turntable"):
            joint = attached(getattr(attachments, f"_{name}"), side, seed)[0].parts[1].joint
            assert joint.type == JointType.REVOLUTE
            assert abs(np.dot(joint.axis, SIDES[side][:, 0])) == pytest.approx(1)
        obj, normal = attached(attachments._slider, side, seed)
        assert obj.parts[1].joint.type == JointType.PRISMATIC
        assert abs(np.dot(obj.parts[1].joint.axis, normal)) < 1e-9
        reach = np.concatenate([moved(obj, 1, s) for s in (0.0, 1.0)]) - CENTRE
        assert np.abs(reach @ SIDES[side][:, 1:]).max() < 0.46, "it slides off its face"


@pytest.mark.parametrize("side", SIDES)
@pytest.mark.parametrize("hollow", [False, True])
def test_flaps_open_outwards(side, hollow):
    for seed in range(6):
        obj, normal = attached(attachments._flap, side, seed, hollow)
        assert obj.parts[1].joint.type == JointType.REVOLUTE
        closed, open_ = (((moved(obj, 1, s) - CENTRE) @ normal) for s in (0.0, 0.4))
        assert open_.mean() > closed.mean() + 0.02
        assert open_.min() > -0.15


def test_assemblies_hold_every_kind_of_mechanism():
    found = {part.name.split("_")[0] for seed in range(60) for part in generate("assembly", seed).parts[1:]}
    every = "door drawer slider plunger knob lever toggle bail wheel link turntable cap"
    assert found == set(every.split())
