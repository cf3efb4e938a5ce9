"""Errors of cut-outs: what they may change, and what they must leave."""

import dataclasses
import math
import warnings
from typing import Any

import pytest
import torch

pytest.importorskip("warp", reason="samples are rendered with warp-lang (extra `data`)")

from support.boxes import cabinet

from partrm.rendering.meshes import MeshScene, material_table
from partrm.synthesis.cutouts import CutOutConfig, crossing_bars, opened, room, rough_cut_out, within_rooms
from partrm.synthesis.effects import EffectConfig
from partrm.synthesis.lighting import LightingConfig
from partrm.synthesis.sampler import SampleConfig, make_samples
from partrm.synthesis.samples import Samples
from partrm.synthesis.scenarios import JointTables

NONE = CutOutConfig(
    thin_share=0.0, outline_share=0.0, hole_share=0.0, leak_share=0.0, thing_share=0.0, coarse_share=0.0
)


def made(batch: int = 6, device: str = "cpu", **changes) -> Samples:
    objects = [cabinet()]
    scene, tables = MeshScene.from_objects(objects, device), JointTables.from_objects(objects).to(device)
    which = torch.zeros(2 * batch, dtype=torch.long, device=device)
    settings: dict[str, Any] = {"image_size_px": 64} | changes
    generator = torch.Generator(device).manual_seed(0)
    materials = material_table(objects).to(device)[which]
    return make_samples(scene, tables, which, materials, SampleConfig(**settings), generator, batch)


def discs(n: int, generator: torch.Generator) -> torch.Tensor:
    """[n, 1, 4, 96, 96] coloured discs of radius 30 with a sharp edge."""
    at = torch.arange(96) - 47.5
    alpha = (at[:, None] ** 2 + at**2 < 30**2).float().expand(n, 1, 1, 96, 96)
    color = torch.rand(n, 1, 3, 1, 1, generator=generator).expand(n, 1, 3, 96, 96)
    return torch.cat([color, alpha], 2)


def test_without_augmentation_nothing_of_it_matters() -> None:
    """Validation samples are the same whatever the ranges are."""
    wild: dict[str, Any] = {
        "cut_outs": CutOutConfig(hole_share=1.0, thing_share=1.0),
        "effects": EffectConfig(jpeg_share=1.0, noise_share=1.0),
        "lighting": LightingConfig(reference_share=0.0, decal_share=1.0, occlusion_share=1.0),
        "rough": 1.0,
    }
    usual, other = (made(augment=False, **c).leaves() for c in ({}, wild))
    for name, values in usual.items():
        assert torch.equal(values, other[name]), name


def test_errors_of_cut_outs_and_files_leave_the_truth_untouched() -> None:
    calm = {"cut_outs": NONE, "effects": EffectConfig(jpeg_share=0.0)}
    gross = {"cut_outs": CutOutConfig(hole_share=1.0, thing_share=1.0), "effects": EffectConfig(jpeg_share=1.0)}
    one, two = (made(rough=1.0, novel_views=1, **c).leaves() for c in (calm, gross))
    for name, values in one.items():
        assert torch.equal(values, two[name]) == (name != "inputs.images"), name


def test_opening_takes_thin_things_and_leaves_thick_ones() -> None:
    alpha = torch.zeros(1, 1, 40, 40)
    alpha[..., 5:25, 5:25] = 1
    solid = alpha.clone()
    alpha[..., 25:38, 10:13] = 1
    assert torch.equal(opened(alpha, 2), solid)


def test_exact_cut_outs_keep_colours_and_opacity() -> None:
    g = torch.Generator().manual_seed(5)
    images = torch.rand(3, 2, 4, 64, 64, generator=g)
    for share, config in ((1.0, NONE), (0.0, CutOutConfig())):
        out = rough_cut_out(images, share, g, config)
        torch.testing.assert_close(out, images, atol=1e-6, rtol=0)


def test_an_outline_beside_the_true_one_stays_near_it_and_takes_the_background_in() -> None:
    g = torch.Generator().manual_seed(6)
    images = discs(100, g)
    config = dataclasses.replace(NONE, outline_share=1.0)
    out = rough_cut_out(images, 1.0, g, config)
    at = torch.arange(96) - 47.5
    radius = (at[:, None] ** 2 + at**2).sqrt()
    assert (out[:, 0, 3, radius < 22] > 0.99).all()
    assert (out[:, 0, 3, radius > 38] < 0.01).all()
    area = out[:, 0, 3].sum((1, 2)) / (math.pi * 30**2)
    assert area.min() < 0.97
    assert area.max() > 1.03
    gained = (images[:, :, 3:] == 0) & (out[:, :, 3:] > 0.5)
    kept = (images[:, :, 3:] == 1) & (out[:, :, 3:] > 0.5)
    same = (out[:, :, :3] - images[:, :, :3]).abs().amax(2, keepdim=True) < 1e-6
    assert same[kept].all()
    assert same[gained].float().mean() < 0.1


def test_things_are_cut_out_or_left_in_as_often_as_told() -> None:
    g = torch.Generator().manual_seed(7)
    images = discs(400, g)
    out = rough_cut_out(images, 0.8, g, dataclasses.replace(NONE, thing_share=0.5))
    inside = images[:, 0, 3] == 1
    lost = ((out[:, 0, 3] == 0) & inside).flatten(1).any(1)
    painted = (((out[:, :, :3] - images[:, :, :3]).abs().amax((1, 2)) > 1e-6) & inside).flatten(1).any(1)
    assert not (lost & painted).any()
    covered = (crossing_bars(400, 96, 96, g) * images[:, 0, 3:]).flatten(1).any(1).float().mean()
    assert abs(float(lost.float().mean()) - 0.2 * float(covered)) < 0.04
    assert abs(float(painted.float().mean()) - 0.2 * float(covered)) < 0.04


def test_rooms_are_seen_only_where_the_object_is_not() -> None:
    g = torch.Generator().manual_seed(8)
    images = discs(20, g)
    out = within_rooms(images, g)
    on = (images[:, :, 3:] > 0).expand(-1, -1, 3, -1, -1)
    assert torch.equal(out[:, :, :3][on], images[:, :, :3][on])
    assert torch.equal(out[:, :, 3], images[:, :, 3])
    rooms = room(50, 32, 40, g)
    assert rooms.min() >= 0
    assert rooms.max() <= 1
    assert rooms.mean((2, 3)).std(0).min() > 0.1, "rooms differ"


def test_two_hundred_samples_lie_in_range() -> None:
    samples = made(batch=200, image_size_px=32)
    for name, values in samples.leaves().items():
        assert values.isfinite().all(), name
    images = samples.inputs.images
    assert images.min() >= 0
    assert images.max() <= 1
    assert (images[samples.valid, 0, 3].flatten(1).amax(1) > 0).float().mean() > 0.99


@pytest.mark.gpu
def test_pictures_are_made_without_waiting_for_the_device() -> None:
    """Augmented samples wait no more often than plain ones, whose few constants are copied to the device."""
    waits = []
    for augment in (False, True):
        made(8, "cuda", augment=augment)
        torch.cuda.set_sync_debug_mode("warn")
        try:
            with warnings.catch_warnings(record=True) as caught:
                warnings.simplefilter("always")
                made(8, "cuda", augment=augment)
        finally:
            torch.cuda.set_sync_debug_mode("default")
        waits.append(sum("synchronizing" in str(w.message) for w in caught))
    assert waits[1] <= waits[0]
