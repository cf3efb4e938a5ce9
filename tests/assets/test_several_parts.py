"""One asset of several predictions: a drawer, and a door with a dial on it."""

import json
import math
from dataclasses import replace
from itertools import combinations
from typing import Any

import numpy as np
import pytest
import torch
from numpy.testing import assert_allclose
from support.gaussian_cabinet import PARTS, cabinet_of_three

from partrm.assets.export import export_prediction
from partrm.assets.predicted import AssetError
from partrm.assets.predicted_parts import merge_parts
from partrm.geometry.joints import JointType
from partrm.objects.mjcf import load_mjcf
from partrm.objects.urdf import load_urdf

NUMBER = {name: f"part_{number}" for number, name in enumerate(PARTS, start=1)}


def test_the_dial_hangs_on_the_door_and_contested_gaussians_go_to_the_surer_joint():
    predictions = cabinet_of_three()
    found = merge_parts(predictions)
    names = ("body", *found.names)
    above = dict(zip(found.names, (names[parent] for parent in found.parents), strict=True))
    assert above == {NUMBER["dial"]: NUMBER["door"], NUMBER["drawer"]: "body", NUMBER["door"]: "body"}
    counts = dict(zip(names, torch.bincount(found.part).tolist(), strict=True))
    dial, drawer, door = (int(p.moving.sum()) for p in predictions)
    assert counts[NUMBER["dial"]] == dial
    assert counts[NUMBER["door"]] == pytest.approx(door - dial, rel=0.03)
    assert counts[NUMBER["drawer"]] < 0.97 * drawer, "the strip went to the door"
    assert len(found.before) == pytest.approx(len(predictions[0].before), rel=0.03)


def test_one_prediction_is_an_object_of_one_part():
    one = cabinet_of_three()[1]
    found = merge_parts([one])
    assert found.before is one.before
    assert (found.part == one.moving).all()
    assert (found.names, found.parents, found.joints) == (("part",), (0,), (one.joint,))


def test_predictions_that_make_no_object_are_refused():
    dial, drawer, door = cabinet_of_three()
    with pytest.raises(AssetError, match="parts 1 and 3 are one and the same"):
        merge_parts([door, drawer, door])
    with pytest.raises(AssetError, match="no prediction"):
        merge_parts([])
    unsure = replace(drawer, joint=replace(drawer.joint, confidence=0.3))
    with pytest.raises(AssetError, match=r"of part_2 is uncertain \(confidence 0.30"):
        export_prediction(merge_parts([dial, unsure, door]), "never")


@pytest.mark.parametrize(("file", "load"), [("object.urdf", load_urdf), ("object.xml", load_mjcf)])
def test_the_tree_comes_back_through_our_loaders(three, file, load):
    asset, folder = three
    given, found = asset.object.normalised(), load(folder / file)
    assert sorted(part.name for part in found.parts) == sorted(part.name for part in given.parts)
    back = {part.name: part.joint for part in found.parts}
    for part in given.parts:
        if part.joint is not None:
            joint = back[part.name]
            assert found.parts[joint.parent].name == given.parts[part.joint.parent].name
            for name in ("type", "axis", "pivot", "lower", "upper"):
                assert_allclose(getattr(joint, name), getattr(part.joint, name), atol=1e-6)


def test_yourdfpy_moves_them_all(three):
    yourdfpy = pytest.importorskip("yourdfpy")
    asset, folder = three
    robot = yourdfpy.URDF.load(str(folder / "object.urdf"))
    upper = {part.joint.name: part.joint.upper for part in asset.object.parts if part.joint is not None}
    assert set(robot.actuated_joint_names) == set(upper) == {"joint_1", "joint_2", "joint_3"}
    robot.update_cfg(upper)
    q = np.array([0.0 if part.joint is None else part.joint.upper for part in asset.object.parts])
    for part, T in zip(asset.object.parts, asset.object.T_object_part(q), strict=True):
        pivot = np.zeros(3) if part.joint is None else part.joint.pivot
        assert_allclose(robot.get_transform(part.name, "world")[:3, 3], T[:3, :3] @ pivot + T[:3, 3], atol=1e-9)


def test_mujoco_finds_no_contact_with_the_body_anywhere_in_the_ranges(three):
    mujoco = pytest.importorskip("mujoco")
    asset, folder = three
    spec = mujoco.MjSpec.from_file(str(folder / "object.xml"))
    pairs = {frozenset((e.bodyname1, e.bodyname2)) for e in spec.excludes}
    assert pairs == {frozenset(pair) for pair in combinations([part.name for part in asset.object.parts], 2)}
    for exclude in list(spec.excludes):
        spec.delete(exclude)
    model = spec.compile()
    model.opt.disableflags = int(model.opt.disableflags) | int(mujoco.mjtDisableBit.mjDSBL_FILTERPARENT)
    data, rng = mujoco.MjData(model), np.random.default_rng(0)
    allowed = {frozenset((NUMBER["drawer"], NUMBER[other])) for other in ("door", "dial")}
    states = [*np.eye(3), np.zeros(3), np.ones(3), *rng.random((40, 3))]
    for state in states:
        data.qpos[:] = model.jnt_range[:, 0] + state * np.ptp(model.jnt_range, axis=1)
        mujoco.mj_forward(model, data)
        bodies = [frozenset(model.body(model.geom_bodyid[g]).name for g in c.geom) for c in data.contact]
        assert set(bodies) <= allowed, state
        assert state.any() or not any(c.dist < -1e-6 for c in data.contact), "nothing overlaps at rest"


def test_each_joint_moves_under_gravity_to_its_end(three):
    mujoco = pytest.importorskip("mujoco")
    model = mujoco.MjModel.from_xml_path(str(three[1] / "object.xml"))
    assert model.nv == 3
    for joint in range(3):
        data = mujoco.MjData(model)
        lower, upper = model.jnt_range[joint]
        goal = upper if abs(upper) > abs(lower) else lower
        mujoco.mj_forward(model, data)
        weight = 9.81 * float(model.body_mass.sum())
        mass = float(model.dof_M0[joint])
        while data.time < 4 and abs(data.qpos[joint]) < 0.9 * abs(goal):
            push = 1.5 * abs(float(data.qfrc_bias[joint])) + 2 * float(model.dof_frictionloss[joint]) + 0.5 * mass
            data.qfrc_applied[joint] = math.copysign(min(push, weight), goal)
            mujoco.mj_step(model, data)
        assert abs(data.qpos[joint]) >= 0.9 * abs(goal), joint
        assert np.isfinite(data.qpos).all()


def test_glb_and_usd_have_every_joint(three):
    pygltflib = pytest.importorskip("pygltflib")
    pytest.importorskip("pxr", reason="the extra usd")
    asset, folder = three
    read = pygltflib.GLTF2().load(str(folder / "object.glb"))
    children = {read.nodes[node].name: read.nodes[child].name for node in range(len(read.nodes))
                for child in read.nodes[node].children or []
                if read.nodes[child].name == NUMBER["dial"]}  # fmt: skip
    assert children == {NUMBER["door"]: NUMBER["dial"]}
    (animation,) = read.animations
    assert {read.nodes[c.target.node].name for c in animation.channels} == set(NUMBER.values())
    from pxr import Usd, UsdPhysics

    (path,) = (folder / "usd").glob("*.usdc")
    stage: Any = Usd.Stage.Open(str(path))
    prims = list(stage.Traverse())
    assert len([p for p in prims if p.IsA(UsdPhysics.RevoluteJoint)]) == 2
    assert len([p for p in prims if p.IsA(UsdPhysics.PrismaticJoint)]) == 1
    about = json.loads((folder / "asset.json").read_text())
    said = {joint["part"]: (joint["parent"], joint["type"]) for joint in about["predicted"]["joints"]}
    assert said[NUMBER["dial"]] == (NUMBER["door"], "revolute")
    assert said[NUMBER["drawer"]] == ("body", "prismatic")
    assert about["predicted"]["confidence"] == pytest.approx(0.8)
    assert asset.object.parts[0].joint is None
    assert {JointType[kind.upper()] for _, kind in said.values()} == {JointType.REVOLUTE, JointType.PRISMATIC}
