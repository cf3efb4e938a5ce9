"""Speed and memory of the reference network, beside a plain rendition of the public implementation's loops.

    python benchmarks/reference.py --out benchmarks/results/reference.md      preset big on the GPU, under 3 minutes
    python benchmarks/reference.py --device cpu --preset tiny --size 64 --batch 1 --views 2 --steps 2
    torchrun --nproc-per-node 2 benchmarks/reference.py --distributed         training step on two GPUs
    python benchmarks/reference.py --compile                                  also with torch.compile (minutes more)

The same seeded weights, images, drags and cameras for all. Each figure is the median of ``--steps`` runs by CUDA events
after a warm-up. The baseline runs first and in a process of its own: its training step takes most of the device's
memory. A row that fails says why; the others go on, and the exit code is 1.
"""

import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal

import torch
import torch.distributed as dist
import tyro
from perceptual_loss import PerceptualLoss
from reference_graphs import GraphedReference, graph_training, half_copy
from reference_inputs import Batch, Perceptual, placed, random_batch, random_weights
from reference_loops import LoopedNetwork, looped_step
from reference_profile import matrix_peak, profiled
from reference_report import (
    FORWARD,
    GRAPHED_TRAINING,
    LOOPED_FORWARD,
    LOOPED_TRAINING,
    TO_RENDERS,
    TRAINING,
    Report,
    Row,
)
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from partrm.geometry.gaussians import Gaussians
from partrm.model.inputs import NetworkInput
from partrm.model.reference import REFERENCE_PRESETS, PixelDrags, ReferenceNetwork
from partrm.rendering.splats import SplatImages, render_splats

BASELINE_SECONDS = 240
"""After which the baseline is given up."""


@dataclass(frozen=True)
class Args:
    """Arguments."""

    device: Literal["cuda", "cpu"] = "cuda"
    preset: Literal["big", "small", "tiny"] = "big"
    size: int = 256
    """Side of the images, pixels."""
    batch: int = 8
    """Samples of a training step."""
    views: int = 12
    """Renders of each sample."""
    drags: int = 10
    """Drags of each sample."""
    steps: int = 10
    """Timed runs; the median is printed."""
    baseline_steps: int = 2
    """Timed runs of the baseline's training step."""
    baseline: bool = True
    """Whether the plain rendition runs too."""
    baseline_alone: bool = False
    """Whether it runs alone (so the process that measures it is started)."""
    checkpointing: bool = True
    """Whether the training step runs with gradient checkpointing too."""
    compile: bool = False
    """Whether everything runs through torch.compile too."""
    distributed: bool = False
    """Under torchrun: the training step alone, on every process's GPU."""
    profile_alone: bool = False
    """Only where the time of the forward pass and of the training step goes."""
    out: Path | None = None
    """Markdown table; a .json of the same name beside it holds the figures."""


class Bench:
    """Everything that the measurements share."""

    def __init__(self, args: Args) -> None:
        self.args, self.cuda = args, args.device == "cuda"
        self.device = f"cuda:{torch.cuda.current_device()}" if self.cuda else "cpu"
        self.config = replace(REFERENCE_PRESETS[args.preset], image_size_px=args.size)
        # On the host, so that the baseline has the device's memory to itself.
        self.weights = {name: value.cpu() for name, value in random_weights(self.config, self.device).items()}
        self.one = random_batch(self.config, 1, args.views, args.drags, self.device)

    def network(self, kind: type[ReferenceNetwork] = ReferenceNetwork, **options: Any) -> Any:
        """A network with the seeded weights."""
        with torch.device("meta"):
            network = kind(self.config, **options)
        copies = {name: value.to(self.device, copy=True) for name, value in self.weights.items()}
        network.load_state_dict(copies, assign=True)
        return network.requires_grad_(True)

    def milliseconds(self, work: Callable[[], Any], steps: int, warm_up: int = 3) -> float:
        """Median time of ``work``, the device idle before each run."""
        for _ in range(warm_up):
            work()
        times = []
        for _ in range(steps):
            if not self.cuda:
                started = time.perf_counter()
                work()
                times.append(1e3 * (time.perf_counter() - started))
                continue
            begin, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
            torch.cuda.synchronize()
            begin.record()
            work()
            end.record()
            torch.cuda.synchronize()
            times.append(begin.elapsed_time(end))
        return statistics.median(times)

    def timed(self, work: Callable[[], Any], steps: int, teraflop: float, note: str, warm_up: int = 3) -> Row:
        """A row of ``work``, its memory counted from what is allocated without it."""
        if self.cuda:
            torch.cuda.synchronize()
            torch.cuda.reset_peak_memory_stats()
        median = self.milliseconds(work, steps, warm_up)
        peak = torch.cuda.max_memory_allocated() / 2**30 if self.cuda else 0.0
        return Row("", median, teraflop, peak, note)


def gaussians_of(network: ReferenceNetwork, inputs: NetworkInput) -> Gaussians:
    """Forward pass without a look at the device's values."""
    drags = PixelDrags.from_drags(inputs.drags, inputs.view_valid.shape[1], network.config)
    return network.reconstruct(network.input_map(inputs), drags)


class Step(nn.Module):
    """Forward pass as a module of its own, for DistributedDataParallel; ``run`` replaces the network's own."""

    def __init__(self, network: ReferenceNetwork, run: Callable[[NetworkInput], Gaussians] | None = None) -> None:
        super().__init__()
        self.network, self.run = network, run

    def forward(self, inputs: NetworkInput) -> list[Tensor]:
        g = gaussians_of(self.network, inputs) if self.run is None else self.run(inputs)
        return [g.means, g.quats, g.scales, g.opacities, g.colors]


def training_step(
    step: nn.Module, perceptual: PerceptualLoss | None, optimizer: torch.optim.Optimizer, batch: Batch
) -> None:
    """One step of the appearance stage: MSE of colour and alpha and a perceptual distance of all renders."""
    # First, so that the device has work while Python launches the network's many small kernels.
    wanted = [] if perceptual is None else perceptual.features(batch.rgb.flatten(0, 1))
    with torch.autocast(batch.cameras.device.type, torch.bfloat16):
        gaussians = placed(Gaussians(*step(batch.inputs)), batch.surface)
    images: SplatImages = render_splats(gaussians, batch.cameras)
    loss = nn.functional.mse_loss(images.rgb, batch.rgb) + nn.functional.mse_loss(images.alpha, batch.alpha)
    if perceptual is not None:
        loss = loss + perceptual.distance(images.rgb.flatten(0, 1), wanted)
    loss.backward()
    nn.utils.clip_grad_norm_(step.parameters(), 1.0)
    optimizer.step()
    optimizer.zero_grad(set_to_none=True)


def forward_row(bench: Bench, compiled: bool = False) -> Row:
    """One sample, bfloat16, replayed from a CUDA graph (on the CPU: float32, as it is)."""
    network, inputs = bench.network(), bench.one.inputs
    counter = FlopCounterMode(display=False)
    half = half_copy(network) if bench.cuda else network.eval()
    with torch.no_grad(), counter:
        gaussians_of(half, inputs)
    teraflop = counter.get_total_flops() / 1e12
    if compiled:
        half.fuse_norms(False)  # the compiler fuses them itself
        run = torch.compile(lambda: gaussians_of(half, inputs), mode="max-autotune-no-cudagraphs")
        with torch.no_grad():
            return bench.timed(run, bench.args.steps, teraflop, "torch.compile, no CUDA graph")
    if not bench.cuda:
        with torch.no_grad():
            return bench.timed(lambda: gaussians_of(half, inputs), bench.args.steps, teraflop, "float32")
    graphed = GraphedReference(network, inputs)
    with torch.no_grad():
        exact = gaussians_of(network.to(memory_format=torch.channels_last), inputs)
    error = (graphed(inputs).means - exact.means).abs().mean() / exact.means.std()
    return bench.timed(
        lambda: graphed(inputs), bench.args.steps, teraflop, f"CUDA graph, bf16, {error:.1e} from float32"
    )


def renders_row(bench: Bench) -> Row:
    """From images and drags in the host's memory to all renders on the device."""
    host = random_batch(bench.config, 1, bench.args.views, bench.args.drags, "cpu").inputs
    if bench.cuda:
        host = replace(host, images=host.images.pin_memory())
    network = bench.network()
    infer = GraphedReference(network, bench.one.inputs) if bench.cuda else (lambda x: gaussians_of(network, x))

    def work() -> SplatImages:
        with torch.no_grad():
            return render_splats(placed(infer(host), bench.one.surface), bench.one.cameras)

    return bench.timed(work, bench.args.steps, 0.0, f"{bench.args.views} renders at {bench.args.size}²")


def looped_forward_row(bench: Bench) -> Row:
    """The baseline's forward pass."""
    network = bench.network(LoopedNetwork)
    network.fuse_norms(False)

    def work() -> Gaussians:
        with torch.no_grad(), torch.autocast(bench.args.device, torch.bfloat16):
            return network.gaussians(bench.one)

    ours = bench.network()
    with torch.no_grad(), torch.backends.cudnn.flags(enabled=True, allow_tf32=False):
        expected = gaussians_of(ours, bench.one.inputs).means
        error = (network.gaussians(bench.one).means - expected).abs().mean() / expected.std()
    del ours
    return bench.timed(work, max(2, bench.args.steps // 2), 0.0, f"{error:.1e} from ours in float32", warm_up=1)


def trainable(
    bench: Bench,
    data: Batch,
    checkpointing: bool = False,
    perceptual: bool = True,
    compiled: bool = False,
    graphed: bool = False,
) -> Callable[[], None]:
    """Our training step on ``data``, ready to run."""
    network = bench.network(checkpointing=checkpointing).to(memory_format=torch.channels_last)
    step: nn.Module = Step(network, graph_training(network, data.inputs) if graphed else None)
    if compiled:
        network.fuse_norms(False)  # the compiler fuses them itself
        step.compile()
    if bench.args.distributed:
        step = nn.parallel.DistributedDataParallel(step, gradient_as_bucket_view=True)
    half = torch.bfloat16 if bench.cuda else torch.float32
    vgg = Perceptual().fast().to(bench.device, half, memory_format=torch.channels_last) if perceptual else None
    optimizer = torch.optim.AdamW(step.parameters(), 5e-4, (0.9, 0.95), weight_decay=0.05, fused=True)
    return lambda: training_step(step, vgg, optimizer, data)


def training_teraflop(bench: Bench, batch: int, perceptual: bool) -> float:
    """Of the network three times the forward pass; of the perceptual loss both images' features and one gradient."""
    with torch.no_grad(), FlopCounterMode(display=False) as of_network:
        gaussians_of(bench.network(), bench.one.inputs)
    with torch.no_grad(), FlopCounterMode(display=False) as of_vgg, torch.device(bench.device):
        Perceptual().features(torch.zeros(1, 3, bench.args.size, bench.args.size))
    images = bench.args.views if perceptual else 0
    return 3 * batch * (of_network.get_total_flops() + images * of_vgg.get_total_flops()) / 1e12


def training_row(bench: Bench, batch: int, **options: bool) -> Row:
    """Our training step; see :func:`trainable` for the options."""
    args, perceptual = bench.args, options.get("perceptual", True)
    teraflop = training_teraflop(bench, batch, perceptual)
    data = random_batch(bench.config, batch, args.views, args.drags, bench.device)
    work = trainable(bench, data, **options)
    note = f"batch {batch} x {args.views} views" + ("" if perceptual else ", MSE alone")
    return bench.timed(work, args.steps, teraflop, note)


def looped_training_row(bench: Bench) -> Row:
    """The baseline's training step."""
    args = bench.args
    network, vgg = bench.network(LoopedNetwork), Perceptual().to(bench.device)
    network.fuse_norms(False)
    optimizer = torch.optim.AdamW(network.parameters(), 5e-4, (0.9, 0.95), weight_decay=0.05)
    batch = random_batch(bench.config, args.batch, args.views, args.drags, bench.device)
    note = f"batch {args.batch} x {args.views} views"
    return bench.timed(lambda: looped_step(network, vgg, optimizer, batch), args.baseline_steps, 0.0, note, warm_up=1)


def profiles(bench: Bench) -> dict[str, dict[str, float]]:
    """Kernel times of a forward pass and of a training step."""
    graphed = GraphedReference(bench.network(), bench.one.inputs)
    tables = {FORWARD: profiled(lambda: graphed(bench.one.inputs)).kinds}
    del graphed
    args = bench.args
    data = random_batch(bench.config, args.batch, args.views, args.drags, bench.device)
    of_step = profiled(trainable(bench, data))
    return tables | {TRAINING: of_step.kinds, f"{TRAINING}, longest kernels": of_step.kernels}


def without_out(words: list[str]) -> list[str]:
    """A command line without the place that it writes to."""
    return [word for before, word in zip(["", *words], words, strict=False) if "--out" not in (before, word)]


def facts_of(args: Args, device: str) -> dict[str, Any]:
    """Where and what."""
    hardware = torch.cuda.get_device_name() if args.device == "cuda" else f"{platform.machine()} CPU"
    return {
        "command": " ".join(["python", *without_out(sys.argv)]),
        "date": f"{datetime.now(UTC):%Y-%m-%d}",
        "hardware": hardware,
        "software": f"torch {torch.__version__}, CUDA {torch.version.cuda}",
        "preset": f"{args.preset}, images of {args.size}², {args.drags} drags",
        "matrix peak, TFLOP/s": matrix_peak(device),
    }


def run(bench: Bench, report: Report) -> None:
    """All of our measurements."""
    args = bench.args
    measure, batch = report.measure, args.batch
    if args.distributed:
        measure(f"{TRAINING}, {dist.get_world_size()} devices", lambda: training_row(bench, batch))
        return
    if not args.profile_alone:
        measure_rows(bench, report)
    if bench.cuda or args.profile_alone:
        measure("profile", lambda: report.tables.update(profiles(bench)))


def measure_rows(bench: Bench, report: Report) -> None:
    """The rows of one device's table."""
    args, measure, batch = bench.args, report.measure, bench.args.batch
    measure(FORWARD, lambda: forward_row(bench))
    measure(TO_RENDERS, lambda: renders_row(bench))
    measure(TRAINING, lambda: training_row(bench, batch))
    if bench.cuda:
        measure(GRAPHED_TRAINING, lambda: training_row(bench, batch, graphed=True))
    measure(f"{TRAINING}, MSE alone", lambda: training_row(bench, batch, perceptual=False))
    if args.checkpointing:
        for size in dict.fromkeys((batch, max(1, batch // 4))):
            name = f"{TRAINING}, checkpointing, batch {size}"
            measure(name, lambda size=size: training_row(bench, size, checkpointing=True))
    if args.compile:
        measure(f"{FORWARD}, compiled", lambda: forward_row(bench, compiled=True))
        measure(f"{TRAINING}, compiled", lambda: training_row(bench, batch, compiled=True))


def run_baseline(bench: Bench, report: Report) -> None:
    """Both of the baseline's measurements."""
    # PyTorch's unfused attention would widen its matrices to float32, which did not fit 80 GB.
    torch.backends.cuda.allow_fp16_bf16_reduction_math_sdp(True)
    report.measure(LOOPED_FORWARD, lambda: looped_forward_row(bench))
    report.measure(LOOPED_TRAINING, lambda: looped_training_row(bench))


def start_baseline(out: Path) -> None:
    """The baseline in a process of its own, before this one has touched the device; it writes to ``out``."""
    command = [sys.executable, *sys.argv, "--baseline-alone", "--out", str(out)]
    settings = os.environ | {"PYTORCH_CUDA_ALLOC_CONF": "expandable_segments:True"}
    try:
        subprocess.run(command, env=settings, timeout=BASELINE_SECONDS, check=False)
    except subprocess.TimeoutExpired:
        print(f"the baseline took more than {BASELINE_SECONDS} s", file=sys.stderr)


def main(args: Args) -> int:
    """Measure, print, write."""
    started = time.perf_counter()
    if args.distributed:
        dist.init_process_group("nccl" if args.device == "cuda" else "gloo")
        if args.device == "cuda":
            torch.cuda.set_device(dist.get_node_local_rank())
    first = not args.distributed or dist.get_rank() == 0
    with tempfile.TemporaryDirectory() as folder:
        of_baseline = Path(folder) / "baseline.json"
        apart = args.baseline and not (args.baseline_alone or args.distributed or args.profile_alone)
        if apart:
            start_baseline(of_baseline.with_suffix(".md"))
        torch.backends.cudnn.benchmark = not args.baseline_alone
        bench = Bench(args)
        report = Report(args.out if first else None, facts_of(args, bench.device))
        if apart:
            report.take(of_baseline, "baseline")
    (run_baseline if args.baseline_alone else run)(bench, report)
    if first:
        print(report.markdown())
        print(f"whole run {time.perf_counter() - started:.0f} s")
    if args.distributed:
        dist.destroy_process_group()
    return 1 if report.failures else 0


if __name__ == "__main__":
    sys.exit(main(tyro.cli(Args, description=__doc__)))
