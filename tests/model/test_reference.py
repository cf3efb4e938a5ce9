"""The reference network: the public shapes, the real drag maps, and a plain rendition as oracle of all the rest."""

import json
import math
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from support.plain_reference import PlainReference

from partrm.geometry.cameras import canonical_orbit
from partrm.geometry.drags import Drags
from partrm.geometry.gaussians import Gaussians
from partrm.model.inputs import NetworkInput
from partrm.model.reference import (
    BIG,
    REFERENCE_PRESETS,
    SMALL,
    TINY_REFERENCE,
    PixelDrags,
    ReferenceConfig,
    ReferenceDragEmbedding,
    ReferenceNetwork,
    blurred_impulse,
    fourier_of_pixels,
)
from partrm.paper.import_weights import convert_weights, meta_network, public_names

DATA = Path(__file__).parents[1] / "golden"
MINI = ReferenceConfig("mini", 32, (32, 32, 64), (False, False, True), (64, 32), (True, False))


def stacked(gaussians: Gaussians) -> torch.Tensor:
    g = gaussians
    return torch.cat([g.means, g.opacities[..., None], g.scales, g.quats, g.colors], -1)


def pixel_drags(b, v, n, generator) -> PixelDrags:
    start, end = (512 * torch.rand(b, v, n, 2, generator=generator, dtype=torch.float64) for _ in range(2))
    return PixelDrags(start, end, torch.ones(b, v, n, dtype=torch.bool))


def twins(views) -> tuple[PlainReference, ReferenceNetwork]:
    """The plain rendition with random weights and ours with the same, in float64."""
    plain, network = PlainReference(MINI, views), ReferenceNetwork(MINI).double()
    network.load_state_dict(convert_weights(plain.state_dict(), MINI))
    return plain.double(), network


def test_big_has_the_public_names_shapes_and_count() -> None:
    expected = json.loads((DATA / "checkpoint_keys.json").read_text())["partrm_big"]
    state, names = meta_network(BIG).state_dict(), public_names(BIG)
    ours = {names[name]: list(value.shape) for name, value in state.items()}
    assert ours == {name: shape for name, shape in expected.items() if name != "unet.alpha"}
    assert sum(value.numel() for value in state.values()) == 440_746_528


def test_presets_have_grids_of_their_sizes() -> None:
    assert {name: config.splat_size_px for name, config in REFERENCE_PRESETS.items()} == {
        "big": 128,
        "small": 64,
        "tiny": 64,
    }
    config, smaller = TINY_REFERENCE, 4  # the grid shrinks with the images
    side = config.image_size_px // smaller
    drags = PixelDrags(torch.rand(1, 4, 2, 2), torch.rand(1, 4, 2, 2), torch.ones(1, 4, 2, dtype=torch.bool))
    with torch.no_grad():
        gaussians = ReferenceNetwork(config).reconstruct(torch.rand(1, 4, 9, side, side), drags)
    assert len(gaussians) == 4 * (config.splat_size_px // smaller) ** 2


def test_small_is_big_without_its_last_up_block() -> None:
    big, small = (set(meta_network(c).state_dict()) for c in (BIG, SMALL))
    assert small < big
    assert {n.split(".layers")[0] for n in big - small} == {"up.4", "up.3.upsample.weight", "up.3.upsample.bias"}


def test_drag_maps_are_those_of_the_reference_implementation() -> None:
    golden = load_file(DATA / "reference_drag_maps.safetensors")
    both = torch.stack([golden["drags_start_px512"], golden["drags_end_px512"]])
    valid = torch.ones(both.shape[1:-1], dtype=torch.bool)
    for level, side in ((2, 16), (3, 8)):
        expected = torch.stack([golden[f"drag_map_{which}.{side}"] for which in ("start", "end")])
        embed = ReferenceDragEmbedding(2 * expected.shape[2])
        prefix = f"unet.drag_position_net.linears_drags.{level}."
        embed.mlp.load_state_dict({k.removeprefix(prefix): v for k, v in golden.items() if k.startswith(prefix)})
        maps = embed.maps(fourier_of_pixels(both), both / 512, valid, side)
        assert (maps - expected).abs().max() <= 1e-6 * (expected.max() - expected.min())


@pytest.mark.parametrize(("b", "v", "n", "side"), [(1, 4, 10, 32), (2, 3, 1, 48), (2, 4, 3, 32)])
def test_network_equals_the_plain_rendition(b, v, n, side, generator) -> None:
    torch.manual_seed(1)
    plain, network = twins(views=v)
    channels = torch.randn(b, v, 9, side, side, generator=generator, dtype=torch.float64)
    drags = pixel_drags(b, v, n, generator)
    drags.end[:, :, 0] = drags.start[:, :, 0]  # two points in one cell
    with torch.no_grad():
        expected = plain(channels, drags.start, drags.end)
        ours = stacked(network.reconstruct(channels, drags))
        for fast, start, end in zip(
            network.drag_maps(drags, side), plain.maps(drags.start, side), plain.maps(drags.end, side), strict=True
        ):
            torch.testing.assert_close(fast, torch.stack([start, end]), rtol=0, atol=1e-12)
    torch.testing.assert_close(ours, expected, rtol=0, atol=1e-10)


def test_gradients_equal_those_of_the_plain_rendition(generator) -> None:
    torch.manual_seed(2)
    plain, network = twins(views=4)
    drags = pixel_drags(1, 4, 2, generator)
    channels = torch.randn(1, 4, 9, 32, 32, generator=generator, dtype=torch.float64)
    cotangent = torch.randn(1, 4 * 16 * 16, 14, generator=generator, dtype=torch.float64)
    (plain(channels, drags.start, drags.end) * cotangent).sum().backward()
    (stacked(network.reconstruct(channels, drags)) * cotangent).sum().backward()
    theirs = dict(plain.named_parameters())
    for name, public in public_names(MINI).items():
        expected, ours = theirs[public].grad, network.get_parameter(name).grad
        assert expected is not None
        assert ours is not None
        assert (ours - expected).norm() <= 1e-8 * expected.norm() + 1e-10, name


def test_padding_leaves_no_trace_and_no_drags_are_no_failure(generator) -> None:
    network = ReferenceNetwork(MINI).double()
    drags = pixel_drags(1, 4, 3, generator)
    padded = replace(drags, valid=torch.tensor([True, True, False]).expand(1, 4, 3))
    two, none = (PixelDrags(drags.start[:, :, :n], drags.end[:, :, :n], drags.valid[:, :, :n]) for n in (2, 0))
    for a, b in zip(network.drag_maps(padded, 32), network.drag_maps(two, 32), strict=True):
        torch.testing.assert_close(a, b)
    assert not any(bool(m.any()) for m in network.drag_maps(none, 32))


def test_one_list_for_all_views_is_that_list_in_every_view(generator) -> None:
    torch.manual_seed(4)
    network = ReferenceNetwork(MINI).double()
    for embed in network.drags:
        torch.nn.init.normal_(embed.fuse.weight, std=0.02)
    shared = pixel_drags(2, 1, 3, generator)
    every = PixelDrags(*(x.repeat_interleave(4, 1) for x in (shared.start, shared.end, shared.valid)))
    channels = torch.randn(2, 4, 9, 32, 32, generator=generator, dtype=torch.float64)
    one, four = (stacked(network.reconstruct(channels, drags)) for drags in (shared, every))
    torch.testing.assert_close(one, four, rtol=0, atol=1e-12)
    (grads_one, grads_four) = (torch.autograd.grad(g.square().sum(), list(network.parameters())) for g in (one, four))
    for a, b in zip(grads_one, grads_four, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-9, atol=1e-9)


def test_checkpointing_changes_nothing_but_memory(generator) -> None:
    torch.manual_seed(5)
    network = ReferenceNetwork(MINI)
    channels, drags = torch.randn(1, 4, 9, 32, 32, generator=generator), pixel_drags(1, 1, 3, generator)
    drags = PixelDrags(drags.start.float(), drags.end.float(), drags.valid)
    results, kept = [], []
    for checkpointing in (False, True):
        network.checkpointing = checkpointing
        sizes: list[int] = []

        def pack(value, sizes=sizes):
            sizes.append(value.numel() * value.element_size())
            return value

        with torch.autograd.graph.saved_tensors_hooks(pack, lambda value: value):
            gaussians = stacked(network.reconstruct(channels, drags))
        kept.append(sum(sizes))
        results.append((gaussians, torch.autograd.grad(gaussians.square().sum(), list(network.parameters()))))
    (plain, plain_grads), (again, again_grads) = results
    assert torch.equal(plain, again)
    for a, b in zip(plain_grads, again_grads, strict=True):
        torch.testing.assert_close(a, b)
    assert kept[1] < 0.5 * kept[0]


def test_blur_keeps_mass_at_the_borders() -> None:
    matrix = blurred_impulse(torch.arange(7), 7).float().T  # column j: an impulse in cell j
    torch.testing.assert_close(matrix.sum(1), torch.ones(7))
    impulse = torch.zeros(1, 1, 1, 7)
    impulse[..., 1] = 1
    taps = torch.exp(-0.5 * torch.arange(-2.0, 3) ** 2)
    padded = torch.nn.functional.pad(impulse, (2, 2, 0, 0), mode="reflect")
    expected = torch.nn.functional.conv2d(padded, (taps / taps.sum())[None, None, None])
    torch.testing.assert_close(matrix[:, 1], expected.flatten())


def sample(generator) -> NetworkInput:
    drags = Drags(
        start=torch.rand(1, 2, 2, generator=generator),
        end=torch.rand(1, 2, 2, generator=generator),
        view=torch.tensor([[0, 2]]),
        valid=torch.ones(1, 2, dtype=torch.bool),
    )
    images = torch.rand(1, 4, 4, 32, 32, generator=generator)
    return NetworkInput(images, canonical_orbit(4, 32)[None], torch.ones(1, 4, dtype=torch.bool), drags)


def test_conventions_of_the_reference(generator) -> None:
    inputs = sample(generator)
    channels = ReferenceNetwork(MINI).input_map(inputs)
    # OpenGL camera, as the reference writes its rays, of another field of view than the images.
    T = inputs.cameras.T_world_camera[0, 1] @ torch.diag(torch.tensor([1.0, -1, -1, 1]))
    f, x, y = 16 / math.tan(math.radians(49.1) / 2), 5, 20
    d = T[:3, :3] @ torch.tensor([(x - 16 + 0.5) / f, -(y - 16 + 0.5) / f, -1])
    d = d / d.norm()
    expected = torch.cat([torch.linalg.cross(T[:3, 3], d), d])
    torch.testing.assert_close(channels[0, 1, 3:, y, x], expected, rtol=0, atol=1e-6)
    red, alpha = inputs.images[0, 1, 0, y, x], inputs.images[0, 1, 3, y, x]
    torch.testing.assert_close(channels[0, 1, 0, y, x], (red * alpha + 1 - alpha - 0.485) / 0.229)


def test_drag_conventions_are_fields(generator) -> None:
    drags = sample(generator).drags
    shared = PixelDrags.from_drags(drags, 4, MINI)
    assert shared.valid.tolist() == [[[True, False]]]
    torch.testing.assert_close(shared.start[0, 0], 512 * drags.start[0])
    own = PixelDrags.from_drags(drags, 4, replace(MINI, drags_in_all_views=False))
    assert own.valid[0].nonzero().tolist() == [[0, 0], [2, 1]]
    network = ReferenceNetwork(MINI)
    upright = ReferenceNetwork(replace(MINI, transposed_maps=False))
    upright.load_state_dict(network.state_dict())
    a, b = network.drag_maps(shared, 32)[0], upright.drag_maps(shared, 32)[0]
    assert not torch.allclose(a, b)
    torch.testing.assert_close(a, b.mT)


def test_forward_takes_samples_and_refuses_absent_views(generator) -> None:
    inputs = sample(generator)
    network = ReferenceNetwork(MINI).eval()
    gaussians = network(inputs)
    direct = network.reconstruct(network.input_map(inputs), PixelDrags.from_drags(inputs.drags, 4, MINI))
    assert torch.equal(gaussians.means, direct.means)
    assert gaussians.means.shape == (1, 4 * 16 * 16, 3)
    with pytest.raises(ValueError, match="needs all 4 views"):
        network(replace(inputs, view_valid=torch.tensor([[True, True, False, True]])))
