"""The pictures that come with the package, each with a drag, as a wall on the page; a click opens one."""

import json
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Any, Literal

import numpy as np
from jaxtyping import UInt8
from PIL import Image

from partrm.imaging.formats import open_image
from partrm.viewer.geometry import FOVY_RAD, CameraPlace

COLUMNS = 4

TILE = 0.62
"""Side of a picture, world units."""

STEP = 0.74
"""From one picture to the next."""

THUMBNAIL_PX = 320


@dataclass(frozen=True)
class Example:
    """A bundled picture and a drag on it."""

    title: str
    path: Path
    framing: Literal["auto", "canonical"]
    drags_px: tuple[tuple[float, float, float, float], ...]
    """x0, y0, x1, y1 in pixels of the picture."""


def load_examples() -> tuple[Example, ...]:
    """All bundled examples, in the order of the gallery."""
    folder = Path(str(resources.files("partrm") / "example_images"))
    rows = json.loads((folder / "examples.json").read_text(encoding="utf-8"))["examples"]
    return tuple(
        Example(row["title"], folder / row["file"], row["framing"], tuple(_drag(d) for d in row["drags_px"]))
        for row in rows
    )


def _drag(row: list[int]) -> tuple[float, float, float, float]:
    x0, y0, x1, y1 = (float(value) for value in row)
    return x0, y0, x1, y1


def thumbnail(example: Example) -> UInt8[np.ndarray, "side side 3"]:
    """The example's picture on a white square."""
    with open_image(example.path) as image:
        picture = image.convert("RGBA")
    picture.thumbnail((THUMBNAIL_PX, THUMBNAIL_PX))
    square = Image.new("RGBA", (THUMBNAIL_PX, THUMBNAIL_PX), "white")
    square.alpha_composite(picture, ((THUMBNAIL_PX - picture.width) // 2, (THUMBNAIL_PX - picture.height) // 2))
    return np.asarray(square.convert("RGB"))


class Gallery:
    """Shows thumbnails in a viser scene, in rows of :data:`COLUMNS`."""

    def __init__(self, scene: Any, examples: Sequence[Example], on_pick: Callable[[int], None]) -> None:
        self._nodes: list[Any] = []
        rows = math.ceil(len(examples) / COLUMNS)
        for index, example in enumerate(examples):
            row, column = divmod(index, COLUMNS)
            x = (column - (COLUMNS - 1) / 2) * STEP
            y = ((rows - 1) / 2 - row) * (STEP + 0.06)
            tile = scene.add_image(
                f"/gallery/{index}",
                thumbnail(example),
                TILE,
                TILE,
                format="jpeg",
                jpeg_quality=90,
                cast_shadow=False,
                receive_shadow=False,
                wxyz=(0.0, 1.0, 0.0, 0.0),
                position=(x, y, 0.0),
            )

            def pick(_event: Any, index: int = index) -> None:
                on_pick(index)

            tile.on_click(pick)
            label = scene.add_label(
                f"/gallery/{index}_title", example.title, position=(x, y - TILE / 2 - 0.05, 0.0), anchor="center-center"
            )
            self._nodes += [tile, label]

    def remove(self) -> None:
        """Take the wall down."""
        for node in self._nodes:
            node.remove()
        self._nodes = []

    @staticmethod
    def place(count: int, aspect: float) -> CameraPlace:
        """Where the camera sees the whole wall in a window of that aspect ratio."""
        rows = math.ceil(count / COLUMNS)
        reach = max(rows * (STEP + 0.06) / 2, COLUMNS * STEP / 2 / max(aspect, 0.3)) * 1.08
        return CameraPlace((0.0, 0.0, reach / math.tan(FOVY_RAD / 2)))
