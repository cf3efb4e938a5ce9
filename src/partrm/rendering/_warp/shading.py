"""Warp device code of surface colour: what the mesh lies on at rest, solid patterns, textures, sRGB."""

# Warp's annotations are values (wp.array(dtype=...)), which pyright cannot follow.
# pyright: reportInvalidTypeForm=false, reportGeneralTypeIssues=false

from typing import no_type_check

import warp as wp

from partrm.objects.materials import Pattern

wp.set_module_options({"enable_backward": False})

_STRIPES, _WOOD = wp.constant(int(Pattern.STRIPES)), wp.constant(int(Pattern.WOOD))
BRUSHED = wp.constant(int(Pattern.BRUSHED))
_CHECKER, _NOISE = wp.constant(int(Pattern.CHECKER)), wp.constant(int(Pattern.NOISE))


@wp.struct
@no_type_check
class Geometry:
    """Everything at rest: the grouped mesh and what its faces look up."""

    mesh: wp.uint64
    group_root: wp.array(dtype=wp.int32)
    part_low: wp.array(dtype=wp.vec3)
    part_high: wp.array(dtype=wp.vec3)
    face_material: wp.array(dtype=wp.int32)
    corner_uv: wp.array(dtype=wp.vec2)
    texels: wp.array(dtype=wp.vec3ub)
    texture_offset: wp.array(dtype=wp.int32)
    texture_height: wp.array(dtype=wp.int32)
    texture_width: wp.array(dtype=wp.int32)


@wp.struct
@no_type_check
class Look:
    """Materials [b, slots], lights [b] and decals [b, decals]."""

    color: wp.array2d(dtype=wp.vec3)
    color2: wp.array2d(dtype=wp.vec3)
    pattern: wp.array2d(dtype=wp.int32)
    frequency: wp.array2d(dtype=wp.float32)
    direction: wp.array2d(dtype=wp.vec3)
    gloss: wp.array2d(dtype=wp.float32)
    texture: wp.array2d(dtype=wp.int32)
    light_position: wp.array(dtype=wp.vec3)
    light_intensity: wp.array(dtype=wp.float32)
    ambient: wp.array(dtype=wp.vec3)
    sky: wp.array(dtype=wp.vec3)
    sky_contrast: wp.array(dtype=wp.float32)
    lamp: wp.array2d(dtype=wp.vec3)
    lamp_color: wp.array2d(dtype=wp.vec3)
    lamp_sharpness: wp.array2d(dtype=wp.float32)
    mirror: wp.array(dtype=wp.float32)
    occlusion: wp.array(dtype=wp.float32)
    decal_slot: wp.array2d(dtype=wp.int32)
    decal_centre: wp.array2d(dtype=wp.vec3)
    decal_half: wp.array2d(dtype=wp.vec3)
    decal_color: wp.array2d(dtype=wp.vec3)
    decal_ink: wp.array2d(dtype=wp.vec3)


@wp.struct
@no_type_check
class Hit:
    """Nearest surface along a ray; ``slot`` is -1 for none."""

    slot: wp.int32
    t: wp.float32
    face: wp.int32
    u: wp.float32
    v: wp.float32


@wp.func
@no_type_check
def _fraction(x: float) -> float:
    return x - wp.floor(x)


@wp.func
@no_type_check
def _pattern_mix(pattern: int, p: wp.vec3, direction: wp.vec3) -> float:
    """Weight of the second colour at ``p``, rest-frame position in pattern periods (offset off round coordinates)."""
    seed = wp.uint32(7)
    q = p + wp.vec3(0.137, 0.731, 0.373)
    along = wp.dot(q, direction)
    across = q - along * direction
    if pattern == _STRIPES:
        return wp.where(_fraction(along) < 0.5, 0.0, 1.0)
    if pattern == _CHECKER:
        return wp.where(_fraction(0.5 * (wp.floor(q[0]) + wp.floor(q[1]) + wp.floor(q[2]))) < 0.25, 0.0, 1.0)
    if pattern == _NOISE:
        n = wp.noise(seed, q) + 0.5 * wp.noise(seed, 2.0 * q + wp.vec3(5.2, 1.3, 8.4))
        return wp.clamp(0.5 + 0.8 * n, 0.0, 1.0)
    if pattern == _WOOD:
        stretched = across + 0.12 * along * direction
        centre = across - wp.vec3(3.1, 2.3, 1.7)
        wobble = 1.6 * wp.noise(seed, 0.45 * stretched) + 0.15 * wp.noise(seed, 4.0 * stretched)
        ring = _fraction(wp.length(centre) + wobble)
        return ring * ring * (2.0 - ring)
    fine = across + 0.02 * along * direction
    return wp.clamp(0.5 + 0.7 * wp.noise(seed, 6.0 * fine) + 0.5 * wp.noise(seed, 17.0 * fine), 0.0, 1.0)


@wp.func
@no_type_check
def _texel(geometry: Geometry, texture: int, column: int, row: int) -> wp.vec3:
    """One texel, image repeated in both directions."""
    width, height = geometry.texture_width[texture], geometry.texture_height[texture]
    x = ((column % width) + width) % width
    y = ((row % height) + height) % height
    texel = geometry.texels[geometry.texture_offset[texture] + y * width + x]
    return wp.vec3(float(texel[0]), float(texel[1]), float(texel[2])) / 255.0


@wp.func
@no_type_check
def _textured(geometry: Geometry, texture: int, hit: Hit) -> wp.vec3:
    """Bilinear texture lookup at the hit; row 0 of the image is v = 1."""
    corner = 3 * hit.face
    uv = geometry.corner_uv[corner] * hit.u + geometry.corner_uv[corner + 1] * hit.v
    uv = uv + geometry.corner_uv[corner + 2] * (1.0 - hit.u - hit.v)
    x = uv[0] * float(geometry.texture_width[texture]) - 0.5
    y = (1.0 - uv[1]) * float(geometry.texture_height[texture]) - 0.5
    left, top = int(wp.floor(x)), int(wp.floor(y))
    a, b = x - wp.floor(x), y - wp.floor(y)
    upper = wp.lerp(_texel(geometry, texture, left, top), _texel(geometry, texture, left + 1, top), a)
    lower = wp.lerp(_texel(geometry, texture, left, top + 1), _texel(geometry, texture, left + 1, top + 1), a)
    return wp.lerp(upper, lower, b)


@wp.func
@no_type_check
def _printed(p: wp.vec3) -> bool:
    """Whether ink lies at this place of a label ([-1, 1]³, z up): lines of words within a margin."""
    line = wp.floor(3.5 * p[2])
    words = wp.noise(wp.uint32(11), wp.vec3(9.0 * p[0], 9.0 * p[1], 3.7 * line))
    margin = wp.max(wp.abs(p[1]), wp.abs(p[2])) > 0.8
    return not margin and _fraction(3.5 * p[2]) < 0.5 and words > -0.15


@wp.func
@no_type_check
def material_slot(geometry: Geometry, look: Look, face: int) -> int:
    return wp.min(geometry.face_material[face], look.gloss.shape[1] - 1)


@wp.func
@no_type_check
def albedo(geometry: Geometry, look: Look, b: int, slot: int, hit: Hit) -> wp.vec3:
    """sRGB colour of the surface: pattern in the part's rest frame, times the texture."""
    color = look.color[b, slot]
    pattern = look.pattern[b, slot]
    if pattern != 0:
        p = wp.mesh_eval_position(geometry.mesh, hit.face, hit.u, hit.v) * look.frequency[b, slot]
        color = wp.lerp(color, look.color2[b, slot], _pattern_mix(pattern, p, look.direction[b, slot]))
    texture = look.texture[b, slot]
    if texture >= 0 and geometry.corner_uv.shape[0] > 0:
        color = wp.cw_mul(color, _textured(geometry, texture, hit))
    for k in range(look.decal_slot.shape[1]):
        if look.decal_slot[b, k] == hit.slot:
            at = wp.mesh_eval_position(geometry.mesh, hit.face, hit.u, hit.v) - look.decal_centre[b, k]
            within = wp.cw_div(at, look.decal_half[b, k])
            if wp.max(wp.max(wp.abs(within[0]), wp.abs(within[1])), wp.abs(within[2])) < 1.0:
                color = wp.where(_printed(within), look.decal_ink[b, k], look.decal_color[b, k])
    return color


@wp.func
@no_type_check
def linear(c: float) -> float:
    return wp.where(c <= 0.04045, c / 12.92, wp.pow((wp.max(c, 0.0) + 0.055) / 1.055, 2.4))


@wp.func
@no_type_check
def linear_color(srgb: wp.vec3) -> wp.vec3:
    return wp.vec3(linear(srgb[0]), linear(srgb[1]), linear(srgb[2]))


@wp.func
@no_type_check
def encoded(c: float) -> float:
    x = wp.clamp(c, 0.0, 1.0)
    return wp.where(x <= 0.0031308, 12.92 * x, 1.055 * wp.pow(x, 1.0 / 2.4) - 0.055)


@wp.func
@no_type_check
def lamps_on(look: Look, b: int, normal: wp.vec3) -> wp.vec3:
    """Diffuse light of the lamps, which wraps a little about surfaces, as wide sources do."""
    light = wp.vec3()
    for k in range(look.lamp.shape[1]):
        cosine = wp.max((wp.dot(normal, look.lamp[b, k]) + 0.25) / 1.25, 0.0)
        light += look.lamp_color[b, k] * (cosine * 2.0 / (1.0 + look.lamp_sharpness[b, k]))
    return light


@wp.func
@no_type_check
def mirrored_world(look: Look, b: int, direction: wp.vec3, gloss: float, metal: float) -> wp.vec3:
    """Radiance of the world, a dim floor below its horizon and its lamps, the more blurred the less the gloss."""
    height = wp.clamp(0.5 + (2.0 + 10.0 * gloss) * direction[2], 0.0, 1.0)
    sky = 1.0 - 0.5 * look.sky_contrast[b] * (1.0 - wp.dot(direction, look.sky[b]))
    world = look.ambient[b] * wp.lerp(0.35, sky, height)
    blur = wp.lerp(0.03 + 0.4 * gloss * gloss, 1.0, gloss * gloss * gloss)
    blur = wp.lerp(blur, 0.15, metal)
    for k in range(look.lamp.shape[1]):
        sharpness = look.lamp_sharpness[b, k]
        wide = sharpness * blur
        fall = wp.exp(wide * (wp.dot(direction, look.lamp[b, k]) - 1.0))
        world += look.lamp_color[b, k] * (fall * (1.0 + wide) / (1.0 + sharpness))
    return world
