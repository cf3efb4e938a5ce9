"""Ablations at equal budget: every variant trains for the same GPU seconds on the same stream of samples, then scores.

    python benchmarks/ablations.py --pool pool.npz --val-pools val.npz real.npz --out runs/ablations --gpus 2
    python benchmarks/ablations.py --pool pool.npz --val-pools val.npz --out runs/two --only both peer --seconds 120
    torchrun --nproc-per-node 2 benchmarks/ablations.py --pool pool.npz --val-pools val.npz --out runs/ddp

The same command again goes on where it was cut off (``--stop-after`` ends it in time); ``ablations.md`` and
``ablations.json`` in the run's folder hold what is done. ``--gpus 2`` trains two variants at a time, one a GPU; under
torchrun all processes train one variant together. Seconds are turned into steps by a short measurement of each variant
on the spot, so that learning rates fall to their ends. docs/ablations.md explains the rows.
"""

import argparse
import dataclasses
import gc
import json
import math
import os
import signal
import subprocess
import sys
import time
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import torch
from ablation_report import write_report
from ablation_scores import Held, score_weights
from accelerate import Accelerator
from accelerate.utils import broadcast_object_list

from partrm.data.dataset import MaterialSampler, ObjectPool
from partrm.model.checkpoints import save_checkpoint
from partrm.model.network import PRESETS, STRIDE
from partrm.train import NetworkChanges, Phase, TrainConfig, Trainer, TrainingError, load_pool_for

MOTION_SHARE = 0.7
"""Of the budget, for the motion stage where a variant has both."""

ONE_MAP_SIDE = 32
"""Cells a side of the one map that the single-scale variant has (the paper's ablation)."""

CALIBRATION = (4, 8)
"""Steps before, and during, the measurement of a variant's speed."""

OVERTIME = 1.2
"""A variant that takes more than this share of its budget is stopped."""

FOUR_VIEWS = (0.0, 0.0, 0.0, 1.0)


@dataclass(frozen=True)
class Variant:
    """One row of the table."""

    title: str
    motion: float = MOTION_SHARE
    """Share of the budget for the motion stage; the appearance stage has the rest."""
    motion_terms: bool = True
    """Whether the appearance stage keeps the motion terms in its loss."""
    one_map: bool = False
    """Drags enter at the level of 32² cells alone."""
    changes: NetworkChanges = field(default_factory=NetworkChanges)
    peer: bool = False
    four_views: bool = False
    """All input views always present in training."""
    width: float = 1.0
    """Of the levels, against the preset's."""


VARIANTS = {
    "both": Variant("motion stage, then appearance stage"),
    "motion": Variant("motion stage only", motion=1.0),
    "appearance": Variant("appearance stage only: renders teach everything", motion=0.0, motion_terms=False),
    "joined": Variant("one stage: motion and appearance terms from the start", motion=0.0),
    "one-scale": Variant("drag maps at one scale, 32²", one_map=True),
    "raw-drags": Variant(
        "raw-pixel drag features, transposed maps", changes=NetworkChanges(drag_positions="raw_pixels")
    ),
    "state-head": Variant("state head", changes=NetworkChanges(head="state")),
    "no-votes": Variant("without votes on the joint", changes=NetworkChanges(joint_votes=False)),
    "four-views": Variant("as `both`, trained with all four views", four_views=True),
    "narrow": Variant("half as wide", width=0.5),
    "wide": Variant("one and a half times as wide", width=1.5),
    "peer": Variant("reference architecture, its own losses, trained with all four views", peer=True, four_views=True),
}


def main() -> None:
    args = parse()
    deadline = time.monotonic() + 60 * args.stop_after
    names = [name for name in VARIANTS if not args.only or name in args.only]
    failed = False
    if args.gpus > 1:
        failed = spread(args, names)
    else:
        run_all(args, names, deadline)
    if int(os.environ.get("RANK", "0")) == 0 and not args.part:
        print(write_report(args.out, list(VARIANTS)))
        left = [name for name in names if not (args.out / name / "result.json").is_file()]
        if left:
            print(f"not done yet: {', '.join(left)}; the same command goes on", flush=True)
    sys.exit(1 if failed else 0)


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pool", type=Path, required=True, help="packed pool of training objects")
    parser.add_argument("--val-pools", type=Path, nargs="+", required=True, help="pools of held-out objects")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--preset", choices=sorted(PRESETS), default="base")
    parser.add_argument("--size", type=int, help="side of the images, px (128; tiny: 32)")
    parser.add_argument("--batch", type=int, help="samples a step and process, motion stage (128; tiny: 2)")
    parser.add_argument("--looks-batch", type=int, help="the same, appearance stage (half of --batch)")
    parser.add_argument("--lr", type=float, default=5e-4)
    parser.add_argument("--seconds", type=float, default=240.0, help="training time of each variant")
    parser.add_argument("--steps", type=int, help="equal steps instead of equal seconds")
    parser.add_argument("--samples", type=int, default=96, help="held-out samples of each pool and setting")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", nargs="+", choices=list(VARIANTS), metavar="NAME", help=", ".join(VARIANTS))
    parser.add_argument("--gpus", type=int, default=1, help="train that many variants at a time, one a GPU")
    parser.add_argument("--stop-after", type=float, default=math.inf, metavar="MINUTES", help="stop in time, resumable")
    parser.add_argument("--part", action="store_true", help=argparse.SUPPRESS)  # one of several: leave the report
    parser.add_argument("--compile", action="store_true")
    parser.add_argument("--fused-norms", action="store_true")
    parser.add_argument("--graphs", action="store_true", help="CUDA graphs for all rows but the peer, which has none")
    parser.add_argument("--device", choices=("auto", "cpu"), default="auto")
    args = parser.parse_args()
    small = args.preset == "tiny"
    args.size = args.size or (32 if small else 128)
    args.batch = args.batch or (2 if small else 128)
    args.looks_batch = args.looks_batch or max(1, args.batch // 2)
    missing = [str(path) for path in (args.pool, *args.val_pools) if not path.is_file()]
    if missing:
        parser.error(f"{', '.join(missing)}: no such pool; make one with python -m partrm.data.pool build")
    if args.gpus > 1 and "RANK" in os.environ:
        parser.error("--gpus trains one variant a GPU by itself: give it without torchrun")
    return args


def settings_of(args: argparse.Namespace) -> dict[str, Any]:
    """What makes results comparable."""
    names = ("preset", "size", "batch", "looks_batch", "lr", "seconds", "steps", "samples", "seed")
    chosen = {name: getattr(args, name) for name in (*names, "compile", "fused_norms", "graphs")}
    pools = {"pool": args.pool.name, "val_pools": [path.name for path in args.val_pools]}
    return chosen | pools | ({"seconds": None} if args.steps else {})


def spread(args: argparse.Namespace, names: list[str]) -> bool:
    """One process a GPU, each with a share of the variants; whether one failed."""
    argv = without_option(sys.argv[1:], "--gpus", "--only")
    visible = os.environ.get("CUDA_VISIBLE_DEVICES") or ",".join(map(str, range(args.gpus)))
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that the processes below end with this one
    jobs: list[subprocess.Popen] = []
    pending = [name for name in names if not done_before(args, name)]
    gpus = visible.split(",")[: min(args.gpus, len(pending))]
    for index, gpu in enumerate(gpus):
        environment = os.environ | {"CUDA_VISIBLE_DEVICES": gpu}
        command = [sys.executable, __file__, *argv, "--part", "--only", *pending[index :: len(gpus)]]
        jobs.append(subprocess.Popen(command, env=environment))
    try:
        return any([job.wait() for job in jobs])
    finally:
        for job in jobs:
            job.terminate()


def without_option(argv: list[str], *options: str) -> list[str]:
    """Arguments without some options and their values."""
    kept, inside = [], False
    for word in argv:
        inside = word.split("=")[0] in options or (inside and not word.startswith("--"))
        if not inside:
            kept.append(word)
    return kept


def agreed(value: Any) -> Any:
    """What the main process says."""
    return broadcast_object_list([value])[0] if torch.distributed.is_initialized() else value


def run_all(args: argparse.Namespace, names: list[str], deadline: float) -> None:
    """Train and score the variants that are not done yet, until the deadline; the first gets on in any case."""
    args.out.mkdir(parents=True, exist_ok=True)
    device = Accelerator(cpu=args.device == "cpu", mixed_precision="no").device
    pending = agreed([name for name in names if not done_before(args, name)])
    if not pending:
        return
    data = load_pool_for((args.pool,), device)
    for name in pending:
        if name != pending[0] and agreed(time.monotonic() > deadline):
            return
        started = time.perf_counter()
        print(f"== {name}: {VARIANTS[name].title}", flush=True)
        run_variant(args, name, data, deadline)
        print(f"== {name}: {time.perf_counter() - started:.0f} s in all", flush=True)


def done_before(args: argparse.Namespace, name: str) -> bool:
    """Whether the folder holds this variant's result.

    Raises:
        SystemExit: it is one of other settings.
    """
    for file in ("result.json", "plan.json"):
        path = args.out / name / file
        if path.is_file():
            earlier = json.loads(path.read_text(encoding="utf-8"))["settings"]
            if earlier != json.loads(json.dumps(settings_of(args))):
                sys.exit(f"{path}: of other settings ({earlier}); give another --out")
            if file == "result.json":
                return True
    return False


def run_variant(args: argparse.Namespace, name: str, data: tuple[ObjectPool, MaterialSampler], deadline: float) -> None:
    """Plan, train (or go on) and score one variant; leaves ``result.json`` unless the time is up."""
    folder = args.out / name
    steps = plan(args, name, data)
    config = train_config(args, name, folder, steps)
    resume = (folder / "checkpoint-0.pt").is_file()
    trainer = Trainer(dataclasses.replace(config, resume=resume), data)
    total, budget = sum(steps), math.inf if args.steps else OVERTIME * args.seconds
    status = "done"
    left = agreed(min(deadline - time.monotonic(), budget - trainer.seconds))
    if trainer.step < total and agreed(trainer.seconds < budget):
        trainer.config = dataclasses.replace(trainer.config, max_minutes=max(left, 0.0) / 60)
        try:
            trainer.run()
        except TrainingError as error:
            status = f"diverged ({error})"
        if status == "done" and trainer.step < total:
            if agreed(trainer.seconds < budget):
                return
            status = f"stopped at step {trainer.step} of {total}"
    facts = {
        "name": name,
        "title": VARIANTS[name].title,
        "settings": settings_of(args),
        "gives_part": not VARIANTS[name].peer and VARIANTS[name].changes.head == "articulated",
        "date": datetime.now(UTC).date().isoformat(),
        "steps": {"motion": steps[0], "appearance": steps[1], "taken": trainer.step},
        "samples_seen": trainer.samples_seen,
        "seconds": round(trainer.seconds, 1),
        "gpu_seconds": round(trainer.seconds * trainer.accelerator.num_processes, 1),
        "parameters": sum(p.numel() for p in trainer.network.parameters()),
        **{key: trainer.card()[key] for key in ("device", "torch")},
    }
    main_process, wait, device = trainer.accelerator.is_main_process, trainer.accelerator, trainer.device
    if main_process and not status.startswith("diverged"):
        save_checkpoint(trainer.averaged, trainer.network.config, folder / "weights", trainer.card())
    del trainer
    free_memory()
    if main_process:
        held = Held(tuple(args.val_pools), args.samples, 32, args.size)
        scores: dict[str, Any] = {}
        if not status.startswith("diverged"):
            try:
                scores = score_weights(folder / "weights", held, device)
            except ValueError as error:
                status = f"diverged ({error})"
        write_json(folder / "result.json", facts | {"status": status, "scores": scores})
    wait.wait_for_everyone()


def plan(args: argparse.Namespace, name: str, data: tuple[ObjectPool, MaterialSampler]) -> tuple[int, int]:
    """Steps of the motion and of the appearance stage; measured once, then kept in ``plan.json``."""
    path, share = args.out / name / "plan.json", VARIANTS[name].motion
    if path.is_file():
        motion, appearance = json.loads(path.read_text(encoding="utf-8"))["steps"]
        return motion, appearance
    rates: list[float] = []
    if args.steps:
        motion = round(share * args.steps)
        steps = (motion, args.steps - motion)
    else:
        wanted = [(share, (1, 0)), (1 - share, (0, 1))]
        rates = [measured_rate(args, name, data, which) if part > 0 else 0.0 for part, which in wanted]
        counts = [max(1, int(args.seconds * p * r)) if p > 0 else 0 for (p, _), r in zip(wanted, rates, strict=True)]
        motion, appearance = agreed(counts)
        steps = (motion, appearance)
    path.parent.mkdir(parents=True, exist_ok=True)
    if int(os.environ.get("RANK", "0")) == 0:
        write_json(path, {"steps": steps, "steps_per_second": rates, "settings": settings_of(args)})
    return steps


def measured_rate(
    args: argparse.Namespace, name: str, data: tuple[ObjectPool, MaterialSampler], which: tuple[int, int]
) -> float:
    """Steps a second of one stage, on a throw-away copy of the run."""
    warm, timed = CALIBRATION
    count = warm + timed + 1
    config = train_config(args, name, args.out / name / "calibration", (count * which[0], count * which[1]))
    trainer = Trainer(config, data)
    (phase,) = config.phases
    started = 0.0
    for step in range(warm + timed):
        if step == warm:
            synchronise(trainer.device)
            started = time.perf_counter()
        trainer.train_step(trainer.batches.next(step), phase, 1e-6)
    synchronise(trainer.device)
    seconds = time.perf_counter() - started
    trainer.log.close()
    del trainer
    free_memory()
    return timed / seconds


def free_memory() -> None:
    """Give back what a run held; its parts refer to each other."""
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()


def synchronise(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def train_config(args: argparse.Namespace, name: str, out: Path, steps: tuple[int, int]) -> TrainConfig:
    """The run of a variant; ``partrm train`` takes the same by flags."""
    variant = VARIANTS[name]
    odds = FOUR_VIEWS if variant.four_views else Phase.view_odds
    changes = variant.changes
    if variant.one_map:
        finest = args.size // STRIDE
        levels = range(len(PRESETS[args.preset].down_channels))
        level = min(levels, key=lambda i: abs((finest >> i) - ONE_MAP_SIDE))
        changes = dataclasses.replace(changes, drag_levels=(level,))
    if variant.width != 1:
        widths = (variant.width * channels for channels in PRESETS[args.preset].down_channels)
        changes = dataclasses.replace(changes, down_channels=tuple(32 * max(1, round(width / 32)) for width in widths))
    peer = "peer" if args.preset == "base" else "smallest-peer"
    motion = Phase("motion", steps[0], args.batch, args.size, args.lr, args.lr / 5 if steps[1] else args.lr / 50)
    looks = Phase(
        "appearance",
        steps[1],
        args.looks_batch,
        args.size,
        args.lr / 5 if steps[0] else args.lr,
        args.lr / 50,
        appearance=True,
        motion=variant.motion_terms,
    )
    return TrainConfig(
        pool=(args.pool,),
        out=out,
        preset=peer if variant.peer else args.preset,
        network=changes,
        seed=args.seed,
        device=args.device,
        compile=args.compile,
        fused_norms=args.fused_norms,
        graphs=args.graphs and not variant.peer,
        log_every=20,
        checkpoint_minutes=1.0,
        coarse=dataclasses.replace(motion, view_odds=odds),
        fine=Phase("none", 0, 1, args.size, args.lr, args.lr),
        looks=dataclasses.replace(looks, view_odds=odds),
    )


def write_json(path: Path, content: dict[str, Any]) -> None:
    """Complete or not at all."""
    part = path.with_suffix(".part")
    part.write_text(json.dumps(content, indent=1), encoding="utf-8")
    part.replace(path)


if __name__ == "__main__":
    main()
