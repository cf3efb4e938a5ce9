"""Splats are as wide as the gaps of their grid, and no wider."""

import math
from dataclasses import replace

import torch
from torch.testing import assert_close

from partrm.geometry.cameras import Cameras, canonical_orbit, look_at
from partrm.geometry.gaussians import Gaussians
from partrm.geometry.transforms import matrix_from_quaternion
from partrm.inference.closing import CLOSING, LONGEST, closed
from partrm.rendering.splats import render_splats

SIDE = 16
CAMERAS = canonical_orbit(1, SIDE)[None]
STEP = 0.05


def grid(slope: float, width: float = 0.004) -> Gaussians:
    """One view's splats on a plane that falls away from its camera along the rows: [1, side side]."""
    row, column = torch.meshgrid(*(torch.arange(SIDE) - (SIDE - 1) / 2,) * 2, indexing="ij")
    means = STEP * torch.stack([column, -row, -slope * column], -1).reshape(1, -1, 3)
    n = means.shape[1]
    turned = torch.nn.functional.normalize(torch.tensor([0.9, 0.1, 0.3, 0.2]), dim=0).expand(1, n, 4)
    return Gaussians(means, turned, torch.full((1, n, 3), width), torch.ones(1, n), torch.full((1, n, 3), 0.5))


def covariance(gaussians: Gaussians) -> torch.Tensor:
    axes = matrix_from_quaternion(gaussians.quats) * gaussians.scales[..., None, :]
    return axes @ axes.mT


def test_a_surface_aslant_to_its_view_is_closed_from_aside():
    splats = grid(slope=4.0)
    eye = torch.tensor([2.4 * math.sin(1.2), 0.0, 2.4 * math.cos(1.2)])
    aside = Cameras(look_at(eye, torch.zeros(3), torch.tensor([0.0, 1.0, 0.0])), torch.tensor(0.35), 96, 96)[None]
    alphas = [render_splats(g, aside[None]).alpha[0, 0, 40:56, 40:56] for g in (splats, closed(splats, CAMERAS))]
    assert alphas[0].mean() < 0.3
    assert (alphas[1] > 0.8).all()


def test_width_along_each_step_is_its_share_and_splats_stay_thin():
    splats = grid(slope=3.0)
    found = closed(splats, CAMERAS)
    step = STEP * torch.tensor([1.0, 0.0, -3.0])
    along = torch.nn.functional.normalize(step, dim=0)
    width = torch.sqrt(along @ covariance(found) @ along)
    assert_close(width, torch.full_like(width, CLOSING * float(step.norm())), rtol=1e-3, atol=0)
    assert_close(found.scales.amin(-1), splats.scales[..., 0], rtol=1e-3, atol=0)
    assert_close(torch.linalg.det(matrix_from_quaternion(found.quats)), torch.ones(1, SIDE**2), rtol=0, atol=1e-4)
    for name in ("means", "opacities", "colors"):
        assert_close(getattr(found, name), getattr(splats, name))


def test_splats_that_close_already_keep_their_shape():
    splats = grid(slope=0.5, width=STEP)
    assert_close(covariance(closed(splats, CAMERAS)), covariance(splats), rtol=1e-3, atol=1e-6)


def test_a_jump_to_another_surface_is_not_bridged():
    """Columns of the right half lie far behind; each splat takes the step to the side where its surface goes on."""
    splats = grid(slope=0.0)
    column = torch.arange(SIDE).repeat(SIDE)
    behind = splats.means - torch.tensor([0.0, 0.0, 1.0]) * (column >= SIDE // 2)[:, None]
    found = closed(replace(splats, means=behind), CAMERAS)
    assert_close(found.scales.amax(-1), torch.full((1, SIDE**2), CLOSING * STEP), rtol=1e-3, atol=0)


def test_a_lonely_column_reaches_no_farther_than_the_longest_step():
    splats = grid(slope=0.0)
    column = torch.arange(SIDE).repeat(SIDE)
    apart = splats.means - 50.0 * torch.tensor([0.0, 0.0, 1.0]) * column[:, None]
    facing = 2 * math.tan(float(CAMERAS.fovy_rad[0, 0]) / 2) * float(CAMERAS.positions[0, 0].norm()) / SIDE
    found = closed(replace(splats, means=apart), CAMERAS)
    assert float(found.scales.max()) <= CLOSING * LONGEST * facing * 1.001


def test_what_is_not_there_is_no_neighbour():
    splats = grid(slope=2.0)
    column = torch.arange(SIDE).repeat(SIDE)
    alone = replace(splats, opacities=(column == 5).float()[None])
    assert_close(closed(alone, CAMERAS).scales, splats.scales)
