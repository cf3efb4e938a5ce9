"""What cameras and files do to pictures, against what must stay of them."""

import dataclasses

import numpy as np
import pytest
import torch
from PIL import Image

from partrm.synthesis.effects import EffectConfig, affected, blurred, compressed, with_sensor_noise

NONE = EffectConfig(vignette_share=0.0, blur_share=0.0, noise_share=0.0, jpeg_share=0.0)


def test_jpeg_of_quality_100_is_nearly_the_picture_and_of_10_is_not() -> None:
    g = torch.Generator().manual_seed(4)
    rgb = blurred(torch.rand(2, 3, 32, 32, generator=g), torch.full((2,), 1.0))
    fine, coarse = (compressed(rgb, torch.full((2,), q)) for q in (100.0, 10.0))
    assert (fine - rgb).abs().max() < 0.02
    assert 0.01 < (coarse - rgb).abs().mean() < 0.1
    flat = torch.full((1, 3, 16, 16), 0.5)
    assert (compressed(flat, torch.tensor([30.0])) - flat).abs().max() < 0.03


@pytest.mark.parametrize(("quality", "side"), [(90, 48), (40, 44), (20, 61)])
def test_jpeg_is_the_files_own(tmp_path, quality: int, side: int) -> None:
    """Pillow's files without chroma subsampling, at sides that are no multiples of a block as well."""
    g = torch.Generator().manual_seed(5)
    rgb = blurred(torch.rand(1, 3, side, side, generator=g), torch.full((1,), 1.2))
    pixels = (255 * rgb[0].permute(1, 2, 0)).round().byte().numpy()
    Image.fromarray(pixels).save(tmp_path / "a.jpg", quality=quality, subsampling=0)
    wanted = torch.from_numpy(np.asarray(Image.open(tmp_path / "a.jpg")).copy()).permute(2, 0, 1) / 255
    exact = torch.from_numpy(pixels).permute(2, 0, 1)[None] / 255
    ours = compressed(exact, torch.tensor([float(quality)]))[0]
    assert ours.shape == wanted.shape
    # Files round to whole levels before the DCT and after it, which fine quanta see.
    levels = 1.5 / 255
    assert (ours - wanted).abs().mean() < max(levels, 0.35 * float((exact[0] - wanted).abs().mean()))


def test_blur_keeps_the_mean_and_a_sigma_of_zero_keeps_all() -> None:
    x = torch.zeros(2, 3, 33, 33)
    x[:, :, 16, 16] = 1
    y = blurred(x, torch.tensor([0.0, 1.2]))
    torch.testing.assert_close(y[0], x[0])
    assert y[1, 0].sum().item() == pytest.approx(1.0, abs=1e-4)
    at = torch.arange(33.0) - 16
    spread = (y[1, 0].sum(0) * at**2).sum().sqrt()
    assert spread.item() == pytest.approx(1.2, abs=0.02)


def test_sensor_noise_is_as_strong_as_told_and_stronger_in_the_dark() -> None:
    g = torch.Generator().manual_seed(6)
    dark, bright = (
        with_sensor_noise(torch.full((4, 1, 3, 64, 64), v), torch.full((4, 1, 1, 1, 1), 0.02), g) - v
        for v in (0.1, 0.9)
    )
    assert dark.std() > 1.5 * bright.std()
    assert abs(float(dark.mean())) < 2e-3
    middle = with_sensor_noise(torch.full((4, 1, 3, 64, 64), 0.5), torch.full((4, 1, 1, 1, 1), 0.02), g) - 0.5
    assert 0.013 < float(middle.std()) < 0.022


def test_without_effects_pictures_stay_and_with_all_they_stay_in_range() -> None:
    g = torch.Generator().manual_seed(7)
    rgb = torch.rand(50, 2, 3, 32, 40, generator=g)
    torch.testing.assert_close(affected(rgb, NONE, g), rgb)
    out = affected(rgb, EffectConfig(1.0, 1.0, 1.0, (0.3, 1.3), 1.0, (0.05, 0.3), 1.0, (1.0, 100.0)), g)
    assert out.isfinite().all()
    assert out.min() >= 0
    assert out.max() <= 1


def test_vignettes_darken_the_corners_most_and_the_middle_not_at_all() -> None:
    rgb = torch.full((200, 1, 3, 33, 33), 0.8)
    config = dataclasses.replace(NONE, vignette_share=0.5, vignette=0.4)
    out = affected(rgb, config, torch.Generator().manual_seed(8))[:, 0, 0]
    torch.testing.assert_close(out[:, 16, 16], torch.full((200,), 0.8))
    assert (out[:, 0, 0] >= 0.8 * 0.6 - 1e-6).all()
    assert (out[:, 0, 0] <= out[:, 0, 16] + 1e-6).all()
    assert 0.4 < (out[:, 0, 0] < 0.8 - 1e-5).float().mean() < 0.6
