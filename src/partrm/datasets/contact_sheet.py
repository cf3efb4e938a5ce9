"""``partrm data show``: one picture of a dataset, from its files alone: images, drags, part ids and depth."""

from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float, UInt8
from PIL import Image, ImageDraw
from torch import Tensor

from partrm.datasets.check import load_manifest
from partrm.datasets.partdrag4d import PROCESSED, DatasetError, EntryName, PartDrag4D, State, read_array
from partrm.geometry.cameras import Cameras
from partrm.imaging.drawing import DRAG_COLOR, draw_arrows, to_bytes
from partrm.metrics.images import composite_on_white

CELL_PX = 192
"""Side of one picture of the sheet."""

DRAGS_SHOWN = 6

PALETTE = (
    (150, 150, 150), (230, 85, 60), (50, 120, 220), (60, 170, 90), (235, 175, 40), (150, 80, 190), (40, 180, 190),
    (220, 110, 170), (120, 90, 60), (110, 140, 40),
)  # fmt: skip
"""Colours of the parts, in turn."""


def contact_sheet(root: Path, limit: int = 12) -> UInt8[np.ndarray, "h w 3"]:
    """A row an object and moving part: first state, last state, drags, another view, part ids, depth.

    Args:
        root: a finished build.
        limit: most rows, taken evenly from all.

    Raises:
        DatasetError: no finished build, or a broken entry.
    """
    manifest = load_manifest(root)
    data = PartDrag4D(root, [])
    pairs: list[tuple[str, EntryName, EntryName]] = []
    for record in manifest["objects"]:
        names = [EntryName.parse(text) for text in record["entries"]]
        for part in sorted({n.part for n in names}):
            of_part = [n for n in names if n.part == part]
            closed = [n for n in of_part if n.distractors == of_part[0].distractors]
            pairs.append((record["category"], closed[0], closed[-1]))
    chosen = [pairs[i] for i in np.unique(np.linspace(0, len(pairs) - 1, min(limit, len(pairs))).astype(int))]
    rows = [_row(data, category, before, after) for category, before, after in chosen]
    return np.concatenate(rows)


def _row(data: PartDrag4D, category: str, before: EntryName, after: EntryName) -> UInt8[np.ndarray, "h w 3"]:
    first, last = data.load(before), data.load(after)
    path = data.root / PROCESSED / category / before.mesh / "point_part.npy"
    try:
        labels = read_array(path)
    except (OSError, ValueError) as error:
        raise DatasetError(f"{path}: not an array ({error})") from error
    if labels.shape != (len(first.points),) or labels.dtype.kind not in "iu":
        raise DatasetError(f"{path}: does not name a part for each of {len(first.points)} points")
    other = len(first.images) // 3
    cells = [_picture(first.images[0]), _picture(last.images[0]), _with_drags(first, last)]
    cells += [_picture(last.images[other]), *_point_pictures(last, torch.from_numpy(labels.astype(np.int64)))]
    row = Image.fromarray(np.concatenate([np.asarray(cell) for cell in cells], 1))
    ImageDraw.Draw(row).text((4, 4), f"{category} {before}", fill=(20, 20, 20))
    return np.asarray(row)


def _picture(image: Float[Tensor, "4 h w"]) -> Image.Image:
    return Image.fromarray(to_bytes(composite_on_white(image))).resize((CELL_PX, CELL_PX), Image.Resampling.LANCZOS)


def _cell_pixels(camera: Cameras, points: Float[Tensor, "n 3"]) -> tuple[Float[Tensor, "n 2"], Float[Tensor, " n"]]:
    pixels, depth = camera.project(points)
    return pixels * (CELL_PX / camera.width), depth


def _with_drags(first: State, last: State) -> Image.Image:
    """The first view with arrows from visible moving points of one state to the same points in another."""
    camera = first.cameras[0]
    start, _ = _cell_pixels(camera, first.points[first.visible])
    end, _ = _cell_pixels(camera, last.points[first.visible])
    moved = torch.nonzero((last.points - first.points)[first.visible].norm(dim=-1) > 1e-4)[:, 0]
    spread = torch.linspace(0, max(len(moved) - 1, 0), DRAGS_SHOWN).long() if len(moved) else moved
    chosen = moved[spread].unique()
    picture = np.asarray(_picture(first.images[0]))
    return Image.fromarray(draw_arrows(picture, start[chosen], end[chosen], DRAG_COLOR, rim=False))


def _point_pictures(state: State, label: Tensor) -> tuple[Image.Image, Image.Image]:
    """The visible points, coloured by part and by depth (near dark)."""
    pixels, depth = _cell_pixels(state.cameras[0], state.points[state.visible])
    near, far = (float(depth.min()), float(depth.max())) if len(depth) else (0.0, 1.0)
    parts, depths = (Image.new("RGB", (CELL_PX, CELL_PX), (255, 255, 255)) for _ in range(2))
    draw_parts, draw_depths = ImageDraw.Draw(parts), ImageDraw.Draw(depths)
    labels = label[state.visible].tolist()
    for (x, y), z, part in zip(pixels.tolist(), depth.tolist(), labels, strict=True):
        shade = int(30 + 190 * (z - near) / max(far - near, 1e-9))
        draw_parts.rectangle([x - 1, y - 1, x, y], fill=PALETTE[part % len(PALETTE)])
        draw_depths.rectangle([x - 1, y - 1, x, y], fill=(shade, shade, shade))
    return parts, depths
