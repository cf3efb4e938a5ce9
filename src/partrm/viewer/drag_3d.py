"""Drags made on the 3D object: pick a Gaussian, pull it, and what that drag is in pixels of the picture."""

from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from partrm.inference.source import SourceViews
from partrm.viewer.display import ObjectDisplay
from partrm.viewer.geometry import inside, pick_gaussian, pixels_of

PULL_COLOR = (20, 90, 230)


class Pull:
    """Follows one drag on the object at a time, drawing it as an arrow in 3D."""

    def __init__(self, client: Any, display: ObjectDisplay) -> None:
        self._client, self._display = client, display
        self._arrow: Any = None
        self._index: int | None = None
        self._grip: Float[Tensor, "3"] | None = None

    def follow(self, event: Any, views: SourceViews) -> tuple[float, float, float, float] | None:
        """The drag so far in user pixels (x0, y0, x1, y1); None if it did not start on the object.

        Args:
            event: viser's drag event on a surface around the object.
            views: whose first picture the pixels are of.
        """
        shown = self._display.shown
        if shown is None:
            return None
        camera = self._client.camera
        eye = torch.as_tensor(np.asarray(camera.position), dtype=torch.float32)
        if event.phase == "start" or self._grip is None:
            now = shown.at(self._display.fraction)
            self._index = pick_gaussian(now, eye, torch.tensor(event.start_position, dtype=torch.float32))
            self._grip = None if self._index is None else now.means[self._index]
        if self._index is None or self._grip is None or self._index >= len(shown.before):
            return None
        ahead = torch.as_tensor(np.asarray(camera.look_at), dtype=torch.float32) - eye
        end = same_depth(eye, ahead, torch.tensor(event.end_position, dtype=torch.float32), self._grip)
        self._draw(None if event.phase == "end" else torch.stack([self._grip, end]))
        pixels = pixels_of(torch.stack([shown.before.means[self._index], end]), views).tolist()
        if event.phase == "end":
            self._index = self._grip = None
        first = views.framed[0]
        (x0, y0), (x1, y1) = (inside(x, y, first.source_width, first.source_height) for x, y in pixels)
        return x0, y0, x1, y1

    def _draw(self, ends: Float[Tensor, "2 3"] | None) -> None:
        if self._arrow is not None:
            self._arrow.remove()
            self._arrow = None
        if ends is not None:
            self._arrow = self._client.scene.add_arrows(
                "/pull", ends[None].numpy(), PULL_COLOR, shaft_radius=0.006, head_radius=0.018, head_length=0.05
            )


def same_depth(
    eye: Float[Tensor, "3"], ahead: Float[Tensor, "3"], through: Float[Tensor, "3"], like: Float[Tensor, "3"]
) -> Float[Tensor, "3"]:
    """The point of the ray from ``eye`` through ``through`` that lies as far ahead as ``like`` does."""
    step = through - eye
    return eye + step * ((like - eye) @ ahead) / (step @ ahead).clamp(min=1e-6)
