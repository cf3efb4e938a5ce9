"""The splat renderer against a brute-force oracle, the reference rasterizer's golden file, and singular points."""

import math
import sys
from concurrent.futures import ThreadPoolExecutor
from dataclasses import fields, replace
from pathlib import Path

import numpy as np
import pytest
import torch
from support.splat_oracle import oracle

import partrm.rendering._cpu_splats
from partrm.geometry.cameras import Cameras, canonical_orbit
from partrm.geometry.gaussians import Gaussians
from partrm.imaging.drawing import to_bytes
from partrm.paper.verify import load_splat_golden, verify_splats
from partrm.rendering.splats import SplatBackendError, render_splats, render_states

GOLDEN = Path(__file__).parents[1] / "golden" / "splat_a.npz"
NAMES = tuple(f.name for f in fields(Gaussians))


def random_gaussians(n: int, seed: int, scale: float = 0.08, batch: tuple[int, ...] = ()) -> Gaussians:
    g = torch.Generator().manual_seed(seed)
    return Gaussians(
        means=torch.rand(*batch, n, 3, generator=g) - 0.5,
        quats=torch.randn(*batch, n, 4, generator=g),
        scales=torch.rand(*batch, n, 3, generator=g) * scale + 0.01,
        opacities=torch.rand(*batch, n, generator=g),
        colors=torch.rand(*batch, n, 3, generator=g),
    )


def some_cameras(width: int = 21, height: int = 34, count: int = 2) -> Cameras:
    return replace(canonical_orbit(count, 32), width=width, height=height)


def leaves_of(gaussians: Gaussians, dtype: torch.dtype = torch.float32) -> Gaussians:
    return Gaussians(**{n: getattr(gaussians, n).detach().to(dtype).clone().requires_grad_() for n in NAMES})


def scenes() -> dict[str, Gaussians]:
    opaque = random_gaussians(60, seed=2, scale=0.4)
    wide = random_gaussians(30, seed=3, scale=0.3)
    return {
        "few": random_gaussians(40, seed=1),
        "closing pixels": replace(opaque, opacities=0.6 + 0.4 * opaque.opacities),
        "full opacity": replace(opaque, opacities=torch.ones(60)),
        "needles": replace(wide, scales=wide.scales * torch.tensor([1.0, 0.01, 0.01])),
        "across the frame": replace(wide, means=wide.means * torch.tensor([6.0, 6.0, 2.0])),
        "around the camera": replace(wide, means=wide.means * 6),
    }


@pytest.mark.parametrize("name", scenes())
def test_matches_brute_force(name, generator):
    gaussians, cameras = scenes()[name], some_cameras()
    ours, exact = leaves_of(gaussians), leaves_of(gaussians, torch.float64)
    images = render_splats(ours, cameras, background=torch.zeros(3), backend="cpu")
    expected = [oracle(exact, cameras[i]) for i in range(2)]
    rgb, alpha = (torch.stack(parts) for parts in zip(*expected, strict=True))
    torch.testing.assert_close(images.rgb.double(), rgb, atol=2e-5, rtol=0)
    torch.testing.assert_close(images.alpha.double(), alpha, atol=2e-5, rtol=0)
    v_rgb, v_alpha = torch.randn(rgb.shape, generator=generator), torch.randn(alpha.shape, generator=generator)
    ((images.rgb * v_rgb).sum() + (images.alpha * v_alpha).sum()).backward()
    ((rgb * v_rgb).sum() + (alpha * v_alpha).sum()).backward()
    for field in NAMES:
        grad, reference = getattr(ours, field).grad.double(), getattr(exact, field).grad
        assert (grad - reference).norm() <= 1e-3 * reference.norm(), field


def test_matches_the_reference_rasterizer():
    for check in verify_splats(load_splat_golden(GOLDEN), "cpu", "cpu"):
        assert check.ok, check
        assert check.mean < (1e-6 if check.quantity in ("image", "alpha") else 1e-3), check


@pytest.mark.gpu
def test_gsplat_matches_the_reference_rasterizer_and_the_cpu(generator):
    checks = verify_splats(load_splat_golden(GOLDEN), "gsplat", "cuda")
    assert all(check.ok for check in checks), checks
    gaussians = random_gaussians(500, seed=4, batch=(3,))
    one = canonical_orbit(2, 96)
    cameras = Cameras(one.T_world_camera.repeat(3, 1, 1, 1), one.fovy_rad.repeat(3, 1), 96, 80)
    cotangent = torch.randn(3, 2, 3, 80, 96, generator=generator)
    results = []
    for device in ("cpu", "cuda"):
        leaves = leaves_of(gaussians.to(device))
        images = render_splats(leaves, cameras.to(device))
        (images.rgb * cotangent.to(device)).sum().backward()
        results.append([images.rgb.detach().cpu(), *(getattr(leaves, n).grad.cpu() for n in NAMES)])
    (cpu_rgb, *cpu_grads), (cuda_rgb, *cuda_grads) = results
    assert (cpu_rgb - cuda_rgb).abs().mean() < 1e-4
    for name, a, b in zip(NAMES, cpu_grads, cuda_grads, strict=True):
        assert (a - b).norm() < 3e-2 * a.norm(), name


def test_batches_and_threads_change_nothing():
    gaussians = random_gaussians(300, seed=5, batch=(2,))
    orbit = some_cameras(40, 40, 4)
    cameras = Cameras(orbit.T_world_camera.unflatten(0, (2, 2)), orbit.fovy_rad.unflatten(0, (2, 2)), 40, 40)
    leaves = leaves_of(gaussians)
    images = render_splats(leaves, cameras)
    images.rgb.square().sum().backward()
    threads = torch.get_num_threads()
    torch.set_num_threads(3)
    try:
        with ThreadPoolExecutor(2) as pool:
            alone = list(pool.map(lambda b: render_splats(gaussians[b], cameras[b]), range(2)))
        single = leaves_of(gaussians[1])
        render_splats(single, cameras[1]).rgb.square().sum().backward()
    finally:
        torch.set_num_threads(threads)
    for b in range(2):
        assert torch.equal(images.rgb[b], alone[b].rgb)
        assert torch.equal(images.alpha[b], alone[b].alpha)
    for name in NAMES:
        torch.testing.assert_close(getattr(leaves, name).grad[1], getattr(single, name).grad, atol=1e-4, rtol=1e-4)


def test_states_one_after_another_are_the_same_images(generator):
    """What has not changed since the state before is not drawn anew: moved, recoloured, gone and back again."""
    n, camera = 300, canonical_orbit(1, 60)
    rand = torch.rand(n, 11, generator=generator)
    before = Gaussians(
        rand[:, :3] - 0.5, 2 * rand[:, 3:7] - 1, 0.01 + 0.03 * rand[:, 7:10], 0.2 + 0.7 * rand[:, 10], rand[:, :3]
    )
    part = (torch.arange(n) < 40)[:, None]
    moved = replace(before, means=torch.where(part, before.means + torch.tensor([0.2, 0.0, 0.1]), before.means))
    painted = replace(moved, colors=torch.where(part, 1 - moved.colors, moved.colors))
    away = replace(before, means=torch.where(part, torch.tensor([0.0, 0.0, 9.0]), before.means))
    states = [before, moved, painted, away, away, before]
    for state, shown in zip(states, render_states(states, camera), strict=True):
        alone = render_splats(state, camera)
        assert torch.equal(shown.rgb, alone.rgb)
        assert torch.equal(shown.alpha, alone.alpha)


def test_background_and_straight_alpha():
    gaussians, cameras = random_gaussians(60, seed=6), some_cameras()
    black = render_splats(gaussians, cameras, background=torch.zeros(3))
    white = render_splats(gaussians, cameras)
    torch.testing.assert_close(white.rgb, black.rgb + 1 - black.alpha[:, None], atol=1e-6, rtol=0)
    rgba = white.rgba()
    torch.testing.assert_close(rgba[:, :3] * rgba[:, 3:], black.rgb, atol=1e-6, rtol=0)
    assert rgba[:, :3][(rgba[:, 3:] == 0).expand(-1, 3, -1, -1)].abs().max() == 0


def test_gradients_are_finite_at_singular_points():
    """One visible Gaussian, then: zero opacity, behind, at the camera, scale 0 and 1e-12, huge, no rotation, NaN."""
    n = 9
    means, scales, opacities = torch.zeros(n, 3), torch.full((n, 3), 0.1), torch.full((n,), 0.7)
    quats = torch.tensor([1.0, 0, 0, 0]).repeat(n, 1)
    opacities[1] = 0.0
    means[2, 2], means[3, 2] = 10.0, 2.4
    scales[4], scales[5], scales[6] = 0.0, 1e-12, 1e8
    quats[7] = 0.0
    means[8, 0] = torch.nan
    leaves = leaves_of(Gaussians(means, quats, scales, opacities, torch.full((n, 3), 0.5)))
    images = render_splats(leaves, some_cameras(count=1))
    (images.rgb.square().sum() + images.alpha.sum()).backward()
    assert torch.isfinite(images.rgb).all()
    for name in NAMES:
        grad = getattr(leaves, name).grad
        assert torch.isfinite(grad).all(), name
        assert grad[[1, 2, 3, 8]].abs().max() == 0, name
    assert all(getattr(leaves, name).grad[0].abs().max() > 0 for name in ("means", "scales", "opacities", "colors"))


def test_nothing_to_render():
    empty = random_gaussians(5, seed=0)[torch.zeros(5, dtype=torch.bool)]
    images = render_splats(leaves_of(empty), some_cameras())
    assert (images.rgb == 1).all()
    assert (images.alpha == 0).all()
    images.rgb.sum().backward()


def test_a_single_splat_stands_where_its_camera_projects_it():
    cameras = canonical_orbit(3, 65)
    point = torch.tensor([[0.2, -0.15, 0.1]])
    splat = Gaussians(point, torch.tensor([[1.0, 0, 0, 0]]), torch.full((1, 3), 0.02), torch.ones(1), torch.ones(1, 3))
    alpha = render_splats(splat, cameras).alpha
    rows, columns = torch.meshgrid(torch.arange(65) + 0.5, torch.arange(65) + 0.5, indexing="ij")
    total = alpha.sum((-1, -2))
    centroid = torch.stack([(alpha * columns).sum((-1, -2)) / total, (alpha * rows).sum((-1, -2)) / total], -1)
    pixels, _ = cameras.project(point.expand(3, 1, 3))
    torch.testing.assert_close(centroid, pixels[:, 0], atol=0.03, rtol=0)
    footprint_px = 0.02 * float(cameras.focal_px[0]) / 2.4
    spread = ((alpha[0] * (columns - centroid[0, 0]) ** 2).sum() / total[0]).sqrt()
    assert math.isclose(float(spread), math.hypot(footprint_px, math.sqrt(0.3)), rel_tol=0.1)


def test_wrong_use_is_refused(monkeypatch):
    gaussians, cameras = random_gaussians(5, seed=0), some_cameras()
    with pytest.raises(ValueError, match="needed"):
        render_splats(gaussians[None], cameras)
    with pytest.raises(ValueError, match="needed"):
        render_splats(gaussians, cameras[0])
    with pytest.raises(ValueError, match="gsplat splat backend"):
        render_splats(gaussians, cameras, backend="gsplat")
    monkeypatch.setitem(sys.modules, "numba", None)
    for module in ("rasterizer", "blending", "projection"):
        monkeypatch.delitem(sys.modules, f"partrm.rendering._cpu_splats.{module}", raising=False)
        monkeypatch.delattr(partrm.rendering._cpu_splats, module, raising=False)
    with pytest.raises(SplatBackendError, match="numba"):
        render_splats(gaussians, cameras)


@pytest.mark.parametrize("background", [None, torch.tensor([0.2, 0.0, 1.0])])
def test_bytes_are_those_of_the_rounded_images(background):
    torch.manual_seed(1)
    n = 60
    gaussians = Gaussians(
        0.5 * torch.randn(n, 3), torch.randn(n, 4), 0.05 + 0.2 * torch.rand(n, 3), torch.rand(n), torch.rand(n, 3)
    )
    shown = render_splats(gaussians, canonical_orbit(3, 40), background=background)
    assert bool((shown.alpha == 0).any())
    assert bool((shown.alpha > 0).any())
    assert np.array_equal(shown.rgba_bytes(), np.stack([to_bytes(image) for image in shown.rgba()]))
