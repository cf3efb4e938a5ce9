"""Mirrored lamps, labels and occlusion against geometry; how often training draws them."""

import dataclasses

import numpy as np
import pytest
import torch

pytest.importorskip("warp", reason="samples are rendered with warp-lang (extra `data`)")

from support.boxes import cabinet

from partrm.geometry.cameras import Cameras, orbit_poses
from partrm.objects.articulated_object import ArticulatedObject, Part
from partrm.objects.materials import Material
from partrm.rendering.meshes import Decals, Instances, Lights, MeshScene, material_table, render_meshes, trace_surfaces
from partrm.synthesis.lighting import LightingConfig, sample_decals
from partrm.synthesis.posed_scenes import training_lights
from partrm.synthesis.scenarios import JointTables


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
    poses = orbit_poses(torch.zeros(1, 1), torch.zeros(1, 1))
    poses[..., :3, 3] *= 2.0 / poses[..., :3, 3].norm(dim=-1, keepdim=True)
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


def test_lights_are_drawn_as_often_as_the_config_says() -> None:
    config = LightingConfig(reference_share=0.25, mirror_share=0.6, occlusion_share=0.5, dark_lamp_share=0.1)
    lights = training_lights(4000, torch.Generator().manual_seed(0), config)
    reference = Lights.reference(4000)
    usual = (lights.position == reference.position).all(-1)
    assert abs(float(usual.float().mean()) - 0.25) < 0.03
    for name, values in lights.leaves().items():
        assert torch.equal(values[usual], reference.leaves()[name][usual]), name
    drawn = lights[~usual]
    assert abs(float((drawn.mirror > 0).float().mean()) - 0.6) < 0.03
    assert abs(float((drawn.occlusion > 0).float().mean()) - 0.5) < 0.03
    assert abs(float((drawn.lamp_color == 0).all(-1).float().mean()) - 0.1) < 0.03
    assert drawn.mirror.max() <= 1
    assert drawn.occlusion.max() <= config.occlusion_reach


def test_labels_lie_on_parts_that_are_there_and_as_often_as_told() -> None:
    objects = [cabinet()]
    scene, tables = MeshScene.from_objects(objects), JointTables.from_objects(objects)
    which = torch.zeros(2000, dtype=torch.long)
    instances = Instances.of_objects(scene, which, tables.poses(tables.lower)[which], material_table(objects)[which])
    instances = dataclasses.replace(instances, part=instances.part.clone())
    instances.part[:, -1] = -1
    decals = sample_decals(scene, instances, LightingConfig(decal_share=0.4), torch.Generator().manual_seed(1))
    on = decals.slot >= 0
    assert abs(float(on.float().mean()) - 0.4) < 0.03
    assert set(decals.slot[on].tolist()) == set(range(len(objects[0].parts) - 1))
    assert (decals.half > 0).all()
    sphere = scene.part_sphere[decals.slot.clamp(min=0).long()]
    assert ((decals.centre - sphere[..., :3]).abs() <= sphere[..., 3:] / 2 + 1e-6)[on].all()
