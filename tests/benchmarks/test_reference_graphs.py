"""What makes the reference network fast on CUDA, against its plain twins."""

from dataclasses import fields, replace

import pytest
import torch
from reference_graphs import GraphedReference, _OfLeaves, graph_training, half_copy

from partrm.geometry.cameras import Cameras, canonical_orbit
from partrm.geometry.drags import Drags
from partrm.geometry.gaussians import Gaussians
from partrm.model.inputs import NetworkInput
from partrm.model.network import TINY, PartRMNetwork
from partrm.model.reference import ReferenceConfig, ReferenceNetwork
from partrm.model.unet import SKIP_SCALE, Norm, ResBlock
from partrm.training.cuda_graphs import blank_input, record_training

MINI = ReferenceConfig("mini", 32, (32, 64, 96), (False, False, True), (96, 64), (True, False))


def sample(b: int, generator) -> NetworkInput:
    orbit = canonical_orbit(4, 32)
    cameras = Cameras(orbit.T_world_camera.repeat(b, 1, 1, 1), orbit.fovy_rad.repeat(b, 1), 32, 32)
    points = torch.rand(2, b, 3, 2, generator=generator)
    drags = Drags(points[0], points[1], torch.zeros(b, 3, dtype=torch.long), torch.ones(b, 3, dtype=torch.bool))
    images = torch.rand(b, 4, 4, 32, 32, generator=generator)
    return NetworkInput(images, cameras, torch.ones(b, 4, dtype=torch.bool), drags)


def test_graphs_need_cuda(generator) -> None:
    with pytest.raises(ValueError, match="need a network on a CUDA device"):
        GraphedReference(ReferenceNetwork(MINI), sample(1, generator))
    with pytest.raises(ValueError, match="need a network on a CUDA device"):
        graph_training(ReferenceNetwork(MINI), sample(1, generator))


def test_what_is_recorded_for_training_is_the_network_and_reaches_all_its_weights(generator) -> None:
    torch.manual_seed(0)
    network, example, inputs = ReferenceNetwork(MINI), sample(1, generator), sample(1, generator)
    recorded = _OfLeaves(network, example)
    answer, expected = recorded(*inputs.leaves().values()), network(inputs)
    assert all(torch.equal(a, getattr(expected, f.name)) for a, f in zip(answer, fields(Gaussians), strict=True))
    # As make_graphed_callables asks: a weight without a gradient raises.
    torch.autograd.grad(answer, list(recorded.parameters()), [torch.ones_like(a) for a in answer])


def test_blank_inputs_have_the_shapes_of_samples(generator) -> None:
    blank = blank_input(2, 32, "cpu")
    shaped = replace(sample(2, generator), drags=blank.drags)
    assert [x.shape for x in blank.leaves().values()] == [x.shape for x in shaped.leaves().values()]
    assert [x.dtype for x in blank.leaves().values()] == [x.dtype for x in shaped.leaves().values()]


def test_recorded_training_needs_cuda(generator) -> None:
    with pytest.raises(ValueError, match="on a CUDA device"):
        record_training(PartRMNetwork(TINY), sample(1, generator))


@pytest.mark.gpu
@pytest.mark.parametrize("config", [TINY, replace(TINY, features="efficientnet-lite0", depth_modes=2)])
def test_recorded_training_has_the_gradients_of_plain_training(config, generator) -> None:
    """Also after the weights have changed, and for other inputs than those of the recording."""
    torch.manual_seed(0)
    network = PartRMNetwork(config).cuda().to(memory_format=torch.channels_last)
    for module in network.modules():
        if isinstance(module, Norm):
            module.fused = True

    def gradients(inputs: NetworkInput, unet=None) -> list[torch.Tensor]:
        network.zero_grad(set_to_none=True)
        with torch.autocast("cuda", torch.bfloat16):
            output = network(inputs, unet)
        (output.gaussians.means.square().sum() + output.moving_logit.square().sum()).backward()
        return [p.grad.clone() for p in network.parameters() if p.grad is not None]

    recorded = record_training(network, sample(2, generator).to("cuda"))
    for _ in range(2):
        inputs = sample(2, generator).to("cuda")
        plain, replayed = gradients(inputs), gradients(inputs, recorded)
        assert len(plain) == len(replayed) > 50
        size = torch.stack([g.norm() for g in plain]).norm()
        difference = torch.stack([(a - b).norm() for a, b in zip(plain, replayed, strict=True)]).norm()
        assert float(size) > 0
        assert float(difference) < 0.01 * float(size)
        with torch.no_grad():
            for parameter in network.parameters():
                parameter.mul_(1.1)


def test_half_copy_answers_as_the_network(generator) -> None:
    torch.manual_seed(0)
    network, inputs = ReferenceNetwork(MINI).eval(), sample(1, generator)
    copy = half_copy(network)
    assert {p.dtype for p in copy.parameters()} == {torch.bfloat16}
    with torch.no_grad():
        exact, half = network(inputs), copy(inputs)
    assert half.means.dtype == torch.float32
    for field in fields(Gaussians):
        a, b = getattr(exact, field.name), getattr(half, field.name)
        if field.name != "quats":  # random ones may turn over
            assert (a - b).abs().mean() < 0.02 * a.abs().max(), field.name


@pytest.mark.gpu
def test_graph_answers_as_the_network(generator) -> None:
    torch.manual_seed(0)
    network = ReferenceNetwork(MINI).cuda().eval()
    graphed = GraphedReference(network, sample(2, generator).to("cuda"))
    for inputs in (sample(2, generator), sample(2, generator).to("cuda")):
        with torch.no_grad():
            expected = half_copy(network)(inputs.to("cuda"))
            exact = network(inputs.to("cuda"))
        answer = graphed(inputs)
        for field in fields(Gaussians):
            error = (getattr(answer, field.name) - getattr(expected, field.name)).abs().mean()
            assert error < 0.01, field.name
        assert (answer.means - exact.means).abs().mean() < 0.02 * exact.means.abs().max()
    with pytest.raises(ValueError, match="needs all 4 views"):
        graphed(replace(inputs, view_valid=torch.zeros_like(inputs.view_valid)))
    with pytest.raises(ValueError, match="other shapes"):
        graphed(sample(1, generator).to("cuda"))


@pytest.mark.gpu
@pytest.mark.parametrize("silu", [False, True])
@pytest.mark.parametrize("shape", [(2, 96, 17, 15), (1, 64, 64, 64), (3, 192, 4, 4), (2, 2048, 8, 8), (1, 384, 32, 32)])
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_fused_norms_equal_pytorchs(shape, silu, dtype, generator) -> None:
    c = shape[1]
    norm = Norm(c).cuda()
    torch.nn.init.normal_(norm.weight)
    torch.nn.init.normal_(norm.bias)
    centre, spread = 3 * torch.randn(c, 1, 1, generator=generator), torch.rand(c, 1, 1, generator=generator) + 0.1
    x = (torch.randn(shape, generator=generator) * spread + centre).to("cuda", dtype)
    x = x.contiguous(memory_format=torch.channels_last).requires_grad_()
    grad = torch.randn(shape, generator=generator).to("cuda", dtype)
    results = []
    for fused in (False, True):
        norm.fused = fused
        # Without: the same in float64.
        value, module = (x, norm) if fused else (x.detach().double().requires_grad_(), norm)
        y = module(value, silu=silu)
        results.append((y, *torch.autograd.grad(y, (value, norm.weight, norm.bias), grad.to(y.dtype))))
    assert results[1][0].is_contiguous(memory_format=torch.channels_last)
    for exact, ours in zip(*results, strict=True):
        tolerance = 2e-2 if dtype == torch.bfloat16 else 3e-3
        assert (ours.double() - exact.double()).abs().max() <= tolerance * exact.abs().max()


@pytest.mark.gpu
def test_residual_sums_round_once(generator) -> None:
    from partrm.model._triton_norms import scaled_sum

    a, b = (torch.randn(2, 32, 7, 9, generator=generator).to("cuda", torch.bfloat16) for _ in range(2))
    a = a.contiguous(memory_format=torch.channels_last).requires_grad_()
    b.requires_grad_()
    shift = torch.randn(32, generator=generator).cuda().requires_grad_()
    out = scaled_sum(a, b, SKIP_SCALE, shift)
    expected = (a.detach().double() + b.detach().double() + shift.detach().double()[:, None, None]) * SKIP_SCALE
    assert ((out.detach() - expected).abs() <= 2**-8 * expected.abs()).all(), "half a unit in the last place"
    grad = torch.randn_like(out)
    *found, of_shift = torch.autograd.grad(out, (a, b, shift), grad)
    for value in found:
        torch.testing.assert_close(value, grad * SKIP_SCALE)
    torch.testing.assert_close(of_shift, grad.float().sum((0, 2, 3)) * SKIP_SCALE, rtol=1e-2, atol=0.1)


@pytest.mark.gpu
@pytest.mark.parametrize(("c", "d"), [(128, 128), (96, 256)])
def test_fused_residual_blocks_equal_plain_ones(c, d, generator) -> None:
    block = ResBlock(c, d).cuda().to(memory_format=torch.channels_last)
    for value in block.parameters():
        torch.nn.init.normal_(value, std=1 / 3 if value.ndim == 1 else 0.05)
    x = torch.randn(2, c, 16, 16, generator=generator).to("cuda", torch.bfloat16)
    x = x.contiguous(memory_format=torch.channels_last).requires_grad_()
    grad = torch.randn(2, d, 16, 16, generator=generator).cuda()
    results = []
    for fused in (False, True):
        block.norm1.fused = block.norm2.fused = fused
        value = x if fused else x.detach().float().requires_grad_()
        with torch.autocast("cuda", torch.bfloat16, enabled=fused):
            y = block(value)
        results.append((y, *torch.autograd.grad(y, (value, *block.parameters()), grad.to(y.dtype))))
    names = ["y", "x", *dict(block.named_parameters())]
    for name, exact, ours in zip(names, *results, strict=True):
        # The norm that follows takes most of the first bias away: rounding weighs more in what is left.
        tolerance = 0.2 if name == "conv1.bias" else 0.03
        assert (ours.float() - exact).norm() < tolerance * exact.norm(), name


@pytest.mark.gpu
def test_training_in_half_precision_has_the_gradient_of_float32(generator) -> None:
    torch.manual_seed(0)
    network = ReferenceNetwork(MINI).cuda().to(memory_format=torch.channels_last)
    inputs = sample(2, generator).to("cuda")
    grads = []
    for half in (False, True):
        with torch.autocast("cuda", torch.bfloat16, enabled=half):
            answer = network(inputs)
        loss = answer.means.square().sum() + answer.colors.square().sum() + answer.scales.sum()
        grads.append(torch.cat([g.flatten() for g in torch.autograd.grad(loss, list(network.parameters()))]))
    assert (grads[0] - grads[1]).norm() < 0.2 * grads[0].norm()


@pytest.mark.gpu
def test_graphs_for_training_give_the_gradients_of_the_network(generator) -> None:
    torch.manual_seed(0)
    network = ReferenceNetwork(MINI).cuda().to(memory_format=torch.channels_last)
    graphed = graph_training(network, sample(2, generator).to("cuda"))
    weights = list(network.parameters())
    for _ in range(2):  # the weights change in between, as in training
        inputs, grads = sample(2, generator).to("cuda"), []
        for replayed in (False, True):
            with torch.autocast("cuda", torch.bfloat16):
                answer = graphed(inputs) if replayed else network(inputs)
            loss = answer.means.square().sum() + answer.colors.square().sum() + answer.scales.sum()
            grads.append(torch.cat([g.flatten() for g in torch.autograd.grad(loss, weights, allow_unused=False)]))
        assert (grads[0] - grads[1]).norm() < 0.05 * grads[0].norm()
        with torch.no_grad():
            for weight in weights:
                weight.mul_(0.9)
