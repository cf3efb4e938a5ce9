"""What decides a training run: phases, losses, data. The defaults are those of the recipe ``base``."""

import math
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import tyro

from partrm.errors import ConfigError, PartRMError
from partrm.synthesis.sampler import SampleConfig


@dataclass(frozen=True)
class LossWeights:
    """Weights of the terms, chosen so that their gradients at the start of training are of one size.

    With an unbounded displacement term of weight 1.5 its gradient was 20 to 100 times that of the mask, and neither
    mask nor depth was learned: 430 000 samples left the depth error where 2 000 had it.
    """

    distance: float = 10.0
    """Robust error of ray distances on the surface, canonical units."""
    point: float = 1.5
    """Mean absolute error of surface Gaussians' centres, summed over coordinates."""
    opacity: float = 0.5
    rgb: float = 1.0
    shape: float = 0.0
    """Relative error of covariances against discs on the true surface."""
    mask: float = 4.0
    """Class-balanced cross-entropy of the moving part."""
    dice: float = 1.5
    displacement: float = 3.0
    """Robust error of the part's displacements over their mean size; with 0.5 they learn far more slowly than the
    mask; 3.0 rules the other terms' gradients during the first thousands of steps from random weights."""
    joint_type: float = 0.6
    """Cross-entropy of the part's votes on the joint's type."""
    axis: float = 1.5
    """Distance of the voted axis from the true unit vector."""
    offset_to_axis: float = 5.0
    """Robust distance of the voted from the true nearest point of a revolute axis, canonical units."""
    angle: float = 0.6
    """Robust error of a revolute joint's angle, radians."""
    carried: float = 2.0
    """Robust error of the part carried by the joint that all votes make together, over its mean displacement: what
    `partrm eval` calls the motion error."""
    absent_views: float = 0.35
    """Weight of views that the network does not see, against those that it sees."""
    image: float = 0.0
    """Appearance stage: squared error of rendered colour."""
    image_log: float = 0.5
    """Appearance stage: natural logarithm of each image's mean squared error, so its PSNR: of ``image``'s gradient the
    worst quarter of the images has half. 0.5 weighs an image of 22 dB as 60 of ``image`` does."""
    alpha: float = 5.0
    similarity: float = 1.0
    """Appearance stage: 1 - SSIM."""


class TrainingError(PartRMError):
    """Training that must stop; the message says at which step and why."""


@dataclass(frozen=True)
class Phase:
    """One stretch of training with one image size and one set of losses."""

    name: str
    steps: int
    batch: int
    """Samples a step and process."""
    image_size_px: int
    lr: float
    """Peak learning rate; every phase warms up briefly and falls to ``lr_end`` by a cosine."""
    lr_end: float
    appearance: bool = False
    """Add renders of source and target state to the motion terms."""
    novel_views: int = 1
    """Views, of either state, whose renders are compared; appearance only."""
    novel_size_px: int = 160
    """Side of their images: as large as results are looked at, for the rasterizer's blur hides gaps in small ones."""
    warmup: int = 200
    """Steps until the peak learning rate, a tenth of the phase at most."""
    view_odds: tuple[float, ...] = (0.6, 0.1, 0.1, 0.2)
    """How often 1, 2, 3 and 4 input views are present."""

    def __post_init__(self) -> None:
        """Refuse numbers of which no phase can be made.

        Raises:
            ConfigError: the first one out of its range.
        """
        ranges: dict[str, tuple[int | float, int | float]] = {
            "steps": (0, 10**9), "batch": (1, 2**20), "image_size_px": (16, 1024), "lr": (0.0, 1e30),
            "lr_end": (0.0, 1e30), "novel_views": (1, 64), "novel_size_px": (16, 2048), "warmup": (0, 10**9),
        }  # fmt: skip
        _require_ranges(self, ranges, f"--{self.name}.")
        odds = self.view_odds
        if not 1 <= len(odds) <= 4 or not all(math.isfinite(x) and x >= 0 for x in odds) or not sum(odds) > 0:
            raise ConfigError(f"--{self.name}.view-odds {odds}: give 1 to 4 numbers of 0 or more, not all 0")


SHARES = (1e-6, 1e6)
"""Least and greatest share of a pool, relative to the others."""


def _require_ranges(config: object, ranges: dict[str, tuple[int | float, int | float]], prefix: str) -> None:
    """Refuse what lies outside of its range, or is no number."""
    for name, (least, most) in ranges.items():
        value = getattr(config, name)
        if not least <= value <= most:
            raise ConfigError(f"{prefix}{name.replace('_', '-')} {value}: give {least:g} to {most:g}")


@dataclass(frozen=True)
class NetworkChanges:
    """What a run changes of a preset's network (:class:`partrm.model.network.NetworkConfig`)."""

    layers: int = 2
    """1: the surface that each pixel shows; 2: what stays and the dragged part, each whole."""
    down_channels: tuple[int, ...] = ()
    """Width of each level, multiples of 32, as many as the preset has; empty: the preset's."""

    def __post_init__(self) -> None:
        """Refuse what no network has.

        Raises:
            ConfigError: another number of layers, or widths that are no multiples of 32.
        """
        if self.layers not in (1, 2):
            raise ConfigError(f"--network.layers {self.layers}: give 1 or 2")
        if not all(type(width) is int and width > 0 and width % 32 == 0 for width in self.down_channels):
            raise ConfigError(f"--network.down-channels {self.down_channels}: give multiples of 32")


@dataclass(frozen=True)
class TrainConfig:
    """Everything that decides a run; stored in its folder."""

    pool: tyro.conf.Suppress[tuple[Path, ...]]
    """Packed pools of training objects (``partrm data pool``), files or folders of shards."""
    out: tyro.conf.Suppress[Path]
    """Run folder: config, log, TensorBoard, checkpoint."""
    pool_shares: tyro.conf.Suppress[tuple[float, ...]] = ()
    """Share of the samples from each of several pools, relative to the others; empty: every object equally often."""
    pool_steps: int = 0
    """Hold one of the pools' files at a time, each for so many steps, where all are more than the memory; 0: all."""
    val_pools: tuple[Path, ...] = ()
    """Pools of held-out objects, watched during training."""
    preset: str = "base"
    """``base`` or ``tiny``."""
    network: NetworkChanges = field(default_factory=NetworkChanges)
    init: str | None = None
    """Weights to start from, with a fresh optimizer: ``base`` or a checkpoint folder."""
    resume: bool = False
    """Go on from the run folder's checkpoint, exactly."""
    max_minutes: float = math.inf
    """Stop, with a checkpoint, after this long."""
    seed: int = 0
    device: Literal["auto", "cpu"] = "auto"
    compile: bool = False
    """torch.compile the U-Net's blocks."""
    fused_norms: bool = False
    """Norms of CUDA tensors by Triton kernels that take them as they lie. Not together with ``compile``."""
    graphs: bool = False
    """Replay the network's passes as CUDA graphs, so that Python launches few kernels. Not with ``compile``."""
    batches_at_once: int = 4
    """Batches made together, with the same number of input views; fewer kernels to launch for each."""
    ema: float = 0.999
    weight_decay: float = 0.05
    clip: float = 1.0
    log_every: int = 50
    validate_every: int = 1000
    val_batches: int = 6
    checkpoint_minutes: float = 2.0
    weights: LossWeights = field(default_factory=LossWeights)
    coarse: Phase = Phase("coarse", 9000, 128, 128, 4e-4, 1.2e-4)
    fine: Phase = Phase("fine", 3000, 64, 128, 2.5e-4, 6e-5)
    appearance: Phase = Phase("appearance", 6500, 64, 128, 2.5e-4, 1e-5, appearance=True)

    def __post_init__(self) -> None:
        """Refuse what contradicts itself.

        Raises:
            ConfigError: shares that do not fit the pools, or ways to be fast that exclude each other.
        """
        ranges: dict[str, tuple[int | float, int | float]] = {
            "max_minutes": (0.0, math.inf), "checkpoint_minutes": (0.0, math.inf), "seed": (0, 2**31),
            "batches_at_once": (1, 4096), "ema": (0.0, 1.0), "weight_decay": (0.0, 10.0), "clip": (1e-9, math.inf),
            "pool_steps": (0, 10**9), "log_every": (1, 10**9), "validate_every": (1, 10**9), "val_batches": (1, 10**6),
        }  # fmt: skip
        _require_ranges(self, ranges, "--")
        for name, weight in vars(self.weights).items():
            if not (math.isfinite(weight) and weight >= 0):
                raise ConfigError(f"--weights.{name.replace('_', '-')} {weight}: give 0 or more")
        shares, (least, most) = self.pool_shares, SHARES
        if shares and (len(shares) != len(self.pool) or not all(least <= share <= most for share in shares)):
            raise ConfigError(f"--pool-shares {shares}: one number, {least:g} to {most:g}, for each of the pools")
        if self.device not in ("auto", "cpu"):
            raise ConfigError(f"--device {self.device}: give auto or cpu")
        if not all(isinstance(path, Path) for path in self.val_pools):
            raise ConfigError(f"--val-pools {self.val_pools}: give files or folders")
        if self.pool_shares and self.pool_steps:
            raise ConfigError("--pool-steps gives every file as many steps: leave --pool-shares out")
        if self.compile and (self.fused_norms or self.graphs):
            raise ConfigError("fused norms and graphs cannot be compiled: leave --compile out, or both of them")

    @property
    def phases(self) -> tuple[Phase, ...]:
        return tuple(p for p in (self.coarse, self.fine, self.appearance) if p.steps > 0)


def phase_at(config: TrainConfig, step: int) -> tuple[Phase, int]:
    """The phase of a global step and the step within it."""
    for phase in config.phases:
        if step < phase.steps:
            return phase, step
        step -= phase.steps
    raise IndexError(step)


def learning_rate(phase: Phase, step: int) -> float:
    """Linear warm-up, then a cosine from ``lr`` to ``lr_end`` over the phase."""
    warm = min(phase.warmup, max(1, phase.steps // 10))
    if step < warm:
        return phase.lr * (step + 1) / warm
    progress = (step - warm) / max(1, phase.steps - warm)
    return phase.lr_end + 0.5 * (phase.lr - phase.lr_end) * (1 + math.cos(math.pi * progress))


def sample_config(phase: Phase, views: int) -> SampleConfig:
    """What the phase's batches hold."""
    novel = phase.novel_views if phase.appearance else 0
    return SampleConfig(phase.image_size_px, views, novel_views=novel, novel_size_px=phase.novel_size_px)
