"""Two-stage training (PartRM, section 3.4): motion, then appearance; resumable and limited in time.

The loop is written out; ``accelerate`` does distribution and precision only.
"""

import dataclasses
import itertools
import json
import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import torch
from accelerate import Accelerator
from torch import Tensor, nn

from partrm.data.dataset import MaterialSampler, ObjectPool, OnlineSamples, Prefetcher
from partrm.data.online import SampleConfig
from partrm.data.pool import concatenated, load_pool
from partrm.data.samples import VIEWS, Samples
from partrm.losses import LossWeights
from partrm.model.checkpoints import read_checkpoint, save_checkpoint, started_from
from partrm.model.graphed import blank_input, record_training
from partrm.model.network import PRESETS, NetworkConfig, PartRMNetwork
from partrm.model.peer import PEERS, PeerNetwork
from partrm.model.reference import ReferenceConfig
from partrm.model.unet import Norm
from partrm.objectives import training_losses, watched_scores
from partrm.training_guard import StepGuard, TrainingError
from partrm.training_log import Rate, RunLog


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
    motion: bool = True
    """Keep the motion terms; without, renders alone teach, with the part carried by the network's displacements."""
    novel_views: int = 2
    novel_size_px: int = 128
    warmup: int = 200
    view_odds: tuple[float, ...] = (0.6, 0.1, 0.1, 0.2)
    """How often 1, 2, 3 and 4 input views are present."""


@dataclass(frozen=True)
class NetworkChanges:
    """What an ablation changes of a preset's network (:class:`partrm.model.network.NetworkConfig`)."""

    head: Literal["articulated", "state"] = "articulated"
    """``state``: Gaussians of the target state alone, without part and joint."""
    drag_levels: tuple[int, ...] = ()
    """Levels that take the drags, 0 the finest; empty: all of them."""
    drag_positions: Literal["fractions", "raw_pixels"] = "fractions"
    """``raw_pixels``: embedded as the reference does."""
    joint_votes: bool = True
    """Whether every Gaussian also votes on the joint."""
    down_channels: tuple[int, ...] = ()
    """Width of each level, multiples of 32, as many as the preset has; empty: the preset's."""
    image_size_px: int = 0
    """Side of the images that predictions are made from; 0: the preset's."""
    layers: Literal[1, 2] = 1
    """2: what stays, with the part taken away, and the part alone."""
    depth_modes: Literal[1, 2] = 1
    """2: two depths a pixel and layer, of which the likelier is taken."""
    features: Literal["none", "efficientnet-lite0"] = "none"
    """Frozen ImageNet features beside the images."""


@dataclass(frozen=True)
class TrainConfig:
    """Everything that decides a run; stored in its folder."""

    pool: tuple[Path, ...]
    """Packed pools of training objects (``python -m partrm.data.pool build``), drawn from as one."""
    out: Path
    """Run folder: config, log, TensorBoard, checkpoint."""
    val_pools: tuple[Path, ...] = ()
    """Pools of held-out objects, watched during training."""
    preset: str = "base"
    """``base`` or ``tiny``; ``peer``: the reference architecture, which needs all four views in every phase."""
    network: NetworkChanges = field(default_factory=NetworkChanges)
    init: Path | None = None
    """Checkpoint folder to start from (fresh optimizer)."""
    resume: bool = False
    """Go on from the run folder's checkpoint, exactly."""
    max_minutes: float = math.inf
    """Stop, with a checkpoint, after this long."""
    by_time: bool = False
    """Let the learning rate fall over ``max_minutes`` of this run, however many steps that gives, not over the steps of
    the phase; for one phase."""
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
    coarse: Phase = Phase("coarse", 9000, 128, 128, 1e-3, 3e-4)
    fine: Phase = Phase("fine", 3000, 48, 256, 4e-4, 1e-4)
    looks: Phase = Phase("looks", 1000, 24, 256, 2e-4, 1e-5, appearance=True)

    @property
    def phases(self) -> tuple[Phase, ...]:
        return tuple(p for p in (self.coarse, self.fine, self.looks) if p.steps > 0)


def phase_at(config: TrainConfig, step: int) -> tuple[Phase, int]:
    """The phase of a global step and the step within it."""
    for phase in config.phases:
        if step < phase.steps:
            return phase, step
        step -= phase.steps
    raise IndexError(step)


def learning_rate(phase: Phase, step: int, elapsed: float | None = None) -> float:
    """Linear warm-up, then a cosine from ``lr`` to ``lr_end`` over the phase, or, with ``elapsed``, over that share
    of the time."""
    warm = min(phase.warmup, max(1, phase.steps // 10))
    if step < warm:
        return phase.lr * (step + 1) / warm
    progress = (step - warm) / max(1, phase.steps - warm) if elapsed is None else min(elapsed, 1.0)
    return phase.lr_end + 0.5 * (phase.lr - phase.lr_end) * (1 + math.cos(math.pi * progress))


def sample_config(phase: Phase, views: int, config: NetworkConfig | ReferenceConfig) -> SampleConfig:
    """What the phase's batches hold for a network."""
    ours = isinstance(config, NetworkConfig)
    return SampleConfig(
        phase.image_size_px,
        views,
        novel_views=phase.novel_views if phase.appearance else 0,
        novel_size_px=phase.novel_size_px,
        layers=config.layers if ours else 1,
        filled=ours,
    )


def optimizer_of(network: nn.Module, config: TrainConfig) -> torch.optim.AdamW:
    """AdamW (betas .9, .95); no decay on biases and norms."""
    decayed = [p for p in network.parameters() if p.ndim > 1]
    free = [p for p in network.parameters() if p.ndim <= 1]
    groups = [{"params": decayed, "weight_decay": config.weight_decay}, {"params": free, "weight_decay": 0.0}]
    fused = next(network.parameters()).is_cuda
    return torch.optim.AdamW(groups, lr=1e-3, betas=(0.9, 0.95), fused=fused)


def network_config(config: TrainConfig) -> NetworkConfig | ReferenceConfig:
    """What the run trains.

    Raises:
        TrainingError: no such preset, changes that the peer does not take, or phases that it cannot train in.
    """
    if config.preset in PEERS:
        if config.network != NetworkChanges():
            raise TrainingError(f"preset {config.preset!r} is the reference architecture: --network is not for it")
        if any(phase.view_odds[:3] != (0.0, 0.0, 0.0) for phase in config.phases):
            raise TrainingError(f"preset {config.preset!r} needs all four views: --PHASE.view-odds 0 0 0 1")
        return PEERS[config.preset]
    if config.preset not in PRESETS:
        raise TrainingError(f"preset {config.preset!r} is none of {', '.join([*PRESETS, *PEERS])}")
    preset = PRESETS[config.preset]
    changes = {name: value for name, value in vars(config.network).items() if value != ()}
    changes["image_size_px"] = config.network.image_size_px or preset.image_size_px
    return dataclasses.replace(preset, **changes)


def new_network(config: NetworkConfig | ReferenceConfig) -> PartRMNetwork | PeerNetwork:
    """Fresh weights, laid out for tensor cores."""
    network = PartRMNetwork(config) if isinstance(config, NetworkConfig) else PeerNetwork(config)
    return network.to(memory_format=torch.channels_last)  # pyright: ignore[reportCallIssue]


def start_of(network: PartRMNetwork | PeerNetwork, folder: Path) -> dict[str, Tensor]:
    """Weights of a checkpoint folder as the start of a network, which may have outputs and inputs of its own.

    Raises:
        TrainingError: weights of another architecture.
    """
    weights, config, _ = read_checkpoint(folder)
    if isinstance(network, PartRMNetwork) != isinstance(config, NetworkConfig):
        raise TrainingError(f"{folder}: weights of another architecture than the preset's")
    if isinstance(network, PartRMNetwork) and isinstance(config, NetworkConfig):
        return started_from(weights, config, network)
    return weights


class Trainer:
    """State of a run: network, averaged weights, optimizer, data and counters."""

    def __init__(self, config: TrainConfig, data: tuple[ObjectPool, MaterialSampler] | None = None) -> None:
        """``data``: the training pool, if it lies on the device already; else the config's file is read."""
        self.config = config
        self.accelerator = Accelerator(cpu=config.device == "cpu", mixed_precision="no")
        self.device = self.accelerator.device
        rank = self.accelerator.process_index
        torch.manual_seed(config.seed)
        torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = True
        torch.backends.cudnn.benchmark = True
        self.network = new_network(network_config(config))
        if config.init is not None:
            self.network.load_state_dict(start_of(self.network, config.init))
        self.network = self.network.to(self.device)
        if config.by_time and (math.isinf(config.max_minutes) or len(config.phases) != 1):
            raise TrainingError("--by-time needs --max-minutes and a single phase")
        if config.compile and (config.fused_norms or config.graphs):
            raise TrainingError("fused norms and graphs cannot be compiled: leave --compile out, or both of them")
        if config.graphs and not (isinstance(self.network, PartRMNetwork) and self.device.type == "cuda"):
            raise TrainingError("--graphs are for our own networks on CUDA devices")
        for module in self.network.modules():
            if isinstance(module, Norm):
                module.fused = config.fused_norms
        self.averaged = {k: v.detach().clone() for k, v in self.network.state_dict().items()}
        self.optimizer = optimizer_of(self.network, config)
        self.data = OnlineSamples(*(data or load_pool_for(config.pool, self.device)), seed=1000 * config.seed + rank)
        self.step, self.samples_seen, self.seconds, self.best, self.skip = 0, 0, 0.0, -math.inf, 0
        self.elapsed = 0.0 if config.by_time else None
        self.guard, self.watched = StepGuard.on(self.device), -1
        self.held_out: dict[Path, tuple[ObjectPool, MaterialSampler]] = {}
        config.out.mkdir(parents=True, exist_ok=True)
        if config.resume:
            self.restore()
        if config.compile:
            # One block class serves several widths and image sizes, each with a static graph of its own.
            torch._dynamo.config.automatic_dynamic_shapes = False
            torch._dynamo.config.recompile_limit = 64
            for block in [*self.network.down, self.network.mid, *self.network.up]:
                block.compile()
        self.recordings = self.record() if config.graphs else {}
        self.model = self.accelerator.prepare(self.network) if self.accelerator.num_processes > 1 else self.network
        self.batches = Prefetcher(self.data, self.plan, self.skip)
        self.log = RunLog(config.out, self.accelerator.is_main_process)

    def plan(self, step: int) -> tuple[SampleConfig, int, int] | None:
        """What the batches of a step and of those after it hold."""
        if step >= sum(p.steps for p in self.config.phases):
            return None
        phase, inner = phase_at(self.config, step)
        views = 1 + self.data.choices.choices(range(len(phase.view_odds)), phase.view_odds)[0]
        return (
            sample_config(phase, views, self.network.config),
            phase.batch,
            min(self.config.batches_at_once, phase.steps - inner),
        )

    def record(self) -> dict[tuple[int, int], Callable[..., Tensor]]:
        """The network's passes as CUDA graphs, for the batch and image size of every phase still to come."""
        assert isinstance(self.network, PartRMNetwork)
        ends = itertools.accumulate(phase.steps for phase in self.config.phases)
        left = [phase for phase, end in zip(self.config.phases, ends, strict=True) if end > self.step]
        kinds = dict.fromkeys((phase.batch, phase.image_size_px) for phase in left)
        return {kind: record_training(self.network, blank_input(*kind, self.device)) for kind in kinds}

    def checkpoint_path(self) -> Path:
        return self.config.out / f"checkpoint-{self.accelerator.process_index}.pt"

    def save(self) -> None:
        """Write everything that :meth:`restore` needs, complete or not at all."""
        state: dict[str, Any] = {"data": self.batches.state(), "step": self.step, "samples_seen": self.samples_seen}
        state["seconds"] = self.seconds
        if self.accelerator.is_main_process:
            state |= {"network": self.network.state_dict(), "averaged": self.averaged, "best": self.best}
            state["optimizer"] = self.optimizer.state_dict()
        part = self.checkpoint_path().with_suffix(".part")
        torch.save(state, part)
        part.replace(self.checkpoint_path())

    def restore(self) -> None:
        """Continue the run of the folder, on as many processes as it had."""
        main = self.config.out / "checkpoint-0.pt"
        if not self.checkpoint_path().is_file():
            raise TrainingError(f"{self.checkpoint_path()}: nothing to resume; start without --resume")
        own = torch.load(self.checkpoint_path(), map_location="cpu", weights_only=True)
        state = own if "network" in own else torch.load(main, map_location="cpu", weights_only=True)
        if state["step"] != own["step"]:
            raise TrainingError(f"{self.config.out}: checkpoints of different steps; the run was killed while saving")
        self.network.load_state_dict(state["network"])
        self.averaged = {k: v.to(self.device) for k, v in state["averaged"].items()}
        self.optimizer.load_state_dict(state["optimizer"])
        self.best = state["best"]
        self.data.restore(own["data"])
        self.skip = own["data"].get("skip", 0)
        self.step, self.samples_seen, self.seconds = own["step"], own["samples_seen"], own["seconds"]

    def train_step(self, samples: Samples, phase: Phase, lr: float) -> dict[str, Tensor]:
        """One update; returns the terms of the loss and the gradient's norm, still on the device."""
        for group in self.optimizer.param_groups:
            group["lr"] = lr
        if isinstance(self.network, PartRMNetwork):
            self.network.recorded = self.recordings.get((phase.batch, phase.image_size_px))
        with torch.autocast(self.device.type, torch.bfloat16, enabled=self.device.type == "cuda"):
            output = self.model(samples.inputs)
        losses = training_losses(output, samples, self.config.weights, phase.motion, phase.appearance)
        total = torch.stack(list(losses.values())).sum()
        self.accelerator.backward(total)
        norm = torch.nn.utils.clip_grad_norm_(self.network.parameters(), self.config.clip)
        skipped = self.guard.cleared(total, norm, [p.grad for p in self.network.parameters() if p.grad is not None])
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        with torch.no_grad():
            state = self.network.state_dict()
            decay = min(self.config.ema, (1 + self.step) / (10 + self.step))
            torch._foreach_lerp_(list(self.averaged.values()), [state[k] for k in self.averaged], 1 - decay)
        facts = {"loss": total.detach(), "gradient": norm.detach(), "skipped": skipped}
        return {k: v.detach() for k, v in losses.items()} | facts

    @torch.no_grad()
    def validate(self, phase: Phase) -> dict[str, float]:
        """Mean scores of the averaged weights on fixed batches of every held-out pool: a drag, a view (peer: four)."""
        network = new_network(self.network.config).to(self.device).eval()
        network.load_state_dict(self.averaged)
        views = 1 if isinstance(network, PartRMNetwork) else VIEWS
        results = {}
        for path in self.config.val_pools:
            if path not in self.held_out:
                self.held_out[path] = load_pool_for((path,), self.device)
            data = OnlineSamples(*self.held_out[path], seed=12345)
            config = sample_config(phase, views, network.config)
            config = dataclasses.replace(config, drags=1, novel_views=3, novel_size_px=128, layers=1, augment=False)
            rows: dict[str, list[Tensor]] = {}
            for _ in range(self.config.val_batches):
                samples = data.draw(config, 32)
                with torch.autocast(self.device.type, torch.bfloat16, enabled=self.device.type == "cuda"):
                    output = network(samples.inputs)
                for name, values in watched_scores(output, samples).items():
                    rows.setdefault(name, []).append(values[samples.valid])
            results |= {f"{path.stem}/{name}": float(torch.cat(v).nanmean()) for name, v in rows.items()}
        return results

    def watch(self, phase: Phase) -> None:
        """Validate, once a step at most, and keep the best weights; the other processes wait."""
        if not self.config.val_pools or self.watched == self.step:
            return
        self.watched = self.step
        if self.accelerator.is_main_process:
            scores = self.validate(phase)
            self.log.write(self.step, "validation", scores)
            self.keep_best(scores)
        self.accelerator.wait_for_everyone()

    def keep_best(self, scores: dict[str, float]) -> None:
        """Write ``weights-best`` when IoU minus motion error, summed over the held-out pools, is the best so far."""
        gains = [value for name, value in scores.items() if name.endswith("/iou")]
        losses = [value for name, value in scores.items() if name.endswith(("/motion_ratio", "/arrival_ratio"))]
        score = sum(gains) - sum(losses)
        if score > self.best:
            self.best = score
            card = self.card() | {"validation": scores}
            save_checkpoint(self.averaged, self.network.config, self.config.out / "weights-best", card)

    def card(self) -> dict:
        """Facts of the run for the model card."""
        device = torch.cuda.get_device_name() if self.device.type == "cuda" else "CPU"
        return {
            "steps": self.step,
            "samples_seen": self.samples_seen,
            "seconds": round(self.seconds, 1),
            "device": f"{self.accelerator.num_processes} x {device}",
            "torch": torch.__version__,
            "config": json.loads(json.dumps(dataclasses.asdict(self.config), default=str)),
        }

    def verdict(self, started: float, saved: float) -> Literal["go", "save", "stop"]:
        """What all processes do next, by the main one's clock (asked every 20 steps)."""
        if self.step % 20:
            return "go"
        self.guard.check(self.step)
        now = time.perf_counter()
        code = 2 if now - started > 60 * self.config.max_minutes else 0
        if code == 0 and now - saved > 60 * self.config.checkpoint_minutes:
            code = 1
        elapsed = 0.0 if self.elapsed is None else (now - started) / (60 * self.config.max_minutes)
        if self.accelerator.num_processes > 1:
            shared = torch.tensor([code, elapsed], device=self.device)
            torch.distributed.broadcast(shared, 0)
            code, elapsed = int(shared[0]), float(shared[1])
        self.elapsed = None if self.elapsed is None else elapsed
        return ("go", "save", "stop")[code]

    def run(self) -> None:
        """Train until the phases or the minutes end; always leaves a checkpoint and a folder of weights."""
        config, total = self.config, sum(p.steps for p in self.config.phases)
        started = saved = time.perf_counter()
        before, rate = self.seconds, Rate(self.step)
        while self.step < total:
            phase, inner = phase_at(config, self.step)
            lr = learning_rate(phase, inner, self.elapsed)
            terms = self.train_step(self.batches.next(self.step), phase, lr)
            self.step += 1
            self.samples_seen += phase.batch * self.accelerator.num_processes
            if self.step % config.log_every == 0 or self.step == total:
                row = {name: float(value) for name, value in terms.items()}
                per_second = rate.since(self.step) * phase.batch * self.accelerator.num_processes
                self.log.write(self.step, phase.name, {**row, "lr": lr, "samples_per_s": per_second})
            self.seconds = before + time.perf_counter() - started
            if self.step % config.validate_every == 0:
                self.watch(phase)
                rate = Rate(self.step)
            action = self.verdict(started, saved)
            if action == "stop":
                break
            if action == "save":
                self.save()
                saved = time.perf_counter()
        self.guard.check(self.step)
        self.save()
        if self.accelerator.is_main_process:
            save_checkpoint(self.averaged, self.network.config, config.out / "weights", self.card())
        self.watch(phase_at(config, max(self.step - 1, 0))[0])
        self.accelerator.wait_for_everyone()
        self.log.close()


def load_pool_for(paths: Sequence[Path], device: torch.device) -> tuple[ObjectPool, MaterialSampler]:
    """Packed pools on a device as one, and what draws its materials."""
    from partrm.articulation.procedural.materials import sample_materials

    return ObjectPool.from_pool(concatenated([load_pool(path, device) for path in paths])), sample_materials


def train(config: TrainConfig) -> None:
    """Run or resume a training.

    Raises:
        TrainingError: nothing to resume, or a loss that is not finite.
    """
    trainer = Trainer(config)
    if trainer.accelerator.is_main_process:
        facts = json.dumps(dataclasses.asdict(config), default=str, indent=1)
        (config.out / "config.json").write_text(facts, encoding="utf-8")
    trainer.run()
