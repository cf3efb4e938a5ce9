"""Photographs with their backgrounds: boxes, masks, GrabCut, sizes, what EXIF tells."""

import numpy as np
import pytest
import torch
from PIL import Image
from support.kitchens import BOX, kitchen
from torch.testing import assert_close

from partrm.imaging import photos
from partrm.imaging.cutout import ImageError, NoObjectError
from partrm.imaging.decoding import FILM_DIAGONAL_MM, decode
from partrm.imaging.grabcut import Stroke, grab_cut, guided_filter, painted
from partrm.imaging.photos import CutoutRequest, open_photo


def iou(alpha, mask):
    found = np.asarray(alpha) > 0.5
    return (found & mask).sum() / (found | mask).sum()


@pytest.mark.parametrize("box", [BOX, (64.0, 44.0, 216.0, 197.0), (72.0, 51.0, 209.0, 188.0)])
def test_grabcut_finds_the_object_in_its_box(box):
    picture, mask = kitchen()
    photo = open_photo(picture, CutoutRequest(box_px=box))
    assert photo.cut_by == "grabcut box"
    assert iou(photo.rgba[3], mask) > 0.95


def test_without_a_box_grabcut_finds_what_differs_from_the_border():
    picture, mask = kitchen()
    photo = open_photo(picture, CutoutRequest(touched_px=((120.0, 100.0),)))
    assert photo.cut_by == "grabcut"
    assert iou(photo.rgba[3], mask) > 0.9


def test_where_a_drag_starts_belongs_to_the_object():
    """The drag starts on a dark handle that is like nothing else of the object."""
    picture, _ = kitchen()
    picture[100:140, 100:104] = 5
    photo = open_photo(picture, CutoutRequest(box_px=BOX, touched_px=((102.0, 120.0),)))
    assert photo.rgba[3, 120, 102] > 0.5


def test_a_plain_background_needs_no_grabcut():
    _, mask = kitchen()
    picture = np.where(mask[..., None], (180, 40, 30), 250).astype(np.uint8)
    for request in (CutoutRequest(), CutoutRequest(box_px=BOX), CutoutRequest("plain")):
        photo = open_photo(picture, request)
        assert photo.cut_by == "plain"
        assert iou(photo.rgba[3], mask) > 0.97
    assert open_photo(picture, CutoutRequest("grabcut", BOX)).cut_by == "grabcut box"


def test_a_box_about_one_of_two_objects_on_plain_ground_means_that_one():
    picture = np.full((200, 300, 3), 250, np.uint8)
    picture[60:140, 40:120] = (180, 40, 30)
    picture[60:140, 180:260] = (30, 60, 180)
    photo = open_photo(picture, CutoutRequest(box_px=(175.0, 55.0, 265.0, 145.0)))
    assert photo.rgba[3, 100, 220] > 0.5
    assert photo.rgba[3, 100, 80] < 0.5


def test_a_mask_tells_the_object(tmp_path):
    picture, mask = kitchen()
    Image.fromarray((mask * 255).astype(np.uint8)).save(tmp_path / "grey.png")
    alpha = np.dstack([picture, (mask * 255).astype(np.uint8)])
    Image.fromarray(alpha).save(tmp_path / "alpha.png")
    for given in (tmp_path / "grey.png", tmp_path / "alpha.png", (mask * 255).astype(np.uint8)):
        photo = open_photo(picture, CutoutRequest(mask=given))
        assert photo.cut_by == "mask"
        assert ((photo.rgba[3] > 0.5) == mask).all()


def test_sam_is_asked_with_the_box_and_the_touched_points():
    picture, mask = kitchen()
    asked = []

    def segment(rgb, box, points):
        asked.append((rgb.shape, box.tolist(), points.tolist()))
        return torch.from_numpy(mask)

    photo = open_photo(picture, CutoutRequest("sam", BOX, touched_px=((100.0, 90.0),), segment=segment))
    assert photo.cut_by == "sam"
    assert asked == [((3, 240, 280), list(BOX), [[100.0, 90.0]])]
    assert ((photo.rgba[3] > 0.5) == mask).all()


NAN = float("nan")


@pytest.mark.parametrize(
    ("request_", "words"),
    [
        (CutoutRequest(box_px=(300.0, 10.0, 400.0, 90.0)), "lies outside of the image of 280x240"),
        (CutoutRequest(box_px=(-90.0, -90.0, -5.0, -5.0)), "lies outside"),
        (CutoutRequest(box_px=(90.0, 60.0, 90.0, 120.0)), "is empty"),
        (CutoutRequest(box_px=(90.0, 60.0, 40.0, 120.0)), "is empty"),
        (CutoutRequest(box_px=(90.0, NAN, 140.0, 120.0)), "four finite numbers"),
        (CutoutRequest(box_px=(90.0, 60.0, 95.0, 120.0)), "shows too little"),
        (CutoutRequest(mask=np.zeros((240, 280), np.uint8)), "shows no object"),
        (CutoutRequest(mask=np.zeros((200, 280), np.uint8)), "280x200 pixels, the image 280x240"),
        (CutoutRequest("plain"), "not plain"),
        (CutoutRequest("sam", BOX), "needs a model"),
    ],
)
def test_boxes_and_masks_that_cannot_be_used_are_refused_in_one_line(request_, words):
    with pytest.raises(ImageError, match=words) as caught:
        open_photo(kitchen()[0], request_)
    assert "\n" not in str(caught.value)


def test_an_image_with_its_own_mask_takes_no_other():
    picture, mask = kitchen()
    rgba = np.dstack([picture, (mask * 255).astype(np.uint8)])
    assert open_photo(rgba, CutoutRequest()).cut_by == "alpha"
    with pytest.raises(ImageError, match="alpha channel already"):
        open_photo(rgba, CutoutRequest(box_px=BOX))


def test_heic_is_named(tmp_path):
    (tmp_path / "a.heic").write_bytes(b"\0\0\0\x18ftypheic\0\0\0\0mif1heic" + b"\0" * 64)
    with pytest.raises(ImageError, match="HEIC"):
        open_photo(tmp_path / "a.heic", CutoutRequest())


@pytest.mark.parametrize("kind", ["jpg", "png", "array", "floats"])
def test_large_photographs_are_worked_on_in_small(kind, tmp_path, monkeypatch):
    monkeypatch.setattr(photos, "WORK_SIDE_PX", 512)
    picture, mask = kitchen()
    factor = 3
    large = np.repeat(np.repeat(picture, factor, 0), factor, 1)
    box = tuple(factor * v for v in BOX)
    image = {"array": large, "floats": large.astype(np.float32) / 255}.get(kind, tmp_path / f"a.{kind}")
    if kind in ("jpg", "png"):
        Image.fromarray(large).save(image, **({"quality": 80} if kind == "jpg" else {"compress_level": 1}))
    photo = open_photo(image, CutoutRequest(box_px=(box[0], box[1], box[2], box[3])))
    assert (photo.width, photo.height) == (840, 720)
    assert max(photo.rgba.shape) == 512
    small = np.asarray(Image.fromarray(mask).resize((photo.rgba.shape[2], photo.rgba.shape[1])))
    assert iou(photo.rgba[3], small) > 0.95


@pytest.mark.parametrize(
    ("tags", "expected"),
    [
        ({0xA405: 26}, 26 / FILM_DIAGONAL_MM * np.hypot(280, 240)),
        ({0xA405: 26, 0xA002: 2800, 0xA003: 2400}, 26 / FILM_DIAGONAL_MM * np.hypot(280, 240)),
        ({0xA405: 26, 0xA002: 2400, 0xA003: 2400}, None),  # cropped since it was taken
        # 5 mm on a sensor of 2800 pixels with 400 a millimetre, made ten times smaller since
        ({0x920A: 5.0, 0xA20E: 10160.0, 0xA210: 2, 0xA002: 2800, 0xA003: 2400}, 5 * 400 / 10),
        ({0x920A: 5.0}, None),
        ({0xA405: 0}, None),
        ({}, None),
    ],
)
def test_exif_tells_the_focal_length(tags, expected, tmp_path):
    exif = Image.Exif()
    exif.get_ifd(0x8769).update(tags)
    Image.fromarray(kitchen()[0]).save(tmp_path / "a.jpg", exif=exif)
    found = decode(tmp_path / "a.jpg").focal_px
    assert found == (None if expected is None else pytest.approx(expected, rel=1e-3))


@pytest.mark.parametrize("film_mm", [1, 65535])
def test_a_lens_that_cannot_be_is_taken_for_unknown(film_mm, tmp_path):
    exif = Image.Exif()
    exif.get_ifd(0x8769)[0xA405] = film_mm
    Image.fromarray(kitchen()[0]).save(tmp_path / "a.jpg", exif=exif)
    assert decode(tmp_path / "a.jpg").fovy_rad is None


def test_the_guided_filter_follows_the_guide():
    rng = np.random.default_rng(0)
    guide = np.repeat((np.arange(60) >= 31).astype(np.float32)[None], 40, 0)
    rough = np.repeat((np.arange(60) >= 29).astype(np.float32)[None], 40, 0)
    found = guided_filter(guide, rough, 6)
    assert found[:, :31].max() < 0.5 < found[:, 31:].min()
    flat = rng.random((40, 60)).astype(np.float32)
    assert_close(guided_filter(flat, flat, 3, 1e-9), flat, atol=1e-3, rtol=0)


def test_the_same_photograph_is_always_cut_alike():
    rgb = kitchen()[0].transpose(2, 0, 1).astype(np.float32) / 255
    touched = np.array([[120.0, 100.0]])
    for box in (None, BOX):
        assert np.array_equal(grab_cut(rgb, box, touched), grab_cut(rgb, box, touched))


def test_strokes_correct_what_grabcut_finds():
    """Half of the cabinet is told not to be the object: the other half alone is found, and comes back when painted."""
    picture, mask = kitchen()
    rgb = picture.transpose(2, 0, 1).astype(np.float32) / 255
    _, top, right, bottom = BOX
    away = Stroke(((180.0, top + 15), (180.0, bottom - 15)), 14.0, False)
    back = Stroke(((180.0, 100.0),), 10.0, True)
    whole, without, again = (grab_cut(rgb, BOX, strokes=strokes)[3] for strokes in ((), (away,), (away, back)))
    assert iou(whole, mask) > 0.95
    assert not without[away.covers(mask.shape)].any()
    assert iou(without[:, : int(right) // 2 + 30], mask[:, : int(right) // 2 + 30]) > 0.9, "the rest stays"
    assert again[100, 180] == 1
    assert again[60, 180] == 0


def test_strokes_are_as_wide_as_their_brush_and_the_last_one_counts():
    alpha = np.zeros((60, 80), np.float32)
    dot = painted(alpha, [Stroke(((40.5, 30.5),), 10.0, True)])
    assert float(dot.sum()) == pytest.approx(np.pi * 100, rel=0.1)
    assert not alpha.any(), "the mask given stays as it is"
    line = painted(dot, [Stroke(((0.0, 30.0), (80.0, 30.0)), 5.0, False)])
    assert not line[26:34].any()
    assert line[22, 40] == 1
    coarse = Stroke(((40.0, 30.0),), 10.0, True).covers((30, 40), left=20, top=10, factor=0.5)
    assert np.argwhere(coarse).mean(0) == pytest.approx((9.5, 9.5), abs=0.6)


def test_a_mask_that_is_all_faint_edge_is_no_object():
    pixels = np.random.default_rng(3).random((17, 16, 3)).astype(np.float32)
    with pytest.raises(NoObjectError, match="no object stands out from the background: give --box"):
        open_photo(pixels, CutoutRequest())
