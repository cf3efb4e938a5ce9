"""One image completed to four views by a multi-view diffusion model: its cameras, background removal and framing."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor

from partrm.geometry.cameras import CANONICAL_DISTANCE, CANONICAL_FOVY_RAD, Cameras, canonicalise, orbit_poses
from partrm.imaging.cutout import ImageError, cut_out
from partrm.imaging.images import FramedImage, frame_canonical, frame_diagonal

CONDITION_PX = 512
"""Side of the framed image that the diffusion model sees."""

Draw = Callable[[Float[Tensor, "3 h w"]], Float[Tensor, "6 3 tile tile"]]
"""Six views in [0, 1] of the object in an image without alpha."""


@dataclass(frozen=True)
class ViewPlan:
    """Which of the drawn views are used, and where their cameras stand about the object's vertical."""

    chosen: tuple[int, ...]
    """Indices of drawn views."""
    azimuth_deg: tuple[float, ...]
    """Of each chosen view, from the input's; positive counterclockwise seen from above."""
    elevation_deg: tuple[float | None, ...]
    """Above the horizon; None: the input's."""
    framing: Literal["auto", "canonical"]
    """``auto``: the views have cameras of their own and are framed by their masks."""


ZERO123_PLAN = ViewPlan((1, 2, 4), (90.0, 150.0, 270.0), (-10.0, 20.0, 20.0), "auto")
"""Zero123++ v1.2 draws azimuths of 30, 90, ... 330 at 20 and -10 degrees in turn, whatever the input's elevation."""

PARTDRAG_PLAN = ViewPlan((0, 1, 2), tuple(i * 360 / 11 for i in (1, 2, 3)), (None, None, None), "canonical")
"""PartDrag-4D's next three of twelve cameras (the last repeats the first), of the input's elevation and lens."""

PARTDRAG_ELEVATION_DEG = math.degrees(math.asin(1.5 / 2.4))
"""Of PartDrag-4D's cameras, 38.7 degrees."""


def complete_views(
    condition: Float[Tensor, "4 h w"],
    draw: Draw,
    plan: ViewPlan,
    size_px: int,
    elevation_deg: float,
    background: float,
) -> tuple[tuple[FramedImage, ...], Cameras]:
    """The views that go with a framed input image, and all cameras.

    Args:
        condition: the input image under the canonical camera: RGBA, straight alpha, [0, 1].
        draw: the diffusion model.
        plan: its views.
        size_px: side of the images to make.
        elevation_deg: of the input's camera above the horizon.
        background: grey value under the condition.

    Returns:
        the framed chosen views, and cameras [1 + chosen] in the canonical frame of the input, the input's first.

    Raises:
        ImageError: a drawn view whose background cannot be removed.
    """
    rgb, alpha = condition[:3], condition[3:]
    drawn = draw(rgb * alpha + background * (1 - alpha))
    framed = []
    for index in plan.chosen:
        try:
            frame = frame_canonical if plan.framing == "canonical" else frame_diagonal
            framed.append(frame(torch.from_numpy(cut_out(drawn[index].numpy())), size_px))
        except ImageError as error:
            raise ImageError(f"view {index} that the diffusion model drew cannot be used: {error}") from error
    return tuple(framed), plan_cameras(plan, size_px, elevation_deg)


def plan_cameras(plan: ViewPlan, size_px: int, elevation_deg: float) -> Cameras:
    """Cameras [1 + chosen] in the canonical frame: the input's, then those of the chosen views."""
    azimuth = torch.tensor([0.0, *plan.azimuth_deg])
    own = [elevation_deg if value is None else value for value in plan.elevation_deg]
    elevation = torch.tensor([elevation_deg, *own])
    poses = orbit_poses(torch.deg2rad(azimuth), torch.deg2rad(elevation), CANONICAL_DISTANCE)
    cameras, _, _ = canonicalise(Cameras(poses, torch.full((len(poses),), CANONICAL_FOVY_RAD), size_px, size_px))
    return cameras
