"""A made-up photograph: a cabinet before a patterned wall."""

import numpy as np
from scipy import ndimage

BOX = (70.0, 50.0, 210.0, 190.0)


def kitchen(width=280, height=240, seed=0):
    """A picture of a cabinet of two doors before a patterned wall, and the cabinet's mask."""
    rng = np.random.default_rng(seed)
    blobs = ndimage.gaussian_filter(rng.random((height, width, 3)), (5, 5, 0))
    wall = np.array([0.35, 0.45, 0.3]) + 1.6 * (blobs - blobs.mean())
    left, top, right, bottom = (int(v) for v in BOX)
    mask = np.zeros((height, width), bool)
    mask[top:bottom, left:right] = True
    grain = ndimage.gaussian_filter(rng.random((height, width)), (1, 12))
    wood = np.array([0.75, 0.5, 0.25]) + 0.5 * (grain - grain.mean())[..., None]
    wood[:, (left + right) // 2 - 1 : (left + right) // 2 + 1] *= 0.4
    picture = np.where(mask[..., None], wood, wall).clip(0, 1)
    return (picture * 255).round().astype(np.uint8), mask
