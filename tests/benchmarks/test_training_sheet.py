"""The contact sheet shows the inputs on white, the true part in red, and marks samples without loss."""

from dataclasses import replace

import pytest
import torch

pytest.importorskip("warp", reason="samples are rendered with warp-lang (extra `data`)")

import training_sheet
from support.boxes import cabinet

from partrm.rendering.meshes import MeshScene, material_table
from partrm.synthesis.sampler import SampleConfig, make_samples
from partrm.synthesis.scenarios import JointTables


def test_rows_of_inputs_alternate_with_rows_of_parts() -> None:
    objects = [cabinet()]
    scene, tables = MeshScene.from_objects(objects), JointTables.from_objects(objects)
    which = torch.zeros(14, dtype=torch.long)
    config = SampleConfig(32, drags=1)
    samples = make_samples(scene, tables, which, material_table(objects)[which], config, torch.Generator(), 14)
    samples = replace(samples, valid=torch.arange(14) != 13)
    image = torch.from_numpy(training_sheet.sheet(samples)).float() / 255
    columns = training_sheet.COLUMNS
    assert tuple(image.shape) == (4 * 32, columns * 32, 3)
    for index in range(14):
        row, column = divmod(index, columns)
        place = slice(32 * column, 32 * column + 32)
        shown, marked = (image[64 * row + at : 64 * row + at + 32, place] for at in (0, 32))
        rgb, alpha = samples.inputs.images[index, 0, :3].permute(1, 2, 0), samples.inputs.images[index, 0, 3, ..., None]
        assert (shown - (rgb * alpha + 1 - alpha)).abs().max() < 1 / 255
        moving = samples.targets.moving[index, 0].repeat_interleave(2, 0).repeat_interleave(2, 1)
        blue = (marked - torch.tensor([0, 60, 255]) / 255).abs().amax(-1) < 1e-3
        grey = (marked - 120 / 255).abs().amax(-1) < 1e-3
        red = (marked - (shown + torch.tensor([1.0, 0.1, 0.1])) / 2).abs().amax(-1) < 2 / 255
        assert blue.sum() > 3
        assert (red | blue | grey)[moving].all()
        assert (((marked - shown).abs().amax(-1) < 1e-3) | blue | grey)[~moving].all()
        assert bool(grey.diagonal().float().mean() > 0.5) == (index == 13)
    assert (image[64:, 64:] == 1).all(), "nothing after the last sample"
