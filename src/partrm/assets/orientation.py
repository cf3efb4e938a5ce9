"""How an object stands: its up and front directions, from the joint's axis, the image's up and its own surfaces.

A prediction knows neither. The camera is taken as upright (it may look up or down, but does not roll), so up lies in
the plane of the image's up and the view direction. Joint axes and surfaces of furniture are vertical or horizontal:
the elevation is the one at which they are.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import numpy as np
import torch
from jaxtyping import Float
from scipy import ndimage

from partrm.assets.density import extent, sample_density
from partrm.assets.predicted import AssetError
from partrm.geometry.gaussians import Gaussians
from partrm.geometry.joints import JointMotion

ELEVATIONS_DEG = np.arange(-15.0, 61.0, 1.0)
"""Of the camera above the horizon."""

USUAL_ELEVATION_DEG = 20.0
"""Where cameras stand when nothing tells."""

AXIS_SIGMA_DEG = 6.0
"""How far predicted axes are from vertical or horizontal."""

PRIOR_SIGMA_DEG = 25.0
"""How far cameras are from the usual elevation."""

SURFACE_WEIGHT = 8.0
"""How much surfaces count beside axis and prior."""

SURFACE_SIGMA_DEG = 8.0
"""How far the normals of level surfaces are from up."""

COARSE_VOXELS = 60
"""Grid points along the diagonal when surface normals are read off."""


@runtime_checkable
class Posable(Protocol):
    """What orientation is read off: one prediction, or several merged."""

    @property
    def before(self) -> Gaussians:
        """[n] the object as given, canonical frame."""
        ...

    @property
    def joints(self) -> tuple[JointMotion, ...]:
        """At least one."""
        ...


@dataclass(frozen=True)
class Orientation:
    """The asset's axes in the canonical frame, and how sure they are."""

    R_asset_canonical: Float[np.ndarray, "3 3"]
    """The asset's frame: x to the front, z up."""
    source: str
    """``auto`` or ``given``."""
    elevation_deg: float
    """Of the camera above the asset's horizon."""
    axis_off_deg: float
    """Angle from the joint's axis to the nearest of vertical and horizontal; the worst of several joints."""
    doubt_deg: float
    """Spread of the elevations that explain axis and surfaces nearly as well; 0 where up is given."""


def given_up(up: tuple[float, float, float], predicted: Posable) -> Orientation:
    """The asset stands along ``up`` (canonical frame, any length).

    Raises:
        AssetError: a direction without length, or of an endless one.
    """
    direction = np.array(up, dtype=np.float64)
    if not 1e-9 < float(np.abs(direction).max()) < 1e9:
        raise AssetError(f"up {', '.join(f'{v:g}' for v in up)}: give a direction X,Y,Z of the canonical frame")
    normals, weights = surface_normals(predicted)
    return _oriented(direction / np.linalg.norm(direction), predicted.joints, normals, weights, "given", 0.0)


def estimate_orientation(predicted: Posable) -> Orientation:
    """Up, by the elevation at which axis and surfaces are level or upright; front, where most walls look."""
    normals, weights = surface_normals(predicted)
    scores = _elevation_scores(predicted.joints, normals, weights)
    chance = np.exp(-0.5 * (scores - scores.min()))
    chance /= chance.sum()
    best = float(ELEVATIONS_DEG[scores.argmin()])
    doubt = float(np.sqrt((chance * (ELEVATIONS_DEG - best) ** 2).sum()))
    return _oriented(_up_at(np.array([best]))[0], predicted.joints, normals, weights, "auto", doubt)


def surface_normals(predicted: Posable) -> tuple[Float[np.ndarray, "n 3"], Float[np.ndarray, " n"]]:
    """Outward unit normals of the object's surfaces in the canonical frame, and their areas' shares."""
    voxel = extent(predicted.before) / COARSE_VOXELS
    if voxel == 0:
        raise AssetError("nothing of this prediction can be seen")
    grid = sample_density(predicted.before, voxel, margin=3 * voxel)
    smooth = ndimage.gaussian_filter(np.minimum(grid.density, 1.0), 1.0)
    gradient = -np.stack([np.gradient(smooth, axis=axis) for axis in range(3)], -1).reshape(-1, 3)
    length = np.linalg.norm(gradient, axis=1)
    surface = length > 0.25 * length.max()
    return gradient[surface] / length[surface, None], length[surface] / length[surface].sum()


def _up_at(elevations_deg: Float[np.ndarray, " e"]) -> Float[np.ndarray, "e 3"]:
    angle = np.radians(elevations_deg)
    return np.stack([np.zeros_like(angle), np.cos(angle), np.sin(angle)], -1)


def _elevation_scores(
    joints: Sequence[JointMotion], normals: Float[np.ndarray, "n 3"], weights: Float[np.ndarray, " n"]
) -> Float[np.ndarray, " e"]:
    """Twice the negative log likelihood of each elevation, up to a constant."""
    up = _up_at(ELEVATIONS_DEG)
    prior = ((ELEVATIONS_DEG - USUAL_ELEVATION_DEG) / PRIOR_SIGMA_DEG) ** 2
    off = _off_level_deg(np.abs(up @ _axes(joints).T))
    # A crooked axis says little about up.
    axis = np.minimum((off / AXIS_SIGMA_DEG) ** 2, 9.0).mean(1)
    tilt = np.degrees(np.arccos(np.clip(np.abs(normals @ up.T), 0, 1)))
    level = (weights[:, None] * np.exp(-0.5 * (tilt / SURFACE_SIGMA_DEG) ** 2)).sum(0)
    upright = (weights[:, None] * np.exp(-0.5 * ((90 - tilt) / SURFACE_SIGMA_DEG) ** 2)).sum(0)
    return prior + axis - SURFACE_WEIGHT * (level + upright)


def _axes(joints: Sequence[JointMotion]) -> Float[np.ndarray, "k 3"]:
    return np.stack([joint.axis.double().numpy() for joint in joints])


def _off_level_deg(cosine: Float[np.ndarray, "*any"]) -> Float[np.ndarray, "*any"]:
    """Angle to the nearest of vertical and horizontal, of directions with such cosines to up."""
    angle = np.degrees(np.arccos(np.clip(cosine, 0, 1)))
    return np.minimum(angle, 90 - angle)


def _oriented(
    up: Float[np.ndarray, "3"],
    joints: Sequence[JointMotion],
    normals: Float[np.ndarray, "n 3"],
    weights: Float[np.ndarray, " n"],
    source: str,
    doubt_deg: float,
) -> Orientation:
    """Axes with that up; the front is the wall direction nearest to the camera."""
    towards = np.array([0.0, 0.0, 1.0])
    if abs(up @ towards) > 0.99:
        towards = np.array([0.0, -np.sign(up[2]), 0.0])
    front = towards - (towards @ up) * up
    front /= np.linalg.norm(front)
    side = np.cross(up, front)
    walls = np.abs(normals @ up) < 0.3
    angle = np.arctan2(normals[walls] @ side, normals[walls] @ front)
    # Walls stand at right angles: their directions agree modulo 90 degrees.
    mean = (weights[walls] * np.exp(4j * angle)).sum()
    turn = np.angle(mean) / 4
    front, side = math.cos(turn) * front + math.sin(turn) * side, math.cos(turn) * side - math.sin(turn) * front
    return Orientation(
        R_asset_canonical=np.stack([front, side, up]),
        source=source,
        elevation_deg=math.degrees(math.asin(np.clip(up[2], -1, 1))),
        axis_off_deg=float(_off_level_deg(np.abs(_axes(joints) @ up)).max()),
        doubt_deg=doubt_deg,
    )


def T_asset_canonical(orientation: Orientation) -> Float[torch.Tensor, "4 4"]:
    """The rotation as a rigid transform of points."""
    T = torch.eye(4, dtype=torch.float64)
    T[:3, :3] = torch.from_numpy(orientation.R_asset_canonical)
    return T
