import torch

from partrm.geometry.transforms import matrix_from_quaternion
from partrm.synthesis.target_gaussians import MAX_STRETCH, THICKNESS, covariance, discs
from partrm.training.losses import frobenius


def some_directions(n: int, seed: int) -> torch.Tensor:
    return torch.nn.functional.normalize(torch.randn(n, 3, generator=torch.Generator().manual_seed(seed)), dim=-1)


def matrices(entries: torch.Tensor) -> torch.Tensor:
    """xx, yy, zz, xy, xz, yz to symmetric matrices."""
    return entries[..., [0, 3, 4, 3, 1, 5, 4, 5, 2]].unflatten(-1, (3, 3))


def test_discs_look_round_along_the_ray_and_lie_on_the_surface() -> None:
    """Seen along its ray, a disc's outline is a circle: the projected covariance is the identity across the ray."""
    normal, ray = some_directions(500, 0), some_directions(500, 1)
    slanted = (normal * ray).sum(-1).abs() > 1 / MAX_STRETCH
    quats, stretch = discs(normal, ray)
    C = matrices(covariance(quats, stretch))
    # Shadow of the flat part (thickness removed) on the plane across the ray, thrown along the ray.
    flat = C - THICKNESS**2 * normal[:, :, None] * normal[:, None, :]
    assert torch.allclose((flat @ normal[..., None]).squeeze(-1), torch.zeros(500, 3), atol=1e-4)
    across = torch.eye(3) - ray[:, :, None] * ray[:, None, :]
    shadow = across @ flat @ across
    assert torch.allclose(shadow[slanted], across[slanted], atol=1e-3)


def test_grazing_and_missing_surfaces_stay_finite() -> None:
    ray = some_directions(3, 2)
    sideways = torch.nn.functional.normalize(torch.cross(ray, some_directions(3, 3), dim=-1), dim=-1)
    for normal in (sideways, torch.zeros(3, 3), ray, -ray):
        quats, stretch = discs(normal, ray)
        assert torch.allclose(quats.norm(dim=-1), torch.ones(3), atol=1e-5)
        assert float(stretch.max()) <= MAX_STRETCH + 1e-4


def test_covariance_equals_the_sum_over_axes() -> None:
    q = torch.nn.functional.normalize(torch.randn(5, 4, generator=torch.Generator().manual_seed(4)), dim=-1)
    s = torch.rand(5, 3, generator=torch.Generator().manual_seed(5)) + 0.1
    entries = covariance(q, s)
    axes = matrix_from_quaternion(q) * s[:, None]
    assert torch.allclose(matrices(entries), axes @ axes.mT, atol=1e-6)
    assert torch.allclose(torch.linalg.eigvalsh(matrices(entries)), (s**2).sort(-1).values, atol=1e-5)
    assert torch.allclose(frobenius(entries), matrices(entries).norm(dim=(-2, -1)), atol=1e-5)
