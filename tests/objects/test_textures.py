"""Seeded images change how an object looks and nothing else."""

from dataclasses import replace

import numpy as np
import pytest
from support.boxes import cabinet

from partrm.objects.articulated_object import ArticulatedObject
from partrm.objects.materials import Material, Pattern, Role
from partrm.objects.textures import LONG, TILE, textured
from partrm.objects.urdf import load_urdf, save_urdf
from partrm.procedural import generate

pytest.importorskip("scipy")

LOOKS = {
    "wood": Material("m", (0.5, 0.3, 0.15), Role.BODY, (0.3, 0.15, 0.05), Pattern.WOOD),
    "metal": Material("m", (0.6, 0.6, 0.62), Role.HANDLE, (0.5, 0.5, 0.5), Pattern.BRUSHED),
    "paint": Material("m", (0.2, 0.4, 0.7), Role.MOVING),
    "noise": Material("m", (0.2, 0.4, 0.7), Role.MOVING, (0.4, 0.6, 0.9), Pattern.NOISE),
    "pane": Material("m", (0.1, 0.12, 0.2), Role.GLASS),
    "dial": Material("m", (0.8, 0.8, 0.8), Role.DETAIL),
}


def painted(material: Material) -> ArticulatedObject:
    """The cabinet with one material on its door."""
    obj = cabinet()
    return replace(obj, materials=(obj.materials[0], material, obj.materials[2]))


@pytest.mark.parametrize("look", LOOKS)
def test_images_keep_the_slots_colours_and_are_not_flat(look):
    material = LOOKS[look]
    image = textured(painted(material), 3).materials[1].texture
    assert image is not None
    pixels = image.reshape(-1, 3) / 255.0
    low, high = (f(material.color, material.color2) for f in (np.minimum, np.maximum))
    if material.pattern == Pattern.PLAIN:
        low, high = np.array(material.color), np.array(material.color)
    mean = pixels.mean(0)
    assert (mean > low - 0.15).all()
    assert (mean < high + 0.15).all()
    assert pixels.std(0).max() > 0.005


def test_shape_joints_and_other_images_stay_and_seeds_repeat():
    own = np.full((2, 2, 3), 77, np.uint8)
    obj = painted(replace(LOOKS["paint"], texture=own))
    door = obj.parts[1]
    uv = np.random.default_rng(0).random((len(door.faces), 3, 2))
    obj = replace(obj, parts=(obj.parts[0], replace(door, corner_uv=uv), obj.parts[2]))
    one, again, other = textured(obj, 1), textured(obj, 1), textured(obj, 2)
    for before, after in zip(obj.parts, one.parts, strict=True):
        np.testing.assert_array_equal(before.vertices, after.vertices)
        np.testing.assert_array_equal(before.faces, after.faces)
        assert before.joint == after.joint
    assert one.materials[1] is obj.materials[1]
    np.testing.assert_array_equal(one.parts[1].corner_uv, uv)  # pyright: ignore[reportArgumentType]
    for a, b, c in zip(one.materials[::2], again.materials[::2], other.materials[::2], strict=True):
        assert a.texture is not None
        np.testing.assert_array_equal(a.texture, b.texture)  # pyright: ignore[reportArgumentType]
        assert (a.texture != c.texture).any()


def test_coordinates_keep_lengths_on_walls_and_span_whole_plates():
    wall = textured(painted(LOOKS["wood"]), 0).parts[1]
    assert wall.corner_uv is not None
    corners, uv = wall.vertices[wall.faces], wall.corner_uv
    edges = np.linalg.norm(corners - np.roll(corners, 1, 1), axis=-1)
    np.testing.assert_allclose(np.linalg.norm(uv - np.roll(uv, 1, 1), axis=-1) * TILE, edges, atol=1e-9)
    plate = textured(painted(LOOKS["pane"]), 0).parts[1].corner_uv
    assert plate is not None
    assert (plate.min(), plate.max()) == (0.0, 1.0)
    # The widest sides show the picture upright: v grows with z.
    door = cabinet().parts[1]
    heights = door.vertices[door.faces][..., 2]
    np.testing.assert_allclose(plate[..., 1], (heights - heights.min()) / np.ptp(heights), atol=1e-9)


def test_long_details_are_labels_and_square_ones_dials():
    def image(width: float) -> np.ndarray:
        obj = painted(LOOKS["dial"])
        door = obj.parts[1]
        flat = (door.vertices - door.vertices.min(0)) / np.ptp(door.vertices, axis=0) * [0.01, width, 0.1]
        obj = replace(obj, parts=(obj.parts[0], replace(door, vertices=flat), obj.parts[2]))
        texture = textured(obj, 0).materials[1].texture
        assert texture is not None
        return texture

    dial, label = image(0.1), image(0.1 * LONG * 1.2)
    frame = (8, 128)  # labels have a frame, dials a pointer that comes near the middle
    assert (label[frame] < 60).all()
    assert (dial[frame] > 150).all()


def test_generated_objects_survive_a_file(tmp_path):
    obj = textured(generate("microwave", 4), 5)
    save_urdf(obj, tmp_path / "a.urdf")
    again = load_urdf(tmp_path / "a.urdf")
    used = {int(s) for p in obj.parts for s in p.face_material}
    kept = [m for m in again.materials if m.texture is not None]
    assert len(kept) == len([s for s in used if obj.materials[s].texture is not None]) > 2
