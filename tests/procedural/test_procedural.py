"""Procedural objects: invariants of every category, determinism, shapes that are closed, materials in range."""

import importlib.util
import warnings

import numpy as np
import pytest
import torch

from partrm.geometry.joints import JointType
from partrm.objects.articulated_object import ObjectError
from partrm.objects.materials import Pattern, Role
from partrm.procedural import CATEGORIES, OWN_CATEGORIES, generate, sample_materials
from partrm.procedural.materials import rgb_from_hsv
from partrm.procedural.shapes import (
    annulus,
    box,
    circle,
    cup,
    cylinder,
    frame,
    round_hole_panel,
    signed_volume,
    slab,
    sweep,
    torus,
    turned,
)
from partrm.procedural.simplify import MAX_FACES, MAX_PARTS, surface_area, visible_shares

OPENS_FORWARD = (
    "cabinet",
    "mixed_cabinet",
    "drawers",
    "oven",
    "refrigerator",
    "dishwasher",
    "safe",
    "microwave",
    "desk",
)
"""Categories whose moving parts come out of the front."""


def needs_library(category):
    if category not in OWN_CATEGORIES and importlib.util.find_spec("scene_synthesizer") is None:
        pytest.skip("scene-synthesizer (the data extra) is not installed")


def fingerprint(obj):
    """Bytes of everything in an object."""
    rows = [obj.name, obj.source, repr(obj.materials)]
    for p in obj.parts:
        rows += [p.name, repr(p.joint), p.vertices.tobytes(), p.faces.tobytes(), p.face_material.tobytes()]
    return [r.encode() if isinstance(r, str) else r for r in rows]


@pytest.mark.parametrize("category", CATEGORIES)
def test_every_category_makes_sound_objects(category):
    needs_library(category)
    for seed in range(3 if category in OWN_CATEGORIES else 1):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)
            obj = generate(category, seed)
        closed = np.concatenate(obj.posed_vertices(obj.closed_q()))
        np.testing.assert_allclose(closed.max(0) + closed.min(0), 0, atol=1e-9)
        assert np.linalg.norm(np.ptp(closed, axis=0)) == pytest.approx(1)
        assert len({part.name for part in obj.parts}) == len(obj.parts) <= MAX_PARTS
        assert sum(len(p.faces) for p in obj.parts) <= MAX_FACES
        assert obj.movable == tuple(range(1, len(obj.parts)))
        lower, upper = obj.joint_limits.T
        assert np.isfinite(obj.joint_limits).all()
        assert (upper - lower)[1:].min() > 0.01
        shares = visible_shares(obj)
        for index, part in enumerate(obj.parts):
            assert surface_area(part) > 1e-3
            assert shares[index] > 0 or index == 0
            if part.joint is not None:
                assert np.linalg.norm(part.joint.axis) == pytest.approx(1)


@pytest.mark.parametrize("category", OPENS_FORWARD)
def test_doors_and_drawers_come_out_of_the_front(category):
    """At the far end of its range each moving part reaches well past the closed object's front, not its back."""
    for seed in range(3):
        obj = generate(category, seed)
        front = np.concatenate(obj.posed_vertices(obj.closed_q()))[:, 0]
        for index in obj.movable:
            q = obj.closed_q()
            q[index] = obj.joint_limits[index, 1]
            half = obj.closed_q()
            half[index] = 0.5 * obj.joint_limits[index].sum()
            reach = max(obj.posed_vertices(p)[index][:, 0].max() for p in (q, half))
            assert reach > front.max() + 0.02
            assert obj.posed_vertices(half)[index][:, 0].min() > front.min() - 1e-6


def test_the_same_seed_gives_the_same_bytes_and_another_seed_does_not():
    for category in OWN_CATEGORIES[::6]:
        np.random.seed(1)
        first = fingerprint(generate(category, 5))
        np.random.seed(2)
        torch.manual_seed(3)
        assert fingerprint(generate(category, 5)) == first
        assert fingerprint(generate(category, 6)) != first


def test_synthesized_objects_repeat_too():
    needs_library("kitchen_wall_cabinet")
    a, b = (fingerprint(generate("kitchen_wall_cabinet", 4)) for _ in range(2))
    assert a == b


def test_unknown_category_is_refused():
    with pytest.raises(ObjectError, match="unknown category 'sofa'"):
        generate("sofa", 0)


def test_a_door_on_a_cabinet_reveals_a_hollow_interior():
    """A ray through the open doorway must travel deep into the body: no solid block behind the door."""
    trimesh = pytest.importorskip("trimesh", reason="the oracle is trimesh")
    obj = generate("safe", 0)
    door = obj.posed_vertices(obj.closed_q())[1]
    body = trimesh.Trimesh(obj.parts[0].vertices, obj.parts[0].faces, process=False)
    y, z = (door.max(0) + door.min(0))[1:] / 2 + [0.01, 0.013]
    hits = body.ray.intersects_location([[2.0, y, z]], [[-1.0, 0.0, 0.0]])[0]
    depth = np.ptp(body.vertices[:, 0])
    assert hits[:, 0].max() < body.vertices[:, 0].max() - 0.5 * depth


@pytest.mark.parametrize(
    ("mesh", "volume"),
    [
        (box((0, 0, 0), (1, 2, 3)), 6.0),
        (cylinder((1, 0, 0), "y", -2.0, 0.5, 64), 2 * np.pi * 0.25),
        (slab((0, 0, 0), (1, 2, 3), "x", 0.0), 6.0),
        (frame((0, 0, 0), (1, 4, 4), "x", 1.0), 12.0),
        (annulus((0, 0, 0), "z", 2.0, 1.0, 0.5, 64), 2 * np.pi * 0.75),
        (torus((0, 0, 1), "x", 1.0, 0.1, 96, 48), 2 * np.pi**2 * 0.01),
        (turned([1.0, 1e-4], [0.0, 3.0], "z", (0, 0, 0), 96), np.pi),
        (round_hole_panel((0, -1, -1), (1, 1, 1), (0.1, 0.0), 0.5), 4 - np.pi * 0.25),
        (cup([circle(64), circle(64)], [0.0, 1.0], 0.1, 0.1), np.pi * (1 - 0.9**2 * 0.9)),
        (sweep(np.array([[0.0, 0, 0], [0, 0, 2], [0, 1, 3]]), circle(8, 0.1), [1.0, 0, 0]), None),
    ],
)
def test_shapes_are_closed_and_wound_outwards(mesh, volume):
    """Every edge is used once in each direction, and the volume is that of the solid."""
    edges = np.concatenate([mesh.faces[:, [0, 1]], mesh.faces[:, [1, 2]], mesh.faces[:, [2, 0]]])
    keys = {(int(a), int(b)) for a, b in edges}
    assert len(keys) == len(edges)
    assert keys == {(b, a) for a, b in keys}
    assert signed_volume(mesh) > 0
    if volume is not None:
        assert signed_volume(mesh) == pytest.approx(volume, rel=0.02)


def test_visible_shares_of_a_half_covered_box():
    """A part that lies behind another is not seen; what stands in front is."""
    obj = generate("dishwasher", 0)
    shares = visible_shares(obj)
    assert shares.sum() == pytest.approx(1)
    assert shares[1] > 0.1
    assert (visible_shares(obj) == shares).all()


def sampled(seed, objects=400):
    roles = torch.tensor([0, 1, 1, 2, 3, 4, 5, -1]).repeat(objects, 1)
    return roles, sample_materials(roles, torch.Generator().manual_seed(seed))


def test_materials_are_in_range_and_seeded():
    roles, table = sampled(0)
    assert table.color.shape == (*roles.shape, 3)
    for field in (table.color, table.color2, table.gloss):
        assert 0 <= field.min() <= field.max() <= 1
    assert set(table.pattern.unique().tolist()) == {int(p) for p in Pattern}
    assert table.frequency.min() > 0
    torch.testing.assert_close(table.direction.norm(dim=-1), torch.ones(roles.shape))
    assert (table.texture == -1).all()
    again, other = sampled(0)[1], sampled(1)[1]
    assert torch.equal(table.color, again.color)
    assert not torch.equal(table.color, other.color)


def test_parts_rarely_but_sometimes_look_alike():
    roles, table = sampled(2, 4000)
    column = roles[0].tolist()
    body, first, second = (column.index(Role.BODY), 1, 2)
    like_body = (table.color[:, body] == table.color[:, first]).all(-1).float().mean()
    alike = (table.color[:, first] == table.color[:, second]).all(-1).float().mean()
    assert 0.35 < like_body < 0.45
    assert 0.6 < alike < 0.72
    bright = table.color.mean(-1)
    assert (bright[:, body] < 0.15).float().mean() > 0.05
    assert (bright[:, body] > 0.85).float().mean() > 0.05
    glass = table.color[:, column.index(Role.GLASS)].mean(-1)
    assert glass.median() < 0.4


def test_hues_agree_with_colorsys():
    import colorsys

    hsv = torch.rand(200, 3, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    expected = torch.tensor([colorsys.hsv_to_rgb(*row) for row in hsv.tolist()], dtype=torch.float64)
    torch.testing.assert_close(rgb_from_hsv(hsv), expected)


def test_object_materials_carry_the_roles_of_their_slots():
    obj = generate("oven", 1)
    roles = {m.role for m in obj.materials}
    assert {Role.BODY, Role.MOVING, Role.INTERIOR} <= roles
    moving = {obj.materials[s].role for p in obj.parts[1:] for s in np.unique(p.face_material)}
    assert Role.MOVING in moving
    assert obj.parts[1].joint is not None
    assert obj.parts[1].joint.type == JointType.REVOLUTE
