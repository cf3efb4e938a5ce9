"""Squares that objects fill: turned cameras, the frame of their answers, and the way back to the user's pixels."""

import math

import pytest
import torch
from torch.testing import assert_close

from partrm.articulation.estimate import EstimatedJoint
from partrm.articulation.kinematics import JointType
from partrm.cameras import (
    CANONICAL_DISTANCE,
    FILLED,
    INPUT_FOVY_RAD,
    Cameras,
    canonical_orbit,
    cropped_to,
    filled_frame,
    orbit_poses,
)
from partrm.images import crop_turned, frame_object
from partrm.outputs import describe, upper_triangular
from partrm.pipeline import DragPixels, Prediction, SourceViews, filled_views, moved_joint, single_view
from partrm.transforms import transform_points


@pytest.fixture
def cameras(generator):
    azimuth, elevation = torch.rand(2, 5, generator=generator) * 0.8
    return Cameras(orbit_poses(azimuth, elevation, 3.0), torch.rand(5, generator=generator) * 0.4 + 0.5, 200, 200)


def boxes(generator):
    low = torch.rand(5, 2, generator=generator) * 80 + 10
    return low, low + torch.rand(5, 2, generator=generator) * 90 + 15


def test_crops_stand_where_the_cameras_did_and_hold_the_boxes(cameras, generator):
    low, high = boxes(generator)
    turned = cropped_to(cameras, low, high)
    assert_close(turned.positions, cameras.positions)
    # Points on the boxes' corners, anywhere along their rays, lie within the filled share; the farthest on its rim.
    corners = torch.stack(
        [low, torch.stack([high[:, 0], low[:, 1]], -1), torch.stack([low[:, 0], high[:, 1]], -1), high]
    )
    local = torch.cat([(corners - 100) / cameras.focal_px[:, None], torch.ones(4, 5, 1)], -1)
    points = torch.einsum("vij,nvj->vni", cameras.T_world_camera[:, :3, :3], local * 2.0) + cameras.positions[:, None]
    pixels, depth = turned.project(points)
    reach = (pixels / 100 - 1).abs().amax((1, 2))
    assert_close(reach, torch.full_like(reach, FILLED), atol=1e-4, rtol=0)
    assert bool((depth > 0).all())
    middle, _ = cameras.project(turned.positions[:, None] + turned.T_world_camera[:, None, :3, 2])
    assert_close(middle[:, 0], (low + high) / 2, atol=1e-2, rtol=0)


def test_the_frame_of_crops_shows_the_same_and_has_the_usual_size(cameras, generator):
    views = Cameras(cameras.T_world_camera[None], cameras.fovy_rad[None], 200, 200)
    turned = cropped_to(views, *(corner[None] for corner in boxes(generator)))
    framed, T, scale = filled_frame(turned)
    points = torch.rand(1, 40, 3, generator=generator) - 0.5
    there = transform_points(T, scale[:, None, None] * points)
    for view in range(5):
        seen, _ = turned[:, view].project(points)
        again, _ = framed[:, view].project(there)
        assert_close(again, seen, atol=2e-2, rtol=0)
    first = framed.T_world_camera[0, 0]
    assert_close(first[:3, :3], torch.diag(torch.tensor([1.0, -1.0, -1.0])), atol=1e-5, rtol=0)
    # The image's half side at the origin is that of the assumed camera.
    half = float(first[2, 3] * torch.tan(framed.fovy_rad[0, 0] / 2))
    assert half == pytest.approx(CANONICAL_DISTANCE * math.tan(INPUT_FOVY_RAD / 2), rel=1e-5)
    assert_close(first[:2, 3], torch.zeros(2), atol=1e-5, rtol=0)


def test_an_image_of_unknown_camera_is_in_its_frame_already():
    cameras = canonical_orbit(1, 64, fovy_rad=INPUT_FOVY_RAD)
    framed, T, scale = filled_frame(cameras)
    assert_close(framed.T_world_camera, cameras.T_world_camera)
    assert_close(T, torch.eye(4))
    assert float(scale) == pytest.approx(1.0)


def picture(side: int) -> torch.Tensor:
    """Colours that tell the place, on a box of 0.3 to 0.5 of the sides."""
    image = torch.zeros(4, side, side)
    ramp = (torch.arange(side) + 0.5) / side
    image[0], image[1] = ramp, ramp[:, None]
    image[3, int(0.5 * side) : int(0.8 * side), int(0.55 * side) : int(0.95 * side)] = 1
    return image


@pytest.mark.parametrize(("side", "size_px"), [(400, 64), (100, 128)])
def test_turned_squares_show_the_colours_of_their_places(side, size_px):
    framed, camera = crop_turned(picture(side), canonical_orbit(1, side)[0], size_px)
    pixels = torch.rand(200, 2) * size_px
    x, y = pixels.int().unbind(-1)
    inside = torch.nn.functional.avg_pool2d(framed.image[3:][None], 3, 1, 1)[0, 0] > 0.999
    chosen = inside[y, x]
    assert int(chosen.sum()) > 40
    centres = torch.stack([x, y], -1)[chosen] + 0.5
    expected = framed.to_source_px(centres) / side
    found = framed.image[:2, y[chosen], x[chosen]].T
    assert_close(found, expected, atol=1.5 / side, rtol=0)
    assert_close(framed.to_canonical_px(framed.to_source_px(centres)), centres, atol=1e-3, rtol=0)
    # The same by the cameras: what a pixel of the square shows lies on the ray of that pixel of the image.
    ray = camera.rays()[1][y[chosen].long(), x[chosen].long()]
    seen, _ = canonical_orbit(1, side)[0].project(camera.positions + ray)
    assert_close(seen, framed.to_source_px(centres), atol=2e-2, rtol=0)


def test_an_objects_longer_side_fills_its_share_of_the_square():
    image = picture(400)
    framed = frame_object(image, 128, "filled")
    shown = framed.image[3] > 0.5
    wide, high = (int(shown.any(d).sum()) for d in (0, 1))
    assert wide == pytest.approx(FILLED * 128, abs=1.5)
    assert high == pytest.approx(0.75 * FILLED * 128, abs=1.5)


@pytest.mark.parametrize("framing", ["auto", "canonical"])
def test_predictions_tell_the_camera_of_the_users_image(framing, generator):
    source = single_view(picture(400), 64, framing)
    joint = EstimatedJoint(JointType.PRISMATIC, torch.tensor([1.0, 0.0, 0.0]), torch.zeros(3), 0.1, 1.0)
    nothing = torch.zeros(0, 2)
    prediction = Prediction(
        None, (), torch.zeros(0, dtype=torch.bool), joint, torch.zeros(400, 400), source,
        DragPixels(nothing, nothing), "none", "0", {},
    )  # fmt: skip
    told = describe(prediction, canonical_orbit(1, 8))["source"]["camera"]
    K, T = torch.tensor(told["K"]), torch.tensor(told["T_canonical_camera"])
    points = torch.rand(30, 3, generator=generator) * 0.4 - 0.2
    local = (points - T[:3, 3]) @ T[:3, :3]
    pixels = (local @ K.mT)[:, :2] / local[:, 2:]
    seen, _ = source.cameras[:1].project(points[None])
    assert_close(pixels, source.framed[0].to_source_px(seen[0]), atol=2e-2, rtol=0)
    assert_close(K, K.triu())
    assert_close(K[0, 0], K[1, 1], atol=1e-2, rtol=1e-4)
    if framing == "canonical":  # the whole image had that camera
        assert_close(T, canonical_orbit(1, 8).T_world_camera[0], atol=1e-4, rtol=0)
        assert_close(K, canonical_orbit(1, 400).K[0], atol=2e-2, rtol=0)


def test_squares_of_squares_lead_back_to_the_same_pixels():
    image = picture(300)
    whole = SourceViews(
        (frame_object(image, 150, "canonical"),), canonical_orbit(1, 150), torch.eye(4), 1.0, image[3], lens_known=True
    )
    twice, (once, _) = filled_views(whole, 64).framed[0], crop_turned(image, canonical_orbit(1, 300)[0], 64)
    points = torch.rand(20, 2) * 64
    assert_close(twice.to_source_px(points), once.to_source_px(points), atol=2.0, rtol=0)  # a pixel of the half
    assert twice.scale == pytest.approx(once.scale, rel=0.02)


def test_matrices_split_into_intrinsics_and_rotations(generator):
    K = torch.tensor([[300.0, 0.0, 50.0], [0.0, 310.0, 60.0], [0.0, 0.0, 1.0]], dtype=torch.float64)
    Q = torch.linalg.qr(torch.randn(3, 3, generator=generator, dtype=torch.float64)).Q
    R = Q * torch.linalg.det(Q).sign()
    for factor in (2.0, -3.0):
        found, turn = upper_triangular(factor * K @ R)
        assert_close(found, K)
        assert_close(turn, R)


def test_joints_of_another_frame_move_points_alike(generator):
    T = canonical_orbit(7, 8).T_world_camera[3]
    for kind in (JointType.PRISMATIC, JointType.REVOLUTE):
        axis = torch.nn.functional.normalize(torch.randn(3, generator=generator), dim=0)
        joint = EstimatedJoint(kind, axis, torch.randn(3, generator=generator), 0.4, 1.0)
        points = torch.randn(10, 3, generator=generator)
        there = moved_joint(joint, T, 1.7)
        moved = transform_points(there.T_after_before, 1.7 * transform_points(T, points))
        assert_close(
            moved, 1.7 * transform_points(T, transform_points(joint.T_after_before, points)), atol=1e-5, rtol=0
        )
