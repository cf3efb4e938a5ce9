"""Collision geometry: boxes of a coarse grid, which stay hollow, or convex hulls; the body gives way to the part."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float, Int
from numba import njit
from scipy import ndimage

from partrm.assets.part_meshes import SURFACE, SolidPart, large_pieces, missing

CELLS = 40
"""Grid cells along the object's diagonal."""

SUBSAMPLES = 3
"""Points of a cell along each axis at which it is looked whether they are solid."""

OCCUPIED = 0.25
"""Share of solid points from which a cell counts as occupied."""

MIN_CELLS = 2
"""Boxes of fewer cells are dropped: they are crumbs of the surface."""

SLACK = 1.02
"""How much larger than half a cell the body's cells are taken when they give way, so that nothing even touches."""


@dataclass(frozen=True)
class Box:
    """A solid box along the axes of the asset's frame at rest."""

    centre: Float[np.ndarray, "3"]
    half: Float[np.ndarray, "3"]


@dataclass(frozen=True)
class Hull:
    """A convex polyhedron, asset's frame at rest."""

    vertices: Float[np.ndarray, "v 3"]
    faces: Int[np.ndarray, "f 3"]


@dataclass(frozen=True)
class CellGrid:
    """A regular grid of cells that several parts share."""

    low: Float[np.ndarray, "3"]
    """The outer corner of the first cell."""
    shape: tuple[int, int, int]
    cell: float
    """Side of a cell."""

    @staticmethod
    def around(parts: Sequence[SolidPart], cell: float) -> "CellGrid":
        """Cells that cover the parts."""
        low = np.min([part.vertices.min(0) for part in parts], axis=0)
        high = np.max([part.vertices.max(0) for part in parts], axis=0)
        x, y, z = np.ceil((high - low) / cell + 0.5).astype(int).tolist()
        return CellGrid(low - 0.25 * cell, (x, y, z), cell)

    def occupied(self, part: SolidPart) -> Bool[np.ndarray, "x y z"]:
        """Cells with enough of the part in them."""
        steps = [(np.arange(n * SUBSAMPLES) + 0.5) / SUBSAMPLES * self.cell for n in self.shape]
        points = np.stack(np.meshgrid(*steps, indexing="ij"), -1) + self.low
        index = part.grid.to_index(points.reshape(-1, 3)).T
        inside = ndimage.map_coordinates(part.solid, index, order=1, mode="constant") > SURFACE
        x, y, z = self.shape
        shares = inside.reshape(x, SUBSAMPLES, y, SUBSAMPLES, z, SUBSAMPLES).mean((1, 3, 5))
        return large_pieces(shares >= OCCUPIED)

    def boxes(self, occupied: Bool[np.ndarray, "x y z"]) -> list[Box]:
        """Few boxes that together cover exactly the occupied cells, without crumbs."""
        corners = _greedy_boxes(occupied)
        kept = corners[(corners[:, 1] - corners[:, 0]).prod(1) >= MIN_CELLS]
        return [Box(self.low + self.cell * (a + b) / 2, self.cell * (b - a) / 2) for a, b in kept]

    def centres(self, cells: Int[np.ndarray, "n 3"]) -> Float[np.ndarray, "n 3"]:
        """Centres of cells given by their indices."""
        return self.low + self.cell * (cells + 0.5)


def part_boxes(grid: CellGrid, part: SolidPart) -> list[Box]:
    """The boxes of a part that moves; its bounding box where it is smaller than the grid's cells."""
    boxes = grid.boxes(grid.occupied(part))
    if boxes:
        return boxes
    low, high = part.vertices.min(0), part.vertices.max(0)
    return [Box((low + high) / 2, (high - low) / 2)]


def cleared(
    grid: CellGrid, body: Bool[np.ndarray, "x y z"], moving: Sequence[Box], poses: Float[np.ndarray, "steps 4 4"]
) -> Bool[np.ndarray, "x y z"]:
    """The body's cells that the boxes of a part meet in none of its poses (``T_asset_rest``)."""
    cells = np.argwhere(body)
    hit = hits(grid, cells, moving, poses).any(0)
    left = body.copy()
    left[tuple(cells[hit].T)] = False
    return large_pieces(left)


def hits(
    grid: CellGrid, cells: Int[np.ndarray, "n 3"], moving: Sequence[Box], poses: Float[np.ndarray, "steps 4 4"]
) -> Bool[np.ndarray, "steps n"]:
    """Which cells overlap the boxes of a part in each of its poses; never misses one."""
    inverse = np.linalg.inv(poses)
    centres, halves = np.array([b.centre for b in moving]), np.array([b.half for b in moving])
    return _hits(grid.centres(cells), 0.5 * SLACK * grid.cell, centres, halves, inverse)


def convex_hulls(vertices: Float[np.ndarray, "v 3"], faces: Int[np.ndarray, "f 3"]) -> list[Hull]:
    """CoACD's convex decomposition of a closed mesh.

    Raises:
        PackageMissingError: coacd is missing.
    """
    try:
        import coacd
    except ImportError as error:
        raise missing("coacd") from error
    coacd.set_log_level("error")
    pieces = coacd.run_coacd(coacd.Mesh(vertices, faces), threshold=0.05, preprocess_mode="off", max_convex_hull=32)
    return [Hull(np.asarray(v, dtype=np.float64), np.asarray(f, dtype=np.int64)) for v, f in pieces]


@njit(cache=True, nogil=True, error_model="numpy")
def _hits(points, reach, centres, halves, inverse):  # pragma: no cover
    found = np.zeros((inverse.shape[0], points.shape[0]), np.bool_)
    for s in range(inverse.shape[0]):
        T = inverse[s]
        # A cube's extent along the turned axes of the boxes.
        e = np.empty(3)
        for i in range(3):
            e[i] = reach * (abs(T[i, 0]) + abs(T[i, 1]) + abs(T[i, 2]))
        for n in range(points.shape[0]):
            p = points[n]
            x = T[0, 0] * p[0] + T[0, 1] * p[1] + T[0, 2] * p[2] + T[0, 3]
            y = T[1, 0] * p[0] + T[1, 1] * p[1] + T[1, 2] * p[2] + T[1, 3]
            z = T[2, 0] * p[0] + T[2, 1] * p[1] + T[2, 2] * p[2] + T[2, 3]
            for b in range(centres.shape[0]):
                if (
                    abs(x - centres[b, 0]) < halves[b, 0] + e[0]
                    and abs(y - centres[b, 1]) < halves[b, 1] + e[1]
                    and abs(z - centres[b, 2]) < halves[b, 2] + e[2]
                ):
                    found[s, n] = True
                    break
    return found


@njit(cache=True, nogil=True)
def _greedy_boxes(occupied):  # pragma: no cover
    """Corners [n, 2, 3] of boxes: the first free cell grows along the axes in the order that makes it largest."""
    free = occupied.copy()
    orders = np.array([[0, 1, 2], [1, 2, 0], [2, 0, 1], [0, 2, 1], [1, 0, 2], [2, 1, 0]])
    found = []
    for x in range(free.shape[0]):
        for y in range(free.shape[1]):
            for z in range(free.shape[2]):
                if not free[x, y, z]:
                    continue
                low = np.array([x, y, z])
                best, best_volume = low + 1, 0
                for order in orders:
                    high = low + 1
                    for axis in order:
                        while high[axis] < free.shape[axis]:
                            a, b = low.copy(), high.copy()
                            a[axis], b[axis] = high[axis], high[axis] + 1
                            if not free[a[0] : b[0], a[1] : b[1], a[2] : b[2]].all():
                                break
                            high[axis] += 1
                    volume = (high - low).prod()
                    if volume > best_volume:
                        best, best_volume = high, volume
                free[low[0] : best[0], low[1] : best[1], low[2] : best[2]] = False
                found.append((low, best))
    corners = np.empty((len(found), 2, 3), np.int64)
    for n in range(len(found)):
        corners[n, 0], corners[n, 1] = found[n]
    return corners
