"""Collision geometry: boxes of a coarse grid, which stay hollow, or convex hulls; the body gives way to the part."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float, Int
from scipy import ndimage

from partrm.assets._kernels import cells_hit, grown_boxes
from partrm.assets.part_meshes import SURFACE, SolidPart, large_pieces, missing

CELLS = 40
"""Grid cells along the object's diagonal."""

SUBSAMPLES = 3
"""Points of a cell along each axis at which it is looked whether they are solid."""

OCCUPIED = 0.35
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
        corners = greedy_boxes(occupied)
        kept = corners[(corners[:, 1] - corners[:, 0]).prod(1) >= MIN_CELLS]
        return [Box(self.low + self.cell * (a + b) / 2, self.cell * (b - a) / 2) for a, b in kept]

    def centres(self, cells: Int[np.ndarray, "n 3"]) -> Float[np.ndarray, "n 3"]:
        """Centres of cells given by their indices."""
        return self.low + self.cell * (cells + 0.5)


def part_boxes(grid: CellGrid, part: SolidPart, occupied: Bool[np.ndarray, "x y z"]) -> list[Box]:
    """The boxes of a part that moves and has these cells; its bounding box where it is smaller than the cells."""
    boxes = grid.boxes(occupied)
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
    return cells_hit(grid.centres(cells), 0.5 * SLACK * grid.cell, centres, halves, inverse)


def convex_hulls(vertices: Float[np.ndarray, "v 3"], faces: Int[np.ndarray, "f 3"]) -> list[Hull]:
    """CoACD's convex decomposition of a closed mesh.

    Raises:
        PackageMissingError: coacd is missing.
    """
    try:
        import coacd
    except ImportError as error:
        raise missing("coacd", "hulls") from error
    coacd.set_log_level("error")
    pieces = coacd.run_coacd(coacd.Mesh(vertices, faces), threshold=0.05, preprocess_mode="off", max_convex_hull=32)
    return [Hull(np.asarray(v, dtype=np.float64), np.asarray(f, dtype=np.int64)) for v, f in pieces]


def greedy_boxes(occupied: Bool[np.ndarray, "x y z"]) -> Int[np.ndarray, "n 2 3"]:
    """Lowest and highest corners of boxes: the first free cell grows along the axes in the order that makes it
    largest, and so on."""
    found = np.empty((np.count_nonzero(occupied), 2, 3), dtype=np.int64)
    return found[: grown_boxes(occupied.copy(), found)]
