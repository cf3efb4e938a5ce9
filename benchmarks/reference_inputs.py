"""What both networks of ``benchmarks/reference.py`` are given: weights, images, drags, cameras, the loss's network."""

from dataclasses import dataclass, replace
from itertools import pairwise

import torch
from einops import repeat
from jaxtyping import Float
from torch import Tensor, nn

from partrm.cameras import Cameras, canonical_orbit
from partrm.data.samples import NetworkInput
from partrm.drags import Drags
from partrm.gaussians import Gaussians
from partrm.model.perceptual_loss import PerceptualLoss
from partrm.model.reference import ReferenceConfig, ReferenceNetwork


@dataclass(frozen=True)
class Batch:
    """Inputs, and the pictures that a training step compares with."""

    inputs: NetworkInput
    """[b] four views, and drags in the first."""
    cameras: Cameras
    """[b, m] where the answer is rendered."""
    rgb: Float[Tensor, "b m 3 h w"]
    """Target colours."""
    alpha: Float[Tensor, "b m h w"]
    """Target opacity."""
    surface: Float[Tensor, "n 3"]
    """Where the random network's Gaussians are put: see :func:`placed`."""


def random_batch(config: ReferenceConfig, batch: int, views: int, drags: int, device: str, seed: int = 0) -> Batch:
    """A seeded batch of the preset's shapes."""
    g = torch.Generator().manual_seed(seed)
    side = config.image_size_px

    def orbit(count: int) -> Cameras:
        one = canonical_orbit(count, side)
        poses = repeat(one.T_world_camera, "v i j -> b v i j", b=batch)
        return replace(one, T_world_camera=poses, fovy_rad=one.fovy_rad.repeat(batch, 1))

    points = torch.rand(2, batch, drags, 2, generator=g)
    inputs = NetworkInput(
        images=torch.rand(batch, 4, 4, side, side, generator=g),
        cameras=orbit(4),
        view_valid=torch.ones(batch, 4, dtype=torch.bool),
        drags=Drags(points[0], points[1], torch.zeros(batch, drags, dtype=torch.long), torch.ones(batch, drags).bool()),
        lens_known=torch.ones(batch, 4, dtype=torch.bool),
    )
    count = 4 * config.splat_size_px**2
    surface = torch.rand(count, 3, generator=g) * 2 - 1
    axis = torch.randint(0, 3, (count, 1), generator=g)
    surface = 0.29 * surface.scatter(-1, axis, surface.gather(-1, axis).sign())
    rgb, alpha = (torch.rand(batch, views, *shape, side, side, generator=g) for shape in ((3,), ()))
    on_device = replace(inputs, images=inputs.images.to(device), view_valid=inputs.view_valid.to(device))
    on_device = replace(on_device, cameras=inputs.cameras.to(device), drags=inputs.drags.to(device))
    return Batch(on_device, orbit(views).to(device), rgb.to(device), alpha.to(device), surface.to(device))


def placed(gaussians: Gaussians, surface: Float[Tensor, "n 3"]) -> Gaussians:
    """The Gaussians about points of a box: a network with random weights makes no object, and the rasterizer's time
    depends on where Gaussians lie. Their sizes and opacities are those of :func:`random_weights`."""
    return replace(gaussians, means=surface + 0.02 * gaussians.means)


def random_weights(config: ReferenceConfig, device: str) -> dict[str, Tensor]:
    """Seeded weights whose Gaussians have the size (0.005) and opacity (0.9) of a trained network's."""
    torch.manual_seed(0)
    with torch.device(device):
        network = ReferenceNetwork(config)
    with torch.no_grad():
        network.mix.weight.mul_(0.1)
        network.mix.bias.copy_(torch.tensor([0, 0, 0, 2.2, -3, -3, -3, 1, 0, 0, 0, 0, 0, 0.0]))
        for embed in network.drags:
            nn.init.normal_(embed.fuse.weight[:, embed.fuse.out_channels :], std=0.02)
    return network.state_dict()


class Perceptual(nn.Module):
    """A distance of VGG-16 features (LPIPS, Zhang et al. 2018) with random weights: its cost, not its meaning."""

    LEVELS = ((3, 64, 64), (64, 128, 128), (128, 256, 256, 256), (256, 512, 512, 512), (512, 512, 512, 512))

    def __init__(self) -> None:
        super().__init__()
        self.levels = nn.ModuleList(
            nn.Sequential(
                *(m for a, b in pairwise(widths) for m in (nn.Conv2d(a, b, 3, padding=1), nn.ReLU(inplace=True)))
            )
            for widths in self.LEVELS
        )
        self.requires_grad_(False)

    def features(self, images: Float[Tensor, "n 3 h w"]) -> list[Tensor]:
        x, found = 2 * images - 1, []
        for index, level in enumerate(self.levels):
            x = level(x if index == 0 else nn.functional.max_pool2d(x, 2))
            found.append(x)
        return found

    def forward(self, images: Float[Tensor, "n 3 h w"], targets: Float[Tensor, "n 3 h w"]) -> Float[Tensor, ""]:
        """Mean over pixels, summed over levels, of the squared distance of unit feature vectors, plain."""
        distances = []
        for a, b in zip(self.features(images), self.features(targets), strict=True):
            a, b = (x / (x.square().sum(1, keepdim=True) + 1e-8).sqrt() for x in (a, b))
            distances.append((a - b).square().sum(1).mean())
        return torch.stack(distances).sum()

    def fast(self) -> PerceptualLoss:
        """The same network as training here uses it, in bfloat16 on CUDA."""
        fast = PerceptualLoss()
        for mine, theirs in zip(self.levels, fast.levels, strict=True):
            convolutions = [layer for layer in mine.children() if isinstance(layer, nn.Conv2d)]
            for source, goal in zip(convolutions, theirs.children(), strict=True):
                goal.load_state_dict(source.state_dict())
        return fast
