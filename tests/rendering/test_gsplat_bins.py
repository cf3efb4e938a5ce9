"""The blocks that gsplat's kernels are given are those of the reference rasterizer."""

import pytest
import torch

gsplat_splats = pytest.importorskip("partrm.rendering._gsplat_splats", reason="gsplat is not installed")


def test_gsplats_rule_on_our_bins_gives_the_references_blocks(generator) -> None:
    n, blocks = 20_000, 8
    centres = (torch.rand(n, 2, generator=generator) * 1.6 - 0.3) * 16 * blocks
    root = torch.randn(n, 2, 2, generator=generator, dtype=torch.float64) * 8
    cov = root @ root.mT + 0.3 * torch.eye(2)
    inverse = torch.linalg.inv(cov)
    conics = torch.stack([inverse[:, 0, 0], inverse[:, 0, 1], inverse[:, 1, 1]], -1)
    far = torch.full((n, 2), 10_000, dtype=torch.int32)
    far[::7] = 0  # not drawn
    bins = gsplat_splats.reference_bins(centres, conics, far)
    # gsplat's rule (IntersectTile.cu), tiles of 32 half pixels.
    c, r = bins.centres / bins.tile, bins.radii / bins.tile
    first, last = (x.clamp(0, blocks) for x in ((c - r).floor(), (c + r).ceil()))
    # The reference's rule: pixels count from the first one's centre.
    largest = torch.linalg.eigvalsh(cov)[:, 1:]
    radius = (3 * largest.sqrt()).ceil()
    from_centre = centres - 0.5
    expected_first = ((from_centre - radius) / 16).floor().clamp(0, blocks)
    expected_last = ((from_centre + radius + 15) / 16).floor().clamp(0, blocks)
    drawn = torch.arange(n) % 7 != 0
    assert (bins.radii[~drawn] == 0).all()
    wrong = (first != expected_first) | (last != expected_last)
    assert wrong[drawn].float().mean() < 1e-3  # where rounding decides
    narrow = gsplat_splats.reference_bins(centres, conics, far.clamp(max=5))
    assert (narrow.radii <= bins.radii).all()
    assert (narrow.radii[drawn] <= 12).all()
