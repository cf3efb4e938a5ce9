import json
import math

import pytest
import torch
from torch.testing import assert_close

from partrm.geometry.cameras import (
    CANONICAL_DISTANCE,
    CANONICAL_FOVY_RAD,
    CameraFileError,
    Cameras,
    canonical_orbit,
    canonical_pose,
    canonicalise,
    load_cameras,
    look_at,
    orbit_poses,
    save_cameras,
)
from partrm.geometry.transforms import matrix_from_quaternion, pose


def some_cameras(n, generator, width=48, height=32):
    azimuth, elevation = torch.rand(2, n, generator=generator) * 2 - 1
    return Cameras(orbit_poses(3 * azimuth, elevation), torch.linspace(0.4, 1.0, n), width, height)


def test_canonical_field_of_view_is_that_of_blenders_lens():
    assert abs(math.degrees(CANONICAL_FOVY_RAD) - 39.6) < 0.01


def test_points_along_rays_project_to_their_pixel_centres(generator):
    cameras = some_cameras(3, generator)
    origins, directions = cameras.rays()
    points = (origins[:, None, None] + 1.7 * directions).flatten(1, 2)
    pixels, depth = cameras.project(points)
    y, x = torch.meshgrid(torch.arange(32) + 0.5, torch.arange(48) + 0.5, indexing="ij")
    expected = torch.stack([x, y], -1).reshape(1, -1, 2).expand(3, -1, -1)
    assert_close(pixels, expected, atol=1e-3, rtol=0)
    assert (depth > 0).all()
    assert_close(directions.norm(dim=-1), torch.ones(3, 32, 48))


def test_projection_equals_the_intrinsic_matrix(generator):
    cameras = some_cameras(3, generator)
    points = torch.randn(3, 20, 3, generator=generator) * 0.3
    local = points @ cameras.T_camera_world[:, :3, :3].mT + cameras.T_camera_world[:, None, :3, 3]
    homogeneous = local @ cameras.K.mT
    pixels, depth = cameras.project(points)
    assert_close(pixels, homogeneous[..., :2] / homogeneous[..., 2:])
    assert_close(depth, homogeneous[..., 2])


def test_top_edge_is_half_the_field_of_view_up():
    camera = canonical_orbit(1, 256)
    height = CANONICAL_DISTANCE * math.tan(CANONICAL_FOVY_RAD / 2)
    pixels, _ = camera.project(torch.tensor([[[0.0, height, 0.0], [height, 0.0, 0.0], [0.0, 0.0, 0.5]]]))
    assert_close(pixels[0], torch.tensor([[128.0, 0.0], [256.0, 128.0], [128.0, 128.0]]), atol=1e-3, rtol=0)


def test_plucker_rays_do_not_depend_on_the_point_of_the_ray(generator):
    cameras = some_cameras(2, generator)
    moment, direction = cameras.plucker().split(3, dim=1)
    assert_close((moment * direction).sum(1), torch.zeros(2, 32, 48), atol=1e-5, rtol=0)
    origins, rays = cameras.rays()
    other = origins[:, None, None] + 2.3 * rays
    assert_close(torch.linalg.cross(other, rays).permute(0, 3, 1, 2), moment, atol=1e-5, rtol=0)


@pytest.mark.parametrize("count", [1, 4, 8])
def test_canonical_orbit_looks_at_the_origin_from_the_canonical_distance(count):
    cameras = canonical_orbit(count, 64)
    assert_close(cameras.T_world_camera[0], canonical_pose())
    assert_close(cameras.positions.norm(dim=-1), torch.full((count,), CANONICAL_DISTANCE))
    pixels, depth = cameras.project(torch.zeros(count, 1, 3))
    assert_close(pixels, torch.full((count, 1, 2), 32.0))
    assert_close(depth[:, 0], torch.full((count,), CANONICAL_DISTANCE))
    up = cameras.T_world_camera[:, :3, 1]
    assert_close(up, torch.tensor([0.0, -1.0, 0.0]).expand(count, 3))


def test_look_at_gives_rigid_poses_with_the_target_in_the_centre(generator):
    positions = torch.randn(10, 3, generator=generator) * 2
    targets = torch.randn(10, 3, generator=generator)
    T = look_at(positions, targets, torch.tensor([0.0, 0.0, 1.0]))
    R = T[:, :3, :3]
    assert_close(R @ R.mT, torch.eye(3).expand(10, 3, 3), atol=1e-5, rtol=0)
    assert_close(torch.linalg.det(R), torch.ones(10))
    assert_close(R[:, :, 2], torch.nn.functional.normalize(targets - positions, dim=-1))
    assert (R[:, 2, 1] <= 0).all(), "image-down must not point up in the world"


def test_canonicalise_keeps_what_the_cameras_see(generator):
    cameras = some_cameras(4, generator)
    q = torch.nn.functional.normalize(torch.randn(4, generator=generator), dim=-1)
    # A world frame of another orientation and unit, with the object still at its origin.
    T = cameras.T_world_camera.clone()
    T[:, :3, 3] *= 3.7
    world = Cameras(pose(matrix_from_quaternion(q), torch.zeros(3)) @ T, cameras.fovy_rad, 48, 32)
    canonical, T_canonical_world, scale = canonicalise(world)
    assert_close(canonical.T_world_camera[0], canonical_pose(), atol=1e-5, rtol=0)
    points = torch.randn(4, 9, 3, generator=generator) * 0.5
    moved = (scale * points) @ T_canonical_world[:3, :3].mT + T_canonical_world[:3, 3]
    assert_close(canonical.project(moved)[0], world.project(points)[0], atol=1e-2, rtol=1e-4)
    again, _, one = canonicalise(canonical)
    assert_close(again.T_world_camera, canonical.T_world_camera, atol=1e-5, rtol=0)
    assert_close(one, torch.tensor(1.0))


def test_resized_cameras_see_the_same_in_other_pixels(generator):
    cameras, points = some_cameras(2, generator), torch.randn(2, 5, 3, generator=generator) * 0.3
    assert_close(cameras.resized(96, 64).project(points)[0], 2 * cameras.project(points)[0])
    with pytest.raises(ValueError, match="aspect"):
        cameras.resized(96, 96)


def test_save_and_load_are_inverses(tmp_path):
    cameras = canonical_orbit(5, 256)
    save_cameras(cameras, tmp_path / "cameras.json")
    loaded = load_cameras(tmp_path / "cameras.json")
    assert_close(loaded.T_world_camera, cameras.T_world_camera)
    assert_close(loaded.fovy_rad, cameras.fovy_rad)
    assert (loaded.width, loaded.height) == (256, 256)


EYE = torch.eye(4).tolist()
MIRROR = torch.diag(torch.tensor([1.0, 1.0, -1.0, 1.0])).tolist()


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (None, "cannot be read"),
        ("{", "not valid JSON"),
        ({"width": 4, "height": 4, "cameras": [EYE]}, "fovy_deg"),
        ({"fovy_deg": 40, "width": 4, "height": 4, "cameras": []}, "non-empty"),
        ({"fovy_deg": 40, "width": 4, "height": 4, "cameras": [[1, 2]]}, "4x4"),
        ({"fovy_deg": 40, "width": 0, "height": 4, "cameras": [EYE]}, "1 to 8192"),
        ({"fovy_deg": 40, "width": math.inf, "height": 4, "cameras": [EYE]}, "1 to 8192"),
        ({"fovy_deg": 40, "width": 4.5, "height": 4, "cameras": [EYE]}, "whole"),
        ("[" * 10**5 + "]" * 10**5, "not valid JSON"),
        ({"fovy_deg": 180, "width": 4, "height": 4, "cameras": [EYE]}, r"\(0, 180\)"),
        ({"fovy_deg": 40, "width": 4, "height": 4, "cameras": [MIRROR]}, "rigid"),
        ({"fovy_deg": 40, "width": 4, "height": 4, "cameras": [[[math.nan] * 4] * 4]}, "rigid"),
    ],
)
def test_broken_camera_files_are_refused(content, words, tmp_path):
    path = tmp_path / "cameras.json"
    if content is not None:
        path.write_text(content if isinstance(content, str) else json.dumps(content))
    with pytest.raises(CameraFileError, match=words) as caught:
        load_cameras(path)
    assert str(caught.value).startswith(str(path))


def test_cameras_that_are_no_cameras_or_too_many_are_refused(tmp_path):
    path = tmp_path / "cameras.json"
    sound = {"fovy_deg": 40, "width": 1024, "height": 1024, "cameras": [EYE] * 300}
    path.write_text(json.dumps(sound))
    with pytest.raises(CameraFileError, match=r"cameras\.json: 300 images of 1024x1024 pixels are more than"):
        load_cameras(path)
    sheared = [list(row) for row in EYE]
    sheared[3] = [0, 0, 5, 1]
    path.write_text(json.dumps(sound | {"cameras": [sheared]}))
    with pytest.raises(CameraFileError, match=r"cameras\.json: .*last row must be 0 0 0 1"):
        load_cameras(path)
    path.write_text('{"fovy_deg": 1' + "0" * 5000 + "}")
    with pytest.raises(CameraFileError, match=r"cameras\.json: not valid JSON"):
        load_cameras(path)
