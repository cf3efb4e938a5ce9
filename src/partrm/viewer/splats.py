"""Gaussians as viser's splat nodes take them, whole, or merged into few for a page that draws slowly."""

from typing import Any

import numpy as np
import torch

from partrm.geometry.gaussians import Gaussians
from partrm.geometry.transforms import matrix_from_quaternion
from partrm.imaging.drawing import PART_COLOR

TINT = 0.5
"""Share of the part's colour in its tinted Gaussians."""

COVARIANCE_UNIT = 1 / 16
"""Splats are sent in this unit: viser keeps covariances as 16-bit floats, which are coarse below 1e-4."""

FAINT = 0.05
"""Gaussians of less opacity are left out of the coarse ones."""

SPREAD = 2.2
"""Factor on the covariances of merged Gaussians: they overlap, so that no gaps show between them."""


def splat_arrays(gaussians: Gaussians, tinted: bool = False) -> dict[str, np.ndarray]:
    """Gaussians [n] as viser's ``add_gaussian_splats`` takes them, in units of :data:`COVARIANCE_UNIT`."""
    axes = matrix_from_quaternion(gaussians.quats) * gaussians.scales[:, None, :] / COVARIANCE_UNIT
    colors = gaussians.colors.clamp(0, 1)
    if tinted:
        colors = colors * (1 - TINT) + torch.tensor(PART_COLOR) / 255 * TINT
    return {
        "centers": (gaussians.means / COVARIANCE_UNIT).float().numpy(),
        "covariances": (axes @ axes.mT).float().numpy(),
        "rgbs": colors.float().numpy(),
        "opacities": gaussians.opacities.float()[:, None].numpy(),
    }


def coarse_arrays(arrays: dict[str, np.ndarray], at_most: int) -> dict[str, np.ndarray]:
    """Merge splats that share a cell of a grid into one with their mean, covariance and colour, weighted by opacity.

    Args:
        arrays: what :func:`splat_arrays` gives, [n].
        at_most: how many splats may be left; the cells are chosen as small as that allows.
    """
    kept = arrays["opacities"][:, 0] > FAINT
    if int(kept.sum()) <= at_most:
        return arrays
    centers, weights = arrays["centers"][kept].astype(np.float64), arrays["opacities"][kept, 0].astype(np.float64)
    cell = _cells(centers, at_most)
    count = int(cell.max()) + 1
    total = np.bincount(cell, weights, count)

    def mean(values: np.ndarray) -> np.ndarray:
        flat = (values * weights.reshape(-1, *(1,) * (values.ndim - 1))).reshape(len(values), -1)
        sums = np.stack([np.bincount(cell, column, count) for column in flat.T], -1)
        return (sums / total[:, None]).reshape(count, *values.shape[1:])

    middle = mean(centers)
    offsets = centers - middle[cell]
    covariances = mean(arrays["covariances"][kept] + offsets[:, :, None] * offsets[:, None, :])
    opacities = np.zeros(count)
    np.maximum.at(opacities, cell, weights)
    return {
        "centers": middle.astype(np.float32),
        "covariances": (SPREAD * covariances).astype(np.float32),
        "rgbs": mean(arrays["rgbs"][kept]).clip(0, 1).astype(np.float32),
        "opacities": opacities[:, None].astype(np.float32),
    }


def _cells(centers: np.ndarray, at_most: int) -> np.ndarray:
    """Number of each point's cell in the finest cubic grid that has at most so many cells with points in them."""
    low, extent = centers.min(0), float(np.ptp(centers, axis=0).max()) or 1.0
    coarse, fine = 1.0, float(at_most)
    cells = np.zeros(len(centers), dtype=np.int64)
    for _ in range(12):
        along = (coarse * fine) ** 0.5
        grid = np.floor((centers - low) / extent * along).astype(np.int64)
        side = int(grid.max()) + 1
        occupied, tried = np.unique((grid[:, 0] * side + grid[:, 1]) * side + grid[:, 2], return_inverse=True)
        if len(occupied) <= at_most:
            coarse, cells = along, tried
        else:
            fine = along
    return cells


class SplatNode:
    """Splats of one scene node: all of them, or few while they move on a page that draws slowly."""

    def __init__(self, scene: Any, path: str, gaussians: Gaussians, tinted: bool) -> None:
        self._all = splat_arrays(gaussians, tinted)
        self._few: dict[str, np.ndarray] | None = None
        self._handle = scene.add_gaussian_splats(path, **self._all, scale=COVARIANCE_UNIT)

    def __len__(self) -> int:
        return len(self._all["centers"])

    def show_few(self, at_most: int) -> None:
        """Put merged splats into the node."""
        if self._few is None:
            self._few = coarse_arrays(self._all, at_most)
        self._handle.set_gaussians(**self._few)

    def show_all(self) -> None:
        """Put all splats into the node."""
        self._handle.set_gaussians(**self._all)

    def remove(self) -> None:
        """Take the node off the page."""
        self._handle.remove()
