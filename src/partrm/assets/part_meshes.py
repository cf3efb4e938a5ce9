"""Closed meshes of the parts: density with its cavities filled, marching cubes, decimation that keeps it closed."""

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from jaxtyping import Bool, Float, Int
from scipy import ndimage

from partrm.assets.density import DensityGrid, sample_density
from partrm.assets.predicted import AssetError
from partrm.geometry.gaussians import Gaussians
from partrm.objects.articulated_object import PackageMissingError

if TYPE_CHECKING:
    from manifold3d import Manifold

VOXELS = 150
"""Grid points along the object's diagonal."""

SOLID = 0.5
"""Density of what counts as solid."""

SURFACE = 0.45
"""Level of the smoothed solid at which its surface lies."""

SMOOTHING = 0.7
"""Standard deviation of that smoothing, voxels."""

CLOSING = 3
"""Gaps up to twice as many voxels are closed before cavities are filled."""

MIN_SHARE = 0.03
"""Pieces smaller than this share of the largest one are dropped."""

FACES = 4000
"""Triangles that a part's mesh has at most, as far as :data:`TOLERANCES` allow."""

TOLERANCES = (0.1, 0.2, 0.3, 0.4, 0.5, 0.7, 1.0, 1.4)
"""Voxels that the surface may move by in each step of decimation."""


@dataclass(frozen=True)
class SolidPart:
    """One part as a closed mesh and as the grid that it was made from."""

    vertices: Float[np.ndarray, "v 3"]
    faces: Int[np.ndarray, "f 3"]
    """Counter-clockwise from outside."""
    solid: Float[np.ndarray, "x y z"]
    """Above :data:`SURFACE` inside."""
    grid: DensityGrid
    """Density and colour at the same points; every point has a colour."""


def mesh_part(gaussians: Gaussians, voxel: float, name: str, faces: int = FACES) -> SolidPart:
    """The closed surface of one part's Gaussians [n], in their frame.

    Args:
        gaussians: of this part alone.
        voxel: of the grid; nothing thinner is resolved.
        name: what errors call the part.
        faces: triangles at most.

    Raises:
        AssetError: the Gaussians are too few or too faint for a surface.
        PackageMissingError: scikit-image or manifold3d is missing.
    """
    grid = sample_density(gaussians, voxel, margin=(2 * CLOSING + 3) * voxel)
    solid = _filled(grid.density)
    if solid is None:
        raise AssetError(f"the {name} is too faint for a surface ({len(gaussians)} Gaussians): drag another point")
    vertices, triangles = _decimated(_marching_cubes(solid), faces, name)
    whole = DensityGrid(grid.density, _colors_everywhere(grid), grid.low, grid.voxel)
    return SolidPart(grid.to_points(vertices), triangles, solid, whole)


def _filled(density: Float[np.ndarray, "x y z"]) -> Float[np.ndarray, "x y z"] | None:
    """Density up to 1 near solid matter, 1 in closed cavities, smoothed; None where nothing is solid."""
    matter = large_pieces(density > SOLID)
    if not matter.any():
        return None
    ball = ndimage.generate_binary_structure(3, 1)
    closed = np.asarray(ndimage.binary_closing(matter, ball, iterations=CLOSING), dtype=bool) | matter
    cavities = np.asarray(ndimage.binary_fill_holes(closed), dtype=bool)
    near = np.asarray(ndimage.binary_dilation(matter, ball), dtype=bool)
    inside = np.where(near, np.minimum(density, 1.0), np.where(cavities, 1.0, 0.0))
    # Faint matter that closes a cavity stays just above the surface's level.
    inside = np.maximum(inside, 0.51 * (cavities & (~near | (density > 0.3))))
    return ndimage.gaussian_filter(inside.astype(np.float32), SMOOTHING)


def large_pieces(solid: Bool[np.ndarray, "x y z"]) -> Bool[np.ndarray, "x y z"]:
    """Without the connected pieces that are small beside the largest."""
    pieces = np.zeros(solid.shape, np.int32)
    if ndimage.label(solid, output=pieces) == 0:
        return solid
    sizes = np.bincount(pieces.ravel())
    sizes[0] = 0
    return (sizes >= MIN_SHARE * sizes.max())[pieces]


def _colors_everywhere(grid: DensityGrid) -> Float[np.ndarray, "x y z 3"]:
    """Colours, those of the nearest coloured point where there is none."""
    unknown = grid.density < SOLID / 10
    nearest = ndimage.distance_transform_edt(unknown, return_distances=False, return_indices=True)
    return grid.colors[tuple(np.asarray(nearest))]


def _marching_cubes(solid: Float[np.ndarray, "x y z"]) -> tuple[np.ndarray, np.ndarray]:
    """Vertices (grid indices) and faces of the surface, outward."""
    try:
        from skimage.measure import marching_cubes
    except ImportError as error:
        raise missing("scikit-image") from error
    padded = np.pad(solid, 1)
    vertices, faces, _, _ = marching_cubes(padded, SURFACE, gradient_direction="ascent")
    return vertices - 1, faces


def _decimated(
    surface: tuple[np.ndarray, np.ndarray], faces: int, name: str
) -> tuple[Float[np.ndarray, "v 3"], Int[np.ndarray, "f 3"]]:
    """The surface with fewer triangles, in grid indices, without crumbs."""
    try:
        from manifold3d import Error, Manifold, Mesh
    except ImportError as error:
        raise missing("manifold3d") from error
    vertices, triangles = surface
    whole = Manifold(Mesh(vertices.astype(np.float32), triangles.astype(np.uint32)))
    if whole.status() != Error.NoError:
        raise AssetError(f"the surface of the {name} does not close ({whole.status().name})")
    pieces = whole.decompose()
    # A cavity that stays open inside is a piece of negative volume.
    volumes = [piece.volume() for piece in pieces]
    kept = [p for p, volume in zip(pieces, volumes, strict=True) if volume >= MIN_SHARE * max(volumes)]
    simple = Manifold.compose(kept)
    # Growing steps: a large tolerance at once leaves more triangles than one that small steps have prepared.
    for tolerance in TOLERANCES:
        if simple.num_tri() <= faces:
            break
        simple = _simplified(simple, tolerance)
    mesh = simple.to_mesh()
    return np.asarray(mesh.vert_properties[:, :3], dtype=np.float64), np.asarray(mesh.tri_verts, dtype=np.int64)


def _simplified(body: "Manifold", tolerance: float) -> "Manifold":
    """Simplified, unless nothing is left."""
    simple = body.simplify(tolerance)
    return body if simple.is_empty() else simple


def missing(package: str, extra: str = "export") -> PackageMissingError:
    """The error that names the extra."""
    return PackageMissingError(f"assets need the package {package}: pip install 'partrm[{extra}]'")
