"""A hand-made cabinet with a hinged door and a drawer, for tests: small, exact, no extra packages."""

import numpy as np

from partrm.geometry.joints import JointType
from partrm.objects.articulated_object import ArticulatedObject, Joint, Part
from partrm.objects.materials import Material, Role

FACES = np.array(
    [[0, 1, 3], [0, 3, 2], [4, 6, 7], [4, 7, 5], [0, 4, 5], [0, 5, 1],
     [2, 3, 7], [2, 7, 6], [0, 2, 6], [0, 6, 4], [1, 5, 7], [1, 7, 3]]
)  # fmt: skip


def box(low, high) -> tuple[np.ndarray, np.ndarray]:
    corners = np.array([[x, y, z] for x in (0, 1) for y in (0, 1) for z in (0, 1)], dtype=np.float64)
    low, high = np.asarray(low, dtype=np.float64), np.asarray(high, dtype=np.float64)
    return low + corners * (high - low), FACES.copy()


def cabinet() -> ArticulatedObject:
    """Body, a door hinged at its left edge (upper half) and a drawer (lower half); front towards +x."""

    def part(name: str, boxes: list, material: int, joint: Joint | None) -> Part:
        vertices, faces, count = [], [], 0
        for low, high in boxes:
            v, f = box(low, high)
            vertices.append(v)
            faces.append(f + count)
            count += len(v)
        f = np.concatenate(faces)
        return Part(name, np.concatenate(vertices), f, np.full(len(f), material), joint)

    wall = [
        ([-0.3, -0.3, -0.4], [-0.28, 0.3, 0.4]),
        ([-0.3, -0.3, -0.4], [0.25, -0.28, 0.4]),
        ([-0.3, 0.28, -0.4], [0.25, 0.3, 0.4]),
        ([-0.3, -0.3, 0.38], [0.25, 0.3, 0.4]),
        ([-0.3, -0.3, -0.4], [0.25, 0.3, -0.38]),
        ([-0.3, -0.3, -0.01], [0.25, 0.3, 0.01]),
    ]
    door = Joint("door_hinge", JointType.REVOLUTE, 0, (0.0, 0.0, 1.0), (0.25, 0.3, 0.0), 0.0, 1.6)
    slide = Joint("drawer_slide", JointType.PRISMATIC, 0, (1.0, 0.0, 0.0), (0.0, 0.0, 0.0), 0.0, 0.4)
    front = ([0.25, -0.3, -0.4], [0.28, 0.3, -0.005])
    tray = ([-0.2, -0.27, -0.37], [0.25, 0.27, -0.1])
    return ArticulatedObject(
        name="cabinet",
        category="StorageFurniture",
        parts=(
            part("body", wall, 0, None),
            part("door", [([0.25, -0.3, 0.005], [0.28, 0.3, 0.4])], 1, door),
            part("drawer", [front, tray], 2, slide),
        ),
        materials=(
            Material("paint", (0.8, 0.8, 0.75), Role.BODY),
            Material("red", (0.8, 0.25, 0.2), Role.MOVING),
            Material("blue", (0.2, 0.35, 0.8), Role.MOVING),
        ),
    ).normalised()
