"""Where things stand on the page, and what a mouse ray means: pixels of the picture, Gaussians, camera places."""

import math
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from partrm.geometry.cameras import CANONICAL_DISTANCE, CANONICAL_FOVY_RAD
from partrm.geometry.gaussians import Gaussians
from partrm.inference.source import SourceViews

PICTURE_HEIGHT = 1.15
"""Of the picture on the page, world units."""

MAX_PICTURE_WIDTH = 1.7

PICTURE_RIGHT = -0.68
"""World x of the picture's right edge; the object fills some 0.5 about the origin."""

MIN_PICK_ALPHA = 0.3
"""Opacity that a ray must have met, at least, for its press to be on the object."""

PICK_WIDTH = 1.5
"""Gaussians are that many times as wide for the mouse as they are drawn, so that it need not hit one's middle."""


Pixel = tuple[float, float]
"""x and y in pixels of the user's picture."""


@dataclass(frozen=True)
class PicturePlane:
    """The upright rectangle z = 0 on which the picture is shown, and its pixels."""

    width_px: int
    height_px: int
    center: tuple[float, float, float]
    """World."""
    width: float
    """World units."""
    height: float

    @staticmethod
    def of(width_px: int, height_px: int) -> "PicturePlane":
        """The plane of a picture of that many pixels, to the left of the object."""
        height = min(PICTURE_HEIGHT, MAX_PICTURE_WIDTH * height_px / width_px)
        width = height * width_px / height_px
        return PicturePlane(width_px, height_px, (PICTURE_RIGHT - width / 2, 0.0, 0.0), width, height)

    def to_world(self, pixels: Float[np.ndarray, "*batch 2"], lift: float = 0.0) -> Float[np.ndarray, "*batch 3"]:
        """World points of pixel coordinates, ``lift`` in front of the picture."""
        x = self.center[0] + (pixels[..., 0] / self.width_px - 0.5) * self.width
        y = self.center[1] - (pixels[..., 1] / self.height_px - 0.5) * self.height
        return np.stack([x, y, np.full_like(x, self.center[2] + lift)], -1)

    def hit(self, eye: Float[np.ndarray, "3"], through: Float[np.ndarray, "3"]) -> Pixel | None:
        """Pixel coordinates, kept inside the picture, where the ray from ``eye`` meets its plane, if it does."""
        direction = through - eye
        if abs(direction[2]) < 1e-9 or (t := (self.center[2] - eye[2]) / direction[2]) <= 0:
            return None
        point = eye + t * direction
        x = ((point[0] - self.center[0]) / self.width + 0.5) * self.width_px
        y = ((self.center[1] - point[1]) / self.height + 0.5) * self.height_px
        return inside(float(x), float(y), self.width_px, self.height_px)


def inside(x: float, y: float, width_px: int, height_px: int) -> Pixel:
    """The pixel position nearest to (x, y) that a drag may have."""
    return min(max(x, 0.0), width_px - 0.5), min(max(y, 0.0), height_px - 0.5)


def pick_gaussian(shown: Gaussians, eye: Float[Tensor, "3"], through: Float[Tensor, "3"]) -> int | None:
    """Index of the Gaussian [n] that a ray shows most, or None if it meets next to nothing.

    Gaussians weigh by opacity times their density at the point of the ray nearest to their centre (as isotropic ones
    of their mean width), blended front to back; the heaviest wins.
    """
    direction = torch.nn.functional.normalize(through - eye, dim=0)
    offset = shown.means - eye
    along = offset @ direction
    away2 = (offset**2).sum(-1) - along**2
    width = shown.scales.sort(dim=-1).values[:, 1:].mean(-1).clamp(min=2e-3) * PICK_WIDTH
    alpha = (shown.opacities * torch.exp(-0.5 * away2.clamp(min=0) / width**2)).clamp(max=0.999)
    alpha = torch.where(along > 0, alpha, 0.0)
    candidates = torch.nonzero(alpha > 1 / 255).flatten()
    if len(candidates) == 0:
        return None
    order = candidates[along[candidates].argsort()]
    through_front = torch.cumprod(1 - alpha[order], 0)
    weight = alpha[order] * torch.cat([through_front.new_ones(1), through_front[:-1]])
    if float(weight.sum()) < MIN_PICK_ALPHA:
        return None
    return int(order[weight.argmax()])


def pixels_of(points: Float[Tensor, "n 3"], views: SourceViews) -> Float[Tensor, "n 2"]:
    """User pixels of the first picture at which world points lie."""
    canonical, _ = views.cameras[:1].project(points[None])
    return views.framed[0].to_source_px(canonical[0])


def voxel_shell(
    means: Float[np.ndarray, "n 3"], cells: int = 28, extent: float = 1.0
) -> tuple[Float[np.ndarray, "v 3"], Int[np.ndarray, "f 3"]]:
    """A coarse closed surface around points: the outer faces of the grid cells of [-extent, extent] that hold any."""
    grid: Bool[np.ndarray, "x y z"] = np.zeros((cells + 2,) * 3, dtype=bool)
    size = 2 * extent / cells
    index = np.floor((means + extent) / size).astype(int)
    index = index[((index >= 0) & (index < cells)).all(1)] + 1
    grid[tuple(index.T)] = True
    quads = []
    for axis in range(3):
        along, u, v = np.roll(np.eye(3, dtype=int), -axis, 0)
        for side in (0, 1):
            corner = np.argwhere(grid & ~np.roll(grid, 1 - 2 * side, axis)) + side * along
            quads.append(np.stack([corner, corner + u, corner + u + v, corner + v], 1))
    corners = np.concatenate(quads).reshape(-1, 4, 3)
    vertices, inverse = np.unique(corners.reshape(-1, 3), axis=0, return_inverse=True)
    four = inverse.reshape(-1, 4)
    faces = np.concatenate([four[:, [0, 1, 2]], four[:, [0, 2, 3]]])
    return (vertices - 1) * size - extent, faces


@dataclass(frozen=True)
class CameraPlace:
    """Where the page's camera stands and looks, world frame."""

    position: tuple[float, float, float]
    look_at: tuple[float, float, float] = (0.0, 0.0, 0.0)


FOVY_RAD = CANONICAL_FOVY_RAD
"""The page's camera has the canonical field of view, so that "Source" looks as the picture does."""

DISTANCE = CANONICAL_DISTANCE

PRESETS = {
    "Source": CameraPlace((0.0, 0.0, DISTANCE)),
    "Left": CameraPlace((-DISTANCE, 0.0, 0.001)),
    "Right": CameraPlace((DISTANCE, 0.0, 0.001)),
    "Above": CameraPlace((0.0, DISTANCE * 0.94, DISTANCE * 0.34)),
    "Behind": CameraPlace((0.0, 0.2, -DISTANCE)),
}
"""Camera places about the object; "Both", which also shows the picture, depends on the window."""


def overview(plane: PicturePlane | None, aspect: float) -> CameraPlace:
    """A place from which picture and object fill a window of that aspect ratio (width over height)."""
    left, right = (-0.7 if plane is None else plane.center[0] - plane.width / 2), 0.72
    half_height = 0.62
    half_width = (right - left) / 2
    reach = max(half_height, half_width / max(aspect, 0.3)) * 1.06
    center = (left + right) / 2
    return CameraPlace((center, 0.0, reach / math.tan(FOVY_RAD / 2)), (center, 0.0, 0.0))
