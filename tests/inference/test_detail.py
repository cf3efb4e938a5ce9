import math

import torch
from torch.testing import assert_close

from partrm.geometry.cameras import INPUT_FOVY_RAD, Cameras, canonical_pose
from partrm.geometry.gaussians import Gaussians
from partrm.geometry.transforms import transform_points
from partrm.inference import detail
from partrm.inference.closing import CLOSING
from partrm.inference.detail import REST_WIDTH, SAME_SURFACE, SeenSurface, detailed, to_outline, without_ghosts

SIDE, SIZE = 16, 64


def camera(size):
    return Cameras(canonical_pose(), torch.tensor(INPUT_FOVY_RAD), size, size)


def surface_at(depth):
    """One splat a cell, at a depth [SIDE, SIDE] from the camera; colours tell the column."""
    view = camera(SIDE)
    y, x = torch.meshgrid(torch.arange(SIDE) + 0.5, torch.arange(SIDE) + 0.5, indexing="ij")
    local = torch.stack([(x - SIDE / 2) / view.focal_px * depth, (y - SIDE / 2) / view.focal_px * depth, depth], -1)
    n = SIDE * SIDE
    colors = (x / SIDE)[..., None].expand(-1, -1, 3).reshape(n, 3)
    quats = torch.tensor([1.0, 0.0, 0.0, 0.0]).expand(n, 4)
    means = transform_points(view.T_world_camera[None], local.reshape(1, n, 3))[0]
    return Gaussians(means, quats, torch.full((n, 3), 0.01), torch.full((n,), 0.9), colors)


def picture():
    image = torch.rand(4, SIZE, SIZE, generator=torch.Generator().manual_seed(0))
    image[3] = 0.0
    image[3, 8:56, 8:56] = 1.0
    return image


def seen_by(surface, coarse, fine):
    """What the picture shows finely, of one sample."""
    return detailed(surface[None], coarse[None], camera(SIDE)[None], picture()[None], fine[None])


def shown(seen: SeenSurface):
    """Its splats that show, and which of them move."""
    there = ~seen.depth[0].flatten().isnan()
    return seen.gaussians[0][there], seen.moving[0].flatten()[there]


def test_finer_splats_have_the_pictures_colours_on_the_surface_seen():
    moving = torch.zeros(SIZE, SIZE, dtype=torch.bool)
    depth = 2.4 + 0.2 * torch.linspace(0, 1, SIDE).expand(SIDE, SIDE)
    found, part = shown(seen_by(surface_at(depth), torch.zeros(SIDE**2, dtype=torch.bool), moving))
    assert len(found) == 48 * 48
    assert not part.any()
    pixels, z = camera(SIZE).project(found.means)
    column, row = pixels.floor().long().unbind(-1)
    assert_close(pixels - pixels.floor(), torch.full_like(pixels, 0.5), atol=1e-2, rtol=0)
    assert_close(found.colors, picture()[:3, row, column].T)
    assert_close(z, 2.4 + 0.2 * (pixels[:, 0] * SIDE / SIZE - 0.5) / (SIDE - 1), atol=0.02, rtol=0)


def aslant(turn_deg):
    """Depths of a plane turned about the upright axis."""
    view = camera(SIDE)
    x = (torch.arange(SIDE) + 0.5 - SIDE / 2) / view.focal_px
    return (2.4 / (1 - x * math.tan(math.radians(turn_deg)))).expand(SIDE, SIDE)


def test_a_plane_stays_a_plane_however_aslant():
    nothing, flat = torch.zeros(SIDE**2, dtype=torch.bool), torch.zeros(SIZE, SIZE, dtype=torch.bool)
    found, _ = shown(seen_by(surface_at(aslant(70)), nothing, flat))
    pixels, z = camera(SIZE).project(found.means)
    x = (pixels[:, 0] - SIZE / 2) / camera(SIZE).focal_px
    assert_close(z, 2.4 / (1 - x * math.tan(math.radians(70))), atol=1e-4, rtol=0)


def test_finer_splats_close_a_plane_aslant_and_no_more():
    nothing, flat = torch.zeros(SIDE**2, dtype=torch.bool), torch.zeros(SIZE, SIZE, dtype=torch.bool)
    found, _ = shown(seen_by(surface_at(aslant(70)), nothing, flat))
    means = found.means.view(48, 48, 3)
    step = (means[24, 24] - means[24, 23]).norm()
    longest = found.scales.view(48, 48, 3)[24, 24].max()
    assert_close(longest, CLOSING * step, atol=0, rtol=0.15)


def unhidden(rest, rest_moving, seen, thickness):
    """The other splats that are kept."""
    of_one = rest[None], rest_moving[None], seen, camera(SIZE)[None], picture()[None, 3], torch.tensor([thickness])
    left, kept = without_ghosts(*of_one, SIZE / SIDE)
    return left[0][kept[0]]


def test_splats_without_finer_ones_do_not_reach_beyond_the_outline():
    nothing, flat = torch.zeros(SIDE**2, dtype=torch.bool), torch.zeros(SIZE, SIZE, dtype=torch.bool)
    seen = seen_by(surface_at(torch.full((SIDE, SIDE), 2.3)), nothing, flat)
    # At the middle, and one pixel from the outline.
    middle, rim = torch.tensor([[SIZE / 2, SIZE / 2], [9.0, SIZE / 2]])
    view, depth = camera(SIZE), 2.7
    local = [[(x - SIZE / 2) / float(view.focal_px) * depth, 0.0, depth] for x in (float(middle[0]), float(rim[0]))]
    means = transform_points(view.T_world_camera[None], torch.tensor([local]))[0]
    quats, wide = torch.tensor([1.0, 0.0, 0.0, 0.0]).expand(2, 4), torch.full((2, 3), 0.1)
    rest = Gaussians(means, quats, wide, torch.ones(2), torch.ones(2, 3))
    left = unhidden(rest, torch.zeros(2, dtype=torch.bool), seen, 0.1)
    pixel = depth / float(view.focal_px)
    assert_close(left.scales[0], torch.full((3,), 0.1 * REST_WIDTH), atol=1e-4, rtol=0)
    assert_close(left.scales[1], torch.full((3,), CLOSING * SIZE / SIDE * pixel), atol=1e-4, rtol=0)


def test_no_finer_splat_lies_between_two_surfaces():
    depth = torch.full((SIDE, SIDE), 2.2)
    depth[:, SIDE // 2 :] = 2.6
    nothing = torch.zeros(SIDE**2, dtype=torch.bool)
    found, _ = shown(seen_by(surface_at(depth), nothing, torch.zeros(SIZE, SIZE, dtype=torch.bool)))
    _, z = camera(SIZE).project(found.means)
    assert bool((((z - 2.2).abs() < SAME_SURFACE) | ((z - 2.6).abs() < SAME_SURFACE)).all())


def test_the_parts_edge_is_that_of_the_fine_mask():
    depth = torch.full((SIDE, SIDE), 2.6)
    depth[:, : SIDE // 2] = 2.2
    coarse = (torch.arange(SIDE) < SIDE // 2).expand(SIDE, SIDE).flatten()
    fine = torch.zeros(SIZE, SIZE, dtype=torch.bool)
    fine[:, :30] = True  # two pixels before the network's own edge
    found, part = shown(seen_by(surface_at(depth), coarse, fine))
    pixels, z = camera(SIZE).project(found.means)
    assert part.tolist() == (pixels[:, 0] < 30).tolist()
    assert_close(z, torch.where(part, 2.2, 2.6), atol=1e-4, rtol=0)


def test_splats_that_would_hang_in_the_air_are_dropped():
    fine = torch.zeros(SIZE, SIZE, dtype=torch.bool)
    fine[16:48, 16:48] = True
    coarse = torch.nn.functional.max_pool2d(fine[None].float(), 4)[0].bool().flatten()
    seen = seen_by(surface_at(torch.full((SIDE, SIDE), 2.3)), coarse, fine)
    # In front of the middle of the part; in its surface; far behind it; and far behind, beside the part.
    means = torch.tensor([[0.0, 0.0, 0.4], [0.0, 0.0, 0.1], [0.0, 0.0, -0.3], [0.35, 0.0, -0.3]])
    quats = torch.tensor([1.0, 0.0, 0.0, 0.0]).expand(4, 4)
    rest = Gaussians(means, quats, torch.full((4, 3), 0.01), torch.ones(4), torch.ones(4, 3))

    def kept(moving, thickness=0.1):
        flags = torch.full((4,), moving)
        left = unhidden(rest, flags, seen, thickness)
        return [bool((left.means == mean).all(1).any()) for mean in means]

    assert kept(moving=False) == [False, False, True, True], "what stays in the part's place is the part's"
    assert kept(moving=True) == [False, True, False, False], "what moves lies behind the part's surface"
    assert kept(moving=True, thickness=1.0) == [False, True, True, False]


def test_distances_to_the_outline_are_the_same_at_once(monkeypatch, generator):
    shown = torch.rand(3, 20, 31, generator=generator) > 0.1
    plain = to_outline(shown)
    monkeypatch.setattr(detail, "together", lambda device: True)
    monkeypatch.setattr(detail, "DISTANCES_AT_ONCE", 3 * 20 * 31 * 4)
    assert_close(to_outline(shown), plain, atol=1e-6, rtol=0)
