"""The ray caster's kernels for CPUs, a thread a tile, against their plain twins, a thread a pixel: the same bits."""

from dataclasses import dataclass, replace
from typing import no_type_check

import numpy as np
import pytest
import torch

from partrm.geometry.cameras import CANONICAL_FOVY_RAD, Cameras, orbit_poses
from partrm.objects.articulated_object import ArticulatedObject, Part
from partrm.objects.materials import Material, Pattern
from partrm.objects.textures import textured
from partrm.procedural import generate
from partrm.rendering import meshes
from partrm.rendering.meshes import LAMPS, Decals, Instances, Lights, MeshScene, material_table

wp = pytest.importorskip("warp")

from partrm.rendering._warp import backend  # noqa: E402
from partrm.rendering._warp.kernels import TILE_X, TILE_Y, Placement, View  # noqa: E402
from partrm.rendering._warp.shading import Geometry  # noqa: E402
from partrm.rendering._warp.tiles import _tile_slots  # noqa: E402

MAPS = ("depth", "normal", "part", "point_part", "point_world", "face")


@dataclass(frozen=True)
class Case:
    """A posed scene, batch of two."""

    scene: MeshScene
    instances: Instances
    lights: Lights


def case_of(obj, device="cpu"):
    """An object nearly closed, and nearly open in a coloured light that it stands around."""
    scene, table = MeshScene.from_objects([obj], device), material_table([obj]).to(device)
    limits = obj.joint_limits
    T = np.stack([obj.T_object_part(limits[:, 0] * (1 - a) + limits[:, 1] * a) for a in (0.05, 0.9)])
    which = torch.zeros(2, dtype=torch.long, device=device)
    instances = Instances.of_objects(scene, which, torch.from_numpy(T).float().to(device), table[which])
    lights = Lights.reference(2, device)
    near = torch.tensor([[5.0, 5.0, 5.0], [0.3, 0.1, 1.5]], device=device)
    colour = torch.tensor([[1.0, 1.0, 1.0], [1.0, 0.7, 0.3]], device=device)
    return Case(scene, instances, replace(lights, position=near, ambient=lights.ambient * colour))


def crowd():
    """40 boxes, each a part: more than a tile's bits; each two share most of their faces, all of them or four."""
    rng = np.random.default_rng(4)
    corners = np.array([(x, y, z) for x in (-1, 1) for y in (-1, 1) for z in (-1, 1)]) * 0.5
    quads = [(0, 1, 3, 2), (4, 6, 7, 5), (0, 4, 5, 1), (2, 3, 7, 6), (0, 2, 6, 4), (1, 5, 7, 3)]
    faces = np.array([t for a, b, c, d in quads for t in ((a, b, c), (a, c, d))])
    patterns = (Pattern.PLAIN, Pattern.WOOD, Pattern.CHECKER)
    materials = tuple(
        Material(f"m{i}", tuple(rng.uniform(size=3)), pattern=patterns[i % 3], gloss=0.3 * (i % 2)) for i in range(6)
    )
    centres, sizes = rng.uniform(-0.4, 0.4, (20, 3)), rng.uniform(0.05, 0.25, (20, 3))
    parts = []
    for i in range(40):
        height = 0.5 if i % 4 == 3 else 1.0
        vertices = corners * sizes[i // 2] * (1.0, 1.0, height) + centres[i // 2]
        parts.append(Part(f"box{i}", vertices, faces, np.full(len(faces), i % 6), None, None))
    return ArticulatedObject("crowd", "Test", tuple(parts), materials)


OBJECTS = {
    "cabinet": lambda: generate("mixed_cabinet", 3),
    "images": lambda: textured(generate("oven", 2), 5),
    "round": lambda: generate("kettle", 1),
    "crowd": crowd,
}


def orbit(count, device, *, fovy_rad=CANONICAL_FOVY_RAD, distance=2.4, width=61, height=45, elevation=0.4):
    """[2, count] cameras."""
    azimuth = torch.linspace(0.0, 5.0, 2 * count)
    poses = orbit_poses(azimuth, torch.full((2 * count,), elevation))
    poses[:, :3, 3] *= distance / 2.4
    fovy = torch.full((2, count), fovy_rad)
    return Cameras(poses.view(2, count, 4, 4), fovy, width, height).to(device)


VIEWS = {
    "usual": {},
    "wide": {"fovy_rad": 2.2, "distance": 0.9},
    "inside": {"fovy_rad": 1.5, "distance": 0.05},
    "close": {"fovy_rad": 0.08},
    "level": {"elevation": 0.0, "width": 33, "height": 33},  # the middle ray runs along axes
    "one pixel": {"width": 1, "height": 1},
}


def rendered(case, cameras, tiled, samples=2, shadows=True):
    decals = case.instances.decals or Decals.none(2, case.scene.device)
    look = backend.make_look(*(meshes._tensors(x) for x in (case.instances.materials, case.lights, decals)))
    place, view = meshes._placement(case.scene, case.instances), meshes._view(cameras)
    image = torch.full((len(view.focal_px), 4, cameras.height, cameras.width), -1.0, device=case.scene.device)
    backend.render(case.scene._warp, place, view, look, samples, shadows, image, tiled=tiled)
    return image


def traced(case, cameras, tiled):
    shape = (cameras.T_world_camera[..., 0, 0].numel(), cameras.height, cameras.width)
    depth = torch.full(shape, -1.0, device=case.scene.device)
    maps = {"depth": depth, "part": depth.int(), "face": depth.int()}
    maps |= {name: depth[..., None].repeat(1, 1, 1, 3) for name in ("normal", "point_part", "point_world")}
    place, view = meshes._placement(case.scene, case.instances), meshes._view(cameras)
    backend.trace(case.scene._warp, place, view, maps, tiled=tiled)
    return maps


def same_bits(a, b):
    return torch.equal(a.contiguous().view(torch.int32), b.contiguous().view(torch.int32))


@pytest.mark.parametrize("views", VIEWS)
@pytest.mark.parametrize("name", OBJECTS)
def test_a_thread_a_tile_draws_the_bits_of_a_thread_a_pixel(name, views):
    case, cameras = case_of(OBJECTS[name]()), orbit(2, "cpu", **VIEWS[views])
    for samples, shadows in ((1, True), (2, True), (3, False)):
        plain = rendered(case, cameras, False, samples, shadows)
        assert plain.min() >= 0
        assert same_bits(rendered(case, cameras, True, samples, shadows), plain)
    plain, tiled = traced(case, cameras, False), traced(case, cameras, True)
    for field in MAPS:
        assert same_bits(tiled[field], plain[field]), field
    if views == "usual":
        seen = {int(part) for part in plain["part"].unique()}
        assert -1 in seen
        assert len(seen) > (20 if name == "crowd" else 2)


def decorated(case):
    """The case with mirrored lamps, occlusion and a label on each of its first two parts."""
    g = torch.Generator().manual_seed(2)
    lights = replace(
        case.lights,
        lamp=torch.nn.functional.normalize(torch.randn(2, LAMPS, 3, generator=g), dim=-1),
        lamp_color=torch.rand(2, LAMPS, 3, generator=g),
        lamp_sharpness=1 + 20 * torch.rand(2, LAMPS, generator=g),
        mirror=torch.tensor([0.4, 1.0]),
        occlusion=torch.tensor([0.05, 0.2]),
    )
    slot = torch.arange(2, dtype=torch.int32).expand(2, 2)
    centre = case.scene.part_sphere[case.instances.part[:, :2].long()][..., :3]
    color, ink = torch.rand(2, 2, 2, 3, generator=g)
    decals = Decals(slot, centre, torch.full((2, 2, 3), 0.15), color, ink)
    return replace(case, lights=lights, instances=replace(case.instances, decals=decals))


@pytest.mark.parametrize("name", OBJECTS)
def test_lamps_mirrors_occlusion_and_labels_have_the_same_bits_too(name):
    usual, cameras = case_of(OBJECTS[name]()), orbit(2, "cpu")
    case = decorated(usual)
    plain = rendered(case, cameras, False, 2, True)
    assert same_bits(rendered(case, cameras, True, 2, True), plain)
    change = (plain - rendered(usual, cameras, False, 2, True)).abs()
    assert change[:, :3].amax((1, 2, 3)).min() > 0.05
    assert change[:, 3].max() == 0


def test_padding_and_parts_without_faces_are_left_out():
    case, cameras = case_of(crowd()), orbit(1, "cpu")
    part = case.instances.part.clone()
    part[0, 5:] = -1
    part[1, :] = -1
    case = replace(case, instances=replace(case.instances, part=part))
    plain = rendered(case, cameras, False)
    assert plain[0].max() > 0
    assert plain[1].max() == 0
    assert same_bits(rendered(case, cameras, True), plain)
    scene = case.scene
    skipping = torch.where(scene.face_part < 3, 0, scene.face_part)  # parts 1 and 2 are without faces
    bare = MeshScene.from_arrays(scene.vertices, scene.faces, skipping, scene.face_material, scene.part_offset)
    assert bare.part_sphere[1, 3] == -1
    case = replace(case_of(crowd()), scene=bare)
    assert same_bits(rendered(case, cameras, True), rendered(case, cameras, False))


@wp.kernel
@no_type_check
def slots_kernel(geometry: Geometry, place: Placement, view: View, slots: wp.array3d(dtype=wp.int32)):
    camera, tile_y, tile_x = wp.tid()
    slots[camera, tile_y, tile_x] = _tile_slots(geometry, place, view, camera, tile_x, tile_y)


@pytest.mark.parametrize("name", OBJECTS)
def test_a_tile_knows_all_parts_that_it_meets_and_few_others(name):
    case, cameras = case_of(OBJECTS[name]()), orbit(2, "cpu", width=256, height=256)
    views, down, across = 4, 256 // TILE_Y, 256 // TILE_X
    slots = torch.zeros(views, down, across, dtype=torch.int32)
    place, view = meshes._placement(case.scene, case.instances), meshes._view(cameras)
    inputs = [case.scene._warp.geometry, place, view, wp.from_torch(slots)]
    wp.launch(slots_kernel, dim=slots.shape, inputs=inputs, device="cpu")
    part = traced(case, cameras, False)["part"].view(views, down, TILE_Y, across, TILE_X)
    for number in range(case.instances.part.shape[1]):
        met = (part == number).any(4).any(2)
        assert (slots[met] >> (number % 32) & 1).all()
    empty = (part < 0).all(4).all(2)
    assert empty.float().mean() > 0.5
    assert (slots[empty] == 0).float().mean() > 0.9


@pytest.mark.gpu
def test_the_kernels_for_cpus_also_run_on_cuda():
    case, cameras = case_of(generate("mixed_cabinet", 3), "cuda"), orbit(3, "cuda", width=128, height=128)
    plain, tiled = rendered(case, cameras, False), rendered(case, cameras, True)
    assert ((plain - tiled).abs() > 0.01).float().mean() < 1e-3
    plain, tiled = traced(case, cameras, False), traced(case, cameras, True)
    assert (plain["part"] != tiled["part"]).float().mean() < 1e-3
