import math
from dataclasses import replace

import pytest
import torch
from torch.testing import assert_close

from partrm.geometry.cameras import (
    ABSENT_FOVY_RAD,
    INPUT_FOVY_RAD,
    MASK_BOX_FILL,
    Cameras,
    canonical_orbit,
    save_cameras,
)
from partrm.geometry.drag_numbers import DragError
from partrm.geometry.gaussians import Gaussians
from partrm.geometry.joints import JointType
from partrm.geometry.transforms import matrix_from_quaternion, pose, screw_motion, transform_points
from partrm.imaging.cutout import ImageError
from partrm.imaging.images import save_image
from partrm.inference.decode import MOVING_WIDTH, STILL_WIDTH
from partrm.inference.pipeline import network_input, predict
from partrm.inference.source import check_drags, drags_on, load_source
from partrm.model.checkpoints import LoadedModel
from partrm.model.network import TINY, NetworkOutput, PartRMNetwork

SIZE = TINY.image_size_px
AXIS, PIVOT, ANGLE = torch.tensor([0.0, 1.0, 0.0]), torch.tensor([0.15, 0.0, 0.0]), torch.tensor(0.7)


class OracleNetwork(PartRMNetwork):
    """Answers with a flat object in the plane z = 0 whose right half turns about the vertical line through PIVOT."""

    def forward(self, inputs):
        side = SIZE // 2
        origins, directions = inputs.cameras.resized(side).rays()
        means = (origins[:, :, None, None] - origins[:, :, None, None, 2:] / directions[..., 2:] * directions).flatten(
            1, 3
        )
        n = means.shape[1]
        from_first = torch.arange(n) < side * side
        T = screw_motion(AXIS, PIVOT, ANGLE, torch.tensor(False))
        gaussians = Gaussians(
            means=means.nan_to_num(0.0).clamp(-1, 1),
            quats=torch.tensor([1.0, 0.0, 0.0, 0.0]).expand(1, n, 4),
            scales=torch.full((1, n, 3), 0.01),
            opacities=torch.where(from_first, 0.9, 0.0)[None],
            colors=torch.full((1, n, 3), 0.5),
        )
        displacement = transform_points(T[None], gaussians.means) - gaussians.means
        logit = torch.where((gaussians.means[..., 0] > 0) & from_first, 8.0, -8.0)
        zeros = torch.zeros(1, n)
        return NetworkOutput(gaussians, logit, displacement, zeros, zeros, inputs.view_valid)


@pytest.fixture(scope="module")
def tiny():
    torch.manual_seed(0)
    return LoadedModel(PartRMNetwork(TINY).eval(), "tiny", "0" * 16, TINY)


@pytest.fixture(scope="module")
def oracle():
    return LoadedModel(OracleNetwork(TINY).eval(), "oracle", "0" * 16, TINY)


def write_square(path, width=200, height=150, box=(60, 40, 120, 100)):
    """An RGBA image with an opaque box (left, top, right, bottom) whose colour tells the place."""
    image = torch.zeros(4, height, width)
    left, top, right, bottom = box
    image[0] = torch.linspace(0, 1, width)
    image[1] = torch.linspace(0, 1, height)[:, None]
    image[3, top:bottom, left:right] = 1
    save_image(image, path)
    return path


@pytest.fixture
def source(tmp_path):
    return load_source(write_square(tmp_path / "a.png"), SIZE)


def test_prediction_reads_the_joint_off_the_networks_answer(source, oracle):
    # The drag starts beside what moves, so it has no say.
    prediction = predict(source, check_drags([(65, 70, 55, 70)], source), oracle, ensemble=False)
    joint = prediction.joint
    assert joint.type == JointType.REVOLUTE
    assert joint.confidence > 0.999
    sign = float(torch.sign(joint.axis @ AXIS))
    assert_close(sign * joint.axis, AXIS, atol=1e-4, rtol=0)
    assert joint.amount * sign == pytest.approx(float(ANGLE), abs=1e-3)
    assert_close(joint.pivot[[0, 2]], PIVOT[[0, 2]], atol=1e-3, rtol=0)
    T = screw_motion(AXIS, PIVOT, ANGLE, torch.tensor(False))
    moving = prediction.before.means[:, 0] > 0
    assert prediction.moving.tolist() == moving.tolist()
    expected = torch.where(moving[:, None], transform_points(T, prediction.before.means), prediction.before.means)
    assert_close(prediction.after.means, expected, atol=1e-3, rtol=0)
    assert len(prediction.before) == (SIZE // 2) ** 2, "invisible Gaussians are dropped"
    width = 0.01 * torch.where(moving, MOVING_WIDTH, STILL_WIDTH)[:, None].expand(-1, 3)
    assert_close(prediction.before.scales, width)
    assert_close(prediction.after.scales, width)


def test_part_mask_is_in_the_users_pixels(source, oracle):
    """The oracle moves what lies right of the object's centre: the right half of the box in the user's image."""
    prediction = predict(source, check_drags([(100, 70, 80, 70)], source), oracle, ensemble=False)
    expected = torch.zeros(150, 200)
    expected[40:100, 90:120] = 1
    assert prediction.part_mask.shape == expected.shape
    wrong = (prediction.part_mask != expected).sum()
    assert wrong <= 60 * 3, "at most a column or so at the boundary"


def test_motion_runs_from_before_to_after(source, tiny):
    prediction = predict(source, check_drags([(100, 70, 80, 70)], source), tiny)
    assert_close(prediction.at(0.0).means, prediction.before.means, atol=1e-6, rtol=0)
    assert_close(prediction.at(1.0).means, prediction.after.means)
    still = ~prediction.moving
    assert_close(prediction.after.means[still], prediction.before.means[still], rtol=0, atol=0)
    for values in (prediction.after.means, prediction.after.quats, prediction.joint.axis, prediction.joint.pivot):
        assert torch.isfinite(values).all()


def test_network_gets_drags_and_views_where_they_belong(source):
    drags = check_drags([(90, 70, 120, 70), (61, 41, 61, 99)], source)
    inputs = network_input(source, drags)
    assert inputs.view_valid.tolist() == [[True, False, False, False]]
    assert inputs.images.shape == (1, 4, 4, SIZE, SIZE)
    assert (inputs.images[0, 1:] == 0).all()
    assert_close(inputs.cameras[0].T_world_camera, canonical_orbit(4, SIZE).T_world_camera)
    fovy = [INPUT_FOVY_RAD] + [ABSENT_FOVY_RAD] * 3
    assert_close(inputs.cameras[0].fovy_rad, torch.tensor(fovy))
    # The box's centre is the crop's centre (crops start at whole pixels), its longer side 0.9 of the crop's.
    side = 60 / MASK_BOX_FILL
    assert_close(inputs.drags.start[0, 0], torch.tensor([0.5, 0.5]), atol=0.5 / side, rtol=0)
    moved = inputs.drags.end[0, 0] - inputs.drags.start[0, 0]
    assert_close(moved, torch.tensor([30 / side, 0.0]), atol=0.5 / side, rtol=0)
    # The colour under the drag's start is the one that the user sees there.
    x, y = (inputs.drags.start[0, 0] * SIZE).int().tolist()
    assert_close(inputs.images[0, 0, :2, y, x], torch.tensor([90 / 199, 70 / 149]), atol=0.02, rtol=0)


def test_posed_folder_in_any_world_frame_equals_the_single_canonical_image(tmp_path, generator):
    write_square(tmp_path / "one.png", 128, 128, (40, 40, 90, 90))
    folder = tmp_path / "posed"
    folder.mkdir()
    write_square(folder / "000.png", 128, 128, (40, 40, 90, 90))
    camera = canonical_orbit(1, 128)
    T = camera.T_world_camera.clone()
    T[:, :3, 3] *= 0.3
    R = matrix_from_quaternion(torch.nn.functional.normalize(torch.randn(4, generator=generator), dim=-1))
    save_cameras(Cameras(pose(R, torch.zeros(3)) @ T, camera.fovy_rad, 128, 128), folder / "cameras.json")
    one, posed = load_source(tmp_path / "one.png", SIZE, "canonical"), load_source(folder, SIZE)
    assert_close(posed.framed[0].image, one.framed[0].image, atol=1e-4, rtol=0)
    assert_close(posed.cameras.T_world_camera, one.cameras.T_world_camera, atol=1e-5, rtol=0)
    assert posed.world_scale == pytest.approx(1 / 0.3, rel=1e-4)
    drags = [(50, 50, 70, 60)]
    for a, b in zip(*(network_input(s, check_drags(drags, s)).drags.start for s in (one, posed)), strict=True):
        assert_close(a, b)


def test_several_posed_views_keep_their_cameras(tmp_path, tiny):
    orbit = canonical_orbit(8, 96)
    chosen = orbit[[0, 1, 3]]
    save_cameras(chosen, tmp_path / "cameras.json")
    for index in range(3):
        write_square(tmp_path / f"{index:03d}.png", 96, 96, (30, 30, 60 + index, 60))
    source = load_source(tmp_path, SIZE)
    inputs = network_input(source, check_drags([(40, 40, 50, 40)], source))
    assert inputs.view_valid.tolist() == [[True, True, True, False]]
    # Each looks from where it stood at the middle of its own mask, with a lens that the object fills.
    assert source.network_frame is not None
    own = source.network_frame[None].cameras_to_object(inputs.cameras[:, :3])
    assert_close(own.positions[0], chosen.positions, atol=1e-5, rtol=0)
    middles = torch.tensor([[45.0 + index / 2, 45.0] for index in range(3)])
    rays = torch.cat([(middles - 48) / chosen.focal_px[:, None], torch.ones(3, 1)], 1)
    points = (chosen.T_world_camera[:, :3, :3] @ rays[..., None]).squeeze(-1) + chosen.positions
    assert_close(own.project(points[None, :, None])[0][0, :, 0], torch.full((3, 2), SIZE / 2), atol=1e-2, rtol=0)
    assert (inputs.cameras.fovy_rad[0, :3] < chosen.fovy_rad / 2).all()
    assert torch.isfinite(predict(source, check_drags([(40, 40, 50, 40)], source), tiny).after.means).all()


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ("no images", ": 0 images, needs 1 to 4"),
        ("too few cameras", "do not go with 1 cameras"),
        ("other size", "its camera says 96x96"),
        ("not square", "must be square"),
    ],
)
def test_folders_that_do_not_fit_are_refused(change, words, tmp_path):
    cameras = canonical_orbit(1 if change == "too few cameras" else 2, 96)
    save_cameras(replace(cameras, height=64) if change == "not square" else cameras, tmp_path / "cameras.json")
    for index in range(0 if change == "no images" else 2):
        size = 80 if change == "other size" else 96
        write_square(tmp_path / f"{index:03d}.png", size, size, (30, 30, 60, 60))
    with pytest.raises(ImageError, match=words):
        load_source(tmp_path, SIZE)


GOOD = (100.0, 70.0, 80.0, 70.0)


@pytest.mark.parametrize(
    ("drags", "words"),
    [
        ([], "0 drags given"),
        ([GOOD] * 11, "11 drags given"),
        ([GOOD[:3]], "has 3 values"),
        ([(math.nan, 70, 80, 70)], "finite"),
        ([(100, 70, math.inf, 70)], "finite"),
        ([(100, 70, 100, 70)], "same point"),
        ([GOOD, (250, 70, 80, 70)], r"drag 2: its start \(250, 70\) lies outside of the image of 200x150"),
        ([(100, 170, 80, 70)], "outside"),
        ([(10, 10, 80, 70)], "on the background"),
    ],
)
def test_unusable_drags_are_refused(drags, words, source):
    with pytest.raises(DragError, match=words):
        check_drags(drags, source)


@pytest.mark.parametrize(
    ("drag", "words"),
    [
        ((100, 100, 800, 700), r"its start \(100, 100\) lies on the background"),
        ((2500, 700, 800, 700), r"its start \(2500, 700\) lies outside of the image of 2000x1500 pixels"),
    ],
)
def test_drags_on_a_reduced_copy_are_told_in_the_users_pixels(drag, words):
    alpha = torch.zeros(150, 200)
    alpha[40:110, 60:140] = 1
    with pytest.raises(DragError, match=words):
        drags_on([drag], alpha, 2000, 1500)


def test_a_drag_may_start_beside_the_object_and_end_outside_of_the_picture(source):
    drags = check_drags([(58, 70.5, -20, 70), (100, 70, 80, 300)], source)
    assert drags.start.tolist() == [[60.5, 70.5], [100.0, 70.0]], "two pixels off: the nearest pixel of the object"
    assert drags.end.tolist() == [[-20.0, 70.0], [80.0, 300.0]]
    with pytest.raises(DragError, match="on the background"):
        check_drags([(54, 70, 80, 70)], source)
