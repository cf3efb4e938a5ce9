"""What people have and what attackers send: read with a note, or refused in one line; never a device, never outside."""

import io
import json
import os
import shutil

import numpy as np
import pytest
from PIL import Image
from support.described import BOX, CORNERS, CUBE, FACES, LIMIT, mesh, robot, saved

from partrm.objects.articulated_object import ObjectError
from partrm.objects.mjcf import load_mjcf
from partrm.objects.mtl_format import load_mtl
from partrm.objects.obj_format import load_obj
from partrm.objects.partnet import load_partnet
from partrm.objects.urdf import load_urdf

pytest.importorskip("yourdfpy")


def test_limits_default_to_zero_as_the_format_says(tmp_path):
    upper = load_urdf(saved(tmp_path, robot(limit='<limit upper="1.5" effort="1" velocity="1"/>')))
    assert upper.joint_limits[1].tolist() == [0, 1.5]
    lower = load_urdf(saved(tmp_path, robot(limit='<limit lower="-0.7" effort="1" velocity="1"/>')))
    assert lower.joint_limits[1].tolist() == [-0.7, 0]
    with pytest.raises(ObjectError, match="no limits"):
        load_urdf(saved(tmp_path, robot(limit='<limit effort="1" velocity="1"/>')))


@pytest.mark.parametrize("kind", ["floating", "planar"])
def test_an_object_that_floats_stands_still(tmp_path, kind):
    free = f'<link name="world"/><joint name="f" type="{kind}"><parent link="world"/><child link="body"/></joint>'
    loaded = load_urdf(saved(tmp_path, robot(more=free)))
    assert [p.joint is None for p in loaded.parts] == [True, False]
    held = robot(kind=kind)
    with pytest.raises(ObjectError, match=kind):
        load_urdf(saved(tmp_path, held))


def test_prefixes_need_no_declaration(tmp_path):
    odd = robot(more='<gazebo:a xmlns:gazebo="x"/><drake:b/>').replace("<limit ", '<limit drake:acceleration="2" ')
    text = f"<!-- <robot> of Drake -->\n{odd}"
    assert load_urdf(saved(tmp_path, text)).joint_limits[1].tolist() == [0, 1]


def test_collision_geometry_stands_in_for_what_is_not_there(tmp_path):
    loaded = load_urdf(saved(tmp_path, robot(shape="collision")))
    assert [len(p.faces) for p in loaded.parts] == [12, 12]
    assert all("collision" in note for note in loaded.notes)
    both = robot().replace("</visual></link>", f"</visual><collision>{BOX}</collision></link>")
    assert [len(p.faces) for p in load_urdf(saved(tmp_path, both)).parts] == [12, 12]


def test_capsules_are_read(tmp_path):
    loaded = load_urdf(saved(tmp_path, robot('<geometry><capsule radius="0.5" length="2"/></geometry>')))
    size = np.ptp(loaded.parts[1].vertices, 0)
    np.testing.assert_allclose(size / size[0], [1, 1, 3], rtol=0.01)
    with pytest.raises(ObjectError, match="capsule"):
        load_urdf(saved(tmp_path, robot('<geometry><capsule radius="0.5"/></geometry>')))


def test_colladas_unit_counts(tmp_path):
    collada = pytest.importorskip("collada")
    trimesh = pytest.importorskip("trimesh")
    trimesh.creation.box((100, 100, 100)).export(tmp_path / "m.dae")
    read = collada.Collada(str(tmp_path / "m.dae"))
    read.assetInfo.unitmeter, read.assetInfo.unitname = 0.01, "centimetre"
    read.write(str(tmp_path / "m.dae"))
    loaded = load_urdf(saved(tmp_path, robot(mesh("m.dae"))))
    sizes = [np.ptp(p.vertices, 0) for p in loaded.parts]
    np.testing.assert_allclose(sizes[1], sizes[0], rtol=1e-6)
    assert loaded.notes == ()


def test_another_case_and_paths_of_another_machine_are_found_and_noted(tmp_path):
    (tmp_path / "Meshes").mkdir()
    (tmp_path / "Meshes" / "Door.OBJ").write_text("mtllib d.mtl\nusemtl a\n" + CUBE)
    (tmp_path / "Meshes" / "d.mtl").write_text("newmtl a\nmap_Kd -bm 1 -s 2 2 C:\\\\data\\\\oak wood.png\n")
    Image.new("RGB", (4, 4), "red").save(tmp_path / "Meshes" / "oak wood.png")
    loaded = load_urdf(saved(tmp_path, robot(mesh("meshes/door.obj"))))
    assert len(loaded.notes) == 2
    assert "'Door.OBJ'" in loaded.notes[0]
    assert "oak wood.png" in loaded.notes[1]


@pytest.mark.parametrize("name", [f"{begin}cab{end}/m.obj" for begin, end in (
    ("package://", ""), ("model://", ""), ("$(find ", ")"), ("file://$(find ", ")"))])  # fmt: skip
def test_names_of_packages_are_looked_for_around_the_file(tmp_path, name):
    (tmp_path / "cab").mkdir()
    (tmp_path / "cab" / "m.obj").write_text(CUBE)
    assert load_urdf(saved(tmp_path / "cab" / "urdf", robot(mesh(name)))).notes == ()
    with pytest.raises(ObjectError, match=r"missing \(looked in .*urdf"):
        load_urdf(saved(tmp_path / "cab" / "urdf", robot(mesh(name.replace("m.obj", "n.obj")))))


def test_lines_of_an_obj_go_on_and_vertices_have_colours(tmp_path):
    colored = "".join(f"v {x} {y} {z} \\\n 1 {y} 0\n" for x, y, z in CORNERS) + FACES
    (tmp_path / "m.obj").write_text(colored)
    surface = load_obj(tmp_path / "m.obj", {})
    assert (surface.face_material >= 0).all()
    colors = {m.color for m in surface.materials}
    assert (1.0, 0.0, 0.0) in colors
    assert (1.0, 1.0, 0.0) in colors
    bright = "".join(f"v {x} {y} {z} {17 * n} 0 {13 * n}\n" for n, (x, y, z) in enumerate(CORNERS)) + FACES
    (tmp_path / "m.obj").write_text(bright)
    (palette,) = load_obj(tmp_path / "m.obj", {}).materials
    assert palette.texture is not None
    loaded = load_urdf(saved(tmp_path, robot(mesh("m.obj"))))
    uv, face = loaded.parts[1].corner_uv, loaded.parts[1].faces[0]
    texture = loaded.materials[loaded.parts[1].face_material[0]].texture
    assert uv is not None
    assert texture is not None
    side = len(texture)
    pixel = texture[int((1 - uv[0, 0, 1]) * side), int(uv[0, 0, 0] * side)]
    np.testing.assert_allclose(pixel[0], 17 * face.mean(), atol=1)


@pytest.mark.parametrize(("text", "words"), [
    (robot('<geometry><box size="1 ${w} 1"/></geometry>'), "run xacro first"),
    (robot(more="<xacro:arm/>"), "run xacro first"),
    ("<sdf version='1.6'/>", "SDF"),
    ("<mujoco/>", "MuJoCo model"),
    ("<!DOCTYPE r [<!ENTITY a 'b'>]><robot name='&a;'/>", "entities"),
    (robot(mesh("m.wrl")), "'wrl' are not read"),
    (robot('<geometry><box size="1e200 1 1"/></geometry>'), "larger than"),
    (robot().replace("</visual>", '<material name="a"><color rgba="1 2"/></material></visual>'), "not four"),
])  # fmt: skip
def test_what_cannot_be_read_is_called_by_its_name(tmp_path, text, words):
    (tmp_path / "m.wrl").write_text("#VRML")
    with pytest.raises(ObjectError, match=words):
        load_urdf(saved(tmp_path, text))
    if text.startswith("<robot"):
        with pytest.raises(ObjectError, match="a URDF"):
            load_mjcf(saved(tmp_path, text, "x.xml"))


def test_other_units_are_noted(tmp_path):
    (degrees,) = load_urdf(saved(tmp_path, robot(limit=LIMIT.replace('upper="1"', 'upper="90"')))).notes
    assert "'hinge'" in degrees
    assert "degrees" in degrees
    (millimetres,) = load_urdf(saved(tmp_path, robot('<geometry><box size="900 900 900"/></geometry>'))).notes
    assert "'door' is 900 times" in millimetres
    slide = load_urdf(saved(tmp_path, robot(limit=LIMIT.replace('upper="1"', 'upper="1000"'), kind="prismatic")))
    assert any("'hinge' slides" in note for note in slide.notes)


def test_files_outside_of_the_objects_folder_need_leave(tmp_path):
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "m.obj").write_text(CUBE)
    path = saved(tmp_path / "object", robot(mesh("../other/m.obj")))
    with pytest.raises(ObjectError, match=f"--allow-outside {tmp_path}/other"):
        load_urdf(path)
    assert load_urdf(path, allow_outside=[tmp_path / "other"]).movable
    (tmp_path / "object" / "m.obj").symlink_to(tmp_path / "other" / "m.obj")
    with pytest.raises(ObjectError, match="outside"):
        load_urdf(saved(tmp_path / "object", robot(mesh("m.obj"))))


@pytest.mark.parametrize("what", ["mesh", "library", "texture", "description"])
def test_devices_and_pipes_are_never_read(tmp_path, what):
    folder = tmp_path / "object"
    path = saved(folder, robot(mesh("m.obj")))
    (folder / "m.obj").write_text("mtllib m.mtl\nusemtl a\n" + CUBE)
    (folder / "m.mtl").write_text("newmtl a\nmap_Kd t.png\n")
    Image.new("RGB", (4, 4)).save(folder / "t.png")
    assert load_urdf(path).notes == ()
    named = {"mesh": "m.obj", "library": "m.mtl", "texture": "t.png", "description": "x.urdf"}[what]
    (folder / named).unlink()
    os.mkfifo(folder / named)
    with pytest.raises(ObjectError, match="not a regular file"):
        load_urdf(path)
    (folder / named).unlink()
    (folder / named).symlink_to("/dev/zero")
    with pytest.raises(ObjectError, match=r"outside|not a regular file"):
        load_urdf(path)


def test_files_of_gltf_and_mjcf_are_looked_at_too(tmp_path):
    trimesh = pytest.importorskip("trimesh")
    pytest.importorskip("mujoco")
    folder = tmp_path / "object"
    path = saved(folder, robot(mesh("m.gltf")))
    for name, content in trimesh.Scene(trimesh.creation.box()).export(file_type="gltf").items():
        (folder / name.replace("model", "m")).write_bytes(content)
    assert load_urdf(path).movable
    tree = json.loads((folder / "m.gltf").read_text())
    (buffer,) = list(folder.glob("*.bin"))[:1]
    shutil.move(buffer, tmp_path / "secret")
    tree["buffers"][0]["uri"] = "../secret"
    (folder / "m.gltf").write_text(json.dumps(tree))
    with pytest.raises(ObjectError, match="outside"):
        load_urdf(path)
    (tmp_path / "m.obj").write_text(CUBE)
    asset = '<asset><mesh name="m" file="{}"/></asset>'
    body = '<body><joint range="0 90"/><geom type="mesh" mesh="m"/></body><geom type="box" size="1 1 1"/>'
    model = f"<mujoco>{asset}<worldbody>{body}</worldbody></mujoco>"
    with pytest.raises(ObjectError, match="outside"):
        load_mjcf(saved(folder, model.format("../m.obj"), "x.xml"))
    assert load_mjcf(folder / "x.xml", allow_outside=[tmp_path]).movable
    saved(tmp_path, "<mujoco/>", "y.xml")
    with pytest.raises(ObjectError, match="outside"):
        load_mjcf(saved(folder, '<mujoco><include file="../y.xml"/></mujoco>', "x.xml"))
    os.mkfifo(folder / "p.obj")
    with pytest.raises(ObjectError, match="not a regular file"):
        load_mjcf(saved(folder, model.format("p.obj"), "x.xml"))


def test_group_0_that_only_collides_is_not_shown(tmp_path):
    pytest.importorskip("mujoco")
    seen, hit = ('<geom type="box" group="{}" size="1 1 {}" rgba="0 1 0 1"{}/>'.format(*row) for row in (
        (1, 1, ' contype="0" conaffinity="0"'), (0, 2, "")))  # fmt: skip
    text = "<mujoco><worldbody><body>{0}<body><joint range='0 90'/>{0}</body></body></worldbody></mujoco>"
    hidden = load_mjcf(saved(tmp_path, text.format(seen + hit), "x.xml"))
    assert [len(p.faces) for p in hidden.parts] == [12, 12]
    plain = load_mjcf(saved(tmp_path, text.format(hit), "x.xml"))
    assert [len(p.faces) for p in plain.parts] == [12, 12]
    both = load_mjcf(saved(tmp_path, text.format(seen.replace(' contype="0"', "") + hit), "x.xml"))
    assert [len(p.faces) for p in both.parts] == [24, 24]


def test_dead_meshes_of_partnet_are_left_out_but_no_whole_part(tmp_path):
    (tmp_path / "m.obj").write_text(CUBE)
    text = robot(mesh("m.obj"), body=mesh("m.obj")).replace("</link>", f"<visual>{mesh('dead.obj')}</visual></link>", 1)
    folder = saved(tmp_path, text, "mobility.urdf").parent
    loaded = load_partnet(folder)
    assert [len(p.faces) for p in loaded.parts] == [12, 12]
    assert "'dead.obj' is missing" in loaded.notes[0]
    saved(tmp_path, robot(mesh("dead.obj"), body=mesh("m.obj")), "mobility.urdf")
    with pytest.raises(ObjectError, match=r"nothing is left of link 'door': .*dead\.obj"):
        load_partnet(folder)


COMMENT = {
    "name": "a", "color": [1, 0, 0], "role": "BODY", "color2": [0, 0, 0], "pattern": "PLAIN", "frequency": 1.0,
    "direction": [0, 0, 1], "gloss": 0.5,
}  # fmt: skip


@pytest.mark.parametrize(("key", "value"), [
    ("gloss", None), ("gloss", float("nan")), ("color", 3), ("color", [1, 2]), ("color2", "abc"), ("name", 7),
    ("direction", [0, 0, "x"]), ("direction", None), ("role", []), ("pattern", {}), ("frequency", [1]),
    ("frequency", 10**400), ("gloss", True),
], ids=lambda value: str(value)[:20])  # fmt: skip
def test_our_comment_is_checked_when_it_is_read(tmp_path, key, value):
    path = tmp_path / "m.mtl"
    path.write_text(f"newmtl a\n# partrm {json.dumps(COMMENT)}\n")
    assert load_mtl(path)["a"].gloss == 0.5
    path.write_text(f"newmtl a\n# partrm {json.dumps(COMMENT | {key: value})}\n")
    with pytest.raises(ObjectError, match="line 2 is malformed"):
        load_mtl(path)


COLLADA = """<COLLADA xmlns="http://www.collada.org/2005/11/COLLADASchema" version="1.4.1">
<asset><unit meter="1"/><up_axis>Z_UP</up_axis></asset><library_geometries><geometry id="g"><mesh><source id="p">
<float_array id="a" count="12">{points}</float_array><technique_common><accessor source="#a" count="4" stride="3">
<param name="X" type="float"/><param name="Y" type="float"/><param name="Z" type="float"/></accessor></technique_common>
</source><vertices id="v"><input semantic="POSITION" source="#p"/></vertices><triangles count="2">
<input semantic="VERTEX" source="#v" offset="0"/><p>{faces}</p></triangles></mesh></geometry></library_geometries>
<library_nodes>{nodes}</library_nodes><library_visual_scenes><visual_scene id="s">{scene}</visual_scene>
</library_visual_scenes><scene><instance_visual_scene url="#s"/></scene></COLLADA>"""
POINTS, TRIANGLES = "0 0 0 1 0 0 0 1 0 0 0 1", "0 1 2 0 1 3"
LEAF = '<node id="n0"><instance_geometry url="#g"/></node>'
DOUBLING = LEAF + "".join(f'<node id="n{n + 1}">' + f'<instance_node url="#n{n}"/>' * 2 + "</node>" for n in range(40))


@pytest.mark.parametrize(
    ("changed", "words"),
    [
        ({}, None),
        ({"points": POINTS.replace("1", "NaN", 1)}, "not finite"),
        ({"faces": TRIANGLES.replace("3", "-1")}, "a vertex that does not exist"),
        ({"nodes": DOUBLING, "scene": '<node><instance_node url="#n40"/></node>'}, "written out, are larger than 512"),
        ({"nodes": '<node id="n"><instance_node url="#n"/></node>', "scene": '<node><instance_node url="#n"/></node>'},
         "within themselves"),
        ({"scene": "<node>" * 2000 + LEAF + "</node>" * 2000}, "nested too deeply"),
    ],
)  # fmt: skip
def test_collada_is_what_it_says_or_refused(changed, words, tmp_path):
    """pycollada takes NaN for zero and counts -1 from the end; instances of instances double without bound."""
    pytest.importorskip("collada")
    content = COLLADA.format(**{"points": POINTS, "faces": TRIANGLES, "nodes": "", "scene": LEAF} | changed)
    (tmp_path / "m.dae").write_text(content)
    path = saved(tmp_path, robot(mesh("m.dae")))
    if words is None:
        assert load_urdf(path).movable
    else:
        with pytest.raises(ObjectError, match=words):
            load_urdf(path)


def test_gltf_that_trimesh_would_misread_is_refused(tmp_path):
    """It takes packed points for zeros, base values for sparse ones, and integers for the fractions they mean."""
    trimesh = pytest.importorskip("trimesh")
    path = saved(tmp_path, robot(mesh("m.gltf")))
    for name, content in trimesh.Scene(trimesh.creation.box()).export(file_type="gltf").items():
        (tmp_path / name.replace("model", "m")).write_bytes(content)
    text = (tmp_path / "m.gltf").read_text()

    def refused(change, words):
        document = json.loads(text)
        points = document["accessors"][document["meshes"][0]["primitives"][0]["attributes"]["POSITION"]]
        change(document, points)
        (tmp_path / "m.gltf").write_text(json.dumps(document))
        with pytest.raises(ObjectError, match=words):
            load_urdf(path)

    draco = "KHR_draco_mesh_compression"
    refused(lambda document, points: document.update(extensionsRequired=[draco]), f"packed by {draco}")
    refused(lambda document, points: points.update(sparse={"count": 1}), "sparse")
    refused(lambda document, points: points.update(componentType=5122, normalized=True), "quantized")
    refused(lambda document, points: points.update(type="SCALAR"), "too few numbers each")
    chain = [{"children": [number + 1]} for number in range(1500)] + [{"mesh": 0}]
    refused(lambda document, points: document.update(nodes=chain, scenes=[{"nodes": [0]}]), "nested too deeply")


@pytest.mark.parametrize("damage", [lambda content: content[:-1], lambda content: content + b"\0", lambda content: b""])
def test_stl_files_that_are_cut_short_are_told_as_such(damage, tmp_path):
    trimesh = pytest.importorskip("trimesh")
    path, content = saved(tmp_path, robot(mesh("m.stl"))), trimesh.creation.box().export(file_type="stl")
    (tmp_path / "m.stl").write_bytes(content)
    assert load_urdf(path).movable
    (tmp_path / "m.stl").write_bytes(damage(content))
    with pytest.raises(ObjectError, match=r"m\.stl: damaged, it tells of \d+ faces in \d+ bytes"):
        load_urdf(path)


def test_a_mesh_that_many_nodes_name_is_counted_as_often(tmp_path, monkeypatch):
    trimesh = pytest.importorskip("trimesh")
    scene = trimesh.Scene()
    for number in range(9):
        scene.add_geometry(trimesh.creation.box(), geom_name=None if number else "box", node_name=f"n{number}")
    (tmp_path / "m.glb").write_bytes(scene.export(file_type="glb"))
    path = saved(tmp_path, robot(mesh("m.glb")))
    assert load_urdf(path).movable
    monkeypatch.setattr("partrm.objects._description_meshes.MAX_FACES", 100)
    monkeypatch.setattr(trimesh.Scene, "dump", None)  # which would copy them all
    with pytest.raises(ObjectError, match="more than 100 faces"):
        load_urdf(path)


def test_an_obj_may_begin_with_a_byte_order_mark(tmp_path):
    (tmp_path / "m.obj").write_text(CUBE, encoding="utf-8-sig")
    assert len(load_obj(tmp_path / "m.obj", {}).vertices) == 8


@pytest.mark.parametrize("encoding", ["utf-16", "utf-16-le", "utf-16-be", "utf-32"])
def test_text_in_utf_16_is_told_as_such(encoding, tmp_path):
    (tmp_path / "m.obj").write_text(CUBE, encoding=encoding)
    with pytest.raises(ObjectError, match=r"m\.obj: .* in UTF-16 or UTF-32; save it as UTF-8"):
        load_obj(tmp_path / "m.obj", {})
    (tmp_path / "m.mtl").write_text("newmtl a", encoding=encoding)
    with pytest.raises(ObjectError, match=r"m\.mtl: .* in UTF-16"):
        load_mtl(tmp_path / "m.mtl")


def first(document, kind):
    return document[kind][0]


@pytest.mark.parametrize(
    ("damage", "change", "words"),
    [
        (bytes, lambda gltf: None, None),
        (lambda png: png[: len(png) // 2], lambda gltf: None, "truncated"),
        (lambda png: b"no image", lambda gltf: None, "no image of the formats PNG"),
        (bytes, lambda gltf: first(gltf, "images").update(mimeType="image/ktx2"), "KTX2"),
        (bytes, lambda gltf: gltf.update(textures=[{"extensions": {"KHR_texture_basisu": {"source": 0}}}]), "KTX2"),
        (bytes, lambda gltf: gltf.update(textures=[{"source": 7}]), "a picture that does not exist"),
        (bytes, lambda gltf: gltf.update(images=[{"mimeType": "image/png"}]), "names no file"),
        (bytes, lambda gltf: gltf.update(images=[{"uri": "data:image/png;base64,a"}]), "no base64"),
    ],
)
def test_pictures_of_gltf_that_cannot_be_read_refuse_it_as_those_of_mtl_do(damage, change, words, tmp_path):
    trimesh = pytest.importorskip("trimesh")
    picture = io.BytesIO()
    Image.effect_noise((32, 32), 90).convert("RGB").save(picture, "PNG")
    box = trimesh.creation.box()
    box.visual = trimesh.visual.TextureVisuals(uv=np.zeros((8, 2)), image=Image.open(picture))
    files = trimesh.Scene(box).export(file_type="gltf")
    document = json.loads(files.pop("model.gltf"))
    document["images"] = [{"uri": "t.png"}]
    change(document)
    for name, content in (files | {"t.png": damage(picture.getvalue())}).items():
        (tmp_path / name).write_bytes(content)
    path = saved(tmp_path, robot(mesh("m.gltf")))
    saved(tmp_path, json.dumps(document), "m.gltf")
    if words is None:
        assert [m.texture is not None for m in load_urdf(path).materials] == [False, True]
    else:
        with pytest.raises(ObjectError, match=rf"m\.gltf: a texture of it cannot be read \(.*{words}"):
            load_urdf(path)


def test_huge_numbers_are_told_in_one_line(tmp_path, recwarn):
    for text in (
        robot('<geometry><sphere radius="1e308"/></geometry>'),
        robot('<geometry><box size="1 1e200 1"/></geometry>'),
    ):
        with pytest.raises(ObjectError, match="larger than 1e"):
            load_urdf(saved(tmp_path, text))
    assert load_urdf(saved(tmp_path, robot().replace('axis xyz="0 0 1"', 'axis xyz="0 0 1e300"'))).movable
    assert [str(w.message) for w in recwarn] == []


@pytest.mark.parametrize(
    ("more", "words"),
    [
        ('<replicate count="99999"><geom size="1"/></replicate>', "more than 50000 elements"),
        ('<replicate count="300"><replicate count="300"><geom size="1"/></replicate></replicate>', "more than 50000"),
        ('<body><composite type="grid" count="1000 1000 1" spacing="1"/></body>', "more than 50000"),
        ('<body><flexcomp name="f" type="grid" count="500 500 500" spacing="1 1 1"/></body>', "more than 50000"),
        ("<body>" * 5000 + "</body>" * 5000, "MuJoCo cannot read it"),
        ('<geom type="box" size="1 1 1" rgba="nan 0 0 1"/>', "colour of a geom of body 'world' is not finite"),
        ('<replicate count="many"><geom size="1"/></replicate>', "MuJoCo cannot read it"),
        ('</worldbody><asset><hfield nrow="99999" ncol="99999" size="1 1 1 1"/></asset><worldbody>', "nrow=99999"),
        ('</worldbody><asset><mesh builtin="sphere" params="9999"/></asset><worldbody>', "<mesh> of params 9999"),
        ('</worldbody><custom><numeric name="a" size="999999999"/></custom><worldbody>', "<numeric> of size=999999999"),
        ('</worldbody><asset><model name="a" file="x.xml"/></asset><worldbody>', "takes bodies from 'x.xml'"),
        ('<body><joint type="slide" range="0 1e12"/><geom size="1"/></body>', "has a limit beyond 1e"),
        ('<replicate count="3" offset="3 0 0"><geom size="1"/></replicate>', None),
    ],
)
def test_mujoco_models_grow_within_bounds_and_have_colours(more, words, tmp_path):
    pytest.importorskip("mujoco")
    body = '<body><joint range="0 90"/><geom type="box" size="1 1 1"/></body>'
    path = saved(tmp_path, f"<mujoco><worldbody>{body}{more}</worldbody></mujoco>", "x.xml")
    if words is None:
        assert load_mjcf(path).movable
    else:
        with pytest.raises(ObjectError, match=words):
            load_mjcf(path)


def test_models_that_a_mujoco_model_takes_bodies_from_are_looked_at_too(tmp_path):
    pytest.importorskip("mujoco")
    (tmp_path / "u").mkdir()
    body = '<body><joint range="0 90"/><geom type="box" size="1 1 1"/></body>'
    asset = '<asset><model name="a" file="a.xml"/></asset>'
    path = saved(tmp_path / "u", f"<mujoco>{asset}<worldbody>{body}</worldbody></mujoco>", "x.xml")
    child = "<mujoco>{}<worldbody><body name='c'><geom size='1'/></body></worldbody></mujoco>"
    (tmp_path / "u" / "a.xml").write_text(child.format(""))
    assert load_mjcf(path).movable
    (tmp_path / "b.xml").write_text("<mujoco/>")
    for more, words in (
        ('<include file="../b.xml"/>', "lies outside"),
        ('<asset><hfield nrow="99999" ncol="99999" size="1 1 1 1"/></asset>', "nrow=99999"),
        ('<include file="x.xml"/>', "leads back"),
    ):
        (tmp_path / "u" / "a.xml").write_text(child.format(more))
        with pytest.raises(ObjectError, match=words):
            load_mjcf(path)
