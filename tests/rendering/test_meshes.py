"""The mesh renderer against analytic shapes, trimesh's ray caster, finer sampling, and itself across devices."""

import math
import sys
from dataclasses import replace

import numpy as np
import pytest
import torch
from einops import rearrange, reduce

from partrm.geometry.cameras import CANONICAL_FOVY_RAD, Cameras, orbit_poses
from partrm.geometry.joints import JointType
from partrm.geometry.transforms import invert_rigid
from partrm.objects.articulated_object import ArticulatedObject, Joint, Part
from partrm.objects.materials import Material, Pattern
from partrm.rendering.meshes import (
    Instances,
    Lights,
    MeshScene,
    RendererMissingError,
    material_table,
    render_meshes,
    trace_surfaces,
    visible,
)

pytest.importorskip("warp")

GREY = Material("grey", (0.5, 0.5, 0.5))
EVERY_DEVICE = pytest.mark.parametrize("device", ["cpu", pytest.param("cuda", marks=pytest.mark.gpu)])


@pytest.fixture
def trimesh():
    """The oracle; imported here because training machines, where the gpu tests run, lack it."""
    return pytest.importorskip("trimesh")


def box(extents, centre):
    """Vertices and outward faces of an axis-aligned box."""
    corners = np.array([(x, y, z) for x in (-0.5, 0.5) for y in (-0.5, 0.5) for z in (-0.5, 0.5)])
    quads = [(0, 1, 3, 2), (4, 6, 7, 5), (0, 4, 5, 1), (2, 3, 7, 6), (0, 2, 6, 4), (1, 5, 7, 3)]
    faces = np.array([t for a, b, c, d in quads for t in ((a, b, c), (a, c, d))])
    return corners * np.array(extents) + np.array(centre), faces


def ball(trimesh, subdivisions, radius):
    mesh = trimesh.creation.icosphere(subdivisions=subdivisions, radius=radius)
    return np.array(mesh.vertices), np.array(mesh.faces)


def part_of(name, meshes, slots, joint=None, corner_uv=None):
    first = np.cumsum([0] + [len(vertices) for vertices, _ in meshes])
    faces = np.concatenate([faces + start for (_, faces), start in zip(meshes, first, strict=False)])
    face_material = np.concatenate([np.full(len(f), slot) for (_, f), slot in zip(meshes, slots, strict=True)])
    return Part(name, np.concatenate([v for v, _ in meshes]), faces, face_material, joint, corner_uv)


def single(mesh, material=GREY, corner_uv=None):
    return ArticulatedObject("single", "Test", (part_of("body", [mesh], [0], None, corner_uv),), (material,))


def cabinet():
    """A box open to the front and its hinged door; all patterns appear, no faces coincide (devices differ there)."""
    t = 0.02
    body = [
        box((0.498, t, 0.698), (0, -0.29, 0)),
        box((0.498, t, 0.698), (0, 0.29, 0)),
        box((0.5, 0.596, t), (0, 0, 0.34)),
        box((0.5, 0.596, t), (0, 0, -0.34)),
        box((t, 0.592, 0.696), (-0.238, 0, 0)),
        box((0.45, 0.56, t), (0, 0, 0)),
    ]
    door = [box((t, 0.6, 0.7), (0.2605, 0, 0)), box((0.03, 0.03, 0.2), (0.285, 0.22, 0.05))]
    hinge = Joint("hinge", JointType.REVOLUTE, 0, (0.0, 0.0, -1.0), (0.26, -0.3, 0.0), 0.0, 2.0)
    materials = (
        GREY,
        replace(GREY, color=(0.8, 0.3, 0.2), color2=(0.2, 0.3, 0.8), pattern=Pattern.WOOD, gloss=0.4),
        replace(GREY, color=(0.8, 0.8, 0.3), pattern=Pattern.BRUSHED, gloss=0.9),
        replace(GREY, color=(0.2, 0.7, 0.3), pattern=Pattern.NOISE),
        replace(GREY, color=(0.2, 0.7, 0.9), pattern=Pattern.CHECKER, frequency=5.0),
        replace(GREY, color=(0.9, 0.2, 0.9), pattern=Pattern.STRIPES, direction=(0.0, 0.6, 0.8)),
    )
    parts = (part_of("body", body, [0, 3, 4, 5, 0, 1]), part_of("door", door, [1, 2], hinge))
    return ArticulatedObject("cabinet", "StorageFurniture", parts, materials).normalised()


def cameras(count=2, size=64, elevation=0.4, device="cpu"):
    azimuth = torch.linspace(0.4, 5.5, count) if count > 1 else torch.tensor([0.6])
    poses = orbit_poses(azimuth, torch.full((count,), elevation))
    return Cameras(poses, torch.full((count,), CANONICAL_FOVY_RAD), size, size).to(device)


def posed(scene, obj, q, device="cpu"):
    T = torch.tensor(obj.T_object_part(np.asarray(q))).float()[None].to(device)
    index = torch.zeros(1, dtype=torch.int64, device=device)
    return Instances.of_objects(scene, index, T, material_table([obj]).to(device))


def batched(cams, count=1):
    return Cameras(cams.T_world_camera.expand(count, -1, -1, -1), cams.fovy_rad.expand(count, -1), *[cams.width] * 2)


def world_mesh(trimesh, obj, q):
    """All parts posed in one trimesh, and the part of each face."""
    meshes = [trimesh.Trimesh(v, p.faces, process=False) for v, p in zip(obj.posed_vertices(q), obj.parts, strict=True)]
    face_part = np.concatenate([np.full(len(p.faces), i) for i, p in enumerate(obj.parts)])
    return trimesh.util.concatenate(meshes), face_part


def rms(a, b):
    return float((a - b).double().square().mean().sqrt())


def test_sphere_is_analytic(trimesh):
    obj = single(ball(trimesh, 6, 0.4))
    scene = MeshScene.from_objects([obj])
    cams = cameras(2)
    maps = trace_surfaces(scene, posed(scene, obj, [0.0]), batched(cams))
    origins, directions = cams.rays()
    along = -torch.einsum("vc,vhwc->vhw", origins, directions)
    inside = 0.4**2 - (origins.square().sum(-1)[:, None, None] - along.square())
    hit = maps.part[0] == 0
    assert (hit != (inside > 0)).float().mean() < 2e-3
    both = hit & (inside > 4e-3)
    t = along - inside.clamp(min=0).sqrt()
    points = origins[:, None, None] + t[..., None] * directions
    assert (maps.point_world[0] - points)[both].norm(dim=-1).max() < 1e-3
    assert (maps.normal[0] * points / 0.4).sum(-1)[both].min() > 0.999
    forward = cams.T_world_camera[:, :3, 2]
    depth = ((points - origins[:, None, None]) * forward[:, None, None]).sum(-1)
    assert (maps.depth[0] - depth)[both].abs().max() < 1e-3
    assert torch.isinf(maps.depth[0][~hit]).all()


@EVERY_DEVICE
def test_box_silhouette_depth_and_normals_are_analytic(device):
    low, high = torch.tensor([-0.3, -0.2, -0.1]), torch.tensor([0.25, 0.2, 0.15])
    obj = single(box((high - low).numpy(), ((high + low) / 2).numpy()))
    scene = MeshScene.from_objects([obj], device)
    cams = cameras(3, device=device)
    maps = trace_surfaces(scene, posed(scene, obj, [0.0], device), batched(cams))
    origins, directions = cams.rays()
    low, high = low.to(device), high.to(device)
    a = (low - origins[:, None, None]) / directions
    b = (high - origins[:, None, None]) / directions
    near, far = torch.minimum(a, b).amax(-1), torch.maximum(a, b).amin(-1)
    hit = near < far
    assert torch.equal(maps.part[0] == 0, hit)
    t_map = (maps.point_world[0] - origins[:, None, None]).norm(dim=-1)
    assert (t_map - near)[hit].abs().max() < 1e-5
    axis = torch.nn.functional.one_hot(torch.minimum(a, b).argmax(-1), 3) * -torch.sign(directions)
    assert ((maps.normal[0] - axis)[hit].norm(dim=-1) > 1e-4).float().mean() < 2e-3


@pytest.mark.parametrize("angle", [0.0, 0.7, 1.9])
def test_depth_and_parts_agree_with_trimesh_rays(trimesh, angle):
    obj, q = cabinet(), [0.0, angle]
    scene = MeshScene.from_objects([obj])
    cams = cameras(2)
    instances = posed(scene, obj, q)
    maps = trace_surfaces(scene, instances, batched(cams))
    mesh, face_part = world_mesh(trimesh, obj, np.array(q))
    origins, directions = cams.rays()
    flat = rearrange(directions, "v h w c -> (v h w) c").double().numpy()
    starts = origins.double().repeat_interleave(cams.width * cams.height, 0).numpy()
    points, ray, face = trimesh.ray.ray_triangle.RayMeshIntersector(mesh).intersects_location(
        starts, flat, multiple_hits=True
    )
    t = np.linalg.norm(points - starts[ray], axis=-1)
    nearest = np.full(len(flat), np.inf)
    np.minimum.at(nearest, ray, t)
    part = np.full(len(flat), -1)
    part[ray[t == nearest[ray]]] = face_part[face[t == nearest[ray]]]
    ours = rearrange(maps.part, "b v h w -> (b v h w)").numpy()
    assert (ours != part).mean() < 1e-3
    both = (ours >= 0) & (part >= 0)
    reached = (rearrange(maps.point_world, "b v h w c -> (b v h w) c").double().numpy() - starts)[both]
    gap = np.abs(np.linalg.norm(reached, axis=-1) - nearest[both])
    assert np.quantile(gap, 0.999) < 1e-5
    back = invert_rigid(instances.T_world_part)[0][torch.from_numpy(ours[both]).long()]
    rest = (back[:, :3, :3] @ torch.from_numpy(reached + starts[both]).float()[..., None]).squeeze(-1) + back[:, :3, 3]
    assert (rearrange(maps.point_part, "b v h w c -> (b v h w) c")[both] - rest).abs().max() < 1e-5


@EVERY_DEVICE
def test_moved_part_equals_rebaked_mesh(device):
    obj, q = cabinet(), np.array([0.0, 1.1])
    plain = tuple(replace(m, pattern=Pattern.PLAIN) for m in obj.materials)  # patterns live at rest: they would differ
    obj = replace(obj, materials=plain)
    baked_parts = tuple(replace(p, vertices=v) for p, v in zip(obj.parts, obj.posed_vertices(q), strict=True))
    baked = replace(obj, parts=baked_parts)
    views, lights = batched(cameras(2, device=device)), Lights.reference(1, device)
    images = []
    for one, state in ((obj, q), (baked, np.zeros(2))):
        scene = MeshScene.from_objects([one], device)
        images.append(render_meshes(scene, posed(scene, one, state, device), views, lights))
    assert ((images[0] - images[1]).abs() > 1e-3).float().mean() < 1e-3
    rest = render_meshes(scene, posed(scene, baked, [0.0, 0.3], device), views, lights)
    assert rms(rest, images[1]) > 0.05


@EVERY_DEVICE
def test_patterns_move_with_their_part(device):
    obj = cabinet()
    scene = MeshScene.from_objects([obj], device)
    T_move = torch.eye(4, device=device)
    T_move[:2, :2] = torch.tensor([[0.0, -1.0], [1.0, 0.0]])
    T_move[:3, 3] = torch.tensor([0.3, -0.2, 0.5])
    still, lights = posed(scene, obj, [0.0, 0.5], device), Lights.reference(1, device)
    cams = batched(cameras(2, device=device))
    moved = replace(still, T_world_part=T_move @ still.T_world_part)
    light_moved = (T_move[:3, :3] @ lights.position[0] + T_move[:3, 3])[None]
    lights_moved = replace(lights, position=light_moved, sky=lights.sky @ T_move[:3, :3].mT)
    a = render_meshes(scene, still, cams, lights)
    b = render_meshes(scene, moved, cams.transformed(T_move), lights_moved)
    assert ((a - b).abs() > 5e-3).float().mean() < 5e-3


@EVERY_DEVICE
def test_coverage_and_colour_equal_a_boxed_finer_render(device):
    obj = cabinet()
    scene = MeshScene.from_objects([obj], device)
    instances, lights = posed(scene, obj, [0.0, 0.6], device), Lights.reference(1, device)
    cams = batched(cameras(1, 32, device=device))
    coarse = render_meshes(scene, instances, cams, lights, samples_per_axis=2)
    fine = render_meshes(scene, instances, cams.resized(64), lights, samples_per_axis=1)
    premultiplied = reduce(fine[:, :, :3] * fine[:, :, 3:], "b v c (h i) (w j) -> b v c h w", "mean", i=2, j=2)
    coverage = reduce(fine[:, :, 3:], "b v c (h i) (w j) -> b v c h w", "mean", i=2, j=2)
    assert (coarse[:, :, 3:] - coverage).abs().max() < 1e-6
    assert rms(coarse[:, :, :3] * coarse[:, :, 3:], premultiplied) < 1e-3
    exact = render_meshes(scene, instances, cams, lights, samples_per_axis=16)[:, :, 3]
    assert exact.min() >= 0
    assert exact.max() <= 1
    assert ((exact > 0) & (exact < 1)).any()
    four = render_meshes(scene, instances, cams, lights, samples_per_axis=4)[:, :, 3]
    assert rms(four, exact) < 0.02
    assert rms(four, exact) < rms(coarse[:, :, 3], exact)


@EVERY_DEVICE
def test_background_is_transparent_and_colours_stay_in_range(device):
    obj = cabinet()
    scene = MeshScene.from_objects([obj], device)
    cams = cameras(2, device=device)
    away = torch.diag(torch.tensor([-1.0, 1.0, -1.0, 1.0], device=device))
    turned = replace(cams, T_world_camera=cams.T_world_camera @ away)
    instances, lights = posed(scene, obj, [0.0, 1.0], device), Lights.reference(1, device)
    assert render_meshes(scene, instances, batched(turned), lights).abs().max() == 0
    padding = replace(instances, part=torch.full_like(instances.part, -1))
    assert render_meshes(scene, padding, batched(cams), lights).abs().max() == 0
    bright = replace(lights, intensity=lights.intensity * 5)
    image = render_meshes(scene, instances, batched(cams), bright)
    assert torch.isfinite(image).all()
    assert image.min() >= 0
    assert image.max() <= 1


@EVERY_DEVICE
def test_grey_box_shows_three_distinct_faces(device):
    obj = single(box((0.5, 0.5, 0.5), (0, 0, 0)))
    scene = MeshScene.from_objects([obj], device)
    instances, cams = posed(scene, obj, [0.0], device), batched(cameras(1, 64, device=device))
    image = render_meshes(scene, instances, cams, Lights.reference(1, device))[0, 0].cpu()
    normal = trace_surfaces(scene, instances, cams).normal[0, 0].cpu()
    tones = [image[0][(normal @ axis) > 0.99].median().item() for axis in torch.eye(3)]
    assert all(0.25 < tone < 0.7 for tone in tones)
    assert min(abs(tones[i] - tones[j]) for i, j in ((0, 1), (0, 2), (1, 2))) > 0.02
    assert tones[2] == max(tones)
    rows = torch.arange(64.0)[:, None].expand(64, 64)
    assert rows[normal[..., 2] > 0.99].mean() < rows[normal[..., 0] > 0.99].mean()  # the top is up in the image


@EVERY_DEVICE
def test_shadow_darkens_what_the_light_cannot_see(device):
    floor, lid = box((1.0, 1.0, 0.02), (0, 0, -0.3)), box((0.3, 0.3, 0.02), (0, 0, 0.1))
    obj = ArticulatedObject("table", "Test", (part_of("all", [floor, lid], [0, 0]),), (GREY,))
    scene = MeshScene.from_objects([obj], device)
    instances, lights = posed(scene, obj, [0.0], device), Lights.reference(1, device)
    cams = batched(cameras(1, 64, device=device))
    maps = trace_surfaces(scene, instances, cams)
    with_shadow = render_meshes(scene, instances, cams, lights, samples_per_axis=1)[0, 0, 0]
    without = render_meshes(scene, instances, cams, lights, samples_per_axis=1, shadows=False)[0, 0, 0]
    points = rearrange(maps.point_world, "b v h w c -> b (v h w) c")
    lit = visible(scene, instances, points, lights.position).view(64, 64)
    hit = (maps.part[0, 0] == 0) & (maps.normal[0, 0, ..., 2] > 0.9)
    darker = with_shadow < without - 0.02
    assert 20 < (hit & ~lit).sum() < hit.sum() / 2
    assert (darker[hit] != ~lit[hit]).float().mean() < 0.01


def test_visibility_agrees_with_trimesh(trimesh):
    obj, q = cabinet(), np.array([0.0, 0.9])
    scene = MeshScene.from_objects([obj])
    mesh, _ = world_mesh(trimesh, obj, q)
    points, _ = trimesh.sample.sample_surface(mesh, 600, seed=1)
    eye = cameras(1).positions[0].double().numpy()
    seen = visible(scene, posed(scene, obj, q), torch.tensor(points)[None].float(), torch.tensor(eye)[None].float())
    ray = points - eye
    length = np.linalg.norm(ray, axis=-1)
    hits, index, _ = trimesh.ray.ray_triangle.RayMeshIntersector(mesh).intersects_location(
        np.broadcast_to(eye, ray.shape), ray / length[:, None], multiple_hits=True
    )
    nearest = np.full(len(points), np.inf)
    np.minimum.at(nearest, index, np.linalg.norm(hits - eye, axis=-1))
    expected = nearest > length * (1 - 2e-4)
    assert 0.1 < expected.mean() < 0.6
    assert (seen[0].numpy() != expected).mean() < 0.005


def test_batch_of_different_objects_equals_single_renders(trimesh):
    sphere = single(ball(trimesh, 2, 0.3), replace(GREY, color=(0.9, 0.4, 0.1)))
    objects, states = [cabinet(), sphere], [np.array([0.0, 0.8]), np.array([0.0])]
    scene = MeshScene.from_objects(objects)
    poses = torch.eye(4).repeat(2, 2, 1, 1)
    for i, (obj, q) in enumerate(zip(objects, states, strict=True)):
        poses[i, : len(obj.parts)] = torch.tensor(obj.T_object_part(q)).float()
    views = batched(cameras(2, 48), 2)
    views = replace(views, T_world_camera=torch.stack([views.T_world_camera[0], views.T_world_camera[1].flip(0)]))
    instances = Instances.of_objects(scene, torch.tensor([0, 1]), poses, material_table(objects))
    assert instances.part.tolist() == [[0, 1], [2, -1]]
    together = render_meshes(scene, instances, views, Lights.reference(2))
    for i, (obj, q) in enumerate(zip(objects, states, strict=True)):
        alone = MeshScene.from_objects([obj])
        image = render_meshes(alone, posed(alone, obj, q), views[i : i + 1], Lights.reference(1))
        assert torch.equal(together[i], image[0])


@EVERY_DEVICE
def test_texture_is_upright_and_chosen_by_material(device):
    corners = np.array([[0, -0.5, -0.5], [0, 0.5, -0.5], [0, 0.5, 0.5], [0, -0.5, 0.5]])
    square = corners, np.array([[0, 1, 2], [0, 2, 3]])
    uv = (corners[:, 1:] + 0.5)[square[1]]
    texture = np.zeros((4, 4, 3), np.uint8)
    texture[:2, :2], texture[:2, 2:], texture[2:, :2] = (255, 0, 0), (0, 255, 0), (0, 0, 255)
    white = Material("card", (1.0, 1.0, 1.0), texture=texture)
    objects = [single(square), single(square, white, uv)]
    scene, table = MeshScene.from_objects(objects, device), material_table(objects).to(device)
    assert table.texture.tolist() == [[-1], [0]]
    front = torch.zeros(2, 1, device=device)
    cams = Cameras(orbit_poses(front, front), torch.full_like(front, CANONICAL_FOVY_RAD), 64, 64)
    still = torch.eye(4, device=device).expand(2, 1, 4, 4)
    instances = Instances.of_objects(scene, torch.arange(2, device=device), still, table)
    plain, card = render_meshes(scene, instances, cams, Lights.reference(2, device))[:, 0]
    assert (plain[0] - plain[2]).abs().max() < 1e-6
    pixel = [card[:3, y, x].round().tolist() for y, x in ((22, 22), (22, 42), (42, 22), (42, 42))]
    assert pixel == [[1, 0, 0], [0, 1, 0], [0, 0, 1], [0, 0, 0]]


def test_bad_input_is_refused():
    obj = cabinet()
    scene = MeshScene.from_objects([obj])
    instances = posed(scene, obj, [0.0, 0.0])
    with pytest.raises(ValueError, match="batch"):
        render_meshes(scene, instances, batched(cameras(2), 2), Lights.reference(1))
    with pytest.raises(ValueError, match="lights"):
        render_meshes(scene, instances, batched(cameras(2)), Lights.reference(2))
    with pytest.raises(ValueError, match="materials"):
        render_meshes(
            scene,
            replace(instances, materials=instances.materials.to("meta")),
            batched(cameras(2)),
            Lights.reference(1),
        )
    with pytest.raises(ValueError, match="samples_per_axis"):
        render_meshes(scene, instances, batched(cameras(2)), Lights.reference(1), samples_per_axis=0)
    with pytest.raises(ValueError, match="face_part"):
        MeshScene.from_arrays(scene.vertices, scene.faces, scene.face_part + 1, scene.face_material, scene.part_offset)


def test_missing_warp_names_the_extra(monkeypatch):
    for name in [n for n in sys.modules if n == "warp" or n.startswith("partrm.rendering._warp")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.delattr(sys.modules["partrm.rendering"], "_warp", raising=False)
    monkeypatch.setitem(sys.modules, "warp", None)
    with pytest.raises(RendererMissingError, match=r"partrm\[data\]"):
        MeshScene.from_objects([cabinet()])


@pytest.mark.gpu
def test_cuda_equals_cpu():
    obj, q = cabinet(), [0.0, 0.9]
    results = []
    for device in ("cpu", "cuda"):
        scene = MeshScene.from_objects([obj], device)
        instances, cams = posed(scene, obj, q, device), batched(cameras(3, 128, device=device))
        image = render_meshes(scene, instances, cams, Lights.reference(1, device))
        maps = trace_surfaces(scene, instances, cams)
        points = rearrange(maps.point_world, "b v h w c -> b (v h w) c")
        seen = visible(scene, instances, points, cams.positions[:, 1])
        results.append([x.cpu() for x in (image, maps.depth, maps.normal, maps.part, seen)])
    (image, depth, normal, part, seen), (image_c, depth_c, normal_c, part_c, seen_c) = results
    assert ((image - image_c).abs() > 0.01).float().mean() < 2e-3
    assert (part != part_c).float().mean() < 1e-3
    both = (part >= 0) & (part_c >= 0)
    assert ((depth - depth_c).abs()[both] > 1e-4).float().mean() < 1e-3
    assert ((normal - normal_c).norm(dim=-1)[both] > 1e-3).float().mean() < 1e-3
    assert (seen != seen_c).float().mean() < 2e-3
    assert math.isfinite(float(image_c.sum()))
