import math
from dataclasses import replace

import pytest
import torch
from einops import rearrange

from partrm.cameras import Cameras, canonical_orbit
from partrm.data.samples import NetworkInput, pooled_rgba
from partrm.drags import Drags
from partrm.model.drag_embedding import DragEmbedding, NoDrags, RawDragEmbedding, scatter_to_map
from partrm.model.network import BASE, TINY, PartRMNetwork
from partrm.model.reference import fourier_of_pixels


def some_drags(b: int, n: int, seed: int = 0) -> Drags:
    g = torch.Generator().manual_seed(seed)
    return Drags(
        start=torch.rand(b, n, 2, generator=g),
        end=torch.rand(b, n, 2, generator=g),
        view=torch.zeros(b, n, dtype=torch.long),
        valid=torch.ones(b, n, dtype=torch.bool),
    )


def some_input(b: int = 2, size: int = 64, views: int = 1) -> NetworkInput:
    g = torch.Generator().manual_seed(1)
    one = canonical_orbit(4, size)
    cameras = Cameras(one.T_world_camera.expand(b, 4, 4, 4), one.fovy_rad.expand(b, 4), size, size)
    valid = (torch.arange(4) < views).expand(b, 4)
    images = torch.rand(b, 4, 4, size, size, generator=g) * valid[..., None, None, None]
    return NetworkInput(images, cameras, valid, some_drags(b, 3), valid)


@pytest.fixture(scope="module")
def network() -> PartRMNetwork:
    torch.manual_seed(0)
    net = PartRMNetwork(TINY).eval()
    # The fusion of drags starts at zero; give it something to say.
    for embed in net.drags:
        torch.nn.init.normal_(embed.fuse.weight, std=0.05)
    return net


def test_base_fits_the_bundle() -> None:
    parameters = sum(p.numel() for p in PartRMNetwork(BASE).parameters())
    assert parameters <= 45e6
    assert 2 * parameters <= 64e6, "float16 weights must stay within 64 MB"


def test_output_is_a_set_of_valid_gaussians(network: PartRMNetwork) -> None:
    out = network(some_input())
    g = out.gaussians
    assert g.means.shape == (2, 4 * 32 * 32, 3)
    assert float(g.means.abs().max()) <= 1
    assert bool((g.scales > 0).all())
    assert torch.allclose(g.quats.norm(dim=-1), torch.ones(2, 4096), atol=1e-5)
    assert 0 <= float(g.colors.min()) <= float(g.colors.max()) <= 1
    assert bool(torch.isfinite(out.displacement).all())


def test_untrained_gaussians_lie_on_the_rays_of_their_pixels(network: PartRMNetwork) -> None:
    """With a silent head every Gaussian sits at the canonical distance on its own pixel's ray, in its own colour."""
    silent = PartRMNetwork(TINY).eval()
    torch.nn.init.zeros_(silent.head.weight)
    inputs = some_input()
    out = silent(inputs)
    cameras = inputs.cameras.resized(32)
    means = rearrange(out.gaussians.means, "b (v n) c -> b v n c", v=4)
    pixels, _ = cameras.project(means)
    y, x = torch.meshgrid(torch.arange(32) + 0.5, torch.arange(32) + 0.5, indexing="ij")
    centres = torch.stack([x, y], -1).reshape(-1, 2)
    inside = (means.abs() < 1).all(-1)
    assert inside.float().mean() > 0.9
    assert torch.allclose(pixels[inside], centres.expand_as(pixels)[inside], atol=1e-3)
    colors = rearrange(out.gaussians.colors, "b (v h w) c -> b v c h w", v=4, h=32)
    assert torch.allclose(colors[:, 0], pooled_rgba(inputs.images)[:, 0, :3], atol=1e-6)


def test_padding_drags_and_absent_images_say_nothing(network: PartRMNetwork) -> None:
    inputs = some_input()
    out = network(inputs)
    more = some_drags(2, 5, seed=7)
    d = inputs.drags
    padded = Drags(
        start=torch.cat([d.start, more.start], 1),
        end=torch.cat([d.end, more.end], 1),
        view=torch.cat([d.view, more.view], 1),
        valid=torch.cat([d.valid, torch.zeros(2, 5, dtype=torch.bool)], 1),
    )
    noise = inputs.images.clone()
    noise[:, 1:] = torch.rand(noise[:, 1:].shape)
    again = network(replace(inputs, drags=padded, images=noise))
    assert torch.allclose(out.displacement, again.displacement, atol=1e-5)
    assert torch.allclose(out.gaussians.means, again.gaussians.means, atol=1e-5)


def test_order_of_drags_does_not_matter_but_drags_do(network: PartRMNetwork) -> None:
    inputs = some_input()
    order = torch.tensor([2, 0, 1])
    d = inputs.drags
    turned = Drags(d.start[:, order], d.end[:, order], d.view[:, order], d.valid[:, order])
    out = network(inputs).displacement
    assert torch.allclose(out, network(replace(inputs, drags=turned)).displacement, atol=1e-5)
    other = replace(inputs, drags=some_drags(2, 3, seed=9))
    assert float((out - network(other).displacement).abs().max()) > 1e-4


def test_samples_of_a_batch_do_not_mix(network: PartRMNetwork) -> None:
    inputs = some_input()
    changed = inputs.images.clone()
    changed[1] = 0.5
    out, again = network(inputs), network(replace(inputs, images=changed))
    assert torch.allclose(out.gaussians.means[0], again.gaussians.means[0], atol=1e-5)
    assert not torch.allclose(out.gaussians.means[1], again.gaussians.means[1], atol=1e-5)


def test_drag_maps_lie_as_the_image_does() -> None:
    """REFERENCE_DEFECTS B1: x = 0.8, y = 0.1 must land at column 0.8, row 0.1, in the drag's own view."""
    maps = scatter_to_map(torch.ones(1, 1, 1), torch.tensor([[[0.8, 0.1]]]), torch.tensor([[2]]), 4, 40)
    where = maps.nonzero()
    assert where.tolist() == [[2, 0, 4, 32]]
    blurred = DragEmbedding(32).maps(some_drags(1, 1), 4, 16)
    assert torch.count_nonzero(blurred[1:]) == 0


def test_drag_maps_equal_a_loop() -> None:
    drags, embed = some_drags(3, 4), DragEmbedding(32)
    start, end = embed.embed(drags).chunk(2, -1)
    expected = torch.zeros(12, start.shape[-1] * 2, 20, 20)
    half = start.shape[-1]
    line = torch.exp(-0.5 * torch.arange(-2.0, 3.0) ** 2)
    kernel = line[:, None] * line[None, :]
    for b in range(3):
        for n in range(4):
            for channel, vectors, points in ((0, start, drags.start), (half, end, drags.end)):
                x, y = (points[b, n] * 20).floor().int().tolist()
                for dy in range(-2, 3):
                    for dx in range(-2, 3):
                        if 0 <= y + dy < 20 and 0 <= x + dx < 20:
                            weight = kernel[dy + 2, dx + 2]
                            expected[4 * b, channel : channel + half, y + dy, x + dx] += weight * vectors[b, n]
    assert torch.allclose(embed.maps(drags, 4, 20), expected, atol=1e-5)


def test_all_parameters_learn() -> None:
    """REFERENCE_DEFECTS C1: a parameter without gradient would stop distributed training."""
    net = PartRMNetwork(TINY)
    out = net(some_input())
    loss = sum(x.square().mean() for x in (out.gaussians.means, out.gaussians.colors, out.displacement))
    (loss + out.moving_logit.mean() + out.gaussians.scales.mean() + out.gaussians.quats.sum()).backward()
    missing = [name for name, p in net.named_parameters() if p.grad is None]
    assert not missing
    assert all(math.isfinite(float(p.grad.norm())) for p in net.parameters() if p.grad is not None)


def test_low_precision_blurs_features_but_not_rays(network: PartRMNetwork) -> None:
    """Under bf16 autocast every Gaussian still lies on its pixel's ray to float32 accuracy."""
    inputs = some_input()
    with torch.autocast("cpu", torch.bfloat16):
        out = network(inputs)
    full = network(inputs)
    assert out.gaussians.means.dtype == torch.float32
    assert torch.allclose(out.ray_distance, full.ray_distance, atol=0.05)
    cameras = inputs.cameras.resized(32)
    _, directions = cameras.rays()
    means = rearrange(out.gaussians.means, "b (v n) c -> b v n c", v=4)
    _, depth = cameras.project(means)
    forward = cameras.T_world_camera[..., None, None, :3, 2]
    cosine = rearrange((directions * forward).sum(-1), "b v h w -> b v (h w)")
    expected = rearrange(out.ray_distance, "b (v n) -> b v n", v=4) * cosine
    inside = (means.abs() < 1).all(-1)
    assert torch.allclose(depth[inside], expected[inside], atol=1e-5)


def test_raw_drags_are_the_references() -> None:
    """The ablation's embedding: x along the rows, starts and ends by one MLP, the first view's drags in all views."""
    embed = RawDragEmbedding(32, 8)
    point = torch.tensor([[[0.8, 0.1]]])
    view, valid = torch.zeros(1, 1, dtype=torch.long), torch.ones(1, 1, dtype=torch.bool)
    maps = embed.maps(Drags(point, point, view, valid), 4, 40)
    assert maps.shape == (4, 16, 40, 40)
    energy = maps.abs().sum(1)
    assert [divmod(int(e.argmax()), 40) for e in energy] == [(32, 4)] * 4
    assert torch.equal(maps[:, :8], maps[:, 8:])
    assert torch.equal(maps[0], maps[3])
    vector = embed.mlp(fourier_of_pixels(point[0, 0] * 512))
    assert torch.allclose(maps[0, :8, 32, 4], vector, atol=1e-5)
    assert torch.count_nonzero(embed.maps(Drags(point, point, view + 1, valid), 4, 40)) == 0
    assert torch.count_nonzero(embed.maps(Drags(point, point, view, ~valid), 4, 40)) == 0


def test_one_level_alone_takes_the_drags() -> None:
    config = replace(TINY, drag_levels=(1,))
    network = PartRMNetwork(config)
    assert [type(module) for module in network.drags] == [NoDrags, DragEmbedding]
    assert not [name for name in network.state_dict() if name.startswith("drags.0")]


def test_drags_reach_the_output_of_every_variant() -> None:
    for changes in ({"head": "state"}, {"drag_levels": (0,)}, {"drag_positions": "raw_pixels"}):
        torch.manual_seed(0)
        net = PartRMNetwork(replace(TINY, **changes)).eval()
        for embed in net.drags:
            if isinstance(embed, DragEmbedding):
                torch.nn.init.normal_(embed.fuse.weight, std=0.05)
        inputs = some_input()
        other = replace(inputs, drags=some_drags(2, 3, seed=9))
        moved = (net(inputs).gaussians.means - net(other).gaussians.means).abs().max()
        assert float(moved) > 1e-5, changes


@pytest.mark.parametrize(
    ("name", "value"),
    [
        *(("head", "x"), ("drag_levels", (2,)), ("drag_positions", "polar")),
        *(("down_channels", (64,)), ("down_channels", (64, 100)), ("down_channels", (64, 0))),
    ],
)
def test_configs_of_no_network_are_refused(name: str, value) -> None:
    config = replace(TINY)
    object.__setattr__(config, name, value)  # as a file may have it, past the types that tests check
    with pytest.raises(ValueError, match=name):
        PartRMNetwork(config)
