"""MuJoCo loads what we export, moves it as we do, and our MJCF loader gives the object back."""

from dataclasses import replace

import numpy as np
import pytest
from support.described import assert_same_joint, rich_object

from partrm.geometry.joints import JointType
from partrm.objects.articulated_object import ObjectError
from partrm.objects.mjcf import load_mjcf
from partrm.objects.mjcf_export import save_mjcf
from partrm.procedural import OWN_CATEGORIES, generate

mujoco = pytest.importorskip("mujoco")


def exported(obj, folder):
    save_mjcf(obj, folder / "ä b.xml")
    return mujoco.MjModel.from_xml_path(str(folder / "ä b.xml"))


@pytest.mark.parametrize("category", ["rich", *OWN_CATEGORIES[::6]])
def test_mujoco_moves_it_as_we_do(tmp_path, category):
    obj = rich_object() if category == "rich" else generate(category, 4)
    model = exported(obj, tmp_path)
    assert model.njnt == len(obj.movable)
    rng = np.random.default_rng(0)
    for _ in range(4):
        q = rng.uniform(*obj.joint_limits.T)
        data = mujoco.MjData(model)
        for index in obj.movable:
            joint = obj.parts[index].joint
            assert joint is not None
            data.joint(joint.name).qpos[0] = q[index]
            assert bool(model.joint(joint.name).limited[0]) == (joint.type != JointType.CONTINUOUS)
        mujoco.mj_kinematics(model, data)
        for part, vertices in zip(obj.parts, obj.posed_vertices(q), strict=True):
            if len(part.faces):
                got = world_vertices(model, data, part.name)
                used = vertices[np.unique(part.faces)]
                assert hausdorff(got, used) < 1e-6


def world_vertices(model, data, body):
    found = []
    for geom in range(model.ngeom):
        if model.geom_bodyid[geom] == model.body(body).id:
            mesh = model.geom_dataid[geom]
            start, count = model.mesh_vertadr[mesh], model.mesh_vertnum[mesh]
            local = model.mesh_vert[start : start + count].astype(np.float64)
            found.append(local @ data.geom_xmat[geom].reshape(3, 3).T + data.geom_xpos[geom])
    return np.concatenate(found)


def hausdorff(a, b):
    distance = np.linalg.norm(a[:, None] - b[None], axis=-1)
    return max(distance.min(0).max(), distance.min(1).max())


def test_our_loader_gives_it_back(tmp_path):
    obj = rich_object()
    save_mjcf(obj, tmp_path / "x.xml")
    loaded = load_mjcf(tmp_path / "x.xml")
    # MuJoCo numbers bodies depth first.
    by_name = {p.name: p for p in loaded.parts}
    assert set(by_name) == {p.name for p in obj.parts}
    for part in obj.parts:
        other = by_name[part.name]
        assert_same_joint(part.joint, other.joint, 1e-6)
        one, two = corner_table(obj, part), corner_table(loaded, other)
        np.testing.assert_allclose(one, two, atol=1e-5)
    door, texture = loaded.parts[1], obj.materials[1].texture
    np.testing.assert_array_equal(loaded.materials[door.face_material[0]].texture, texture)


def corner_table(obj, part):
    """Centre, colour and texture coordinates of every face, in an order that does not hang on the file's."""
    colour = np.array([np.array(m.color) + np.array(m.color2) * (m.pattern > 0) for m in obj.materials])
    colour = np.where([[m.pattern > 0] for m in obj.materials], colour / 2, colour)[part.face_material]
    uv = np.zeros((len(part.faces), 2))
    if part.corner_uv is not None:
        textured = np.array([obj.materials[s].texture is not None for s in part.face_material])
        uv = np.where(textured[:, None], part.corner_uv.mean(1), 0.0)
    table = np.concatenate([part.vertices[part.faces].mean(1), colour, uv], 1)
    return table[np.lexsort(np.round(table[:, :3], 5).T)]


def test_flat_panels_pass_mujocos_checks(tmp_path):
    obj = rich_object()
    square = np.array([[0.0, 0, 0], [0, 1, 0], [0, 1, 1], [0, 0, 1]])
    faces = np.array([[0, 1, 2], [0, 2, 3]])
    flat = replace(obj.parts[3], vertices=square, faces=faces, face_material=np.array([0, 0]))
    assert exported(replace(obj, parts=(*obj.parts[:3], flat)), tmp_path).nmesh >= 4


def test_names_that_mujoco_could_not_tell_apart_are_refused(tmp_path):
    obj = rich_object()
    twins = replace(obj, parts=(*obj.parts[:3], replace(obj.parts[3], name="drawer")))
    with pytest.raises(ObjectError, match="two parts have one name"):
        save_mjcf(twins, tmp_path / "x.xml")
    assert not (tmp_path / "x.xml").exists()
