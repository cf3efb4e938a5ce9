"""A training of seconds: a tiny network on one cabinet, and steps of it by one process or by several ranks."""

import dataclasses
import json
import os
import signal
import time
from pathlib import Path

import torch

from partrm.synthesis.mesh_pool import Pool, save_pool
from partrm.synthesis.sampler import OnlineSamples, SampleConfig
from partrm.training import trainer as training
from partrm.training.config import NetworkChanges, Phase, TrainConfig
from partrm.training.run_state import load_state
from partrm.training.trainer import Trainer, load_pool_for, train
from support.boxes import cabinet

NONE = Phase("none", 0, 1, 32, 1e-3, 1e-4)


def tiny(pool: Path, out: Path, steps: int, **changes) -> TrainConfig:
    coarse = Phase("coarse", steps, 2, 32, 1e-3, 1e-4, warmup=5)
    config = TrainConfig(
        pool=(pool,), out=out, preset="tiny", device="cpu", log_every=5, coarse=coarse, fine=NONE, appearance=NONE,
        network=NetworkChanges(down_channels=(32, 32)),
    )  # fmt: skip
    return dataclasses.replace(config, **changes)


def run_and_resume(folder: str) -> None:
    """By one of several ranks: a training in ``whole``, and one stopped and resumed in ``legs``; then :func:`steps`."""
    torch.set_num_threads(1)
    training.CLOCK_STEPS = 5
    pool = own_pool(Path(folder))
    for name, minutes, resume in (("whole", 99, False), ("legs", 0, False), ("legs", 99, True)):
        train(tiny(pool, Path(folder) / name, 7, max_minutes=minutes, resume=resume))
    steps(folder)


def run_and_die(folder: str) -> None:
    """By one of two ranks: the training ``whole`` of :func:`run_and_resume`, in which rank 1 dies.

    It does so where it should save step 6: rank 0 has done so then, rank 1 has step 4.
    """
    torch.set_num_threads(1)
    training.CLOCK_STEPS = 2
    out, save = Path(folder) / "torn", Trainer.save
    first, rank = os.environ["TORCHELASTIC_RESTART_COUNT"] == "0", os.environ["RANK"]

    def save_or_die(trainer: Trainer) -> None:
        while first and rank == "1" and trainer.step == 6:
            if load_state(out / "checkpoint-0.pt")["step"] == 6:
                os.kill(os.getpid(), signal.SIGKILL)
            time.sleep(0.01)
        save(trainer)

    Trainer.save = save_or_die
    train(tiny(own_pool(Path(folder)), out, 7, checkpoint_minutes=0.0))


def own_pool(out: Path) -> Path:
    """Of this rank."""
    out.mkdir(parents=True, exist_ok=True)
    pool = out / f"boxes-{os.environ.get('RANK', '0')}.npz"
    save_pool(Pool.from_objects([cabinet(), cabinet()]), pool)
    return pool


def steps(folder: str) -> None:
    """Steps on batches of which each rank has its share; leaves losses and weights in ``result.json``."""
    out, count, batch, rank = Path(folder), 4, 6, int(os.environ.get("RANK", "0"))
    pool = own_pool(out)
    trainer = Trainer(tiny(pool, out, count))
    data = OnlineSamples(*load_pool_for((pool,), trainer.device), seed=7)
    ranks, losses = trainer.accelerator.num_processes, []
    for step in range(count):
        drawn = data.draw(SampleConfig(image_size_px=32, views=1 + step % 4), 3 * batch)
        good = drawn.valid.nonzero()[:batch, 0]
        assert len(good) == batch
        mine = drawn[good[rank * batch // ranks : (rank + 1) * batch // ranks]]
        loss = trainer.train_step(mine, trainer.config.coarse, 1e-3)["loss"]
        losses.append(float(trainer.accelerator.reduce(loss, "mean")))
    if rank == 0:
        weights = torch.cat([w.flatten() for w in trainer.network.state_dict().values()])
        (out / "result.json").write_text(json.dumps({"losses": losses, "weights": weights.tolist()}))
    trainer.accelerator.wait_for_everyone()
    trainer.accelerator.end_training()
