"""Pictures without drags: what their cells say of parts and joints, against the joints themselves."""

from dataclasses import replace

import pytest
import torch

pytest.importorskip("warp", reason="samples are rendered with warp-lang (extra `data`)")

from support.boxes import cabinet

from partrm.geometry.joints import JointType
from partrm.model.part_network import OPENED_RAD, OPENED_UNITS
from partrm.rendering.meshes import MeshScene, material_table
from partrm.synthesis import part_samples
from partrm.synthesis.part_samples import PartSamples, make_part_samples, owners
from partrm.synthesis.sampler import SampleConfig
from partrm.synthesis.scenarios import JointTables

SIDE = 32


def made(batch: int = 6) -> PartSamples:
    objects = [cabinet()]
    scene, tables = MeshScene.from_objects(objects), JointTables.from_objects(objects)
    which = torch.zeros(batch, dtype=torch.long)
    config = SampleConfig(image_size_px=2 * SIDE, augment=False)
    return make_part_samples(
        scene, tables, which, material_table(objects)[which], config, torch.Generator().manual_seed(0)
    )


@pytest.fixture(scope="module")
def samples() -> PartSamples:
    return made()


def test_parts_belong_to_the_nearest_joint_above_them() -> None:
    tables = JointTables.from_objects([cabinet()])
    free = tables.joint_type[0] != JointType.FIXED
    (own,) = owners(tables)
    slots = torch.arange(len(own))
    assert torch.equal(own[free], slots[free])
    fixed = own[~free]
    parents = tables.parent[0][~free]
    assert torch.equal(fixed, torch.where(parents >= 0, own[parents.clamp(min=0)], -1))
    still = replace(tables, lower=torch.zeros_like(tables.lower), upper=torch.zeros_like(tables.upper))
    assert bool((owners(still) == -1).all()), "a joint without a range moves nothing"


def test_cells_of_one_part_point_at_one_middle(samples: PartSamples) -> None:
    t, seen = samples.targets, 0
    grid = torch.arange(SIDE) + 0.5
    place = torch.stack(torch.meshgrid(grid, grid, indexing="xy"), -1)
    for row in range(len(t.owner)):
        for slot in t.owner[row][t.moves[row]].unique():
            on = t.owner[row] == slot
            middles = (place + t.to_middle[row])[on]
            assert torch.allclose(middles, place[on].mean(0).expand_as(middles), atol=1e-3)
            assert bool((t.cells[row][on] == on.sum()).all())
            x, y = middles[0].long().tolist()
            assert float(t.middle[row][y, x]) > 0.75
            seen += 1
    assert seen >= 6


def test_joints_are_those_that_open_the_parts(samples: PartSamples) -> None:
    t = samples.targets
    turns, slides = t.moves & t.hinge, t.moves & ~t.hinge
    assert bool(turns.any())
    assert bool(slides.any())
    assert torch.allclose(t.axis[t.moves].norm(dim=-1), torch.tensor(1.0), atol=1e-5)
    assert torch.allclose(t.displacement[slides], OPENED_UNITS * t.axis[slides], atol=1e-5)
    arm, axis, moved = -t.to_axis[turns], t.axis[turns], t.displacement[turns]
    assert float((arm * axis).sum(-1).abs().max()) < 1e-5, "the way to a hinge is across it"
    assert torch.allclose(moved.norm(dim=-1), 2 * torch.sin(torch.tensor(OPENED_RAD / 2)) * arm.norm(dim=-1), atol=1e-5)
    assert bool(((torch.linalg.cross(arm, moved) * axis).sum(-1) >= -1e-6).all()), "right-handed"
    for name in ("axis", "to_axis", "displacement", "to_middle", "cells"):
        assert not bool(t.leaves()[name][~(t.owner >= 0)].any()), name


def test_no_drag_is_shown_and_small_parts_do_not_count(samples: PartSamples, monkeypatch: pytest.MonkeyPatch) -> None:
    assert not bool(samples.inputs.drags.valid.any())
    assert samples.inputs.images.shape == (6, 1, 4, 2 * SIDE, 2 * SIDE)
    monkeypatch.setattr(part_samples, "LEAST_CELLS", SIDE * SIDE)
    none = made()
    assert not bool(none.targets.moves.any())
    assert torch.equal(none.targets.owner, samples.targets.owner)
    assert torch.equal(none.targets.counts, samples.targets.counts & (samples.targets.owner < 0))
