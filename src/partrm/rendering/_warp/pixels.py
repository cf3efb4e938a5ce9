"""Warp kernels of the mesh renderer for CUDA: one thread a pixel. The plain twins of those in _warp_tiles.py."""

# Warp's annotations are values (wp.array(dtype=...)), which pyright cannot follow.
# pyright: reportInvalidTypeForm=false, reportGeneralTypeIssues=false

from typing import no_type_check

import warp as wp

from partrm.rendering._warp.kernels import (
    TILE_X,
    TILE_Y,
    Maps,
    Placement,
    View,
    camera_position,
    camera_ray,
    facing_normal,
    lit,
    meets_sphere,
    store_color,
    store_surface,
)
from partrm.rendering._warp.shading import BRUSHED, Geometry, Hit, Look, albedo, linear_color, material_slot

wp.set_module_options({"enable_backward": False})


@wp.func
@no_type_check
def _nearest(geometry: Geometry, place: Placement, b: int, origin: wp.vec3, direction: wp.vec3) -> Hit:
    hit = Hit()
    hit.slot = -1
    hit.t = 1.0e30
    for slot in range(place.sphere.shape[1]):
        if meets_sphere(place.sphere[b, slot], origin, direction, hit.t):
            T = place.T_part_world[b, slot]
            root = geometry.group_root[place.part[b, slot]]
            query = wp.mesh_query_ray(
                geometry.mesh, wp.transform_point(T, origin), wp.transform_vector(T, direction), hit.t, root
            )
            if query.result:
                hit.slot = slot
                hit.t = query.t
                hit.face = query.face
                hit.u = query.u
                hit.v = query.v
    return hit


@wp.func
@no_type_check
def _shade(
    geometry: Geometry,
    place: Placement,
    look: Look,
    b: int,
    hit: Hit,
    origin: wp.vec3,
    direction: wp.vec3,
    shadows: int,
    tap: int,
) -> wp.vec3:
    """sRGB colour of a hit."""
    slot = material_slot(geometry, look, hit.face)
    base = linear_color(albedo(geometry, look, b, slot, hit))
    normal = facing_normal(geometry, place, b, hit, direction)
    metal = wp.where(look.pattern[b, slot] == BRUSHED, 1.0, 0.0)
    gloss = look.gloss[b, slot]
    return lit(geometry, place, look, b, base, gloss, normal, hit.t, origin, direction, shadows, metal, tap)


@wp.kernel
@no_type_check
def render_kernel(
    geometry: Geometry,
    place: Placement,
    view: View,
    look: Look,
    samples: int,
    shadows: int,
    image: wp.array4d(dtype=wp.float32),
):
    """One thread a pixel, in tiles of 8x4 pixels a warp; image [views, 4, h, w], straight alpha."""
    camera, tile_y, tile_x, lane = wp.tid()
    x, y = tile_x * TILE_X + lane % TILE_X, tile_y * TILE_Y + lane // TILE_X
    if x >= view.width or y >= view.height:
        return
    b = camera // view.views_per_item
    origin = camera_position(view, camera)
    color = wp.vec3()
    hits = float(0.0)  # noqa: UP018 - Warp: a variable, not a constant
    for j in range(samples):
        for i in range(samples):
            dx, dy = (float(i) + 0.5) / float(samples), (float(j) + 0.5) / float(samples)
            direction = camera_ray(view, camera, float(x) + dx, float(y) + dy)
            hit = _nearest(geometry, place, b, origin, direction)
            if hit.slot >= 0:
                color += _shade(geometry, place, look, b, hit, origin, direction, shadows, 2 * j + i)
                hits += 1.0
    store_color(image, camera, x, y, color, hits, samples)


@wp.kernel
@no_type_check
def trace_kernel(geometry: Geometry, place: Placement, view: View, maps: Maps):
    """The first surface along the ray through each pixel centre."""
    camera, tile_y, tile_x, lane = wp.tid()
    x, y = tile_x * TILE_X + lane % TILE_X, tile_y * TILE_Y + lane // TILE_X
    if x >= view.width or y >= view.height:
        return
    direction = camera_ray(view, camera, float(x) + 0.5, float(y) + 0.5)
    origin = camera_position(view, camera)
    hit = _nearest(geometry, place, camera // view.views_per_item, origin, direction)
    store_surface(geometry, place, view, maps, camera, x, y, hit, direction)
