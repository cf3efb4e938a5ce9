"""Plausible physics: mass and inertia of closed meshes, what a joint resists with, how far it goes."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int

from partrm.assets.collision import Box, CellGrid, hits
from partrm.assets.part_meshes import SolidPart, missing
from partrm.geometry.joints import JointType

GRAVITY = 9.81

SETTLING_S = 0.5
"""Time in which a pushed part loses most of its speed: damping is inertia over it."""

FRICTION = 0.05
"""Dry friction as a share of what the part's weight could exert: a good hinge or slide."""

ARMATURE = 0.05
"""Inertia added at the joint, as a share of the part's own: it keeps light parts stable."""

EFFORT = 5.0
"""Limit of a drive, as a multiple of what the part's weight could exert."""

VELOCITY = 2.0
"""Limit of a drive, rad/s or m/s."""

USUAL_TURN_RAD = math.pi / 2
"""How far doors and lids usually open."""

USUAL_SLIDE = 0.8
"""How far drawers usually open, as a share of the body's depth along the joint."""

CONTACT = 0.02
"""Share of a part's size, in cells of the body that it meets, from which it counts as stopped."""


@dataclass(frozen=True)
class MassProperties:
    """Of one rigid body, in the asset's frame at rest."""

    mass_kg: float
    centre: Float[np.ndarray, "3"]
    """Metres."""
    inertia: Float[np.ndarray, "3 3"]
    """About the centre, kg m2."""


@dataclass(frozen=True)
class JointDynamics:
    """What a joint resists with; N m, or N for a slide."""

    damping: float
    """Per rad/s or m/s."""
    friction: float
    """Dry friction."""
    armature: float
    """kg m2 or kg."""
    effort: float
    velocity: float
    """rad/s or m/s."""


def mass_properties(
    vertices: Float[np.ndarray, "v 3"], faces: Int[np.ndarray, "f 3"], density: float
) -> MassProperties:
    """Of a closed mesh (metres) filled with a material of so many kg/m3.

    Raises:
        PackageMissingError: trimesh is missing.
    """
    try:
        import trimesh
    except ImportError as error:
        raise missing("trimesh") from error
    mesh = trimesh.Trimesh(vertices, faces, process=False)
    mesh.density = density
    return MassProperties(float(mesh.mass), np.array(mesh.center_mass), np.array(mesh.moment_inertia))


def joint_dynamics(
    type: JointType, axis: Float[np.ndarray, "3"], pivot: Float[np.ndarray, "3"], mass: MassProperties
) -> JointDynamics:
    """From the mass that the joint carries; all scale with size and density as the part does."""
    arm = mass.centre - pivot
    lever = float(np.linalg.norm(arm - (arm @ axis) * axis))
    if type == JointType.PRISMATIC:
        inertia, load = mass.mass_kg, mass.mass_kg * GRAVITY
    else:
        inertia = float(axis @ mass.inertia @ axis) + mass.mass_kg * lever**2
        load = mass.mass_kg * GRAVITY * lever
    return JointDynamics(
        damping=inertia / SETTLING_S,
        friction=FRICTION * load,
        armature=ARMATURE * inertia,
        effort=EFFORT * max(load, inertia),
        velocity=VELOCITY,
    )


def usual_length(type: JointType, axis: Float[np.ndarray, "3"], body: SolidPart) -> float:
    """How far such a joint usually goes, rad or m."""
    if type == JointType.PRISMATIC:
        along = body.vertices @ axis
        return USUAL_SLIDE * float(along.max() - along.min())
    return USUAL_TURN_RAD


def reachable(
    grid: CellGrid,
    cells: Int[np.ndarray, "n 3"],
    moving: Sequence[Box],
    poses: Float[np.ndarray, "steps 4 4"],
) -> int:
    """Number of poses, from the first on, in which the part does not meet the body's cells."""
    volume = sum(float(np.prod(2 * box.half)) for box in moving) / grid.cell**3
    met = hits(grid, cells, moving, poses).sum(1) > max(1.0, CONTACT * volume)
    return int(met.argmax()) if bool(met.any()) else len(poses)
