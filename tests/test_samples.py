"""Samples against independent oracles: projection, re-baked meshes, disk round trip, reproducibility."""

import dataclasses
import json

import numpy as np
import pytest
import torch
from einops import rearrange

pytest.importorskip("warp", reason="samples are rendered with warp-lang (extra `data`)")

from boxes import cabinet

from partrm.articulation.kinematics import JointType
from partrm.cameras import canonical_orbit
from partrm.data._sample_packing import pack, unpack
from partrm.data.lighting import training_lights
from partrm.data.online import SampleConfig, make_samples
from partrm.data.photographs import Tone, through_other_lenses
from partrm.data.samples import Samples, load_samples, save_samples
from partrm.data.scenarios import (
    JointTables,
    ScenarioConfig,
    frame_from,
    framed_by_outline,
    sample_framing,
    sample_input_cameras,
    sample_scenarios,
)
from partrm.data.viewpoints import ViewpointConfig
from partrm.images import frame_object
from partrm.rendering.meshes import Lights, MeshScene, material_table
from partrm.transforms import screw_motion, transform_points


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
    tone = Tone.random(50, generator)
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


def test_other_lenses_keep_size_and_change_perspective() -> None:
    told = canonical_orbit(4, 64)[torch.arange(4).expand(500, 4)]
    share, generator = 0.3, torch.Generator().manual_seed(0)
    taken = through_other_lenses(told, share, (26.0, 58.0), generator)
    same = taken.fovy_rad[:, 0] == told.fovy_rad[:, 0]
    assert abs(float(same.float().mean()) - (1 - share)) < 0.06
    assert torch.equal(taken.T_world_camera[:, 1:], told.T_world_camera[:, 1:])
    side = torch.tensor([[0.3, 0.2, 0.0], [0.3, 0.2, 0.4]]).expand(500, 2, 3)
    pixels, _ = taken[:, 0].project(side)
    usual, _ = told[:, 0].project(side)
    assert torch.allclose(pixels[:, 0], usual[:, 0], atol=1e-3), "in the plane of the origin nothing moves"
    assert ((pixels - usual)[~same, 1].norm(dim=-1) > 1e-3).all()


def test_samples_through_other_lenses_tell_the_true_surface() -> None:
    samples = made(views=1, drags=3, drag_noise=0.0, viewpoint=ViewpointConfig(known_share=0.0))
    t, cameras = samples.targets, samples.inputs.cameras.resized(32)
    on = t.surface[:, 0]
    distance = (t.point - cameras.positions[:, :, None, None]).norm(dim=-1)
    assert torch.allclose(distance[t.surface], t.distance[t.surface], atol=1e-5)
    pixels, _ = cameras[:, 0].project(rearrange(t.point[:, 0], "b h w c -> b (h w) c"))
    y, x = torch.meshgrid(torch.arange(32) + 0.5, torch.arange(32) + 0.5, indexing="ij")
    off = (rearrange(pixels, "b (h w) c -> b h w c", h=32) - torch.stack([x, y], -1)).norm(dim=-1)[on]
    assert 0.05 < off.mean() < 3, "the told camera sees the points a little beside their pixels"
    cell = (samples.inputs.drags.start * 32).floor().long().clamp(0, 31)
    for b in range(6):
        column, row = cell[b].unbind(-1)
        assert t.moving[b, 0, row, column].float().mean() > 0.5


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


@pytest.mark.parametrize("dtype", [torch.uint8, torch.bool, torch.int16, torch.float32, torch.float64])
def test_packing_is_lossless_and_refuses_broken_bytes(dtype) -> None:
    value = (torch.randn(3, 5, 7, generator=torch.Generator().manual_seed(0)) * 90).to(dtype)
    for axis in (-1, -2, 0):
        packed, how = pack(value, axis)
        assert torch.equal(unpack(packed, json.loads(json.dumps(how))), value)
    with pytest.raises(ValueError, match="broken"):
        unpack(packed[:-3], how)


def test_disk_round_trip(samples: Samples, tmp_path) -> None:
    path = tmp_path / "a.samples.safetensors"
    save_samples(samples, path)
    again = load_samples(path)
    for name in ("point", "displacement", "distance", "normal"):
        one, two = (getattr(s.targets, name) for s in (samples, again))
        assert torch.allclose(one, two, atol=1e-5), name
    for part in ("inputs", "targets", "joint", "views"):
        for field in dataclasses.fields(getattr(samples, part)):
            one, two = (getattr(getattr(s, part), field.name) for s in (samples, again))
            if isinstance(one, torch.Tensor):
                assert torch.allclose(one.float(), two.float(), atol=1 / 500), field.name
    assert again.inputs.cameras.width == 64
    path.write_bytes(b"nonsense")
    with pytest.raises(ValueError, match="not a file of samples"):
        load_samples(path)


def test_scenarios_respect_limits_and_move_one_joint() -> None:
    tables = JointTables.from_objects([cabinet()])
    config = ScenarioConfig()
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
    config = ScenarioConfig(small_probability=0.3, smallest_change=0.4)
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


def test_half_of_the_framings_are_canonical_and_the_others_shift_little_in_depth() -> None:
    config = ScenarioConfig()
    framing = sample_framing(4000, config, torch.Generator().manual_seed(0))
    exact = (framing.scale == 1) & (framing.target == 0).all(-1)
    assert abs(float(exact.float().mean()) - config.canonical_probability) < 0.03
    in_view = framing.directions_to_canonical(framing.target)[~exact]
    assert torch.allclose(in_view.std(0), torch.tensor([config.offset, config.offset, config.depth_offset]), rtol=0.1)
    assert framing.scale[~exact].min() < config.scale[0] + 0.01
    assert framing.scale[~exact].max() > config.scale[1] - 0.01


def test_outlines_frame_single_views_as_predict_frames_photos() -> None:
    config = ScenarioConfig(outline_probability=1.0)
    samples = made(views=1, batch=12, augment=False, scenario=config, image_size_px=128)
    for image in samples.inputs.images[:, 0]:
        framed = frame_object(image, 128, "filled")
        assert framed.scale == pytest.approx(1.0, abs=0.06), "of the size that the outline gives already"
        assert np.abs(framed.corner_px).max() < 0.06 * 128, "and at its place"
    others = made(views=1, batch=12, augment=False, scenario=ScenarioConfig(), image_size_px=128)
    assert max(abs(frame_object(image, 128, "filled").scale - 1) for image in others.inputs.images[:, 0]) > 0.1
    t, cameras = samples.targets, samples.inputs.cameras.resized(64)
    pixels, _ = cameras[:, 0].project(rearrange(t.point[:, 0], "b h w c -> b (h w) c"))
    y, x = torch.meshgrid(torch.arange(64) + 0.5, torch.arange(64) + 0.5, indexing="ij")
    on = rearrange(t.surface[:, 0], "b h w -> b (h w)")
    assert torch.allclose(pixels[on], torch.stack([x, y], -1).reshape(-1, 2).expand_as(pixels)[on], atol=4e-3)


def test_an_outline_that_is_not_seen_changes_nothing() -> None:
    framing = sample_framing(3, ScenarioConfig(), torch.Generator().manual_seed(0))
    same = framed_by_outline(framing, torch.zeros(3, 8, 8, dtype=torch.bool))
    torch.testing.assert_close(same.scale, framing.scale)
    torch.testing.assert_close(same.target, framing.target)


def test_fifteen_lights_of_a_hundred_are_the_references() -> None:
    lights = training_lights(2000, torch.Generator().manual_seed(0))
    reference = Lights.reference(1)
    usual = (lights.position == reference.position).all(-1)
    assert abs(float(usual.float().mean()) - 0.15) < 0.03
    for name in lights.__dataclass_fields__:
        same = (getattr(lights, name) == getattr(reference, name)).reshape(2000, -1).all(-1)
        assert same[usual].all()
        assert name in ("lamp_color", "mirror", "occlusion") or not same[~usual].any()


def test_framing_maps_between_object_and_canonical_frames() -> None:
    g = torch.Generator().manual_seed(0)
    framing = sample_framing(5, ScenarioConfig(), g)
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
    cameras, _ = sample_input_cameras(framing, 3, 64, g)
    in_canonical, _ = cameras.project(framing.points_to_canonical(points)[:, None].expand(5, 4, 7, 3))
    in_object, _ = framing.cameras_to_object(cameras).project(points[:, None].expand(5, 4, 7, 3))
    assert torch.allclose(in_canonical, in_object, atol=1e-2)


def test_canonical_frame_of_a_front_view() -> None:
    """Seen from the front, object +y is canonical +x (right), object +z is +y (up), object +x comes towards us."""
    zero, one = torch.zeros(1), torch.ones(1)
    framing = frame_from(zero, zero, torch.zeros(1, 3), one)
    mapped = framing.points_to_canonical(torch.eye(3)[None])
    assert torch.allclose(mapped[0], torch.tensor([[0.0, 0, 1], [1, 0, 0], [0, 1, 0]]), atol=1e-6)
