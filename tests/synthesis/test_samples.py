"""Samples against independent oracles: projection, re-baked meshes, disk round trip, reproducibility."""

import dataclasses

import pytest
import torch
from einops import rearrange

pytest.importorskip("warp", reason="samples are rendered with warp-lang (extra `data`)")

from support.boxes import cabinet

from partrm.geometry.cameras import INPUT_FOVY_RAD, MASK_BOX_FILL, mask_boxes
from partrm.geometry.framing import first_crops, framing_of_crops
from partrm.geometry.joints import JointType
from partrm.geometry.transforms import screw_motion, transform_points
from partrm.model.inputs import with_absent_views
from partrm.rendering.meshes import Lights, MeshScene, material_table
from partrm.synthesis.augmentation import PhotometricJitter, camera_noise
from partrm.synthesis.posed_scenes import training_lights
from partrm.synthesis.sampler import SampleConfig, make_samples
from partrm.synthesis.samples import Samples
from partrm.synthesis.scenarios import (
    PUBLISHED_SCENARIOS,
    TRAINING_SCENARIOS,
    JointTables,
    frame_from,
    sample_photographs,
    sample_scenarios,
    sample_turned_cameras,
)


def made(seed: int = 0, batch: int = 6, **changes) -> Samples:
    objects = [cabinet()]
    scene, tables = MeshScene.from_objects(objects), JointTables.from_objects(objects)
    which = torch.zeros(2 * batch, dtype=torch.long)
    config = SampleConfig(**({"image_size_px": 64, "views": 2, "novel_views": 1, "novel_size_px": 64} | changes))
    generator = torch.Generator().manual_seed(seed)
    return make_samples(scene, tables, which, material_table(objects)[which], config, generator, batch)


@pytest.fixture(scope="module")
def samples() -> Samples:
    return made()


def test_surface_points_project_to_their_pixels_at_their_distance(samples: Samples) -> None:
    t, cameras = samples.targets, samples.inputs.cameras.resized(32)
    pixels, _ = cameras.project(rearrange(t.point, "b v h w c -> b v (h w) c"))
    y, x = torch.meshgrid(torch.arange(32) + 0.5, torch.arange(32) + 0.5, indexing="ij")
    centres = torch.stack([x, y], -1).reshape(-1, 2).expand_as(pixels)
    on = rearrange(t.surface, "b v h w -> b v (h w)")
    assert on.any(-1).all(), "every view, present or absent, shows the object"
    assert torch.allclose(pixels[on], centres[on], atol=2e-3)
    distance = (t.point - cameras.positions[:, :, None, None]).norm(dim=-1)
    assert torch.allclose(distance[t.surface], t.distance[t.surface], atol=1e-5)


def test_displacements_are_the_joints_own_motion(samples: Samples) -> None:
    t, j = samples.targets, samples.joint
    T = screw_motion(j.axis, j.pivot, j.amount, j.type == JointType.PRISMATIC)
    assert torch.allclose(T, j.T_after_before, atol=1e-5)
    flat = rearrange(t.point, "b v h w c -> b (v h w) c")
    shift = rearrange(transform_points(T, flat) - flat, "b (v h w) c -> b v h w c", v=4, h=32)
    expected = torch.where(t.moving[..., None], shift, 0.0)
    assert torch.allclose(expected, t.displacement, atol=1e-4)
    assert set(j.type.tolist()) <= {int(JointType.REVOLUTE), int(JointType.PRISMATIC)}


def test_drags_start_on_the_part_and_end_where_it_goes() -> None:
    samples = made(augment=False, drags=4)
    d, t = samples.inputs.drags, samples.targets
    assert d.valid.sum(-1).tolist() == [4] * 6
    first = samples.inputs.cameras[:, 0].resized(32)
    cell = (d.start * 32).floor().long()
    for b in range(6):
        x, y = cell[b].unbind(-1)
        assert t.moving[b, 0, y, x].all()
        after, _ = first.project((t.point + t.displacement)[b, 0, y, x][None].expand(6, -1, -1))
        assert torch.allclose(after[b] / 32, d.end[b], atol=1e-3)


def test_the_present_views_show_what_the_targets_say() -> None:
    samples = made(augment=False)
    alpha = torch.nn.functional.avg_pool2d(samples.inputs.images[:, :2, 3], 2)
    assert torch.allclose(alpha, samples.targets.coverage[:, :2], atol=1e-5)
    solid = (alpha > 0.99) | (alpha < 0.01)
    # A gap narrower than the sub-samples' grid may still let the centre's ray through.
    assert ((alpha > 0.5) == samples.targets.surface[:, :2])[solid].float().mean() > 0.999
    assert samples.inputs.images[:, 2:].abs().max() == 0
    assert samples.inputs.view_valid.tolist() == [[True, True, False, False]] * 6


def test_cameras_change_colours_and_now_and_then_the_outline() -> None:
    images = made(augment=False, batch=1).inputs.images[:, :2].expand(64, -1, -1, -1, -1).contiguous()
    generator = torch.Generator().manual_seed(0)
    seen = camera_noise(images, PhotometricJitter.random(64, generator), generator)
    assert seen.min() >= 0
    assert seen.max() <= 1
    moved = (seen[:, :, 3] - images[:, :, 3]).abs().amax((1, 2, 3))
    rough = moved > 0.02
    assert torch.equal(seen[~rough, :, 3], images[~rough, :, 3])
    assert 0.1 < rough.float().mean() < 0.45
    wide = torch.nn.functional.max_pool2d(images[:, :, 3], 3, 1, 1)
    assert (seen[:, :, 3] <= wide + 1e-5).all(), "the outline moves by a pixel at most"


def test_targets_have_the_tone_of_the_images() -> None:
    """A drawn tone changes input colours by up to a quarter; targets and renders go with it."""
    samples = made(seed=5, novel_views=1)
    t, images = samples.targets, samples.inputs.images
    near = torch.nn.functional.avg_pool2d(images[:, 0], 2)
    flat = torch.stack([torch.nn.functional.avg_pool2d(x, 5, 1, 2) for x in (near[:, 3:], t.coverage[:, :1])])
    solid = (flat[0, :, 0] > 0.999) & (flat[1, :, 0] > 0.999)
    assert solid.sum() > 100
    difference = (rearrange(near[:, :3], "b c h w -> b h w c") - t.rgb[:, 0])[solid]
    assert difference.abs().mean() < 0.03
    assert samples.views is not None
    for images in (samples.views.before, samples.views.after):
        assert images.min() >= 0
        assert images.max() <= 1


def test_tones_differ_between_samples_and_are_one_for_colours_and_images() -> None:
    generator = torch.Generator().manual_seed(1)
    tone = PhotometricJitter.random(50, generator)
    rgba = torch.rand(50, 2, 4, 5, 5, generator=generator)
    images = tone.of_images(rgba)
    assert torch.equal(images[:, :, 3], rgba[:, :, 3])
    colors = tone.of_colors(rearrange(rgba[:, :, :3], "b k c h w -> b k h w c"))
    assert torch.allclose(rearrange(colors, "b k h w c -> b k c h w"), images[:, :, :3])
    grey = tone.of_colors(torch.full((50, 1, 3), 0.5))
    assert 0.02 < float(grey.std()) < 0.1


def test_some_first_novel_cameras_are_given_ones() -> None:
    samples = made(views=3, novel_views=2, batch=6, at_given_views=1.0)
    assert samples.views is not None
    novel, given = samples.views.cameras.T_world_camera, samples.inputs.cameras.T_world_camera[:, :3]
    off = (novel[:, :, None] - given[:, None]).abs().amax((-1, -2)).amin(-1)
    assert float(off[:, 0].max()) < 1e-6
    assert float(off[:, 1].min()) > 1e-3
    elsewhere = made(views=3, novel_views=2, batch=6, at_given_views=0.0).views
    assert elsewhere is not None
    off = (elsewhere.cameras.T_world_camera[:, :, None] - given[:, None]).abs().amax((-1, -2)).amin(-1)
    assert float(off.min()) > 1e-3


def test_target_state_views_differ_only_by_the_moving_part(samples: Samples) -> None:
    assert samples.views is not None
    change = (samples.views.before - samples.views.after).abs().amax((1, 2))
    assert (change.flatten(1).amax(-1) > 0.1).sum() >= 5
    assert samples.valid.all()


def test_same_seed_same_samples_other_seed_others() -> None:
    a, b, c = made(3), made(3), made(4)
    assert torch.equal(a.inputs.images, b.inputs.images)
    assert torch.equal(a.inputs.drags.end, b.inputs.drags.end)
    assert not torch.equal(a.inputs.images, c.inputs.images)


def test_scenarios_respect_limits_and_move_one_joint() -> None:
    tables = JointTables.from_objects([cabinet()])
    config = PUBLISHED_SCENARIOS
    s = sample_scenarios(tables, torch.zeros(500, dtype=torch.long), config, torch.Generator().manual_seed(0))
    chosen = tables[s.object]
    for q in (s.q_source, s.q_target):
        assert (q >= chosen.lower - 1e-6).all()
        assert (q <= chosen.upper + 1e-6).all()
    change = (s.q_target - s.q_source).abs()
    assert ((change > 0).sum(-1) == 1).all()
    span = (chosen.upper - chosen.lower).gather(1, s.part[:, None])
    assert (change.gather(1, s.part[:, None]) >= (config.smallest_change - 1e-4) * span).all()
    assert 0.3 < (s.part == 1).float().mean() < 0.7


def test_some_joints_move_only_a_little() -> None:
    tables = JointTables.from_objects([cabinet()])
    config = dataclasses.replace(PUBLISHED_SCENARIOS, small_probability=0.3, smallest_change=0.4)
    s = sample_scenarios(tables, torch.zeros(4000, dtype=torch.long), config, torch.Generator().manual_seed(0))
    chosen, part = tables[s.object], s.part[:, None]
    span = (chosen.upper - chosen.lower).gather(1, part)
    change = (s.q_target - s.q_source).gather(1, part).abs() / span
    small = change < 0.35
    assert abs(float(small.float().mean()) - 0.3) < 0.03
    assert (change[~small] >= 0.4 - 1e-4).all()
    least, most = config.small_change
    assert change.min() >= least / 2 - 1e-6
    assert change[small].max() <= most + 1e-6
    assert (change < 0.1).float().mean() > 0.1
    for q in (s.q_source, s.q_target):
        assert (q >= chosen.lower - 1e-6).all()
        assert (q <= chosen.upper + 1e-6).all()


def test_three_lights_of_ten_are_the_references() -> None:
    lights = training_lights(2000, torch.Generator().manual_seed(0))
    reference = Lights.reference(1)
    usual = (lights.position == reference.position).all(-1)
    assert abs(float(usual.float().mean()) - 0.3) < 0.04
    for name in lights.__dataclass_fields__:
        same = (getattr(lights, name) == getattr(reference, name)).reshape(2000, -1).all(-1)
        assert same[usual].all()
        assert name in ("mirror", "occlusion", "lamp_color") or not same[~usual].any()


def test_framing_maps_between_object_and_canonical_frames() -> None:
    g = torch.Generator().manual_seed(0)
    crops = sample_photographs(5, 64, TRAINING_SCENARIOS, g)
    framing = framing_of_crops(crops, torch.zeros(5, 3))
    points = torch.randn(5, 7, 3, generator=g)
    T = screw_motion(
        torch.nn.functional.normalize(torch.randn(5, 3, generator=g), dim=-1),
        torch.randn(5, 3, generator=g),
        torch.randn(5, generator=g),
        torch.tensor([True, False, False, True, False]),
    )
    one = framing.points_to_canonical(transform_points(T, points))
    two = transform_points(framing.motion_to_canonical(T), framing.points_to_canonical(points))
    assert torch.allclose(one, two, atol=1e-5)
    first = first_crops(crops.fovy_rad, 64)
    cameras, _ = with_absent_views(sample_turned_cameras(framing, first, 3, g))
    in_canonical, _ = cameras.project(framing.points_to_canonical(points)[:, None].expand(5, 4, 7, 3))
    in_object, _ = framing.cameras_to_object(cameras).project(points[:, None].expand(5, 4, 7, 3))
    assert torch.allclose(in_canonical, in_object, atol=1e-2)
    back = framing.cameras_to_canonical(framing.cameras_to_object(cameras))
    assert torch.allclose(back.T_world_camera, cameras.T_world_camera, atol=1e-5)
    own = framing.cameras_to_object(first)
    assert torch.allclose(own.T_world_camera[:, 0], crops.T_world_camera, atol=1e-5)


def test_canonical_frame_of_a_front_view() -> None:
    """Seen from the front, object +y is canonical +x (right), object +z is +y (up), object +x comes towards us."""
    zero, one = torch.zeros(1), torch.ones(1)
    framing = frame_from(zero, zero, torch.zeros(1, 3), one)
    mapped = framing.points_to_canonical(torch.eye(3)[None])
    assert torch.allclose(mapped[0], torch.tensor([[0.0, 0, 1], [1, 0, 0], [0, 1, 0]]), atol=1e-6)


def test_the_published_samples_are_drawn_as_they_always_were() -> None:
    p = PUBLISHED_SCENARIOS
    states = p.closed_probability, p.smallest_change, p.small_probability, p.small_change
    assert states == (0.45, 0.15, 0.0, (0.04, 0.3))
    assert SampleConfig().scenario is TRAINING_SCENARIOS


def drawn(seed: int, count: int = 6, **changes) -> Samples:
    one = [cabinet()]
    scene, tables, table = MeshScene.from_objects(one), JointTables.from_objects(one), material_table(one)
    objects = torch.zeros(count, dtype=torch.long)
    config = SampleConfig(image_size_px=64, **changes)
    return make_samples(scene, tables, objects, table[objects], config, torch.Generator().manual_seed(seed))


def test_objects_fill_the_frame_whatever_the_lens() -> None:
    """The longer side of the mask's box fills nine tenths; what is told is the nominal camera without ``augment``."""
    samples = drawn(0, augment=False)
    boxes = mask_boxes(samples.inputs.images[:, 0, 3] > 0.5)
    longer = (boxes[:, 2:] - boxes[:, :2]).amax(1)
    assert (longer - MASK_BOX_FILL).abs().max() < 0.06
    assert torch.allclose(samples.inputs.cameras.fovy_rad[:, 0], torch.tensor(INPUT_FOVY_RAD))


def test_several_views_are_told_exactly_and_each_fills_its_frame() -> None:
    samples = drawn(1, views=3, augment=False)
    boxes = mask_boxes(samples.inputs.images[:, :3, 3] > 0.5)
    assert ((boxes[..., 2:] - boxes[..., :2]).amax(-1) - MASK_BOX_FILL).abs().max() < 0.1
    t, cameras = samples.targets, samples.inputs.cameras.resized(32)
    pixels, _ = cameras.project(rearrange(t.point, "b v h w c -> b v (h w) c"))
    y, x = torch.meshgrid(torch.arange(32) + 0.5, torch.arange(32) + 0.5, indexing="ij")
    on = rearrange(t.surface, "b v h w -> b v (h w)")[:, :3]
    grid = torch.stack([x, y], -1).reshape(-1, 2).expand_as(pixels)
    assert torch.allclose(pixels[:, :3][on], grid[:, :3][on], atol=5e-3)


def test_layers_are_what_stays_and_the_part_and_make_up_what_is_seen() -> None:
    samples = drawn(2, augment=False)
    still, part, seen = samples.still, samples.part, samples.targets
    assert still is not None
    assert part is not None
    assert not still.moving.any()
    assert torch.equal(part.moving, part.surface)
    assert torch.equal(still.surface | part.surface, seen.surface)
    front = torch.minimum(
        torch.where(still.surface, still.distance, torch.inf), torch.where(part.surface, part.distance, torch.inf)
    )
    assert torch.allclose(front[seen.surface], seen.distance[seen.surface], atol=1e-4)
    covered = part.surface & still.surface & seen.moving
    assert (still.distance[covered] >= part.distance[covered] - 1e-4).all()


def test_rough_cut_outs_never_change_the_targets() -> None:
    plain, rough = drawn(3, rough=0.0), drawn(3, rough=1.0)
    assert not torch.equal(plain.inputs.images[:, :, 3], rough.inputs.images[:, :, 3])
    assert torch.equal(plain.targets.point, rough.targets.point)
    assert torch.equal(plain.targets.moving, rough.targets.moving)
