"""Cut-outs as people and segmentation leave them: the background's colours, holes, leaks, lost and gained rims."""

import math
from dataclasses import dataclass

import torch
from einops import rearrange
from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import avg_pool2d, interpolate, max_pool2d

from partrm.synthesis.scenarios import uniform


@dataclass(frozen=True)
class CutOutConfig:
    """How often the rough cut-outs have which errors; lengths are shares of the image's height."""

    thin_share: float = 0.25
    """How often what is thinner than three pixels is lost."""
    outline_share: float = 0.35
    """How often the outline lies beside the true one, and wavers."""
    outline_shift: tuple[float, float] = (-0.012, 0.016)
    """How far outside."""
    outline_waver: float = 0.014
    """Most that it wavers to either side (standard deviation)."""
    hole_share: float = 0.35
    """How often patches within the object are missing (glare, a plain front like its wall)."""
    leak_share: float = 0.4
    """How often patches beside the outline are added."""
    thing_share: float = 0.3
    """How often a thing stands before the object, half of the time cut out, else left in."""
    coarse_share: float = 0.3
    """How often the picture had half as many pixels a side."""


USUAL_CUT_OUTS = CutOutConfig()
"""Of training."""


def smooth_noise(
    b: int, height: int, width: int, cells: int, generator: torch.Generator
) -> Float[Tensor, "b 1 height width"]:
    """Noise of about unit variance that varies over ``cells`` cells a side."""
    coarse = torch.randn(b, 1, cells, cells, generator=generator, device=generator.device)
    return 1.3 * interpolate(coarse, size=(height, width), mode="bicubic", align_corners=False)


def linear_ramp(b: int, height: int, width: int, generator: torch.Generator) -> Float[Tensor, "b 1 height width"]:
    """From 0 to 1 across the image, in a direction of its own each."""
    y, x = ((torch.arange(side, device=generator.device) + 0.5) / side - 0.5 for side in (height, width))
    angle = uniform((b, 1, 1, 1), 0.0, 2 * math.pi, generator)
    return ((torch.cos(angle) * x + torch.sin(angle) * y[:, None]) / math.sqrt(2) + 0.5).clamp(0, 1)


def cloth(b: int, height: int, width: int, generator: torch.Generator) -> Float[Tensor, "b 3 height width"]:
    """Opaque pictures of nothing in particular: two colours in ramps, stains and stripes, under uneven light."""

    def draw(low: float, high: float, channels: int = 1) -> Tensor:
        return uniform((b, channels, 1, 1), low, high, generator)

    def stains(cells: int) -> Tensor:
        return smooth_noise(b, height, width, cells, generator)

    first = (draw(0.05, 1.0) + draw(-0.12, 0.12, 3) * draw(0.0, 2.5)).clamp(0, 1)
    second = (first * draw(0.4, 1.5) + draw(-0.15, 0.15, 3)).clamp(0, 1)
    wave = torch.sin(linear_ramp(b, height, width, generator) * draw(10.0, 120.0) + 0.6 * stains(5))
    striped = draw(0.0, 1.0) < 0.3
    mix = torch.where(striped, 0.5 + 0.5 * wave, 0.5 + 0.4 * stains(12)).clamp(0, 1)
    light = 1 + draw(-0.4, 0.4) * linear_ramp(b, height, width, generator) + 0.06 * stains(6)
    return (torch.lerp(first, second, mix * draw(0.0, 1.0)) * light).clamp(0, 1)


def room(b: int, height: int, width: int, generator: torch.Generator) -> Float[Tensor, "b 3 height width"]:
    """Backgrounds: a wall above a floor, in some images the wall alone."""
    wall, floor = cloth(b, height, width, generator), cloth(b, height, width, generator)
    y = (torch.arange(height, device=wall.device) + 0.5)[:, None] / height
    return torch.where(y < uniform((b, 1, 1, 1), 0.5, 1.3, generator), wall, floor)


def opened(alpha: Float[Tensor, "b 1 h w"], radius_px: int) -> Float[Tensor, "b 1 h w"]:
    """Without what is thinner than ``2 radius + 1`` pixels (grey opening)."""
    window = 2 * radius_px + 1
    return max_pool2d(-max_pool2d(-alpha, window, 1, radius_px), window, 1, radius_px)


def wavering_outline(
    alpha: Float[Tensor, "b 1 h w"], config: CutOutConfig, generator: torch.Generator
) -> Float[Tensor, "b 1 h w"]:
    """Opacities whose outlines lie beside the true ones; thin things go where they shrink."""
    b, _, h, w = alpha.shape
    # A blurred step rises by about one over its window a pixel, so levels of it are distances from the outline.
    window = 2 * max(round(0.03 * h), 1) + 1
    step = avg_pool2d(alpha, window, 1, window // 2)
    severity = uniform((b, 1, 1, 1), 0.0, 1.0, generator) ** 2
    waver = severity * config.outline_waver * smooth_noise(b, h, w, 16, generator)
    shift = (uniform((b, 1, 1, 1), *config.outline_shift, generator) + waver) * h / window
    slope = 0.6 * window
    # Beyond this the inside of the object would turn transparent, and what is far from it opaque.
    most = 0.5 - 0.5 / slope
    return ((step - 0.5 + shift.clamp(-most, most)) * slope + 0.5).clamp(0, 1)


def if_much_is_left(alpha: Float[Tensor, "b 1 h w"], changed: Float[Tensor, "b 1 h w"]) -> Float[Tensor, "b 1 h w"]:
    """``changed`` where at least eight tenths of the object are left: nobody takes a cut-out without its object."""
    enough = changed.sum((2, 3), keepdim=True) > 0.8 * alpha.sum((2, 3), keepdim=True)
    return torch.where(enough, changed, alpha)


def crossing_bars(b: int, height: int, width: int, generator: torch.Generator) -> Float[Tensor, "b 1 height width"]:
    """One where a thing stands before the object: a bar at any angle each."""

    def draw(low: float, high: float) -> Tensor:
        return uniform((b, 1, 1, 1), low, high, generator)

    y, x = (torch.linspace(0, 1, side, device=generator.device) for side in (height, width))
    turn, thick = draw(0.0, math.pi), draw(0.02, 0.14)
    dx, dy = x - draw(0.1, 0.9), y[:, None] - draw(0.1, 0.9)
    along, across = dx * torch.cos(turn) + dy * torch.sin(turn), dy * torch.cos(turn) - dx * torch.sin(turn)
    return ((along.abs() < draw(0.04, 0.3)) & (across.abs() < thick)).float()


def rough_cut_out(
    images: Float[Tensor, "b k 4 h w"],
    share: float,
    generator: torch.Generator,
    config: CutOutConfig = USUAL_CUT_OUTS,
) -> Float[Tensor, "b k 4 h w"]:
    """Images whose masks have the errors of real cut-outs, in this share of the samples; the others stay.

    Holes where the object looks like what is behind it, pieces of background beside the outline, an outline that lies
    beside the object's, thin parts lost, and things before the object, cut out or left in. What the pixels should
    have shown is up to the targets.
    """
    b, k, _, h, w = images.shape
    n = b * k
    flat = rearrange(images, "b k c h w -> (b k) c h w")
    rgb, alpha = flat[:, :3], flat[:, 3:]

    def draw(low: float, high: float) -> Tensor:
        return uniform((n, 1, 1, 1), low, high, generator)

    def often(probability: float) -> Tensor:
        return (draw(0.0, 1.0) < share * probability).to(rgb.dtype)

    def patches(cells: int, low: float, high: float) -> Tensor:
        return torch.sigmoid(8 * (smooth_noise(n, h, w, cells, generator) - draw(low, high)))

    true = alpha
    alpha = torch.lerp(alpha, if_much_is_left(alpha, opened(alpha, 1)), often(config.thin_share))
    wavering = if_much_is_left(alpha, wavering_outline(alpha, config, generator))
    alpha = torch.lerp(alpha, wavering, often(config.outline_share))
    alpha = alpha * (1 - patches(7, 1.2, 2.4) * often(config.hole_share))
    beside = (max_pool2d(alpha, 13, 1, 6) - alpha).clamp(0, 1)
    alpha = (alpha + beside * patches(6, 0.3, 1.6) * often(config.leak_share)).clamp(0, 1)
    # What the cut-out has more than the object has the background's colour.
    gained = ((alpha - true) / alpha.clamp(min=1e-3)).clamp(0, 1)
    rgb = torch.lerp(rgb, room(n, h, w, generator), gained)
    thing = crossing_bars(n, h, w, generator) * often(config.thing_share)
    left_in = (draw(0.0, 1.0) < 0.5).to(rgb.dtype)
    rgb = torch.lerp(rgb, cloth(n, h, w, generator), thing * left_in)
    alpha = alpha * (1 - thing * (1 - left_in))
    shrunk = interpolate(interpolate(rgb, scale_factor=0.5, mode="area"), (h, w), mode="bilinear", align_corners=False)
    rgb = torch.lerp(rgb, shrunk, often(config.coarse_share))
    return rearrange(torch.cat([rgb.clamp(0, 1), alpha], 1), "(b k) c h w -> b k c h w", k=k)


def within_rooms(images: Float[Tensor, "b k 4 h w"], generator: torch.Generator) -> Float[Tensor, "b k 4 h w"]:
    """Images whose colours are a room's where they are wholly transparent, as a photograph's cut-out keeps them."""
    b, k, _, h, w = images.shape
    behind = rearrange(room(b * k, h, w, generator), "(b k) c h w -> b k c h w", k=k)
    alpha = images[:, :, 3:]
    return torch.cat([torch.where(alpha > 0, images[:, :, :3], behind), alpha], 2)
