"""What a device can do, and where its time goes: the matrix peak, kernels of one run by what they do."""

import re
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch.profiler import ProfilerActivity, profile

KINDS = (
    ("attention", r"flash|fmha|attention|mem_eff"),
    (
        "norms",
        r"_forward_(sums|merge|apply)|_backward_(sums|merge|apply)|group_?norm|rowwisemoments|computefusedparams",
    ),
    ("change of layout", r"nchwtonhwc|nhwctonchw|transpose"),
    ("rasterizer", r"gsplat|rasteriz|projection|intersect|radixsort|devicescan"),
    ("passes of the perceptual loss", r"_bias_relu|_level_(forward|backward)|threshold_backward"),
    ("optimizer and clipping", r"multi_tensor|adam|lpnorm"),
    ("convolutions and products", r"gemm|conv|cudnn|cutlass|xmma|sm\d\d_|nvjet|wgrad|dgrad|splitk"),
    ("communication", r"nccl"),
    ("copies", r"memcpy|memset|copy|catarray"),
    ("element-wise and sums", r"elementwise|reduce|softmax|upsample|pool|fill|_scaled_sum"),
)
"""First match wins; the rest is "other"."""


LONGEST = 30
"""Kernels listed by name."""

NOISE = r"void |at::native::|\(anonymous namespace\)::|c10::|at::|std::|<unnamed>::"
"""Left out of the kernels' names."""


@dataclass(frozen=True)
class Profile:
    """Milliseconds on the CUDA device of one run."""

    kinds: dict[str, float]
    """By kind, longest first; and "idle"."""
    kernels: dict[str, float]
    """Of the longest kernels, by name with their count; and of all others."""


def profiled(work: Callable[[], Any]) -> Profile:
    """Where the time of one run of ``work`` goes, after a first run."""
    work()
    torch.cuda.synchronize()
    with profile(activities=[ProfilerActivity.CUDA]) as profiler:
        begin, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        begin.record()
        work()
        end.record()
        torch.cuda.synchronize()
    times: dict[str, float] = {}
    kernels: dict[str, float] = {}
    for event in profiler.key_averages():
        if event.device_type == torch.autograd.DeviceType.CUDA:
            kind, name = kind_of(event.key), re.sub(NOISE, "", event.key).replace("|", "/")[:120]
            times[kind] = times.get(kind, 0.0) + event.self_device_time_total / 1e3
            kernels[f"{event.count} x {name}"] = event.self_device_time_total / 1e3
    times["idle"] = max(0.0, begin.elapsed_time(end) - sum(times.values()))
    ranked = sorted(kernels.items(), key=lambda item: -item[1])
    others = {"all others": sum(ms for _, ms in ranked[LONGEST:])}
    return Profile(dict(sorted(times.items(), key=lambda item: -item[1])), dict(ranked[:LONGEST]) | others)


def kind_of(kernel: str) -> str:
    """What a kernel of this name does."""
    return next((kind for kind, pattern in KINDS if re.search(pattern, kernel.lower())), "other")


def matrix_peak(device: str) -> float:
    """TFLOP/s of a large product of matrices, best of 10: bfloat16 on CUDA, float32 on the CPU."""
    cuda = device != "cpu"
    side, kind = (8192, torch.bfloat16) if cuda else (1024, torch.float32)
    a, b = (torch.randn(side, side, device=device, dtype=kind) for _ in range(2))
    best = float("inf")
    for _ in range(10):
        started = time.perf_counter()
        a @ b
        if cuda:
            torch.cuda.synchronize()
        best = min(best, time.perf_counter() - started)
    return round(2 * side**3 / best / 1e12, 3)
