"""A perceptual distance to train with: features of VGG-16, compared as LPIPS does (Zhang et al. 2018, equation 1).

Training needs other things of it than scoring (``partrm.metrics.lpips``): the gradient to one image, the other's
features once and without a graph, half precision. On CUDA the passes between the convolutions are Triton kernels.
"""

import importlib.util
from collections.abc import Sequence
from types import ModuleType

import plain_perceptual
import torch
from jaxtyping import Float
from torch import Tensor, nn

from partrm.metrics.lpips import SCALE, SHIFT, VGG16, Lpips, LpipsError

VGG16_WIDTHS = ((64, 64), (128, 128), (256, 256, 256), (512, 512, 512), (512, 512, 512))
"""Output channels of the 3 x 3 convolutions of each level; between levels, 2 x 2 maxima."""

CHANNEL_MULTIPLE = 8
"""Matrix units take half-precision channels by eights: images enter with channels of zeros."""


class PerceptualLoss(nn.Module):
    """Frozen VGG-16 and a weight for each channel of each level; computes in the precision of its weights.

    New ones have random convolutions and channel weights of one.
    """

    def __init__(
        self,
        widths: Sequence[Sequence[int]] = VGG16_WIDTHS,
        mean: tuple[float, float, float] = (0.5, 0.5, 0.5),
        spread: tuple[float, float, float] = (0.5, 0.5, 0.5),
    ) -> None:
        """Make the layers.

        Args:
            widths: output channels of each convolution of each level.
            mean: of the three colours that the convolutions were trained with, in [0, 1]; they are subtracted.
            spread: what the colours are divided by then.
        """
        super().__init__()
        self.mean, self.spread, channels = mean, spread, 3
        self.levels, self.channel_weights = nn.ModuleList(), nn.ParameterList()
        for level in widths:
            layers = nn.ModuleList()
            for width in level:
                layers.append(nn.Conv2d(channels, width, 3, padding=1))
                channels = width
            self.levels.append(layers)
            self.channel_weights.append(nn.Parameter(torch.ones(channels)))
        self.requires_grad_(False)
        self.fused = importlib.util.find_spec("triton") is not None
        """Whether CUDA tensors pass through the Triton kernels."""

    def forward(self, images: Float[Tensor, "n 3 h w"], targets: Float[Tensor, "n 3 h w"]) -> Float[Tensor, ""]:
        """Mean over images of their distance, summed over levels; differentiable in ``images``. sRGB in [0, 1]."""
        return self.distance(images, self.features(targets))

    def features(self, images: Float[Tensor, "n 3 h w"]) -> list[Float[Tensor, "n _ _ _"]]:
        """What images are compared by, one map a level, without a graph.

        They can be had before the images to compare with: the device then works while Python prepares those.
        """
        found = []
        with torch.no_grad(), torch.autocast(images.device.type, enabled=False):
            x = self._entering(images)
            for index, level in enumerate(self.levels):
                x, bias = self._convolved(x, level)
                out, x = self._passes(x).finish_level(x, bias, index + 1 < len(self.levels))
                found.append(out)
        return found

    def distance(
        self, images: Float[Tensor, "n 3 h w"], features: Sequence[Float[Tensor, "n _ _ _"]]
    ) -> Float[Tensor, ""]:
        """The distance of ``images`` from those whose :meth:`features` are given; differentiable in ``images``."""
        distances = []
        with torch.autocast(images.device.type, enabled=False):
            x = self._entering(images)
            for index, (level, other) in enumerate(zip(self.levels, features, strict=True)):
                x, bias = self._convolved(x, level)
                weight, pool = self.channel_weights[index], index + 1 < len(self.levels)
                x, distance = self._passes(x).compare_level(x, bias, other, weight, pool)
                distances.append(distance)
            return torch.stack(distances).sum()

    def _entering(self, images: Float[Tensor, "n 3 h w"]) -> Float[Tensor, "n c h w"]:
        """Normalised colours in the weights' precision and layout."""
        weight = self._convolutions(self.levels[0])[0].weight
        colours = zip(images.unbind(1), self.mean, self.spread, strict=True)  # no constant crosses to the device
        x = torch.stack([(colour - mean) / spread for colour, mean, spread in colours], 1).to(weight.dtype)
        if weight.dtype in (torch.bfloat16, torch.float16):
            x = nn.functional.pad(x, (0, 0, 0, 0, 0, -x.shape[1] % CHANNEL_MULTIPLE))
        return x if weight.is_contiguous() else x.contiguous(memory_format=torch.channels_last)

    def _convolved(self, x: Tensor, level: nn.Module) -> tuple[Tensor, Float[Tensor, " c"]]:
        """A level's last convolution, before its bias, and that bias."""
        *before, last = self._convolutions(level)
        for layer in before:
            x = self._passes(x).bias_relu(_without_bias(layer, x), _bias(layer))
        return _without_bias(last, x), _bias(last)

    def _passes(self, x: Tensor) -> ModuleType:
        """The kernels that run on this tensor."""
        if not self.fused or not x.is_cuda or x.dtype == torch.float64:
            return plain_perceptual
        import triton_perceptual

        return triton_perceptual

    @staticmethod
    def _convolutions(level: nn.Module) -> list[nn.Conv2d]:
        return [layer for layer in level.children() if isinstance(layer, nn.Conv2d)]


def _bias(layer: nn.Conv2d) -> Float[Tensor, " c"]:
    assert layer.bias is not None
    return layer.bias


def _without_bias(layer: nn.Conv2d, x: Float[Tensor, "n c h w"]) -> Float[Tensor, "n d h w"]:
    """The convolution alone; channels of ``x`` beyond the layer's own are zeros."""
    missing = x.shape[1] - layer.in_channels
    weight = nn.functional.pad(layer.weight, (0, 0, 0, 0, 0, missing)) if missing else layer.weight
    if not layer.weight.is_contiguous():
        weight = weight.contiguous(memory_format=torch.channels_last)
    return nn.functional.conv2d(x, weight, padding=1)


def loss_of(lpips: Lpips) -> PerceptualLoss:
    """LPIPS to train with: differentiable, on the CPU, in float32 until it is moved.

    Raises:
        LpipsError: another backbone than VGG.
    """
    if lpips.net != "vgg":
        raise LpipsError(f"a loss is made of the vgg backbone only, not of {lpips.net}")
    means = tuple((1 + shift) / 2 for shift in SHIFT)
    loss = PerceptualLoss(VGG16, (means[0], means[1], means[2]), (SCALE[0] / 2, SCALE[1] / 2, SCALE[2] / 2))
    for stage, level in zip(lpips.stages, loss.levels, strict=True):
        sources = [layer for layer in stage.children() if isinstance(layer, nn.Conv2d)]
        for source, goal in zip(sources, level.children(), strict=True):
            goal.load_state_dict(source.state_dict())
    for weight, goal in zip(lpips.linear, loss.channel_weights, strict=True):
        goal.copy_(weight)
    return loss
