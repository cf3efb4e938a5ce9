"""URDF: load and save are each other's inverse, kinematics agree with yourdfpy's, bad files get one clear line."""

import math

import numpy as np
import pytest
from support.described import assert_same, rich_object

from partrm.geometry.joints import JointType
from partrm.objects.articulated_object import ObjectError, PackageMissingError
from partrm.objects.materials import Role
from partrm.objects.obj_format import load_obj
from partrm.objects.primitives import solid_box, solid_cylinder, solid_ellipsoid
from partrm.objects.urdf import load_urdf, save_urdf
from partrm.procedural import OWN_CATEGORIES, generate

yourdfpy = pytest.importorskip("yourdfpy")
trimesh = pytest.importorskip("trimesh")

TREE = """<?xml version="1.0"?>
<robot name="r">
  <material name="red"><color rgba="1 0 0 1"/></material>
  <link name="leaf"><visual><origin xyz=".1 0 .2" rpy=".3 .2 .1"/>
    <geometry><box size=".2 .3 .4"/></geometry><material name="red"/></visual></link>
  <link name="world"/>
  <link name="case"><visual><geometry><mesh filename="package://stuff/meshes/tetra.obj" scale="2 -3 1"/></geometry>
  </visual></link>
  <link name="knob"><visual><geometry><cylinder radius=".1" length=".3"/></geometry>
    <material name="pane"><color rgba="0 0 1 .3"/></material></visual></link>
  <link name="plate"><visual><origin rpy="0 0 1"/><geometry><sphere radius=".2"/></geometry></visual></link>
  <joint name="stand" type="fixed"><parent link="world"/><child link="case"/>
    <origin xyz="1 2 3" rpy=".1 .2 .3"/></joint>
  <joint name="swing" type="revolute"><parent link="case"/><child link="leaf"/><origin xyz=".5 .1 0" rpy="0 .4 .2"/>
    <axis xyz="1 2 3"/><limit lower="-.5" upper="1.5" effort="1" velocity="1"/></joint>
  <joint name="pull" type="prismatic"><parent link="leaf"/><child link="knob"/><origin xyz="0 .3 0" rpy="1 0 0"/>
    <axis xyz="0 0 -1"/><limit lower="0" upper=".4" effort="1" velocity="1"/></joint>
  <joint name="screw" type="fixed"><parent link="knob"/><child link="plate"/><origin xyz="0 0 .3" rpy="0 .7 0"/></joint>
</robot>
"""
OBJ = "v 0 0 0\nv 1 0 0\nv 0 1 0\nv 0 0 1\nf 1 3 2\nf 1 2 4\nf 2 3 4\nf 3 1 4\n"


@pytest.fixture
def tree(tmp_path):
    (tmp_path / "meshes").mkdir()
    (tmp_path / "meshes" / "tetra.obj").write_text(OBJ)
    path = tmp_path / "robot.urdf"
    path.write_text(TREE)
    return path


def test_kinematics_agree_with_yourdfpy(tree):
    loaded = load_urdf(tree)
    assert [p.name for p in loaded.parts] == ["case", "leaf", "knob"], "parents first, fixed links merged"
    robot = yourdfpy.URDF.load(str(tree), load_meshes=False)
    rest = np.concatenate(list(posed_by_yourdfpy(robot, [0.0, 0.0]).values()))
    scale, centre = 1 / np.linalg.norm(np.ptp(rest, 0)), (rest.max(0) + rest.min(0)) / 2
    rng = np.random.default_rng(0)
    for _ in range(5):
        q = rng.uniform(0, 0.4, 2)
        wanted = posed_by_yourdfpy(robot, q)
        got = loaded.posed_vertices(np.array([0, q[0], q[1] * scale]))
        for vertices, links in zip(got, (["case"], ["leaf"], ["knob", "plate"]), strict=True):
            expected = scale * (np.concatenate([wanted[link] for link in links]) - centre)
            np.testing.assert_allclose(vertices, expected, atol=1e-9)
    swing, pull = loaded.parts[1].joint, loaded.parts[2].joint
    assert swing is not None
    assert pull is not None
    assert (swing.type, swing.parent, swing.lower, swing.upper) == (JointType.REVOLUTE, 0, -0.5, 1.5)
    assert (pull.type, pull.parent) == (JointType.PRISMATIC, 1)
    np.testing.assert_allclose((pull.lower, pull.upper), (0, 0.4 * scale), atol=1e-12)
    assert np.linalg.norm(swing.axis) == pytest.approx(1)


def posed_by_yourdfpy(robot, q):
    """Vertices of every link's visual where yourdfpy's kinematics put them."""
    robot.update_cfg(np.asarray(q, dtype=np.float64))
    shapes = {
        "case": np.array([[0, 0, 0], [1, 0, 0], [0, 1, 0], [0, 0, 1]]) * (2, -3, 1),
        "leaf": solid_box(0.1, 0.15, 0.2)[0],
        "knob": solid_cylinder(0.1, 0.15)[0],
        "plate": solid_ellipsoid(0.2, 0.2, 0.2)[0],
    }
    found = {}
    for name, vertices in shapes.items():
        origin = robot.link_map[name].visuals[0].origin
        T = robot.get_transform(name, "world") @ (np.eye(4) if origin is None else origin)
        found[name] = trimesh.transform_points(vertices, T)
    return found


def test_colours_and_mirrored_meshes(tree):
    loaded = load_urdf(tree)
    case, leaf, knob = loaded.parts
    assert loaded.materials[leaf.face_material[0]].color == (1, 0, 0)
    assert loaded.materials[knob.face_material[0]].role == Role.GLASS
    mesh = trimesh.Trimesh(case.vertices, case.faces, process=False)
    assert mesh.volume > 0, "a mirroring scale turns the faces round"


def test_save_and_load_are_inverse(tmp_path):
    built = rich_object()
    save_urdf(built, tmp_path / "ä b.urdf")
    loaded = load_urdf(tmp_path / "ä b.urdf", category=built.category)
    assert_same(built, loaded)
    save_urdf(loaded, tmp_path / "again.urdf")
    assert_same(loaded, load_urdf(tmp_path / "again.urdf"))


@pytest.mark.parametrize("category", OWN_CATEGORIES[::5])
def test_procedural_objects_survive(tmp_path, category):
    built = generate(category, 2)
    save_urdf(built, tmp_path / "x.urdf")
    assert_same(built, load_urdf(tmp_path / "x.urdf"))


def test_yourdfpy_reads_what_we_write(tmp_path):
    built = rich_object()
    save_urdf(built, tmp_path / "x.urdf")
    robot = yourdfpy.URDF.load(str(tmp_path / "x.urdf"))
    assert robot.validate()
    q = {"door_hinge": 0.7, "drawer_slide": 0.1, "knob_turn": 0.4}
    robot.update_cfg(q)
    T = built.T_object_part(np.array([0.0, *(q[p.joint.name] for p in built.parts[1:] if p.joint)]))
    for part, pose in zip(built.parts, T, strict=True):
        pivot = np.zeros(3) if part.joint is None else np.array(part.joint.pivot)
        expected = pose[:3, :3] @ pivot + pose[:3, 3]
        np.testing.assert_allclose(robot.get_transform(part.name, built.parts[0].name)[:3, 3], expected, atol=1e-12)


@pytest.mark.parametrize("ending", ["stl", "glb", "ply", "dae"])
def test_other_mesh_formats(tmp_path, ending):
    cube = trimesh.creation.box((1, 2, 3))
    cube.visual.face_colors = [255, 0, 0, 255]
    cube.export(tmp_path / f"m.{ending}")
    (tmp_path / "x.urdf").write_text(simple(mesh=f"m.{ending}"))
    loaded = load_urdf(tmp_path / "x.urdf")
    size = np.ptp(loaded.parts[1].vertices, 0)
    np.testing.assert_allclose(np.sort(size / size.min()), [1, 2, 3], atol=1e-6)
    assert len(loaded.parts[1].faces) == 12


def test_a_package_that_trimesh_lacks_is_named(tmp_path, monkeypatch):
    def failing(*_, **__):
        raise ModuleNotFoundError("No module named 'collada'")

    monkeypatch.setattr(trimesh, "load_scene", failing)
    (tmp_path / "m.dae").write_text("<COLLADA/>")
    (tmp_path / "x.urdf").write_text(simple(mesh="m.dae"))
    with pytest.raises(PackageMissingError, match=r"m\.dae.*collada"):
        load_urdf(tmp_path / "x.urdf")


def test_glb_textures_are_kept(tmp_path):
    from PIL import Image

    pixels = np.random.default_rng(0).integers(0, 255, (8, 8, 3)).astype(np.uint8)
    cube = trimesh.creation.box()
    uv = np.random.default_rng(1).random((len(cube.vertices), 2))
    cube.visual = trimesh.visual.TextureVisuals(
        uv, trimesh.visual.material.PBRMaterial(baseColorTexture=Image.fromarray(pixels))
    )
    cube.export(tmp_path / "m.glb")
    (tmp_path / "x.urdf").write_text(simple(mesh="m.glb"))
    part = load_urdf(tmp_path / "x.urdf").parts[1]
    loaded = load_urdf(tmp_path / "x.urdf")
    np.testing.assert_array_equal(loaded.materials[part.face_material[0]].texture, pixels)
    assert part.corner_uv is not None
    np.testing.assert_allclose(part.corner_uv, uv[cube.faces], atol=1e-6)


def test_obj_groups_polygons_and_relative_indices(tmp_path):
    (tmp_path / "m.mtl").write_text("newmtl a\nKd 1 0 0\nnewmtl b b\nKd 0 1 0\nd 0.4\n")
    (tmp_path / "m.obj").write_text(
        "mtllib m.mtl\nv 0 0 0\nv 1 0 0\nv 1 1 0\nv 0 1 0\nvt .1 .2\nvt .3 .4\nvn 0 0 1\n"
        "usemtl a\nf 1/1/1 2/2/1 3/1/1 4/2/1\nusemtl b b\nf 1//1 2//1 3//1\nusemtl a\nf -4/-2 -3/-1 -1/-1\n"
    )
    surface = load_obj(tmp_path / "m.obj", {})
    assert surface.faces.tolist() == [[0, 1, 2], [0, 2, 3], [0, 1, 2], [0, 1, 3]]
    assert surface.face_material.tolist() == [0, 0, 1, 0], "a group that is used again keeps both its face ranges"
    assert [m.color for m in surface.materials] == [(1, 0, 0), (0, 1, 0)]
    assert surface.materials[1].role == Role.GLASS
    assert surface.corner_uv is not None
    np.testing.assert_allclose(surface.corner_uv[3], [[0.1, 0.2], [0.3, 0.4], [0.3, 0.4]])
    assert np.isnan(surface.corner_uv[2]).all()


HINGE = '<axis xyz="0 0 1"/><limit lower="0" upper="1" effort="1" velocity="1"/>'


def simple(joint=HINGE, kind="revolute", mesh="m.obj", more="", parent="a"):
    geometry = f'<visual><geometry><mesh filename="{mesh}"/></geometry></visual>'
    return (
        f'<robot name="x"><link name="a"><visual><geometry><box size="1 1 1"/></geometry></visual></link>'
        f'<link name="b">{geometry}</link>'
        f'<joint name="j" type="{kind}"><parent link="{parent}"/><child link="b"/>{joint}</joint>{more}</robot>'
    )


def limits(text):
    return f'<axis xyz="0 0 1"/><limit {text} effort="1" velocity="1"/>'


CYCLE = '<joint name="k" type="fixed"><parent link="b"/><child link="a"/></joint>'


def with_solid(solid):
    return simple().replace('<box size="1 1 1"/>', solid)


BAD = [
    (with_solid('<sphere radius="-1"/>'), OBJ, "sphere of size -1; it needs 1 finite, above zero"),
    (with_solid('<sphere radius="inf"/>'), OBJ, "sphere of size inf"),
    (with_solid('<box size="0 0 0"/>'), OBJ, "box of size 0 0 0; it needs 3"),
    (with_solid('<box size="1 1"/>'), OBJ, "box of size 1 1; it needs 3"),
    (with_solid('<box size="1 nan 1"/>'), OBJ, "box of size 1 nan 1"),
    (with_solid('<cylinder radius="1" length="0"/>'), OBJ, "cylinder of size 1 0; it needs 2"),
    (with_solid('<mesh filename="capsule:a b"/>'), OBJ, "capsule of size nan nan; it needs 2"),
    (with_solid('<mesh filename="m.obj" scale="1 1 1 1"/>'), OBJ, "mesh scale 1 1 1 1 of 'm.obj': give 1 or 3"),
    (with_solid('<mesh filename="m.obj" scale="1 2"/>'), OBJ, "mesh scale 1 2 of"),
    (with_solid('<mesh filename="m.obj" scale="1 0 1"/>'), OBJ, "mesh scale 1 0 1 of"),
    (simple(kind="fixed"), OBJ, "no joint moves"),
    (simple(joint=limits('lower="1" upper="0"')), OBJ, "reversed"),
    (simple(joint=limits('lower="-inf" upper="inf"')), OBJ, "not finite"),
    (simple(joint=limits('lower="nan" upper="1"')), OBJ, "not finite"),
    (simple(joint='<axis xyz="0 0 1"/>'), OBJ, "no limits"),
    (simple(joint=HINGE.replace("0 0 1", "0 0 0")), OBJ, "axis of joint 'j' has no length"),
    (simple(joint=HINGE.replace("0 0 1", "nan 0 1")), OBJ, "axis"),
    (simple(joint=HINGE + '<origin xyz="nan 0 0"/>'), OBJ, "origin"),
    (simple(kind="planar"), OBJ, "planar"),
    (simple(parent="nowhere"), OBJ, "nowhere"),
    (simple(more=CYCLE), OBJ, "cycle"),
    (simple(more='<link name="c"/>'), OBJ, "no joint connects"),
    (simple(more='<link name="a"/>'), OBJ, "one name"),
    (simple(more='<joint name="k" type="fixed"><parent link="a"/><child link="b"/></joint>'), OBJ, "two joints"),
    (simple(mesh="gone.obj"), OBJ, "gone.obj"),
    (simple(), "v 0 0 0\nv 1 0 0\nv 0 nan 0\nf 1 2 3\n", "not finite"),
    (simple(), "v 0 0 0\nv 1 0 0\nv 0 1 0\n", "no faces"),
    (simple(), "", "no faces"),
    (simple(), "v 0 0 0\nv 1 0 0\nf 1 2 3\n", "vertex that does not exist"),
    (simple(), "v 0 0 0\nf 1 0 1\n", "line 2"),
    (simple(), "v 0 0 zero\nf 1 1 1\n", "malformed"),
    (simple(mesh="m.stl"), OBJ, "no faces|m.stl"),
    (simple().replace("</robot>", ""), OBJ, "XML"),
    ("<robot name='x'/>", OBJ, "no link"),
    ("<robot name='x'><joint name='j' type='fixed'/></robot>", OBJ, "has no <parent>"),
    (simple().replace('<link name="b">', "<link>"), OBJ, r"can read \(an element has no attribute 'name'\)"),
    ("", OBJ, "XML"),
]


def test_a_robot_without_a_name_is_read(tmp_path):
    (tmp_path / "m.obj").write_text(OBJ)
    (tmp_path / "x.urdf").write_text(simple().replace(' name="x"', ""))
    assert len(load_urdf(tmp_path / "x.urdf").movable) == 1


@pytest.mark.parametrize(("text", "mesh", "message"), BAD)
def test_bad_files_get_one_clear_line(tmp_path, text, mesh, message):
    (tmp_path / "m.obj").write_text(mesh)
    (tmp_path / "m.stl").write_bytes(b"solid of nothing")
    (tmp_path / "x.urdf").write_text(text)
    with pytest.raises(ObjectError, match=message) as caught:
        load_urdf(tmp_path / "x.urdf")
    assert "\n" not in str(caught.value)


def test_missing_looks_are_grey_and_noted_and_broken_ones_named(tmp_path):
    (tmp_path / "x.urdf").write_text(simple())
    (tmp_path / "m.obj").write_text("mtllib m.mtl\nusemtl a\n" + OBJ)
    (lost,) = load_urdf(tmp_path / "x.urdf").notes
    assert "m.mtl" in lost
    assert "grey" in lost
    (tmp_path / "m.mtl").write_text("newmtl b\n")
    (lost,) = load_urdf(tmp_path / "x.urdf").notes
    assert "'a' is in no material library" in lost
    (tmp_path / "m.mtl").write_text("newmtl a\nKd 1 0 0\nmap_Kd -s 1 1 1 wood grain.png\n")
    loaded = load_urdf(tmp_path / "x.urdf")
    assert "'wood grain.png' is missing" in loaded.notes[0]
    assert (1, 0, 0) in [material.color for material in loaded.materials]
    (tmp_path / "wood grain.png").write_bytes(b"no image")
    with pytest.raises(ObjectError, match="cannot be read"):
        load_urdf(tmp_path / "x.urdf")


@pytest.mark.parametrize("name", ["looks/wood.png", "package://stuff/looks/wood.png", "file://{folder}/looks/wood.png"])
def test_textures_are_found_as_meshes_are(tmp_path, name):
    from PIL import Image

    pixels = np.random.default_rng(0).integers(0, 255, (8, 8, 3)).astype(np.uint8)
    (tmp_path / "looks").mkdir()
    Image.fromarray(pixels).save(tmp_path / "looks" / "wood.png")
    (tmp_path / "m.obj").write_text(OBJ)
    paint = '<material name="wood"><texture filename="{}"/></material></visual>'
    text = simple().replace("</visual>", paint.format(name.format(folder=tmp_path)), 1)
    (tmp_path / "x.urdf").write_text(text)
    loaded = load_urdf(tmp_path / "x.urdf")
    np.testing.assert_array_equal(loaded.materials[loaded.parts[0].face_material[0]].texture, pixels)
    (tmp_path / "x.urdf").write_text(text.replace("wood.png", "gone.png"))
    assert any("gone.png' is missing" in note for note in load_urdf(tmp_path / "x.urdf").notes)


def test_huge_meshes_are_refused_before_they_fill_memory(tmp_path, monkeypatch):
    monkeypatch.setattr("partrm.objects.obj_format.MAX_FACES", 3)
    (tmp_path / "x.urdf").write_text(simple())
    (tmp_path / "m.obj").write_text(OBJ)
    with pytest.raises(ObjectError, match="more than 3 faces"):
        load_urdf(tmp_path / "x.urdf")


def test_a_joint_without_range_holds_its_child_where_it_must(tmp_path):
    (tmp_path / "m.obj").write_text(OBJ)
    held = simple(joint=limits(f'lower="{math.pi / 2}" upper="{math.pi / 2}"'))
    more = '<link name="c"><visual><geometry><box size=".1 .1 .1"/></geometry></visual></link><joint name="k" type="continuous"><parent link="b"/><child link="c"/><origin xyz="3 0 0"/></joint>'  # noqa: E501
    (tmp_path / "x.urdf").write_text(held.replace("</robot>", more + "</robot>"))
    loaded = load_urdf(tmp_path / "x.urdf")
    assert [p.name for p in loaded.parts] == ["a", "c"]
    offset = np.array(loaded.parts[1].joint.pivot) - loaded.parts[0].vertices[:8].mean(0)  # pyright: ignore
    np.testing.assert_allclose(offset / np.linalg.norm(offset), [0, 1, 0], atol=1e-9)
