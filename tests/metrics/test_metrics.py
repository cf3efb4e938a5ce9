"""Every metric against a brute-force twin or an independent package, at the ends of its range, and on bad input."""

import math

import numpy as np
import pytest
import torch

from partrm.geometry.transforms import pose, rotation_from_axis_angle
from partrm.metrics import images
from partrm.metrics import motion as metrics


@pytest.fixture
def generator():
    return torch.Generator().manual_seed(0)


def random_pose(generator, *batch):
    axis = torch.nn.functional.normalize(torch.randn(*batch, 3, generator=generator, dtype=torch.float64), dim=-1)
    angle = torch.rand(*batch, generator=generator, dtype=torch.float64) * 3
    return pose(rotation_from_axis_angle(axis, angle), torch.randn(*batch, 3, generator=generator, dtype=torch.float64))


def test_composite_on_white(generator):
    rgba = torch.rand(2, 4, 3, 5, generator=generator)
    over = images.composite_on_white(rgba)
    for b, c, y, x in np.ndindex(2, 3, 3, 5):
        a = float(rgba[b, 3, y, x])
        assert float(over[b, c, y, x]) == pytest.approx(float(rgba[b, c, y, x]) * a + 1 - a, abs=1e-6)


def test_psnr_agrees_with_skimage_and_caps_perfect_images(generator):
    from skimage.metrics import peak_signal_noise_ratio

    target = torch.rand(2, 3, 3, 16, 12, generator=generator, dtype=torch.float64)
    pred = (target + 0.1 * torch.randn(target.shape, generator=generator)).clamp(0, 1)
    pred[1, 2] = target[1, 2]
    value = images.psnr(pred, target, cap_db=48.0)
    assert value.shape == (2, 3)
    for b, v in np.ndindex(2, 3):
        wanted = (
            48.0
            if (b, v) == (1, 2)
            else peak_signal_noise_ratio(target[b, v].numpy(), pred[b, v].numpy(), data_range=1)
        )
        assert float(value[b, v]) == pytest.approx(wanted)
    assert images.psnr(torch.zeros(3, 4, 4), torch.ones(3, 4, 4)) == 0


def test_masked_psnr_counts_only_the_mask(generator):
    target = torch.rand(3, 3, 8, 9, generator=generator, dtype=torch.float64)
    pred = torch.rand(3, 3, 8, 9, generator=generator, dtype=torch.float64)
    mask = torch.rand(3, 8, 9, generator=generator) < 0.3
    mask[2] = False
    value = images.masked_psnr(pred, target, mask)
    for b in range(2):
        squares = [
            float((pred[b, c, y, x] - target[b, c, y, x]) ** 2) for c, y, x in np.ndindex(3, 8, 9) if mask[b, y, x]
        ]
        assert float(value[b]) == pytest.approx(-10 * math.log10(sum(squares) / len(squares)))
    assert math.isnan(float(value[2]))
    torch.testing.assert_close(
        images.masked_psnr(pred, target, torch.ones(3, 8, 9, dtype=torch.bool)), images.psnr(pred, target)
    )


def test_ssim_agrees_with_skimage(generator):
    from skimage.metrics import structural_similarity

    smooth = torch.nn.functional.interpolate(torch.rand(6, 3, 6, 8, generator=generator), (48, 40), mode="bicubic")
    target = smooth.clamp(0, 1)
    pred = (target + 0.1 * torch.randn(target.shape, generator=generator)).clamp(0, 1)
    value = images.ssim(pred.reshape(2, 3, 3, 48, 40), target.reshape(2, 3, 3, 48, 40))
    assert value.shape == (2, 3)
    for got, p, t in zip(value.reshape(-1), pred, target, strict=True):
        wanted = structural_similarity(
            t.numpy(), p.numpy(), data_range=1.0, channel_axis=0, gaussian_weights=True, sigma=1.5,
            use_sample_covariance=False,
        )  # fmt: skip
        assert float(got) == pytest.approx(wanted, abs=2e-5)
    torch.testing.assert_close(images.ssim(target, target), torch.ones(6))


def test_mask_iou(generator):
    pred, target = (torch.rand(4, 6, 7, generator=generator) < 0.5 for _ in range(2))
    pred[2:] = False
    target[3] = False
    value = metrics.mask_iou(pred, target)
    for b in range(4):
        ours, theirs = ({tuple(i) for i in m[b].nonzero().tolist()} for m in (pred, target))
        wanted = len(ours & theirs) / len(ours | theirs) if ours | theirs else 1.0
        assert float(value[b]) == pytest.approx(wanted)


def test_motion_error_ratio(generator):
    points = torch.randn(3, 20, 3, generator=generator, dtype=torch.float64)
    T_pred, T_true = random_pose(generator, 3), random_pose(generator, 3)
    value = metrics.motion_error_ratio(points, T_pred, T_true)
    for b in range(3):
        moved, still = [], []
        for p in points[b]:
            h = torch.cat([p, torch.ones(1, dtype=torch.float64)])
            goal = (T_true[b] @ h)[:3]
            moved.append(float(torch.dist((T_pred[b] @ h)[:3], goal)))
            still.append(float(torch.dist(p, goal)))
        assert float(value[b]) == pytest.approx(sum(moved) / sum(still))
    eye = torch.eye(4, dtype=torch.float64).expand(3, 4, 4)
    torch.testing.assert_close(metrics.motion_error_ratio(points, eye, T_true), torch.ones(3, dtype=torch.float64))
    torch.testing.assert_close(metrics.motion_error_ratio(points, T_true, T_true), torch.zeros(3, dtype=torch.float64))
    with pytest.raises(AssertionError, match="must move"):
        metrics.motion_error_ratio(points, T_true, eye)


def test_drag_error_px():
    pred = torch.tensor([[[3.0, 4.0], [0.0, 1.0], [99.0, 99.0]], [[0.0, 0.0]] * 3])
    valid = torch.tensor([[True, True, False], [False] * 3])
    value = metrics.drag_error_px(pred, torch.zeros_like(pred), valid)
    assert float(value[0]) == pytest.approx(3.0)
    assert math.isnan(float(value[1]))


def test_joint_axis_error_is_the_angle_of_lines(generator):
    a, b = (torch.randn(50, 3, generator=generator, dtype=torch.float64) for _ in range(2))
    value = metrics.joint_axis_error_rad(a, b)
    for got, x, y in zip(value, a.numpy(), b.numpy(), strict=True):
        cosine = x @ y / np.linalg.norm(x) / np.linalg.norm(y)
        assert float(got) == pytest.approx(min(math.acos(cosine), math.acos(-cosine)))
    torch.testing.assert_close(metrics.joint_axis_error_rad(-a, b), value)
    tiny = torch.tensor([[1.0, 1e-6, 0.0]], dtype=torch.float64)
    got = metrics.joint_axis_error_rad(tiny, torch.tensor([[-2.0, 0.0, 0.0]], dtype=torch.float64))
    assert float(got) == pytest.approx(1e-6, rel=1e-6)
    with pytest.raises(AssertionError, match="no length"):
        metrics.joint_axis_error_rad(torch.zeros(1, 3), torch.ones(1, 3))


def test_pivot_distance_against_least_squares(generator):
    axes = torch.randn(2, 30, 3, generator=generator, dtype=torch.float64)
    pivots = torch.randn(2, 30, 3, generator=generator, dtype=torch.float64)
    axes[0, 20:] = -2 * axes[1, 20:]
    value = metrics.pivot_distance(axes[0], pivots[0], axes[1], pivots[1])
    for i in range(30):
        A = torch.stack([axes[0, i], -axes[1, i]], -1).numpy()
        gap = (pivots[1, i] - pivots[0, i]).numpy()
        steps = np.linalg.lstsq(A, gap, rcond=None)[0]
        assert float(value[i]) == pytest.approx(float(np.linalg.norm(A @ steps - gap)), abs=1e-9)
    slid = metrics.pivot_distance(axes[0], pivots[0] + 3 * axes[0], axes[1], pivots[1] - 2 * axes[1])
    torch.testing.assert_close(slid, value)


def test_amount_error_is_that_of_the_nearer_axis(generator):
    """Against the motions themselves: of a point far from the axis, about the true axis or its opposite."""
    axes = torch.nn.functional.normalize(torch.randn(2, 40, 3, generator=generator, dtype=torch.float64), dim=-1)
    axes[0, :20] = axes[1, :20] * torch.where(torch.arange(20) % 2 == 0, 1.0, -1.0)[:, None]
    amounts = torch.randn(2, 40, generator=generator, dtype=torch.float64)
    value = metrics.joint_amount_error(axes[0], amounts[0], axes[1], amounts[1])
    flipped = metrics.joint_amount_error(-axes[0], -amounts[0], axes[1], amounts[1])
    torch.testing.assert_close(flipped, value)
    for i in range(40):
        x, y = axes[:, i].numpy()
        about = float(amounts[0, i]) if math.acos(np.clip(x @ y, -1, 1)) <= math.pi / 2 else -float(amounts[0, i])
        assert float(value[i]) == pytest.approx(abs(about - float(amounts[1, i])))
        if i < 20:  # parallel axes: translations by the amounts end that far apart
            apart = np.linalg.norm(x * float(amounts[0, i]) - y * float(amounts[1, i]))
            assert float(value[i]) == pytest.approx(apart)


def test_drag_error_against_loops(generator):
    pred, target = torch.rand(2, 4, 7, 2, generator=generator) * 256
    valid = torch.rand(4, 7, generator=generator) < 0.6
    valid[:, 0] = True
    value = metrics.drag_error_px(pred, target, valid)
    for b in range(4):
        lengths = [math.dist(pred[b, n].tolist(), target[b, n].tolist()) for n in range(7) if valid[b, n]]
        assert float(value[b]) == pytest.approx(sum(lengths) / len(lengths), rel=1e-5)


def test_ssim_of_one_target_for_many_images(generator):
    several = torch.rand(3, 2, 3, 20, 24, generator=generator)
    target = torch.rand(2, 3, 20, 24, generator=generator)
    torch.testing.assert_close(images.ssim(several, target), images.ssim(several, target.expand_as(several)))


@pytest.mark.parametrize("value", [-0.1, 1.1, float("nan"), 255.0])
def test_images_out_of_range_are_refused(value):
    image, wrong = torch.zeros(3, 12, 12), torch.full((3, 12, 12), value)
    for metric in (images.psnr, images.ssim):
        with pytest.raises(AssertionError, match=r"\[0, 1\]"):
            metric(image, wrong)
        with pytest.raises(AssertionError, match=r"\[0, 1\]"):
            metric(wrong, image)
