"""Faces of a body that waver become nearly flat: a cabinet's front, its sides, its top.

Large planes are found among Gaussians, which are drawn towards the planes that they lie near to and along. How far they
are drawn changes smoothly in space, so that nothing tears where a face ends.
"""

import math
from dataclasses import replace

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from scipy.ndimage import gaussian_filter
from scipy.spatial import KDTree
from torch import Tensor

from partrm.geometry.cameras import Cameras
from partrm.geometry.gaussians import Gaussians
from partrm.geometry.planes import fitted_plane, is_bent

MOST_FACES, LEAST_SHARE = 6, 0.1
"""Planes looked for, and the share of the surface that each explains at least."""

NEAR, FAR = 0.04, 0.12
"""What lies so near to a plane is drawn onto it, what lies farther than the second is not drawn, canonical units."""

ALONG = (0.3, 0.6)
"""Cosines between the surface's normal and a plane's from which on it is drawn, and wholly drawn."""

ROUNDS = 2
"""Of drawing: what is smoothed comes short of the plane each time."""

CELL, SMOOTHING = 0.02, 2.0
"""Of the grid on which the drawing is smoothed, canonical units; and the standard deviation, cells."""

SOLID = 0.3
"""Opacity of Gaussians that tell of faces."""

DEPTHS_PX, BEHIND = 48, 0.05
"""Side of the picture of depths that tells what is shown, no finer than splats; how far behind the first it may lie."""

NEIGHBOURS = 24
"""Points that tell how the surface lies about each."""

SAMPLE, PATCH = 4000, 0.03
"""Gaussians that are looked at, and the cells that count alike however many of them they hold, canonical units."""

TRIPLES, OTHERS, REACH = 300, 256, (0.05, 0.5)
"""Planes tried for each face, through a point and two of so many others, within these distances of it."""

REFITS = 5
"""Least-squares fits to what lies near the best of them."""

ASKEW = (0.5, 0.95)
"""Cosines to the faces found before at which a plane is none: it cuts a corner."""

ONE_FACE = 0.1
"""Nor is one beside a face that is parallel to it and so near, canonical units."""

Plane = tuple[Float[Tensor, "3"], float]
"""Unit normal and offset."""


def with_flat_faces(gaussians: Gaussians, shown: Bool[Tensor, " n"]) -> Gaussians:
    """The same Gaussians [n] of one body, those near its large flat faces moved towards these.

    Args:
        gaussians: lengths in canonical units (the object about 1 long).
        shown: which of them the picture shows; the others tell of no face and stay, such as backs of thin boards.
    """
    seen = gaussians[shown]
    points = _sampled(seen)
    if len(points) < OTHERS:
        return gaussians
    about = normals_about(points)
    planes = large_faces(points, about)
    if not planes:
        return gaussians
    _, nearest = KDTree(points.numpy()).query(seen.means.numpy())
    normals, means = about[torch.from_numpy(nearest)], seen.means
    for _ in range(ROUNDS):
        means = means + _smoothed(means, _drawn(means, normals, planes), seen.opacities)
    moved = gaussians.means.clone()
    moved[shown] = means
    return replace(gaussians, means=moved)


def shown_to(camera: Cameras, gaussians: Gaussians) -> Bool[Tensor, " n"]:
    """Which Gaussians [n] an unbatched camera sees: those before which no opaque one lies."""
    small = camera.resized(DEPTHS_PX)
    pixels, depth = small.project(gaussians.means)
    x, y = pixels.nan_to_num(0.0).clamp(0, DEPTHS_PX - 1).long().unbind(-1)
    pixel, solid = y * DEPTHS_PX + x, gaussians.opacities > SOLID
    first = torch.full((DEPTHS_PX**2,), torch.inf).scatter_reduce(0, pixel[solid], depth[solid], "amin")
    return depth < first[pixel] + BEHIND


def large_faces(points: Float[Tensor, "n 3"], normals: Float[Tensor, "n 3"]) -> list[Plane]:
    """The planes that explain most of a surface, the largest first (RANSAC one after the other, seeded).

    What a plane explains of a bent surface, such as a drum's, is none of its faces.

    Args:
        points: some thousands of the surface, canonical units.
        normals: of the surface about each (:func:`normals_about`).
    """
    generator = torch.Generator().manual_seed(0)
    _, patch, count = (points / PATCH).floor().unique(dim=0, return_inverse=True, return_counts=True)
    weights = 1 / count[patch].float()
    least, faces = LEAST_SHARE * float(weights.sum()), list[Plane]()
    for _ in range(MOST_FACES):
        plane = _best_plane(points, normals, weights, least, generator)
        if plane is None:
            break
        normal, offset = plane
        off = points @ normal - offset
        explained = (off.abs() < 1.5 * NEAR) & ((normals @ normal).abs() > 0.5)
        of_plane = explained & (weights > 0)
        if all(_goes_with(plane, face) for face in faces) and not is_bent(points[of_plane], off[of_plane]):
            faces.append(plane)
        weights = weights.masked_fill(explained, 0.0)
    return faces


def _best_plane(
    points: Float[Tensor, "n 3"],
    normals: Float[Tensor, "n 3"],
    weights: Float[Tensor, " n"],
    least: float,
    generator: torch.Generator,
) -> Plane | None:
    """The plane that most of the weight lies near to and along; None where that is less than ``least``."""
    if int((weights > 0).sum()) < OTHERS:
        return None
    first, second, third = _triples(points, normals, weights, generator).unbind(1)
    normal = torch.linalg.cross(points[second] - points[first], points[third] - points[first])
    length = normal.norm(dim=-1)
    normal = normal / length.clamp(min=1e-9)[:, None]
    off = (points @ normal.T - (normal * points[first]).sum(-1)) / NEAR
    along = (normals @ normal.T).abs() > ALONG[1]
    score = ((1 - off**2).clamp(min=0) * along * weights[:, None]).sum(0).masked_fill(length < 1e-4, 0.0)
    best = int(score.argmax())
    if float(score[best]) < least:
        return None
    n, d = normal[best], normal[best] @ points[first[best]]
    for _ in range(REFITS):
        share = weights * (1 - ((points @ n - d) / (2 * NEAR)) ** 2).clamp(min=0) ** 2
        share = share * ((normals @ n).abs() > ALONG[1])
        if not least / 4 <= float(share.sum()) < torch.inf:
            return None
        n, d = fitted_plane(points, share)
    return n, float(d)


def _triples(
    points: Float[Tensor, "n 3"],
    normals: Float[Tensor, "n 3"],
    weights: Float[Tensor, " n"],
    generator: torch.Generator,
) -> Int[Tensor, "triples 3"]:
    """Points of one face, as it seems: near to each other, their normals alike."""
    first = torch.multinomial(weights, TRIPLES, replacement=True, generator=generator)
    others = torch.multinomial(weights, OTHERS, generator=generator)
    apart = torch.cdist(points[first], points[others])
    alike = (normals[first] @ normals[others].T).abs() > ALONG[1]
    apart = apart.masked_fill(~alike | (apart < REACH[0]) | (apart > REACH[1]), torch.inf)
    drawn = (torch.rand(apart.shape, generator=generator) - apart).topk(2, 1).indices
    return torch.cat([first[:, None], others[drawn]], 1)


def _goes_with(plane: Plane, face: Plane) -> bool:
    cosine = float(plane[0] @ face[0])
    if abs(cosine) > ASKEW[1]:
        return abs(plane[1] - math.copysign(face[1], face[1] * cosine)) > ONE_FACE
    return abs(cosine) < ASKEW[0]


def _drawn(means: Float[Tensor, "n 3"], normals: Float[Tensor, "n 3"], planes: list[Plane]) -> Float[Tensor, "n 3"]:
    """The way of each Gaussian to the planes that it lies near to and along."""
    way = torch.zeros_like(means)
    for normal, offset in planes:
        off = means @ normal - offset
        near = ((FAR - off.abs()) / (FAR - NEAR)).clamp(0, 1)
        along = (((normals @ normal).abs() - ALONG[0]) / (ALONG[1] - ALONG[0])).clamp(0, 1)
        way -= (near * along * off)[:, None] * normal
    return way


def _smoothed(
    means: Float[Tensor, "n 3"], way: Float[Tensor, "n 3"], opacities: Float[Tensor, " n"]
) -> Float[Tensor, "n 3"]:
    """Ways averaged over what lies about each Gaussian; cells of a grid count for what they hold, up to a few."""
    cell = ((means - means.amin(0)) / CELL).round().long()
    shape = (cell.amax(0) + 1).tolist()
    flat = (cell[:, 0] * shape[1] + cell[:, 1]) * shape[2] + cell[:, 2]
    held = torch.zeros(shape[0] * shape[1] * shape[2]).index_add(0, flat, opacities)
    counted = held.clamp(max=5.0)
    spread = _blurred(counted, shape)
    smooth = []
    for along in way.unbind(1):
        mean = torch.zeros_like(held).index_add(0, flat, opacities * along) / held.clamp(min=1e-6)
        smooth.append((_blurred(mean * counted, shape) / spread.clamp(min=1e-6))[flat])
    return torch.stack(smooth, 1)


def _blurred(values: Float[Tensor, " cells"], shape: list[int]) -> Float[Tensor, " cells"]:
    blurred = gaussian_filter(values.numpy().reshape(shape), SMOOTHING, mode="constant")
    return torch.from_numpy(np.ascontiguousarray(blurred)).flatten()


def _sampled(gaussians: Gaussians) -> Float[Tensor, "n 3"]:
    """Centres of some opaque Gaussians."""
    solid = (gaussians.opacities > SOLID).nonzero()[:, 0]
    return gaussians.means[solid[torch.randperm(len(solid), generator=torch.Generator().manual_seed(0))[:SAMPLE]]]


def normals_about(points: Float[Tensor, "n 3"]) -> Float[Tensor, "n 3"]:
    """Of the surface about each point, of either sign; splats as small as pixels are round, and tell none."""
    _, about = KDTree(points.numpy()).query(points.numpy(), k=min(NEIGHBOURS, len(points)))
    near = points[torch.from_numpy(about)]
    centred = near - near.mean(1, keepdim=True)
    return torch.linalg.eigh(centred.mT @ centred).eigenvectors[..., 0]
