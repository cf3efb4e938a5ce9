"""How fast data is made: views by Warp and by Blender, states on a card, whole builds, samples for training.

    python benchmarks/data.py views                          # Warp against Cycles, 512², CPU (Blender where bpy is)
    python benchmarks/data.py states --device cuda           # 12 shaded, anti-aliased 256² views a state
    python benchmarks/data.py build --workers 2              # whole entries on disk; hours for 20 548 states
    python benchmarks/data.py build --gpus 1 --workers-per-gpu 8 --sources procedural:laptop,procedural:mixed_cabinet
    python benchmarks/data.py training --pool pool.npz       # how much of a training step waits for samples

Medians over ``--rounds`` repeats after a warm-up. Each prints rows of one table: what, rate, hours for 20 548 states.
"""

import argparse
import statistics
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from importlib.util import find_spec
from multiprocessing import cpu_count, get_context
from pathlib import Path

import numpy as np
import torch
from einops import repeat

from partrm.articulation.objects import ArticulatedObject
from partrm.articulation.procedural import generate
from partrm.cameras import Cameras
from partrm.data.build import build
from partrm.data.build_object import BuildConfig, build_cameras
from partrm.data.executors import Workers
from partrm.rendering.blender import render_object
from partrm.rendering.meshes import Instances, Lights, MeshScene, material_table, render_meshes

PAPER_STATES = 20_548
VIEWS = 12
OBJECT = ("mixed_cabinet", 3)


def half_open(obj: ArticulatedObject) -> np.ndarray:
    return obj.T_object_part(obj.joint_limits.mean(1))


def median_s(call: Callable[[], object], rounds: int) -> float:
    """Seconds of a call, synchronised; two calls to warm up."""
    times = []
    for index in range(rounds + 2):
        began = time.perf_counter()
        call()
        if torch.cuda.is_available():
            torch.cuda.synchronize()
        if index >= 2:
            times.append(time.perf_counter() - began)
    return statistics.median(times)


def row(what: str, states_per_s: float) -> None:
    hours = PAPER_STATES / states_per_s / 3600
    print(f"| {what} | {states_per_s:.3g} states/s | {hours:.3g} h for {PAPER_STATES} states |", flush=True)


def warp_views(rounds: int, size_px: int, batch: int, device: str) -> float:
    """Seconds a batch of states takes in this process: 12 views each, 2x2 sub-samples, light and shadow."""
    torch.set_num_threads(1)
    obj = generate(*OBJECT)
    scene, table = MeshScene.from_objects([obj], device), material_table([obj]).to(device)
    poses = torch.from_numpy(half_open(obj)).float().to(device)
    which = torch.zeros(batch, dtype=torch.long, device=device)
    instances = Instances.of_objects(scene, which, repeat(poses, "p i j -> b p i j", b=batch), table[which])
    one = build_cameras(BuildConfig(size_px=size_px), obj.name).to(device)
    cameras = Cameras(
        repeat(one.T_world_camera, "v i j -> b v i j", b=batch), one.fovy_rad.repeat(batch, 1), size_px, size_px
    )
    lights = Lights.reference(batch, device)
    return median_s(lambda: render_meshes(scene, instances, cameras, lights), rounds)


def blender_views(count: int, size_px: int) -> float:
    """Seconds of ``count`` views by Cycles with 32 samples on all cores."""
    torch.set_num_threads(cpu_count())
    obj = generate(*OBJECT)
    cameras = build_cameras(BuildConfig(size_px=size_px), obj.name)[:count]
    render_object(obj, half_open(obj), cameras[:1].resized(32), Lights.reference(1))
    began = time.perf_counter()
    render_object(obj, half_open(obj), cameras, Lights.reference(1))
    return time.perf_counter() - began


def views(args: argparse.Namespace) -> None:
    cores = cpu_count()
    with ProcessPoolExecutor(cores, get_context("spawn")) as pool:
        # Warp uses one core a process: one a core at the same time, as a build has them.
        running = [pool.submit(warp_views, args.rounds, args.size, 1, "cpu") for _ in range(cores)]
        warp_s = statistics.mean(future.result() for future in running) / VIEWS / cores
        print(f"Warp, {args.size}², 2x2 sub-samples, shadows, {cores} cores: {1e3 * warp_s:.1f} ms a view")
        row(f"Warp on {cores} cores, {args.size}² views", 1 / (VIEWS * warp_s))
    if find_spec("bpy") is None:
        print("Blender: bpy is not installed here")
        return
    with ProcessPoolExecutor(1, get_context("spawn")) as pool:
        blender_s = pool.submit(blender_views, args.views, args.size).result() / args.views
    print(f"Cycles, {args.size}², 32 samples, {cores} cores: {1e3 * blender_s:.0f} ms a view")
    row(f"Cycles on {cores} cores, {args.size}² views", 1 / (VIEWS * blender_s))
    print(f"Warp is {blender_s / warp_s:.0f} times as fast")


def states(args: argparse.Namespace) -> None:
    for batch in (1, 16, 64):
        seconds = warp_views(args.rounds, args.size, batch, args.device)
        row(f"{VIEWS} views of {args.size}², {batch} states at a time, {args.device}", batch / seconds)


def whole_build(args: argparse.Namespace) -> None:
    workers = Workers(count=None if args.gpus else args.workers, gpus=args.gpus, per_gpu=args.workers_per_gpu)
    config = BuildConfig(backend=args.backend)
    marks: list[tuple[float, int]] = []
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "data"
        build(
            tuple(args.sources.split(",")),
            out,
            config,
            limit=args.objects,
            workers=workers,
            report=lambda done, planned, made: marks.append((time.perf_counter(), made)),
        )
        size = sum(p.stat().st_size for p in out.rglob("*") if p.is_file())
    (first, _), (last, made) = marks[0], marks[-1]
    where = f"{args.gpus} cards x {args.workers_per_gpu}" if args.gpus else f"{args.workers} processes"
    row(f"whole entries, {args.backend}, {where}, start-up included", made / (last - first))
    print(f"{made} states, {size / made / 1e6:.2f} MB a state")


def training(args: argparse.Namespace) -> None:
    from partrm.data.online import SampleConfig
    from partrm.train import Phase, TrainConfig, Trainer

    phase = Phase("bench", 10**6, args.batch, args.size, 1e-4, 1e-4)
    fast = torch.cuda.is_available()
    config = TrainConfig(
        pool=(args.pool,), out=Path("runs/bench"), preset=args.preset, fused_norms=fast, graphs=fast, coarse=phase
    )
    trainer = Trainer(config)
    wanted = SampleConfig(image_size_px=args.size)
    batch = trainer.data.draw(wanted, args.batch)
    at_once = config.batches_at_once
    samples_s = median_s(lambda: trainer.data.draw(wanted, at_once * args.batch), args.rounds) / at_once
    step_s = median_s(lambda: trainer.train_step(batch, phase, 1e-4), args.rounds)
    steps = iter(range(10**6))

    def whole_steps() -> None:
        for _ in range(at_once):
            trainer.train_step(trainer.batches.next(next(steps)), phase, 1e-4)

    both_s = median_s(whole_steps, args.rounds) / at_once
    print(f"samples alone {args.batch / samples_s:.0f}/s, step alone {args.batch / step_s:.0f}/s")
    print(f"together {args.batch / both_s:.0f}/s: {max(0.0, 1 - step_s / both_s):.1%} of a step waits for samples")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    kinds = parser.add_subparsers(required=True)

    def kind(name: str, run: Callable[[argparse.Namespace], None], **options: object) -> None:
        sub = kinds.add_parser(name)
        sub.set_defaults(run=run)
        for option, default in {"rounds": 5, **options}.items():
            kept = type(default) if default is not None else Path
            sub.add_argument(f"--{option.replace('_', '-')}", type=kept, default=default)

    kind("views", views, size=512, views=3)
    kind("states", states, size=256, device="cuda" if torch.cuda.is_available() else "cpu")
    build_options = {"sources": "procedural", "objects": 24, "workers": cpu_count(), "gpus": 0, "workers_per_gpu": 1}
    kind("build", whole_build, backend="warp", **build_options)
    kind("training", training, pool=None, batch=128, size=128, preset="base")
    args = parser.parse_args()
    args.run(args)


if __name__ == "__main__":
    main()
