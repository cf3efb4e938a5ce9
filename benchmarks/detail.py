"""How near pictures of predictions come to the truth, with and without splats of the photograph's resolution.

    partrm data pool real --out real.npz
    python benchmarks/detail.py real.npz --samples 24

Objects of a packed pool, lit and photographed as in training but without noise, are shown to the network at its own
size, and to the finer splats at ``--picture-px``. Both states are rendered from cameras all around, 0 to 50 degrees
above the ground, and compared on white.
"""

import argparse
from pathlib import Path

import torch
from rich.console import Console
from rich.table import Table
from torch import Tensor

from partrm.geometry.cameras import Cameras
from partrm.geometry.gaussians import Gaussians
from partrm.inference.decode import apply_joint_motion
from partrm.inference.ensemble import conclude, consult
from partrm.inference.pipeline import detailed_answer, refined_parts
from partrm.metrics.images import composite_on_white, psnr, ssim
from partrm.model.checkpoints import load_model
from partrm.model.inputs import NetworkInput, pooled_rgba
from partrm.rendering.splats import render_splats
from partrm.synthesis.sampler import OnlineSamples, SampleConfig
from partrm.synthesis.samples import Samples
from partrm.training.trainer import load_pool_for

NOVEL, NOVEL_PX = 4, 256
BATCH = 8


def main() -> None:
    """Run it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("pool", type=Path)
    parser.add_argument("--samples", type=int, default=24)
    parser.add_argument("--picture-px", type=int, default=320, help="a multiple of half the network's")
    parser.add_argument("--model", default="base")
    arguments = parser.parse_args()
    model = load_model(arguments.model)
    data = OnlineSamples(*load_pool_for((arguments.pool,), torch.device("cpu")), seed=31)
    config = SampleConfig(
        2 * arguments.picture_px, 1, 1, novel_views=NOVEL, novel_size_px=NOVEL_PX, augment=False, samples_per_axis=1
    )
    rows: dict[str, list[Tensor]] = {"network's splats": [], "closed": [], "detail": []}
    for _ in range(-(-arguments.samples // BATCH)):
        samples = data.draw(config, BATCH)
        for index in samples.valid.nonzero()[:, 0].tolist():
            one = samples[[index]]
            for name, (before, after) in states(model.articulated, one, arguments.picture_px).items():
                rows[name].append(scores(before, after, one))
    table = Table("", "before: PSNR", "SSIM", "after: PSNR", "SSIM", "moved pixels: PSNR")
    for name, values in rows.items():
        table.add_row(name, *(f"{value:.3f}" for value in torch.stack(values).mean(0).tolist()))
    Console().print(f"{arguments.pool.stem}, {len(rows['detail'])} samples", table)


def states(network: torch.nn.Module, sample: Samples, picture_px: int) -> dict[str, tuple[Gaussians, Gaussians]]:
    """Both states as each way of reading the network shows them."""
    size = network.config.image_size_px
    large = sample.inputs.images[:, :1]
    shown, picture = (pooled_rgba(large, large.shape[-1] // px)[:, 0] for px in (size, picture_px))
    images = torch.zeros(1, sample.inputs.images.shape[1], 4, size, size)
    images[:, 0] = shown
    inputs = NetworkInput(images, sample.inputs.cameras.resized(size), sample.inputs.view_valid, sample.inputs.drags)
    (told,) = consult(network, [inputs], [()])
    fine = refined_parts(told.best.probability[None], picture[:1])[0]
    found = {}
    for name, close in (("network's splats", False), ("closed", True)):
        answer = conclude(told, close=close)[0]
        found[name] = answer.gaussians, answer.moving
    found["detail"] = detailed_answer(conclude(told, close=True)[0], inputs, fine, picture[0])
    T = told.best.joint.T_after_before
    return {name: (g, apply_joint_motion(g, moving, T)) for name, (g, moving) in found.items()}


def scores(before: Gaussians, after: Gaussians, sample: Samples) -> Tensor:
    """Of both states from all cameras; the moved pixels are those that truly change."""
    assert sample.views is not None
    was, now = (composite_on_white(images[0]) for images in (sample.views.before, sample.views.after))
    drawn = [render(g, sample.views.cameras[0]) for g in (before, after)]
    changed = ((now - was).abs().amax(1) > 1 / 16).float()
    squared = (((drawn[1] - now) ** 2).mean(1) * changed).sum() / changed.sum().clamp(min=1)
    return torch.stack(
        [
            psnr(drawn[0], was).mean(), ssim(drawn[0], was).mean(), psnr(drawn[1], now).mean(),
            ssim(drawn[1], now).mean(), -10 * torch.log10(squared + 1e-4),
        ]
    )  # fmt: skip


def render(gaussians: Gaussians, cameras: Cameras) -> Tensor:
    """[m, 3, h, w] on white."""
    return render_splats(gaussians[None] if gaussians.means.ndim == 2 else gaussians, cameras[None]).rgb[0].clamp(0, 1)


if __name__ == "__main__":
    main()
