"""Fit the head that says where parts are to the network's own features, on the CPU.

    python benchmarks/part_head.py --objects 400 --out src/partrm/inference/part_head.safetensors

Procedural objects from ``--seed`` on (training's seeds), half of them of the categories of several parts, each in two
pictures of random light; the network's features of a picture without drags, of some cells of each; then some epochs of
the small head alone. One object of sixteen is kept out to watch. docs/export.md tells what it is used for.
"""

import argparse
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import torch
from jaxtyping import Bool, Float
from part_scenes import MULTI_PART, Scene, pictured
from rich.console import Console
from rich.progress import track
from safetensors.torch import save_file
from torch import Tensor
from torch.nn.functional import avg_pool2d, binary_cross_entropy_with_logits, smooth_l1_loss

from partrm.geometry.drags import Drags
from partrm.geometry.framing import nominal_crops
from partrm.geometry.tensor_record import TensorRecord
from partrm.inference.part_head import (
    CENTRE_SCALE,
    DISPLACEMENT_SCALE,
    OUTPUTS,
    PartHead,
    cells_of,
    features_without_drags,
)
from partrm.model.checkpoints import load_model
from partrm.model.inputs import NetworkInput
from partrm.model.network import PartRMNetwork
from partrm.procedural import CATEGORIES, HELD_OUT, generate

SEED = 700_000
PICTURES = 2
"""Of each object."""

SIZE_PX, SIDE = 128, 64
CELLS = 220
"""Of each picture, at most; those that move are taken a little more often."""

BATCH, EPOCHS, RATE, NOISE = 1024, 5, 3e-3, 0.4
"""Noise is added to the features, in their standard deviations."""

KEPT_OUT = 16
MIDDLING = 400
"""Splats of a part whose cells count 1; those of smaller parts count more."""


@dataclass(frozen=True)
class Cells(TensorRecord):
    """Some cells of pictures."""

    features: Float[Tensor, "n width"]
    """Half precision."""
    movable: Float[Tensor, " n"]
    """Share of the cell that moves."""
    displacement: Float[Tensor, "n 3"]
    """In units of the head's outputs."""
    way: Float[Tensor, "n 2"]
    """To the middle of the part, likewise."""
    weight: Float[Tensor, " n"]
    watched: Bool[Tensor, " n"]
    """Of objects kept out."""


def main() -> None:
    """Run it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--objects", type=int, default=400)
    parser.add_argument("--seed", type=int, default=SEED)
    parser.add_argument("--model", default="base")
    parser.add_argument("--out", type=Path, required=True)
    arguments = parser.parse_args()
    model, generator = load_model(arguments.model, "cpu"), torch.Generator().manual_seed(0)
    cells = [
        cells_in(model.articulated, scene, index % KEPT_OUT == 0, generator)
        for index in track(range(arguments.objects), description="objects", console=Console(stderr=True))
        for scene in scenes_of(index, arguments.seed)
    ]
    head = fit(Cells.cat(cells))
    stored = {name: value.half().contiguous() for name, value in head.state_dict().items()}
    save_file(stored, str(arguments.out), metadata={"fitted_to": model.hash})


def scenes_of(index: int, seed: int) -> Iterator[Scene]:
    """The pictures of the object of one place, without those that show no part."""
    others = [category for category in CATEGORIES if category not in HELD_OUT]
    of = MULTI_PART if index % 2 == 0 else others
    obj = generate(of[index // 2 % len(of)], seed + index)
    generator = torch.Generator().manual_seed(seed + index)
    scenes = [pictured(obj, generator, SIZE_PX, SIDE, augment=True) for _ in range(PICTURES)]
    yield from (scene for scene in scenes if scene.parts)


def cells_in(network: PartRMNetwork, scene: Scene, watched: bool, generator: torch.Generator) -> Cells:
    """What the network makes of cells of a picture, and what the head should say."""
    drags = Drags(torch.zeros(1, 1, 2), torch.zeros(1, 1, 2), torch.zeros(1, 1).long(), torch.zeros(1, 1).bool())
    valid = torch.ones(1, 1, dtype=torch.bool)
    shown = NetworkInput(scene.picture[None, None], nominal_crops(1, SIZE_PX, "cpu"), valid, drags)
    features = cells_of(features_without_drags(network, shown)[0])[0].flatten(0, 1)
    middles = torch.arange(SIDE) + 0.5
    own = torch.stack(torch.meshgrid(middles, middles, indexing="xy"))
    way, weight = torch.zeros(2, SIDE, SIDE), torch.ones(1, SIDE, SIDE)
    for number in scene.owner.unique().tolist():
        if number >= 0:
            on = scene.owner == number
            way[:, on] = (own[:, on].mean(1, keepdim=True) - own[:, on]) / CENTRE_SCALE
            weight[0, on] = (MIDDLING / float(on.sum())) ** 0.5
    moves = (scene.owner >= 0).float()[None]
    movable = by_cell(moves)
    displacement = by_cell(scene.displacement.movedim(-1, 0) / DISPLACEMENT_SCALE * moves) / movable.clamp(min=0.25)
    way = by_cell(way * moves) / movable.clamp(min=0.25)
    shown_cells = (avg_pool2d(scene.picture[None, 3:], 2 * SIZE_PX // SIDE).flatten() > 0.5).nonzero()[:, 0]
    score = torch.rand(len(shown_cells), generator=generator) + 0.3 * (movable[shown_cells, 0] > 0)
    chosen = shown_cells[score.argsort(descending=True)[:CELLS]]
    return Cells(
        features[chosen].half(), movable[chosen, 0], displacement[chosen], way[chosen],
        by_cell(weight.clamp(0.5, 4.0))[chosen, 0], torch.full((len(chosen),), watched),
    )  # fmt: skip


def by_cell(values: Float[Tensor, "c side side"]) -> Float[Tensor, "cells c"]:
    """Means over cells of two by two splats."""
    return avg_pool2d(values[None], 2)[0].flatten(1).T


def losses(head: PartHead, cells: Cells, noise: float = 0.0) -> tuple[Tensor, Tensor, Tensor]:
    """Of moving or not, of the displacement, of the way to the middle."""
    features = cells.features.float()
    features = features + noise * head.deviation * torch.randn_like(features)
    said, moved, led = head(features).split(OUTPUTS, -1)
    on = cells.weight * cells.movable
    total = on.sum().clamp(min=1)
    told = binary_cross_entropy_with_logits(said[:, 0], cells.movable, reduction="none")
    return (
        (told * cells.weight).mean(),
        (smooth_l1_loss(moved, cells.displacement, reduction="none", beta=0.1).sum(1) * on).sum() / total,
        (smooth_l1_loss(led, cells.way, reduction="none", beta=0.05).sum(1) * on).sum() / total,
    )


def fit(cells: Cells) -> PartHead:
    """The head after all epochs."""
    torch.manual_seed(0)
    train, watched = cells[~cells.watched], cells[cells.watched]
    head, count = PartHead(cells.features.shape[1]), len(train.movable)
    head.mean.copy_(train.features.float().mean(0))
    head.deviation.copy_(train.features.float().std(0) + 1e-3)
    optimizer = torch.optim.AdamW(head.parameters(), weight_decay=0.2)
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, RATE, total_steps=EPOCHS * (count // BATCH) + 1, pct_start=0.1
    )
    for epoch in range(EPOCHS):
        order = torch.randperm(count)
        for first in range(0, count // BATCH * BATCH, BATCH):
            says, moves, leads = losses(head, train[order[first : first + BATCH]], NOISE)
            optimizer.zero_grad()
            (says + 0.7 * moves + 0.7 * leads).backward()
            optimizer.step()
            schedule.step()
        with torch.no_grad():
            text = ", ".join(f"{float(value):.3f}" for value in losses(head, watched))
        Console(stderr=True).print(f"epoch {epoch + 1}: {text}")
    return head


if __name__ == "__main__":
    main()
