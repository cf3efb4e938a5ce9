import torch
from einops import rearrange

from partrm.data.gaussian_database import MOST_STRETCH, THICKNESS, covariance, discs


def some_directions(n: int, seed: int) -> torch.Tensor:
    return torch.nn.functional.normalize(torch.randn(n, 3, generator=torch.Generator().manual_seed(seed)), dim=-1)


def test_discs_look_round_along_the_ray_and_lie_on_the_surface() -> None:
    """Seen along its ray, a disc's outline is a circle: the projected covariance is the identity across the ray."""
    normal, ray = some_directions(500, 0), some_directions(500, 1)
    slanted = (normal * ray).sum(-1).abs() > 1 / MOST_STRETCH
    quats, stretch = discs(normal, ray)
    C = covariance(quats, stretch)
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
        assert float(stretch.max()) <= MOST_STRETCH + 1e-4


def test_covariance_equals_the_sum_over_axes() -> None:
    q = torch.nn.functional.normalize(torch.randn(5, 4, generator=torch.Generator().manual_seed(4)), dim=-1)
    s = torch.rand(5, 3, generator=torch.Generator().manual_seed(5)) + 0.1
    C = covariance(q, s)
    assert torch.allclose(torch.linalg.eigvalsh(C), (s**2).sort(-1).values, atol=1e-5)
    assert torch.allclose(C, rearrange(C, "n i j -> n j i"))
