"""Two-stage training (PartRM, section 3.4): motion, then appearance; resumable and limited in time.

The loop is written out; ``accelerate`` does distribution and precision only.
"""

import copy
import dataclasses
import itertools
import json
import math
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

import torch
from accelerate import Accelerator
from torch import Tensor, nn

from partrm.files import OutputError, alone_in, atomic_write, check_writable, read_json
from partrm.model.checkpoints import checkpoint_folder, read_checkpoint, save_checkpoint, with_part_layer
from partrm.model.network import PRESETS, NetworkConfig, PartRMNetwork
from partrm.model.unet import use_fused_norms
from partrm.synthesis.mesh_pool import ObjectPool, load_pool
from partrm.synthesis.sampler import MaterialSampler, OnlineSamples
from partrm.synthesis.samples import Samples
from partrm.training.config import (
    Phase,
    TrainConfig,
    TrainingError,
    learning_rate,
    phase_at,
    sample_config,
)
from partrm.training.cuda_graphs import blank_input, record_training
from partrm.training.losses import ARTICULATED, Objective
from partrm.training.pools import PoolTurns, load_pool_for, pool_files
from partrm.training.prefetch import ChunkPlan, Prefetcher
from partrm.training.run_log import SILENT, Listener, Rate, RunLog
from partrm.training.run_state import RunState
from partrm.training.torchrun import meet_again


def optimizer_of(network: nn.Module, config: TrainConfig) -> torch.optim.AdamW:
    """AdamW (betas .9, .95); no decay on biases and norms."""
    decayed = [p for p in network.parameters() if p.ndim > 1]
    free = [p for p in network.parameters() if p.ndim <= 1]
    groups = [{"params": decayed, "weight_decay": config.weight_decay}, {"params": free, "weight_decay": 0.0}]
    fused = next(network.parameters()).is_cuda
    return torch.optim.AdamW(groups, lr=1e-3, betas=(0.9, 0.95), fused=fused)


def network_config(config: TrainConfig) -> NetworkConfig:
    """What the run trains, for images of the size that its last phase has.

    Raises:
        TrainingError: no such preset, or changes that do not fit it.
    """
    if config.preset not in PRESETS:
        raise TrainingError(f"preset {config.preset!r} is none of {', '.join(PRESETS)}")
    changes = {k: v for k, v in vars(config.network).items() if v != ()}
    size = [phase.image_size_px for phase in config.phases if phase.steps][-1:]
    preset, widths = PRESETS[config.preset], config.network.down_channels
    if widths and len(widths) != len(preset.down_channels):
        raise TrainingError(
            f"--network.down-channels {widths}: preset {config.preset} has {len(preset.down_channels)} levels"
        )
    return dataclasses.replace(preset, **changes, **({"image_size_px": size[0]} if size else {}))


def start_from(network: nn.Module, name_or_path: str) -> None:
    """Give a network the weights of a bundled model or of a checkpoint folder.

    Raises:
        CheckpointError: no checkpoint there, or a broken one.
        TrainingError: weights of another network.
    """
    weights, _, _ = read_checkpoint(checkpoint_folder(name_or_path))
    try:
        network.load_state_dict(with_part_layer(weights, network.state_dict()))
    except RuntimeError as error:
        first = " ".join(str(error).splitlines()[1:2]).strip()
        raise TrainingError(
            f"--init {name_or_path}: weights of another network than the one to train ({first})"
        ) from error


MAX_BAD_ROWS = 5
"""Logged rows in a row with a loss that is not finite, after which training stops; at its end one is enough."""

CLOCK_STEPS = 20
"""Steps between two looks of the main process at its clock."""


class Trainer:
    """State of a run: network, averaged weights, optimizer, data and counters."""

    def __init__(
        self,
        config: TrainConfig,
        data: tuple[ObjectPool, MaterialSampler] | None = None,
        network: PartRMNetwork | None = None,
        objective: Objective = ARTICULATED,
        listener: Listener = SILENT,
    ) -> None:
        """Set a run up, or take it up where it was left (``config.resume``).

        Args:
            config: of the run.
            data: the training pool, if it lies on the device already; else the config's files are read.
            network: to train, instead of one of the config's preset.
            objective: what it is taught and watched by.
            listener: is told the rows of the log.

        Raises:
            TrainingError: nothing to resume, no such preset, weights of another network, graphs without CUDA.
            CheckpointError: no weights to start from.
            PoolError: a file that is no pool.
        """
        self.config, self.objective = config, objective
        meet_again("nccl" if config.device != "cpu" and torch.cuda.is_available() else "gloo")
        self.accelerator = Accelerator(cpu=config.device == "cpu", mixed_precision="no")
        self.device = self.accelerator.device
        rank = self.accelerator.process_index
        torch.manual_seed(config.seed)
        torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = True
        torch.backends.cudnn.benchmark = True
        if config.graphs and self.device.type != "cuda":
            raise TrainingError("--graphs are for CUDA devices")
        network = PartRMNetwork(network_config(config)) if network is None else network
        if config.init is not None:
            start_from(network, config.init)
        use_fused_norms(network, config.fused_norms)
        # Laid out for tensor cores.
        self.network = network.to(self.device).to(memory_format=torch.channels_last)  # pyright: ignore[reportCallIssue]
        self.averaged = {k: v.detach().clone() for k, v in self.network.state_dict().items()}
        self.optimizer = optimizer_of(self.network, config)
        self.turns = None
        if data is None and config.pool_steps:
            self.turns = PoolTurns(config.pool, config.pool_steps, config.seed, rank)
            data = self.turns.first(self.device)
        elif data is None:
            data = load_pool_for(config.pool, self.device, config.pool_shares)
        self.data = OnlineSamples(*data, seed=1000 * config.seed + rank)
        self.step, self.samples_seen, self.seconds, self.best = 0, 0, 0.0, -math.inf
        config.out.mkdir(parents=True, exist_ok=True)
        self.state = RunState(config.out, self.accelerator)
        again = self.state.restarted()
        first_step = self.restore() if config.resume else self.go_on() if again else 0
        if config.compile:
            # One block class serves several widths and image sizes, each with a static graph of its own.
            torch._dynamo.config.automatic_dynamic_shapes = False
            torch._dynamo.config.recompile_limit = 64
            for block in [*self.network.down, self.network.mid, *self.network.up]:
                block.compile()
        self.recordings = self.record() if config.graphs else {}
        self.model = self.accelerator.prepare(self.network) if self.accelerator.num_processes > 1 else self.network
        self.batches = Prefetcher(self.data, self.plan, first_step)
        taken_up = self.step if config.resume or again else None
        self.log = RunLog(config.out, self.accelerator.is_main_process, listener, taken_up)

    def plan(self, step: int) -> ChunkPlan | None:
        """What the batches of a step and of those after it hold; None past the last."""
        if step >= sum(p.steps for p in self.config.phases):
            return None
        if self.turns is not None:
            self.turns.let_draw(self.data, step)
        phase, inner = phase_at(self.config, step)
        views = 1 + self.data.choices.choices(range(len(phase.view_odds)), phase.view_odds)[0]
        count = min(self.config.batches_at_once, phase.steps - inner)
        return ChunkPlan(sample_config(phase, views), phase.batch, count)

    def record(self) -> dict[tuple[int, int], Callable[..., Tensor]]:
        """The network's passes as CUDA graphs, for the batch and image size of every phase still to come."""
        ends = itertools.accumulate(phase.steps for phase in self.config.phases)
        left = [phase for phase, end in zip(self.config.phases, ends, strict=True) if end > self.step]
        shapes = dict.fromkeys((phase.batch, phase.image_size_px) for phase in left)
        return {shape: record_training(self.network, blank_input(*shape, self.device)) for shape in shapes}

    def save(self) -> None:
        """Write everything that :meth:`restore` needs, complete or not at all."""
        state: dict[str, Any] = {"data": self.batches.state(), "step": self.step, "samples_seen": self.samples_seen}
        state |= {"seconds": self.seconds, "settings": self.settings()}
        if self.accelerator.is_main_process:
            state |= {"network": self.network.state_dict(), "averaged": self.averaged, "best": self.best}
            state["optimizer"] = self.optimizer.state_dict()
        self.state.write(state)

    def settings(self) -> str:
        """What decides where the run ends, as JSON."""
        facts = dataclasses.asdict(self.config)
        return json.dumps({k: v for k, v in facts.items() if k not in ("resume", "max_minutes")}, default=str)

    def restore(self) -> int:
        """Continue the run of the folder, on as many processes as it had; the step from which batches are made again.

        Raises:
            TrainingError: nothing to resume, or checkpoints that do not belong together.
        """
        path = self.state.path
        found = self.state.newest()
        if found is None and path.is_file():
            raise TrainingError(f"{path}: no step that all processes have saved; start without --resume")
        if found is None:
            raise TrainingError(f"{path}: nothing to resume; start without --resume")
        try:
            return self._take_up(*found)
        except (KeyError, TypeError, ValueError, RuntimeError, AttributeError, IndexError) as error:
            reason = f"{type(error).__name__} {' '.join(str(error).split())[:200]}"
            raise TrainingError(
                f"{self.state.main}: not a checkpoint of this run ({reason}); start without --resume"
            ) from error

    def go_on(self) -> int:
        """:meth:`restore` for processes that ``torchrun`` has started again; the run's start if nothing was saved."""
        found = self.state.newest(self.settings())
        return 0 if found is None else self._take_up(*found)

    def _take_up(self, own: dict[str, Any], state: dict[str, Any]) -> int:
        """Let network, optimizer, data and counters be as in a checkpoint; the step of the data."""
        sound = all(bool(torch.isfinite(v).all()) for v in (*state["network"].values(), *state["averaged"].values()))
        if not sound:
            raise ValueError("its weights are not finite")
        counts, numbers = (own["step"], own["samples_seen"], own["data"]["first_step"]), (own["seconds"], state["best"])
        if not all(type(n) is int and n >= 0 for n in counts) or not all(type(x) is float for x in numbers):
            raise ValueError("its counters are no numbers")
        self.network.load_state_dict(state["network"])
        if {k: v.shape for k, v in state["averaged"].items()} != {k: v.shape for k, v in self.averaged.items()}:
            raise ValueError("its averaged weights are those of another network")
        self.averaged = {k: v.to(self.device) for k, v in state["averaged"].items()}
        self.optimizer.load_state_dict(state["optimizer"])
        self.best = state["best"]
        self.data.restore(own["data"]["data"])
        self.step, self.samples_seen, self.seconds = own["step"], own["samples_seen"], own["seconds"]
        return own["data"]["first_step"]

    def train_step(self, samples: Samples, phase: Phase, lr: float) -> dict[str, Tensor]:
        """One update; returns the terms of the loss and the gradient's norm, still on the device."""
        for group in self.optimizer.param_groups:
            group["lr"] = lr
        recorded = self.recordings.get((phase.batch, phase.image_size_px))
        with torch.autocast(self.device.type, torch.bfloat16, enabled=self.device.type == "cuda"):
            output = self.model(samples.inputs) if recorded is None else self.model(samples.inputs, unet=recorded)
        losses = self.objective.losses(output, samples, self.config.weights, phase.appearance)
        total = torch.stack(list(losses.values())).sum()
        self.accelerator.backward(total)
        norm = torch.nn.utils.clip_grad_norm_(self.network.parameters(), self.config.clip)
        # A step that is not finite changes nothing; decided on the device, which nobody waits for.
        sound = torch.isfinite(norm) & torch.isfinite(total.detach())
        if self.device.type == "cuda":
            # What fused steps ask, as torch.amp.GradScaler sets it.
            self.optimizer.found_inf = (~sound).float()  # pyright: ignore[reportAttributeAccessIssue]
        elif not bool(sound):
            self.optimizer.zero_grad(set_to_none=True)
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        with torch.no_grad():
            state = self.network.state_dict()
            decay = min(self.config.ema, (1 + self.step) / (10 + self.step))
            torch._foreach_lerp_(list(self.averaged.values()), [state[k] for k in self.averaged], 1 - decay)
        return {**{k: v.detach() for k, v in losses.items()}, "loss": total.detach(), "gradient": norm.detach()}

    @torch.no_grad()
    def validate(self, phase: Phase) -> dict[str, float]:
        """Mean scores of the averaged weights on fixed batches of every held-out pool, one drag each."""
        network = copy.deepcopy(self.network).eval()
        use_fused_norms(network, False)
        network.load_state_dict(self.averaged)
        results = {}
        for path in self.config.val_pools:
            data = OnlineSamples(*load_pool_for((path,), self.device), seed=12345)
            config = dataclasses.replace(
                sample_config(phase, self.objective.views), drags=1, augment=False, novel_views=3, novel_size_px=128
            )
            rows: dict[str, list[Tensor]] = {}
            for _ in range(self.config.val_batches):
                samples = data.draw(config, 32)
                with torch.autocast(self.device.type, torch.bfloat16, enabled=self.device.type == "cuda"):
                    output = network(samples.inputs)
                for name, values in self.objective.metrics(output, samples).items():
                    rows.setdefault(name, []).append(values[samples.valid])
            results |= {f"{path.stem}/{name}": float(torch.cat(v).mean()) for name, v in rows.items()}
        return results

    def watch(self, phase: Phase) -> None:
        """Validate and log, on the main process, while the others wait."""
        if not self.config.val_pools:
            return
        if self.accelerator.is_main_process:
            scores = self.validate(phase)
            self.log.write(self.step, "validation", scores)
            self.keep_best(scores)
        self.accelerator.wait_for_everyone()

    def keep_best(self, scores: dict[str, float]) -> None:
        """Write ``weights-best`` when IoU minus motion error, summed over the held-out pools, is the best so far."""
        gains = [value for name, value in scores.items() if name.endswith("/iou")]
        losses = [value for name, value in scores.items() if name.endswith("/motion_ratio")]
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

    def next_action(self, started: float, saved: float) -> Literal["go", "save", "stop"]:
        """What all processes do next, by the main one's clock (asked every :data:`CLOCK_STEPS` steps)."""
        if self.step % CLOCK_STEPS:
            return "go"
        now = time.perf_counter()
        code = 2 if now - started > 60 * self.config.max_minutes else 0
        if code == 0 and now - saved > 60 * self.config.checkpoint_minutes:
            code = 1
        if self.accelerator.num_processes > 1:
            shared = torch.tensor(code, device=self.device)
            torch.distributed.broadcast(shared, 0)
            code = int(shared)
        return ("go", "save", "stop")[code]

    def run(self) -> None:
        """Train until the phases or the minutes end; always leaves a checkpoint and a folder of weights."""
        config, total = self.config, sum(p.steps for p in self.config.phases)
        started = saved = time.perf_counter()
        before, rate, bad = self.seconds, Rate(self.step), 0
        while self.step < total:
            phase, inner = phase_at(config, self.step)
            lr = learning_rate(phase, inner)
            terms = self.train_step(self.batches.next(self.step), phase, lr)
            self.step += 1
            self.samples_seen += phase.batch * self.accelerator.num_processes
            if self.step % config.log_every == 0 or self.step == total:
                row = {name: float(value) for name, value in terms.items()}
                bad = 0 if all(math.isfinite(value) for value in row.values()) else bad + 1
                if bad >= MAX_BAD_ROWS or (bad and self.step == total):
                    raise TrainingError(f"step {self.step}: the loss is not finite ({row}); resume from the checkpoint")
                per_second = rate.since(self.step) * phase.batch * self.accelerator.num_processes
                row |= {"lr": lr, "samples_per_s": per_second, "waiting_share": self.batches.waited_s() / rate.seconds}
                self.log.write(self.step, phase.name, row)
            self.seconds = before + time.perf_counter() - started
            if self.step % config.validate_every == 0 or self.step == total:
                self.watch(phase)
                rate, _ = Rate(self.step), self.batches.waited_s()
            action = self.next_action(started, saved)
            if action == "stop":
                self.watch(phase)
                break
            if action == "save":
                self.save()
                saved = time.perf_counter()
        self.save()
        if self.accelerator.is_main_process:
            save_checkpoint(self.averaged, self.network.config, config.out / "weights", self.card())
        self.accelerator.wait_for_everyone()
        self.log.close()


def train(config: TrainConfig, listener: Listener = SILENT) -> None:
    """Run or resume a training.

    Raises:
        TrainingError: no pool, nothing to do or to resume, or a loss that is not finite.
        PoolError: a file that is no pool.
        OutputError: the run folder cannot be written.
    """
    if not config.pool:
        raise TrainingError("give at least one pool (partrm data pool)")
    if not config.phases:
        raise TrainingError("no phase has any steps: give --coarse.steps, --fine.steps or --appearance.steps")
    check_writable(config.out)
    _require_run_folder(config.out / "config.json")
    for path in config.val_pools:
        for file in pool_files(path):
            load_pool(file)  # found out now rather than at the first validation
    trainer = Trainer(config, listener=listener)
    if not trainer.accelerator.is_main_process:
        return trainer.run()
    with alone_in(config.out):
        facts = json.dumps(dataclasses.asdict(config), default=str, indent=1)
        atomic_write(config.out / "config.json", facts)
        trainer.run()


NO_RUN = "was not written by a training and is not replaced; give another folder"


def _require_run_folder(path: Path) -> None:
    """Refuse to put a run's config in the place of another file, such as a checkpoint's."""
    try:
        found = read_json(path) if path.exists() else {"pool": []}
    except (OSError, ValueError) as error:
        raise OutputError(f"{path}: {NO_RUN}") from error
    if not isinstance(found, dict) or "pool" not in found:
        raise OutputError(f"{path}: {NO_RUN}")
