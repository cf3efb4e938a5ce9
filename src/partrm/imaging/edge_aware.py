"""Probabilities brought to an image's own edges: edge-aware least squares by tridiagonal sweeps."""

import numpy as np
from jaxtyping import Float

ROUNDS = 3
"""Sweeps along rows and along columns, each with less smoothing than the one before."""

MIN_CONFIDENCE = 0.02
"""What a pixel of probability one half counts; a sure one counts 1."""


def follow_edges(
    probability: Float[np.ndarray, "h w"],
    guide: Float[np.ndarray, "h w c"],
    inside: Float[np.ndarray, "h w"],
    reach_px: float,
    contrast: float,
) -> Float[np.ndarray, "h w"]:
    """Probabilities that change where the guide does.

    Minimises the squared change against the given probabilities, weighted by how sure they are, plus squared
    differences of neighbours, weighted by how alike the guide's colours are (fast global smoother, Min et al. 2014).

    Args:
        probability: [0, 1].
        guide: the image, [0, 1].
        inside: 1 where the object is; nothing flows across its outline.
        reach_px: how far certainty flows where the guide is even.
        contrast: difference of colours (root of the summed squares) that cuts the flow to a third.
    """
    sure = np.maximum(np.abs(2 * probability - 1), MIN_CONFIDENCE) * (inside > 0.5)
    values = np.stack([probability * sure, sure]).astype(np.float64)
    across = _likeness(guide, inside, 1, contrast), _likeness(guide, inside, 0, contrast)
    for round_ in range(ROUNDS):
        strength = reach_px**2 * 1.5 * 4 ** (ROUNDS - 1 - round_) / (4**ROUNDS - 1)
        values = _sweep(values, strength * across[0])
        values = _sweep(values.transpose(0, 2, 1), strength * across[1].T).transpose(0, 2, 1)
    return np.where(values[1] > 1e-9, values[0] / np.maximum(values[1], 1e-9), probability)


def _likeness(
    guide: Float[np.ndarray, "h w c"], inside: Float[np.ndarray, "h w"], axis: int, contrast: float
) -> Float[np.ndarray, "h2 w2"]:
    """How alike each pixel and the next one along an axis are, [0, 1]."""
    step = np.sqrt((np.diff(guide, axis=axis) ** 2).sum(-1))
    both = np.minimum(
        np.take(inside, range(1, inside.shape[axis]), axis), np.take(inside, range(inside.shape[axis] - 1), axis)
    )
    return np.exp(-step / contrast) * (both > 0.5) + 1e-6


def _sweep(values: Float[np.ndarray, "k h w"], links: Float[np.ndarray, "h w1"]) -> Float[np.ndarray, "k h w"]:
    """Solve (1 + L) x = values along each row, L the Laplacian of the links between neighbours (Thomas algorithm)."""
    width = values.shape[2]
    left = np.concatenate([np.zeros_like(links[:, :1]), links], 1)
    right = np.concatenate([links, np.zeros_like(links[:, :1])], 1)
    diagonal = 1 + left + right
    upper, solved = np.empty_like(left), np.empty_like(values)
    upper[:, 0] = -right[:, 0] / diagonal[:, 0]
    solved[..., 0] = values[..., 0] / diagonal[:, 0]
    for x in range(1, width):
        pivot = diagonal[:, x] + left[:, x] * upper[:, x - 1]
        upper[:, x] = -right[:, x] / pivot
        solved[..., x] = (values[..., x] + left[:, x] * solved[..., x - 1]) / pivot
    for x in range(width - 2, -1, -1):
        solved[..., x] -= upper[:, x] * solved[..., x + 1]
    return solved
