"""Train the small network that tells parts and joints apart without a drag, beside a large one that stays as it is.

    python benchmarks/part_network.py --pool base_train.npz storage_train.npz kinds_train.npz --pool-shares .4 .3 .3
        --val-pools val.npz real.npz storage_val.npz kinds_unseen.npz --batch 192 --steps 7000 --out parts.safetensors

Pools as for ``partrm train``; pictures without drags are drawn from them as that draws its own, with more closed
joints. ``log.jsonl`` beside ``--out`` gets losses, and at the end what the averaged weights say of the held-out pools.
docs/export.md tells what it is used for.
"""

import argparse
import json
import math
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import torch
from jaxtyping import Float
from safetensors.torch import save_file
from torch import Tensor
from torch.nn.functional import binary_cross_entropy_with_logits, smooth_l1_loss

from partrm.geometry.joints import JointType
from partrm.model.checkpoints import load_model
from partrm.model.network import PartRMNetwork
from partrm.model.part_network import (
    DISPLACEMENT_SCALE,
    MIDDLE_SCALE,
    PartAnswer,
    PartNetwork,
    features_without_drags,
    shape_of_features,
)
from partrm.model.unet import use_fused_norms
from partrm.synthesis.mesh_pool import ObjectPool
from partrm.synthesis.part_samples import PartSamples, PartTargets, make_part_samples
from partrm.synthesis.sampler import MaterialSampler, SampleConfig
from partrm.synthesis.scenarios import TRAINING_SCENARIOS
from partrm.training.trainer import load_pool_for

CHUNK = 4
"""Batches whose pictures are made at once."""

CONFIG = SampleConfig(image_size_px=128, scenario=replace(TRAINING_SCENARIOS, closed_probability=0.65))

MIDDLING = 400
"""Cells of a part whose cells count 1; those of smaller parts count more."""

MORE_PARTS = 3.0
"""How many times as often objects of several movable parts are drawn."""

HINGE_SHARE = 0.7
"""Of moving cells, about; slides count more by it."""

KEEP = 0.999
"""Of the averaged weights, a step."""


def main() -> None:
    """Run it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pool", type=Path, nargs="+", required=True)
    parser.add_argument("--pool-shares", type=float, nargs="+", default=())
    parser.add_argument("--val-pools", type=Path, nargs="*", default=())
    parser.add_argument("--model", default="base")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--steps", type=int, default=9000)
    parser.add_argument("--batch", type=int, default=128)
    parser.add_argument("--lr", type=float, default=8e-4)
    parser.add_argument("--max-minutes", type=float, default=math.inf, help="the schedule ends by then at the latest")
    parser.add_argument("--val-samples", type=int, default=512)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--fused-norms", action="store_true")
    parser.add_argument("--out", type=Path, required=True)
    arguments = parser.parse_args()
    torch.manual_seed(arguments.seed)
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = True
    torch.backends.cudnn.benchmark = True
    model = load_model(arguments.model, arguments.device)
    large = model.articulated.requires_grad_(False)
    small = PartNetwork(*shape_of_features(large.config)).to(arguments.device)
    small = small.to(memory_format=torch.channels_last)  # pyright: ignore[reportCallIssue]
    use_fused_norms(large, arguments.fused_norms)
    arguments.out.parent.mkdir(parents=True, exist_ok=True)

    def save(averaged: dict[str, Tensor]) -> None:
        stored = {name: value.half().contiguous().cpu() for name, value in averaged.items()}
        save_file(stored, str(arguments.out), metadata={"fitted_to": model.hash})

    averaged = fit(small, large, arguments, save)
    save(averaged)
    small.load_state_dict(averaged)
    for pool in arguments.val_pools:
        row = {"pool": pool.name} | watched(small, large, pool, arguments.val_samples)
        note(arguments.out, row)


def note(out: Path, row: dict) -> None:
    """One line of the log, shown too."""
    with (out.parent / "log.jsonl").open("a", encoding="utf-8") as log:
        log.write(json.dumps(row) + "\n")
    print(json.dumps(row), flush=True)


def fit(
    small: PartNetwork, large: PartRMNetwork, arguments: argparse.Namespace, save: Callable[[dict[str, Tensor]], None]
) -> dict[str, Tensor]:
    """The averaged weights after all steps; ``save`` gets them now and then."""
    device = torch.device(arguments.device)
    pool, materials = load_pool_for(arguments.pool, device, arguments.pool_shares)
    pool, generator = with_more_parts(pool), torch.Generator(device).manual_seed(1000 * arguments.seed)
    decayed = [p for p in small.parameters() if p.ndim > 1]
    free = [p for p in small.parameters() if p.ndim <= 1]
    optimizer = torch.optim.AdamW([{"params": decayed, "weight_decay": 0.05}, {"params": free, "weight_decay": 0.0}])
    averaged = {name: value.detach().clone().float() for name, value in small.state_dict().items()}
    began, minutes = time.perf_counter(), 0.0
    made: list[PartSamples] = []
    for step in range(1, arguments.steps + 1):
        if not made:
            many = drawn(pool, materials, arguments.batch * CHUNK, generator)
            made = [many[i * arguments.batch : (i + 1) * arguments.batch] for i in range(CHUNK)]
        rate = arguments.lr * schedule(step, max(step / arguments.steps, minutes / arguments.max_minutes))
        samples = made.pop()
        found = losses(answer_to(small, large, samples), samples.targets)
        norm = stepped(small, optimizer, torch.stack(list(found.values())).sum(), rate)
        with torch.no_grad():
            for name, value in small.state_dict().items():
                averaged[name].lerp_(value.float(), 1 - min(KEEP, step / (step + 10)))
        minutes = (time.perf_counter() - began) / 60
        over = step == arguments.steps or minutes > arguments.max_minutes
        if step % 100 == 0 or over:
            row = {
                "step": step,
                "seconds": round(60 * minutes, 1),
                "per_s": round(step * arguments.batch / minutes / 60),
            }
            note(arguments.out, row | {"lr": rate, "norm": norm} | {k: round(v.item(), 4) for k, v in found.items()})
            if not math.isfinite(norm):
                raise SystemExit("a gradient that is not finite")
        if step % 2000 == 0:
            save(averaged)
        if over:
            break
    return averaged


def schedule(step: int, progress: float) -> float:
    """Share of the learning rate: a short rise, then a cosine's half to a hundredth."""
    return min(1.0, step / 300) * (0.01 + 0.99 * math.cos(math.pi / 2 * min(progress, 1)) ** 2)


def stepped(small: PartNetwork, optimizer: torch.optim.Optimizer, loss: Tensor, rate: float) -> float:
    """One step of the optimizer, if the gradient is finite; its norm."""
    for group in optimizer.param_groups:
        group["lr"] = rate
    optimizer.zero_grad(set_to_none=True)
    loss.backward()
    norm = float(torch.nn.utils.clip_grad_norm_(small.parameters(), 1.0).detach())
    if math.isfinite(norm):
        optimizer.step()
    return norm


def with_more_parts(pool: ObjectPool) -> ObjectPool:
    """The pool, of which objects of several movable parts are drawn more often."""
    several = ((pool.tables.joint_type != JointType.FIXED).sum(1) > 1).double()
    odds = torch.ones_like(several) if pool.odds is None else pool.odds.double()
    odds = odds * (1 + (MORE_PARTS - 1) * several)
    return replace(pool, odds=(odds / odds.sum()).float())


def drawn(pool: ObjectPool, materials: MaterialSampler, count: int, generator: torch.Generator) -> PartSamples:
    """Pictures of objects of a pool."""
    objects = pool.sample(count, generator)
    drawn_materials = materials(pool.roles[objects], generator)
    with torch.no_grad():
        return make_part_samples(pool.scene, pool.tables, objects, drawn_materials, CONFIG, generator)


def answer_to(small: PartNetwork, large: PartRMNetwork, samples: PartSamples) -> PartAnswer:
    """What the small network says, both in half precision on CUDA."""
    picture = samples.inputs.images[:, 0]
    with torch.autocast(picture.device.type, torch.bfloat16, enabled=picture.is_cuda):
        features, _ = features_without_drags(large, samples.inputs)
        return small(picture, features)


def losses(answer: PartAnswer, truth: PartTargets) -> dict[str, Float[Tensor, ""]]:
    """Weighted terms; their sum is the loss."""
    counts = truth.counts.float()
    sized = (MIDDLING / truth.cells.clamp(min=1)).sqrt().clamp(0.5, 4.0)
    on = torch.where(truth.moves, sized, 0.0)
    weight = torch.where(truth.moves, sized, counts)
    total, parts = weight.sum().clamp(min=1), on.sum().clamp(min=1)
    hinge = on * truth.hinge
    even = hinge * 0.5 / HINGE_SHARE + (on - hinge) * 0.5 / (1 - HINGE_SHARE)

    def told(logit: Tensor, goal: Tensor) -> Tensor:
        return binary_cross_entropy_with_logits(logit, goal.float(), reduction="none")

    def off(value: Tensor, goal: Tensor, scale: float, knee: float) -> Tensor:
        return smooth_l1_loss(value / scale, goal / scale, reduction="none", beta=knee).sum(-1)

    return {
        "movable": (told(answer.movable_logit, truth.moves) * weight).sum() / total,
        "middle": (told(answer.middle_logit, truth.middle) * (1 + 9 * truth.middle) * counts).sum() / counts.sum(),
        "to_middle": (off(answer.to_middle, truth.to_middle, MIDDLE_SCALE, 0.05) * on).sum() / parts,
        "hinge": 0.5 * (told(answer.hinge_logit, truth.hinge) * even).sum() / even.sum().clamp(min=1),
        "axis": 0.5 * (off(answer.axis, truth.axis, 1.0, 0.1) * on).sum() / parts,
        "to_axis": 2.0 * (off(answer.to_axis, truth.to_axis, 1.0, 0.03) * hinge).sum() / hinge.sum().clamp(min=1),
        "displacement": 0.5
        * (off(answer.displacement, truth.displacement, DISPLACEMENT_SCALE, 0.1) * on).sum()
        / parts,
    }


def watched(small: PartNetwork, large: PartRMNetwork, path: Path, count: int) -> dict[str, float]:
    """What it says of held-out pictures, cell by cell."""
    device = next(small.parameters()).device
    pool, materials = load_pool_for([path], device)
    generator, rows = torch.Generator(device).manual_seed(5), []
    for _ in range(max(1, count // 64)):
        samples = drawn(pool, materials, min(64, count), generator)
        with torch.no_grad():
            rows.append(scores(answer_to(small, large, samples), samples.targets))
    return {name: round(sum(r[name][0] for r in rows) / max(1.0, sum(r[name][1] for r in rows)), 4) for name in rows[0]}


def scores(answer: PartAnswer, truth: PartTargets) -> dict[str, tuple[float, float]]:
    """Sums and numbers of what is right of some pictures; parts of all sizes count alike."""
    said = (answer.movable_logit > 0) & truth.counts
    on = truth.moves
    weight = torch.where(on, 1 / truth.cells.clamp(min=1), 0.0)
    cosine = torch.nn.functional.cosine_similarity(answer.axis, truth.axis, dim=-1).abs()
    turns = on & truth.hinge

    def share(right: Tensor, where: Tensor) -> tuple[float, float]:
        return float((right * weight * where).sum()), float((weight * where).sum())

    overlap = float((said & on).sum()), float((said | on).sum())
    return {
        "iou": overlap,
        "recall": share(said.float(), on),
        "middle_within_2": share(((answer.to_middle - truth.to_middle).norm(dim=-1) < 2).float(), on),
        "type": share(((answer.hinge_logit > 0) == truth.hinge).float(), on),
        "axis_within_15": share((cosine > math.cos(math.radians(15))).float(), on),
        "to_axis_off": share((answer.to_axis - truth.to_axis).norm(dim=-1), turns),
    }


if __name__ == "__main__":
    main()
