"""``partrm train``: both stages of training, resumable and limited in time."""

from typing import Annotated

import tyro

from partrm.training.config import TrainConfig

DESCRIPTION = """Train a network on a packed pool of objects, in three phases: motion at 128 px, at 256 px, looks.

Make a pool first:
  python -m partrm.synthesis.mesh_pool build --out pool.npz --per-category 140

The run folder holds log.jsonl, a TensorBoard log, the checkpoint and, at every stop, weights/ for --model.

Examples:
  partrm train --pool pool.npz --out runs/a --max-minutes 9
  partrm train --pool pool.npz --out runs/a --max-minutes 9 --resume
  torchrun --nproc-per-node 2 -m partrm train --pool pool.npz --out runs/b --fused-norms --graphs
  partrm train --pool pool.npz --out runs/c --init runs/a/weights --coarse.steps 0
  partrm train --pool pool.npz --out runs/d --looks.steps 0 --network.head state
"""


def train(config: Annotated[TrainConfig, tyro.conf.arg(name="")]) -> None:
    """Run or resume a training."""
    from partrm.commands import require_extra

    require_extra("train", "accelerate", "warp")

    from partrm.training.trainer import train as run

    run(config)
