"""Input views of known cameras: each cropped to its own mask's box, all in the frame of the first one's crop."""

import math

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from partrm.cameras import (
    ABSENT_FOVY_RAD,
    CANONICAL_DISTANCE,
    INPUT_FOVY_RAD,
    Cameras,
    canonical_orbit,
    cropped_to,
)
from partrm.data.samples import VIEWS
from partrm.data.scenarios import Framing, framed_by_outline, sample_turns, turned_cameras, uniform
from partrm.rendering.meshes import Instances, MeshScene, trace_surfaces
from partrm.transforms import pose

NEARER = (0.6, 2.0)
"""How many times as near as the assumed camera known ones stand, with lenses as much wider."""

COARSE_PX = 64
"""Side of the renders that boxes are read off."""

ROUNDS = 2
"""A camera that comes nearer sees another outline."""


def nearer_cameras(nearer: Float[Tensor, " b"], size_px: int, wider: float = 1.0) -> Cameras:
    """[b, 1] first views ``nearer`` times as near as the assumed one; what lies about the origin keeps its size.

    Args:
        wider: how many times as much they see to each side.
    """
    b, zero = len(nearer), torch.zeros_like(nearer)
    R = torch.diag(nearer.new_tensor([1.0, -1.0, -1.0])).expand(b, 3, 3)
    T = pose(R, torch.stack([zero, zero, CANONICAL_DISTANCE / nearer], -1))
    fovy = 2 * torch.atan(wider * math.tan(INPUT_FOVY_RAD / 2) * nearer)
    return Cameras(T[:, None], fovy[:, None], size_px, size_px)


def box_of(shown: Bool[Tensor, "*batch h w"]) -> tuple[Float[Tensor, "*batch 2"], Float[Tensor, "*batch 2"]]:
    """Corners (x, y) of the boxes about what is shown, fractions of the image; its middle half where nothing is."""

    def span(along: Bool[Tensor, "*batch n"]) -> tuple[Tensor, Tensor]:
        n, among = along.shape[-1], along.float()
        return among.argmax(-1) / n, 1 - among.flip(-1).argmax(-1) / n

    (left, right), (top, bottom) = span(shown.any(-2)), span(shown.any(-1))
    some = shown.flatten(-2).any(-1)[..., None]
    low, high = torch.stack([left, top], -1), torch.stack([right, bottom], -1)
    return torch.where(some, low, 0.25), torch.where(some, high, 0.75)


def posed_views(
    scene: MeshScene,
    instances: Instances,
    framing: Framing,
    views: int,
    size_px: int,
    augment: bool,
    generator: torch.Generator,
) -> tuple[Framing, Cameras, Bool[Tensor, "b v"]]:
    """Framings and input cameras of samples of several views of known cameras.

    Args:
        framing: directions of the first views.
        views: number of the views that are present, the first ones.
        augment: vary the cameras' distances and lenses.

    Returns:
        framings in which the first view shows the object filling its frame; [b, 4] canonical-frame cameras; which of
        them are present.
    """
    b, device = len(framing.scale), framing.scale.device
    low, high = (math.log(x) for x in NEARER)
    nearer = uniform((b,), low, high, generator).exp() if augment else torch.ones(b, device=device)
    wide = nearer_cameras(nearer, COARSE_PX, wider=2.0)
    for _ in range(ROUNDS):
        seen = trace_surfaces(scene, instances, framing.cameras_to_object(wide)).part[:, 0] >= 0
        framing = framed_by_outline(framing, seen)
    up = framing.R_canonical_object[:, None, :, 2].expand(b, VIEWS, 3)
    turn = sample_turns(b, generator, device)
    around = turned_cameras(wide, up, turn)
    seen = trace_surfaces(scene, instances, framing.cameras_to_object(around)[:, :views]).part >= 0
    left_top, right_bottom = box_of(seen[:, 1:])
    others = cropped_to(around[:, 1:views], left_top * COARSE_PX, right_bottom * COARSE_PX)
    first = nearer_cameras(nearer, COARSE_PX)
    absent = canonical_orbit(VIEWS, COARSE_PX, device).T_world_camera[views:].expand(b, VIEWS - views, 4, 4)
    T = torch.cat([first.T_world_camera, others.T_world_camera, absent], 1)
    fovy = torch.cat([first.fovy_rad, others.fovy_rad, T.new_full((b, VIEWS - views), ABSENT_FOVY_RAD)], 1)
    valid = (torch.arange(VIEWS, device=device) < views).expand(b, VIEWS)
    return framing, Cameras(T, fovy, size_px, size_px), valid
