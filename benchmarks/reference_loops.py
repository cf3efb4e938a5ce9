"""The baseline of ``benchmarks/reference.py``: the same network and step with the loops of the public implementation.

Our own words for what the reference does: drag maps are filled by a Python loop over samples, views and drags at every
scale, each cell's place read back to Python; convolutions lie NCHW with PyTorch's GroupNorm; attention forms its whole
matrix; every image is rasterized by a call of its own; the loss is read back at each step. The weights are those of the
fast network, so that both must give the same Gaussians. The rasterizer is gsplat, faster than the one it had.
"""

import torch
from jaxtyping import Float
from reference_inputs import Batch, placed
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel

from partrm.geometry.gaussians import Gaussians
from partrm.model.reference import PixelDrags, ReferenceNetwork, fourier_of_pixels
from partrm.rendering.splats import SplatImages, render_splats


class LoopedNetwork(ReferenceNetwork):
    """The reference network with its drag maps made in loops and its attention unfused; NCHW."""

    def drag_maps(self, drags: PixelDrags, size: int) -> list[Float[Tensor, "two bv _ _ _"]]:
        """Start and end map before each down block, one drag at a time."""
        maps = []
        for level, embed in enumerate(self.drags):
            both = [self.looped_map(embed, points, size >> level) for points in (drags.start, drags.end)]
            maps.append(torch.stack(both))
        return maps

    def looped_map(self, embed: nn.Module, points: Float[Tensor, "b v n 2"], side: int) -> Tensor:
        """The blurred map of starts or of ends."""
        b, v, n, _ = points.shape
        vectors = embed.mlp(fourier_of_pixels(points))
        canvas = torch.zeros(b * v, vectors.shape[-1], side, side, device=points.device)
        ratio = self.config.drag_image_px // side
        for sample in range(b):
            for view in range(v):
                for drag in range(n):
                    row, column = (int(points[sample, view, drag, k] // ratio) for k in (0, 1))
                    canvas[sample * v + view, :, row, column] += vectors[sample, view, drag]
        line = torch.exp(-0.5 * torch.arange(-2, 3, device=points.device) ** 2)
        kernel = (line[:, None] * line / line.sum() ** 2).expand(canvas.shape[1], 1, 5, 5)
        padded = nn.functional.pad(canvas, (2, 2, 2, 2), mode="reflect")
        return nn.functional.conv2d(padded, kernel, groups=canvas.shape[1])

    def gaussians(self, batch: Batch) -> Gaussians:
        """The forward pass of the public code."""
        one = PixelDrags.from_drags(batch.inputs.drags, 1, self.config)
        views = batch.inputs.view_valid.shape[1]
        every = PixelDrags(*(x.repeat_interleave(views, 1) for x in (one.start, one.end, one.valid)))
        with sdpa_kernel(SDPBackend.MATH):
            return self.reconstruct(self.input_map(batch.inputs), every)


def looped_images(gaussians: Gaussians, batch: Batch) -> SplatImages:
    """Every view of every sample, one call each."""
    rows = []
    for sample in range(batch.cameras.batch_shape[0]):
        scene = placed(gaussians[sample], batch.surface)
        views = range(batch.cameras.batch_shape[1])
        rows.append([render_splats(scene, batch.cameras[sample, [view]]) for view in views])
    rgb = torch.stack([torch.cat([image.rgb for image in row]) for row in rows])
    alpha = torch.stack([torch.cat([image.alpha for image in row]) for row in rows])
    return SplatImages(rgb, alpha, rows[0][0].background)


def looped_step(network: LoopedNetwork, perceptual: nn.Module, optimizer: torch.optim.Optimizer, batch: Batch) -> float:
    """One training step of the appearance stage; returns the loss."""
    with torch.autocast(batch.cameras.device.type, torch.bfloat16):
        gaussians = network.gaussians(batch)
    images = looped_images(gaussians, batch)
    loss = nn.functional.mse_loss(images.rgb, batch.rgb) + nn.functional.mse_loss(images.alpha, batch.alpha)
    with torch.autocast(batch.cameras.device.type, torch.bfloat16):
        loss = loss + perceptual(images.rgb.flatten(0, 1), batch.rgb.flatten(0, 1))
    loss.backward()
    nn.utils.clip_grad_norm_(network.parameters(), 1.0)
    optimizer.step()
    optimizer.zero_grad()
    return loss.item()
