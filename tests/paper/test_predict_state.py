"""The reference network's state head through ``predict``: what it tells is written, what it cannot tell is null."""

import json

import numpy as np
import pytest
import torch
from PIL import Image

from partrm.cli import main
from partrm.geometry.cameras import canonical_orbit, save_cameras
from partrm.geometry.gaussians import load_ply
from partrm.imaging.images import save_image
from partrm.inference.decode import MIN_OPACITY
from partrm.inference.pipeline import network_input
from partrm.inference.prediction import render_rgba
from partrm.inference.source import check_drags, load_source
from partrm.model.checkpoints import load_model, save_checkpoint
from partrm.model.reference import ReferenceConfig, ReferenceNetwork
from partrm.viewer.sources import open_path

MINI = ReferenceConfig("mini", 32, (32, 32, 64), (False, False, True), (64, 32), (True, False))


@pytest.fixture
def model(tmp_path):
    torch.manual_seed(0)
    save_checkpoint(ReferenceNetwork(MINI).state_dict(), MINI, tmp_path / "model", half=False)
    return tmp_path / "model"


def write_views(folder, count: int):
    folder.mkdir()
    save_cameras(canonical_orbit(4, 64)[:count], folder / "cameras.json")
    for index in range(count):
        image = torch.rand(4, 64, 64, generator=torch.Generator().manual_seed(index))
        image[3] = 0
        image[3, 16:48, 16:48] = 1
        save_image(image, folder / f"{index:03d}.png")
    return folder


def test_next_state_of_four_views_is_written(model, tmp_path, capsys) -> None:
    views, out = write_views(tmp_path / "views", 4), tmp_path / "out"
    assert main(["predict", str(views), "--drag", "20,20,40,30", "--model", str(model), "--out", str(out)]) == 0
    assert "tells no joint" in capsys.readouterr().out
    names = {path.name for path in out.iterdir()}
    assert names == {"gaussians.ply", "views", "before_after.png", "prediction.json"}

    loaded, source = load_model(model), load_source(views, 32, crop=False)
    with torch.inference_mode():
        answer = loaded.network(network_input(source, check_drags([(20, 20, 40, 30)], source)))[0]
    answer = answer[answer.opacities >= MIN_OPACITY]
    written = load_ply(out / "gaussians.ply")
    torch.testing.assert_close(written.means, answer.means)

    content = json.loads((out / "prediction.json").read_text())
    assert content["joint"] is None
    assert content["part_mask"] is None
    assert content["gaussians"] == {"count": len(answer), "moving": None}
    assert content["views"]["fovy_deg"] == pytest.approx(49.1, abs=1e-3)
    own = canonical_orbit(8, 32, fovy_rad=np.radians(49.1))
    with Image.open(out / "views" / "003.png") as image:
        shown = torch.from_numpy(np.array(image)).permute(2, 0, 1) / 255
    torch.testing.assert_close(shown, render_rgba(answer, own[[3]])[0], atol=0.51 / 255, rtol=0)
    with Image.open(out / "before_after.png") as image:
        assert image.size == (64, 32)


def test_fewer_views_are_refused(model, tmp_path, capsys) -> None:
    views, out = write_views(tmp_path / "views", 2), tmp_path / "out"
    assert main(["predict", str(views), "--drag", "20,20,40,30", "--model", str(model), "--out", str(out)]) == 1
    error = capsys.readouterr().err
    assert "needs 4 views of the object, not 2" in error
    assert error.count("\n") == 1
    assert not out.exists()


def test_what_an_earlier_prediction_left_goes_and_the_viewer_shows_the_rest(model, tmp_path) -> None:
    views, out = write_views(tmp_path / "views", 4), tmp_path / "out"
    out.mkdir()
    for name in ("gaussians_before.ply", "motion.mp4", "part_mask.png", "notes.txt"):
        (out / name).write_text("of another model")
    (out / "prediction.json").write_text(json.dumps({"partrm_version": "0.1.0"}))
    assert main(["predict", str(views), "--drag", "20,20,40,30", "--model", str(model), "--out", str(out)]) == 0
    names = {path.name for path in out.iterdir()}
    assert names == {"gaussians.ply", "views", "before_after.png", "prediction.json", "notes.txt"}
    shown = open_path(out, None)
    assert len(shown.before) == len(load_ply(out / "gaussians.ply"))
    assert shown.joint is None
