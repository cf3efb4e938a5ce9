"""The asset of an exactly known cabinet against the truth."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from numpy.testing import assert_allclose
from support.gaussian_cabinet import ELEVATION_DEG, WALL, cabinet

from partrm.assets.asset import AssetSettings, build_asset
from partrm.assets.collision import CellGrid
from partrm.assets.orientation import estimate_orientation, given_up
from partrm.assets.physics import MassProperties, joint_dynamics, mass_properties
from partrm.assets.predicted import AssetError
from partrm.errors import ConfigError
from partrm.geometry.joints import JointType
from partrm.geometry.transforms import screw_motion


def degrees_between(a, b) -> float:
    return float(np.degrees(np.arccos(np.clip(np.dot(a, b), -1, 1))))


def test_the_object_is_set_upright_and_to_its_front():
    exact = cabinet()
    found = estimate_orientation(exact.predicted)
    R = found.R_asset_canonical @ exact.R_canonical_object
    assert degrees_between(R[:, 2], [0, 0, 1]) < 3
    assert degrees_between(R[:, 0], [1, 0, 0]) < 5
    assert found.elevation_deg == pytest.approx(ELEVATION_DEG, abs=3)
    assert found.axis_off_deg < 3
    assert 0 < found.doubt_deg < 20


def test_a_given_up_is_kept():
    exact = cabinet()
    up = exact.R_canonical_object[:, 0]
    found = given_up(tuple((3 * up).tolist()), exact.predicted)
    assert_allclose(found.R_asset_canonical[2], up, atol=1e-6)
    assert_allclose(found.R_asset_canonical @ found.R_asset_canonical.T, np.eye(3), atol=1e-9)
    assert np.linalg.det(found.R_asset_canonical) == pytest.approx(1)
    assert found.doubt_deg == 0
    with pytest.raises(AssetError, match="up 0, 0, 0: give a direction"):
        given_up((0.0, 0.0, 0.0), exact.predicted)


def test_size_floor_and_joint_are_in_metres(hinged):
    asset, _ = hinged
    points = np.concatenate(asset.object.posed_vertices(np.zeros(2)))
    assert np.linalg.norm(points.max(0) - points.min(0)) == pytest.approx(0.6)
    assert points[:, 2].min() == pytest.approx(0, abs=1e-9)
    assert_allclose((points.max(0) + points.min(0))[:2], 0, atol=1e-9)
    joint = asset.object.parts[1].joint
    assert joint.type == JointType.REVOLUTE
    assert degrees_between(joint.axis, [0, 0, 1]) < 3
    # The hinge stands at the front's left edge; the mesh is a little thicker than its Gaussians' centres.
    assert_allclose(joint.pivot[:2], (points.max(0)[0] - 0.01, points.max(0)[1] - 0.004), atol=0.012)
    assert (joint.lower, joint.upper) == (0.0, pytest.approx(1.2))


def test_points_of_the_asset_are_found_in_the_prediction(hinged):
    asset, _ = hinged
    exact = cabinet().predicted
    joint = asset.object.parts[1].joint
    assert_allclose(asset.to_canonical(np.array([joint.pivot]))[0], exact.joint.pivot, atol=1e-6)
    corners = asset.to_canonical(asset.object.parts[0].vertices)
    means = exact.before.means[~exact.moving].numpy()
    assert_allclose(corners.min(0), means.min(0), atol=0.02)
    assert_allclose(corners.max(0), means.max(0), atol=0.02)


def test_a_slide_scales_with_the_size(sliding):
    asset, _ = sliding
    joint = asset.object.parts[1].joint
    assert asset.predicted_amounts[0] == pytest.approx(0.3 * asset.metres_per_unit)
    # It cannot go far back before it meets the body, and comes out by 0.8 of its depth.
    body = asset.object.parts[0].vertices
    assert joint.upper - joint.lower == pytest.approx(0.8 * np.ptp(body[:, 0]), rel=0.05)
    assert joint.upper > asset.predicted_amounts[0]
    assert -0.05 * 1.2 < joint.lower <= 0


def test_meshes_are_closed_and_hollow_bodies_stay_hollow(hinged, sliding):
    trimesh = pytest.importorskip("trimesh")
    for asset, _ in (hinged, sliding):
        for part in asset.object.parts:
            mesh = trimesh.Trimesh(part.vertices, part.faces, process=False)
            assert mesh.is_watertight
            assert mesh.is_winding_consistent
            assert mesh.volume > 0
            assert len(mesh.faces) <= 4000
        scale = asset.metres_per_unit
        body = asset.bodies[0]
        # The middle of the open cabinet is empty for collision, its back wall is not.
        low, high = asset.object.parts[0].vertices.min(0), asset.object.parts[0].vertices.max(0)
        middle = (low + high) / 2
        assert not any((abs(box.centre - middle) < box.half).all() for box in body.collision)
        back = middle - [(high - low)[0] / 2 - scale * WALL / 2, 0, 0]
        assert any((abs(box.centre - back) < box.half).all() for box in body.collision)
        boxes = sum(float(np.prod(2 * box.half)) for box in body.collision)
        assert boxes == pytest.approx(body.mass.mass_kg / 400, rel=0.35)


def test_mass_is_density_times_the_closed_volume(hinged):
    asset, _ = hinged
    exact = cabinet()
    volume = exact.door_volume * 0.6**3
    # Sheets come out thicker by about a voxel.
    assert volume < asset.bodies[1].mass.mass_kg / 400 < 1.5 * volume
    corner = np.array([1.0, 2.0, 3.0])
    cube = np.array([[x, y, z] for x in (0, 1) for y in (0, 1) for z in (0, 1)]) * [0.1, 0.2, 0.3] + corner
    faces = np.array(
        [[0, 1, 3], [0, 3, 2], [4, 6, 7], [4, 7, 5], [0, 4, 5], [0, 5, 1],
         [2, 3, 7], [2, 7, 6], [0, 2, 6], [0, 6, 4], [1, 5, 7], [1, 7, 3]]
    )  # fmt: skip
    found = mass_properties(cube, faces, 500.0)
    mass = 500 * 0.006
    assert found.mass_kg == pytest.approx(mass)
    assert_allclose(found.centre, corner + np.array([0.05, 0.1, 0.15]))
    squares = np.array([0.1, 0.2, 0.3]) ** 2
    assert_allclose(found.inertia, np.diag(mass / 12 * (squares.sum() - squares)), atol=1e-12)


def test_resistance_follows_the_weight():
    mass = MassProperties(2.0, np.array([0.5, 0, 1.0]), np.diag([0.1, 0.2, 0.3]))
    hinge = joint_dynamics(JointType.REVOLUTE, np.array([0, 0, 1.0]), np.zeros(3), mass)
    assert hinge.damping == pytest.approx((0.3 + 2 * 0.25) / 0.5)
    assert hinge.friction == pytest.approx(0.05 * 2 * 9.81 * 0.5)
    slide = joint_dynamics(JointType.PRISMATIC, np.array([0, 0, 1.0]), np.zeros(3), mass)
    assert slide.damping == pytest.approx(4)
    assert slide.effort > 2 * 9.81 > slide.friction


def test_boxes_of_a_grid_cover_its_cells_exactly_once():
    rng = np.random.default_rng(0)
    cells = rng.random((6, 7, 5)) < 0.6
    grid = CellGrid(np.array([0.1, -0.2, 0.0]), (6, 7, 5), 0.05)
    from partrm.assets.collision import greedy_boxes

    count = np.zeros(cells.shape, int)
    for low, high in greedy_boxes(cells):
        count[tuple(slice(a, b) for a, b in zip(low, high, strict=True))] += 1
    assert (count == cells).all()
    for box in grid.boxes(cells):
        index = (box.centre - grid.low) / grid.cell
        assert cells[tuple(np.floor(index - 1e-6).astype(int))]


@pytest.mark.parametrize("which", ["hinged", "sliding"])
def test_nothing_overlaps_along_the_range(which, request):
    """Corners and edges of either part's boxes never lie in the other's, tested by points, not by the sweep's code."""
    asset, _ = request.getfixturevalue(which)
    joint = asset.object.parts[1].joint
    body, part = asset.bodies[0].collision, asset.bodies[1].collision
    steps = np.linspace(0, 1, 12)
    unit = np.stack(np.meshgrid(steps, steps, steps, indexing="ij"), -1).reshape(-1, 3)
    unit = unit[((unit == 0) | (unit == 1)).any(1)]

    def inside(points, boxes) -> int:
        return sum(int((abs(points - box.centre) < box.half - 1e-9).all(1).sum()) for box in boxes)

    surface = np.concatenate([box.centre + (2 * unit - 1) * box.half for box in part])
    other = np.concatenate([box.centre + (2 * unit - 1) * box.half for box in body])
    axis, pivot = (torch.tensor(v, dtype=torch.float64) for v in (joint.axis, joint.pivot))
    for q in np.linspace(joint.lower, joint.upper, 15):
        amount = torch.tensor(q, dtype=torch.float64)
        T = screw_motion(axis, pivot, amount, torch.tensor(joint.type == JointType.PRISMATIC)).numpy()
        assert inside(surface @ T[:3, :3].T + T[:3, 3], body) == 0
        assert inside((other - T[:3, 3]) @ T[:3, :3], part) == 0


def test_textures_show_the_photo_where_it_sees_and_the_gaussians_elsewhere(hinged, sliding):
    with_photo, without = hinged[0], sliding[0]
    blue, red = (material.texture.reshape(-1, 3) / 255 for material in without.object.materials)
    assert_allclose(np.median(blue, axis=0), [0.1, 0.2, 0.8], atol=0.02)
    assert_allclose(np.median(red, axis=0), [0.8, 0.1, 0.1], atol=0.02)
    assert without.photo_shares == (None, None)
    door = with_photo.object.materials[1].texture / 255
    share = with_photo.photo_shares[1]
    green = (door[..., 1] > 0.9) & (door[..., 0] < 0.1)
    # Front of the door: less than half of its surface.
    assert 0.2 < share < 0.55
    assert 0.1 < green.mean() < 0.7
    assert ((door[..., 0] > 0.7) & (door[..., 1] < 0.2)).mean() > 0.2
    # What faces the camera is green, what does not is not.
    part = with_photo.object.parts[1]
    corners = part.vertices[part.faces]
    normals = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
    area = np.linalg.norm(normals, axis=1)
    uv = part.corner_uv.mean(1)
    size = door.shape[0]
    shown = door[(size * (1 - uv[:, 1])).astype(int).clip(0, size - 1), (size * uv[:, 0]).astype(int).clip(0, size - 1)]
    large = area > np.quantile(area, 0.5)
    front = large & (normals[:, 0] / area > 0.9) & (np.abs(corners[..., 1].mean(1)) < 0.1)
    back = large & (normals[:, 0] / area < -0.9)
    assert np.median(shown[front], axis=0)[1] > 0.9
    assert np.median(shown[back], axis=0)[0] > 0.7


def test_an_uncertain_prediction_is_exported_by_force_only(sliding):
    with pytest.raises(AssetError, match=r"uncertain \(confidence 0.30, below 0.6\)"):
        build_asset(cabinet(confidence=0.3).predicted)
    assert sliding[0].settings.force
    assert sliding[0].confidences[0] == pytest.approx(0.3)


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"size_m": 0.0}, "size 0: give a positive number"),
        ({"size_m": float("nan")}, "size nan: give a positive number"),
        ({"density": -1.0}, "density -1: give a positive number"),
        ({"density": float("inf")}, "density inf"),
        ({"texture_px": 5}, "texture 5: give 64 to 8192"),
    ],
)
def test_settings_that_mean_nothing_are_refused(settings, said):
    with pytest.raises(ConfigError, match=said):
        AssetSettings(**settings)


def test_a_prediction_needs_a_part_a_body_and_a_motion():
    exact = cabinet().predicted
    with pytest.raises(AssetError, match="no moving part"):
        replace(exact, moving=torch.zeros_like(exact.moving))
    with pytest.raises(AssetError, match="everything moves"):
        replace(exact, moving=torch.ones_like(exact.moving))
    with pytest.raises(AssetError, match="does not move"):
        replace(exact, joint=replace(exact.joint, amount=0.0))


def test_a_part_without_surface_is_named():
    exact = cabinet().predicted
    faint = torch.where(exact.moving, 0.06, exact.before.opacities)
    kept = ~exact.moving | (torch.arange(len(exact.moving)) % 40 == 0)
    thinned = replace(exact.before, opacities=faint)[kept]
    with pytest.raises(AssetError, match="the part is too faint for a surface"):
        build_asset(replace(exact, before=thinned, moving=exact.moving[kept]))
