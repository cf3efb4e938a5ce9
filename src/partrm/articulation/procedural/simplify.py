"""Makes a generated object fit for training: small movables fixed, at most twelve parts, not too many faces."""

from dataclasses import replace

import numpy as np

from partrm.articulation.kinematics import JointType
from partrm.articulation.objects import ArticulatedObject, Part

MAX_PARTS = 12
MAX_FACES = 6000


def surface_area(part: Part) -> float:
    """Area of a part's triangles."""
    a, b, c = (part.vertices[part.faces[:, k]] for k in range(3))
    return float(np.linalg.norm(np.cross(b - a, c - a), axis=-1).sum() / 2)


def merge_parts(obj: ArticulatedObject, keep: list[int]) -> ArticulatedObject:
    """Only the parts in ``keep`` (ascending, with the root) stay; the others become rigid pieces of what carries them."""
    target: list[int] = []
    for index, part in enumerate(obj.parts):
        target.append(index if index in keep or part.joint is None else target[part.joint.parent])
    merged: list[Part] = []
    for index in keep:
        pieces = [p for p, t in zip(obj.parts, target, strict=True) if t == index]
        starts = np.cumsum([0] + [len(p.vertices) for p in pieces[:-1]])
        joint = obj.parts[index].joint
        merged.append(
            replace(
                obj.parts[index],
                vertices=np.concatenate([p.vertices for p in pieces]),
                faces=np.concatenate([p.faces + s for p, s in zip(pieces, starts, strict=True)]),
                face_material=np.concatenate([p.face_material for p in pieces]),
                joint=None if joint is None else replace(joint, parent=keep.index(target[joint.parent])),
            )
        )
    return replace(obj, parts=tuple(merged))


def without_tiny_movables(obj: ArticulatedObject, share: float = 0.01) -> ArticulatedObject:
    """Movables with less than ``share`` of the area of the bounding box's largest face become rigid pieces.

    So do fixed joints, and the smallest movables beyond ``MAX_PARTS``.
    """
    points = np.concatenate([p.vertices for p in obj.parts])
    size = np.sort(np.ptp(points, axis=0))
    # Half of a closed surface faces away.
    areas = [surface_area(p) / 2 if p.joint is not None and p.joint.type != JointType.FIXED else 0.0 for p in obj.parts]
    order = np.argsort(areas)[::-1][: MAX_PARTS - 1]
    return merge_parts(obj, [0, *sorted(int(i) for i in order if areas[i] > share * size[1] * size[2] and i > 0)])
