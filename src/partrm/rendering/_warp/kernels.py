"""Warp device code of the mesh renderer: instanced ray casting in one grouped BVH, and shading.

One grouped ``wp.Mesh`` holds the parts of all objects at rest. A state is a table of rigid transforms: each ray is
taken into the rest frame of every instanced part that its bounding sphere does not reject, and queried within that
part's own subtree, up to the nearest hit so far. So states and samples cost no build.
"""

# Warp's annotations are values (wp.array(dtype=...)), which pyright cannot follow.
# pyright: reportInvalidTypeForm=false, reportGeneralTypeIssues=false

from typing import no_type_check

import warp as wp

from partrm.rendering._warp.shading import Geometry, Hit, Look, encoded, lamps_on, mirrored_world

wp.set_module_options({"enable_backward": False})

TILE_X, TILE_Y = wp.constant(8), wp.constant(4)
"""Pixels are taken in tiles: a warp's on CUDA (_warp_pixels.py), a thread's on CPUs (_warp_tiles.py)."""
_SELF_HIT = wp.constant(2.0e-4)


@wp.struct
@no_type_check
class Placement:
    """Instanced parts of a batch: [b, slots]; a sphere of negative radius (world frame, xyz r) marks padding."""

    part: wp.array2d(dtype=wp.int32)
    T_world_part: wp.array2d(dtype=wp.mat44)
    T_part_world: wp.array2d(dtype=wp.mat44)
    sphere: wp.array2d(dtype=wp.vec4)


@wp.struct
@no_type_check
class View:
    """Cameras [views] and their image size."""

    T_world_camera: wp.array(dtype=wp.mat44)
    focal_px: wp.array(dtype=wp.float32)
    width: wp.int32
    height: wp.int32
    views_per_item: wp.int32


@wp.struct
@no_type_check
class Maps:
    """First surfaces [views, h, w]; part and face are -1 and depth is infinite where there is none."""

    depth: wp.array3d(dtype=wp.float32)
    normal: wp.array3d(dtype=wp.vec3)
    part: wp.array3d(dtype=wp.int32)
    point_part: wp.array3d(dtype=wp.vec3)
    point_world: wp.array3d(dtype=wp.vec3)
    face: wp.array3d(dtype=wp.int32)


@wp.func
@no_type_check
def meets_sphere(sphere: wp.vec4, origin: wp.vec3, direction: wp.vec3, max_t: float) -> bool:
    """Whether the unit ray enters the sphere before ``max_t``; a negative radius is never met."""
    radius = sphere[3]
    to_centre = wp.vec3(sphere[0], sphere[1], sphere[2]) - origin
    along = wp.dot(to_centre, direction)
    off = to_centre - along * direction
    return radius > 0.0 and wp.dot(off, off) <= radius * radius and along + radius > 0.0 and along - radius < max_t


@wp.func
@no_type_check
def _blocked(geometry: Geometry, place: Placement, b: int, origin: wp.vec3, direction: wp.vec3, max_t: float) -> bool:
    for slot in range(place.sphere.shape[1]):
        if meets_sphere(place.sphere[b, slot], origin, direction, max_t):
            T = place.T_part_world[b, slot]
            root = geometry.group_root[place.part[b, slot]]
            if wp.mesh_query_ray_anyhit(
                geometry.mesh, wp.transform_point(T, origin), wp.transform_vector(T, direction), max_t, root
            ):
                return True
    return False


@wp.func
@no_type_check
def face_normal(geometry: Geometry, place: Placement, b: int, hit: Hit) -> wp.vec3:
    """World normal of the hit face by the order of its corners."""
    return wp.transform_vector(place.T_world_part[b, hit.slot], wp.mesh_eval_face_normal(geometry.mesh, hit.face))


@wp.func
@no_type_check
def turned(normal: wp.vec3, direction: wp.vec3) -> wp.vec3:
    """The normal turned towards the origin of the ray."""
    if wp.dot(normal, direction) > 0.0:
        return -normal
    return normal


@wp.func
@no_type_check
def facing_normal(geometry: Geometry, place: Placement, b: int, hit: Hit, direction: wp.vec3) -> wp.vec3:
    """World normal of the hit face, turned towards the origin of the ray."""
    return turned(face_normal(geometry, place, b, hit), direction)


@wp.func
@no_type_check
def camera_ray(view: View, camera: int, x: float, y: float) -> wp.vec3:
    f = view.focal_px[camera]
    local = wp.vec3((x - 0.5 * float(view.width)) / f, (y - 0.5 * float(view.height)) / f, 1.0)
    return wp.normalize(wp.transform_vector(view.T_world_camera[camera], local))


@wp.func
@no_type_check
def camera_position(view: View, camera: int) -> wp.vec3:
    return wp.transform_point(view.T_world_camera[camera], wp.vec3(0.0, 0.0, 0.0))


@wp.func
@no_type_check
def _slanted(normal: wp.vec3, tap: int) -> wp.vec3:
    """One of four directions about the normal, a little steeper than 45 degrees."""
    up = wp.vec3(0.0, 0.0, 1.0)
    if wp.abs(normal[2]) > 0.9:
        up = wp.vec3(1.0, 0.0, 0.0)
    across = wp.normalize(wp.cross(up, normal))
    along = wp.cross(normal, across)
    sign = wp.where((tap & 2) != 0, -1.0, 1.0)
    side = wp.where((tap & 1) != 0, across, along)
    return wp.normalize(0.75 * normal + sign * side)


@wp.func
@no_type_check
def lit(
    geometry: Geometry,
    place: Placement,
    look: Look,
    b: int,
    base: wp.vec3,
    gloss: float,
    normal: wp.vec3,
    t: float,
    origin: wp.vec3,
    direction: wp.vec3,
    shadows: int,
    metal: float,
    tap: int,
) -> wp.vec3:
    """sRGB colour of a surface of linear colour ``base`` at ``t`` along a ray that its normal faces.

    Hemispheric ambient, Lambert and Blinn-Phong of one light, a Fresnel glint of the world; where there are mirrors,
    the world and its lamps as gloss shows them. Ambient light is occluded along one direction for each ``tap``.
    """
    point = origin + t * direction
    to_light = look.light_position[b] - point
    distance = wp.length(to_light)
    to_light = to_light / wp.max(distance, 1.0e-9)
    lambert = wp.max(wp.dot(normal, to_light), 0.0) * look.light_intensity[b]
    if shadows != 0 and lambert > 0.0:
        start = point + (_SELF_HIT * t) * normal
        if _blocked(geometry, place, b, start, to_light, distance):
            lambert = 0.0
    hemisphere = 1.0 - 0.5 * look.sky_contrast[b] * (1.0 - wp.dot(normal, look.sky[b]))
    ambient = look.ambient[b] * hemisphere
    reach = look.occlusion[b]
    if shadows != 0 and reach > 0.0:
        start = point + (_SELF_HIT * t) * normal
        if _blocked(geometry, place, b, start, _slanted(normal, tap), reach):
            ambient = ambient * 0.55
    shine = 0.0
    if lambert > 0.0 and gloss > 0.0:
        half = wp.normalize(to_light - direction)
        shine = look.light_intensity[b] * gloss * wp.pow(wp.max(wp.dot(normal, half), 0.0), 12.0 + 120.0 * gloss)
    grazing = wp.pow(wp.max(1.0 + wp.dot(normal, direction), 0.0), 5.0)
    fresnel = 0.4 * gloss * grazing
    out = wp.vec3()
    mirror = look.mirror[b]
    if mirror > 0.0:
        shown = mirrored_world(look, b, direction - 2.0 * wp.dot(normal, direction) * normal, gloss, metal)
        diffuse = ambient + lamps_on(look, b, normal)
        at_normal = 0.03 + 0.07 * gloss
        share = mirror * wp.min(gloss * 1.5, 1.0) * (at_normal + (1.0 - at_normal) * grazing)
        for c in range(3):
            tinted = mirror * metal * (0.6 * base[c] + 0.25)
            kept = (1.0 - 0.75 * mirror * metal) * (1.0 - share)
            out[c] = encoded(kept * base[c] * (diffuse[c] + lambert) + shine + wp.max(share, tinted) * shown[c])
        return out
    for c in range(3):
        out[c] = encoded(base[c] * (ambient[c] + lambert) + shine + fresnel * ambient[c])
    return out


@wp.func
@no_type_check
def store_color(
    image: wp.array4d(dtype=wp.float32), camera: int, x: int, y: int, color: wp.vec3, hits: float, samples: int
):
    """A pixel from the summed colours of its ``hits`` sub-samples; ``samples`` a side in all."""
    mean = color / wp.max(hits, 1.0)
    for c in range(3):
        image[camera, c, y, x] = mean[c]
    image[camera, 3, y, x] = hits / float(samples * samples)


@wp.func
@no_type_check
def store_surface(
    geometry: Geometry,
    place: Placement,
    view: View,
    maps: Maps,
    camera: int,
    x: int,
    y: int,
    hit: Hit,
    direction: wp.vec3,
):
    """Write a hit, or that there is none, into one pixel of the maps."""
    maps.part[camera, y, x] = hit.slot
    if hit.slot >= 0:
        b = camera // view.views_per_item
        at_rest = wp.mesh_eval_position(geometry.mesh, hit.face, hit.u, hit.v)
        forward = wp.transform_vector(view.T_world_camera[camera], wp.vec3(0.0, 0.0, 1.0))
        maps.depth[camera, y, x] = hit.t * wp.dot(direction, forward)
        maps.normal[camera, y, x] = facing_normal(geometry, place, b, hit, direction)
        maps.point_part[camera, y, x] = at_rest
        maps.point_world[camera, y, x] = wp.transform_point(place.T_world_part[b, hit.slot], at_rest)
        maps.face[camera, y, x] = hit.face
    else:
        maps.depth[camera, y, x] = wp.inf
        maps.normal[camera, y, x] = wp.vec3()
        maps.point_part[camera, y, x] = wp.vec3()
        maps.point_world[camera, y, x] = wp.vec3()
        maps.face[camera, y, x] = -1


@wp.kernel
@no_type_check
def visible_kernel(
    geometry: Geometry,
    place: Placement,
    points: wp.array2d(dtype=wp.vec3),
    eyes: wp.array(dtype=wp.vec3),
    relative_epsilon: float,
    seen: wp.array2d(dtype=wp.bool),
):
    """Whether nothing lies between each point and its eye."""
    b, n = wp.tid()
    ray = points[b, n] - eyes[b]
    distance = wp.length(ray)
    direction = ray / wp.max(distance, 1.0e-12)
    seen[b, n] = not _blocked(geometry, place, b, eyes[b], direction, distance * (1.0 - relative_epsilon))


@wp.kernel
@no_type_check
def group_root_kernel(mesh: wp.uint64, group_root: wp.array(dtype=wp.int32)):
    """Root node of each part's subtree; -1 for a part without faces."""
    part = wp.tid()
    group_root[part] = wp.mesh_get_group_root(mesh, part)
