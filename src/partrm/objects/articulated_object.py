"""The articulated object: named parts, materials and a tree of joints. Every source loads into this one class.

Object frame: right-handed, z up, front towards +x. Meshes and joints are stored at rest (all joint positions zero), in
the object frame, so ``T_object_part(0)`` is the identity for every part.
"""

import math
from collections.abc import Collection
from dataclasses import dataclass, replace
from itertools import count

import numpy as np
import torch
from jaxtyping import Float, Int

from partrm.errors import PartRMError
from partrm.geometry.joints import JointType, forward_kinematics
from partrm.objects.materials import Material

MAX_EXTENT = 1e9
"""Coordinates beyond make sums of squares meaningless; no unit of length makes an object so large."""


class ObjectError(PartRMError):
    """An articulated object that cannot be used; the message says which, where and why."""


class PackageMissingError(ObjectError):
    """An object whose kind needs a package that is not installed; the message says how to install it."""


@dataclass(frozen=True)
class Joint:
    """The joint that carries one part."""

    name: str
    type: JointType
    parent: int
    """Index of the parent part in the object's list, smaller than the child's."""
    axis: tuple[float, float, float] = (0.0, 0.0, 1.0)
    """Unit direction in the object frame at rest."""
    pivot: tuple[float, float, float] = (0.0, 0.0, 0.0)
    """A point on the axis, object frame at rest."""
    lower: float = 0.0
    """Lower limit, radians or object units."""
    upper: float = 0.0

    def rotated(self, R: Float[np.ndarray, "3 3"]) -> "Joint":
        """The joint of an object turned about the origin."""
        axis, pivot = R @ np.array(self.axis), R @ np.array(self.pivot)
        return replace(self, axis=tuple(axis.tolist()), pivot=tuple(pivot.tolist()))


@dataclass(frozen=True)
class Part:
    """One rigid body of the object."""

    name: str
    vertices: Float[np.ndarray, "v 3"]
    """Object frame at rest."""
    faces: Int[np.ndarray, "f 3"]
    face_material: Int[np.ndarray, " f"]
    """Slot of the object's materials, per face."""
    joint: Joint | None = None
    """None for a root."""
    corner_uv: Float[np.ndarray, "f 3 2"] | None = None
    """Texture coordinates per face corner, v = 0 at the bottom of the image."""

    def rotated(self, R: Float[np.ndarray, "3 3"]) -> "Part":
        """The part, and its joint, of an object turned about the origin."""
        joint = None if self.joint is None else self.joint.rotated(R)
        return replace(self, vertices=self.vertices @ R.T, joint=joint)


def distinct_name(name: str, used: Collection[str]) -> str:
    """The name, or with a number behind it (``name_2``, ...) where it is in use."""
    return name if name not in used else next(n for k in count(2) if (n := f"{name}_{k}") not in used)


@dataclass(frozen=True)
class ArticulatedObject:
    """Parts in topological order (a parent before its children) and the materials they index."""

    name: str
    category: str
    parts: tuple[Part, ...]
    materials: tuple[Material, ...]
    source: str = ""
    """Where it came from (generator and seed, file), for manifests."""
    notes: tuple[str, ...] = ()
    """What its loader left out, put in or found odd, a line each, for the user."""

    def __post_init__(self) -> None:
        if not self.parts:
            raise ObjectError(f"{self.name}: an articulated object needs at least one part")
        for index, part in enumerate(self.parts):
            if part.joint is not None and not 0 <= part.joint.parent < index:
                raise ObjectError(f"{self.name}: part {part.name!r} must come after its parent in the list of parts")
            if not np.isfinite(part.vertices).all():
                raise ObjectError(f"{self.name}: part {part.name!r} has vertices that are not finite")
            if len(part.faces) and (part.faces.min() < 0 or part.faces.max() >= len(part.vertices)):
                raise ObjectError(f"{self.name}: part {part.name!r} has faces that index missing vertices")
            if len(part.faces) and not 0 <= part.face_material.min() <= part.face_material.max() < len(self.materials):
                raise ObjectError(f"{self.name}: part {part.name!r} uses a material slot that does not exist")

    @property
    def movable(self) -> tuple[int, ...]:
        """Indices of the parts whose own joint moves."""
        return tuple(i for i, p in enumerate(self.parts) if p.joint is not None and p.joint.type != JointType.FIXED)

    @property
    def joint_limits(self) -> Float[np.ndarray, "parts 2"]:
        """Lower and upper limit of every part's joint (zeros for roots and fixed joints)."""
        rows = [
            (p.joint.lower, p.joint.upper) if p.joint is not None and p.joint.type != JointType.FIXED else (0.0, 0.0)
            for p in self.parts
        ]
        return np.array(rows, dtype=np.float64)

    def joint_arrays(self) -> dict[str, torch.Tensor]:
        """``parent``, ``joint_type``, ``axis``, ``pivot`` as :func:`forward_kinematics` takes them (float64)."""
        rest = Joint("root", JointType.FIXED, -1)
        joints = [rest if p.joint is None else p.joint for p in self.parts]
        return {
            "parent": torch.tensor([j.parent for j in joints]),
            "joint_type": torch.tensor([int(j.type) for j in joints]),
            "axis": torch.tensor([j.axis for j in joints], dtype=torch.float64),
            "pivot": torch.tensor([j.pivot for j in joints], dtype=torch.float64),
        }

    def T_object_part(self, q: Float[np.ndarray, " parts"]) -> Float[np.ndarray, "parts 4 4"]:
        """Pose of every part at joint positions ``q`` (one a part; entries of fixed parts are ignored)."""
        return forward_kinematics(**self.joint_arrays(), q=torch.as_tensor(q, dtype=torch.float64)).numpy()

    def closed_q(self) -> Float[np.ndarray, " parts"]:
        """Joint positions of the closed state: zero where the limits allow it, else the limit nearest to zero."""
        return np.clip(np.zeros(len(self.parts)), *self.joint_limits.T)

    def posed_vertices(self, q: Float[np.ndarray, " parts"]) -> list[Float[np.ndarray, "v 3"]]:
        """Vertices of every part in the object frame at joint positions ``q``."""
        poses = self.T_object_part(q)
        return [p.vertices @ T[:3, :3].T + T[:3, 3] for p, T in zip(self.parts, poses, strict=True)]

    def normalised(self) -> "ArticulatedObject":
        """The same object with its closed-state bounding box centred at the origin and of diagonal 1."""
        points = np.concatenate(self.posed_vertices(self.closed_q()))
        if not np.abs(points).max(initial=0.0) < MAX_EXTENT:
            raise ObjectError(f"{self.name}: the object is larger than {MAX_EXTENT:g}")
        for joint in (part.joint for part in self.parts if part.joint is not None):
            if not max(abs(joint.lower), abs(joint.upper)) < MAX_EXTENT:
                raise ObjectError(f"{self.name}: joint {joint.name!r} has a limit beyond {MAX_EXTENT:g}")
            if not max(map(abs, joint.pivot)) < MAX_EXTENT:
                raise ObjectError(f"{self.name}: joint {joint.name!r} stands farther away than {MAX_EXTENT:g}")
        low, high = points.min(0), points.max(0)
        diagonal = float(np.linalg.norm(high - low))
        if not diagonal > 0:
            raise ObjectError(f"{self.name}: the object has no extent")
        return self.rescaled(1.0 / diagonal, -(low + high) / 2)

    def rescaled(self, scale: float, shift: Float[np.ndarray, "3"]) -> "ArticulatedObject":
        """``p -> scale * (p + shift)`` on meshes and joints; limits of prismatic joints scale along."""

        def moved_joint(joint: Joint) -> Joint:
            by = scale if joint.type == JointType.PRISMATIC else 1.0
            x, y, z = (scale * (np.array(joint.pivot) + shift)).tolist()
            return replace(joint, pivot=(x, y, z), lower=joint.lower * by, upper=joint.upper * by)

        parts = tuple(
            replace(p, vertices=scale * (p.vertices + shift), joint=None if p.joint is None else moved_joint(p.joint))
            for p in self.parts
        )
        return replace(self, parts=parts)

    def turned_to_front(self, front: tuple[float, float]) -> "ArticulatedObject":
        """The object turned about z so that the world direction ``front`` (x, y) becomes +x.

        Raises:
            ObjectError: ``front`` has no length.
        """
        length = math.hypot(*front)
        if not 0 < length < math.inf:
            raise ObjectError(f"{self.name}: the front direction {front} has no length")
        c, s = front[0] / length, front[1] / length
        R = np.array([[c, s, 0.0], [-s, c, 0.0], [0.0, 0.0, 1.0]])
        return replace(self, parts=tuple(p.rotated(R) for p in self.parts))
