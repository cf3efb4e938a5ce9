"""The MJCF loader against MuJoCo's own kinematics, against hand-written meshes, and on bad files."""

import itertools
import math
import sys

import numpy as np
import pytest

from partrm.geometry.joints import JointType
from partrm.objects.articulated_object import ObjectError
from partrm.objects.materials import Role
from partrm.objects.mjcf import load_mjcf
from partrm.objects.real_objects import REAL_OBJECTS, RealObject, load_real_object, real_object_names

mujoco = pytest.importorskip("mujoco")

TREE = """
<mujoco>
  <worldbody>
    <geom type="plane" size="3 3 .1"/>
    <geom name="table" type="box" size="1 1 .1" pos="0 0 -2"/>
    <body name="cabinet" pos=".3 -.2 .5" euler="10 20 30">
      <freejoint/>
      <geom name="case" type="box" size=".3 .2 .4" rgba="1 0 0 1"/>
      <geom name="hull" type="box" size=".9 .9 .9" group="4"/>
      <body name="hinges" pos=".1 .2 .3" euler="0 40 0">
        <geom name="plate" type="box" size=".05 .06 .07" pos=".1 0 0"/>
        <body name="door" pos=".3 0 .1" euler="15 0 -25">
          <joint name="swing" type="hinge" axis="1 2 3" pos=".1 -.2 .05" range="-70 80" ref="20"/>
          <joint name="pull" type="slide" axis="0 1 1" range="-.1 .4" ref=".1"/>
          <geom name="leaf" type="box" size=".02 .2 .3" euler="5 6 7" pos="0 .2 0"/>
          <body name="knob" pos="0 .3 0" euler="0 0 50">
            <joint name="turn" type="hinge" axis="0 0 -1"/>
            <geom name="grip" type="box" size=".03 .02 .01" pos=".05 0 0"/>
          </body>
        </body>
      </body>
    </body>
    <body name="mug" pos="2 0 0"><freejoint/><geom name="cup" type="sphere" size=".1"/></body>
  </worldbody>
</mujoco>
"""


def written(folder, text, name="model.xml"):
    path = folder / name
    path.write_text(text, encoding="utf-8")
    return path


def geom_corners(model, data, name):
    geom = mujoco.mj_name2id(model, mujoco.mjtObj.mjOBJ_GEOM, name)
    signs = np.array(list(itertools.product((-1.0, 1.0), repeat=3)))
    return signs * model.geom_size[geom] @ data.geom_xmat[geom].reshape(3, 3).T + data.geom_xpos[geom]


GEOMS_OF_PART = {"cabinet": ["case", "plate"], "swing_carrier": [], "door": ["leaf"], "knob": ["grip"]}


def posed_by_mujoco(model, positions, front):
    """Corners of every part's boxes, world turned so that ``front`` is +x, at the given joint positions."""
    data = mujoco.MjData(model)
    for joint, value in positions.items():
        data.joint(joint).qpos[0] = value
    mujoco.mj_kinematics(model, data)
    c, s = np.array(front) / np.linalg.norm(front)
    R = np.array([[c, s, 0], [-s, c, 0], [0, 0, 1]])
    return {
        part: np.concatenate([np.zeros((0, 3)), *(geom_corners(model, data, g) for g in geoms)]) @ R.T
        for part, geoms in GEOMS_OF_PART.items()
    }


@pytest.mark.parametrize("closed", [{}, {"swing": 0.3, "pull": 0.05}])
def test_kinematics_agree_with_mujoco(tmp_path, closed):
    path = written(tmp_path, TREE)
    model = mujoco.MjModel.from_xml_path(str(path))
    front = (0.3, -2.0)
    loaded = load_mjcf(path, front=front, closed=closed)
    assert [p.name for p in loaded.parts] == list(GEOMS_OF_PART), "the root is the cabinet, without table and mug"
    names = [p.joint.name if p.joint else "" for p in loaded.parts]
    assert names == ["", "swing", "pull", "turn"]

    zero = {j: closed.get(j, 0.0) for j in names[1:]}
    rest = np.concatenate(list(posed_by_mujoco(model, zero, front).values()))
    scale, centre = 1 / np.linalg.norm(np.ptp(rest, 0)), (rest.max(0) + rest.min(0)) / 2
    sliding = [p.joint is not None and p.joint.type == JointType.PRISMATIC for p in loaded.parts]
    unit = np.where(sliding, scale, 1.0)

    rng = np.random.default_rng(0)
    for _ in range(5):
        q = rng.uniform(-1, 1, 4)
        expected = posed_by_mujoco(model, {j: zero[j] + v for j, v in zip(names[1:], q[1:], strict=True)}, front)
        for vertices, wanted in zip(loaded.posed_vertices(q * unit), expected.values(), strict=True):
            np.testing.assert_allclose(vertices, scale * (wanted - centre), atol=1e-9)

    swing, pull, turn = (p.joint for p in loaded.parts if p.joint is not None)
    shift = zero["swing"]
    assert (swing.type, pull.type, turn.type) == (JointType.REVOLUTE, JointType.PRISMATIC, JointType.CONTINUOUS)
    np.testing.assert_allclose((swing.lower, swing.upper), np.radians([-70, 80]) - shift)
    np.testing.assert_allclose((pull.lower, pull.upper), scale * (np.array([-0.1, 0.4]) - zero["pull"]))
    np.testing.assert_allclose((turn.lower, turn.upper), (-math.pi, math.pi))
    for joint in (swing, pull, turn):
        assert np.linalg.norm(joint.axis) == pytest.approx(1)


def test_joints_that_do_not_count_are_held(tmp_path):
    loaded = load_mjcf(written(tmp_path, TREE), joints=["turn"])
    assert [p.name for p in loaded.parts] == ["cabinet", "knob"]
    assert len(loaded.parts[0].faces) == 3 * 12  # case, plate and the door's leaf


def test_the_chosen_root_stands_still(tmp_path):
    loaded = load_mjcf(written(tmp_path, TREE), root_body="door")
    assert [(p.name, p.joint is None) for p in loaded.parts] == [("door", True), ("knob", False)]


MESH = """
<mujoco>
  <asset>
    <texture name="picture" type="2d" file="picture.png"/>
    <texture name="cube" type="cube" builtin="gradient" rgb1="1 0 0" rgb2="0 0 1" width="8" height="8"/>
    <material name="painted" texture="picture" rgba=".5 1 1 1" specular="1" shininess=".4"/>
    <material name="graded" texture="cube"/>
    <material name="pane" rgba=".2 .3 .4 .3"/>
    <mesh name="leaf" file="leaf.obj" scale="2 3 -4"/>
  </asset>
  <worldbody>
    <body name="frame">
      <geom type="box" size=".1 .1 .1" pos="9 0 0" material="graded"/>
      <geom type="sphere" size=".1" material="pane"/>
      <body name="door" pos="1 2 3" euler="0 0 90">
        <joint axis="0 0 1" range="0 90"/>
        <geom type="mesh" mesh="leaf" material="painted" pos="0 0 1"/>
        <inertial pos="0 0 0" mass="1" diaginertia="1 1 1"/>
      </body>
    </body>
  </worldbody>
</mujoco>
"""
LEAF_VERTICES = np.array([[1.0, 0, 0], [3, 0, 0.5], [1, 2, 0], [1, 0, 2]])
LEAF_UV = np.array([[0.0, 0.0], [1.0, 0.25], [0.25, 1.0], [0.5, 0.5]])
LEAF_FACES = [(1, 3, 2), (1, 2, 4), (2, 3, 4), (3, 1, 4)]


def written_mesh_model(folder):
    from PIL import Image

    lines = [f"v {x} {y} {z}" for x, y, z in LEAF_VERTICES] + [f"vt {u} {v}" for u, v in LEAF_UV]
    lines += ["f " + " ".join(f"{i}/{i}" for i in face) for face in LEAF_FACES]
    written(folder, "\n".join(lines) + "\n", "leaf.obj")
    picture = np.zeros((8, 4, 3), np.uint8)
    picture[:4] = (255, 0, 0)
    picture[4:] = (0, 0, 255)
    Image.fromarray(picture).save(folder / "picture.png")
    return written(folder, MESH), picture


def test_meshes_keep_scale_pose_uv_and_texture(tmp_path):
    path, picture = written_mesh_model(tmp_path)
    loaded = load_mjcf(path)
    frame, door = loaded.parts
    assert door.joint is not None
    assert door.joint.name == "door"
    world = LEAF_VERTICES * (2, 3, -4) + (0, 0, 1)
    world = np.stack([1 - world[:, 1], 2 + world[:, 0], 3 + world[:, 2]], -1)

    assert door.corner_uv is not None
    corners, uv = door.vertices[door.faces].reshape(-1, 3), door.corner_uv.reshape(-1, 2)
    relative = world - world[0]
    first = corners[np.flatnonzero((np.abs(uv - LEAF_UV[0]) < 1e-6).all(1))[0]]
    number = np.abs(uv[:, None] - LEAF_UV).sum(-1).argmin(1)
    np.testing.assert_allclose(uv, LEAF_UV[number], atol=1e-6)
    scale = np.linalg.norm(corners[number == 1][0] - first) / np.linalg.norm(relative[1])
    np.testing.assert_allclose(corners - first, scale * relative[number], atol=1e-6)

    painted = loaded.materials[door.face_material[0]]
    np.testing.assert_array_equal(painted.texture, picture)  # row 0, red, at v = 1
    np.testing.assert_allclose(painted.color, (0.5, 1, 1), atol=1e-6)
    assert painted.gloss == pytest.approx(0.4)
    assert painted.role == Role.MOVING
    graded, pane = (loaded.materials[s] for s in (frame.face_material[0], frame.face_material[-1]))
    assert graded.texture is None
    assert 0.2 < graded.color[0] < 0.8
    assert graded.color[1] == pytest.approx(0, abs=1e-6)
    assert pane.role == Role.GLASS


def test_bodies_with_only_hidden_geoms_show_them(tmp_path):
    hidden = """<mujoco><worldbody><body><geom type="box" size="1 1 1"/><body name="lid">
        <joint axis="1 0 0" range="0 1"/><geom type="capsule" size=".1 .2" group="4"/></body></body>
        </worldbody></mujoco>"""
    loaded = load_mjcf(written(tmp_path, hidden))
    assert len(loaded.parts[1].faces) > 100


def simple(joint='<joint type="hinge" axis="0 0 1" range="0 90"/>', geom='<geom type="box" size="1 1 1"/>'):
    return f'<mujoco><worldbody><body name="a">{geom}<body name="b">{joint}{geom}</body></body></worldbody></mujoco>'


@pytest.mark.parametrize(
    ("text", "options", "message"),
    [
        (simple(joint=""), {}, "no hinge or slide joint"),
        (simple(), {"root_body": "b"}, "held still"),
        (simple(), {"root_body": "nowhere"}, "no body 'nowhere'"),
        (simple(), {"joints": ["swing"]}, "no hinge or slide joint 'swing'"),
        (simple(), {"closed": {"swing": 1.0}}, "no hinge or slide joint 'swing'"),
        (simple(), {"front": (0.0, 0.0)}, "front"),
        (simple(joint='<joint type="slide" axis="0 0 1"/>'), {}, "no range"),
        (simple(joint='<joint name="swing" axis="0 0 1" range="90 0"/>'), {}, r"'swing' are reversed \(90, 0\)"),
        (simple(joint='<joint name="pull" type="slide" range=".4 -.1"/>'), {}, r"'pull' are reversed"),
        (simple(joint='<joint name="pull" type="slide" range="0 inf"/>'), {}, "'pull' are not finite"),
        (
            simple(joint='<joint name="swing" range="0 0.4"/>').replace("<world", "<compiler angle='degree'/><world"),
            {},
            "'swing' turns by 0.4 degrees only; if",
        ),
        (simple(joint='<joint type="ball"/>'), {"root_body": "a"}, "ball or free"),
        (simple(joint='<joint type="hinge" axis="0 0 0"/>'), {}, "cannot read"),
        (simple(geom='<geom type="mesh" mesh="m"/>'), {}, "cannot read"),
        (simple(geom='<geom type="sphere" size="-1"/>'), {}, "must be positive"),
        (simple(geom='<geom type="box" size="0 0 0"/>'), {}, "must be positive"),
        ("<mujoco><asset><mesh file='gone.stl'/></asset></mujoco>", {}, "gone.stl"),
        ("this is not XML", {}, "not well-formed XML"),
        ("", {}, "not well-formed XML"),
    ],
)
def test_bad_models_get_one_clear_line(tmp_path, text, options, message):
    path = written(tmp_path, text)
    with pytest.raises(ObjectError, match=message) as caught:
        load_mjcf(path, **options)
    assert "\n" not in str(caught.value)
    assert caught.value.args[0].startswith(("model", str(path)))


def test_a_unit_left_out_is_radians_where_degrees_make_no_sense(tmp_path):
    """As in robosuite's door, which a world in radians includes."""
    loaded = load_mjcf(written(tmp_path, simple(joint='<joint range="0 0.4"/>')))
    assert loaded.joint_limits[1].tolist() == [0, 0.4]
    assert "in radians" in loaded.notes[0]
    other = simple(joint='<joint name="a" range="0 0.4"/><joint name="b" axis="1 0 0" range="0 90"/>')
    with pytest.raises(ObjectError, match="degrees only"):
        load_mjcf(written(tmp_path, other))


def test_masses_do_not_matter(tmp_path):
    """As in LIBERO's cabinets and taps, whose world bounds them."""
    loaded = load_mjcf(written(tmp_path, simple(geom='<geom type="box" size="1 1 1" mass="0"/>')))
    assert loaded.joint_limits[1].tolist() == pytest.approx([0, math.pi / 2])


def test_missing_file_and_missing_package_are_named(tmp_path, monkeypatch):
    with pytest.raises(ObjectError, match="no such MJCF file"):
        load_mjcf(tmp_path / "none.xml")
    monkeypatch.setitem(sys.modules, "mujoco", None)
    with pytest.raises(ObjectError, match=r"partrm\[data\]"):
        load_mjcf(written(tmp_path, simple()))


def loaded_or_skipped(name):
    try:
        return load_real_object(name)
    except ObjectError as error:
        if "not installed" not in str(error):
            raise
        pytest.skip(str(error))


@pytest.mark.parametrize("name", real_object_names())
def test_real_objects_are_sound(name):
    loaded = loaded_or_skipped(name)
    points = np.concatenate(loaded.posed_vertices(loaded.closed_q()))
    np.testing.assert_allclose(points.max(0) + points.min(0), 0, atol=1e-9)
    assert np.linalg.norm(np.ptp(points, 0)) == pytest.approx(1)
    assert loaded.movable
    closed = loaded.closed_q()
    for index in loaded.movable:
        far = closed.copy()
        far[index] = max(loaded.joint_limits[index], key=lambda limit: abs(limit - closed[index]))
        before, after = (np.array(loaded.posed_vertices(q)[index]) for q in (closed, far))
        assert np.linalg.norm(after - before, axis=-1).max() > 0.1, "the motion is visible"
    if name in {"kitchen-microwave", "kitchen-hinge-cabinet", "metaworld-drawer", "metaworld-safe"}:
        moving = np.concatenate([loaded.posed_vertices(closed)[i] for i in loaded.movable])
        assert moving[:, 0].mean() > 0.05, "doors and drawers are at the front, +x"
    assert not {"metaworld", "gymnasium_robotics"} & set(sys.modules), "the wheels are not imported"


def test_there_are_enough_real_objects_and_unknown_ones_are_named():
    assert len(set(real_object_names())) == len(REAL_OBJECTS) >= 8
    with pytest.raises(ObjectError, match="kitchen-microwave"):
        load_real_object("unicorn")


def test_a_wheel_that_is_not_there_is_named(monkeypatch):
    row = RealObject("ghost", "Ghost", "no-such-wheel-partrm", "x.xml")
    monkeypatch.setattr("partrm.objects.real_objects.REAL_OBJECTS", (row,))
    with pytest.raises(ObjectError, match="pip install --no-deps no-such-wheel-partrm"):
        load_real_object("ghost")
