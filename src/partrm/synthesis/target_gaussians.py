"""The Gaussian database (PartRM, section 3.4): the Gaussians that a network should answer with, from exact surfaces.

The paper fits them with LGM; here every pixel's surface point, colour, normal and footprint are known, so they are
written down: one flat disc a pixel, as wide as the pixel sees.
"""

import torch
from einops import rearrange
from jaxtyping import Float
from torch import Tensor

from partrm.geometry.cameras import Cameras
from partrm.geometry.gaussians import Gaussians
from partrm.geometry.transforms import matrix_from_quaternion, quaternion_from_matrix
from partrm.model.network import WIDTH_IN_FOOTPRINTS
from partrm.synthesis.samples import MotionTargets

MAX_STRETCH = 5.0
"""How much longer a true Gaussian is along a surface seen at a slant, at most."""

THICKNESS = 0.1
"""Standard deviation of a true Gaussian off its surface, as a share of that across the ray."""


def surface_gaussians(targets: MotionTargets, cameras: Cameras) -> Gaussians:
    """The database's Gaussians [b, v h w] of the source state, as opaque as their pixels are covered.

    Args:
        targets: of some samples; where a pixel shows no surface, only the opacity, zero, has a meaning.
        cameras: [b, v] of the views, in whose frame the targets are; resized to the targets' grid here.
    """
    cameras = cameras.resized(targets.surface.shape[-1])
    ray = torch.nn.functional.normalize(targets.point - cameras.positions[:, :, None, None], dim=-1)
    quats, stretch = discs(targets.normal, ray)
    footprint = targets.distance.clamp(min=1e-2) / cameras.focal_px[..., None, None]
    return Gaussians(
        means=rearrange(targets.point, "b v h w c -> b (v h w) c"),
        quats=rearrange(quats, "b v h w c -> b (v h w) c"),
        scales=rearrange(WIDTH_IN_FOOTPRINTS * footprint[..., None] * stretch, "b v h w c -> b (v h w) c"),
        opacities=rearrange(targets.coverage * targets.surface, "b v h w -> b (v h w)"),
        colors=rearrange(targets.rgb, "b v h w c -> b (v h w) c"),
    )


def discs(
    normal: Float[Tensor, "*batch 3"], ray: Float[Tensor, "*batch 3"]
) -> tuple[Float[Tensor, "*batch 4"], Float[Tensor, "*batch 3"]]:
    """Rotations (wxyz) and relative scales of Gaussians that lie on surfaces and look round along their rays.

    Args:
        normal: unit normals; zero where there is no surface, which gives some valid rotation.
        ray: unit directions from the camera.
    """
    normal = torch.where((normal == 0).all(-1, keepdim=True), -ray, normal)
    cosine = (normal * ray).sum(-1, keepdim=True).abs()
    # Seen head on, any direction along the surface will do.
    spare = torch.zeros_like(ray).scatter(-1, normal.abs().argmin(-1, keepdim=True), 1.0)
    across = torch.cross(normal, torch.where(cosine > 1 - 1e-4, spare, ray), dim=-1)
    across = torch.nn.functional.normalize(across, dim=-1)
    along = torch.cross(normal, across, dim=-1)
    quats = quaternion_from_matrix(torch.stack([across, along, normal], -1))
    stretch = 1 / cosine.clamp(min=1 / MAX_STRETCH)
    ones = torch.ones_like(stretch)
    return quats, torch.cat([ones, stretch, THICKNESS * ones], -1)


def covariance(quats: Float[Tensor, "*batch 4"], scales: Float[Tensor, "*batch 3"]) -> Float[Tensor, "*batch 6"]:
    """Covariance of Gaussians, ``R diag(s²) R^T``: its entries xx, yy, zz, xy, xz, yz.

    Entry by entry: products of millions of 3x3 matrices took a tenth of a training step on a GPU.
    """
    rows = [row.unbind(-1) for row in matrix_from_quaternion(quats).unbind(-2)]
    variances = scales.square().unbind(-1)
    scaled = [[value * variance for value, variance in zip(row, variances, strict=True)] for row in rows]

    def entry(i: int, j: int) -> Float[Tensor, "*batch"]:
        return scaled[i][0] * rows[j][0] + scaled[i][1] * rows[j][1] + scaled[i][2] * rows[j][2]

    return torch.stack([entry(0, 0), entry(1, 1), entry(2, 2), entry(0, 1), entry(0, 2), entry(1, 2)], -1)
