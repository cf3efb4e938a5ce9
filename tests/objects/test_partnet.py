"""PartNet-Mobility folders: inverse of our exporter, axes, matching by link, and what real downloads get wrong."""

import json
import math
import re

import numpy as np
import pytest
from support.described import assert_same, rich_object
from support.real_folder import real_folder

from partrm.geometry.joints import JointType
from partrm.objects.articulated_object import ObjectError
from partrm.objects.partnet import load_partnet, partnet_folders, save_partnet
from partrm.procedural import generate

pytest.importorskip("yourdfpy")


@pytest.fixture
def folder(tmp_path):
    save_partnet(rich_object(), tmp_path / "7120")
    return tmp_path / "7120"


def test_save_and_load_are_inverse(folder, tmp_path):
    built, loaded = rich_object(), load_partnet(folder)
    assert_same(built, loaded)
    assert (loaded.name, loaded.category) == ("7120", "StorageFurniture")
    save_partnet(loaded, tmp_path / "again")
    assert_same(loaded, load_partnet(tmp_path / "again"))


@pytest.mark.parametrize("category", ["laptop", "mixed_cabinet", "washing_machine"])
def test_procedural_objects_survive(tmp_path, category):
    save_partnet(generate(category, 1), tmp_path)
    assert_same(generate(category, 1), load_partnet(tmp_path))


def test_meshes_are_stored_in_partnets_axes(folder):
    built = rich_object()
    lines = (folder / "textured_objs" / "original-1.obj").read_text().splitlines()
    stored = np.array([[float(w) for w in line.split()[1:]] for line in lines if line.startswith("v ")])
    np.testing.assert_allclose(stored[:, [2, 0, 1]], built.parts[1].vertices, atol=1e-15)
    hinge = json.loads((folder / "mobility_v2.json").read_text())[1]["jointData"]
    np.testing.assert_allclose(hinge["axis"]["direction"], [0, 1, 0], atol=1e-12)
    np.testing.assert_allclose(hinge["limit"]["b"], math.degrees(1.6))


def test_names_and_joints_are_matched_by_link_and_not_by_order(folder):
    expected = load_partnet(folder)
    rows = json.loads((folder / "mobility_v2.json").read_text())
    (folder / "mobility_v2.json").write_text(json.dumps(rows[::-1]))
    text = (folder / "mobility.urdf").read_text(encoding="utf-8")
    joints = re.findall(r"<joint .*?</joint>", text, re.DOTALL)
    body = text.split("</robot>")[0]
    for joint in joints:
        body = body.replace(joint, "")
    head, links = body.split('<link name="base" />')
    shuffled = head + "".join(joints[::-1]) + '<link name="base" />' + links + "</robot>"
    (folder / "mobility.urdf").write_text(shuffled, encoding="utf-8")
    assert_same(expected, load_partnet(folder))


def test_an_empty_mesh_moves_no_other_part(folder):
    expected = load_partnet(folder)
    empty = folder / "textured_objs" / "original-9.obj"
    empty.write_text("v 0 0 0\n")
    text = (folder / "mobility.urdf").read_text(encoding="utf-8")
    visual = '<visual><geometry><mesh filename="textured_objs/original-9.obj"/></geometry></visual>'
    text = text.replace('<link name="link_1">', f'<link name="link_1">{visual}')
    (folder / "mobility.urdf").write_text(text, encoding="utf-8")
    assert_same(expected, load_partnet(folder))


def test_equal_names_are_told_apart_and_optional_files_may_lack(folder):
    rows = json.loads((folder / "mobility_v2.json").read_text())
    (folder / "mobility_v2.json").write_text(json.dumps([row | {"name": "door"} for row in rows]))
    (folder / "meta.json").unlink()
    loaded = load_partnet(folder)
    assert [p.name for p in loaded.parts] == ["door", "door_2", "door_3", "door_4"]
    assert loaded.category == "StorageFurniture", "from result.json"
    for name in ("mobility_v2.json", "result.json"):
        (folder / name).unlink()
    bare = load_partnet(folder)
    assert [p.name for p in bare.parts] == ["link_0", "link_1", "link_2", "link_3"]
    assert bare.category == "object"


def test_a_sliding_and_turning_part_hangs_on_a_helper(tmp_path):
    """The pattern of real bottle 3763: base, fixed root turned to z up, helper slides, lid turns on it."""
    (tmp_path / "textured_objs").mkdir()
    tetra = "v 0 0 0\nv 1 0 0\nv 0 {h} 0\nv 0 0 1\nf 1 3 2\nf 1 2 4\nf 2 3 4\nf 3 1 4\n"
    for number, height in ((1, 2), (2, 3)):
        (tmp_path / "textured_objs" / f"original-{number}.obj").write_text(tetra.format(h=height))
    visual = (
        '<visual><origin xyz="{x} 0 0"/><geometry><mesh filename="textured_objs/original-{n}.obj"/></geometry></visual>'
    )
    (tmp_path / "mobility.urdf").write_text(
        f"""<robot name="p"><link name="base"/><link name="link_0">{visual.format(x=-0.5, n=2)}</link>
        <joint name="joint_0" type="continuous"><axis xyz="0 1 0"/><child link="link_0"/><parent link="link_0_helper"/>
        </joint><link name="link_1">{visual.format(x=0, n=1)}</link>
        <joint name="joint_1" type="fixed"><origin rpy="1.570796326794897 0 -1.570796326794897"/><child link="link_1"/>
        <parent link="base"/></joint><link name="link_0_helper"/><joint name="joint_2" type="prismatic">
        <origin xyz=".5 0 0"/><axis xyz="0 1 0"/><child link="link_0_helper"/><parent link="link_1"/>
        <limit lower="0" upper="1"/></joint></robot>"""
    )
    rows = [{"id": 0, "name": "lid"}, {"id": 1, "name": "body"}]
    (tmp_path / "mobility_v2.json").write_text(json.dumps(rows))
    loaded = load_partnet(tmp_path)
    assert [p.name for p in loaded.parts] == ["body", "lid_helper", "lid"]
    slide, turn = loaded.parts[1].joint, loaded.parts[2].joint
    assert slide is not None
    assert turn is not None
    assert (slide.type, turn.type, turn.parent) == (JointType.PRISMATIC, JointType.CONTINUOUS, 1)
    np.testing.assert_allclose([slide.axis, turn.axis], [[0, 0, 1]] * 2, atol=1e-12)
    scale = slide.upper
    # PartNet's (x, y, z) is our (y, z, x).
    edge = loaded.parts[0].vertices - loaded.parts[0].vertices[0]
    np.testing.assert_allclose(edge / scale, [[0, 0, 0], [0, 1, 0], [0, 0, 2], [1, 0, 0]], atol=1e-9)
    pivot = np.array(turn.pivot) - loaded.parts[0].vertices[0]
    np.testing.assert_allclose(pivot / scale, [0, 0.5, 0], atol=1e-9)


def test_bad_folders_get_one_clear_line(folder, tmp_path):
    with pytest.raises(ObjectError, match=r"no mobility\.urdf"):
        load_partnet(tmp_path)
    (folder / "mobility_v2.json").write_text("[{")
    with pytest.raises(ObjectError, match=r"mobility_v2\.json: not valid JSON"):
        load_partnet(folder)
    (folder / "mobility_v2.json").write_text("[{}]")
    with pytest.raises(ObjectError, match="id and name"):
        load_partnet(folder)
    (folder / "mobility_v2.json").write_text('[{"id": 0, "name": "a"}, {"id": "0", "name": "b"}]')
    with pytest.raises(ObjectError, match=r"mobility_v2\.json: two entries have one id"):
        load_partnet(folder)
    (folder / "mobility_v2.json").unlink()
    (folder / "textured_objs" / "original-2.obj").unlink()
    with pytest.raises(ObjectError, match=r"original-2\.obj"):
        load_partnet(folder)


def test_folders_of_folders_are_listed_by_number(folder, tmp_path):
    for name in ("912", "10"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "mobility.urdf").write_text("<robot/>")
    (tmp_path / "readme").mkdir()
    assert partnet_folders(tmp_path) == [tmp_path / "10", tmp_path / "912", folder]
    assert partnet_folders(folder) == [folder]


def test_the_real_folder():
    loaded = load_partnet(real_folder())
    assert loaded.category == "Bottle"
    assert [p.name for p in loaded.parts] == ["body", "lid_helper", "lid"]
    assert np.ptp(loaded.parts[0].vertices, 0).argmax() == 2, "the bottle stands upright"
    assert loaded.parts[2].vertices[:, 2].min() > np.median(loaded.parts[0].vertices[:, 2]), "the lid is on top"
