"""The public API: the same answers as the command's, from any kind of image; its names; its errors."""

import importlib
import io
import json
import os
import re
import subprocess
import sys
from dataclasses import replace
from importlib import resources
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import partrm
from partrm import Gaussians, PartRM, PartRMError, load_ply
from partrm.cli import main
from partrm.datasets.check import load_manifest
from partrm.evaluation.eval_set import load_eval_set
from partrm.evaluation.folder_sets import open_folder
from partrm.geometry.cameras import canonical_orbit, save_cameras
from partrm.geometry.drag_numbers import DragError
from partrm.imaging.cutout import ImageError
from partrm.imaging.decoding import decode
from partrm.imaging.images import as_rgba, load_image, save_image
from partrm.inference.batch import Job
from partrm.inference.source import check_drags
from partrm.model.checkpoints import CheckpointError, save_checkpoint
from partrm.model.reference import ReferenceConfig, ReferenceNetwork
from partrm.objects.mjcf import load_mjcf
from partrm.objects.partnet import load_partnet
from partrm.objects.urdf import load_urdf
from partrm.synthesis.mesh_pool import load_pool

ROOT = Path(__file__).parents[1]
MICROWAVE = Path(str(resources.files("partrm"))) / "example_images" / "microwave.png"
DRAG = (164, 170, 112, 203)
SMALL_DRAG = (60, 60, 40, 60)


@pytest.fixture(scope="module")
def picture(tmp_path_factory):
    """An RGBA file whose pixels have exact values in 8 bits."""
    pixels = np.random.default_rng(0).integers(0, 256, (128, 128, 4), dtype=np.uint8)
    pixels[..., 3] = 0
    pixels[30:90, 30:90, 3] = 255
    path = tmp_path_factory.mktemp("picture") / "a.png"
    Image.fromarray(pixels).save(path)
    return path


def same(a: Gaussians, b: Gaussians) -> bool:
    return all(torch.equal(getattr(a, n), getattr(b, n)) for n in ("means", "quats", "scales", "opacities", "colors"))


@pytest.mark.whole_run
def test_api_and_command_agree_to_the_bit(tmp_path):
    """With the shipped weights: every file but the video, whose encoder writes no times either, is the same."""
    model = PartRM.from_pretrained("base", "cpu")
    model.predict(MICROWAVE, [DRAG], framing="canonical").save(tmp_path / "api")
    drag = ",".join(str(value) for value in DRAG)
    arguments = ["predict", str(MICROWAVE), "--drag", drag, "--framing", "canonical", "--device", "cpu"]
    assert main([*arguments, "--out", str(tmp_path / "cli")]) == 0
    files = sorted(p.relative_to(tmp_path / "cli") for p in (tmp_path / "cli").rglob("*") if p.is_file())
    assert len(files) == 16
    assert files == sorted(p.relative_to(tmp_path / "api") for p in (tmp_path / "api").rglob("*") if p.is_file())
    for file in files:
        ours, theirs = (tmp_path / which / file for which in ("api", "cli"))
        if file.name == "prediction.json":
            contents = [json.loads(path.read_text()) | {"timings_s": None} for path in (ours, theirs)]
            assert contents[0] == contents[1]
        else:
            assert ours.read_bytes() == theirs.read_bytes(), file


@pytest.mark.whole_run
def test_all_kinds_of_images_give_the_same_answer(tiny, picture):
    expected = tiny.predict(str(picture), [SMALL_DRAG])
    pixels = np.array(Image.open(picture, formats=["PNG"]))
    floats = pixels.astype(np.float32) / 255
    chw = torch.from_numpy(floats).permute(2, 0, 1)
    opened = tiny.open(picture)
    kinds = [picture, Image.fromarray(pixels), pixels, floats, chw, (chw * 255).round().byte(), [picture], opened]
    for kind in kinds:
        assert same(tiny.predict(kind, [SMALL_DRAG]).after, expected.after), type(kind)
    for drags in (np.array([SMALL_DRAG]), torch.tensor([SMALL_DRAG]), [list(SMALL_DRAG)]):
        assert same(tiny.predict(picture, drags).after, expected.after)


def test_an_opaque_array_is_cut_out_as_a_file_is(tmp_path):
    photo = np.full((150, 200, 3), 240, dtype=np.uint8)
    photo[40:100, 60:120] = np.random.default_rng(0).integers(0, 150, (60, 60, 3))
    Image.fromarray(photo).save(tmp_path / "photo.png")
    assert torch.equal(as_rgba(photo), load_image(tmp_path / "photo.png"))


def test_posed_views_from_memory_and_from_a_folder_agree(tiny, tmp_path):
    cameras = canonical_orbit(3, 96)
    images = torch.rand(3, 4, 96, 96)
    images[:, 3] = 0
    images[:, 3, 20:70, 20:70] = 1
    save_cameras(cameras, tmp_path / "cameras.json")
    for index, image in enumerate(images):
        save_image(image, tmp_path / f"{index:03d}.png")
    files = sorted(tmp_path.glob("*.png"))
    arrays = [np.array(Image.open(file, formats=["PNG"])) for file in files]
    expected = tiny.predict(tmp_path, [(40, 40, 60, 40)])
    assert len(expected.source.framed) == 3
    for views in (files, arrays):
        assert same(tiny.predict(views, [(40, 40, 60, 40)], cameras=cameras).after, expected.after)


def test_a_prediction_says_and_shows_what_it_holds(tiny, picture, tmp_path):
    prediction = tiny.predict(picture, [SMALL_DRAG])
    assert prediction.confidence == prediction.joint.confidence
    assert prediction.part_mask.shape == (128, 128)
    assert same(prediction.at(1.0), prediction.after)
    torch.testing.assert_close(prediction.at(0.0).means, prediction.before.means)
    cameras = canonical_orbit(2, 48)
    assert prediction.render(cameras).shape == (2, 4, 48, 48)
    torch.testing.assert_close(prediction.render(cameras), prediction.render(cameras, t=1.0))
    prediction.save(tmp_path / "out", cameras)
    written = np.array(Image.open(tmp_path / "out" / "views" / "001.png", formats=["PNG"]))
    rendered = (prediction.render(cameras)[1] * 255).round().byte().permute(1, 2, 0)
    assert np.array_equal(written, rendered.numpy())
    stored = load_ply(tmp_path / "out" / "gaussians.ply")
    torch.testing.assert_close(stored.means, prediction.after.means)


def test_weights_come_back_from_where_they_were_saved(tiny, picture, tmp_path):
    tiny.save_pretrained(tmp_path / "copy")
    again = PartRM.from_pretrained(tmp_path / "copy", "cpu")
    assert same(again.predict(picture, [SMALL_DRAG]).after, tiny.predict(picture, [SMALL_DRAG]).after)


def test_a_reference_network_gives_the_state_alone(tmp_path, picture):
    config = ReferenceConfig("mini", 32, (32, 32, 64), (False, False, True), (64, 32), (True, False))
    torch.manual_seed(0)
    save_checkpoint(ReferenceNetwork(config).state_dict(), config, tmp_path / "mini", half=False)
    model = PartRM.from_pretrained(tmp_path / "mini", "cpu")
    assert model.gives_state_alone
    with pytest.raises(CheckpointError, match="without the moving part"):
        model.predict(picture, [SMALL_DRAG])
    cameras = canonical_orbit(4, 128)
    views = model.open([picture] * 4, cameras=cameras)
    state = model.predict_state(views, check_drags([SMALL_DRAG], views))
    state.save(tmp_path / "out")
    assert json.loads((tmp_path / "out" / "prediction.json").read_text())["joint"] is None


def bad_images():
    good = np.zeros((64, 64, 4), dtype=np.uint8)
    good[20:40, 20:40] = 255
    return {
        "shape": (good[..., 0], "needs [h, w, 3 or 4]"),
        "tensor shape": (torch.zeros(64, 64, 4), "needs [3 or 4, h, w]"),
        "type": (good.astype(np.int32), "type int32"),
        "range": (good.astype(np.float32), "lie in [0, 1]"),
        "not finite": (good.astype(np.float32) * np.nan, "lie in [0, 1]"),
        "small": (good[:8, :8], "8x8 pixels are too few"),
        "transparent": (np.zeros((64, 64, 4), dtype=np.uint8), "fully transparent"),
        "animated": (animated(), "animated"),
        "two without cameras": ([good, good], "2 images given without cameras"),
        "five": ([good] * 5, "needs 1 to 4"),
        "none": ([], "0 images"),
    }


def animated():
    frames, file = [Image.new("RGB", (64, 64), (80 * i, 0, 0)) for i in range(3)], io.BytesIO()
    frames[0].save(file, format="GIF", save_all=True, append_images=frames[1:])
    return Image.open(file, formats=["GIF"])


@pytest.mark.parametrize("name", bad_images())
def test_images_that_cannot_be_used_are_named(name, tiny):
    image, words = bad_images()[name]
    cameras = canonical_orbit(5, 64) if name == "five" else None
    with pytest.raises(ImageError, match=re.escape(words)) as caught:
        tiny.predict(image, [SMALL_DRAG], cameras=cameras)
    assert isinstance(caught.value, PartRMError)
    assert "\n" not in str(caught.value)


def test_cameras_must_fit(tiny, picture, tmp_path):
    cameras = canonical_orbit(2, 128)
    for given, words in ((cameras, "do not go with 2 cameras"), (cameras[0], "one unbatched")):
        with pytest.raises(ImageError, match=words):
            tiny.predict([picture], [SMALL_DRAG], cameras=given)
    with pytest.raises(ImageError, match="128x128 pixels, but its camera says 64x64"):
        tiny.predict([picture], [SMALL_DRAG], cameras=replace(cameras[:1], width=64, height=64))
    with pytest.raises(ImageError, match="give no others"):
        tiny.predict(tmp_path, [SMALL_DRAG], cameras=cameras)


@pytest.mark.parametrize(
    ("drags", "words"), [(np.array(SMALL_DRAG), "rows of 4 values"), ([], "0 drags"), (np.zeros((1, 3)), "3 values")]
)
def test_drags_that_cannot_be_used_are_named(drags, words, tiny, picture):
    with pytest.raises(DragError, match=words):
        tiny.predict(picture, drags)


def test_public_names_are_all_there():
    for name in partrm.__all__:
        assert getattr(partrm, name) is not None
        assert name in dir(partrm)
    with pytest.raises(AttributeError, match="no attribute 'nonsense'"):
        _ = partrm.nonsense  # pyright: ignore[reportAttributeAccessIssue]


def test_the_package_is_light_until_it_is_used():
    code = "import sys, partrm; partrm.PartRMError; print('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"


def test_a_batch_answers_as_predict_does(tiny, picture):
    jobs = [
        Job(picture, [SMALL_DRAG], "one"),
        Job(picture, [(10, 500, 20, 20)], "off the picture"),
        Job(picture, [SMALL_DRAG, (50, 50, 60, 40)], "two drags"),
        Job(picture.with_name("none.png"), [SMALL_DRAG], "no file"),
        Job(picture, [SMALL_DRAG], "plain", ensemble=False, detail_px=0),
    ]
    taken = []
    results = dict((job.name, result) for job, result in tiny.predict_batch(_noting(jobs, taken), batch=3, threads=2))
    assert list(results) == [job.name for job in jobs] == taken
    assert isinstance(results["off the picture"], DragError)
    assert isinstance(results["no file"], ImageError)
    for job in (jobs[0], jobs[2], jobs[4]):
        options = {"ensemble": job.ensemble, "detail_px": job.detail_px}
        alone, found = tiny.predict(job.image, job.drags, **options), results[job.name]
        assert torch.equal(found.moving, alone.moving)
        assert found.joint.type == alone.joint.type
        torch.testing.assert_close(found.after.means, alone.after.means, atol=1e-4, rtol=0)
        torch.testing.assert_close(found.joint.T_after_before, alone.joint.T_after_before, atol=1e-4, rtol=0)


def test_a_batch_takes_jobs_as_they_are_needed(tiny, picture):
    taken = []
    endless = (Job(picture, [SMALL_DRAG], str(n), ensemble=False, detail_px=0) for n in range(10**9))
    results = tiny.predict_batch(_noting(endless, taken), batch=2, threads=2)
    for _ in range(6):
        next(results)
    results.close()
    assert len(taken) <= 6 + 4 * 2


def _noting(jobs, taken):
    for job in jobs:
        taken.append(job.name)
        yield job


def test_what_lies_in_a_folder_that_may_not_be_searched_is_refused_by_our_errors(tmp_path):
    if os.geteuid():
        pytest.skip("only root can become somebody else")
    importlib.import_module("mujoco")  # which starts a process when it is imported first
    hidden = tmp_path / "hidden"
    hidden.mkdir(mode=0o700)
    tmp_path.chmod(0o755)
    loaders = (decode, load_urdf, load_mjcf, load_partnet, load_pool, load_eval_set, open_folder, load_manifest)
    os.seteuid(65534)
    try:
        for load in loaders:
            with pytest.raises(PartRMError, match="hidden"):
                load(hidden / "inside")
    finally:
        os.seteuid(0)
