"""What a camera makes of a render: tone, softness, noise, the rim of a cut-out."""

from dataclasses import dataclass

import torch
from einops import rearrange
from jaxtyping import Float
from torch import Tensor

from partrm.synthesis.scenarios import uniform


@dataclass(frozen=True)
class PhotometricJitter:
    """Exposure, white balance and contrast of a camera, one for all images of a sample.

    Targets have the same tone as inputs: which colours are the object's own no image tells, and a network that has to
    guess gives them all a little wrong.
    """

    gain: Float[Tensor, "b 3"]
    contrast: Float[Tensor, " b"]

    @staticmethod
    def random(b: int, generator: torch.Generator) -> "PhotometricJitter":
        """Of b cameras: exposure within 30 % and contrast within 20 %, each channel within 8 % of the others."""
        exposure = uniform((b, 1), 0.7, 1.3, generator) * uniform((b, 3), 0.92, 1.08, generator)
        return PhotometricJitter(exposure, uniform((b,), 0.8, 1.2, generator))

    def of_colors(self, rgb: Float[Tensor, "b *pixels 3"]) -> Float[Tensor, "b *pixels 3"]:
        """Colours in [0, 1] as the cameras show them, in [0, 1]."""
        between = [1] * (rgb.ndim - 2)
        contrast = self.contrast.view(-1, *between, 1)
        return ((rgb * self.gain.view(-1, *between, 3) - 0.5) * contrast + 0.5).clamp(0, 1)

    def of_images(self, rgba: Float[Tensor, "b k 4 h w"]) -> Float[Tensor, "b k 4 h w"]:
        """Images of straight alpha, which stays."""
        rgb = rearrange(rgba[:, :, :3], "b k c h w -> b k h w c")
        return torch.cat([rearrange(self.of_colors(rgb), "b k h w c -> b k c h w"), rgba[:, :, 3:]], 2)


def camera_noise(
    images: Float[Tensor, "b k 4 h w"], tone: PhotometricJitter, generator: torch.Generator
) -> Float[Tensor, "b k 4 h w"]:
    """Images as a camera takes them: its tone, softness and sensor noise; in some samples a rough cut-out."""
    b, k = images.shape[:2]

    def draw(low: float, high: float, channels: int = 1) -> Tensor:
        return uniform((b, 1, channels, 1, 1), low, high, generator)

    rgb = images[:, :, :3]
    flat = rearrange(images, "b k c h w -> (b k) c h w")
    premultiplied = torch.cat([flat[:, :3] * flat[:, 3:], flat[:, 3:]], 1)
    near = torch.nn.functional.avg_pool2d(premultiplied, 3, 1, 1)
    soft = torch.where(flat[:, 3:] > 0, near[:, :3] / near[:, 3:].clamp(min=1e-4), flat[:, :3])
    rgb = torch.lerp(rgb, rearrange(soft, "(b k) c h w -> b k c h w", k=k), draw(-1.0, 1.0).clamp(min=0))
    rgb = tone.of_images(torch.cat([rgb, images[:, :, 3:]], 2))[:, :, :3]
    noise = torch.randn(rgb.shape, generator=generator, device=rgb.device)
    rgb = rgb + noise * draw(-0.02, 0.03).clamp(min=0)
    # A mask found by background removal lies a little beside the outline, and the rim keeps the background's colour.
    alpha = images[:, :, 3:]
    wider = rearrange(near[:, 3:], "(b k) c h w -> b k c h w", k=k)
    rough = ((wider - draw(0.25, 0.75)) * draw(2.0, 4.0) + 0.5).clamp(0, 1)  # leaves 0 and 1 as they are
    rim = rgb * alpha + draw(0.0, 1.0) * draw(0.8, 1.0, 3) * (1 - alpha)
    cut_out = draw(0.0, 1.0) < 0.25
    rgb, alpha = torch.where(cut_out, rim, rgb), torch.where(cut_out, rough, alpha)
    return torch.cat([rgb.clamp(0, 1), alpha], 2)
