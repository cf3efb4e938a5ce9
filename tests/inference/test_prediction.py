import json
from dataclasses import replace
from pathlib import Path

import imageio_ffmpeg
import numpy as np
import pytest
import torch
from PIL import Image
from torch.testing import assert_close

from partrm.files import OutputError, check_writable, staged_folder
from partrm.geometry.cameras import canonical_orbit
from partrm.geometry.gaussians import load_ply
from partrm.geometry.joints import JointType
from partrm.imaging.drawing import DRAG_COLOR
from partrm.imaging.images import save_image
from partrm.inference.decode import apply_joint_motion
from partrm.inference.pipeline import predict
from partrm.inference.prediction import MOTION_FRAMES, PICTURE_PX, default_cameras, render_rgba, save_prediction
from partrm.inference.source import check_drags, load_source
from partrm.model.checkpoints import LoadedModel
from partrm.model.network import TINY, PartRMNetwork


@pytest.fixture(scope="module")
def prediction(tmp_path_factory):
    torch.manual_seed(0)
    path = tmp_path_factory.mktemp("source") / "a.png"
    image = torch.rand(4, 120, 160)
    image[3] = 0
    image[3, 30:90, 50:110] = 1
    save_image(image, path)
    source = load_source(path, TINY.image_size_px)
    model = LoadedModel(PartRMNetwork(TINY).eval(), "tiny", "f" * 16, TINY)
    found = predict(source, check_drags([(80, 60, 60, 60), (81, 61, 61, 61)], source), model)
    return replace(found, moving=torch.arange(len(found.before)) % 2 == 0)


@pytest.fixture(scope="module")
def written(prediction, tmp_path_factory):
    folder = tmp_path_factory.mktemp("results") / "new" / "result"
    save_prediction(prediction, folder, canonical_orbit(3, 40))
    return folder


def test_exactly_the_promised_files_are_written(written):
    names = {"gaussians.ply", "gaussians_before.ply", "views", "before_after.png", "motion.mp4", "part_mask.png"}
    names |= {"mask.png", "input.png"}
    assert {p.name for p in written.iterdir()} == names | {"prediction.json"}
    assert sorted(p.name for p in (written / "views").iterdir()) == ["000.png", "001.png", "002.png"]
    assert [p.name for p in written.parent.iterdir()] == ["result"], "no temporary folder is left"


def test_ply_files_hold_the_two_states(written, prediction):
    for name, expected in (("gaussians.ply", prediction.after), ("gaussians_before.ply", prediction.before)):
        loaded = load_ply(written / name)
        assert_close(loaded.means, expected.means)
        assert_close(loaded.opacities, expected.opacities, atol=1e-4, rtol=0)


def test_views_are_the_after_state_from_the_cameras_asked_for(written, prediction):
    expected = render_rgba(prediction.after, canonical_orbit(3, 40))
    for index in range(3):
        with Image.open(written / "views" / f"{index:03d}.png") as image:
            assert image.mode == "RGBA"
            shown = torch.from_numpy(np.array(image)).permute(2, 0, 1) / 255
        assert_close(shown, expected[index], atol=0.51 / 255, rtol=0)


@pytest.mark.parametrize("far", [0.0, 0.4, 0.8])
def test_the_usual_views_show_a_part_wherever_it_goes(prediction, far):
    slide = replace(prediction.joint, type=JointType.PRISMATIC, axis=torch.tensor([0.0, 0.0, 1.0]), amount=far)
    after = apply_joint_motion(prediction.before, prediction.moving, slide.T_after_before)
    solid = replace(prediction.before, opacities=torch.ones(len(prediction.before)))
    moved = replace(prediction, joint=slide, before=solid, after=replace(after, opacities=solid.opacities))
    cameras = default_cameras(moved)
    pixels, depth = cameras.project(moved.after.means[moved.moving].expand(len(cameras.fovy_rad), -1, -1))
    inside = ((pixels >= 0) & (pixels <= cameras.width)).all(-1) & (depth > 0)
    assert float(inside.float().mean()) > 0.99
    still = default_cameras(replace(moved, moving=torch.zeros_like(moved.moving)))
    assert (cameras.fovy_rad >= still.fovy_rad).all()
    assert far < 0.8 or (cameras.fovy_rad > still.fovy_rad).all()


def test_video_plays_from_before_to_after(written, prediction):
    reader = imageio_ffmpeg.read_frames(written / "motion.mp4")
    assert next(reader)["size"] == (40, 40)
    frames = [np.frombuffer(frame, np.uint8).reshape(40, 40, 3).copy() for frame in reader]
    assert len(frames) == MOTION_FRAMES
    ends = [render_rgba(state, canonical_orbit(1, 40))[0] for state in (prediction.before, prediction.after)]
    for frame, rgba in zip((frames[0], frames[-1]), ends, strict=True):
        white = (rgba[:3] * rgba[3:] + 1 - rgba[3:]).permute(1, 2, 0)
        assert (torch.from_numpy(frame) / 255 - white).abs().mean() < 0.06


def test_prediction_json_says_where_and_what(written, prediction):
    content = json.loads((written / "prediction.json").read_text(), parse_constant=pytest.fail)
    assert content["model"] == {"name": "tiny", "hash": "f" * 16}
    joint = content["joint"]
    assert joint["type"] in ("revolute", "prismatic")
    assert_close(torch.tensor(joint["axis"]).norm(), torch.tensor(1.0))
    assert 0 <= joint["confidence"] <= 1
    assert_close(torch.tensor(joint["T_after_before"]), prediction.joint.T_after_before)
    assert {"network", "joint", "render_and_save"} <= set(content["timings_s"])
    source = content["source"]
    # The camera draws canonical points into the user's image: where the crop shows them, taken back to its pixels.
    points = torch.tensor([[0.1, -0.2, 0.15], [-0.2, 0.1, -0.1]])
    crop = prediction.source.cameras[0]
    expected = prediction.source.framed[0].to_source_px(crop.project(points)[0])
    K, T = (torch.tensor(source["camera"][name]) for name in ("K", "T_canonical_camera"))
    local = (points - T[:3, 3]) @ T[:3, :3]
    assert_close((local / local[:, 2:]) @ K[:2].T, expected, atol=1e-2, rtol=0)
    assert K[1, 0] == K[2, 0] == K[2, 1] == 0
    assert content["drags_px"] == [[80, 60, 60, 60], [81, 61, 61, 61]]
    assert len(content["views"]["cameras"]) == 3
    with Image.open(written / content["part_mask"]) as mask:
        assert mask.size == (160, 120)


def test_before_after_shows_three_panels(written):
    with Image.open(written / "before_after.png") as image:
        assert image.size == (3 * PICTURE_PX, PICTURE_PX)
        first = np.array(image)[:, :PICTURE_PX].reshape(-1, 3)
    assert (first == DRAG_COLOR).all(1).any(), "the drags are drawn on the input"


def test_writing_again_replaces_old_results_and_keeps_other_files(prediction, tmp_path):
    save_prediction(prediction, tmp_path / "r", canonical_orbit(3, 16))
    (tmp_path / "r" / "notes.txt").write_text("mine")
    save_prediction(prediction, tmp_path / "r", canonical_orbit(2, 16))
    assert len(list((tmp_path / "r" / "views").iterdir())) == 2
    assert (tmp_path / "r" / "notes.txt").read_text() == "mine"


def test_a_folder_takes_the_place_of_a_file_and_a_file_that_of_a_folder(tmp_path):
    (tmp_path / "r").mkdir()
    (tmp_path / "r" / "views").write_text("a file")
    (tmp_path / "r" / "a.png").mkdir()

    def write():
        with staged_folder(tmp_path / "r", record="r.json") as folder:
            (folder / "views").mkdir()
            (folder / "a.png").write_bytes(b"picture")
            (folder / "r.json").write_text('{"partrm_version": "1"}')

    with pytest.raises(OutputError, match="views: was not written by partrm"):
        write()
    (tmp_path / "r" / "r.json").write_text('{"partrm_version": "0"}')
    write()
    assert (tmp_path / "r" / "views").is_dir()
    assert (tmp_path / "r" / "a.png").read_bytes() == b"picture"
    assert len(list((tmp_path / "r").iterdir())) == 3


def test_a_folder_that_is_there_is_written_without_leaving_its_disk(tmp_path, monkeypatch):
    """A mounted folder: nothing can be moved into it from outside."""
    (tmp_path / "mounted").mkdir()
    move = Path.replace

    def on_one_disk(self, target):
        assert (tmp_path / "mounted") in self.parents, "EXDEV"
        return move(self, target)

    monkeypatch.setattr(Path, "replace", on_one_disk)
    with staged_folder(tmp_path / "mounted") as folder:
        (folder / "a.txt").write_text("x")
    assert [path.name for path in (tmp_path / "mounted").iterdir()] == ["a.txt"]


def test_a_look_whether_results_can_be_written_leaves_nothing(tmp_path):
    check_writable(tmp_path / "new" / "r")
    check_writable(tmp_path)
    assert list(tmp_path.iterdir()) == []
    (tmp_path / "file").write_text("x")
    with pytest.raises(OutputError, match="file: cannot write there, it is not a folder"):
        check_writable(tmp_path / "file")
    with pytest.raises(OutputError, match="file is not a folder"):
        check_writable(tmp_path / "file" / "below" / "r")


def test_failure_leaves_nothing_behind(tmp_path):
    def fail():
        with staged_folder(tmp_path / "r") as folder:
            (folder / "half.png").write_bytes(b"half")
            raise RuntimeError("stopped")

    with pytest.raises(RuntimeError, match="stopped"):
        fail()
    assert list(tmp_path.iterdir()) == []


def test_places_that_cannot_be_written_are_refused(tmp_path):
    (tmp_path / "file").write_text("x")
    for place in (tmp_path / "file", tmp_path / "file" / "below"):
        with pytest.raises(OutputError, match="cannot write there"), staged_folder(place):
            pass
    assert (tmp_path / "file").read_text() == "x"


def test_trajectory_moves_as_the_part_does(prediction):
    trajectory = prediction.trajectory(5)
    T = prediction.joint.T_after_before.double()
    assert_close(trajectory.T_frame_gripper[-1], T @ trajectory.T_frame_gripper[0], atol=1e-5, rtol=0)
    held = trajectory.T_frame_gripper[0, :3, 3]
    assert float((prediction.before.means[prediction.moving].double() - held).norm(dim=-1).min()) < 1e-6
    seen = prediction.trajectory(5, frame="camera", size_m=0.6)
    assert (seen.frame, seen.unit) == ("camera", "m")
    assert bool((seen.T_frame_gripper[0, 2, 3] > 0).all()), "before the camera"
    measured = prediction.trajectory(5, frame="camera", depth_m=0.8)
    assert float(measured.T_frame_gripper[0, 2, 3]) == pytest.approx(0.8)


def test_an_answer_likelier_wrong_than_right_is_uncertain_and_another_joint_has_no_chance(prediction):
    sure = replace(prediction, joint=replace(prediction.joint, confidence=0.9), alternatives=(prediction.joint,))
    assert [replace(sure, chance_right=chance).uncertain for chance in (None, 0.7, 0.4)] == [False, False, True]
    unsure = replace(sure, joint=replace(sure.joint, confidence=0.5))
    assert replace(unsure, chance_right=0.9).uncertain
    assert replace(sure, chance_right=0.7).with_alternative(0).chance_right is None
