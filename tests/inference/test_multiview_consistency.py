"""A ball seen from four sides, coloured by direction, whose splats are put where they should not be."""

import math
from dataclasses import replace

import pytest
import torch
from einops import rearrange
from torch.testing import assert_close

from partrm.geometry.cameras import CANONICAL_DISTANCE, canonical_orbit
from partrm.geometry.drags import Drags
from partrm.geometry.gaussians import Gaussians
from partrm.geometry.transforms import matrix_from_quaternion
from partrm.inference.decode import run_network
from partrm.inference.multiview_consistency import ENDS, OPAQUE, SWEEP, WIDTHS, GivenViews, Lines, agree
from partrm.inference.space_carving import carve
from partrm.model.inputs import VIEWS, NetworkInput
from partrm.model.network import TINY, PartRMNetwork

SIDE, RADIUS = 48, 0.35
PER_VIEW = SIDE * SIDE
PIXEL = CANONICAL_DISTANCE / float(canonical_orbit(1, SIDE).focal_px)
"""Width of a splat's pixel on the object, canonical units."""


def ball(side: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Points [v, h, w, 3] of the ball that the cameras see, and whether they see it."""
    origins, directions = canonical_orbit(VIEWS, side).rays()
    along = -(origins[:, None, None] * directions).sum(-1)
    square = along**2 - origins.norm(dim=-1)[:, None, None] ** 2 + RADIUS**2
    points = origins[:, None, None] + (along - square.clamp(min=0).sqrt())[..., None] * directions
    return points, square > 0


def scene(present: int = VIEWS) -> tuple[Gaussians, NetworkInput]:
    """True splats of the ball; opacity zero where a ray misses it."""
    points, hit = ball(2 * SIDE)
    images = torch.cat([0.5 + points / RADIUS / 2, hit[..., None].float()], -1) * hit[..., None]
    images = rearrange(images, "v h w c -> 1 v c h w").clamp(0, 1)
    images[:, present:] = 0
    points, hit = ball(SIDE)
    n = VIEWS * PER_VIEW
    gaussians = Gaussians(
        means=points.reshape(1, n, 3),
        quats=torch.tensor([1.0, 0, 0, 0]).expand(1, n, 4),
        scales=torch.full((1, n, 3), 0.01),
        opacities=0.9 * hit.reshape(1, n).float(),
        colors=torch.full((1, n, 3), 0.5),
    )
    drags = Drags(
        torch.zeros(1, 1, 2), torch.zeros(1, 1, 2), torch.zeros(1, 1, dtype=torch.long), torch.zeros(1, 1).bool()
    )
    valid = (torch.arange(VIEWS) < present)[None]
    return gaussians, NetworkInput(images, canonical_orbit(VIEWS, 2 * SIDE)[None], valid, drags)


def pushed(gaussians: Gaussians, by: torch.Tensor) -> Gaussians:
    """Splats moved along their views' rays by [v, n]."""
    origins = canonical_orbit(VIEWS, SIDE).positions.repeat_interleave(PER_VIEW, 0)
    ray = torch.nn.functional.normalize(gaussians.means[0] - origins, dim=-1)
    return replace(gaussians, means=gaussians.means + by.reshape(-1, 1) * ray)


def depth_error(gaussians: Gaussians, view: int) -> float:
    """Mean distance of a view's opaque splats from the ball."""
    own = slice(view * PER_VIEW, (view + 1) * PER_VIEW)
    shown = gaussians.opacities[0, own] > OPAQUE
    return float((gaussians.means[0, own][shown].norm(dim=-1) - RADIUS).abs().mean())


def on_background(gaussians: Gaussians, inputs: NetworkInput) -> int:
    """How many opaque splats of given views another given view has on its background, by a loop over views."""
    alpha = rearrange(inputs.images[0, :, 3], "v (h a) (w b) -> v h w (a b)", a=2, b=2).mean(-1)
    found = 0
    for own in range(VIEWS):
        means = gaussians.means[0, own * PER_VIEW : (own + 1) * PER_VIEW]
        out = torch.zeros(PER_VIEW, dtype=torch.bool)
        for other in set(range(VIEWS)) - {own}:
            pixels, _ = inputs.cameras[0, other].resized(SIDE).project(means)
            column, row = pixels.floor().long().clamp(0, SIDE - 1).unbind(-1)
            out |= alpha[other][row, column] < 0.5
        found += int((out & (gaussians.opacities[0, own * PER_VIEW : (own + 1) * PER_VIEW] > OPAQUE)).sum())
    return found


def test_a_view_looks_as_its_camera_projects() -> None:
    _, inputs = scene()
    shown = GivenViews(inputs.cameras, inputs.view_valid, inputs.images[:, :, 3])
    generator = torch.Generator().manual_seed(0)
    points, direction = (4 * torch.rand(2, 500, 3, generator=generator) - 2).unbind()
    view, steps = torch.randint(VIEWS, (500,), generator=generator), torch.tensor([-0.5, 0.0, 2.0])
    index, inside, distance = shown.look(Lines(torch.zeros_like(view), view, points, direction), steps)
    for k, step in enumerate(steps):
        at = points + step * direction
        for v in range(VIEWS):
            camera, rows = inputs.cameras[0, v], view == v
            pixels, depth = camera.project(at[rows])
            column, row = pixels.floor().unbind(-1)
            within = (column >= 0) & (column < 2 * SIDE) & (row >= 0) & (row < 2 * SIDE) & (depth > 0)
            assert torch.equal(inside[rows, k], within)
            flat = (v * 2 * SIDE + row) * 2 * SIDE + column
            assert torch.equal(index[rows, k][within], flat[within].long())
            assert torch.allclose(distance[rows, k], (at[rows] - camera.positions).norm(dim=-1), atol=1e-5)


@pytest.mark.parametrize(("by", "left"), [(-0.08, 0.3), (-0.15, 0.1), (0.08, 0.9)])
def test_depths_that_are_off_in_one_view_come_nearer_to_the_truth(by: float, left: float) -> None:
    """Too near is denied by two silhouettes; too far, inside the ball, by surfaces and colours alone."""
    gaussians, inputs = scene()
    error = torch.zeros(VIEWS, PER_VIEW)
    error[1] = by
    wrong = pushed(gaussians, error)
    right = agree(wrong, inputs)
    assert depth_error(right, 1) < left * depth_error(wrong, 1)
    for view in (0, 2, 3):
        assert depth_error(right, view) < PIXEL / 2 + 0.005
    for name in ("quats", "opacities", "colors"):
        assert torch.equal(getattr(right, name), getattr(gaussians, name))


def test_right_depths_stay_about_where_they_are() -> None:
    gaussians, inputs = scene()
    agreed = agree(gaussians, inputs)
    opaque = gaussians.opacities > OPAQUE
    assert float((agreed.means - gaussians.means)[opaque].norm(dim=-1).mean()) < PIXEL
    assert max(depth_error(agreed, view) for view in range(VIEWS)) < PIXEL / 2 + 0.005
    assert torch.equal(agreed.means[~opaque], gaussians.means[~opaque])


def test_cameras_a_little_off_do_no_harm_to_right_depths() -> None:
    gaussians, inputs = scene()
    angle = math.radians(0.5)
    T = torch.eye(4)
    T[0, 0] = T[1, 1] = math.cos(angle)
    T[0, 1], T[1, 0] = -math.sin(angle), math.sin(angle)
    T[:3, 3] = torch.tensor([0.004, 0.005, -0.004])
    poses = inputs.cameras.T_world_camera.clone()
    poses[:, 2] = T @ poses[:, 2]
    agreed = agree(gaussians, replace(inputs, cameras=replace(inputs.cameras, T_world_camera=poses)))
    assert max(depth_error(agreed, view) for view in range(VIEWS)) < PIXEL / 2 + 0.005


def test_lone_splats_before_a_background_find_a_place_on_the_object() -> None:
    gaussians, inputs = scene()
    error = torch.zeros(VIEWS, PER_VIEW)
    centre = SIDE // 2 * SIDE + SIDE // 2
    error[:, centre] = -(SWEEP + 0.1)  # the sweep alone cannot bring them back
    wrong = pushed(gaussians, error)
    before = on_background(wrong, inputs)
    assert before >= VIEWS
    assert on_background(agree(wrong, inputs), inputs) == 0


def test_axes_are_narrowed_just_as_far_as_they_stick_out() -> None:
    gaussians, inputs = scene()
    generator = torch.Generator().manual_seed(0)
    turned = torch.nn.functional.normalize(torch.randn(gaussians.quats.shape, generator=generator), dim=-1)
    agreed = agree(replace(gaussians, quats=turned, scales=torch.full_like(gaussians.scales, 0.04)), inputs)
    axes = matrix_from_quaternion(turned)
    opaque = (gaussians.opacities[0] > OPAQUE).nonzero()[:, 0]
    some = opaque[torch.randperm(len(opaque), generator=generator)[:200]]
    chosen = torch.full((len(some), 3), WIDTHS[-1])
    for width in reversed(WIDTHS[:-1]):
        out = torch.zeros(len(some), 3, dtype=torch.bool)
        for sign in (-1, 1):
            ends = agreed.means[0, some, None] + sign * ENDS * width * 0.04 * axes[0, some].mT
            for view in range(VIEWS):
                pixels, _ = inputs.cameras[0, view].project(ends.flatten(0, 1))
                columns, rows = pixels.floor().long().unbind(-1)
                inside = (columns >= 0) & (columns < 2 * SIDE) & (rows >= 0) & (rows < 2 * SIDE)
                alpha = inputs.images[0, view, 3, rows.clamp(0, 2 * SIDE - 1), columns.clamp(0, 2 * SIDE - 1)]
                out |= (inside & (alpha < 0.5)).view(-1, 3)
        chosen = torch.where(out, chosen, width)
    assert_close(agreed.scales[0, some], 0.04 * chosen, atol=1e-6, rtol=0)
    assert set(chosen.unique().tolist()) == set(torch.tensor(WIDTHS).tolist())


@pytest.mark.parametrize("present", [0, 1])
def test_less_than_two_views_change_nothing(present: int) -> None:
    gaussians, inputs = scene(present)
    assert agree(gaussians, inputs) is gaussians


def test_samples_of_a_batch_do_not_touch_each_other() -> None:
    error = 0.05 * torch.randn(VIEWS, PER_VIEW, generator=torch.Generator().manual_seed(0))
    rows = [(pushed(scene(count)[0], error), scene(count)[1]) for count in (1, 4, 2)]
    together = Gaussians.cat([gaussians for gaussians, _ in rows])
    inputs = NetworkInput.cat([given for _, given in rows])
    agreed = agree(together, inputs)
    assert torch.equal(agreed.means[0], together.means[0])
    assert torch.equal(agreed.scales[0], together.scales[0])
    for row, (gaussians, own) in enumerate(rows):
        alone = agree(gaussians, own)
        assert torch.allclose(agreed.means[row], alone.means[0], atol=1e-5)
        assert torch.allclose(agreed.scales[row], alone.scales[0], atol=1e-6)
    assert not torch.equal(agreed.means[2], together.means[2])
    guesses = slice(2 * PER_VIEW, None)
    assert torch.equal(agreed.means[2, guesses], together.means[2, guesses])


def test_the_network_is_read_with_its_views_in_agreement() -> None:
    _, inputs = scene()
    images = torch.nn.functional.interpolate(inputs.images[0], (TINY.image_size_px, TINY.image_size_px))[None]
    inputs = replace(inputs, images=images, cameras=inputs.cameras.resized(TINY.image_size_px))
    torch.manual_seed(0)
    network = PartRMNetwork(TINY).eval()
    with torch.inference_mode():
        raw = network(inputs).seen
    read = run_network(network, inputs).gaussians
    assert torch.equal(read.means, agree(raw, inputs).means)
    assert not torch.equal(read.means, raw.means)
    one = replace(inputs, view_valid=torch.tensor([[True, False, False, False]]))
    one = replace(one, images=images * one.view_valid[..., None, None, None])
    with torch.inference_mode():
        raw = network(one).seen
    read = run_network(network, one).gaussians
    for name in ("means", "quats", "scales", "colors"):
        assert torch.equal(getattr(read, name), getattr(raw, name))
    assert torch.equal(read.opacities, carve(raw, one).opacities)


@pytest.mark.gpu
def test_cuda_agrees_as_the_cpu() -> None:
    """But for the few splats that rounding puts on the other side of a pixel's border."""
    gaussians, inputs = scene()
    error = 0.05 * torch.randn(VIEWS, PER_VIEW, generator=torch.Generator().manual_seed(0))
    wrong = pushed(gaussians, error)
    cpu, cuda = agree(wrong, inputs), agree(wrong.to("cuda"), inputs.to("cuda")).to("cpu")
    opaque = wrong.opacities > OPAQUE
    assert float((cpu.means - wrong.means)[opaque].norm(dim=-1).mean()) > 0.01  # so there is something to compare
    assert float(((cpu.means - cuda.means)[opaque].norm(dim=-1) > 1e-3).float().mean()) < 0.02
    assert float(((cpu.scales - cuda.scales)[opaque].abs().amax(-1) > 1e-5).float().mean()) < 0.1
