"""What one geom of a compiled MuJoCo model looks like: its triangles, colour and texture."""

import importlib
from typing import Any

import numpy as np
from jaxtyping import Float, Int, UInt8

from partrm.objects.primitives import box_uv, solid_box, solid_capsule, solid_cylinder, solid_ellipsoid

Model = Any
"""A compiled ``mujoco.MjModel``; the package's types are only known at run time."""

VISIBLE_GROUPS = 3
"""Geom groups below this number are drawn by MuJoCo's viewer unless told otherwise."""

UNSET_RGBA = (0.5, 0.5, 0.5, 1.0)
"""MuJoCo's default geom colour; the geom's material rules where it stands."""


def mujoco_module() -> Any:
    """The mujoco package, imported on first use (ImportError where it is missing)."""
    return importlib.import_module("mujoco")


def visible_geoms(model: Model, body: int) -> list[int]:
    """Geoms of a body that MuJoCo's viewer shows; all of them where it shows none. No planes or height fields.

    Where group 0 is for collisions alone, its geoms are not shown.
    """
    first = int(model.body_geomadr[body])
    solid = [g for g in range(first, first + int(model.body_geomnum[body])) if is_solid(model, g)]
    seen = [g for g in solid if geom_rgba(model, g)[3] > 0]
    lowest = 1 if _collides_in_group_0(model) else 0
    return [g for g in seen if lowest <= model.geom_group[g] < VISIBLE_GROUPS] or seen


def _collides_in_group_0(model: Model) -> bool:
    """Whether all geoms of group 0 collide and none of group 1 does, as in robosuite's models."""
    collides = (model.geom_contype != 0) | (model.geom_conaffinity != 0)
    solid = np.array([is_solid(model, g) for g in range(model.ngeom)], bool)
    low, high = (solid & (model.geom_group == group) for group in (0, 1))
    return bool(low.any() and high.any() and collides[low].all() and not collides[high].any())


def is_solid(model: Model, geom: int) -> bool:
    """Whether the geom has a closed surface of its own: no plane, no height field."""
    mujoco = mujoco_module()

    kinds = mujoco.mjtGeom
    return int(model.geom_type[geom]) not in (int(kinds.mjGEOM_PLANE), int(kinds.mjGEOM_HFIELD))


def geom_rgba(model: Model, geom: int) -> tuple[float, float, float, float]:
    """The geom's own colour where it is set, else its material's."""
    material = int(model.geom_matid[geom])
    own = model.geom_rgba[geom]
    rgba = model.mat_rgba[material] if material >= 0 and np.allclose(own, UNSET_RGBA) else own
    r, g, b, a = np.clip(rgba, 0.0, 1.0).tolist()
    return r, g, b, a


def geom_triangles(
    model: Model, geom: int
) -> tuple[Float[np.ndarray, "v 3"], Int[np.ndarray, "f 3"], Float[np.ndarray, "f 3 2"]]:
    """Surface of one geom in its own frame, and texture coordinates of the face corners."""
    mujoco = mujoco_module()

    kind = mujoco.mjtGeom(int(model.geom_type[geom]))
    x, y, z = model.geom_size[geom].tolist()
    if kind in (mujoco.mjtGeom.mjGEOM_MESH, mujoco.mjtGeom.mjGEOM_SDF):
        return _mesh_triangles(model, int(model.geom_dataid[geom]))
    if kind == mujoco.mjtGeom.mjGEOM_BOX:
        vertices, faces = solid_box(x, y, z)
    elif kind == mujoco.mjtGeom.mjGEOM_CYLINDER:
        vertices, faces = solid_cylinder(radius=x, half_height=y)
    elif kind == mujoco.mjtGeom.mjGEOM_CAPSULE:
        vertices, faces = solid_capsule(radius=x, half_height=y)
    else:
        vertices, faces = solid_ellipsoid(*((x, x, x) if kind == mujoco.mjtGeom.mjGEOM_SPHERE else (x, y, z)))
    material = int(model.geom_matid[geom])
    texture = texture_index(model, material)
    flat = texture >= 0 and int(model.tex_type[texture]) == int(mujoco.mjtTexture.mjTEXTURE_2D)
    return vertices, faces, box_uv(vertices, faces) * (model.mat_texrepeat[material] if flat else 1.0)


def _mesh_triangles(
    model: Model, mesh: int
) -> tuple[Float[np.ndarray, "v 3"], Int[np.ndarray, "f 3"], Float[np.ndarray, "f 3 2"]]:
    start, count = int(model.mesh_vertadr[mesh]), int(model.mesh_vertnum[mesh])
    vertices = model.mesh_vert[start : start + count].astype(np.float64)
    start, count = int(model.mesh_faceadr[mesh]), int(model.mesh_facenum[mesh])
    faces = model.mesh_face[start : start + count].astype(np.int64)
    coordinates = int(model.mesh_texcoordadr[mesh])
    if coordinates < 0:
        return vertices, faces, box_uv(vertices, faces)
    uv = model.mesh_texcoord[coordinates + model.mesh_facetexcoord[start : start + count]].astype(np.float64)
    uv[..., 1] = 1.0 - uv[..., 1]  # MuJoCo counts v from the top row of the image
    return vertices, faces, uv


def texture_index(model: Model, material: int) -> int:
    """Number of the material's colour texture, -1 for none."""
    mujoco = mujoco_module()

    if material < 0:
        return -1
    roles = (mujoco.mjtTextureRole.mjTEXROLE_RGB, mujoco.mjtTextureRole.mjTEXROLE_RGBA)
    return max(int(model.mat_texid[material, int(role)]) for role in roles)


def _texture_pixels(model: Model, texture: int) -> UInt8[np.ndarray, "h w 3"]:
    height, width = int(model.tex_height[texture]), int(model.tex_width[texture])
    channels, start = int(model.tex_nchannel[texture]), int(model.tex_adr[texture])
    pixels = model.tex_data[start : start + height * width * channels].reshape(height, width, channels)
    return np.repeat(pixels, 3, 2) if channels < 3 else pixels[..., :3].copy()


def texture_mean(model: Model, texture: int) -> Float[np.ndarray, "3"]:
    """Mean colour in [0, 1]."""
    return _texture_pixels(model, texture).reshape(-1, 3).mean(0) / 255.0


def texture_image(model: Model, texture: int) -> UInt8[np.ndarray, "h w 3"] | None:
    """The texture as one image: a cube of six equal faces becomes that face; None for a cube of different faces."""
    pixels = _texture_pixels(model, texture)
    height, width = pixels.shape[:2]
    if height != 6 * width:
        return pixels
    sides = pixels.reshape(6, width, width, 3)
    return sides[0].copy() if (sides == sides[0]).all() else None
