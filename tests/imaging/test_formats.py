"""No file starts a program: PostScript under an image's name never reaches Ghostscript."""

import os
import stat
import struct
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from io import BytesIO

import numpy as np
import pytest
import trimesh
from PIL import EpsImagePlugin, Image, UnidentifiedImageError

from partrm.cli import main
from partrm.datasets.partdrag4d import load_rgba
from partrm.imaging.formats import IMAGE_FORMATS, UNREADABLE, marked_images, open_image
from partrm.objects.articulated_object import ObjectError
from partrm.objects.mtl_format import read_image
from partrm.objects.urdf import load_urdf

POSTSCRIPT = b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 100 100\nshowpage\n"


@pytest.fixture
def gs_started(tmp_path, monkeypatch):
    """A ``gs`` on PATH that leaves a trace when it is started."""
    trace, folder = tmp_path / "gs_was_started", tmp_path / "bin"
    folder.mkdir()
    program = folder / "gs"
    program.write_text(f"#!/bin/sh\ntouch {trace}\nexit 0\n")
    program.chmod(program.stat().st_mode | stat.S_IXUSR)
    monkeypatch.setenv("PATH", f"{folder}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.setattr(EpsImagePlugin, "gs_binary", None)
    return trace


def robot(folder, mesh):
    (folder / "robot.urdf").write_text(
        f'<robot name="r"><link name="base"><visual><geometry><mesh filename="{mesh}"/></geometry></visual></link>'
        '<link name="door"><visual><geometry><box size="1 1 1"/></geometry></visual></link>'
        '<joint name="j" type="revolute"><parent link="base"/><child link="door"/><axis xyz="0 0 1"/>'
        '<limit lower="0" upper="1" effort="1" velocity="1"/></joint></robot>'
    )
    return folder / "robot.urdf"


def test_the_trap_works(gs_started, tmp_path):
    (tmp_path / "photo.png").write_bytes(POSTSCRIPT)
    with pytest.raises(OSError, match=r"\w"), Image.open(tmp_path / "photo.png") as image:
        image.load()
    assert gs_started.exists()


def test_predict(gs_started, tmp_path, capsys):
    (tmp_path / "photo.png").write_bytes(POSTSCRIPT)
    code = main(["predict", str(tmp_path / "photo.png"), "--drag", "10,10,50,50", "--out", str(tmp_path / "out")])
    assert code == 1
    assert "photo.png" in capsys.readouterr().err
    assert not gs_started.exists()


@pytest.mark.parametrize("suffix", ["png", "tif", "ppm"])
def test_grey_of_16_bits_is_scaled_wherever_images_of_8_are_needed(suffix, tmp_path):
    """Textures and the images of data sets; Pillow cuts it off at 255."""
    grey = np.arange(64 * 32, dtype=np.uint16).reshape(32, 64) * 32
    Image.fromarray(grey).save(tmp_path / f"a.{suffix}")
    np.testing.assert_allclose(read_image(tmp_path / f"a.{suffix}")[..., 0], grey / 257, atol=0.51)
    np.testing.assert_allclose(load_rgba(tmp_path / f"a.{suffix}")[0] * 255, grey / 257, atol=0.51)


def test_texture_of_an_mtl(gs_started, tmp_path):
    (tmp_path / "t.png").write_bytes(POSTSCRIPT)
    (tmp_path / "m.mtl").write_text("newmtl a\nmap_Kd t.png\n")
    (tmp_path / "m.obj").write_text("mtllib m.mtl\nv 0 0 0\nv 1 0 0\nv 0 1 0\nvt 0 0\nusemtl a\nf 1/1 2/1 3/1\n")
    with pytest.raises(ObjectError, match=r"t\.png"):
        load_urdf(robot(tmp_path, "m.obj"))
    assert not gs_started.exists()


@pytest.mark.parametrize("suffix", ["glb", "gltf"])
def test_texture_of_a_gltf(gs_started, tmp_path, suffix):
    plain = BytesIO()
    Image.new("RGB", (100, 100), "red").save(plain, "PNG")
    mesh = trimesh.creation.box()
    mesh.visual = trimesh.visual.TextureVisuals(uv=np.zeros((8, 2)), image=Image.open(BytesIO(plain.getvalue())))
    scene = trimesh.Scene(mesh)
    if suffix == "glb":
        packed = scene.export(file_type="glb")
        start = packed.index(b"\x89PNG")
        end = packed.index(b"IEND", start) + 8
        (tmp_path / "m.glb").write_bytes(packed[:start] + POSTSCRIPT.ljust(end - start) + packed[end:])
    else:
        for name, content in scene.export(file_type="gltf").items():
            (tmp_path / name.replace("model", "m")).write_bytes(
                content.replace(content[content.index(b"\x89PNG") :], POSTSCRIPT) if b"\x89PNG" in content else content
            )
    with pytest.raises(ObjectError, match=rf"m\.{suffix}"):
        load_urdf(robot(tmp_path, f"m.{suffix}"))
    assert not gs_started.exists()


def test_the_list_is_what_is_opened(tmp_path):
    image = Image.new("RGB", (20, 20), "red")
    for kind in set(IMAGE_FORMATS):
        image.save(tmp_path / "x.png", kind)
        with open_image(tmp_path / "x.png") as opened:
            assert np.abs(np.asarray(opened.convert("RGB"), int) - (255, 0, 0)).max() < 12
    for kind in ("EPS", "PDF", "ICO"):
        image.save(tmp_path / "x.png", kind)
        with pytest.raises(UnidentifiedImageError):
            open_image(tmp_path / "x.png")


def test_libraries_open_no_other_formats_and_what_cannot_be_read_is_marked(gs_started, tmp_path):
    Image.effect_noise((64, 64), 50).save(tmp_path / "x.png")
    (tmp_path / "x.eps").write_bytes(POSTSCRIPT)
    (tmp_path / "cut.png").write_bytes((tmp_path / "x.png").read_bytes()[:1000])
    usual = Image.open
    with marked_images():
        assert Image.open(tmp_path / "x.png").size == (64, 64)
        assert "no image of the formats" in Image.open(BytesIO(POSTSCRIPT)).info[UNREADABLE]
        assert "truncated" in Image.open(tmp_path / "cut.png").copy().info[UNREADABLE]
        with ThreadPoolExecutor(1) as other, pytest.raises(UnidentifiedImageError):
            other.submit(Image.open, BytesIO(b"no image")).result()
    assert Image.open is usual
    assert not gs_started.exists()


def test_threads_that_read_meshes_at_once_do_not_end_each_others_guard(gs_started):
    began, goes_on = threading.Event(), threading.Event()

    def read():
        with marked_images():
            began.set()
            goes_on.wait(20)
            return Image.open(BytesIO(POSTSCRIPT)).info

    with ThreadPoolExecutor(1) as other:
        with marked_images():
            reading = other.submit(read)
            began.wait(0.3)  # the other waits for this one, or has begun within it
        goes_on.set()
        assert UNREADABLE in reading.result()
    assert not gs_started.exists()


def test_what_pillow_logs_of_damage_is_not_printed(tmp_path):
    Image.new("RGB", (8, 8)).save(tmp_path / "a.tif")
    tag = struct.pack("<HHI", 277, 3, 1)  # samples per pixel, one short
    content = (tmp_path / "a.tif").read_bytes()
    assert content.count(tag) == 1
    (tmp_path / "a.tif").write_bytes(content.replace(tag + struct.pack("<I", 3), tag + struct.pack("<I", 141)))
    code = "import sys; from partrm.imaging.formats import open_image; open_image(sys.argv[1])"
    done = subprocess.run(
        [sys.executable, "-c", code, "a.tif"], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert done.returncode == 1
    assert done.stderr.startswith("Traceback"), done.stderr
