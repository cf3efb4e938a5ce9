"""Drawing on pictures of 8 bits a channel: arrows, tinted and numbered masks, lines of text."""

import math
from collections.abc import Sequence

import numpy as np
import torch
from einops import rearrange
from jaxtyping import Bool, Float, UInt8
from PIL import Image, ImageDraw, ImageFont
from scipy.ndimage import distance_transform_edt
from torch import Tensor

PART_COLOR = (230, 60, 40)
"""Tint of the moving part, RGB 0..255."""

DRAG_COLOR = (20, 90, 230)
"""Drags where the part is tinted."""

WHITE = (255, 255, 255)

LABEL_PX = 16
"""Height of a line of text."""


def to_bytes(image: Float[Tensor, "channels h w"]) -> UInt8[np.ndarray, "h w channels"]:
    """An image in [0, 1], on any device, with 8 bits a channel."""
    return rearrange((image.clamp(0, 1) * 255).round().to(torch.uint8).cpu(), "c h w -> h w c").numpy()


def draw_mask(
    picture: UInt8[np.ndarray, "h w 3"],
    mask: Float[Tensor, "rows columns"] | Bool[Tensor, "rows columns"],
    color: tuple[int, int, int] = PART_COLOR,
    opacity: float = 0.6,
) -> UInt8[np.ndarray, "h w 3"]:
    """The picture under a tint where the mask, of any resolution, is 1 (or in part where it is less)."""
    full = torch.nn.functional.interpolate(mask.float()[None, None].cpu(), picture.shape[:2], mode="area")[0, 0]
    weight = opacity * full.numpy()[..., None]
    return (picture * (1 - weight) + np.array(color) * weight).round().astype(np.uint8)


def draw_arrows(
    picture: UInt8[np.ndarray, "h w 3"],
    start_px: Float[Tensor, "n 2"],
    end_px: Float[Tensor, "n 2"],
    color: tuple[int, int, int] = PART_COLOR,
    rim: bool = True,
) -> UInt8[np.ndarray, "h w 3"]:
    """The picture with an arrow for each drag.

    Args:
        start_px: x and y, pixels of the picture.
        end_px: likewise.
        rim: white beside the shafts, for pictures of any colour.
    """
    image = Image.fromarray(picture)
    draw = ImageDraw.Draw(image)
    for (x0, y0), (x1, y1) in zip(start_px.tolist(), end_px.tolist(), strict=True):
        if rim:
            draw.line([x0, y0, x1, y1], fill=WHITE, width=5)
        draw.line([x0, y0, x1, y1], fill=color, width=2)
        angle = math.atan2(y1 - y0, x1 - x0)
        head = [(x1 - 8 * math.cos(angle + turn), y1 - 8 * math.sin(angle + turn)) for turn in (-0.45, 0.45)]
        draw.polygon([(x1, y1), *head], fill=color)
        draw.ellipse([x0 - 3, y0 - 3, x0 + 3, y0 + 3], fill=color)
    return np.asarray(image)


def draw_polyline(
    picture: UInt8[np.ndarray, "h w 3"], points_px: Float[Tensor, "n 2"], color: tuple[int, int, int], width: int = 3
) -> UInt8[np.ndarray, "h w 3"]:
    """The picture with a line through points (x, y), white beside it."""
    image = Image.fromarray(picture)
    draw = ImageDraw.Draw(image)
    corners = [(x, y) for x, y in points_px.tolist()]
    draw.line(corners, fill=WHITE, width=width + 2, joint="curve")
    draw.line(corners, fill=color, width=width, joint="curve")
    return np.asarray(image)


PALETTE = (
    (230, 60, 40), (20, 110, 230), (30, 150, 60), (235, 150, 20), (150, 60, 190), (0, 160, 170), (200, 60, 130),
    (120, 120, 20), (90, 80, 220), (150, 90, 50),
)  # fmt: skip
"""Tints of numbered masks, in turn."""


def draw_numbered(
    picture: UInt8[np.ndarray, "h w 3"], masks: Sequence[Float[Tensor, "rows columns"]], opacity: float = 0.5
) -> UInt8[np.ndarray, "h w 3"]:
    """The picture under tints where masks, of any resolution, are 1; each has its number, from 1 on, in its middle.

    Larger masks lie below smaller ones.
    """
    order = sorted(range(len(masks)), key=lambda index: -float(masks[index].mean()))
    for index in order:
        picture = draw_mask(picture, masks[index], PALETTE[index % len(PALETTE)], opacity)
    image = Image.fromarray(picture)
    draw, radius = ImageDraw.Draw(image), max(7, round(max(picture.shape[:2]) / 45))
    font = ImageFont.load_default(size=1.3 * radius)
    for index in order:
        full = torch.nn.functional.interpolate(masks[index][None, None], picture.shape[:2], mode="nearest")[0, 0]
        inside = np.pad(full.numpy() > 0.5, 1)
        depth = np.asarray(distance_transform_edt(inside))
        row, column = np.unravel_index(int(depth.argmax()), inside.shape)
        x, y = int(column) - 0.5, int(row) - 0.5
        color = PALETTE[index % len(PALETTE)]
        draw.ellipse([x - radius, y - radius, x + radius, y + radius], fill=WHITE, outline=color, width=2)
        draw.text((x, y), str(index + 1), fill=color, font=font, anchor="mm")
    return np.asarray(image)


def draw_label(picture: UInt8[np.ndarray, "h w 3"], text: str) -> UInt8[np.ndarray, "tall w 3"]:
    """The picture under a line of text."""
    image = Image.new("RGB", (picture.shape[1], LABEL_PX), WHITE)
    ImageDraw.Draw(image).text((4, 2), text, fill=(20, 20, 20))
    return np.concatenate([np.asarray(image), picture], 0)
