"""One triangle mesh as its file has it, and colours of faces as materials."""

import math
from dataclasses import dataclass, replace

import numpy as np
from jaxtyping import Bool, Float, Int

from partrm.objects.materials import Material

MAX_PLAIN_COLORS = 8
"""Up to so many colours of faces are plain materials; more become the pixels of one texture."""


@dataclass(frozen=True)
class Surface:
    """One triangle mesh with the materials of its faces."""

    vertices: Float[np.ndarray, "v 3"]
    """File's frame and unit."""
    faces: Int[np.ndarray, "f 3"]
    face_material: Int[np.ndarray, " f"]
    """Index into ``materials``, -1 where the file names none."""
    materials: tuple[Material, ...]
    corner_uv: Float[np.ndarray, "f 3 2"] | None = None
    """v = 0 at the bottom of the image; NaN at corners without coordinates."""

    def with_colors(self, colors: Float[np.ndarray, "f 3"], rows: Bool[np.ndarray, " f"]) -> "Surface":
        """The surface with the faces ``rows`` in colours (sRGB in [0, 1]) of their own, one a face."""
        if not rows.any():
            return self
        rgb = np.round(255 * np.clip(colors[rows], 0, 1)).astype(np.uint8)
        pixels, which = np.unique(rgb, axis=0, return_inverse=True)
        which, first, slots = which.reshape(-1), len(self.materials), self.face_material.copy()
        if len(pixels) <= MAX_PLAIN_COLORS:
            slots[rows] = first + which
            plain = [Material(f"color_{n}", (r, g, b)) for n, (r, g, b) in enumerate((pixels / 255.0).tolist())]
            return replace(self, face_material=slots, materials=(*self.materials, *plain))
        side = math.ceil(math.sqrt(len(pixels)))
        texture = np.zeros((side * side, 3), np.uint8)
        texture[: len(pixels)] = pixels
        uv = np.full((len(self.faces), 3, 2), np.nan) if self.corner_uv is None else self.corner_uv.copy()
        # The middle of a pixel, so that no neighbour shines in.
        uv[rows] = np.stack([(which % side + 0.5) / side, 1 - (which // side + 0.5) / side], -1)[:, None]
        slots[rows] = first
        palette = Material("colors", (1.0, 1.0, 1.0), texture=texture.reshape(side, side, 3))
        return replace(self, face_material=slots, materials=(*self.materials, palette), corner_uv=uv)
