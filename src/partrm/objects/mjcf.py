"""MuJoCo models (MJCF) as articulated objects: visible geoms, hinge and slide joints, colours and textures.

MuJoCo itself compiles the file, so includes, defaults, mesh scales and every way to write an orientation are its own.
What counts as visible is what its viewer shows: geom groups 0 to 2 with an alpha above zero (both the Franka kitchen
of gymnasium-robotics and Meta-World draw in group 1 and collide in group 4). Where all of group 0 collides and nothing
of group 1 does (robosuite, LIBERO, RoboCasa), group 0 is hidden. A body with nothing but hidden geoms falls back to all
of them. Planes and height fields are scenery and left out.
"""

import math
import os
import xml.etree.ElementTree as ET
from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from partrm.geometry.joints import JointType
from partrm.objects._description_meshes import PartBuilder, assemble_parts
from partrm.objects._mjcf_files import checked_roots
from partrm.objects._mjcf_geoms import (
    Model,
    geom_rgba,
    geom_triangles,
    mujoco_module,
    texture_image,
    texture_index,
    texture_mean,
    visible_geoms,
)
from partrm.objects.articulated_object import ArticulatedObject, Joint, ObjectError, PackageMissingError
from partrm.objects.descriptions import oddities
from partrm.objects.materials import Material, Role
from partrm.objects.named_files import NamedFiles

MIN_TURN_RAD = math.radians(1)
"""Hinges of smaller ranges are refused, or read in radians: models made for a world with that setting leave it out."""


def load_mjcf(
    path: Path | str,
    *,
    root_body: str | None = None,
    name: str | None = None,
    category: str = "object",
    front: tuple[float, float] = (1.0, 0.0),
    joints: Collection[str] | None = None,
    closed: Mapping[str, float] | None = None,
    allow_outside: Sequence[Path | str] = (),
) -> ArticulatedObject:
    """Load one articulated object of a MuJoCo model, normalised (closed bounding box: centred, diagonal 1).

    Args:
        path: an MJCF ``.xml`` file.
        root_body: body whose subtree is the object; its own joints are dropped (the object stands still). By default
            the child of the world that holds every hinge and slide joint, or the world where there is none.
        name: name of the object, by default the file's.
        category: category of the object.
        front: world direction (x, y) in which the front of the object looks; it is turned to +x.
        joints: names of the joints that may move (a joint without a name has its body's); by default every hinge and
            slide joint. The others stay at the position nearest to zero.
        closed: joint positions (radians, model units) of the closed state where that is not zero; they become zero.
        allow_outside: folders whose files may be read beside those below the object's own.

    Rest is MuJoCo's joint position zero (or ``closed``), whatever ``ref`` says; limits are MuJoCo's. Unlimited hinges
    become continuous, with one turn as their range; a reversed range is an error, though MuJoCo takes it for none.

    Raises:
        PackageMissingError: mujoco is missing.
        ObjectError: file or mesh missing or malformed, no such body or joint, nothing that moves, a ball or free joint
            inside the object, limits that are reversed or not finite, a slide without a range, no visible surface.
    """
    path = Path(path)
    files = NamedFiles(path, allow_outside)
    model = _compile(path, files)
    zero = {} if closed is None else dict(closed)
    root = _root_body(model, path, root_body, joints, zero)
    builder = _ObjectBuilder(path.name, model, _rest_state(model, joints, zero), zero)
    _add_bodies(builder, root, joints)
    parts = assemble_parts(path.name, builder.parts, builder.materials, {})
    if not any(part.joint is not None for part in parts):
        hint = f" below body {root_body!r} (its own joints are held still)" if root_body is not None else ""
        raise ObjectError(f"{path}: no hinge or slide joint moves a visible part{hint}")
    built = ArticulatedObject(
        name=path.stem if name is None else name,
        category=category,
        parts=parts,
        materials=tuple(builder.materials),
        source=f"mjcf:{path.name}" + (f"#{root_body}" if root_body is not None else ""),
    )
    built = built.turned_to_front(front).normalised()
    return replace(built, notes=(*files.notes, *oddities(built)))


def _compile(path: Path, files: NamedFiles) -> Model:
    try:
        mujoco = mujoco_module()
    except ImportError as error:
        message = f"{path}: MuJoCo models need the mujoco package: pip install 'partrm[data]'"
        raise PackageMissingError(message) from error
    if not os.path.exists(path):
        raise ObjectError(f"{path}: no such MJCF file")
    roots = checked_roots(path, files)
    before = mujoco.get_mju_user_warning()
    # Else MuJoCo prints its warnings, and writes them to a file in the current folder.
    mujoco.set_mju_user_warning(lambda message: None)
    try:
        return _compiled(path, roots, files)
    except (ValueError, RuntimeError, mujoco.FatalError, mujoco.UnexpectedError) as error:
        raise ObjectError(f"{path}: MuJoCo cannot read it ({' '.join(str(error).split())})") from error
    finally:
        mujoco.set_mju_user_warning(before)


def _compiled(path: Path, roots: Sequence[ET.Element], files: NamedFiles) -> Model:
    """The model as MuJoCo compiles it, with what models made for a world of others leave to that world."""
    mujoco = mujoco_module()
    changes: dict[str, Any] = {}
    try:
        model = mujoco.MjModel.from_xml_path(str(path))
    except ValueError as error:
        if "mjMINVAL" not in str(error):
            raise
        changes |= {"boundmass": 1e-6, "boundinertia": 1e-9}  # masses do not matter here
        model = _compiled_with(path, changes)
    if _means_radians(model, roots):
        model = _compiled_with(path, changes | {"degree": False})
        files.note("read in radians: it says no <compiler angle>, and its hinges would turn by less than a degree")
    return model


def _compiled_with(path: Path, changes: Mapping[str, Any]) -> Model:
    spec = mujoco_module().MjSpec.from_file(str(path))
    for name, value in changes.items():
        setattr(spec.compiler, name, value)
    return spec.compile()


def _means_radians(model: Model, roots: Sequence[ET.Element]) -> bool:
    """Whether a model leaves its unit of angles open, and its hinges' limits are too small for degrees."""
    if any("angle" in compiler.attrib for root in roots for compiler in root.iter("compiler")):
        return False
    hinge = int(mujoco_module().mjtJoint.mjJNT_HINGE)
    limits = model.jnt_range[(model.jnt_type == hinge) & (model.jnt_limited != 0)]
    tiny = np.ptp(limits, axis=1) < MIN_TURN_RAD
    return bool(tiny.any() and (np.abs(limits) <= math.radians(2 * math.pi)).all())


def _name(model: Model, kind: str, index: int) -> str:
    """Name of a body or joint; one without a name gets its body's, or its number."""
    mujoco = mujoco_module()

    found = mujoco.mj_id2name(model, getattr(mujoco.mjtObj, f"mjOBJ_{kind}"), index)
    if found:
        return found
    return _name(model, "BODY", int(model.jnt_bodyid[index])) if kind == "JOINT" else f"body_{index}"


def _slides_or_turns(model: Model, joint: int) -> bool:
    mujoco = mujoco_module()

    return int(model.jnt_type[joint]) in (int(mujoco.mjtJoint.mjJNT_HINGE), int(mujoco.mjtJoint.mjJNT_SLIDE))


def _top_level(model: Model, body: int) -> int:
    """The child of the world above ``body`` (or the body itself)."""
    while model.body_parentid[body] != 0:
        body = int(model.body_parentid[body])
    return body


def _root_body(
    model: Model,
    path: Path,
    root_body: str | None,
    joints: Collection[str] | None,
    zero: Mapping[str, float],
) -> int:
    """Index of the object's root body; checks the names of the joints too."""
    moving = [j for j in range(model.njnt) if _slides_or_turns(model, j)]
    names = {_name(model, "JOINT", j) for j in moving}
    unknown = sorted({*(joints or ()), *zero} - names)
    if unknown:
        raise ObjectError(f"{path}: no hinge or slide joint {unknown[0]!r}; there are {', '.join(sorted(names))}")
    if root_body is not None:
        bodies = {_name(model, "BODY", b): b for b in range(model.nbody)}
        if root_body not in bodies:
            raise ObjectError(f"{path}: no body {root_body!r}; there are {', '.join(list(bodies)[:20])}")
        return bodies[root_body]
    chosen = [j for j in moving if joints is None or _name(model, "JOINT", j) in joints]
    tops = {_top_level(model, int(model.jnt_bodyid[j])) for j in chosen}
    jointed_tops = {int(model.jnt_bodyid[j]) for j in chosen}
    return tops.pop() if len(tops) == 1 and not tops & jointed_tops else 0


def _rest_state(model: Model, joints: Collection[str] | None, zero: Mapping[str, float]) -> Any:
    """Kinematics with moving joints at zero and the held ones at the position of their range nearest to zero."""
    mujoco = mujoco_module()

    data = mujoco.MjData(model)
    for joint in range(model.njnt):
        if _slides_or_turns(model, joint):
            name = _name(model, "JOINT", joint)
            position = zero.get(name, 0.0)
            if joints is not None and name not in joints and model.jnt_limited[joint]:
                position = np.clip(position, *model.jnt_range[joint])
            data.qpos[model.jnt_qposadr[joint]] = position
    mujoco.mj_kinematics(model, data)
    return data


def _limits(builder: "_ObjectBuilder", index: int, name: str) -> tuple[bool, tuple[float, float]]:
    """Whether a joint is limited, and its limits; one turn where it is not.

    MuJoCo takes a range that does not ascend for none at all, and leaves its numbers as they are in the file.
    """
    limited = bool(builder.model.jnt_limited[index])
    lower, upper = builder.model.jnt_range[index].tolist()
    if not (math.isfinite(lower) and math.isfinite(upper)):
        raise ObjectError(f"{builder.where}: the limits of joint {name!r} are not finite ({lower}, {upper})")
    if not limited and lower > upper:
        raise ObjectError(f"{builder.where}: the limits of joint {name!r} are reversed ({lower:g}, {upper:g})")
    return limited, (lower, upper) if limited else (-math.pi, math.pi)


def _joint(builder: "_ObjectBuilder", index: int, parent: int) -> Joint:
    mujoco = mujoco_module()

    model, data, where = builder.model, builder.data, builder.where
    name = _name(model, "JOINT", index)
    hinge = int(model.jnt_type[index]) == int(mujoco.mjtJoint.mjJNT_HINGE)
    limited, (lower, upper) = _limits(builder, index, name)
    if not hinge and not limited:
        raise ObjectError(f"{where}: slide joint {name!r} has no range; give it one")
    if hinge and upper - lower < MIN_TURN_RAD:
        range_deg = math.degrees(upper - lower)
        raise ObjectError(
            f"{where}: hinge {name!r} turns by {range_deg:.2g} degrees only; if its range is in radians, say so in the "
            'file: <compiler angle="radian"/>'
        )
    shift = builder.zero.get(name, 0.0)
    turning = JointType.REVOLUTE if limited else JointType.CONTINUOUS
    return Joint(
        name=name,
        type=turning if hinge else JointType.PRISMATIC,
        parent=parent,
        axis=tuple(data.xaxis[index].tolist()),
        pivot=tuple(data.xanchor[index].tolist()),
        lower=lower - shift,
        upper=upper - shift,
    )


def _add_bodies(builder: "_ObjectBuilder", root: int, joints: Collection[str] | None) -> None:
    """Walk the subtree of ``root``: a body with joints opens one part a joint, another joins its parent's part."""
    model = builder.model
    part_of_body = {root: builder.open_part(_name(model, "BODY", root), None)}
    for body in range(root, model.nbody):
        if body != root:
            above = part_of_body.get(int(model.body_parentid[body]))
            if above is None:
                continue
            part_of_body[body] = _open_joints(builder, body, above, joints)
        builder.add_geoms(part_of_body[body], body)


def _open_joints(builder: "_ObjectBuilder", body: int, part: int, joints: Collection[str] | None) -> int:
    model, where = builder.model, builder.where
    first, count = int(model.body_jntadr[body]), int(model.body_jntnum[body])
    for joint in range(first, first + count):
        name = _name(model, "JOINT", joint)
        if not _slides_or_turns(model, joint):
            raise ObjectError(f"{where}: joint {name!r} is a ball or free joint; only hinges and slides are read")
        if joints is None or name in joints:
            title = _name(model, "BODY", body) if joint == first + count - 1 else f"{name}_carrier"
            part = builder.open_part(title, _joint(builder, joint, part))
    return part


class _ObjectBuilder:
    """Collects the geoms of bodies into parts, and their looks into material slots."""

    def __init__(self, where: str, model: Model, data: Any, zero: Mapping[str, float]) -> None:
        self.where, self.model, self.data, self.zero = where, model, data, zero
        self.parts: list[PartBuilder] = []
        self.materials: list[Material] = []
        self._slot_of_look: dict[tuple, int] = {}

    def open_part(self, name: str, joint: Joint | None) -> int:
        self.parts.append(PartBuilder(name, joint))
        return len(self.parts) - 1

    def add_geoms(self, number: int, body: int) -> None:
        """Append the body's visible geoms, in world coordinates at rest."""
        model, part = self.model, self.parts[number]
        for geom in visible_geoms(model, body):
            rgba = geom_rgba(model, geom)
            if not np.isfinite(rgba).all():
                raise ObjectError(
                    f"{self.where}: the colour of a geom of body {_name(model, 'BODY', body)!r} is not finite"
                )
            vertices, faces, uv = geom_triangles(model, geom)
            R, t = self.data.geom_xmat[geom].reshape(3, 3), self.data.geom_xpos[geom]
            slots = np.full(len(faces), self._slot(geom, rgba, moving=part.joint is not None))
            part.pieces.add(vertices @ R.T + t, faces, slots, uv)

    def _slot(self, geom: int, rgba: tuple[float, float, float, float], moving: bool) -> int:
        model = self.model
        material = int(model.geom_matid[geom])
        texture = texture_index(model, material)
        gloss = float(model.mat_specular[material] * model.mat_shininess[material]) if material >= 0 else 0.0
        role = Role.GLASS if rgba[3] < 0.9 else Role.MOVING if moving else Role.BODY
        look = (rgba, texture, gloss, role)
        if look not in self._slot_of_look:
            self._slot_of_look[look] = len(self.materials)
            color, image = rgba[:3], None if texture < 0 else texture_image(model, texture)
            if texture >= 0 and image is None:
                r, g, b = (np.array(color) * texture_mean(model, texture)).tolist()
                color = (r, g, b)
            number = len(self.materials)
            self.materials.append(
                Material(f"material_{number}", color, role, gloss=min(max(gloss, 0.0), 1.0), texture=image)
            )
        return self._slot_of_look[look]
