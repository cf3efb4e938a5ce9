"""Cut-outs as interactive segmentation leaves them: the background's colours, holes, leaks, lost and gained rims."""

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float
from torch import Tensor
from torch.nn.functional import avg_pool2d, interpolate, max_pool2d

from partrm.data.effects import linear_ramp
from partrm.data.scenarios import uniform


@dataclass(frozen=True)
class CutoutConfig:
    """How often cut-outs of photographs have which errors; lengths are shares of the image's side."""

    share: float = 0.6
    """How often a cut-out has errors at all; the others are exact, and so are their colours."""
    holes_share: float = 0.25
    """Of those with errors: how often patches within the object are missing (glare, a plain front like its wall)."""
    holes_at: tuple[float, float] = (1.0, 2.4)
    """Where a smooth noise of unit variance exceeds this; low ones make large holes."""
    rags_share: float = 0.3
    """How often patches beside the outline are added."""
    rags_at: tuple[float, float] = (0.5, 2.0)
    rags_reach: float = 0.045
    """How far from the outline."""
    thin_share: float = 0.3
    """How often what is thinner than two to six 128ths is lost."""
    rim: tuple[float, float] = (-0.012, 0.016)
    """The outline lies this far outside of the true one."""
    wobble: float = 0.014
    """Most that the outline wavers to either side (standard deviation)."""


def smooth_noise(b: int, side_px: int, cells: int, generator: torch.Generator) -> Float[Tensor, "b 1 h w"]:
    """Noise of about unit variance that varies over ``cells`` cells a side."""
    coarse = torch.randn(b, 1, cells, cells, generator=generator, device=generator.device)
    return 1.3 * interpolate(coarse, size=(side_px, side_px), mode="bicubic", align_corners=False)


def cloth(b: int, side_px: int, generator: torch.Generator) -> Float[Tensor, "b 3 h w"]:
    """Opaque pictures of nothing in particular: two colours in ramps, stains and stripes, under uneven light."""

    def draw(low: float, high: float, channels: int = 1) -> Tensor:
        return uniform((b, channels, 1, 1), low, high, generator)

    grey = draw(0.05, 1.0)
    first = (grey + draw(-0.12, 0.12, 3) * draw(0.0, 2.5)).clamp(0, 1)
    second = (first * draw(0.4, 1.5) + draw(-0.15, 0.15, 3)).clamp(0, 1)
    ramp = linear_ramp(b, side_px, generator)
    wave = torch.sin(ramp * draw(10.0, 120.0) + 0.6 * smooth_noise(b, side_px, 5, generator))
    striped = draw(0.0, 1.0) < 0.3
    mix = torch.where(striped, 0.5 + 0.5 * wave, 0.5 + 0.4 * smooth_noise(b, side_px, 12, generator)).clamp(0, 1)
    picture = torch.lerp(first, second, mix * draw(0.0, 1.0))
    light = 1 + draw(-0.4, 0.4) * linear_ramp(b, side_px, generator) + 0.06 * smooth_noise(b, side_px, 6, generator)
    return (picture * light).clamp(0, 1)


def room(b: int, side_px: int, generator: torch.Generator) -> Float[Tensor, "b 3 h w"]:
    """Backgrounds: a wall above a floor, in some images neither."""
    wall, floor = cloth(b, side_px, generator), cloth(b, side_px, generator)
    y = (torch.arange(side_px, device=wall.device) + 0.5)[:, None] / side_px
    line = uniform((b, 1, 1, 1), 0.5, 1.3, generator)
    return torch.where(y < line, wall, floor)


@dataclass(frozen=True)
class Hidden:
    """Image-space masks of what a photograph hides or a cut-out mistakes."""

    erased: Bool[Tensor, "b 1 h w"]
    """Outside of the photograph, or a thing before the object that was left out."""
    painted: Bool[Tensor, "b 1 h w"]
    """A thing before the object, taken for the object or not."""
    leaked: Bool[Tensor, "b 1 h w"]
    """Background taken for the object."""

    @staticmethod
    def nothing(b: int, side_px: int, device: torch.device) -> "Hidden":
        none = torch.zeros(b, 1, side_px, side_px, dtype=torch.bool, device=device)
        return Hidden(none, none, none)


def opened(alpha: Float[Tensor, "b 1 h w"], radius_px: int) -> Float[Tensor, "b 1 h w"]:
    """Without what is thinner than ``2 radius + 1`` pixels (grey opening)."""
    window = 2 * radius_px + 1
    return max_pool2d(-max_pool2d(-alpha, window, 1, radius_px), window, 1, radius_px)


def cut_out(
    rgba: Float[Tensor, "b 4 h w"], hidden: Hidden, config: CutoutConfig, generator: torch.Generator
) -> tuple[Float[Tensor, "b 3 h w"], Float[Tensor, "b 1 h w"]]:
    """The photograph (opaque) in which the object stands, and the opacity of its imperfect cut-out."""
    b, _, side, _ = rgba.shape

    def draw(low: float, high: float) -> Tensor:
        return uniform((b, 1, 1, 1), low, high, generator)

    rgb, alpha = rgba[:, :3], rgba[:, 3:]
    wrong = draw(0.0, 1.0) < config.share
    behind = room(b, side, generator)
    mixed = torch.lerp(behind, rgb, alpha)
    photo = torch.where(wrong, mixed, torch.where(alpha > 0, rgb, behind))
    photo = torch.where(hidden.painted, cloth(b, side, generator), photo)
    found = torch.where(wrong, misjudged(alpha, config, generator), alpha)
    kept = hidden.painted & ~hidden.erased
    found = torch.where(kept | hidden.leaked, 1.0, found)
    return photo, torch.where(hidden.erased, 0.0, found)


def misjudged(
    alpha: Float[Tensor, "b 1 h w"], config: CutoutConfig, generator: torch.Generator
) -> Float[Tensor, "b 1 h w"]:
    """Opacities with errors of segmentation, from hardly any to gross ones."""
    b, _, side, _ = alpha.shape
    unit = max(side // 128, 1)

    def draw(low: float, high: float) -> Tensor:
        return uniform((b, 1, 1, 1), low, high, generator)

    radius = (draw(0.0, 3.0) / config.thin_share).floor()
    for place in range(3):
        without = opened(alpha, (place + 1) * unit)
        # Nobody takes a cut-out from which a thin object has vanished.
        enough = without.sum((2, 3), keepdim=True) > 0.8 * alpha.sum((2, 3), keepdim=True)
        alpha = torch.where((radius == place) & enough, without, alpha)
    # A blurred step rises by about one over its window a pixel, so levels of it are distances from the outline.
    window = 2 * max(round(0.03 * side), 1) + 1
    step = avg_pool2d(alpha, window, 1, window // 2, count_include_pad=True)
    severity = draw(0.0, 1.0) ** 2
    waver = severity * config.wobble * smooth_noise(b, side, 16, generator)
    shift = (draw(*config.rim) + waver) * side / window
    outline = ((step - 0.5 + shift) * (0.6 * window) + 0.5).clamp(0, 1)
    exact = draw(0.0, 1.0) < 0.25
    found = torch.where(exact, alpha, outline)
    reach = 2 * round(config.rags_reach * side) + 1
    near = max_pool2d(alpha, reach, 1, reach // 2) > 0.5
    rags = (draw(0.0, 1.0) < config.rags_share) & near
    rags = rags & (smooth_noise(b, side, 9, generator) > draw(*config.rags_at))
    holes = (draw(0.0, 1.0) < config.holes_share) & (smooth_noise(b, side, 6, generator) > draw(*config.holes_at))
    inner = smooth_noise(b, side, 3, generator) > draw(-1.0, 1.0)
    found = torch.where(rags, torch.maximum(found, draw(0.7, 1.3).clamp(max=1.0)), found)
    return torch.where(holes & inner, 0.0, found)
