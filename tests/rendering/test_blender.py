"""Blender's Cycles against the ray caster: the same cameras, pixels, parts, textures and light."""

from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace
from importlib.util import find_spec
from multiprocessing import get_context

import numpy as np
import pytest
import torch
from support.boxes import cabinet

pytest.importorskip("warp", reason="the ray caster is the oracle (extra `data`)")

from partrm.datasets.object_writer import BuildConfig, build_cameras
from partrm.geometry.cameras import Cameras
from partrm.objects.articulated_object import ArticulatedObject
from partrm.objects.materials import Pattern
from partrm.rendering.blender import render_object, render_part_ids, require_blender
from partrm.rendering.meshes import (
    Instances,
    Lights,
    MeshScene,
    RendererMissingError,
    material_table,
    render_meshes,
    trace_surfaces,
)

SIZE = 256


needs_blender = pytest.mark.skipif(
    find_spec("bpy") is None, reason="Blender is an extra: pip install 'partrm[blender]' (a wheel fits one Python)"
)


@pytest.fixture(scope="module")
def blender():
    """Calls a function in a process of its own: ``bpy`` may hang when the interpreter that loaded it ends."""
    with ProcessPoolExecutor(1, get_context("spawn")) as pool:
        yield lambda function, *args, **kwargs: pool.submit(function, *args, **kwargs).result()


def test_without_blender_the_extra_is_named(monkeypatch):
    monkeypatch.setattr("partrm.rendering.blender.find_spec", lambda name: None)
    with pytest.raises(RendererMissingError, match=r"partrm\[blender\]"):
        require_blender()


def half_open(obj: ArticulatedObject) -> np.ndarray:
    return obj.T_object_part(obj.joint_limits.mean(1))


def cameras() -> Cameras:
    return build_cameras(BuildConfig(size_px=SIZE), "x")[:2]


def warp_scene(obj: ArticulatedObject) -> tuple[MeshScene, Instances, Cameras]:
    scene = MeshScene.from_objects([obj])
    poses = torch.from_numpy(half_open(obj)).float()[None]
    instances = Instances.of_objects(scene, torch.zeros(1, dtype=torch.long), poses, material_table([obj]))
    views = cameras()
    return scene, instances, Cameras(views.T_world_camera[None], views.fovy_rad[None], SIZE, SIZE)


def by_warp(obj: ArticulatedObject, lights: Lights) -> torch.Tensor:
    return render_meshes(*warp_scene(obj), lights, samples_per_axis=4)[0]


def neighbourhood(mask: torch.Tensor) -> torch.Tensor:
    """The mask and one pixel around it."""
    return torch.nn.functional.max_pool2d(mask.float()[:, None], 3, 1, 1)[:, 0] > 0


@needs_blender
def test_silhouettes_and_part_boundaries_agree(blender):
    obj = cabinet()
    alpha = blender(render_object, obj, half_open(obj), cameras(), Lights.reference(1), samples=64)[:, 3]
    wanted = by_warp(obj, Lights.reference(1))[:, 3]
    both, either = ((alpha > 0.5) & (wanted > 0.5)).sum((1, 2)), ((alpha > 0.5) | (wanted > 0.5)).sum((1, 2))
    assert float((both / either).min()) >= 0.995
    assert float((alpha - wanted).abs().mean()) < 2e-3
    ids, part = blender(render_part_ids, obj, half_open(obj), cameras()), trace_surfaces(*warp_scene(obj)).part[0]
    assert set(ids.unique().tolist()) == {-1, 0, 1, 2}
    for index in range(-1, 3):
        assert not ((ids == index) & ~neighbourhood(part == index)).any()
        assert not ((part == index) & ~neighbourhood(ids == index)).any()
    silhouette = ((ids >= 0) & (part >= 0)).sum((1, 2)) / ((ids >= 0) | (part >= 0)).sum((1, 2))
    assert float(silhouette.min()) >= 0.995


@needs_blender
def test_light_and_solid_patterns_agree(blender):
    obj = cabinet()
    bands = [
        replace(m, pattern=p, color2=(0.1, 0.1, 0.1), frequency=4.0, direction=(0.0, 0.0, 1.0))
        for m, p in zip(obj.materials, (Pattern.PLAIN, Pattern.STRIPES, Pattern.CHECKER), strict=True)
    ]
    obj = replace(obj, materials=tuple(bands))
    lights = replace(Lights.reference(1), sky_contrast=torch.tensor([0.4]))
    image, wanted = blender(render_object, obj, half_open(obj), cameras(), lights, samples=32), by_warp(obj, lights)
    part = trace_surfaces(*warp_scene(obj)).part[0]
    for index in range(1, 3):
        # Fronts in the open: little light comes from elsewhere.
        inside = ~neighbourhood(part != index)
        a, b = (x[:, :3].movedim(1, -1)[inside].mean(-1) for x in (image, wanted))
        assert inside.sum() > 1000
        assert float(torch.corrcoef(torch.stack([a, b]))[0, 1]) > 0.9, index
        assert float((a - b).mean().abs()) < 0.06


@needs_blender
def test_textures_lie_the_same_way_up(blender):
    obj = cabinet()
    door = obj.parts[1]
    corners = door.vertices[door.faces]
    low, span = door.vertices.min(0), np.ptp(door.vertices, axis=0)
    uv = ((corners - low) / span)[..., [1, 2]]
    picture = np.zeros((4, 4, 3), np.uint8)
    picture[0], picture[:, 0], picture[3, 3] = (255, 0, 0), (0, 255, 0), (0, 0, 255)
    painted = replace(obj.materials[1], color=(1.0, 1.0, 1.0), texture=picture)
    obj = replace(
        obj,
        parts=(obj.parts[0], replace(door, corner_uv=uv), obj.parts[2]),
        materials=(obj.materials[0], painted, obj.materials[2]),
    )
    image = blender(render_object, obj, half_open(obj), cameras(), Lights.reference(1), samples=16)
    part, wanted = trace_surfaces(*warp_scene(obj)).part[0], by_warp(obj, Lights.reference(1))
    inside = ~neighbourhood(part != 1)
    a, b = (x[:, :3].movedim(1, -1)[inside] for x in (image, wanted))
    assert (a.argmax(-1) == b.argmax(-1)).float().mean() > 0.9
    assert len(b.argmax(-1).unique()) == 3


@needs_blender
def test_the_same_call_gives_the_same_pixels(blender):
    obj = cabinet()
    first, again = (
        blender(render_object, obj, half_open(obj), cameras()[:1], Lights.reference(1), samples=4) for _ in "ab"
    )
    assert torch.equal(first, again)


@pytest.mark.gpu
@needs_blender
def test_the_card_gives_the_cpus_pixels(blender):
    obj = cabinet()
    calls = {"samples": 64}
    cpu = blender(render_object, obj, half_open(obj), cameras(), Lights.reference(1), **calls)
    card = blender(render_object, obj, half_open(obj), cameras(), Lights.reference(1), **calls, device="cuda:0")
    assert float((cpu - card).abs().mean()) < 5e-3


@needs_blender
def test_a_build_with_blender_is_sound_and_shows_what_the_ray_caster_shows(tmp_path):
    from partrm.datasets.build import build
    from partrm.datasets.check import check_dataset
    from partrm.datasets.partdrag4d import PartDrag4D
    from partrm.objects.partnet import save_partnet

    save_partnet(cabinet(), tmp_path / "7")
    small = BuildConfig(size_px=96, views=2, states=2, distractors=0, points=500, cycles_samples=16)
    for backend in ("warp", "blender"):
        build((str(tmp_path / "7"),), tmp_path / backend, replace(small, backend=backend))
        assert not [p for found in check_dataset(tmp_path / backend) for p in found.problems]
    roots = [tmp_path / backend for backend in ("warp", "blender")]
    for one, two in zip(*(PartDrag4D.from_file_list(r, r / "train_filelist.txt") for r in roots), strict=True):
        assert torch.equal(one.cameras.T_world_camera, two.cameras.T_world_camera)
        assert torch.equal(one.visible, two.visible)
        assert not torch.equal(one.images, two.images)
        assert float((one.images[:, 3] - two.images[:, 3]).abs().mean()) < 5e-3
