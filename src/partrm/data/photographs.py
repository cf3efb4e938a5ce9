"""What makes a photograph of a render: tone, background, things in the way, a rough cut-out, a lens of its own."""

from dataclasses import dataclass

import torch
from einops import rearrange
from jaxtyping import Float
from torch import Tensor

from partrm.cameras import Cameras
from partrm.data.cutouts import CutoutConfig, Hidden, cut_out
from partrm.data.effects import EffectConfig, affected
from partrm.data.scenarios import uniform
from partrm.data.viewpoints import BEFORE, CUTS, Viewpoint


@dataclass(frozen=True)
class Tone:
    """Exposure, white balance and contrast of a camera, one for all images of a sample.

    Targets have the same tone as inputs: which colours are the object's own no image tells, and a network that has to
    guess gives them all a little wrong.
    """

    gain: Float[Tensor, "b 3"]
    contrast: Float[Tensor, " b"]

    @staticmethod
    def random(b: int, generator: torch.Generator) -> "Tone":
        """Of b cameras: most well exposed, some a third too dark or bright, yellow or blue, flat or hard."""
        strength = uniform((b, 1), 0.2, 1.0, generator) ** 2
        exposure = 1 + strength * uniform((b, 1), -0.45, 0.28, generator)
        balance = 1 + strength * uniform((b, 3), -0.12, 0.12, generator)
        contrast = 1 + strength[:, 0] * uniform((b,), -0.35, 0.4, generator)
        return Tone(exposure * balance, contrast)

    def of_colors(self, rgb: Float[Tensor, "b *pixels 3"]) -> Float[Tensor, "b *pixels 3"]:
        """Colours in [0, 1] as the cameras show them, in [0, 1]."""
        between = [1] * (rgb.ndim - 2)
        contrast = self.contrast.view(-1, *between, 1)
        return ((rgb * self.gain.view(-1, *between, 3) - 0.5) * contrast + 0.5).clamp(0, 1)

    def of_images(self, rgba: Float[Tensor, "b k 4 h w"]) -> Float[Tensor, "b k 4 h w"]:
        """Images of straight alpha, which stays."""
        rgb = rearrange(rgba[:, :, :3], "b k c h w -> b k h w c")
        return torch.cat([rearrange(self.of_colors(rgb), "b k h w c -> b k c h w"), rgba[:, :, 3:]], 2)


def developed(
    images: Float[Tensor, "b k 4 h w"],
    tone: Tone,
    viewpoint: Viewpoint | None,
    cutout: CutoutConfig,
    effects: EffectConfig,
    generator: torch.Generator,
) -> Float[Tensor, "b k 4 h w"]:
    """Renders of objects as cut-outs of photographs of them.

    Args:
        viewpoint: what hides the objects of single views (k = 1); None for nothing.
    """
    b, k, _, side, _ = images.shape
    hidden = Hidden.nothing(b * k, side, images.device) if viewpoint is None else hidden_by(viewpoint, side)
    photo, alpha = cut_out(rearrange(images, "b k c h w -> (b k) c h w"), hidden, cutout, generator)
    photo, alpha = (rearrange(x, "(b k) c h w -> b k c h w", k=k) for x in (photo, alpha))
    photo = affected(tone.of_images(torch.cat([photo, alpha], 2))[:, :, :3], effects, generator)
    return torch.cat([photo, alpha], 2)


def hidden_by(viewpoint: Viewpoint, side_px: int) -> Hidden:
    """What single photographs hide and their cut-outs mistake."""
    covered = viewpoint.shapes.cover(side_px)
    hiding = covered[:, : CUTS + BEFORE]

    def any_of(masks: Tensor) -> Tensor:
        return masks.any(1, keepdim=True)

    return Hidden(
        erased=any_of(hiding & viewpoint.erased()[:, :, None, None]),
        painted=any_of(hiding[:, CUTS:]),
        leaked=any_of(covered[:, CUTS + BEFORE :]),
    )


def through_other_lenses(
    cameras: Cameras, share: float, fovy_deg: tuple[float, float], generator: torch.Generator
) -> Cameras:
    """The cameras [b, v] that really took the first views: a share nearer or farther, with a lens to match.

    Objects keep their size in the image, points before and behind the origin shift. ``fovy_deg``: least and greatest.
    """
    b = cameras.batch_shape[0]
    low, high = fovy_deg
    other = torch.deg2rad(uniform((b,), low, high, generator))
    told = cameras.fovy_rad[:, 0]
    fovy = torch.where(uniform((b,), 0.0, 1.0, generator) < share, other, told)
    farther = torch.tan(told / 2) / torch.tan(fovy / 2)
    T = cameras.T_world_camera.clone()
    T[:, 0, :3, 3] *= farther[:, None]
    return Cameras(T, torch.cat([fovy[:, None], cameras.fovy_rad[:, 1:]], 1), cameras.width, cameras.height)
