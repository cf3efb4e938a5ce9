"""The CUDA backend of :mod:`partrm.rendering.splats`: gsplat 1.5 (Ye et al. 2024), all batch elements in one call.

gsplat draws a splat wherever its alpha is visible. The authors' rasterizer (Kerbl et al. 2023), and our CPU kernels,
cut a splat to the 16-pixel blocks that the square of three standard deviations around it touches: a faint rim is lost
(alpha below 0.012), up to 0.03 where several meet. ``block_cut`` gives gsplat's kernels those blocks.
"""

from typing import NamedTuple

import torch
from einops import rearrange, repeat
from gsplat import fully_fused_projection, isect_offset_encode, isect_tiles, rasterization, rasterize_to_pixels
from jaxtyping import Float, Int
from torch import Tensor

from partrm.geometry.cameras import Cameras
from partrm.geometry.gaussians import Gaussians

BLOCK_PX = 16
"""Side of a tile, gsplat's and the reference's."""


def rasterize(
    gaussians: Gaussians, cameras: Cameras, low_pass_px: float, near: float, block_cut: bool
) -> tuple[Float[Tensor, "b v 3 h w"], Float[Tensor, "b v h w"]]:
    """Premultiplied colour and alpha of ``gaussians`` [b, n] in ``cameras`` [b, v], in the Gaussians' precision."""
    means, quats, scales = (x.float().contiguous() for x in (gaussians.means, gaussians.quats, gaussians.scales))
    opacities, colors = gaussians.opacities.float().contiguous(), gaussians.colors.float().contiguous()
    poses, K = cameras.T_camera_world.float().contiguous(), cameras.K.float().contiguous()
    size = (cameras.width, cameras.height)
    if block_cut:
        projected = fully_fused_projection(
            means, None, quats, scales, poses, K, *size, eps2d=low_pass_px, near_plane=near, opacities=opacities
        )
        rgb, alpha = _blend_blocks(projected, opacities, colors, *size)
    else:
        rgb, alpha, _ = rasterization(
            means, quats, scales, opacities, colors, poses, K, *size, near_plane=near, eps2d=low_pass_px, packed=False
        )
    dtype = gaussians.means.dtype
    return rearrange(rgb, "b v h w c -> b v c h w").to(dtype), alpha.squeeze(-1).to(dtype)


def _blend_blocks(
    projected: tuple[Tensor, ...],
    opacities: Float[Tensor, "b n"],
    colors: Float[Tensor, "b n 3"],
    width: int,
    height: int,
) -> tuple[Float[Tensor, "b v h w 3"], Float[Tensor, "b v h w 1"]]:
    """What ``gsplat.rasterization`` does after its projection, with the reference's blocks."""
    radii, centres, depths, conics, _ = projected
    views = radii.shape[1]
    bins = reference_bins(centres.detach(), conics.detach(), radii)
    across, down = -(-width // BLOCK_PX), -(-height // BLOCK_PX)
    _, ids, flat_ids = isect_tiles(bins.centres, bins.radii, depths.detach(), bins.tile, across, down)
    offsets = isect_offset_encode(ids, radii.shape[0] * views, across, down)
    offsets = rearrange(offsets, "(b v) h w -> b v h w", v=views)
    shown = repeat(colors, "b n c -> b v n c", v=views)
    alphas = repeat(opacities, "b n -> b v n", v=views)
    return rasterize_to_pixels(centres, conics, shown, alphas, width, height, BLOCK_PX, offsets, flat_ids)


class Bins(NamedTuple):
    """Intervals whose tiles, by gsplat's rule, are the reference's blocks."""

    centres: Float[Tensor, "*batch n 2"]
    """Half pixels."""
    radii: Int[Tensor, "*batch n 2"]
    """Half pixels; 0 where nothing is drawn."""
    tile: int
    """Side of a tile, half pixels."""


def reference_bins(
    centres: Float[Tensor, "*batch n 2"], conics: Float[Tensor, "*batch n 3"], radii: Int[Tensor, "*batch n 2"]
) -> Bins:
    """Where the reference's rasterizer draws splats, for ``gsplat.isect_tiles``.

    The reference bins a splat into the blocks from ``floor((c - r) / 16)`` to before ``floor((c + r + 15) / 16)`` (c
    from the first pixel's centre, r three standard deviations, rounded up); gsplat from ``floor((c' - r') / 16)`` to
    before ``ceil((c' + r') / 16)``. They agree for ``c' = c - 1/2`` and ``r' = r - 1/2``: whole in half pixels.

    Args:
        centres: projected means, pixels (the first pixel's centre at 0.5).
        conics: inverse 2D covariances (xx, xy, yy).
        radii: gsplat's own extents, pixels; 0 for what is not drawn.
    """
    drawn = (radii > 0).all(-1)
    a, b, c = conics.double().unbind(-1)
    det = torch.where(drawn, a * c - b * b, 1.0)
    half, product = 0.5 * (a + c) / det, 1 / det
    largest = half + (half * half - product).clamp_min(0.1).sqrt()
    reach = (2 * torch.ceil(3 * largest.sqrt()) - 1).clamp(1, 2**20).int()
    # gsplat's extents, where smaller, leave out only what is invisible; one pixel more covers the shifted centre.
    both = torch.minimum(reach[..., None], 2 * radii + 2)
    return Bins(2 * (centres - 1), torch.where(drawn[..., None], both, 0).to(radii.dtype), 2 * BLOCK_PX)
