import io
import json
import math
import sys

import numpy as np
import pytest
import torch
from PIL import Image
from support.kitchens import BOX, kitchen
from torch.testing import assert_close

from partrm.geometry.cameras import MASK_BOX_FILL, canonical_orbit, save_cameras
from partrm.geometry.gaussians import save_ply
from partrm.imaging.images import save_image
from partrm.imaging.photos import CutoutRequest
from partrm.inference.prediction import save_prediction
from partrm.inference.source import check_drags, load_source
from partrm.objects.urdf import save_urdf
from partrm.procedural import generate
from partrm.viewer import sources
from partrm.viewer.display import MovableGaussians
from partrm.viewer.gallery import load_examples
from partrm.viewer.masking import boxed
from partrm.viewer.sources import ViewError, needs_model, open_path, open_picture, open_upload, picture_of, recrop

SIZE = 64


def encoded(format, size=(64, 48), mode="RGBA"):
    image = Image.new(mode, size, 0)
    image.paste((200, 30, 30, 255)[: len(mode)], (16, 12, 48, 36))
    buffer = io.BytesIO()
    image.save(buffer, format)
    return buffer.getvalue()


def gradient_png():
    image = np.zeros((64, 64, 3), dtype=np.uint8)
    image[..., 0], image[..., 1] = np.meshgrid(np.arange(0, 256, 4), np.arange(0, 256, 4))
    buffer = io.BytesIO()
    Image.fromarray(image).save(buffer, "PNG")
    return buffer.getvalue()


def test_bundled_examples_open_and_their_drags_start_on_the_object():
    examples = load_examples()
    assert len(examples) >= 6
    for example in examples:
        assert example.path.stat().st_size < 100_000
        picture = open_picture(example.path, SIZE, example.framing, example.title)
        check_drags(example.drags_px, picture.views)


def test_uploads_are_opened_in_the_temporary_folder_and_leave_nothing(tmp_path):
    picture = open_upload("../../etc/evil\n.png", encoded("PNG"), tmp_path, SIZE)
    assert picture.title == "evil.png"
    assert picture.rgba.shape == (4, 48, 64)
    assert list(tmp_path.iterdir()) == []


def test_a_phones_photo_with_a_second_picture_behind_it_is_taken(tmp_path):
    photo, buffer = Image.new("RGB", (64, 48), (250, 250, 250)), io.BytesIO()
    photo.paste((200, 30, 30), (16, 12, 48, 36))
    photo.save(buffer, "MPO", save_all=True, append_images=[Image.new("RGB", (16, 16))])
    assert open_upload("IMG_1.jpg", buffer.getvalue(), tmp_path, SIZE).rgba.shape == (4, 48, 64)


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "not an image"),
        (b"%PDF-1.4 nothing", "not an image"),
        (encoded("GIF", mode="RGB"), "not an image"),
        (encoded("PNG")[:60], "not"),
        (encoded("PNG")[:-30], r"^a\.png: not a readable image"),
        (encoded("PNG", (4, 4)), r"^a\.png: 4x4 pixels are too few"),
    ],
    ids=["empty", "pdf", "gif", "cut off", "damaged", "small"],
)
def test_other_uploads_are_refused(content, reason, tmp_path):
    with pytest.raises(ValueError, match=reason) as caught:
        open_upload("a.png", content, tmp_path, SIZE)
    assert str(tmp_path) not in str(caught.value), "no path of the server reaches the page"
    assert list(tmp_path.iterdir()) == []


def test_an_upload_with_any_background_is_cut_out(tmp_path):
    picture = open_upload("a.png", gradient_png(), tmp_path, SIZE)
    assert 0 < float(picture.rgba[3].mean()) < 1


def test_uploads_are_limited_before_they_are_decoded(tmp_path, monkeypatch):
    with pytest.raises(ViewError, match="larger than 32 MB"):
        open_upload("a.png", bytes(32_000_001), tmp_path, SIZE)
    bomb = encoded("PNG", (8000, 8000), "RGB")
    assert len(bomb) < 10**6
    monkeypatch.setattr(sources, "open_photo", None)
    with pytest.raises(ViewError, match="8000x8000 pixels are too many"):
        open_upload("a.png", bomb, tmp_path, SIZE)


def test_a_phones_photograph_of_48_megapixels_is_opened_small(tmp_path):
    image = Image.new("RGB", (8000, 6000), "white")
    image.paste((120, 70, 40), (2000, 1500, 6000, 4500))
    buffer = io.BytesIO()
    image.save(buffer, "JPEG")
    picture = open_upload("a.jpg", buffer.getvalue(), tmp_path, SIZE)
    assert picture.rgba.shape == (4, 1536, 2048)
    assert float(picture.rgba[3].mean()) == pytest.approx(0.25, abs=0.01)
    with pytest.raises(ViewError, match="at most 64 megapixels of a JPEG file"):
        open_upload("a.jpg", encoded("JPEG", (9000, 8000), "RGB"), tmp_path, SIZE)


def test_posed_views_open_with_their_first_picture(tmp_path):
    save_cameras(canonical_orbit(2, SIZE), tmp_path / "cameras.json")
    for index in range(2):
        image = torch.zeros(4, SIZE, SIZE)
        image[index, 16:48, 16:48], image[3, 16:48, 16:48] = 1, 1
        save_image(image, tmp_path / f"{index:03d}.png")
    opened = open_path(tmp_path, SIZE)
    assert len(opened.views.framed) == 2
    assert not opened.adjustable
    assert float(opened.rgba[0].max()) == 1


def test_a_prediction_on_disk_comes_back(tmp_path, engine):
    image = torch.zeros(4, 90, 120)
    image[2], image[3, 20:70, 30:90] = 0.9, 1
    save_image(image, tmp_path / "box.png")
    picture = open_picture(tmp_path / "box.png", engine.size_px)
    prediction = engine.predict(picture.views, [(70.0, 45.0, 80.0, 40.0)])
    save_prediction(prediction, tmp_path / "out", canonical_orbit(1, 16))
    shown = open_path(tmp_path / "out", None)
    assert isinstance(shown, MovableGaussians)
    assert bool((shown.moving == prediction.moving).all())
    assert_close(shown.at(1.0).means, prediction.after.means, atol=1e-5, rtol=0)
    (tmp_path / "out" / "prediction.json").write_text('{"joint": {"type": "ball"}}')
    with pytest.raises(ViewError, match=r"prediction\.json"):
        open_path(tmp_path / "out", None)


def test_gaussian_files_are_brought_into_view(tmp_path, engine):
    picture = open_picture(load_examples()[0].path, engine.size_px, "canonical")
    before = engine.predict(picture.views, load_examples()[0].drags_px).before
    save_ply(before, tmp_path / "a.ply")
    assert_close(open_path(tmp_path / "a.ply", None).before.means, before.means, atol=1e-5, rtol=0)
    save_ply(sources.replace(before, means=20 * before.means + 7, scales=20 * before.scales), tmp_path / "b.ply")
    far = open_path(tmp_path / "b.ply", None)
    assert float(far.before.means.median(0).values.norm()) < 0.2
    assert 0.1 < float(far.before.means.norm(dim=-1).quantile(0.9)) < 0.8
    assert far.joint is None


CABINET_XML = """<mujoco><worldbody><body name="cabinet">
  <geom type="box" size=".2 .25 .3" rgba=".6 .4 .3 1"/>
  <body name="door" pos=".21 .25 0">
    <joint name="hinge" type="hinge" axis="0 0 1" range="0 1.8"/>
    <geom type="box" size=".01 .25 .3" pos="0 -.25 0" rgba=".2 .3 .6 1"/>
  </body>
</body></worldbody></mujoco>"""


@pytest.mark.parametrize("name", ["object.urdf", "object.xml"])
def test_articulated_objects_are_photographed_by_the_canonical_camera(name, tmp_path):
    path = tmp_path / name
    if name.endswith(".xml"):
        path.write_text(CABINET_XML)
    else:
        save_urdf(generate("microwave", 3_000_001), path)
    opened = open_path(path, SIZE)
    across = torch.nonzero(opened.views.framed[0].image[3] > 0.5)
    assert float((across.amax(0) - across.amin(0) + 1).max()) / SIZE == pytest.approx(MASK_BOX_FILL, abs=0.04)
    rows, columns = np.nonzero(opened.rgba[3].numpy() > 0.5)
    diagonal = np.hypot(np.ptp(rows), np.ptp(columns)) / opened.rgba.shape[-1]
    assert 0.4 < diagonal < 0.85
    assert abs(columns.mean() / opened.rgba.shape[-1] - 0.5) < 0.1


def test_what_is_missing_is_said_in_one_line(tmp_path, monkeypatch):
    with pytest.raises(ViewError, match="no such file"):
        open_path(tmp_path / "nothing.png", SIZE)
    save_urdf(generate("microwave", 3_000_001), tmp_path / "object.urdf")
    path = tmp_path / "object.urdf"
    monkeypatch.setitem(sys.modules, "yourdfpy", None)
    with pytest.raises(ValueError, match=r"partrm\[data\]|yourdfpy") as caught:
        open_path(path, SIZE)
    assert "\n" not in str(caught.value)
    assert needs_model(path)
    assert needs_model(None)
    assert not needs_model(tmp_path / "a.ply")


@pytest.mark.parametrize("change", [{"axis": [0, 0, 0]}, {"axis": [0, float("nan"), 1]}, {"amount": float("inf")}])
def test_joints_of_no_meaning_are_refused(tmp_path, change):
    joint = {"type": "revolute", "axis": [0, 0, 1], "pivot": [0, 0, 0], "amount": 1.0, "confidence": 1.0} | change
    (tmp_path / "prediction.json").write_text(json.dumps({"joint": joint}))
    with pytest.raises(ViewError, match=r"prediction\.json: the joint's numbers"):
        open_path(tmp_path, None)


CROPS = [(1e9, 0.0, 0.0), (0.0, 0.0, 0.0), (1.0, 1e9, 0.0), (math.nan, 0.0, 0.0), (1.0, 0.0, math.inf)]


@pytest.mark.parametrize("crop", CROPS)
def test_crops_that_no_slider_gives_are_refused(crop):
    rgba = torch.zeros(4, 40, 40)
    rgba[:, 10:30, 10:30] = 1
    picture = picture_of(rgba, 64, "auto", "square")
    base = picture.views.framed[0]
    assert recrop(picture, base, 1.5, 0.1, 0.0).views.framed[0].scale < base.scale
    with pytest.raises(ViewError, match="out of range"):
        recrop(picture, base, *crop)


def test_the_lens_that_a_file_tells_is_kept_by_masks_and_crops(tmp_path):
    exif = Image.Exif()
    exif.get_ifd(0x8769)[0xA405] = 26
    Image.fromarray(kitchen()[0]).save(tmp_path / "a.jpg", exif=exif)
    picture = boxed(open_picture(tmp_path / "a.jpg", SIZE), BOX)
    expected = load_source(tmp_path / "a.jpg", SIZE, cutout=CutoutRequest(box_px=BOX))
    assert picture.views.lens == expected.lens == "exif"
    assert picture.views.cut_by == expected.cut_by == "grabcut box"
    assert_close(picture.views.cameras.fovy_rad, expected.cameras.fovy_rad)
    assert_close(picture.views.framed[0].image, expected.framed[0].image, atol=1e-4, rtol=0)
    wider = recrop(picture, picture.views.framed[0], 1.5, 0.0, 0.0).views
    assert wider.lens == "exif"
    tangents = torch.tan(torch.cat([wider.cameras.fovy_rad, picture.views.cameras.fovy_rad]) / 2)
    assert float(tangents[0] / tangents[1]) == pytest.approx(1.5, rel=0.05)


@pytest.mark.parametrize("name", ["a.splat", "b.spz", "c.glb", "d.usdz"])
def test_other_3d_files_are_called_by_their_name(tmp_path, name):
    (tmp_path / name).write_bytes(b"glTF")
    for size in (64, None):
        with pytest.raises(ViewError, match="files are not opened; give"):
            open_path(tmp_path / name, size)
