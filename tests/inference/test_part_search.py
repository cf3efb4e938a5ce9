"""Parts found without a drag: proposals on maps made by hand, and the shipped head on a bundled picture."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors import safe_open

import partrm
from partrm.api import PartRM
from partrm.errors import ConfigError
from partrm.geometry.framing import nominal_crops
from partrm.geometry.joints import JointType
from partrm.inference import part_search
from partrm.inference.part_head import FILE, PartHeadError, PartMaps
from partrm.inference.part_search import NoPartsError, distinct, overlap, propose
from partrm.inference.source import single_view
from partrm.model.checkpoints import LoadedModel
from partrm.model.network import TINY, PartRMNetwork

EXAMPLES = Path(partrm.__file__).parent / "example_images"
SIDE = 32


@pytest.fixture(scope="module")
def base():
    return PartRM.from_pretrained("base", "cpu")


def test_the_head_is_fitted_to_the_bundled_weights(base):
    """New weights have other features: benchmarks/part_head.py fits it again."""
    with safe_open(str(Path(partrm.__file__).parent / "inference" / FILE), "pt") as stored:
        assert stored.metadata() == {"fitted_to": base.model.hash}


def two_squares() -> PartMaps:
    """On a plane across the view: a square that slides to the right, and one that slides up."""
    camera = nominal_crops(1, SIDE, "cpu")[0, 0]
    origins, directions = camera.rays()
    depth = (origins[2] / -directions[..., 2])[..., None]
    middles = torch.arange(SIDE) + 0.5
    own = torch.stack(torch.meshgrid(middles, middles, indexing="xy"), -1)
    movable, centre, displacement = torch.full((SIDE, SIDE), 0.05), own.clone(), torch.zeros(SIDE, SIDE, 3)
    for left, way in ((4, [0.1, 0.0, 0.0]), (17, [0.0, 0.1, 0.0])):
        square = slice(8, 20), slice(left, left + 12)
        movable[square] = 0.9
        noise = 0.4 * torch.randn(12, 12, 2, generator=torch.Generator().manual_seed(left))
        centre[square] = torch.tensor([left + 6.0, 14.0]) + noise
        displacement[square] = torch.tensor(way)
    return PartMaps(movable, displacement, origins + depth * directions, centre)


def test_pixels_that_vote_for_one_middle_are_one_proposal_pulled_along_its_way():
    camera = nominal_crops(1, SIDE, "cpu")[0, 0]
    maps = two_squares()
    found = sorted(propose(maps, torch.ones(SIDE, SIDE), camera), key=lambda proposal: float(proposal.start[0]))
    assert len(found) == 2
    for proposal, left, axis in zip(found, (4, 17), (0, 1), strict=True):
        wanted = torch.zeros(SIDE, SIDE, dtype=torch.bool)
        wanted[8:20, left : left + 12] = True
        assert torch.equal(proposal.mask, wanted)
        assert proposal.movable == pytest.approx(0.9)
        x, y = (SIDE * proposal.start).long().tolist()
        assert wanted[y, x]
        way = proposal.end - proposal.start
        assert abs(float(way[axis])) > 0.05
        assert abs(float(way[1 - axis])) < 1e-4
    half = torch.ones(SIDE, SIDE)
    half[:, :17] = 0.0
    assert len(propose(maps, half, camera)) == 1, "what is not the object is no part of it"


def test_where_nothing_may_move_there_is_no_proposal():
    maps = two_squares()
    camera = nominal_crops(1, SIDE, "cpu")[0, 0]
    assert propose(replace(maps, movable=torch.zeros(SIDE, SIDE)), torch.ones(SIDE, SIDE), camera) == []


def test_masks_overlap_by_what_they_share():
    a, b = torch.zeros(4, 4, dtype=torch.bool), torch.zeros(4, 4, dtype=torch.bool)
    assert overlap(a, b) == 0.0
    a[:2], b[1:] = True, True
    assert overlap(a, b) == pytest.approx(0.25)


def test_drawers_are_found_and_each_once(base, monkeypatch):
    monkeypatch.setattr(part_search, "MAX_PROPOSALS", 3)
    done = []
    views = base.open(EXAMPLES / "drawers.png")
    candidates = part_search.candidates(views, base.model, advance=lambda *numbers: done.append(numbers))
    assert done[-1] == (3, 3)
    kept = distinct([*candidates, *candidates])
    assert len(kept) == 3
    assert [c.confidence for c in kept] == sorted((c.confidence for c in kept), reverse=True)
    assert all(c.joint.type == JointType.PRISMATIC for c in kept)


def test_nothing_sure_enough_is_an_error(base, monkeypatch):
    monkeypatch.setattr(part_search, "MAX_PROPOSALS", 1)
    with pytest.raises(NoPartsError, match="no part that moves is found"):
        base.find_parts(EXAMPLES / "drawers.png", min_confidence=1.0)
    with pytest.raises(ConfigError, match="confidence 2"):
        base.find_parts(EXAMPLES / "drawers.png", min_confidence=2.0)


def test_weights_of_another_shape_are_refused():
    tiny = LoadedModel(PartRMNetwork(TINY).eval(), "tiny", "0" * 16, TINY)
    with pytest.raises(PartHeadError, match="bundled model's features"):
        part_search.candidates(single_view(torch.ones(4, 64, 64), TINY.image_size_px, "auto"), tiny)
