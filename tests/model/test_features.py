"""The frozen trunk: what the conversion folds away, and where its answers enter the network."""

import importlib.util
from pathlib import Path

import torch
from torch import nn
from torch.nn.functional import conv2d, interpolate, pad
from torch.testing import assert_close

from partrm.model.features import MEAN, STAGES, STD, STEM_CHANNELS, FoldedConv, FrozenFeatures

TOOL = Path(__file__).parents[2] / "tools" / "convert_features.py"


def tool():
    spec = importlib.util.spec_from_file_location("convert_features", TOOL)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def public_weights(generator) -> dict[str, torch.Tensor]:
    """Weights of the published layout: convolutions without bias, batch norms with statistics of their own."""
    found = {}

    def norm(name: str, channels: int) -> None:
        found[f"{name}.weight"] = torch.rand(channels, generator=generator) + 0.5
        found[f"{name}.bias"] = torch.randn(channels, generator=generator) * 0.2
        found[f"{name}.running_mean"] = torch.randn(channels, generator=generator) * 0.2
        found[f"{name}.running_var"] = torch.rand(channels, generator=generator) + 0.5

    def conv(name: str, out: int, taken: int, kernel: int) -> None:
        found[f"{name}.weight"] = torch.randn(out, taken, kernel, kernel, generator=generator) / (taken * kernel) ** 0.5

    conv("_conv_stem", STEM_CHANNELS, 3, 3)
    norm("_bn0", STEM_CHANNELS)
    block, channels = 0, STEM_CHANNELS
    for blocks, kernel, _, expansion, width in STAGES:
        for _ in range(blocks):
            wide = expansion * channels
            if expansion != 1:
                conv(f"_blocks.{block}._expand_conv", wide, channels, 1)
                norm(f"_blocks.{block}._bn0", wide)
            conv(f"_blocks.{block}._depthwise_conv", wide, 1, kernel)
            norm(f"_blocks.{block}._bn1", wide)
            conv(f"_blocks.{block}._project_conv", width, wide, 1)
            norm(f"_blocks.{block}._bn2", width)
            block, channels = block + 1, width
    return found


def same_conv(x, weight, stride, groups=1):
    """TensorFlow's "SAME": as many rows as ceil(height / stride), the odd row of padding below."""
    size, kernel = x.shape[-1], weight.shape[-1]
    total = max((-(-size // stride) - 1) * stride + kernel - size, 0)
    before, after = total // 2, total - total // 2
    return conv2d(pad(x, (before, after, before, after)), weight, None, stride, 0, 1, groups)


def published(x, weights):
    """The trunk as the public package runs it: batch norms apart."""

    def norm(y, name):
        running = (weights[f"{name}.running_mean"], weights[f"{name}.running_var"])
        return nn.functional.batch_norm(y, *running, weights[f"{name}.weight"], weights[f"{name}.bias"], eps=1e-3)

    x = norm(same_conv(x, weights["_conv_stem.weight"], 2), "_bn0").clamp(0, 6)
    block, given = 0, []
    for blocks, _, stride, expansion, _ in STAGES:
        for number in range(blocks):
            y, name = x, f"_blocks.{block}"
            if expansion != 1:
                y = norm(same_conv(y, weights[f"{name}._expand_conv.weight"], 1), f"{name}._bn0").clamp(0, 6)
            depthwise = weights[f"{name}._depthwise_conv.weight"]
            y = same_conv(y, depthwise, 1 if number else stride, len(depthwise))
            y = norm(y, f"{name}._bn1")
            y = norm(same_conv(y.clamp(0, 6), weights[f"{name}._project_conv.weight"], 1), f"{name}._bn2")
            x = x + y if number else y
            block += 1
        given.append(x)
    return given[2], given[4]


def test_the_converted_trunk_answers_as_the_published_one(generator, tmp_path):
    from safetensors.torch import save_file

    weights = public_weights(generator)
    save_file(tool().converted(weights), tmp_path / "trunk.safetensors")
    trunk = FrozenFeatures(tmp_path / "trunk.safetensors")
    image = torch.randn(2, 3, 64, 64, generator=generator)
    with torch.no_grad():
        for ours, theirs in zip(trunk.of_normalised(image), published(image, weights), strict=True):
            assert ours.shape == theirs.shape
            assert float((ours - theirs).norm() / theirs.norm()) < 1e-2  # half precision


def test_the_bundled_weights_are_whole_and_answers_lie_on_the_first_two_levels(generator):
    trunk = FrozenFeatures()
    assert all(float(b.abs().max()) > 0 for name, b in trunk.named_buffers() if name.endswith("weight"))
    image = torch.rand(1, 3, 64, 64, generator=generator)
    first, second = trunk(image)
    assert first.shape == (1, 40, 16, 16)
    assert second.shape == (1, 112, 8, 8)
    # Of about unit size on pictures.
    smooth = interpolate(torch.rand(4, 3, 6, 6, generator=generator), (64, 64), mode="bilinear")
    for answer in trunk(smooth):
        assert 0.2 < float(answer.std()) < 3
    larger = interpolate((image - torch.tensor(MEAN)[:, None, None]) / torch.tensor(STD)[:, None, None],
                         scale_factor=2, mode="bilinear")  # fmt: skip
    assert_close(first * 8, trunk.of_normalised(larger)[0], atol=1e-4, rtol=1e-4)


def test_paddings_are_tensorflows(generator):
    for kernel, stride, depthwise in ((3, 2, False), (5, 2, True), (3, 1, True), (1, 1, False)):
        conv = FoldedConv(8, 8, kernel, stride, depthwise)
        conv.weight.copy_(torch.randn(conv.weight.shape, generator=generator))
        x = torch.randn(1, 8, 16, 16, generator=generator)
        assert_close(conv(x), same_conv(x, conv.weight, stride, conv.groups))
