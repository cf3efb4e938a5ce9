import pytest
import torch
from torch.testing import assert_close

from partrm.geometry.cameras import INPUT_FOVY_RAD, Cameras, canonical_pose
from partrm.geometry.planes import NEAR, flattened
from partrm.geometry.transforms import transform_points

SIDE = 64
VIEW = Cameras(canonical_pose(), torch.tensor(INPUT_FOVY_RAD), SIDE, SIDE)
ROW, COLUMN = torch.meshgrid(torch.arange(SIDE), torch.arange(SIDE), indexing="ij")
PANEL = (ROW > 8) & (ROW < 56) & (COLUMN > 12) & (COLUMN < 40)
WAVE = 0.015 * torch.sin(ROW / 4.0) * torch.cos(COLUMN / 5.0)


def points_at(depth):
    """Where the view's rays reach depths [SIDE, SIDE]."""
    x, y = (COLUMN + 0.5 - SIDE / 2) / VIEW.focal_px, (ROW + 0.5 - SIDE / 2) / VIEW.focal_px
    local = torch.stack([x * depth, y * depth, depth], -1).reshape(1, -1, 3)
    return transform_points(VIEW.T_world_camera[None], local).view(SIDE, SIDE, 3)


def depths(points):
    return VIEW.project(points.reshape(-1, 3))[1].view(SIDE, SIDE)


def flat(depth, mask=PANEL):
    return depths(flattened(points_at(depth), mask, VIEW.positions))


@pytest.mark.parametrize("tilt", [0.0, 0.4, 0.8])
def test_a_wavering_panel_becomes_flat_and_its_rays_stay(tilt):
    plane = 2.4 / (1 - tilt * (COLUMN + 0.5 - SIDE / 2) / VIEW.focal_px)
    found = flattened(points_at(plane + WAVE), PANEL, VIEW.positions)
    assert (depths(found) - plane)[PANEL].abs().mean() < 0.25 * WAVE[PANEL].abs().mean()
    pixels = VIEW.project(found.reshape(-1, 3))[0].view(SIDE, SIDE, 2)
    assert_close(pixels[..., 0], COLUMN + 0.5, atol=1e-2, rtol=0)


def test_what_is_not_the_parts_stays():
    depth = 2.4 + WAVE
    assert_close(flat(depth)[~PANEL], depth[~PANEL], atol=1e-5, rtol=0)


def test_a_handle_before_the_panel_stays():
    handle = (ROW > 28) & (ROW < 32) & (COLUMN > 18) & (COLUMN < 30)
    depth = torch.where(handle, 2.32, 2.4 + WAVE)
    assert_close(flat(depth)[handle], depth[handle], atol=1e-5, rtol=0)


def test_a_seam_and_a_curled_rim_follow():
    seam, rim = PANEL & (COLUMN == 25), PANEL & (COLUMN > 37)
    found = flat(torch.where(seam, 2.46, torch.where(rim, 2.33, 2.4 + WAVE)))
    assert (found[seam | rim] - 2.4).abs().max() < 0.02


@pytest.mark.parametrize(
    "depth",
    [
        2.4 + 2e-4 * (COLUMN - 26.0) ** 2,
        torch.where(COLUMN > 26, 2.4, 2.4 + 4 * NEAR),
        2.4 + 0.3 * torch.rand(SIDE, SIDE, generator=torch.Generator().manual_seed(0)),
    ],
    ids=["bent", "two faces", "no surface"],
)
def test_what_is_no_panel_stays(depth):
    assert_close(flat(depth), depth, atol=1e-5, rtol=0)


def test_a_part_of_hardly_any_cells_stays():
    few = (ROW > 30) & (ROW < 35) & (COLUMN > 30) & (COLUMN < 40)
    assert_close(flat(2.4 + WAVE, few), 2.4 + WAVE, atol=1e-5, rtol=0)
    assert_close(flat(2.4 + WAVE, few & False), 2.4 + WAVE, atol=1e-5, rtol=0)
