"""Sources that cannot be used: refused with a reason in the manifest, while the rest of the build goes on."""

import json
import os
import shutil
import sys
from dataclasses import replace
from hashlib import sha256

import numpy as np
import pytest
from PIL import Image
from support.boxes import cabinet
from support.tasks import die_of_bad

from partrm.cli import main
from partrm.datasets.build import BuildError, build
from partrm.datasets.check import check_dataset
from partrm.datasets.executors import Workers
from partrm.datasets.object_writer import BuildConfig, ObjectWriter
from partrm.datasets.sources import NAME_BYTES, SourceError, plain_name, plan_sources
from partrm.objects.articulated_object import ObjectError
from partrm.objects.urdf import load_urdf, save_urdf

pytest.importorskip("warp")
pytest.importorskip("yourdfpy")

SMALL = BuildConfig(size_px=32, views=2, states=2, distractors=0, points=100)
QUAD = "v 0 0 0\nv 1 0 0\nv 1 1 0\nv 0 1 0\n"
CUBE = QUAD + "v 0 0 1\nv 1 0 1\nv 1 1 1\nv 0 1 1\nf 4 3 2 1\nf 5 6 7 8\nf 1 2 6 5\nf 2 3 7 6\nf 3 4 8 7\nf 4 1 5 8\n"


def tree(root):
    return {str(p.relative_to(root)): sha256(p.read_bytes()).hexdigest() for p in root.rglob("*") if p.is_file()}


def urdf(mesh: str, limit: str = 'lower="0" upper="1"') -> str:
    def link(name: str) -> str:
        return f'<link name="{name}"><visual><geometry><mesh filename="{mesh}"/></geometry></visual></link>'

    joint = '<parent link="a"/><child link="b"/><axis xyz="0 0 1"/>'
    limits = f'<limit {limit} effort="1" velocity="1"/>'
    return f'<robot name="x">{link("a")}{link("b")}<joint name="j" type="revolute">{joint}{limits}</joint></robot>'


def test_every_kind_of_bad_source_is_in_the_manifest_with_its_reason(tmp_path):
    save_urdf(cabinet(), tmp_path / "good.urdf")
    meshes = {
        "nan.obj": QUAD + "v nan 0 0\nf 1 2 5\n",
        "empty.obj": QUAD,
        "whole.obj": QUAD + "f 1 2 3 4\n",
        "lost.obj": "mtllib paint.mtl\nusemtl paint\n" + QUAD + "f 1 2 3 4\n",
        "paint.mtl": "newmtl paint\nKd red 0 0\n",
    }
    for name, text in meshes.items():
        (tmp_path / name).write_text(text)
    wanted = {
        "missing": (urdf("gone.obj"), "gone.obj"),
        "nan": (urdf("nan.obj"), "not finite"),
        "empty": (urdf("empty.obj"), "no faces"),
        "material": (urdf("lost.obj"), "line 2 is malformed"),
        "reversed": (urdf("whole.obj", 'lower="1" upper="0"'), "reversed"),
        "infinite": (urdf("whole.obj", 'lower="0" upper="inf"'), "not finite"),
        "axis": (urdf("whole.obj").replace("0 0 1", "0 0 0"), "no length"),
        "absent": (urdf("whole.obj").replace('child link="b"', 'child link="c"'), "c"),
        "garbage": ("\x00\x01", "XML"),
    }
    for name, (text, _) in wanted.items():
        (tmp_path / f"{name}.urdf").write_text(text)
    words = (str(tmp_path / "good.urdf"), *(str(tmp_path / f"{name}.urdf") for name in wanted))
    result = build(words, tmp_path / "data", SMALL)
    assert (result.objects, result.entries) == (1, 4)
    listed = json.loads((tmp_path / "data" / "manifest.json").read_text(encoding="utf-8"))["refused"]
    reasons = {row["source"].rpartition("/")[2].removesuffix(".urdf"): row["reason"] for row in listed}
    assert set(reasons) == set(wanted)
    for name, (_, reason) in wanted.items():
        assert reason in reasons[name], (name, reasons[name])
        assert "\n" not in reasons[name]
    assert not [p for found in check_dataset(tmp_path / "data") for p in found.problems]


def test_a_refused_source_is_tried_again_when_the_build_is(tmp_path):
    save_urdf(cabinet(), tmp_path / "good.urdf")
    (tmp_path / "door.urdf").write_text(urdf("door.obj"))
    words = (str(tmp_path / "good.urdf"), str(tmp_path / "door.urdf"))
    first = build(words, tmp_path / "data", SMALL)
    assert ["door.obj" in reason for _, reason in first.refused] == [True]
    before = {p: p.stat().st_mtime_ns for p in (tmp_path / "data").glob("render*/good_*/*")}
    assert before
    assert build(words, tmp_path / "data", SMALL) == replace(first, made=0), "still missing: as it was"
    (tmp_path / "door.obj").write_text(CUBE)
    second = build(words, tmp_path / "data", SMALL)
    assert (second.objects, second.refused, second.made) == (2, (), 2)
    assert before == {p: p.stat().st_mtime_ns for p in before}, "what was whole is not made again"
    assert build(words, tmp_path / "whole", SMALL).made == 6
    assert tree(tmp_path / "data") == tree(tmp_path / "whole")
    assert not [p for found in check_dataset(tmp_path / "data") for p in found.problems]


def test_an_object_refused_half_way_leaves_nothing_behind(tmp_path, monkeypatch):
    def failing(*_):
        raise ValueError("no view shows the part")

    save_urdf(cabinet(), tmp_path / "a.urdf")
    save_urdf(cabinet(), tmp_path / "b.urdf")
    words, config = (str(tmp_path / "a.urdf"), str(tmp_path / "b.urdf")), SMALL
    build(words[:1], tmp_path / "one", config)
    with monkeypatch.context() as patched:
        patched.setattr("partrm.datasets.object_writer.visible", failing)
        with pytest.raises(BuildError, match="no view shows"):
            build(words, tmp_path / "data", config)
    assert {p.parent.name for p in (tmp_path / "data").rglob("*") if p.is_file()} == {"data", "objects"}
    assert build(words, tmp_path / "data", config).refused == ()


@pytest.mark.parametrize(
    ("broken", "message"),
    [(MemoryError(), "out of memory"), (ModuleNotFoundError("No module named 'lxml'"), "lxml.*install")],
)
def test_what_the_machine_lacks_is_no_refusal(tmp_path, monkeypatch, broken, message):
    def failing(*_, **__):
        raise broken

    save_urdf(cabinet(), tmp_path / "a.urdf")
    with monkeypatch.context() as patched:
        patched.setattr("partrm.datasets.sources.load_urdf", failing)
        with pytest.raises(BuildError, match=message) as caught:
            build((str(tmp_path / "a.urdf"),), tmp_path / "data", SMALL)
    assert str(tmp_path / "a.urdf") in str(caught.value)
    assert not list((tmp_path / "data" / "objects").iterdir())
    assert build((str(tmp_path / "a.urdf"),), tmp_path / "data", SMALL).objects == 1


def test_a_missing_package_is_no_refusal(tmp_path, monkeypatch):
    save_urdf(cabinet(), tmp_path / "a.urdf")
    monkeypatch.setitem(sys.modules, "yourdfpy", None)
    with pytest.raises(BuildError, match=r"partrm\[data\]"):
        build((str(tmp_path / "a.urdf"),), tmp_path / "data", SMALL)
    assert not list((tmp_path / "data" / "objects").iterdir())


@pytest.mark.parametrize("ending", ["stl", "ply"])
def test_ten_million_faces_are_refused_by_the_header(tmp_path, ending):
    path = tmp_path / f"m.{ending}"
    if ending == "stl":
        path.write_bytes(bytes(80) + (10**7).to_bytes(4, "little"))
        os.truncate(path, 84 + 50 * 10**7)  # sparse: takes no room
    else:
        head = "ply\nformat binary_little_endian 1.0\nelement vertex 3\nproperty float x\nproperty float y\n"
        path.write_text(head + "property float z\nelement face 10000000\nproperty list uchar int vertex_indices\n")
    (tmp_path / "x.urdf").write_text(urdf(path.name))
    with pytest.raises(ObjectError, match="10000000 faces"):
        load_urdf(tmp_path / "x.urdf")


def test_a_texture_without_coordinates_gives_its_mean_colour(tmp_path):
    picture = np.zeros((4, 4, 3), np.uint8)
    picture[:2] = (200, 100, 0)
    Image.fromarray(picture).save(tmp_path / "wood.png")
    (tmp_path / "m.mtl").write_text("newmtl wood\nKd 1 1 1\nmap_Kd wood.png\n")
    (tmp_path / "m.obj").write_text("mtllib m.mtl\nusemtl wood\n" + QUAD + "f 1 2 3 4\n")
    (tmp_path / "x.urdf").write_text(urdf("m.obj"))
    loaded = load_urdf(tmp_path / "x.urdf")
    assert loaded.parts[0].corner_uv is None
    material = loaded.materials[loaded.parts[0].face_material[0]]
    assert material.texture is None
    np.testing.assert_allclose(material.color, np.array([100, 50, 0]) / 255, atol=1e-3)


def test_names_of_any_script_and_length_make_files(tmp_path):
    assert plain_name("größe_1 (alt)") == "größe-1-alt"
    assert plain_name("___") == "object"
    long = "櫃" * 80
    assert len(plain_name(long).encode()) <= NAME_BYTES
    save_urdf(cabinet(), tmp_path / "a.urdf")
    for name in (long, long + "二"):
        (tmp_path / f"{name}.urdf").write_bytes((tmp_path / "a.urdf").read_bytes())
    result = build(tuple(str(tmp_path / f"{n}.urdf") for n in (long, long + "二")), tmp_path / "data", SMALL)
    assert (result.objects, result.refused) == (2, ())
    assert not [p for found in check_dataset(tmp_path / "data") for p in found.problems]


def test_paths_that_no_file_can_have_are_named(tmp_path, capsys):
    for word in ("x" * 300 + ".urdf", "y/" * 3000, "a\udcff.urdf"):
        with pytest.raises(SourceError):
            plan_sources((word,), None, 0)
        assert main(["data", "build", word, "--out", str(tmp_path / "data")]) == 2
    assert main(["data", "build", "procedural:Laptop", "--limit", "1", "--out", str(tmp_path / ("z" * 300))]) == 1
    lines = capsys.readouterr().err.strip().splitlines()
    assert len(lines) == 4
    assert "cannot write there (File name too long)" in lines[-1]
    assert not (tmp_path / "data").exists()


@pytest.fixture(scope="module")
def sound(tmp_path_factory):
    folder = tmp_path_factory.mktemp("sound")
    save_urdf(cabinet(), folder / "a.urdf")
    build((str(folder / "a.urdf"),), folder / "data", SMALL)
    return folder / "data"


DAMAGE = {
    "file list of bytes": ("train_filelist.txt", b"\xf2\x00", "not UTF-8"),
    "file list of nonsense": ("train_filelist.txt", b"render/x_999999999999_0\n", "train_filelist"),
    "build.json": ("build.json", b"{", "build.json: "),
    "build.json of deep lists": ("build.json", b"[" * 10**5, "nested too deeply"),
    "record": ("objects/a.json", b"[]", "a.json: not a record"),
    "record of other types": ("objects/a.json", b'{"mesh": "a", "entries": 3}', "a.json: not a record"),
    "indices": (
        "processed_data_partdrag4d/object/a/motion/0_0_visible.npy",
        b"\x93NUMPY\x01\x00v\x00{'descr': ",
        "0_0",
    ),
    "points": ("processed_data_partdrag4d/object/a/motion/0_0.ply", b"ply\nelement vertex 1e9\nend_header\n", "0_0"),
    "camera": ("render_PartDrag4D/a_0_0/000_camera.json", b'{"x": [1' + b"0" * 5000 + b"]}", "000_camera.json"),
    "image": ("render_PartDrag4D/a_0_0/000.png", b"%!PS-Adobe-3.0 EPSF-3.0\n", "000.png: not an image"),
}


@pytest.mark.parametrize("what", list(DAMAGE))
def test_all_damage_is_reported_and_the_rest_checked(sound, tmp_path, what):
    name, content, words = DAMAGE[what]
    root = tmp_path / "data"
    shutil.copytree(sound, root)
    (root / name).write_bytes(content)
    (root / "render_PartDrag4D" / "a_0_1" / "001.png").unlink()
    found = [p for checked in check_dataset(root) for p in checked.problems]
    assert any(words in p for p in found), found
    assert any("a_0_1: corrupt" in p for p in found), "the rest is checked"
    assert any("001.png is missing" in p for p in found)
    assert all("\n" not in p for p in found)


def test_what_is_not_of_the_build_is_reported(sound, tmp_path):
    root = tmp_path / "data"
    shutil.copytree(sound, root)
    shutil.copytree(root / "render_PartDrag4D" / "a_0_0", root / "render_PartDrag4D" / "b_0_0")
    manifest = json.loads((root / "manifest.json").read_text(encoding="utf-8"))
    manifest["points"]["scale"] = 2.0
    (root / "manifest.json").write_text(json.dumps(manifest), encoding="utf-8")
    found = [p for checked in check_dataset(root) for p in checked.problems]
    assert any("b_0_0: not of this build" in p for p in found)
    assert any("manifest.json: points" in p for p in found)


def test_notes_of_objects_are_in_the_manifest_and_paths_that_are_not_utf8_refused(tmp_path):
    (tmp_path / "set" / os.fsdecode(b"caf\xe9")).mkdir(parents=True)
    (tmp_path / "set" / "ok").mkdir()
    for folder in (tmp_path / "set").iterdir():
        (folder / "m.obj").write_text("mtllib gone.mtl\nusemtl x\n" + CUBE)
        (folder / "mobility.urdf").write_text(urdf("m.obj", 'lower="0" upper="90"'))
    (tmp_path / "named.xml").write_text(urdf("set/ok/m.obj"))
    result = build((str(tmp_path / "set"), str(tmp_path / "named.xml")), tmp_path / "data", SMALL)
    assert result.objects == 2
    assert "not UTF-8" in result.refused[0][1]
    manifest = json.loads((tmp_path / "data" / "manifest.json").read_text(encoding="utf-8"))
    notes = [note for record in manifest["objects"] for note in record["notes"]]
    assert any("gone.mtl" in note for note in notes)
    assert any("degrees" in note for note in notes)
    assert any("read as a URDF" in note for note in notes)
    for ending in ("sdf", "xacro", "usdz"):
        with pytest.raises(SourceError, match="first"):
            plan_sources((f"x.{ending}",), None, 0)


@pytest.mark.usefixtures("forking")
@pytest.mark.parametrize("workers", [1, 2])
def test_an_object_that_raises_anything_or_kills_its_worker_is_refused(tmp_path, monkeypatch, workers):
    save_urdf(cabinet(), tmp_path / "good.urdf")
    save_urdf(cabinet(), tmp_path / "bad.urdf")
    words = (str(tmp_path / "bad.urdf"), str(tmp_path / "good.urdf"))
    if workers == 1:
        make = ObjectWriter.__init__

        def broken(self, root, obj, *rest):
            if obj.name == "bad":
                raise RuntimeError("a library has given up")
            make(self, root, obj, *rest)

        monkeypatch.setattr(ObjectWriter, "__init__", broken)
    else:
        monkeypatch.setattr("partrm.datasets.build._build_whole", die_of_bad)
    result = build(words, tmp_path / "data", SMALL, workers=Workers(count=workers))
    assert result.objects == 1
    ((where, reason),) = result.refused
    assert where.endswith("bad.urdf")
    assert ("RuntimeError: a library has given up" if workers == 1 else "died twice") in reason
