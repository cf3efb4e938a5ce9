"""The density and colour of Gaussians on a regular grid."""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

from partrm.assets._kernels import REACH, accumulate
from partrm.assets.predicted import AssetError
from partrm.geometry.gaussians import Gaussians
from partrm.geometry.transforms import matrix_from_quaternion

MIN_OPACITY = 0.05
"""Fainter Gaussians are left out."""

FILM_OPACITY = 0.1
"""Gaussians above it tell how far an object extends."""


MAX_VOXELS, MAX_SUMMANDS = 2**26, 2**32
"""Of a grid, and of all its sums: a hundred times as many as real predictions have."""


@dataclass(frozen=True)
class DensityGrid:
    """Sums of opacity-weighted Gaussians at the points of a grid."""

    density: Float[np.ndarray, "x y z"]
    colors: Float[np.ndarray, "x y z 3"]
    """Mean RGB weighted by density; zero where there is none."""
    low: Float[np.ndarray, "3"]
    """The first point of the grid."""
    voxel: float
    """Distance between points, units of the frame."""

    def to_index(self, points: Float[np.ndarray, "n 3"]) -> Float[np.ndarray, "n 3"]:
        """Fractional indices of points of the frame."""
        return (points - self.low) / self.voxel

    def to_points(self, index: Float[np.ndarray, "n 3"]) -> Float[np.ndarray, "n 3"]:
        """Inverse of :meth:`to_index`."""
        return index * self.voxel + self.low


def extent(gaussians: Gaussians) -> float:
    """Diagonal of the box around the centres of all Gaussians [n] that can be seen."""
    means = gaussians.means[gaussians.opacities > FILM_OPACITY]
    return float((means.amax(0) - means.amin(0)).norm()) if len(means) else 0.0


def sample_density(gaussians: Gaussians, voxel: float, margin: float) -> DensityGrid:
    """Sum Gaussians [n] on a grid around them.

    Args:
        gaussians: in any frame; the grid is aligned with its axes.
        voxel: distance between the grid's points. Standard deviations are at least half of it, so that thin sheets
            do not fall between two points.
        margin: room around the Gaussians' centres.

    Raises:
        AssetError: none can be seen, or they are so far apart, or so large, that memory or time would run out.
    """
    kept = gaussians[gaussians.opacities > MIN_OPACITY]
    if not len(kept) or not voxel > 0:
        raise AssetError("a part of this prediction cannot be seen, or has no size: drag another point")
    means = kept.means.double().numpy()
    low, high = means.min(0) - margin, means.max(0) + margin
    with np.errstate(all="ignore"):
        sides = np.ceil((high - low) / voxel) + 1
    if not sides.prod() <= MAX_VOXELS:
        raise AssetError("single Gaussians of this prediction lie far from all others: predict again")
    widths = np.minimum(2 * REACH * kept.scales.double().amax(1).numpy() / voxel + 1, sides.max())
    if not (widths**3).sum() <= MAX_SUMMANDS:
        raise AssetError("the Gaussians of this prediction are as large as the whole object: predict again")
    shape = sides.astype(int)
    density = np.zeros(tuple(shape), np.float32)
    colors = np.zeros((*shape, 3), np.float32)
    rotations = matrix_from_quaternion(kept.quats).double().numpy()
    scales = np.maximum(kept.scales.double().numpy(), 0.5 * voxel)
    opacities, rgb = kept.opacities.double().numpy(), kept.colors.double().numpy()
    accumulate(means, rotations, scales, opacities, rgb, low, voxel, density, colors)
    return DensityGrid(density, colors / np.maximum(density, 1e-6)[..., None], low, voxel)
