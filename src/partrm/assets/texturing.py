"""Textures: one atlas a part, coloured by the photo where it sees the surface and by the Gaussians elsewhere."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float, Int, UInt8
from scipy import ndimage

from partrm.assets._kernels import rasterise, texel_points
from partrm.assets.part_meshes import SolidPart, missing
from partrm.assets.predicted import PosedImage
from partrm.geometry.cameras import Cameras

PADDING_PX = 4
"""Between the charts of an atlas, filled with the nearest chart's colours so that no seam shows."""

FACING = (0.15, 0.45)
"""Cosines of the angle between surface and view at which the photo's share is 0 and 1."""

EDGE = 1 / 128
"""Margin of outlines and of edges between parts, image sides, in which the photo mixes two surfaces."""

DEPTH_VOXELS = 2.5
"""How far a point may lie behind the surface that the photo's camera meets first."""


@dataclass(frozen=True)
class Texture:
    """What the faces of a mesh show."""

    corner_uv: Float[np.ndarray, "f 3 2"]
    """v = 1 at the image's top."""
    image: UInt8[np.ndarray, "h w 3"]
    photo_share: float
    """Of the surface's texels, how much of their colour comes from the photo."""


@dataclass(frozen=True)
class View:
    """A photo and which part its camera meets where."""

    rgba: Float[np.ndarray, "h w 4"]
    camera: Cameras
    """[1], in the parts' frame."""
    part: Int[np.ndarray, "h w"]
    """Number of the part, -1 for none."""
    depth: Float[np.ndarray, "h w"]
    """Camera z of the first surface; infinite where there is none."""
    sure: Bool[np.ndarray, "h w"]
    """Away from outlines of the object and of its parts."""


def see_parts(photo: PosedImage, camera: Cameras, parts: Sequence[SolidPart]) -> View:
    """What a photo shows of the parts.

    Args:
        photo: the image.
        camera: [1] its camera in the parts' frame.
        parts: all parts in the photo's state.
    """
    rgba = photo.image.permute(1, 2, 0).double().numpy()
    height, width = rgba.shape[:2]
    number, depth = np.full((height, width), -1), np.full((height, width), np.inf)
    for index, part in enumerate(parts):
        pixels, z = _project(camera, part.vertices)
        _, here = rasterise(np.concatenate([pixels, z[:, None]], 1)[part.faces], width, height)
        nearer = here < depth
        number[nearer], depth[nearer] = index, here[nearer]
    margin = max(1, round(EDGE * max(height, width)))
    opaque = ndimage.binary_erosion(rgba[..., 3] > 0.9, iterations=margin)
    window = 2 * margin + 1
    alone = ndimage.minimum_filter(number, window) == ndimage.maximum_filter(number, window)
    return View(rgba, camera, number, depth, opaque & alone)


def bake_texture(part: SolidPart, number: int, view: View | None, size_px: int) -> Texture:
    """Unwrap a part's surface and colour it.

    Args:
        part: the mesh and the colours around it.
        number: of this part in ``view``.
        view: the photo; None leaves all to the Gaussians.
        size_px: side of the texture.

    Raises:
        PackageMissingError: xatlas is missing.
    """
    corner_uv = _unwrap(part, size_px)
    corners = np.concatenate([corner_uv * [1, -1] + [0, 1], np.ones((*corner_uv.shape[:2], 1))], -1)
    face, _ = rasterise(corners * [size_px, size_px, 1], size_px, size_px)
    rows, columns = np.nonzero(face >= 0)
    face = face[rows, columns]
    points = texel_points(part.vertices[part.faces], corner_uv, face, rows, columns, size_px)
    colors = _grid_colors(part, points)
    share = 0.0
    if view is not None:
        seen, photo, weight = _photo_colors(view, number, part, points, face)
        colors[seen] += weight[:, None] * (photo - colors[seen])
        share = float(weight.sum() / len(points))
    image = np.zeros((size_px, size_px, 3), np.uint8)
    image[rows, columns] = (colors.clip(0, 1).astype(np.float64) * 255).round()
    empty = np.ones((size_px, size_px), bool)
    empty[rows, columns] = False
    nearest = ndimage.distance_transform_edt(empty, return_distances=False, return_indices=True)
    return Texture(corner_uv, image[tuple(np.asarray(nearest))], share)


def _unwrap(part: SolidPart, size_px: int) -> Float[np.ndarray, "f 3 2"]:
    try:
        import xatlas
    except ImportError as error:
        raise missing("xatlas") from error
    atlas = xatlas.Atlas()
    atlas.add_mesh(part.vertices.astype(np.float32), part.faces.astype(np.uint32))
    packing = xatlas.PackOptions()
    packing.resolution, packing.padding, packing.bilinear = size_px, PADDING_PX, True
    atlas.generate(xatlas.ChartOptions(), packing)
    _, indices, uv = atlas[0]
    return uv[indices].astype(np.float64)


def _grid_colors(part: SolidPart, points: Float[np.ndarray, "n 3"]) -> Float[np.ndarray, "n 3"]:
    index = part.grid.to_index(points).T
    channels = [ndimage.map_coordinates(part.grid.colors[..., c], index, order=1, mode="nearest") for c in range(3)]
    return np.stack(channels, -1)


def _photo_colors(
    view: View, number: int, part: SolidPart, points: Float[np.ndarray, "n 3"], face: Int[np.ndarray, " n"]
) -> tuple[Int[np.ndarray, " m"], Float[np.ndarray, "m 3"], Float[np.ndarray, " m"]]:
    """Which points the photo shows, their colours there, and how far to trust them, (0, 1]."""
    pixels, z = _project(view.camera, points)
    height, width = view.depth.shape
    columns, rows = np.floor(pixels).astype(int).T
    inside = (columns >= 0) & (columns < width) & (rows >= 0) & (rows < height)
    columns, rows = columns.clip(0, width - 1), rows.clip(0, height - 1)
    seen = inside & view.sure[rows, columns] & (view.part[rows, columns] == number)
    seen &= z <= view.depth[rows, columns] + DEPTH_VOXELS * part.grid.voxel
    (shown,) = np.nonzero(seen)
    corners = part.vertices[part.faces]
    normals = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
    normals /= np.linalg.norm(normals, axis=1, keepdims=True).clip(1e-12)
    towards = view.camera.positions[0].double().numpy() - points[shown]
    towards /= np.linalg.norm(towards, axis=1, keepdims=True)
    cosine = (normals[face[shown]] * towards).sum(1)
    weight = ((cosine - FACING[0]) / (FACING[1] - FACING[0])).clip(0, 1)
    shown, weight = shown[weight > 0], weight[weight > 0]
    index = pixels[shown, ::-1].T - 0.5
    channels = [ndimage.map_coordinates(view.rgba[..., c], index, order=1, mode="nearest") for c in range(3)]
    return shown, np.stack(channels, -1), weight


def _project(
    camera: Cameras, points: Float[np.ndarray, "n 3"]
) -> tuple[Float[np.ndarray, "n 2"], Float[np.ndarray, " n"]]:
    """Pixels and camera z of points, by one camera [1], in double precision."""
    T = np.linalg.inv(camera.T_world_camera[0].double().numpy())
    local = points @ T[:3, :3].T + T[:3, 3]
    centre = np.array([camera.width / 2, camera.height / 2])
    return local[:, :2] / local[:, 2:] * float(camera.focal_px[0]) + centre, local[:, 2]
