"""``partrm train``: the phases of training, resumable and limited in time."""

from collections.abc import Callable
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Annotated

import tyro

from partrm.training.config import TrainConfig
from partrm.training.recipe import load_recipe
from partrm.training.run_log import Listener

DEFAULT_RECIPE = "base"

DESCRIPTION = """Train a network on packed pools of objects, in three phases: coarse and fine motion, appearance.

Make a pool first, of generated objects or of your own:
  partrm data pool procedural --out pool.npz --per-category 140
  partrm data pool mine.urdf yours.xml --out own.npz

The run folder holds log.jsonl, a TensorBoard log, the checkpoint and, at every stop, weights/ for --model.

Examples:
  partrm train --pool pool.npz --out runs/a --max-minutes 9
  partrm train --pool pool.npz --out runs/a --max-minutes 9 --resume
  partrm train --recipe base --pool pool.npz --out runs/a
  torchrun --nproc-per-node 2 -m partrm train --pool pool.npz --out runs/b --fused-norms --graphs
  partrm train --recipe mine.toml --pool pool.npz own.npz --pool-shares 1 3 --out runs/c
  partrm train --pool own.npz --out runs/d --init base --coarse.steps 0 --fine.steps 0 --appearance.steps 1000
"""


def _print_row(step: int, group: str, values: dict[str, float]) -> None:
    print(f"{step:6d} {group:10s} " + " ".join(f"{k} {v:.4g}" for k, v in values.items()), flush=True)


LISTENER = Listener(_print_row, lambda text: print(text, flush=True))
"""Prints what a training tells."""


def train(arguments: list[str]) -> Callable[..., None]:
    """The command with the defaults of the recipe that its arguments name.

    Raises:
        TrainingError: no such recipe, or a broken one.
    """
    defaults = TrainConfig(pool=(), out=Path(), **load_recipe(named_recipe(arguments)))

    def command(
        pool: tuple[Path, ...],
        out: Path,
        pool_shares: tuple[float, ...] = (),
        config: Annotated[TrainConfig, tyro.conf.arg(name="")] = defaults,
        recipe: str = DEFAULT_RECIPE,
    ) -> None:
        """Run or resume a training.

        Args:
            pool: packed pools of training objects (``partrm data pool``), files or folders of shards.
            out: run folder: config, log, TensorBoard, checkpoint.
            pool_shares: share of the samples from each of several pools, relative to the others; empty: every object
                equally often.
            config: of the run.
            recipe: where the other arguments' defaults come from: ``base`` or a .toml file like it.
        """
        from partrm.commands import require_extra

        require_extra("train", "accelerate", "warp")

        from partrm.training.trainer import train as run

        run(replace(config, pool=pool, out=out, pool_shares=pool_shares), LISTENER)

    return command


def named_recipe(arguments: list[str]) -> str:
    """What ``--recipe NAME`` or ``--recipe=NAME`` says among the arguments; the last counts."""
    named = DEFAULT_RECIPE
    for word, following in pairwise([*arguments, ""]):
        if word == "--recipe" and following:
            named = following
        elif word.startswith("--recipe="):
            named = word.partition("=")[2]
    return named
