"""The pools that a training draws from: all held as one, or one at a time where they are larger than the memory."""

import random
from collections.abc import Sequence
from functools import partial
from pathlib import Path

import torch

from partrm.procedural.materials import HOME_SHARE, sample_materials
from partrm.synthesis.mesh_pool import ObjectPool, PoolError, concatenated, load_pool, pool_odds
from partrm.synthesis.sampler import MaterialSampler, OnlineSamples


def pool_files(path: Path) -> list[Path]:
    """The files of a pool: itself, or those of a folder of shards, in the order of their names.

    Raises:
        PoolError: a folder without any.
    """
    if not path.is_dir():
        return [path]
    if files := sorted(path.glob("*.npz")):
        return files
    raise PoolError(f"{path}: a folder without pools (*.npz); make them with partrm data pool --shard-objects")


def load_pool_for(
    paths: Sequence[Path], device: torch.device, shares: Sequence[float] = ()
) -> tuple[ObjectPool, MaterialSampler]:
    """Packed pools on a device as one, and what draws its materials.

    Args:
        paths: of the pools, files or folders of shards.
        device: where they are drawn from.
        shares: share of the samples from each of them; empty: every object equally often.

    Raises:
        PoolError: a file that is no pool.
    """
    pools = [concatenated([load_pool(file, device) for file in pool_files(path)]) for path in paths]
    materials = partial(sample_materials, home_share=HOME_SHARE)
    return ObjectPool.from_pool(concatenated(pools), pool_odds(pools, shares) if shares else None), materials


class PoolTurns:
    """Lets samples be drawn from one of several files at a time, from each for so many steps.

    The order is drawn anew for every round. Of several processes each is at another place of it. A file is told from
    the step alone, so that a run that is resumed goes on with the one that it had.
    """

    def __init__(self, paths: Sequence[Path], steps: int, seed: int, process: int = 0) -> None:
        """
        Args:
            paths: of the pools, files or folders of shards.
            steps: of a turn.
            seed: of the order.
            process: number of this one.

        Raises:
            PoolError: a folder without pools, or a file that is missing.
        """
        self.files = [file for path in paths for file in pool_files(path)]
        if missing := [file for file in self.files if not file.is_file()]:
            raise PoolError(f"{missing[0]}: no such file")
        self.steps, self.seed, self.process = steps, seed, process
        self._held: Path | None = None

    def file_at(self, step: int) -> Path:
        """The file whose turn a step lies in."""
        round_, place = divmod(step // self.steps, len(self.files))
        order = random.Random(1_000_003 * self.seed + round_).sample(self.files, len(self.files))
        return order[(place + self.process) % len(self.files)]

    def first(self, device: torch.device) -> tuple[ObjectPool, MaterialSampler]:
        """What a training begins with; see :func:`load_pool_for`."""
        self._held = self.file_at(0)
        return load_pool_for([self._held], device)

    def let_draw(self, data: OnlineSamples, step: int) -> None:
        """Let ``data`` draw from the file of a step, and from none of the others.

        Raises:
            PoolError: a file that is no pool.
        """
        file, device = self.file_at(step), data.generator.device
        if file == self._held:
            return
        if device.type == "cuda":
            torch.cuda.synchronize(device)  # other streams may still draw from the last one
        del data.pool  # before the next one is read, so that never two are in memory
        data.pool, _ = load_pool_for([file], device)
        self._held = file
        if device.type == "cuda":
            torch.cuda.synchronize(device)
