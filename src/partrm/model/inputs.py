"""What the network eats: views, rays and drags of a batch of samples, in the frame of their first views."""

from dataclasses import dataclass, replace

import torch
from einops import rearrange
from jaxtyping import Bool, Float
from torch import Tensor

from partrm.geometry.cameras import ABSENT_FOVY_RAD, Cameras, canonical_orbit
from partrm.geometry.drags import Drags
from partrm.geometry.tensor_record import TensorRecord

VIEWS = 4
"""Input views of a sample; absent ones enter as rays with a zero image."""


@dataclass(frozen=True)
class NetworkInput(TensorRecord):
    """A batch of samples in the canonical frame of their first views."""

    images: Float[Tensor, "b v 4 h w"]
    """RGBA, straight alpha, [0, 1]; zero for absent views."""
    cameras: Cameras
    """[b, v] canonical-frame cameras; absent views take those of ``canonical_orbit(4, ...)``."""
    view_valid: Bool[Tensor, "b v"]
    """False for absent views; the first view is always present."""
    drags: Drags
    """[b, n] drags, n <= 10, in views that are present."""

    def without_drags(self) -> "NetworkInput":
        """The same samples, nothing pulled; as many places for drags whatever there were."""
        b, device = len(self.view_valid), self.view_valid.device
        nowhere = torch.zeros(b, 1, 2, device=device)
        none = torch.zeros(b, 1, dtype=torch.bool, device=device)
        return replace(self, drags=Drags(nowhere, nowhere, none.long(), none))


def pooled_rgba(images: Float[Tensor, "b v 4 h w"], factor: int = 2) -> Float[Tensor, "b v 4 h2 w2"]:
    """Average RGBA down by ``factor`` with premultiplied colour; where alpha is zero the colour is grey."""
    b = images.shape[0]
    flat = rearrange(images, "b v c h w -> (b v) c h w")
    alpha = torch.nn.functional.avg_pool2d(flat[:, 3:], factor)
    premultiplied = torch.nn.functional.avg_pool2d(flat[:, :3] * flat[:, 3:], factor)
    rgb = torch.where(alpha > 0, premultiplied / alpha.clamp(min=1e-4), torch.full_like(premultiplied, 0.5))
    return rearrange(torch.cat([rgb, alpha], 1), "(b v) c h w -> b v c h w", b=b)


def with_absent_views(present: Cameras) -> tuple[Cameras, Bool[Tensor, "b v"]]:
    """Cameras [b, 4] of which the first are given, and which those are; absent ones stand around the origin."""
    b, views = present.batch_shape
    absent = canonical_orbit(VIEWS, present.width, present.device, ABSENT_FOVY_RAD)
    T = torch.cat([present.T_world_camera, absent.T_world_camera[views:].expand(b, -1, 4, 4)], 1)
    fovy = torch.cat([present.fovy_rad, absent.fovy_rad[views:].expand(b, -1)], 1)
    valid = (torch.arange(VIEWS, device=present.device) < views).expand(b, VIEWS)
    return Cameras(T, fovy, present.width, present.height), valid
