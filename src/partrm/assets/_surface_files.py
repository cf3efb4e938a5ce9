"""The files that URDF and MJCF share: textured meshes of the parts, and hulls."""

from pathlib import Path

import numpy as np

from partrm.assets.asset import Asset
from partrm.assets.collision import Hull
from partrm.objects.materials import Material
from partrm.objects.obj_format import save_obj
from partrm.objects.surface import Surface
from partrm.objects.urdf import save_part_meshes

MESHES = "meshes"
"""Folder of the meshes and textures, beside the descriptions."""

VISUAL = "part_{:02d}.obj"
TEXTURE = "texture_{}.png"
"""As :func:`save_part_meshes` names them."""

SURFACE_FILES = tuple(f"{MESHES}/{name}" for name in ("part_*.obj", "texture_*.png", "materials.mtl"))
"""Patterns of all files in :data:`MESHES`."""

GREY = Material("hull", (0.6, 0.6, 0.6))


def save_surfaces(asset: Asset, folder: Path) -> None:
    """Write every part's mesh, materials and texture, and its hulls, asset's frame at rest, into :data:`MESHES`."""
    save_part_meshes(asset.object, folder / MESHES, pattern=VISUAL)
    for number, body in enumerate(asset.bodies):
        for index, shape in enumerate(body.collision):
            if isinstance(shape, Hull):
                surface = Surface(shape.vertices, shape.faces, np.zeros(len(shape.faces), int), (GREY,))
                save_obj(folder / MESHES / hull_file(number, index), surface, "materials.mtl")


def hull_file(part: int, index: int) -> str:
    """File of a part's hull."""
    return f"part_{part:02d}_hull_{index:02d}.obj"


def hull_name(part: int, index: int) -> str:
    """Its name within a description."""
    return f"part_{part:02d}_hull_{index:02d}"


def origins(asset: Asset) -> list[np.ndarray]:
    """Where the parts' own frames stand in the asset's frame: at their joints' pivots."""
    return [np.zeros(3) if p.joint is None else np.array(p.joint.pivot) for p in asset.object.parts]
