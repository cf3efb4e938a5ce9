"""The Triton passes of the perceptual loss against their plain twins in float64, on any device.

Run as a program, with Triton's interpreter, it compares them on the CPU.
"""

import plain_perceptual as plain
import torch

SHAPES = ((2, 64, 6, 8), (2, 24, 5, 7), (1, 512, 3, 2), (3, 16, 2, 3))
DTYPES = (torch.float32, torch.bfloat16)


def eighths(*shape: int) -> torch.Tensor:
    """Values whose sums bfloat16 holds exactly, many of them alike: windows have several largest."""
    return torch.randint(-12, 13, shape) / 8


def compare(device: str, shape: tuple[int, ...], dtype: torch.dtype, pool: bool) -> None:
    """Values and gradients of all three passes."""
    import triton_perceptual as fused

    torch.manual_seed(0)
    n, c, h, w = shape
    x, bias, other = eighths(*shape), eighths(c), eighths(*shape).relu()
    other[0, :, 0, 0], x[-1, :, -1, -1] = 0, -3  # vectors of length zero
    weight, size = torch.rand(c), (n, c, h // 2, w // 2) if pool else (0,)
    grads = 0.01 * torch.randn(size), torch.tensor(0.7), torch.randn(shape)
    weight, *grads = (value.to(dtype) for value in (weight, *grads))
    results = []
    for passes, kind in ((fused, dtype), (plain, torch.float64)):
        leaf = x.to(device, kind).contiguous(memory_format=torch.channels_last).requires_grad_()
        small = bias.to(device, kind)
        given = [g.to(device, kind) for g in grads]
        compared = other.to(device, kind), weight.to(device, kind)
        pooled, distance = passes.compare_level(leaf, small, *compared, pool)
        ends = ([pooled, distance], given[:2]) if pool else ([distance], given[1:2])
        ends[1][-1] = ends[1][-1].to(distance.dtype)
        (of_level,) = torch.autograd.grad(ends[0], leaf, ends[1])
        active = passes.bias_relu(leaf, small)
        (of_relu,) = torch.autograd.grad(active, leaf, given[2])
        finished = passes.finish_level(leaf.detach(), small, pool)
        results.append([pooled, distance, of_level, active, of_relu, *finished])
        if passes is fused:
            assert of_level.is_contiguous(memory_format=torch.channels_last)
            assert active.is_contiguous(memory_format=torch.channels_last)
    # The plain twin in float32 is off by 1.3e-5 itself; a card's quick division and root add to it. In bfloat16 the
    # interpreter cuts bits off where devices round.
    tolerance = 5e-5 if dtype == torch.float32 else 2**-7
    for index, (ours, exact) in enumerate(zip(*results, strict=True)):
        assert ours.shape == exact.shape, index
        ours, exact = ours.detach().double(), exact.detach()
        assert bool(((ours - exact).abs() <= tolerance * (exact.abs() + 1e-3 * exact.norm())).all()), index


if __name__ == "__main__":
    for shape in SHAPES:
        for dtype in DTYPES:
            for pool in (False, True):
                compare("cpu", shape, dtype, pool)
    print("equal")
