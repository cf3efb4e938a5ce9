"""Warp kernels of the mesh renderer for CPUs: one thread a tile of pixels, the same bits as one thread a pixel.

A CPU runs the threads of a kernel one after the other, so a thread that owns a tile can keep what its pixels share:
which parts its rays can meet at all (in four tiles of five of a usual picture: none), and the last face that was hit.
The plane of that face bounds the next ray; its normal and its plain colour need no second look-up.
"""

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
    face_normal,
    lit,
    meets_sphere,
    store_color,
    store_surface,
    turned,
)
from partrm.rendering._warp.shading import BRUSHED, Geometry, Hit, Look, albedo, linear_color, material_slot

wp.set_module_options({"enable_backward": False})

_FAR = wp.constant(1.0e30)


@wp.struct
@no_type_check
class Facet:
    """The face that was hit last: ``slot`` is -1 before the first, ``ahead`` tells whether the last ray hit it.

    ``point`` is one of its points and ``normal`` its normal, world frame; ``base`` is its linear colour at the last
    hit, and everywhere where the face is ``plain``.
    """

    slot: wp.int32
    face: wp.int32
    point: wp.vec3
    normal: wp.vec3
    material: wp.int32
    gloss: wp.float32
    metal: wp.float32
    plain: wp.bool
    ahead: wp.bool
    base: wp.vec3


@wp.func
@no_type_check
def _span(low: float, high: float, origin: float, direction: float) -> wp.vec2:
    """Where a ray lies between two planes across an axis: first and last parameter."""
    slope = wp.where(wp.abs(direction) < 1.0e-20, 1.0e-20, direction)
    a, b = (low - origin) / slope, (high - origin) / slope
    return wp.vec2(wp.min(a, b), wp.max(a, b))


@wp.func
@no_type_check
def _meets_box(low: wp.vec3, high: wp.vec3, origin: wp.vec3, direction: wp.vec3) -> bool:
    x = _span(low[0], high[0], origin[0], direction[0])
    y = _span(low[1], high[1], origin[1], direction[1])
    z = _span(low[2], high[2], origin[2], direction[2])
    return wp.max(wp.max(x[0], y[0]), wp.max(z[0], 0.0)) <= wp.min(wp.min(x[1], y[1]), z[1])


@wp.func
@no_type_check
def _tile_slots(geometry: Geometry, place: Placement, view: View, camera: int, tile_x: int, tile_y: int) -> wp.int32:
    """Bits ``slot % 32`` of all parts that a ray of the tile can meet.

    A surface point at camera depth s on a ray of the tile lies within s * spread of the tile's middle ray, and s is at
    most the point's distance: a part can be met only if its bounds, grown by so much, meet the middle ray.
    """
    b = camera // view.views_per_item
    f = view.focal_px[camera]
    x, y = (float(tile_x) + 0.5) * float(TILE_X), (float(tile_y) + 0.5) * float(TILE_Y)
    spread = 0.5 * wp.sqrt(float(TILE_X * TILE_X + TILE_Y * TILE_Y)) / f + 1.0e-4
    local = wp.vec3((x - 0.5 * float(view.width)) / f, (y - 0.5 * float(view.height)) / f, 1.0)
    middle = wp.normalize(wp.transform_vector(view.T_world_camera[camera], local))
    origin = camera_position(view, camera)
    slots = wp.int32(0)
    for slot in range(place.sphere.shape[1]):
        sphere = place.sphere[b, slot]
        radius = sphere[3]
        grown = spread * (wp.length(wp.vec3(sphere[0], sphere[1], sphere[2]) - origin) + radius)
        reach = wp.vec4(sphere[0], sphere[1], sphere[2], radius + grown)
        if radius > 0.0 and meets_sphere(reach, origin, middle, _FAR):
            T, part = place.T_part_world[b, slot], place.part[b, slot]
            margin = wp.vec3(grown, grown, grown)
            low, high = geometry.part_low[part] - margin, geometry.part_high[part] + margin
            if _meets_box(low, high, wp.transform_point(T, origin), wp.transform_vector(T, middle)):
                slots = slots | (1 << (slot % 32))
    return slots


@wp.func
@no_type_check
def _limit(facet: Facet, origin: wp.vec3, direction: wp.vec3) -> float:
    """A little beyond where a ray meets the plane of the last face."""
    if facet.ahead:
        t = wp.dot(facet.normal, facet.point - origin) / wp.dot(facet.normal, direction)
        if t > 0.0 and t < 1.0e20:
            return t * 1.001
    return _FAR


@wp.func
@no_type_check
def _nearest_of(
    geometry: Geometry, place: Placement, b: int, origin: wp.vec3, direction: wp.vec3, slots: wp.int32, limit: float
) -> Hit:
    """Nearest surface of the parts in ``slots``: looked for before ``limit``, and if none is there, everywhere."""
    hit = Hit()
    hit.slot = -1
    hit.t = limit
    for _attempt in range(wp.where(limit < _FAR, 2, 1)):
        for slot in range(place.sphere.shape[1]):
            if ((slots >> (slot % 32)) & 1) != 0 and meets_sphere(place.sphere[b, slot], origin, direction, hit.t):
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
        if hit.slot >= 0:
            break
        hit.t = _FAR
    return hit


@wp.func
@no_type_check
def _facet(
    geometry: Geometry, place: Placement, look: Look, b: int, hit: Hit, origin: wp.vec3, direction: wp.vec3
) -> Facet:
    facet = Facet()
    facet.slot = hit.slot
    facet.face = hit.face
    facet.point = origin + hit.t * direction
    facet.normal = face_normal(geometry, place, b, hit)
    facet.material = material_slot(geometry, look, hit.face)
    facet.gloss = look.gloss[b, facet.material]
    facet.metal = wp.where(look.pattern[b, facet.material] == BRUSHED, 1.0, 0.0)
    facet.ahead = True
    facet.plain = (
        look.decal_slot.shape[1] == 0 and look.pattern[b, facet.material] == 0 and look.texture[b, facet.material] < 0
    )
    return facet


@wp.kernel
@no_type_check
def render_tiles_kernel(
    geometry: Geometry,
    place: Placement,
    view: View,
    look: Look,
    samples: int,
    shadows: int,
    image: wp.array4d(dtype=wp.float32),
):
    """Image [views, 4, h, w], straight alpha."""
    camera, tile_y, tile_x = wp.tid()
    b = camera // view.views_per_item
    origin = camera_position(view, camera)
    slots = _tile_slots(geometry, place, view, camera, tile_x, tile_y)
    rows = wp.where(slots != 0, samples, 0)
    facet = Facet()
    facet.slot = -1
    for y in range(tile_y * TILE_Y, wp.min((tile_y + 1) * TILE_Y, view.height)):
        for x in range(tile_x * TILE_X, wp.min((tile_x + 1) * TILE_X, view.width)):
            color = wp.vec3()
            hits = float(0.0)  # noqa: UP018 - Warp: a variable, not a constant
            for j in range(rows):
                for i in range(samples):
                    dx, dy = (float(i) + 0.5) / float(samples), (float(j) + 0.5) / float(samples)
                    direction = camera_ray(view, camera, float(x) + dx, float(y) + dy)
                    limit = _limit(facet, origin, direction)
                    hit = _nearest_of(geometry, place, b, origin, direction, slots, limit)
                    facet.ahead = hit.slot >= 0
                    if hit.slot >= 0:
                        known = hit.slot == facet.slot and hit.face == facet.face
                        if not known:
                            facet = _facet(geometry, place, look, b, hit, origin, direction)
                        if not (known and facet.plain):
                            facet.base = linear_color(albedo(geometry, look, b, facet.material, hit))
                        normal = turned(facet.normal, direction)
                        color += lit(
                            geometry,
                            place,
                            look,
                            b,
                            facet.base,
                            facet.gloss,
                            normal,
                            hit.t,
                            origin,
                            direction,
                            shadows,
                            facet.metal,
                            2 * j + i,
                        )
                        hits += 1.0
            store_color(image, camera, x, y, color, hits, samples)


@wp.kernel
@no_type_check
def trace_tiles_kernel(geometry: Geometry, place: Placement, view: View, maps: Maps):
    """The first surface along the ray through each pixel centre."""
    camera, tile_y, tile_x = wp.tid()
    b = camera // view.views_per_item
    origin = camera_position(view, camera)
    slots = _tile_slots(geometry, place, view, camera, tile_x, tile_y)
    for y in range(tile_y * TILE_Y, wp.min((tile_y + 1) * TILE_Y, view.height)):
        for x in range(tile_x * TILE_X, wp.min((tile_x + 1) * TILE_X, view.width)):
            direction = camera_ray(view, camera, float(x) + 0.5, float(y) + 0.5)
            hit = Hit()
            hit.slot = -1
            if slots != 0:
                hit = _nearest_of(geometry, place, b, origin, direction, slots, _FAR)
            store_surface(geometry, place, view, maps, camera, x, y, hit, direction)
