"""What the tests of exporters and loaders share: an object with everything in it, and when two objects are the same."""

from dataclasses import replace

import numpy as np

from partrm.geometry.joints import JointType
from partrm.objects.articulated_object import ArticulatedObject, Joint, Part
from partrm.objects.materials import Material, Pattern, Role
from support.boxes import cabinet


def rich_object() -> ArticulatedObject:
    """The box cabinet with a texture, a wood pattern, a knob that turns on the door, and names that are not ASCII."""
    built = cabinet()
    rng = np.random.default_rng(3)
    image = rng.integers(0, 255, (4, 6, 3)).astype(np.uint8)
    body, door, drawer = built.parts
    door = replace(door, name="Tür 1", corner_uv=rng.random((len(door.faces), 3, 2)))
    pivot = (door.vertices.max(0) - 0.01).tolist()
    knob = Joint("knob_turn", JointType.CONTINUOUS, 1, (0.6, 0.0, 0.8), tuple(pivot), -np.pi, np.pi)
    vertices = np.array([[0.0, 0, 0], [0.02, 0, 0], [0, 0.03, 0], [0, 0, 0.04]]) + pivot
    faces = np.array([[0, 2, 1], [0, 1, 3], [1, 2, 3], [2, 0, 3]])
    extra = Part("knob", vertices, faces, np.array([0, 0, 3, 3]), knob)
    wood = Material("oak", (0.5, 0.3, 0.1), Role.DETAIL, (0.4, 0.2, 0.1), Pattern.WOOD, 7.0, (1.0, 0.0, 0.0), 0.25)
    materials = (built.materials[0], replace(built.materials[1], texture=image), built.materials[2], wood)
    return replace(built, parts=(body, door, drawer, extra), materials=materials).normalised()


def assert_same(a: ArticulatedObject, b: ArticulatedObject, atol: float = 1e-12) -> None:
    """Names, joints, surfaces in order, UVs and the material behind every face."""
    assert [p.name for p in a.parts] == [p.name for p in b.parts]
    for p, q in zip(a.parts, b.parts, strict=True):
        np.testing.assert_array_equal(p.faces, q.faces)
        np.testing.assert_allclose(p.vertices, q.vertices, atol=atol)
        assert_same_joint(p.joint, q.joint, atol)
        for s, t in {*zip(p.face_material.tolist(), q.face_material.tolist(), strict=True)}:
            one, other = a.materials[s], b.materials[t]
            assert replace(one, texture=None) == replace(other, texture=None)
            np.testing.assert_array_equal(one.texture, other.texture)
            if one.texture is not None:
                assert p.corner_uv is not None
                assert q.corner_uv is not None
                np.testing.assert_array_equal(p.corner_uv[p.face_material == s], q.corner_uv[q.face_material == t])


def assert_same_joint(a: Joint | None, b: Joint | None, atol: float) -> None:
    assert (a is None) == (b is None)
    if a is None or b is None:
        return
    assert (a.name, a.type, a.parent) == (b.name, b.type, b.parent)
    for x, y in ((a.axis, b.axis), (a.pivot, b.pivot), ((a.lower, a.upper), (b.lower, b.upper))):
        np.testing.assert_allclose(x, y, atol=atol)


CORNERS = [(x, y, z) for x in (0, 1) for y in (0, 1) for z in (0, 1)]
FACES = "f 1 2 4 3\nf 5 7 8 6\nf 1 5 6 2\nf 3 4 8 7\nf 1 3 7 5\nf 2 6 8 4\n"
CUBE = "".join(f"v {x} {y} {z}\n" for x, y, z in CORNERS) + FACES
BOX = '<geometry><box size="1 1 1"/></geometry>'
LIMIT = '<limit lower="0" upper="1" effort="1" velocity="1"/>'


def robot(door=BOX, limit=LIMIT, body=BOX, kind="revolute", more="", shape="visual"):
    joint = f'<joint name="hinge" type="{kind}"><parent link="body"/><child link="door"/><origin xyz="1 0 0"/>'
    links = f'<link name="body"><{shape}>{body}</{shape}></link><link name="door"><{shape}>{door}</{shape}></link>'
    return f'<robot name="r">{links}{joint}<axis xyz="0 0 1"/>{limit}</joint>{more}</robot>'


def mesh(name):
    return f'<geometry><mesh filename="{name}"/></geometry>'


def saved(folder, text, name="x.urdf"):
    folder.mkdir(exist_ok=True)
    (folder / name).write_text(text, encoding="utf-8")
    return folder / name
