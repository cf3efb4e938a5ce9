"""Wavefront MTL files, read and written exactly; what MTL has no word for (role, 3D pattern) is in comments."""

import json
import math
from collections.abc import Sequence
from dataclasses import replace
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import UInt8

from partrm.objects.articulated_object import ObjectError
from partrm.objects.materials import Material, Pattern, Role
from partrm.objects.named_files import MAX_LIBRARY_BYTES, MAX_TEXTURE_BYTES, NamedFiles, read_named, read_named_text

OPAQUE = 0.9
"""Materials of lower opacity count as glass panes."""

COMMENT = "# partrm "
"""Marks the line of an MTL file that holds what MTL cannot say."""

GREY = Material("grey", (0.7, 0.7, 0.7))
"""The look of surfaces whose file says nothing."""

MAP_OPTIONS = {
    "-blendu": 1, "-blendv": 1, "-boost": 1, "-bm": 1, "-cc": 1, "-clamp": 1, "-imfchan": 1, "-mm": 2, "-o": 3,
    "-s": 3, "-t": 3, "-texres": 1, "-type": 1,
}  # fmt: skip
"""Options before the file name of a texture, and how many words follow each at most; they are skipped."""


def read_image(path: Path) -> UInt8[np.ndarray, "h w 3"]:
    """An sRGB texture, alpha dropped.

    Raises:
        ObjectError: missing or not an image.
    """
    from PIL import UnidentifiedImageError

    from partrm.imaging.formats import IMAGE_ERRORS, IMAGE_FORMATS, in_8_bits, open_image

    content = read_named(path, MAX_TEXTURE_BYTES, "texture")
    try:
        with open_image(BytesIO(content)) as image:
            return np.asarray(in_8_bits(image).convert("RGB")).copy()
    except UnidentifiedImageError as error:
        message = f"{path}: the texture cannot be read: no image of the formats {', '.join(IMAGE_FORMATS)}"
        raise ObjectError(message) from error
    except IMAGE_ERRORS as error:
        raise ObjectError(f"{path}: the texture cannot be read ({' '.join(str(error).split())})") from error


def load_mtl(path: Path, files: NamedFiles | None = None) -> dict[str, Material]:
    """Materials of an MTL file by name; Kd, Ks, d/Tr and map_Kd count. A texture that is missing is left out and noted.

    Args:
        path: the file.
        files: what the object's description may name; by default what lies below the file's folder.

    Raises:
        ObjectError: missing or malformed, or a texture cannot be read.
    """
    files = NamedFiles(path) if files is None else files
    found: dict[str, Material] = {}
    name = ""
    lines = read_named_text(path, MAX_LIBRARY_BYTES, "material library").splitlines()
    for number, line in enumerate(lines, 1):
        words = line.split()
        if not words:
            continue
        try:
            if words[0] == "newmtl":
                name = " ".join(words[1:])
                found[name] = Material(name, GREY.color)
            elif name:
                found[name] = _with_line(found[name], path, line.strip(), words, files)
        except ObjectError:
            raise
        except (ValueError, IndexError, KeyError, TypeError, OverflowError, RecursionError) as error:
            message = f"{path}: line {number} is malformed ({' '.join(str(error).split())[:200]})"
            raise ObjectError(message) from error
    return found


def _with_line(material: Material, path: Path, line: str, words: list[str], files: NamedFiles) -> Material:
    kind = words[0]
    if kind == "Kd":
        return replace(material, color=_color(words[1:4]))
    if kind == "Ks":
        return replace(material, gloss=float(np.mean(_color(words[1:4]))))
    if kind in ("d", "Tr"):
        opacity = _finite(words[-1]) if kind == "d" else 1.0 - _finite(words[-1])
        return replace(material, role=Role.GLASS) if opacity < OPAQUE else material
    if kind == "map_Kd":
        return _with_texture(material, path, line.split(maxsplit=1)[1], files)
    return _with_comment(material, json.loads(line.removeprefix(COMMENT))) if line.startswith(COMMENT) else material


def _with_texture(material: Material, path: Path, rest: str, files: NamedFiles) -> Material:
    for name in _texture_names(rest):
        file = files.find("texture", name, path.parent)
        if file is not None:
            # Exporters often leave Kd black beside a texture and mean the texture alone.
            color = material.color if any(material.color) else (1.0, 1.0, 1.0)
            return replace(material, texture=read_image(file), color=color)
    words = files.missing("texture", _texture_names(rest)[0], path.parent)
    files.note(f"{path.name}: {words}; the material {material.name!r} is left plain")
    return material


def _texture_names(rest: str) -> list[str]:
    """What the words behind ``map_Kd`` may mean as a file name, likeliest first."""
    words, at = rest.split(), 0
    while at < len(words) - 1 and words[at] in MAP_OPTIONS:
        most = MAP_OPTIONS[words[at]]
        at += 1
        taken = 0
        while taken < most and at < len(words) - 1 and (taken == 0 or _is_number(words[at])):
            taken, at = taken + 1, at + 1
    if not at:
        return [rest.strip(), words[-1]]
    return [rest.split(maxsplit=at)[at].strip(), words[-1]]


def _is_number(word: str) -> bool:
    try:
        return math.isfinite(float(word))
    except ValueError:
        return False


def _finite(value: Any) -> float:
    number = float(value)
    if isinstance(value, bool) or not math.isfinite(number):
        raise ValueError(f"{value!r} is no finite number")
    return number


def _color(values: Sequence[Any]) -> tuple[float, float, float]:
    """A colour of three values, or of one for all three."""
    numbers = [min(max(_finite(value), 0.0), 1.0) for value in values]
    r, g, b = numbers * 3 if len(numbers) == 1 else numbers
    return r, g, b


def _with_comment(material: Material, extra: Any) -> Material:
    """The material with what our own comment says, whose types are checked."""
    if not isinstance(extra, dict) or not isinstance(extra["name"], str):
        raise ValueError("name must be a text")
    x, y, z = (_finite(value) for value in extra["direction"])
    for key in ("color", "color2", "direction"):
        if not isinstance(extra[key], list) or len(extra[key]) != 3:
            raise ValueError(f"{key} must be three numbers")
    return replace(
        material,
        name=extra["name"],
        color=_color(extra["color"]),
        role=Role[extra["role"]],
        color2=_color(extra["color2"]),
        pattern=Pattern[extra["pattern"]],
        frequency=_finite(extra["frequency"]),
        direction=(x, y, z),
        gloss=min(max(_finite(extra["gloss"]), 0.0), 1.0),
    )


def save_mtl(path: Path, materials: Sequence[Material], images: Sequence[str]) -> None:
    """Write materials as ``slot_N``; ``images`` are their textures' paths relative to the file, "" for none."""
    lines = []
    for slot, (material, image) in enumerate(zip(materials, images, strict=True)):
        extra = {
            "name": material.name,
            "color": material.color,
            "role": material.role.name,
            "color2": material.color2,
            "pattern": material.pattern.name,
            "frequency": material.frequency,
            "direction": material.direction,
            "gloss": material.gloss,
        }
        lines += [
            f"newmtl slot_{slot}",
            "Kd " + finite_numbers(plain_color(material)),
            "Ks " + finite_numbers([material.gloss] * 3),
        ]
        lines += ["d 1.0"]  # our panes are opaque
        lines += [f"map_Kd {image}"] if image else []
        lines += [COMMENT + json.dumps(extra), ""]
    path.write_text("\n".join(lines), encoding="utf-8")


def plain_color(material: Material) -> tuple[float, float, float]:
    """The colour that stands for a material where its 3D pattern cannot be written: the mean of the two."""
    if material.pattern == Pattern.PLAIN:
        return material.color
    r, g, b = ((np.array(material.color) + np.array(material.color2)) / 2).tolist()
    return r, g, b


def finite_numbers(values: Sequence[float]) -> str:
    """Numbers as text, without loss.

    Raises:
        ObjectError: one is not finite.
    """
    if not all(math.isfinite(v) for v in values):
        raise ObjectError("a number that is not finite cannot be written")
    return " ".join(repr(float(v)) for v in values)
