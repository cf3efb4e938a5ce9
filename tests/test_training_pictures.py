"""What training does to pictures: the truth stays, sizes stay, files are files, and all draws lie in range."""

import dataclasses
import warnings
from typing import Any

import numpy as np
import pytest
import torch

pytest.importorskip("warp", reason="samples are rendered with warp-lang (extra `data`)")

from boxes import cabinet

from partrm.articulation.materials import Material, Role
from partrm.articulation.objects import ArticulatedObject, Part
from partrm.articulation.procedural.home_materials import sample_home_materials, some_home_materials
from partrm.articulation.procedural.materials import sample_materials
from partrm.cameras import INPUT_FOVY_RAD, Cameras, orbit_poses
from partrm.data.cutouts import CutoutConfig, Hidden, cut_out, opened
from partrm.data.effects import EffectConfig, affected, blurred, compressed
from partrm.data.online import SampleConfig, make_samples
from partrm.data.samples import Samples
from partrm.data.scenarios import Framing, JointTables, ScenarioConfig, first_view
from partrm.data.shapes import Shapes, pixel_centres
from partrm.data.viewpoints import (
    FILLED,
    ViewpointConfig,
    box_of,
    first_cameras,
    fitted,
    photographed,
    projected,
    sample_lenses,
    sample_viewing_framing,
    with_first_lens,
)
from partrm.rendering.meshes import Decals, Instances, Lights, MeshScene, material_table, render_meshes, trace_surfaces

PLAIN_VIEW = ViewpointConfig(cut_share=0.0, hidden_share=0.0, leak_share=0.0, jitter=0.0)


def made(seed: int = 0, batch: int = 6, **changes) -> Samples:
    objects = [cabinet()]
    scene, tables = MeshScene.from_objects(objects), JointTables.from_objects(objects)
    which = torch.zeros(2 * batch, dtype=torch.long)
    settings: dict[str, Any] = {"image_size_px": 64} | changes
    config = SampleConfig(**settings)
    generator = torch.Generator().manual_seed(seed)
    return make_samples(scene, tables, which, material_table(objects)[which], config, generator, batch)


def tensors_of(value: object) -> list[torch.Tensor]:
    if isinstance(value, torch.Tensor):
        return [value]
    if not dataclasses.is_dataclass(value):
        return []
    return [t for f in dataclasses.fields(value) for t in tensors_of(getattr(value, f.name))]


def cloud(b: int, generator: torch.Generator) -> tuple[Framing, torch.Tensor, torch.Tensor]:
    """Points of boxes, b objects, and directions to see them from."""
    points = (torch.rand(b, 400, 3, generator=generator) - 0.5) * torch.tensor([0.4, 0.6, 0.7])
    return sample_viewing_framing(b, ViewpointConfig(), generator), points, torch.ones(b, 400, dtype=torch.bool)


def test_without_augmentation_nothing_of_it_matters() -> None:
    """Validation samples are the same whatever the ranges are."""
    wild: dict[str, Any] = {
        "viewpoint": ViewpointConfig(cut_share=1.0, hidden_share=1.0, leak_share=1.0),
        "cutout": CutoutConfig(share=1.0),
        "effects": EffectConfig(jpeg_share=1.0, noise_share=1.0),
        "home_share": 1.0,
    }
    for usual, other in zip(tensors_of(made(augment=False)), tensors_of(made(augment=False, **wild)), strict=True):
        assert torch.equal(usual, other)


def test_errors_of_cutouts_and_files_leave_the_truth_untouched() -> None:
    """All that is random after the scene was drawn changes inputs alone; hidden surfaces stay in the targets."""
    calm = {"cutout": CutoutConfig(share=0.0), "effects": EffectConfig(jpeg_share=0.0)}
    gross = {"cutout": CutoutConfig(share=1.0, holes_at=(-1.0, 0.0)), "effects": EffectConfig(jpeg_share=1.0)}
    view = ViewpointConfig(cut_share=1.0, hidden_share=1.0)
    one, two = (made(viewpoint=view, scenario=ScenarioConfig(outline_probability=1.0), **c) for c in (calm, gross))
    assert not torch.equal(one.inputs.images, two.inputs.images)
    for first, second in zip(tensors_of(one.targets), tensors_of(two.targets), strict=True):
        assert torch.equal(first, second)
    hidden = (one.inputs.images[:, 0, 3, ::2, ::2] == 0) & one.targets.surface[:, 0]
    assert hidden.float().mean() > 0.02


def test_lenses_keep_the_size_of_what_lies_at_the_origin() -> None:
    g = torch.Generator().manual_seed(0)
    told = first_view(200, 64, "cpu")
    fovy = sample_lenses(200, ViewpointConfig(), g)
    assert fovy.rad2deg().min() >= 12 - 1e-3
    assert fovy.rad2deg().max() <= 60 + 1e-3
    taken = with_first_lens(told, fovy)
    flat = torch.tensor([[0.3, 0.2, 0.0], [-0.1, 0.35, 0.0]]).expand(200, 2, 3)
    torch.testing.assert_close(taken[:, 0].project(flat)[0], told[:, 0].project(flat)[0], atol=1e-2, rtol=0)
    torch.testing.assert_close(first_cameras(200, 64, fovy).T_world_camera, taken.T_world_camera)


def test_told_and_untold_lenses_show_objects_of_the_same_size() -> None:
    for known in (0.0, 1.0):
        samples = made(batch=8, viewpoint=dataclasses.replace(PLAIN_VIEW, known_share=known), image_size_px=128,
                       cutout=CutoutConfig(share=0.0))  # fmt: skip
        shown = samples.inputs.images[:, 0, 3] > 0.5
        longer = torch.maximum(shown.any(1).sum(1), shown.any(2).sum(1)) / 128
        assert (longer - FILLED).abs().max() < 0.07, "of the outline at 96 pixels"
        assert samples.inputs.lens_known.tolist() == [[known > 0, False, False, False]] * 8
        nominal = samples.inputs.cameras.fovy_rad[:, 0] == torch.tensor(INPUT_FOVY_RAD)
        assert bool(nominal.all()) == (known == 0.0)


def test_told_cameras_see_the_true_points_in_their_pixels() -> None:
    samples = made(viewpoint=dataclasses.replace(PLAIN_VIEW, known_share=1.0))
    t, cameras = samples.targets, samples.inputs.cameras.resized(32)
    pixels, _ = cameras[:, 0].project(t.point[:, 0].flatten(1, 2))
    centres = (pixel_centres(32, "cpu") * 32).expand_as(pixels)
    on = t.surface[:, 0].flatten(1)
    torch.testing.assert_close(pixels[on], centres[on], atol=5e-3, rtol=0)


def test_fitted_framings_fill_the_image_and_are_the_cameras_own() -> None:
    g = torch.Generator().manual_seed(1)
    framing, points, seen = cloud(50, g)
    fovy = sample_lenses(50, ViewpointConfig(), g)
    framing = fitted(framing, fovy, points, seen)
    flat = projected(framing, fovy, points)
    low, high = box_of(flat, seen)
    assert ((high - low).amax(-1) - FILLED).abs().max() < 0.02
    assert ((high + low) / 2 - 0.5).abs().max() < 0.02
    pixels, _ = first_cameras(50, 100, fovy)[:, 0].project(framing.points_to_canonical(points))
    torch.testing.assert_close(pixels / 100, flat, atol=1e-4, rtol=0)


def test_crops_zoom_with_the_shapes_in_their_places() -> None:
    """Which points the shapes hide is the same before and after framing by what is left."""
    g = torch.Generator().manual_seed(2)
    framing, points, seen = cloud(300, g)
    fovy = sample_lenses(300, ViewpointConfig(), g)
    config = ViewpointConfig(cut_share=1.0, hidden_share=0.0, leak_share=0.0, jitter=0.0)
    framing, view = photographed(framing, fovy, points, seen, config, g)
    flat = projected(framing, view.fovy_rad, points)
    left = ~view.hiding.only(view.erased()).contain(flat).any(1)
    low, high = box_of(flat, left)
    assert ((high - low).amax(-1) - FILLED).abs().median() < 0.03
    assert 0.01 < (~left).float().mean() < 0.5
    assert view.fovy_rad.max() <= fovy.max() + 0.05, "what a crop loses makes the lens longer"


def test_shapes_against_brute_force_and_zooms() -> None:
    g = torch.Generator().manual_seed(3)
    turn = torch.rand(4, 3, generator=g) * 3
    shapes = Shapes(torch.rand(4, 3, 2, generator=g), torch.rand(4, 3, 2, generator=g) * 0.3 + 0.05, turn,
                    torch.rand(4, 3, generator=g) < 0.5, torch.rand(4, 3, generator=g) < 0.8)  # fmt: skip
    points = torch.rand(4, 50, 2, generator=g)
    inside = shapes.contain(points)
    for b in range(4):
        for n in range(3):
            c, s = float(turn[b, n].cos()), float(turn[b, n].sin())
            for p in range(50):
                x, y = (points[b, p] - shapes.centre[b, n]).tolist()
                u, v = (c * x + s * y) / float(shapes.half[b, n, 0]), (c * y - s * x) / float(shapes.half[b, n, 1])
                held = u * u + v * v < 1 if shapes.round[b, n] else abs(u) < 1 and abs(v) < 1
                assert bool(inside[b, n, p]) == (held and bool(shapes.on[b, n]))
    low, high = shapes.bounds()
    held = points[:, None].expand(4, 3, 50, 2)[inside]
    wide = [x[:, :, None].expand(4, 3, 50, 2)[inside] for x in (low, high)]
    assert (held >= wide[0]).all()
    assert (held <= wide[1]).all()
    middle, k = torch.rand(4, 2, generator=g), torch.rand(4, generator=g) + 0.5
    assert torch.equal(shapes.zoomed(middle, k).contain((points - middle[:, None]) * k[:, None, None] + 0.5), inside)


def test_jpeg_of_quality_100_is_nearly_the_picture_and_of_10_is_not() -> None:
    g = torch.Generator().manual_seed(4)
    rgb = blurred(torch.rand(2, 3, 32, 32, generator=g), torch.full((2,), 1.0))
    fine, coarse = (compressed(rgb, torch.full((2,), q)) for q in (100.0, 10.0))
    assert (fine - rgb).abs().max() < 0.02
    assert 0.01 < (coarse - rgb).abs().mean() < 0.1
    flat = torch.full((1, 3, 16, 16), 0.5)
    assert (compressed(flat, torch.tensor([30.0])) - flat).abs().max() < 0.03


def test_blur_keeps_the_mean_and_a_sigma_of_zero_keeps_all() -> None:
    x = torch.zeros(2, 3, 33, 33)
    x[:, :, 16, 16] = 1
    y = blurred(x, torch.tensor([0.0, 1.2]))
    torch.testing.assert_close(y[0], x[0])
    assert y[1, 0].sum().item() == pytest.approx(1.0, abs=1e-4)
    at = torch.arange(33.0) - 16
    spread = (y[1, 0].sum(0) * at**2).sum().sqrt()
    assert spread.item() == pytest.approx(1.2, abs=0.02)


def test_opening_takes_thin_things_and_leaves_thick_ones() -> None:
    alpha = torch.zeros(1, 1, 40, 40)
    alpha[..., 5:25, 5:25] = 1
    solid = alpha.clone()
    alpha[..., 25:38, 10:13] = 1
    assert torch.equal(opened(alpha, 2), solid)


def test_exact_cutouts_keep_colours_and_opacity() -> None:
    g = torch.Generator().manual_seed(5)
    rgba = torch.rand(3, 4, 64, 64, generator=g)
    rgba[:, 3] = (rgba[:, 3] - 0.3).clamp(0, 1)
    photo, alpha = cut_out(rgba, Hidden.nothing(3, 64, rgba.device), CutoutConfig(share=0.0), g)
    assert torch.equal(alpha, rgba[:, 3:])
    shown = (rgba[:, 3:] > 0).expand(-1, 3, -1, -1)
    assert torch.equal(photo[shown], rgba[:, :3][shown])


def test_two_hundred_draws_lie_in_range() -> None:
    g = torch.Generator().manual_seed(6)
    rgb = torch.rand(200, 1, 3, 32, 32, generator=g)
    out = affected(rgb, EffectConfig(), g)
    assert out.isfinite().all()
    assert out.min() >= 0
    assert out.max() <= 1
    samples = made(batch=200, image_size_px=32)
    assert all(t.isfinite().all() for t in tensors_of(samples))
    images = samples.inputs.images
    assert images.min() >= 0
    assert images.max() <= 1
    assert (images[samples.valid, 0, 3].flatten(1).amax(1) > 0).all()


def test_home_materials_are_in_range_and_mostly_the_bodys() -> None:
    roles = torch.tensor([[Role.BODY, Role.MOVING, Role.MOVING, Role.HANDLE, Role.GLASS, -1]] * 2000)
    table = sample_home_materials(roles, torch.Generator().manual_seed(7))
    for name in ("color", "color2", "gloss"):
        values = getattr(table, name)
        assert values.min() >= 0
        assert values.max() <= 1
    same = (table.color[:, 0] == table.color[:, 1]).all(-1)
    assert 0.66 < same.float().mean() < 0.76
    assert table.color[:, 4].mean() < 0.15, "panes are dark"
    usual = sample_materials(roles, torch.Generator().manual_seed(8))
    some = some_home_materials(usual, roles, 0.5, torch.Generator().manual_seed(9))
    kept = (some.color == usual.color).all(-1).all(-1)
    assert 0.45 < kept.float().mean() < 0.55


@pytest.mark.gpu
def test_pictures_are_made_without_waiting_for_the_device() -> None:
    """Augmented samples wait no more often than plain ones, whose few constants are copied to the device."""
    objects = [cabinet()]
    scene = MeshScene.from_objects(objects, "cuda")
    tables = JointTables.from_objects(objects).to("cuda")
    which = torch.zeros(16, dtype=torch.long, device="cuda")
    materials = material_table(objects).to("cuda")[which]
    generator = torch.Generator("cuda").manual_seed(0)
    waits = []
    for augment in (False, True):
        config = SampleConfig(64, augment=augment)
        make_samples(scene, tables, which, materials, config, generator, 8)
        torch.cuda.set_sync_debug_mode("warn")
        try:
            with warnings.catch_warnings(record=True) as caught:
                warnings.simplefilter("always")
                make_samples(scene, tables, which, materials, config, generator, 8)
        finally:
            torch.cuda.set_sync_debug_mode("default")
        waits.append(sum("synchronizing" in str(w.message) for w in caught))
    assert waits[1] <= waits[0]


def plate() -> tuple[MeshScene, Instances, Cameras]:
    """A glossy dark sheet in x = 0, seen from 2 before it."""
    corners = np.array([(0, -1, -1), (0, 1, -1), (0, 1, 1), (0, -1, 1)], dtype=float)
    faces = np.array([(0, 1, 2), (0, 2, 3)])
    part = Part("sheet", corners, faces, np.zeros(2, dtype=int), None, None)
    material = Material("glass", (0.05, 0.05, 0.05), gloss=1.0)
    sheet = ArticulatedObject("sheet", "Test", (part,), (material,))
    scene = MeshScene.from_objects([sheet])
    first = torch.zeros(1, dtype=torch.long)
    instances = Instances.of_objects(scene, first, torch.eye(4)[None, None], material_table([sheet])[first])
    poses = orbit_poses(torch.zeros(1, 1), torch.zeros(1, 1), 2.0)
    return scene, instances, Cameras(poses, torch.full((1, 1), 0.8), 48, 48)


def test_a_lamp_shines_back_where_its_ray_is_mirrored() -> None:
    scene, instances, camera = plate()
    lamp = torch.nn.functional.normalize(torch.tensor([1.0, 0.2, 0.1]), dim=0)
    lights = dataclasses.replace(
        Lights.reference(1),
        intensity=torch.zeros(1),
        lamp=lamp.expand(1, 3, 3),
        lamp_color=torch.ones(1, 3, 3),
        lamp_sharpness=torch.full((1, 3), 200.0),
    )
    matt = render_meshes(scene, instances, camera, lights)
    bright = render_meshes(scene, instances, camera, dataclasses.replace(lights, mirror=torch.ones(1)))
    without = dataclasses.replace(lights, mirror=torch.ones(1), lamp_color=torch.zeros(1, 3, 3))
    glare = (bright - render_meshes(scene, instances, camera, without))[0, 0, 0]
    assert torch.equal(matt, render_meshes(scene, instances, camera, dataclasses.replace(lights, lamp=-lights.lamp)))
    _, rays = camera.rays()
    mirrored = rays[0, 0] * torch.tensor([-1.0, 1.0, 1.0])
    cosine = mirrored @ lamp
    assert cosine.flatten()[glare.argmax()] > cosine.max() - 2e-3
    assert glare.max() > 0.05
    assert glare[cosine < 0.9].max() < 0.02


def test_labels_colour_what_lies_within_them_and_nothing_else() -> None:
    scene, instances, camera = plate()
    centre, half = torch.tensor([0.0, 0.3, -0.2]), torch.tensor([1.0, 0.2, 0.1])
    red = torch.tensor([1.0, 0.0, 0.0]).expand(1, 1, 3)
    label = Decals(torch.zeros(1, 1, dtype=torch.int32), centre.expand(1, 1, 3), half.expand(1, 1, 3), red, red)
    lights = Lights.reference(1)
    plain, labelled = (
        render_meshes(scene, i, camera, lights, samples_per_axis=1)[0, 0]
        for i in (instances, dataclasses.replace(instances, decals=label))
    )
    inside = ((trace_surfaces(scene, instances, camera).point_part[0, 0] - centre).abs() < half).all(-1)
    assert 20 < inside.sum() < 1000
    assert torch.equal((labelled - plain).abs().amax(0) > 1e-3, inside)


def test_occlusion_darkens_corners_and_leaves_what_is_alone() -> None:
    scene, instances, camera = plate()
    near = dataclasses.replace(Lights.reference(1), occlusion=torch.full((1,), 0.1))
    alone = [render_meshes(scene, instances, camera, lights) for lights in (Lights.reference(1), near)]
    assert torch.equal(*alone)
    box = MeshScene.from_objects([cabinet()])
    tables, first = JointTables.from_objects([cabinet()]), torch.zeros(1, dtype=torch.long)
    opened_up = Instances.of_objects(box, first, tables.poses(tables.upper), material_table([cabinet()])[first])
    shown = [render_meshes(box, opened_up, camera, lights)[0, 0, :3] for lights in (Lights.reference(1), near)]
    assert (shown[1] <= shown[0] + 1e-6).all()
    assert 0.005 < (shown[1] < shown[0] - 0.01).float().mean() < 0.5
