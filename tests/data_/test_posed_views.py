"""Several views of known cameras: squares that objects fill, in the frame of the first one."""

import math

import pytest
import torch

pytest.importorskip("warp", reason="samples are rendered with warp-lang (extra `data`)")

from einops import rearrange
from torch.testing import assert_close

from partrm.articulation.procedural import generate
from partrm.cameras import CANONICAL_DISTANCE, FILLED, INPUT_FOVY_RAD, rotation_from_forward
from partrm.data.online import SampleConfig, make_samples
from partrm.data.posed_views import NEARER, box_of
from partrm.data.samples import Samples
from partrm.data.scenarios import JointTables
from partrm.rendering.meshes import MeshScene, material_table
from partrm.transforms import transform_points


@pytest.fixture(scope="module")
def objects():
    return [generate("cabinet", 1), generate("laptop", 2)]


def made(objects, **changes) -> Samples:
    scene, tables = MeshScene.from_objects(objects), JointTables.from_objects(objects)
    which = torch.arange(8) % len(objects)
    config = SampleConfig(96, 4, layers=2, **changes)
    return make_samples(
        scene, tables, which, material_table(objects)[which], config, torch.Generator().manual_seed(3), 8
    )


@pytest.fixture(scope="module")
def samples(objects) -> Samples:
    return made(objects)


def test_objects_fill_every_view(objects):
    samples = made(objects, augment=False)  # imperfect masks would change the boxes
    for view in range(4):
        low, high = box_of(samples.targets.surface[:, view])
        side = (high - low).amax(-1)
        # Boxes are read off coarse images, so to within a pixel of those.
        assert_close(side, torch.full_like(side, FILLED), atol=0.07, rtol=0)
        middle = (low + high) / 2
        assert float((middle - 0.5).abs().max()) < 0.06
    assert bool(samples.inputs.lens_known.all())


def test_surfaces_lie_where_all_cameras_say(samples):
    """The points that one view's rays meet are seen by the others at the same places as by their own surfaces."""
    t, cameras = samples.targets, samples.inputs.cameras.resized(48)
    origins, directions = cameras.rays()
    points = origins[:, :, None, None] + t.distance[..., None] * directions
    assert_close(points[t.surface], t.point[t.surface], atol=2e-5, rtol=0)
    first = rearrange(t.point[:, 0], "b h w c -> b (h w) c")
    on = rearrange(t.surface[:, 0], "b h w -> b (h w)")
    pixels, depth = cameras[:, 1].project(first)
    inside = on & (pixels > 1).all(-1) & (pixels < 47).all(-1)
    x, y = pixels.long().clamp(0, 47).unbind(-1)
    rows = torch.arange(len(x))[:, None]
    away = (first - cameras.positions[:, 1, None]).norm(dim=-1)
    nearest = -torch.nn.functional.max_pool2d(-torch.where(t.surface[:, 1], t.distance[:, 1], 9.0), 3, 1, 1)
    assert bool((away >= nearest[rows, y, x] - 0.06)[inside].all()), "nothing is seen through"
    assert bool((depth > 0).all())


def test_first_views_have_the_assumed_size_at_distances_of_their_own(samples):
    cameras = samples.inputs.cameras
    T = cameras.T_world_camera[:, 0]
    assert_close(T[:, :3, :3], torch.diag(torch.tensor([1.0, -1.0, -1.0])).expand(8, 3, 3))
    half = T[:, 2, 3] * torch.tan(cameras.fovy_rad[:, 0] / 2)
    assert_close(half, torch.full_like(half, CANONICAL_DISTANCE * math.tan(INPUT_FOVY_RAD / 2)))
    nearer = CANONICAL_DISTANCE / T[:, 2, 3]
    assert NEARER[0] - 1e-4 <= float(nearer.min()) < float(nearer.max()) <= NEARER[1] + 1e-4
    # All stand on a circle about the object's upright axis.
    assert_close(cameras.positions.norm(dim=-1), cameras.positions[:, :1].norm(dim=-1).expand(8, 4), atol=1e-4, rtol=0)


def test_drags_end_where_the_motion_takes_them(objects):
    samples = made(objects, augment=False, drags=3)
    drags, first = samples.inputs.drags, samples.inputs.cameras.resized(48)[:, 0]
    x, y = (drags.start * 48).long().clamp(0, 47).unbind(-1)
    rows = torch.arange(8)[:, None]
    points = samples.targets.point[:, 0][rows, y, x]
    ends, _ = first.project(transform_points(samples.joint.T_after_before, points))
    chosen = samples.valid[:, None] & drags.valid
    assert bool(chosen.any())
    assert_close((ends / 48)[chosen], drags.end[chosen], atol=2e-3, rtol=0)


def test_smallest_rotations_take_the_axis_there(generator):
    directions = torch.nn.functional.normalize(torch.randn(50, 3, generator=generator), dim=-1)
    R = rotation_from_forward(directions)
    assert_close(R @ R.mT, torch.eye(3).expand_as(R), atol=1e-4, rtol=0)
    assert_close(R[..., 2], directions, atol=1e-5, rtol=0)
    angle = torch.arccos((R.diagonal(dim1=-2, dim2=-1).sum(-1) - 1).div(2).clamp(-1, 1))
    assert_close(angle, torch.arccos(directions[:, 2]), atol=5e-3, rtol=0)
