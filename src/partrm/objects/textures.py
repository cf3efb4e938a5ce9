"""Seeded image textures for surfaces that have none: wood, brushed metal, paint, glass panes, dials and labels.

What a slot gets follows from its role and pattern, in the slot's own colours; texture coordinates are made from the
shape (flat maps along the axes, or one picture a pane, knob or plate).
"""

from dataclasses import replace

import numpy as np
from jaxtyping import Bool, Float, Int
from PIL import Image, ImageDraw

from partrm.objects.articulated_object import ArticulatedObject, Part
from partrm.objects.materials import Material, Pattern, Role

TEXTURE_PX = 256
"""Side of every image."""

TILE = 0.8
"""Side of a repeated image, object units."""

LONG = 1.4
"""Details longer than this many times their width are labels, others dials."""

Picture = Float[np.ndarray, "h w 3"]


def textured(obj: ArticulatedObject, seed: int) -> ArticulatedObject:
    """The object with an image on every material slot that has none, stripes and checkers aside; same shape and joints.

    Args:
        seed: of the images; equal seeds give equal images.
    """
    chosen = [m.texture is None and m.pattern not in (Pattern.STRIPES, Pattern.CHECKER) for m in obj.materials]
    rng = np.random.default_rng(seed)
    materials, long = list(obj.materials), _long_slots(obj)
    for slot, material in enumerate(obj.materials):
        own = np.random.default_rng(rng.integers(2**63))
        if chosen[slot]:
            image = _picture(material, slot in long, own)
            pixels = (np.clip(image, 0, 1) * 255).round().astype(np.uint8)
            materials[slot] = replace(material, texture=pixels, color=(1.0, 1.0, 1.0), pattern=Pattern.PLAIN)
    parts = tuple(_with_coordinates(part, obj.materials, np.array(chosen)) for part in obj.parts)
    return replace(obj, parts=parts, materials=tuple(materials))


def _is_plate(material: Material) -> bool:
    """Whether each piece of the slot's surface shows one whole picture."""
    return material.role in (Role.GLASS, Role.DETAIL)


def _picture(material: Material, long: bool, rng: np.random.Generator) -> Picture:
    color, second = np.array(material.color), np.array(material.color2)
    if material.role == Role.GLASS:
        return _pane(color, rng)
    if material.role == Role.DETAIL:
        return _label(color, rng) if long else _dial(color, rng)
    if material.pattern == Pattern.WOOD:
        return _wood(color, second, rng)
    if material.pattern == Pattern.BRUSHED:
        return color * (1 + 0.09 * _noise(rng, 2.0, 90.0) + 0.03 * _noise(rng, 1.0, 6.0))[..., None]
    blend = np.clip(0.5 + 0.35 * _noise(rng, 5.0, 5.0), 0, 1) if material.pattern == Pattern.NOISE else 0.0 * color[0]
    base = color + (second - color) * np.broadcast_to(blend, (TEXTURE_PX, TEXTURE_PX))[..., None]
    return base * (1 + 0.025 * _noise(rng, 3.0, 3.0) + 0.02 * _noise(rng, 60.0, 60.0))[..., None]


def _noise(rng: np.random.Generator, down: float, across: float) -> Float[np.ndarray, "h w"]:
    """Smooth noise that repeats without a seam, of unit deviation; bandwidths in periods per image."""
    white = rng.normal(size=(TEXTURE_PX, TEXTURE_PX))
    f = np.fft.fftfreq(TEXTURE_PX, 1 / TEXTURE_PX)
    kept = np.exp(-((f[:, None] / down) ** 2) - (f[None, :] / across) ** 2)
    kept[0, 0] = 0.0
    smooth = np.fft.ifft2(np.fft.fft2(white) * kept).real
    return smooth / smooth.std()


def _wood(color: np.ndarray, second: np.ndarray, rng: np.random.Generator) -> Picture:
    """Year rings cut lengthwise, running down the image, and fibres."""
    across = np.arange(TEXTURE_PX) / TEXTURE_PX
    rings = int(rng.integers(4, 12))
    phase = (rings * across[None, :] + 0.5 * _noise(rng, 1.5, 3.0)) % 1.0
    ring = phase**2 * (2 - phase)
    fibre = 0.06 * _noise(rng, 3.0, 80.0)
    return (color + (second - color) * ring[..., None]) * (1 + fibre)[..., None]


def _pane(color: np.ndarray, rng: np.random.Generator) -> Picture:
    """Dark glass with slanted reflections that fade downwards."""
    y, x = np.mgrid[0:TEXTURE_PX, 0:TEXTURE_PX] / TEXTURE_PX
    light = 0.06 * (1 - y)
    slope = rng.uniform(0.4, 1.1)
    for _ in range(int(rng.integers(1, 4))):
        middle, width = rng.uniform(0, 1.6), rng.uniform(0.02, 0.16)
        edge = np.clip((width - np.abs(x + slope * y - middle)) / 0.01, 0, 1)
        light = light + rng.uniform(0.04, 0.16) * edge * (1 - 0.7 * y)
    return color + (1 - color) * light[..., None]


def _ink(color: np.ndarray) -> tuple[int, int, int]:
    """Black on light, white on dark."""
    level = 25 if color.mean() > 0.45 else 235
    return level, level, level


def _canvas(color: np.ndarray) -> tuple[Image.Image, ImageDraw.ImageDraw]:
    red, green, blue = (int(255 * c) for c in np.clip(color, 0, 1))
    image = Image.new("RGB", (TEXTURE_PX, TEXTURE_PX), (red, green, blue))
    return image, ImageDraw.Draw(image)


def _dial(color: np.ndarray, rng: np.random.Generator) -> Picture:
    """Ticks round a pointer."""
    image, draw = _canvas(color)
    middle, reach = TEXTURE_PX / 2, 0.46 * TEXTURE_PX
    ink, ticks = _ink(color), int(rng.integers(7, 13))

    def spoke(angle: float, low: float, width: int) -> None:
        ends = [(middle + r * reach * np.cos(angle), middle + r * reach * np.sin(angle)) for r in (low, 1.0)]
        draw.line([*ends[0], *ends[1]], fill=ink, width=width)

    for angle in np.linspace(0.75, 2.25, ticks) * np.pi:
        spoke(float(angle), 0.82, 6)
    draw.ellipse([middle - 0.6 * reach, middle - 0.6 * reach, middle + 0.6 * reach, middle + 0.6 * reach], outline=ink)
    spoke(float(rng.uniform(0.75, 2.25) * np.pi), 0.2, 14)
    return np.asarray(image) / 255.0


def _label(color: np.ndarray, rng: np.random.Generator) -> Picture:
    """A frame, a mark and lines of what could be print."""
    image, draw = _canvas(color)
    ink, size = _ink(color), TEXTURE_PX
    draw.rectangle([6, 6, size - 7, size - 7], outline=ink, width=5)
    mark = rng.uniform(0.15, 0.9, 3)
    draw.ellipse([24, 70, 24 + size // 4, 70 + size // 2], fill=tuple(int(255 * c) for c in mark))
    for line in range(int(rng.integers(2, 5))):
        y, x = 50 + 48 * line, size * 0.42
        while x < size - 60:
            width = rng.uniform(14, 50)
            draw.rectangle([x, y, min(x + width, size - 24), y + 20], fill=ink)
            x += width + 12
    return np.asarray(image) / 255.0


def _long_slots(obj: ArticulatedObject) -> set[int]:
    """Slots of details whose largest piece is long."""
    extents: dict[int, Float[np.ndarray, "3"]] = {}
    for part in obj.parts:
        for slot in np.unique(part.face_material):
            if obj.materials[slot].role == Role.DETAIL:
                for rows in _pieces(part, part.face_material == slot):
                    span = np.ptp(part.vertices[part.faces[rows]].reshape(-1, 3), axis=0)
                    if slot not in extents or span.prod() > extents[int(slot)].prod():
                        extents[int(slot)] = span
    return {slot for slot, span in extents.items() if np.sort(span)[2] > LONG * max(np.sort(span)[1], 1e-9)}


def _pieces(part: Part, rows: Bool[np.ndarray, " f"]) -> list[Int[np.ndarray, " k"]]:
    """Faces of each connected piece of some rows of a part; equal positions count as joined."""
    from scipy.sparse import coo_matrix
    from scipy.sparse.csgraph import connected_components

    index = np.flatnonzero(rows)
    _, welded = np.unique(part.vertices.round(6), axis=0, return_inverse=True)
    corners = welded.reshape(-1)[part.faces[index]]
    count = int(welded.max()) + 1
    edges = (np.ones(2 * len(corners)), (corners[:, [0, 1]].reshape(-1), corners[:, [1, 2]].reshape(-1)))
    _, label = connected_components(coo_matrix(edges, shape=(count, count)), directed=False)
    of_face = label[corners[:, 0]]
    return [index[of_face == piece] for piece in np.unique(of_face)]


def _flat_axes(part: Part, rows: Int[np.ndarray, " k"]) -> Int[np.ndarray, "k 2"]:
    """The two axes of the plane that each face lies in, nearly: horizontal first, then the upward one."""
    a, b, c = np.moveaxis(part.vertices[part.faces[rows]], 1, 0)
    facing = np.abs(np.cross(b - a, c - a)).argmax(-1)
    return np.array([[1, 2], [0, 2], [1, 0]])[facing]


def _with_coordinates(part: Part, materials: tuple[Material, ...], chosen: Bool[np.ndarray, " slots"]) -> Part:
    """The part with texture coordinates on the faces of the chosen slots; others keep theirs."""
    if not len(part.faces) or not chosen[part.face_material].any():
        return part
    uv = np.zeros((len(part.faces), 3, 2)) if part.corner_uv is None else part.corner_uv.copy()
    for slot in np.unique(part.face_material[chosen[part.face_material]]):
        material, mine = materials[slot], part.face_material == slot
        if _is_plate(material):
            for rows in _pieces(part, mine):
                uv[rows] = _whole_picture(part, rows)
        else:
            rows = np.flatnonzero(mine)
            uv[rows] = _along_axes(part, rows, _flat_axes(part, rows)) / TILE
            if abs(material.direction[2]) < max(abs(material.direction[0]), abs(material.direction[1])):
                uv[rows] = uv[rows][..., ::-1]  # grain runs down the image; here it lies
    return replace(part, corner_uv=uv)


def _along_axes(part: Part, rows: Int[np.ndarray, " k"], axes: Int[np.ndarray, "k 2"]) -> Float[np.ndarray, "k 3 2"]:
    """Corner positions along two axes per face."""
    return np.take_along_axis(part.vertices[part.faces[rows]], axes[:, None, :].repeat(3, 1), axis=2)


def _whole_picture(part: Part, rows: Int[np.ndarray, " k"]) -> Float[np.ndarray, "k 3 2"]:
    """Coordinates that lay one picture over a piece, along the two widest axes of its box, upright where it stands."""
    points = part.vertices[part.faces[rows]]
    low, span = points.reshape(-1, 3).min(0), np.ptp(points.reshape(-1, 3), axis=0)
    thin = int(span.argmin())
    horizontal, upright = ((1, 2), (0, 2), (1, 0))[thin]
    axes = np.array([[horizontal, upright]]).repeat(len(rows), 0)
    start, size = low[[horizontal, upright]], np.maximum(span[[horizontal, upright]], 1e-9)
    return (_along_axes(part, rows, axes) - start) / size
