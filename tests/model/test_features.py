"""The frozen trunk: what the conversion folds away, where its answers enter the network, and what they leave alone."""

import importlib.util
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from support.network_inputs import some_input
from torch import nn
from torch.nn.functional import conv2d, interpolate, pad
from torch.testing import assert_close

from partrm.model.checkpoints import grown, load_model, save_checkpoint
from partrm.model.features import STAGES, STEM_CHANNELS, FeatureWeightsError, FoldedConv, FrozenFeatures
from partrm.model.network import TINY, PartRMNetwork

TOOL = Path(__file__).parents[2] / "tools" / "convert_features.py"
SEEING = replace(TINY, features="efficientnet-lite0")


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
    return given[1], given[2], given[4]


def test_the_converted_trunk_answers_as_the_published_one(generator, tmp_path) -> None:
    weights = public_weights(generator)
    save_file(tool().converted(weights), tmp_path / "trunk.safetensors")
    trunk = FrozenFeatures(tmp_path / "trunk.safetensors")
    image = torch.randn(2, 3, 64, 64, generator=generator)
    with torch.no_grad():
        for ours, theirs in zip(trunk.of_normalised(image), published(image, weights), strict=True):
            assert ours.shape == theirs.shape
            assert float((ours - theirs).norm() / theirs.norm()) < 1e-2  # half precision


def test_the_bundled_weights_give_maps_of_unit_size_that_lie_as_the_image_does(generator) -> None:
    trunk = FrozenFeatures()
    smooth = interpolate(torch.rand(2, 3, 6, 6, generator=generator), (64, 64), mode="bilinear")
    found = trunk(smooth, torch.ones(2, dtype=torch.bool))
    assert [tuple(x.shape) for x in found] == [(2, 24, 32, 32), (2, 40, 16, 16), (2, 112, 8, 8)]
    assert all(0.2 < float(x.std()) < 3 for x in found)
    spotted = smooth.clone()
    spotted[:, :, 40:44, 8:12] = 0.0  # row 42 of 64, column 10
    for x, y in zip(found, trunk(spotted, torch.ones(2, dtype=torch.bool)), strict=True):
        weight = (x - y).abs().sum((0, 1))
        rows, columns = (torch.arange(len(weight)) + 0.5).expand(2, -1) * 64 / len(weight)
        assert abs(float((weight.sum(1) * rows).sum() / weight.sum()) - 42) < 6
        assert abs(float((weight.sum(0) * columns).sum() / weight.sum()) - 10) < 6


def test_absent_views_have_no_features_wherever_they_are_left_out(generator) -> None:
    trunk, images = FrozenFeatures(), torch.rand(4, 3, 64, 64, generator=generator)
    given = torch.tensor([True, False, True, False])
    for skipped, every in zip(trunk(images, given), trunk.of_all(images), strict=True):
        assert_close(skipped, every * given[:, None, None, None], atol=1e-5, rtol=1e-5)


def test_paddings_are_tensorflows(generator) -> None:
    for kernel, stride, depthwise in ((3, 2, False), (5, 2, True), (3, 1, True), (1, 1, False)):
        conv = FoldedConv(8, 8, kernel, stride, depthwise)
        conv.weight.copy_(torch.randn(conv.weight.shape, generator=generator))
        x = torch.randn(1, 8, 16, 16, generator=generator)
        assert_close(conv(x), same_conv(x, conv.weight, stride, conv.groups))


def test_files_that_hold_other_weights_are_refused(tmp_path) -> None:
    with pytest.raises(FeatureWeightsError, match="no weights of the frozen features"):
        FrozenFeatures(tmp_path / "nothing.safetensors")
    save_file({"a": torch.zeros(1)}, tmp_path / "other.safetensors")
    with pytest.raises(FeatureWeightsError, match="not the weights of EfficientNet-Lite0's trunk"):
        FrozenFeatures(tmp_path / "other.safetensors")


def test_a_network_begins_with_its_old_answers_and_then_learns_from_features() -> None:
    torch.manual_seed(0)
    old, inputs = PartRMNetwork(TINY).eval(), some_input(views=2)
    network = PartRMNetwork(SEEING)
    network.load_state_dict(grown(old.state_dict(), TINY, network))
    with torch.no_grad():
        before = old(inputs)
    after = network(inputs)
    for name in ("displacement", "moving_logit", "ray_distance", "opacity_logit"):
        assert torch.equal(getattr(before, name), getattr(after, name)), name
    loss = after.displacement.square().mean() + after.gaussians.means.square().mean()
    loss.backward()
    assert len(network.taught) == 3
    for weight in network.taught.parameters():
        assert weight.grad is not None
        assert float(weight.grad.abs().max()) > 0
    with torch.no_grad():
        for weight in network.taught.parameters():
            weight -= weight.grad / weight.grad.norm()
        assert not torch.equal(network(inputs).displacement, before.displacement)


def test_the_trunk_is_neither_trained_nor_saved(tmp_path) -> None:
    torch.manual_seed(0)
    network = PartRMNetwork(SEEING)
    with torch.no_grad():
        for weight in network.taught.parameters():
            weight.normal_(std=0.1)
    assert not [name for name, _ in network.named_parameters() if name.startswith("features.")]
    assert not [name for name in network.state_dict() if name.startswith("features.")]
    save_checkpoint(network.state_dict(), SEEING, tmp_path / "m", half=False)
    loaded, inputs = load_model(tmp_path / "m"), some_input()
    assert loaded.config == SEEING
    with torch.no_grad():
        assert_close(loaded.articulated(inputs).displacement, network.eval()(inputs).displacement)


def test_other_features_are_refused() -> None:
    config = replace(TINY)
    object.__setattr__(config, "features", "resnet")
    with pytest.raises(ValueError, match="features 'resnet'"):
        PartRMNetwork(config)
