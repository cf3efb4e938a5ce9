"""The density and colour of Gaussians on a regular grid."""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float
from numba import njit

from partrm.geometry.gaussians import Gaussians
from partrm.geometry.transforms import matrix_from_quaternion

MIN_OPACITY = 0.05
"""Fainter Gaussians are left out."""

REACH = 3.0
"""Standard deviations after which a Gaussian ends."""

FILM_OPACITY = 0.1
"""Gaussians above it tell how far an object extends."""


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
    """
    kept = gaussians[gaussians.opacities > MIN_OPACITY]
    means = kept.means.double().numpy()
    low, high = means.min(0) - margin, means.max(0) + margin
    shape = np.ceil((high - low) / voxel).astype(int) + 1
    density = np.zeros(tuple(shape), np.float32)
    colors = np.zeros((*shape, 3), np.float32)
    rotations = matrix_from_quaternion(kept.quats).double().numpy()
    scales = np.maximum(kept.scales.double().numpy(), 0.5 * voxel)
    opacities, rgb = kept.opacities.double().numpy(), kept.colors.double().numpy()
    _accumulate(means, rotations, scales, opacities, rgb, low, voxel, density, colors)
    return DensityGrid(density, colors / np.maximum(density, 1e-6)[..., None], low, voxel)


@njit(cache=True, nogil=True, error_model="numpy")
def _accumulate(means, rotations, scales, opacities, rgb, low, voxel, density, colors):  # pragma: no cover
    for k in range(means.shape[0]):
        first, last = np.zeros(3, np.int64), np.zeros(3, np.int64)
        for i in range(3):
            spread = 0.0
            for j in range(3):
                spread += (rotations[k, i, j] * scales[k, j]) ** 2
            spread = REACH * np.sqrt(spread)
            first[i] = max(0, int(np.ceil((means[k, i] - spread - low[i]) / voxel)))
            last[i] = min(density.shape[i] - 1, int(np.floor((means[k, i] + spread - low[i]) / voxel)))
        for x in range(first[0], last[0] + 1):
            dx = low[0] + x * voxel - means[k, 0]
            for y in range(first[1], last[1] + 1):
                dy = low[1] + y * voxel - means[k, 1]
                for z in range(first[2], last[2] + 1):
                    dz = low[2] + z * voxel - means[k, 2]
                    squared = 0.0
                    for j in range(3):
                        along = rotations[k, 0, j] * dx + rotations[k, 1, j] * dy + rotations[k, 2, j] * dz
                        squared += (along / scales[k, j]) ** 2
                    weight = opacities[k] * np.exp(-0.5 * squared)
                    density[x, y, z] += weight
                    for c in range(3):
                        colors[x, y, z, c] += weight * rgb[k, c]
