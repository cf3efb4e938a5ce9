"""Figures of a trained variant on held-out pools, on the same samples for all of them; see ablations.py."""

import statistics
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from einops import rearrange
from torch import Tensor

from partrm.data.dataset import OnlineSamples
from partrm.data.online import SampleConfig
from partrm.data.samples import VIEWS, NetworkInput, Samples
from partrm.gaussians import Gaussians
from partrm.metrics import composite_on_white, mask_iou, masked_psnr, motion_error_ratio, psnr
from partrm.model.checkpoints import read_checkpoint
from partrm.model.network import PartRMNetwork
from partrm.motion import carry, read_motion, run_network
from partrm.rendering.splats import render_splats
from partrm.train import load_pool_for, new_network

OPAQUE = 0.5
"""Opacity above which a splat counts as seen in part masks."""

CHANGED = 1 / 16
"""A pixel belongs to the moved region if the motion changes one of its channels on white by more."""

SEED = 20260
"""Of the held-out samples."""

Figures = dict[str, dict[str, float | None]]
"""Metric of each method (``model``, ``no_motion``, ``copy``)."""


@dataclass(frozen=True)
class Setting:
    """What the network is given."""

    views: int
    drags: int

    @property
    def name(self) -> str:
        return f"{self.views} view{'s' * (self.views > 1)}, {self.drags} drag{'s' * (self.drags > 1)}"


SETTINGS = (Setting(1, 1), Setting(4, 1), Setting(4, 5), Setting(4, 10))


@dataclass(frozen=True)
class Held:
    """Which held-out samples are scored."""

    pools: tuple[Path, ...]
    samples: int
    """Of each pool and setting."""
    batch: int
    size_px: int
    """Side of input images and of the renders that are scored."""
    novel_views: int = 4


def score_weights(folder: Path, held: Held, device: torch.device) -> dict[str, dict[str, Figures]]:
    """Figures of a checkpoint folder by pool and setting; settings that the network does not take are left out.

    Raises:
        ValueError: weights that are not finite.
    """
    weights, config, _ = read_checkpoint(folder)
    if not all(bool(torch.isfinite(value).all()) for value in weights.values()):
        raise ValueError("the weights are not finite")
    network = new_network(config).to(device).eval().requires_grad_(False)
    network.load_state_dict(weights)
    least = 1 if isinstance(network, PartRMNetwork) else VIEWS
    found: dict[str, dict[str, Figures]] = {}
    for path in held.pools:
        pool = load_pool_for((path,), device)
        found[path.stem] = {}
        for setting in SETTINGS:
            if setting.views >= least:
                data = OnlineSamples(*pool, seed=SEED)
                found[path.stem][setting.name] = score_setting(network, data, setting, held)
    return found


def score_setting(network: torch.nn.Module, data: OnlineSamples, setting: Setting, held: Held) -> Figures:
    """Means over the samples."""
    wanted = SampleConfig(
        image_size_px=held.size_px,
        views=setting.views,
        drags=setting.drags,
        novel_views=held.novel_views,
        novel_size_px=held.size_px,
        augment=False,
    )
    rows: list[Figures] = []
    while len(rows) < held.samples:
        samples = data.draw(wanted, min(held.batch, held.samples - len(rows)))
        with torch.inference_mode():
            rows += score_samples(network, samples)
    return {
        method: {metric: mean([row[method][metric] for row in rows]) for metric in rows[0][method]}
        for method in rows[0]
    }


def mean(values: Sequence[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return statistics.fmean(known) if known else None


@dataclass(frozen=True)
class Said:
    """What a network says of one sample, on its device; None where it gives no part."""

    after: Gaussians
    before: Gaussians | None
    iou: float | None
    motion_error_ratio: float | None


def answers(network: torch.nn.Module, samples: Samples) -> Iterator[Said]:
    """What the network says of every sample of a batch."""
    inputs: NetworkInput = samples.inputs
    device = inputs.images.device
    if not isinstance(network, PartRMNetwork) or network.config.head == "state":
        output = network(inputs)
        gaussians = output if isinstance(output, Gaussians) else output.gaussians
        yield from (Said(gaussians[row], None, None, None) for row in range(len(samples.valid)))
        return
    output = run_network(network, inputs)
    seen = rearrange((output.moving > 0.5) & (output.gaussians.opacities > OPAQUE), "b (v n) -> b v n", v=VIEWS)[:, 0]
    for row in range(len(samples.valid)):
        before, part, joint = read_motion(output, inputs, row)
        after = carry(before, part, joint.T_after_before)
        truly = samples.targets.moving[row]
        points = samples.targets.point[row][truly].cpu()
        T = samples.joint.T_after_before[row].cpu()
        counts = bool(samples.valid[row])
        ratio = motion_error_ratio(points, joint.T_after_before.to(T), T) if counts and len(points) else None
        iou = mask_iou(rearrange(seen[row], "(h w) -> h w", h=truly.shape[1]), truly[0])
        yield Said(after.to(device), before.to(device), float(iou), None if ratio is None else float(ratio))


def score_samples(network: torch.nn.Module, samples: Samples) -> list[Figures]:
    """Figures of each valid sample of a batch with novel views."""
    assert samples.views is not None
    rows = []
    for row, said in enumerate(answers(network, samples)):
        if not bool(samples.valid[row]):
            # Counted, so that every variant sees as many batches; without figures it joins no mean.
            rows.append({method: dict.fromkeys(METRICS) for method in METHODS})
            continue
        truth = composite_on_white(samples.views.after[row])
        source = composite_on_white(samples.views.before[row])
        moved = (truth - source).abs().amax(1) > CHANGED
        cameras = samples.views.cameras[row]
        after = render_splats(said.after, cameras).rgb.clamp(0, 1)
        figures: Figures = {
            "model": {
                "iou": said.iou,
                "motion_error_ratio": said.motion_error_ratio,
                **image_figures(after, truth, moved),
            },
            "no_motion": dict.fromkeys(METRICS),
            "copy": dict.fromkeys(METRICS) | image_figures(source, truth, moved),
        }
        if said.before is not None:
            still = render_splats(said.before, cameras).rgb.clamp(0, 1)
            figures["no_motion"] |= {"motion_error_ratio": 1.0, **image_figures(still, truth, moved)}
        rows.append(figures)
    return rows


METRICS = ("iou", "motion_error_ratio", "psnr", "psnr_moved")
METHODS = ("model", "no_motion", "copy")


def image_figures(image: Tensor, truth: Tensor, moved: Tensor) -> dict[str, float | None]:
    """PSNR over all of the views, and over the moved region of those that show some."""
    shown = moved.any(-1).any(-1)
    over_moved = masked_psnr(image[shown], truth[shown], moved[shown]) if bool(shown.any()) else None
    return {
        "psnr": float(psnr(image, truth).mean()),
        "psnr_moved": None if over_moved is None else float(over_moved.mean()),
    }
