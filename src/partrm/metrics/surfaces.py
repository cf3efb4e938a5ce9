"""How near two surfaces are, as sets of points of them."""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float
from scipy.spatial import KDTree

POINTS = 20_000
"""Drawn of either set, with repetition, so that both are as dense."""


@dataclass(frozen=True)
class SurfaceMatch:
    """Of a surface and the true one, in units of the points."""

    chamfer: float
    """Mean distance of either to the other, summed."""
    f05: float
    """F-score of points nearer than 0.05."""
    f02: float
    """F-score of points nearer than 0.02."""


def match_surfaces(found: Float[np.ndarray, "n 3"], true: Float[np.ndarray, "m 3"]) -> SurfaceMatch | None:
    """Chamfer distance and F-scores (Tatarchenko et al. 2019); None where a set is empty.

    Args:
        found: points of the surface, in lengths of which 1 is the object's diagonal.
        true: likewise.
    """
    if not (len(found) and len(true)):
        return None
    rng = np.random.default_rng(0)
    found, true = (points[rng.integers(0, len(points), POINTS)] for points in (found, true))
    accuracy, completeness = KDTree(true).query(found)[0], KDTree(found).query(true)[0]

    def f_score(within: float) -> float:
        precision, recall = float((accuracy < within).mean()), float((completeness < within).mean())
        return 2 * precision * recall / max(precision + recall, 1e-9)

    return SurfaceMatch(float(accuracy.mean() + completeness.mean()), f_score(0.05), f_score(0.02))
