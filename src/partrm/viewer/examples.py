"""The pictures that come with the package, each with a drag."""

import json
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Literal


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
