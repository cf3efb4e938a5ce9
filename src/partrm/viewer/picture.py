"""The source picture on the page: drags drawn on it by mouse, the part tinted in it, the crop framed."""

import math
import threading
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, UInt8
from torch import Tensor
from torch.nn.functional import interpolate

from partrm.imaging.drawing import DRAG_COLOR, draw_mask, draw_numbered, to_bytes
from partrm.imaging.images import FramedImage
from partrm.metrics.images import composite_on_white
from partrm.viewer.geometry import PicturePlane, Pixel

MAX_SIDE_PX = 768
"""Larger pictures are sent to the page reduced."""

LIFT = 0.012
"""How far in front of the picture its drags float, world units."""

CROP_COLOR = (240, 150, 20)

ADDS_COLOR, REMOVES_COLOR = (20, 160, 60), (230, 60, 40)
"""Of a stroke under way."""

BACKGROUND_SHOWN = 0.35
"""How strongly a photograph shows what is not its object."""


class PictureDisplay:
    """Draws a picture, its drags, its part and its crop into a viser scene; calls may come from any thread."""

    def __init__(self, scene: Any) -> None:
        self._scene = scene
        self._lock = threading.RLock()
        """Held while nodes come and go."""
        self._coloring = threading.RLock()
        """Held while pixels are sent, which takes longer; drags are drawn meanwhile."""
        self._image: Any = None
        self._drags: Any = None
        self._crop: Any = None
        self._outline: Any = None
        self._pixels: UInt8[np.ndarray, "h w 3"] | None = None
        self.plane: PicturePlane | None = None

    def clear(self) -> None:
        """Take the picture off the page."""
        with self._coloring, self._lock:
            for node in (self._image, self._drags, self._crop, self._outline):
                if node is not None:
                    node.remove()
            self._image = self._drags = self._crop = self._outline = self._pixels = self.plane = None

    def show(
        self, rgba: Float[Tensor, "4 h w"], on_drag: Callable[[Any], Awaitable[None]], background: bool = False
    ) -> None:
        """Put a picture on the page; left drags on it call ``on_drag``.

        Args:
            rgba: the picture and its object's mask.
            on_drag: called with each event of a drag.
            background: whether what is not the object shows through, of a photograph.
        """
        self.clear()
        height, width = rgba.shape[1:]
        self.plane = PicturePlane.of(width, height)
        self._pixels = page_pixels(rgba, background)
        self._image = self._scene.add_image(
            "/picture",
            self._pixels,
            self.plane.width,
            self.plane.height,
            format="png",
            cast_shadow=False,
            receive_shadow=False,
            wxyz=(0.0, 1.0, 0.0, 0.0),  # viser's images have their first row at the bottom
            position=self.plane.center,
        )
        self._image.on_drag("left")(on_drag)

    def recolor(self, rgba: Float[Tensor, "4 h w"], background: bool) -> None:
        """Show another mask of the same picture; see :meth:`show`."""
        with self._coloring:
            if self._image is not None:
                self._pixels = self._image.image = page_pixels(rgba, background)

    def on_click(self, chosen: Callable[[Pixel], None]) -> None:
        """Call with the user's pixel that is clicked on."""

        def clicked(event: Any) -> None:
            plane, eye = self.plane, np.asarray(event.ray_origin)
            pixel = None if plane is None else plane.hit(eye, eye + np.asarray(event.ray_direction))
            if pixel is not None:
                chosen(pixel)

        self._image.on_click(clicked)

    def number(self, part_masks: Sequence[Float[Tensor, "h w"]]) -> None:
        """Colour and number several parts in the picture (masks in the user's pixels)."""
        with self._coloring:
            if self._image is not None and self._pixels is not None:
                self._image.image = draw_numbered(self._pixels, part_masks)

    def tint(self, part_mask: Float[Tensor, "h w"] | None) -> None:
        """Colour the part in the picture (mask in the user's pixels); None takes the colour away."""
        with self._coloring:
            if self._image is None or self._pixels is None:
                return
            pixels = self._pixels
            if part_mask is not None:
                pixels = draw_mask(pixels, part_mask, opacity=0.45)
            self._image.image = pixels

    def draw_drags(self, drags_px: Sequence[Sequence[float]]) -> None:
        """Show drags (x0, y0, x1, y1 in the user's pixels) as arrows; none takes them away."""
        with self._lock:
            if self.plane is None:
                return
            if not drags_px:
                if self._drags is not None:
                    self._drags.remove()
                    self._drags = None
                return
            ends = self.plane.to_world(np.array(drags_px, dtype=np.float64).reshape(-1, 2, 2), LIFT)
            shortest = float(np.linalg.norm(ends[:, 1] - ends[:, 0], axis=-1).min())
            self._drags = self._scene.add_arrows(
                "/picture_drags",
                ends.astype(np.float32),
                DRAG_COLOR,
                shaft_radius=0.006,
                head_radius=0.018,
                head_length=min(0.05, 0.6 * max(shortest, 1e-3)),
            )

    def draw_outline(self, corners: Sequence[Pixel], radius: float | None = None, adds: bool = True) -> None:
        """Show a line through pixels of the user's picture, as wide as a brush of a radius; no corners take it away."""
        with self._lock:
            if self._outline is not None:
                self._outline.remove()
                self._outline = None
            if self.plane is None or len(corners) < 2:
                return
            along = self.plane.to_world(np.array(corners, dtype=np.float64), LIFT).astype(np.float32)
            color = CROP_COLOR if radius is None else ADDS_COLOR if adds else REMOVES_COLOR
            wide = 2 * (radius or 0) * self.plane.width / self.plane.width_px
            self._outline = self._scene.add_line_segments(
                "/picture_outline",
                np.stack([along[:-1], along[1:]], 1),
                color,
                thickness=wide or 2.0,
                thickness_units="world" if wide else "screen",
            )

    def draw_crop(self, framed: FramedImage | None) -> None:
        """Show the square that the network sees; None takes it away."""
        with self._lock:
            if self._crop is not None:
                self._crop.remove()
                self._crop = None
            if framed is None or self.plane is None:
                return
            (left, top), side = framed.corner_px, framed.image.shape[-1] / framed.scale
            corners = np.array([[0, 0], [1, 0], [1, 1], [0, 1]]) * side + np.array([left, top])
            around = self.plane.to_world(corners, LIFT / 2)
            lines = np.stack([around, np.roll(around, -1, 0)], 1).astype(np.float32)
            self._crop = self._scene.add_line_segments(
                "/picture_crop", lines, CROP_COLOR, thickness=2.0, thickness_units="screen"
            )


def shows(mask: Float[Tensor, "h w"], pixel: Pixel) -> bool:
    """Whether a mask is 1 at a pixel (x, y) of its picture; outside it is not."""
    x, y = math.floor(pixel[0]), math.floor(pixel[1])
    return 0 <= y < mask.shape[0] and 0 <= x < mask.shape[1] and bool(mask[y, x] > 0.5)


def page_pixels(rgba: Float[Tensor, "4 h w"], background: bool = False) -> UInt8[np.ndarray, "h2 w2 3"]:
    """A picture on white, or on its own faded ``background``, as bytes, reduced to :data:`MAX_SIDE_PX`."""
    if background:
        rgba = torch.cat([rgba[:3], BACKGROUND_SHOWN + (1 - BACKGROUND_SHOWN) * rgba[3:]])
    picture = composite_on_white(rgba)
    factor = MAX_SIDE_PX / max(picture.shape[1:])
    if factor < 1:
        size = (max(1, round(picture.shape[1] * factor)), max(1, round(picture.shape[2] * factor)))
        picture = interpolate(picture[None], size, mode="bilinear", antialias=True)[0]
    return to_bytes(picture)
