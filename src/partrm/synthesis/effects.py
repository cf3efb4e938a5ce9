"""What cameras and files do to pictures: lens, sharpness, sensor, JPEG. Batched, nothing waits for the host."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache

import torch
from einops import rearrange
from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import conv2d, interpolate, pad

from partrm.synthesis.scenarios import uniform

BLOCK_PX = 8
"""Of JPEG."""

MIDDLE = 128 / 255
"""What JPEG takes off every channel before its DCT."""

_LUMINANCE = (
    16, 11, 10, 16, 24, 40, 51, 61, 12, 12, 14, 19, 26, 58, 60, 55, 14, 13, 16, 24, 40, 57, 69, 56,
    14, 17, 22, 29, 51, 87, 80, 62, 18, 22, 37, 56, 68, 109, 103, 77, 24, 35, 55, 64, 81, 104, 113, 92,
    49, 64, 78, 87, 103, 121, 120, 101, 72, 92, 95, 98, 112, 100, 103, 99,
)  # fmt: skip
_CHROMINANCE = (
    17, 18, 24, 47, 99, 99, 99, 99, 18, 21, 26, 66, 99, 99, 99, 99, 24, 26, 56, 99, 99, 99, 99, 99,
    47, 66, 99, 99, 99, 99, 99, 99, *([99] * 32),
)  # fmt: skip


@dataclass(frozen=True)
class EffectConfig:
    """How often and how strongly pictures suffer."""

    vignette_share: float = 0.3
    vignette: float = 0.45
    """Most of the light that the corners lose."""
    blur_share: float = 0.3
    blur_px: tuple[float, float] = (0.3, 1.3)
    """Standard deviation at 128 pixels a side."""
    noise_share: float = 0.35
    noise: tuple[float, float] = (0.003, 0.05)
    """Standard deviation of the sensor's noise in the middle tones; uniform in logarithm."""
    jpeg_share: float = 0.45
    jpeg_quality: tuple[float, float] = (20.0, 92.0)
    """libjpeg's, 1 to 100."""


USUAL_EFFECTS = EffectConfig()
"""Of training."""


def affected(
    rgb: Float[Tensor, "b k 3 h w"], config: EffectConfig, generator: torch.Generator
) -> Float[Tensor, "b k 3 h w"]:
    """Pictures in [0, 1] as files hold them; one camera a sample."""
    b, _, _, h, w = rgb.shape

    def draw(low: float, high: float) -> Tensor:
        return uniform((b, 1, 1, 1, 1), low, high, generator)

    def some(share: float) -> Tensor:
        return draw(0.0, 1.0) < share

    dark = torch.where(some(config.vignette_share), draw(0.0, config.vignette), 0.0)
    rgb = rgb * (1 - dark * squared_radius(h, w, rgb.device) / 2)
    sigma = torch.where(some(config.blur_share), draw(*config.blur_px) * (h / 128), 0.0)
    rgb = per_image(blurred, rgb, sigma)
    noise = draw(math.log(config.noise[0]), math.log(config.noise[1])).exp()
    rgb = with_sensor_noise(rgb, torch.where(some(config.noise_share), noise, 0.0), generator).clamp(0, 1)
    file = per_image(compressed, rgb, draw(*config.jpeg_quality))
    return torch.where(some(config.jpeg_share), file, rgb)


def per_image(
    effect: Callable[[Tensor, Tensor], Tensor], rgb: Float[Tensor, "b k c h w"], strength: Float[Tensor, "b 1 1 1 1"]
) -> Float[Tensor, "b k c h w"]:
    """An effect on [n, c, h, w] images with one strength each, on samples of k images."""
    b, k = rgb.shape[:2]
    out = effect(rearrange(rgb, "b k c h w -> (b k) c h w"), strength.view(b).repeat_interleave(k))
    return rearrange(out, "(b k) c h w -> b k c h w", k=k)


def squared_radius(height: int, width: int, device: torch.device) -> Float[Tensor, "h w"]:
    """Squared distance from the middle, 1 at the middle of each side."""
    y, x = ((torch.arange(side, device=device) + 0.5) * (2 / side) - 1 for side in (height, width))
    return y[:, None] ** 2 + x**2


def blurred(images: Float[Tensor, "n c h w"], sigma_px: Float[Tensor, " n"]) -> Float[Tensor, "n c h w"]:
    """Gaussian blur, each image by its own sigma, up to 3 pixels; a sigma of zero changes nothing."""
    n, c, reach = len(images), images.shape[1], 6
    at = torch.arange(-reach, reach + 1, device=images.device)
    kernel = torch.exp(-0.5 * (at / sigma_px[:, None].clamp(min=1e-3)) ** 2)
    kernel = (kernel / kernel.sum(1, keepdim=True)).repeat_interleave(c, 0)
    flat = rearrange(images, "n c h w -> 1 (n c) h w")
    flat = conv2d(pad(flat, (reach, reach, 0, 0), mode="replicate"), kernel[:, None, None], groups=n * c)
    flat = conv2d(pad(flat, (0, 0, reach, reach), mode="replicate"), kernel[:, None, :, None], groups=n * c)
    return rearrange(flat, "1 (n c) h w -> n c h w", n=n)


def with_sensor_noise(
    rgb: Float[Tensor, "b k 3 h w"], sigma: Float[Tensor, "b 1 1 1 1"], generator: torch.Generator
) -> Float[Tensor, "b k 3 h w"]:
    """Noise of each channel and of all alike, stronger in the dark, half of it as coarse as two pixels."""
    b, k, _, h, w = rgb.shape
    fine = torch.randn(b, k, 3, h, w, generator=generator, device=rgb.device)
    coarse = torch.randn(b * k, 3, h // 2, w // 2, generator=generator, device=rgb.device)
    coarse = interpolate(coarse, size=(h, w), mode="bilinear", align_corners=False).view(b, k, 3, h, w)
    luminance = rgb.mean(2, keepdim=True).clamp(0, 1)
    return rgb + sigma * (1.3 - 0.8 * luminance) * (0.7 * fine + 0.7 * coarse)


@cache
def _jpeg_tables(device: torch.device) -> tuple[Tensor, ...]:
    """The DCT's matrix, quanta at quality 50, RGB to YCbCr and back; copied to each device once."""
    k = torch.arange(BLOCK_PX, dtype=torch.float64)
    dct = torch.cos((2 * k[None] + 1) * k[:, None] * math.pi / (2 * BLOCK_PX)) / 2
    dct[0] /= math.sqrt(2)
    quanta = torch.tensor([_LUMINANCE, _CHROMINANCE, _CHROMINANCE], dtype=torch.float64).view(3, BLOCK_PX, BLOCK_PX)
    ycc = torch.tensor([[0.299, 0.587, 0.114], [-0.168736, -0.331264, 0.5], [0.5, -0.418688, -0.081312]])
    return tuple(x.float().to(device) for x in (dct, quanta, ycc, torch.linalg.inv(ycc)))


def compressed(rgb: Float[Tensor, "n 3 h w"], quality: Float[Tensor, " n"]) -> Float[Tensor, "n 3 h w"]:
    """Pictures in [0, 1] as JPEG files of these qualities (1 to 100) hold them, without subsampled chroma.

    The last blocks are filled up by repeating the picture's rim. The quanta are those of libjpeg.
    """
    height, width = rgb.shape[-2:]
    rgb = pad(rgb, (0, -width % BLOCK_PX, 0, -height % BLOCK_PX), mode="replicate")
    dct, quanta, ycc, rgb_of = _jpeg_tables(rgb.device)
    scale = torch.where(quality < 50, 50 / quality, 2 - quality / 50)[:, None, None, None]
    step = (quanta * scale).round().clamp(min=1.0)[:, :, None, :, None, :] / 255
    color = torch.einsum("d c, n c h w -> n d h w", ycc, rgb - MIDDLE)
    blocks = rearrange(color, "n c (i y) (j x) -> n c i y j x", y=BLOCK_PX, x=BLOCK_PX)
    waves = torch.einsum("u y, n c i y j x, v x -> n c i u j v", dct, blocks, dct)
    blocks = torch.einsum("u y, n c i u j v, v x -> n c i y j x", dct, torch.round(waves / step) * step, dct)
    color = rearrange(blocks, "n c i y j x -> n c (i y) (j x)")
    return torch.einsum("d c, n c h w -> n d h w", rgb_of, color)[..., :height, :width].add(MIDDLE).clamp(0, 1)
