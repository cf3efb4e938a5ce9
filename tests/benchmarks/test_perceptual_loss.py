"""The perceptual loss: against LPIPS as evaluation has it, by finite differences; its kernels against their twins."""

import importlib.util
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from perceptual_loss import VGG16_WIDTHS, PerceptualLoss, loss_of
from support.kernel_cases import DTYPES, SHAPES, compare

from partrm.metrics.lpips import Lpips, LpipsError, features_of, stages_of

SMALL = ((8, 8), (24,))


def pictures(size: int, count: int = 2) -> tuple[torch.Tensor, torch.Tensor]:
    coarse = torch.rand(2 * count, 3, 5, 5, generator=torch.Generator().manual_seed(0))
    a, b = torch.nn.functional.interpolate(coarse, (size, size), mode="bilinear").chunk(2)
    return a, b


def random_loss(widths=SMALL) -> PerceptualLoss:
    """With weights of full strength, so that every level says something."""
    torch.manual_seed(0)
    loss = PerceptualLoss(widths)
    for value in loss.parameters():
        if value.ndim == 4:
            torch.nn.init.kaiming_normal_(value)
        else:
            torch.nn.init.uniform_(value, 0, 0.3)
    return loss


def test_it_is_the_lpips_of_evaluation() -> None:
    torch.manual_seed(0)
    stages = stages_of("vgg", features_of("vgg")).requires_grad_(False)
    for value in stages.parameters():
        if value.ndim == 4:
            torch.nn.init.kaiming_normal_(value)
    lpips = Lpips("vgg", "", stages, tuple(torch.rand(widths[-1]) for widths in VGG16_WIDTHS))
    a, b = pictures(40)
    (expected,) = lpips.distances([a], b)
    loss = loss_of(lpips)
    torch.testing.assert_close(loss(a, b), expected.mean(), rtol=1e-5, atol=0)
    assert float(loss(b, b)) == 0
    with pytest.raises(LpipsError, match="vgg backbone only, not of alex"):
        loss_of(Lpips("alex", "", stages, lpips.linear))


def test_gradient_equals_finite_differences_and_targets_have_none() -> None:
    loss = random_loss().double()
    a, b = (x.double().requires_grad_() for x in pictures(7, count=1))
    assert torch.autograd.gradcheck(lambda a: loss(a, b), (a,))
    loss(a, b).backward()
    assert b.grad is None
    assert not any(f.requires_grad for f in loss.features(b))


def test_channels_of_zeros_change_nothing() -> None:
    loss, (a, b) = random_loss(), pictures(16)
    exact = float(loss(a, b))
    half = random_loss().to(torch.bfloat16, memory_format=torch.channels_last)
    assert float(half(a, b)) == pytest.approx(exact, rel=0.02)
    assert half.features(a)[0].dtype == torch.bfloat16
    with torch.autocast("cpu", torch.bfloat16):
        assert float(loss(a, b)) == exact, "its weights' precision rules, not the caller's autocast"


def test_kernels_equal_their_twins_in_the_interpreter() -> None:
    if importlib.util.find_spec("triton") is None:
        pytest.skip("Triton comes with PyTorch for CUDA; none here")
    environment = os.environ | {"TRITON_INTERPRET": "1", "PYTHONPATH": os.pathsep.join(sys.path)}
    done = subprocess.run(
        [sys.executable, str(Path(__file__).parents[1] / "support" / "kernel_cases.py")],
        env=environment, capture_output=True, text=True, timeout=300,
    )  # fmt: skip
    assert done.stdout.strip() == "equal", done.stderr[-2000:]


@pytest.mark.gpu
@pytest.mark.parametrize("pool", [False, True])
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape", [*SHAPES, (3, 128, 34, 30), (2, 512, 16, 16), (1, 64, 257, 129)])
def test_kernels_equal_their_twins(shape, dtype, pool) -> None:
    compare("cuda", shape, dtype, pool)


@pytest.mark.gpu
def test_in_half_precision_the_kernels_give_the_loss_and_gradient_of_the_twins() -> None:
    a, b = (x.cuda() for x in pictures(64))
    results = []
    for half, fused in ((False, False), (True, False), (True, True)):
        loss = random_loss(VGG16_WIDTHS).cuda()
        if half:
            loss = loss.to(torch.bfloat16, memory_format=torch.channels_last)
        loss.fused = fused
        leaf = a.clone().requires_grad_()
        with torch.autocast("cuda", torch.bfloat16):
            distance = loss(leaf, b)
        results.append((distance.detach(), *torch.autograd.grad(distance, leaf)))
    (exact, _), (plain, plain_grad), (ours, grad) = results
    torch.testing.assert_close(ours, exact, rtol=0.02, atol=0)
    torch.testing.assert_close(ours, plain, rtol=1e-3, atol=0)
    assert grad.dtype == torch.float32
    # Not with float32's: rounding features to bfloat16 moves largest pixels, and a third of the gradient with them.
    assert (grad - plain_grad).norm() < 0.05 * plain_grad.norm()
