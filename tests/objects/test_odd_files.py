"""Meshes and descriptions that say something else than they hold: read with a note, or refused in one line."""

import time

import pytest
from support.described import BOX, CUBE, FACES, mesh, robot, saved

from partrm.objects.articulated_object import ObjectError
from partrm.objects.mjcf import load_mjcf
from partrm.objects.obj_format import load_obj
from partrm.objects.urdf import load_urdf

pytest.importorskip("yourdfpy")

PLY = """ply
format ascii 1.0
element vertex 4
property float x
property float y
property float {last}
element face {faces}
property list uchar int vertex_indices
end_header
0 0 0
1 0 0
0 1 0
0 0 1
{rows}"""


@pytest.mark.parametrize(
    ("last", "faces", "rows", "words"),
    [
        ("z", 2, "3 0 1 2\n3 0 1 3\n", None),
        ("z", 1, "4 0 1 2 3\n", None),
        ("z", 900, "3 0 1 2\n3 0 1 3\n", "tells of 900 faces and holds 2"),
        ("y", 2, "3 0 1 2\n3 0 1 3\n", "two properties 'y'"),
    ],
)
def test_ply_files_hold_what_they_tell(last, faces, rows, words, tmp_path):
    pytest.importorskip("trimesh")
    saved(tmp_path, PLY.format(last=last, faces=faces, rows=rows), "m.ply")
    path = saved(tmp_path, robot(mesh("m.ply")))
    if words is None:
        assert load_urdf(path).movable
    else:
        with pytest.raises(ObjectError, match=rf"m\.ply: .*{words}"):
            load_urdf(path)


def test_stl_files_of_text_are_whole_and_may_be_written_in_capitals(tmp_path):
    trimesh = pytest.importorskip("trimesh")
    text = trimesh.exchange.stl.export_stl_ascii(trimesh.creation.box())
    path = saved(tmp_path, robot(mesh("m.stl")))
    saved(tmp_path, text.upper(), "m.stl")
    assert load_urdf(path).movable
    saved(tmp_path, text[: len(text) // 2], "m.stl")
    with pytest.raises(ObjectError, match=r"m\.stl: damaged, it is cut short"):
        load_urdf(path)


def test_gltf_of_another_kind_is_told_or_read(tmp_path):
    trimesh = pytest.importorskip("trimesh")
    scene = trimesh.Scene(trimesh.creation.box())
    path = saved(tmp_path, robot(mesh("m.gltf")))
    (tmp_path / "m.gltf").write_bytes(scene.export(file_type="glb"))
    assert load_urdf(path).movable
    files = scene.export(file_type="gltf")
    text = files.pop("model.gltf").decode()
    for name, content in files.items():
        (tmp_path / name).write_bytes(content)
    (tmp_path / "m.gltf").write_text(text, encoding="utf-8-sig")
    assert load_urdf(path).movable
    for content, words in (
        ("junk", "not a glTF file"),
        (text.replace('{"scene"', '{"extensionsRequired": ["EXT_other"], "scene"'), "it requires EXT_other"),
        (text.replace('"mesh":0', '"mesh":0,"extensions":{"EXT_mesh_gpu_instancing":{}}'), "it requires its copies"),
    ):
        saved(tmp_path, content, "m.gltf")
        with pytest.raises(ObjectError, match=rf"m\.gltf: {words}"):
            load_urdf(path)


def test_obj_files_that_were_joined_keep_what_follows_a_byte_order_mark(tmp_path):
    (tmp_path / "m.obj").write_text(CUBE.replace(FACES, "\ufeff" + FACES), encoding="utf-8")
    assert len(load_obj(tmp_path / "m.obj", {}).faces) == 12
    (tmp_path / "m.obj").write_text("v 1 2\n" + CUBE)
    with pytest.raises(ObjectError, match=r"line 1 is malformed \(a vertex needs three numbers\)"):
        load_obj(tmp_path / "m.obj", {})


def seconds_to_load(folder, count):
    """Of the processor, a mesh of so many materials."""
    folder.mkdir()
    (folder / "m.mtl").write_text("".join(f"newmtl m{n}\nKd {n / count} 0 0\n" for n in range(count)))
    faces = "".join(f"usemtl m{n}\nf 1 2 3\n" for n in range(count))
    (folder / "m.obj").write_text("mtllib m.mtl\n" + CUBE + faces + faces.replace("usemtl m", "usemtl n"))
    urdf = saved(folder, robot(mesh("m.obj")))
    began = time.process_time()
    assert len(load_urdf(urdf).materials) == count + 1
    return time.process_time() - began


@pytest.mark.whole_run
def test_many_materials_cost_no_more_than_many_faces(tmp_path):
    few, many = (seconds_to_load(tmp_path / str(count), count) for count in (4_000, 32_000))
    assert many < 20 * few, "eight times as many would take 64 times as long if each looked at all"


def test_links_in_any_order_take_linear_time(tmp_path):
    rows = [f'<link name="l{n}"/><joint name="j{n}" type="fixed"><parent link="l{n + 1}"/><child link="l{n}"/></joint>'
            for n in range(4000)]  # fmt: skip
    top = '<link name="l4000"/><joint name="t" type="fixed"><parent link="body"/><child link="l4000"/></joint>'
    began = time.process_time()
    assert load_urdf(saved(tmp_path, robot(more="".join(rows) + top))).movable
    assert time.process_time() - began < 3


@pytest.mark.parametrize(
    ("change", "note"),
    [
        (("</joint>", '<limit lower="0" upper="2"/></joint>'), "joint 'hinge' has 2 <limit>; the first counts"),
        (("</geometry>", '<sphere radius="1"/></geometry>'), "a <visual> of link 'body' has 2 shapes"),
        (('name="door"><visual>', 'name="door"><visual><origin xyz="0 0 0"/>'), None),
    ],
)
def test_what_is_there_twice_is_noted(change, note, tmp_path):
    notes = load_urdf(saved(tmp_path, robot().replace(*change))).notes
    assert any(note in one for one in notes) if note else notes == ()


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (('<child link="door"/>', ""), "joint 'hinge' has no <child>"),
        ((BOX, "<geometry/>"), "a <visual> of link 'body' has no shape"),
    ],
)
def test_what_a_description_lacks_is_named(change, words, tmp_path):
    with pytest.raises(ObjectError, match=words):
        load_urdf(saved(tmp_path, robot().replace(*change)))


def test_parts_without_extent_are_noted(tmp_path):
    (tmp_path / "m.obj").write_text("v 0 0 0\nv 0 0 0\nv 0 0 0\nf 1 2 3\n")
    assert load_urdf(saved(tmp_path, robot(mesh("m.obj")))).notes == ("part 'door' has no extent",)


def test_mujoco_models_are_utf_8_and_joints_near_their_object(tmp_path):
    pytest.importorskip("mujoco")
    body = '<body name="\u00fc"><joint range="0 90"/><geom size="1"/></body><geom size="1"/>'
    text = f"<mujoco><worldbody>{body}</worldbody></mujoco>"
    (tmp_path / "x.xml").write_text('<?xml version="1.0" encoding="latin-1"?>' + text, encoding="latin-1")
    with pytest.raises(ObjectError, match="is not UTF-8"):
        load_mjcf(tmp_path / "x.xml")
    with pytest.raises(ObjectError, match="stands farther away than"):
        load_mjcf(saved(tmp_path, text.replace("<joint", '<joint pos="1e300 0 0"'), "x.xml"))
    remark = '<?xml version="1.0" encoding="latin-1"?><!-- T\u00fcr -->' + text.replace("\u00fc", "door")
    (tmp_path / "x.xml").write_text(remark, encoding="latin-1")
    assert [part.name for part in load_mjcf(tmp_path / "x.xml").parts][-1] == "door"
