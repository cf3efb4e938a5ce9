import math

import numpy as np
import pytest
import torch
from torch.testing import assert_close

from partrm.geometry.gaussians import Gaussians
from partrm.viewer.drag_3d import same_depth
from partrm.viewer.geometry import PicturePlane, overview, pick_gaussian, pixels_of, voxel_shell
from partrm.viewer.sources import picture_of
from partrm.viewer.splats import COVARIANCE_UNIT, SPREAD, coarse_arrays, splat_arrays


def gaussians_at(means, opacity=0.9, scale=0.02):
    n = len(means)
    return Gaussians(
        means=torch.as_tensor(means, dtype=torch.float32),
        quats=torch.nn.functional.normalize(torch.randn(n, 4, generator=torch.Generator().manual_seed(1)), dim=-1),
        scales=torch.full((n, 3), scale),
        opacities=torch.full((n,), opacity),
        colors=torch.full((n, 3), 0.5),
    )


@pytest.mark.parametrize("size", [(200, 150), (1080, 720), (64, 640)])
def test_pixels_of_the_picture_survive_the_way_over_the_world(size, generator):
    plane = PicturePlane.of(*size)
    assert plane.width / plane.height == pytest.approx(size[0] / size[1])
    pixels = torch.rand(20, 2, generator=generator).numpy().astype(float) * (np.array(size) - 1)
    world = plane.to_world(pixels)
    for eye in ((0.0, 0.3, 3.0), (2.0, -1.0, 1.5), (-2.0, 0.5, -2.5)):
        start = np.array(eye)
        for pixel, point in zip(pixels, world, strict=True):
            # Any point of the ray, before or behind the picture, means the same pixel.
            assert plane.hit(start, start + 0.4 * (point - start)) == pytest.approx(tuple(pixel), abs=1e-6)
    assert plane.hit(np.array([0.0, 0.0, 3.0]), np.array([0.0, 0.0, 4.0])) is None, "behind the eye"


def test_a_ray_picks_the_front_gaussian_that_it_meets():
    shown = gaussians_at([[0, 0, 0.3], [0, 0, -0.3], [0.2, 0, 0.3]])
    front, back = torch.tensor([0.0, 0.0, 2.4]), torch.tensor([0.0, 0.0, -2.4])
    assert pick_gaussian(shown, front, torch.zeros(3)) == 0
    assert pick_gaussian(shown, back, torch.zeros(3)) == 1
    assert pick_gaussian(shown, front, torch.tensor([0.2, 0.0, 0.3])) == 2
    assert pick_gaussian(shown, front, torch.tensor([0.5, 0.5, 0.0])) is None
    thin = Gaussians(shown.means, shown.quats, shown.scales, torch.tensor([0.05, 0.9, 0.9]), shown.colors)
    assert pick_gaussian(thin, front, torch.zeros(3)) == 1, "what can hardly be seen is looked through"


def test_pixels_of_world_points_are_those_of_the_users_picture():
    rgba = torch.zeros(4, 120, 160)
    rgba[:, 30:90, 40:120] = 0.5
    rgba[3, 30:90, 40:120] = 1
    picture = picture_of(rgba, 64, "auto", "box")
    points = torch.tensor([[0.0, 0.0, 0.0], [0.1, 0.2, 0.1]])
    pixels = pixels_of(points, picture.views)
    assert_close(pixels[0], torch.tensor([80.0, 60.0]), atol=0.6, rtol=0)
    canonical = picture.views.framed[0].to_framed_px(pixels)
    assert_close(canonical, picture.views.cameras.project(points[None])[0][0])


def test_same_depth_stays_on_the_ray_and_in_the_plane():
    eye, ahead = torch.tensor([1.0, 2.0, 3.0]), torch.tensor([-1.0, -2.0, -3.0])
    through, like = torch.tensor([0.5, 0.8, 1.0]), torch.tensor([0.1, 0.0, -0.4])
    end = same_depth(eye, ahead, through, like)
    assert float(((end - like) @ ahead).abs()) < 1e-5
    assert float(torch.cross(end - eye, through - eye, dim=0).norm()) < 1e-5


def test_voxel_shell_is_closed_and_holds_the_points(generator):
    means = (torch.rand(500, 3, generator=generator) - 0.5).numpy() * 0.8
    vertices, faces = voxel_shell(means)
    edges = np.sort(np.concatenate([faces[:, [0, 1]], faces[:, [1, 2]], faces[:, [2, 0]]]), axis=1)
    _, count = np.unique(edges, axis=0, return_counts=True)
    assert (count % 2 == 0).all(), "each edge has a face on both sides"
    assert (vertices.min(0) <= means.min(0)).all()
    assert (vertices.max(0) >= means.max(0)).all()
    assert np.abs(vertices).max() < 0.4 + 2 / 28
    single, six = voxel_shell(np.zeros((1, 3)))
    assert (len(single), len(six)) == (8, 12)


def test_splats_carry_the_covariances_of_the_gaussians():
    gaussians = gaussians_at([[0.1, 0.2, 0.3], [0, 0, 0]])
    arrays = splat_arrays(gaussians)
    covariances = torch.from_numpy(arrays["covariances"]) * COVARIANCE_UNIT**2
    assert_close(covariances, torch.eye(3).expand(2, 3, 3) * 0.02**2, atol=1e-8, rtol=1e-4)
    assert_close(torch.from_numpy(arrays["centers"]) * COVARIANCE_UNIT, gaussians.means)
    # What viser keeps of them in 16 bits is still exact to a thousandth.
    kept = arrays["covariances"].astype(np.float16).astype(np.float32)
    np.testing.assert_allclose(kept, arrays["covariances"], atol=1e-3 * arrays["covariances"].max())


def test_few_splats_keep_mass_middle_and_spread_of_many(generator):
    means = torch.rand(3000, 3, generator=generator) - 0.5
    gaussians = gaussians_at(means)
    many = splat_arrays(gaussians)
    few = coarse_arrays(many, 200)
    assert 100 < len(few["centers"]) <= 200
    assert np.linalg.eigvalsh(few["covariances"]).min() > 0
    # Law of total variance: spread within the cells plus spread of their middles is the spread of all.
    coarse_arrays_of_one = coarse_arrays(many, 1)
    offsets = many["centers"] - many["centers"].mean(0)
    expected = many["covariances"].mean(0) + offsets.T @ offsets / len(offsets)
    assert len(coarse_arrays_of_one["centers"]) == 1
    np.testing.assert_allclose(coarse_arrays_of_one["covariances"][0], SPREAD * expected, rtol=1e-3, atol=1e-2)
    np.testing.assert_allclose(coarse_arrays_of_one["centers"][0], many["centers"].mean(0), atol=1e-3)
    assert coarse_arrays(many, 5000) is many
    faint = splat_arrays(gaussians_at(means, opacity=0.01))
    faint["opacities"][:50] = 0.9
    np.testing.assert_array_less(few["centers"].max(0), many["centers"].max(0))
    assert len(coarse_arrays(faint, 20)["centers"]) <= 20


def test_overview_widens_for_narrow_windows():
    plane = PicturePlane.of(300, 200)
    wide, narrow = overview(plane, 2.0), overview(plane, 0.7)
    assert narrow.position[2] > wide.position[2]
    assert math.isclose(wide.position[0], wide.look_at[0])
