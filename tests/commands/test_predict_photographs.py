"""``partrm predict`` of photographs: what it writes of the object, the lens and the drags, and what it refuses."""

import json
import math
import sys

import numpy as np
import pytest
import torch
from PIL import Image

from partrm.api import PartRM
from partrm.cli import main
from partrm.imaging.photos import CutoutRequest, open_photo
from partrm.model.checkpoints import save_checkpoint
from partrm.model.network import TINY, PartRMNetwork

BOX = "60,40,180,160"
DRAG = "120,100,90,105"


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A tiny model with random weights, a photograph of a red box on patterned ground, and its mask."""
    torch.manual_seed(0)
    root = tmp_path_factory.mktemp("photographs")
    save_checkpoint(PartRMNetwork(TINY).state_dict(), TINY, root / "tiny")
    rng = np.random.default_rng(0)
    picture = np.repeat(np.repeat(rng.integers(30, 150, (20, 24, 3)), 10, 0), 10, 1).astype(np.uint8)
    picture[..., 0] //= 3
    picture[40:160, 60:180] = (200, 60, 40)
    mask = np.zeros((200, 240), np.uint8)
    mask[40:160, 60:180] = 255
    Image.fromarray(picture).save(root / "photo.png")
    Image.fromarray(mask).save(root / "mask.png")
    Image.fromarray(mask[:100]).save(root / "other_size.png")
    return root


def predict(folder, out, *arguments, source="photo.png", drag=DRAG):
    model = str(folder / "tiny")
    given = ["predict", str(folder / source), "--model", model, "--device", "cpu", "--detail", "64", "--drag", drag]
    return main([*given, "--out", str(out), *arguments])


def test_a_photograph_opened_before_is_the_one_of_the_file(folder):
    model = PartRM.from_pretrained(folder / "tiny", "cpu")
    request = CutoutRequest(box_px=(60.0, 40.0, 180.0, 160.0))
    path = folder / "photo.png"
    one, two = (model.open(source, cutout=request) for source in (path, open_photo(path, request)))
    assert torch.equal(one.first_image, two.first_image)
    assert torch.equal(one.framed[0].image, two.framed[0].image)
    assert (one.cut_by, two.cut_by) == ("grabcut box", "grabcut box")


def test_a_box_is_cut_out_and_said(folder, tmp_path, capsys):
    assert predict(folder, tmp_path / "out", "--box", BOX) == 0
    assert "GrabCut in the box" in capsys.readouterr().out
    content = json.loads((tmp_path / "out" / "prediction.json").read_text())
    assert content["source"]["cut_by"] == "grabcut box"
    assert content["source"]["lens"] == "unknown"
    assert len(content["alternatives"]) <= 2
    assert content["uncertain"] == (content["joint"]["confidence"] < 0.6 or content["chance_right"] < 0.5)
    with Image.open(tmp_path / "out" / "mask.png") as mask, Image.open(folder / "mask.png") as true:
        found, expected = np.asarray(mask) > 127, np.asarray(true) > 127
    assert (found & expected).sum() / (found | expected).sum() > 0.97
    with Image.open(tmp_path / "out" / "part_mask.png") as part:
        assert part.size == (240, 200)
        assert not (np.asarray(part) > 127)[~found].any()


def test_a_mask_and_a_lens_are_taken(folder, tmp_path):
    """The camera that is told of the photograph is the one that was given, whichever crop the network saw."""
    arguments = ["--mask", str(folder / "mask.png"), "--fovy-deg", "50", "--no-ensemble"]
    assert predict(folder, tmp_path / "out", *arguments) == 0
    source = json.loads((tmp_path / "out" / "prediction.json").read_text())["source"]
    assert (source["cut_by"], source["lens"]) == ("mask", "given")
    focal = 100 / math.tan(math.radians(25))
    assert np.allclose(source["camera"]["K"], [[focal, 0, 120], [0, focal, 100], [0, 0, 1]], atol=0.05)


def test_exif_tells_the_lens(folder, tmp_path):
    exif = Image.Exif()
    exif.get_ifd(0x8769)[0xA405] = 28
    with Image.open(folder / "photo.png") as photo:
        photo.save(folder / "phone.jpg", exif=exif, quality=95)
    assert predict(folder, tmp_path / "out", "--box", BOX, "--no-ensemble", source="phone.jpg") == 0
    source = json.loads((tmp_path / "out" / "prediction.json").read_text())["source"]
    assert source["lens"] == "exif"
    assert source["camera"]["K"][0][0] == pytest.approx(28 / math.hypot(36, 24) * math.hypot(240, 200), rel=1e-3)


def test_drags_beside_the_object_and_beyond_the_image_are_said(folder, tmp_path):
    arguments = ["--mask", str(folder / "mask.png"), "--no-ensemble", "--drag", "100,90,-40,100"]
    assert predict(folder, tmp_path / "out", *arguments, drag="182,100,150,100") == 0
    content = json.loads((tmp_path / "out" / "prediction.json").read_text())
    assert content["drags_snapped"] == [True, False]
    assert content["drags_end_outside"] == [False, True]
    assert content["drags_px"][0][:2] in ([179.5, 99.5], [179.5, 100.5])


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (["--box", "300,20,400,90"], 1, "outside of the image of 240x200"),
        (["--box", "60,40,60,160"], 2, "is empty"),
        (["--box", "60,40,nan,160"], 2, "finite"),
        (["--box", "60,40,120"], 2, "four finite numbers"),
        (["--box", "a,b,c,d"], 2, "not numbers"),
        (["--mask", "other_size.png"], 1, "240x100 pixels, the image 240x200"),
        (["--mask", "missing.png"], 1, "no such image file"),
        (["--mask", "mask.png", "--box", BOX], 2, "no --box"),
        (["--fovy-deg", "0"], 2, "3 to 140"),
        (["--fovy-deg", "nan"], 2, "3 to 140"),
        (["--fovy-deg", "50", "--framing", "canonical"], 2, "its own lens"),
        (["--detail", "5000"], 2, "64 to 1024"),
        (["--cutout", "plain"], 1, "--box"),
    ],
)
def test_what_cannot_be_used_is_refused_in_one_line(arguments, code, words, folder, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(folder)
    assert predict(folder, tmp_path / "out", *arguments) == code
    error = capsys.readouterr().err
    assert words in error
    assert error.count("\n") == 1
    assert not (tmp_path / "out").exists()


def test_a_folder_of_posed_views_takes_no_box(folder, tmp_path, capsys):
    assert predict(folder, tmp_path / "out", "--box", BOX, source="tiny") == 2
    assert "folder of posed views" in capsys.readouterr().err


def test_a_missing_ffmpeg_is_told_before_the_network_runs(folder, tmp_path, capsys, monkeypatch):
    monkeypatch.setitem(sys.modules, "imageio_ffmpeg", None)
    monkeypatch.setattr(PartRM, "predict", lambda *_, **__: pytest.fail("the network ran"))
    assert predict(folder, tmp_path / "out", "--box", BOX) == 1
    said = capsys.readouterr().err.splitlines()
    assert len(said) == 1
    assert "pip install imageio-ffmpeg" in said[0]
    assert not (tmp_path / "out").exists()
