"""Parts found without a drag: proposals on maps made by hand, and the shipped weights on bundled pictures."""

import math
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save

import partrm
from partrm.api import PartRM
from partrm.cli import main
from partrm.errors import ConfigError
from partrm.geometry.drag_numbers import DragError
from partrm.geometry.drags import Drags
from partrm.geometry.framing import nominal_crops
from partrm.geometry.joints import JointMotion, JointType
from partrm.geometry.transforms import rotation_from_axis_angle
from partrm.inference import part_maps, part_search, pipeline
from partrm.inference.batch import Job
from partrm.inference.ensemble import Claim, conclude, consult
from partrm.inference.part_maps import (
    PartMaps,
    PartNetworkError,
    claim_of,
    claims_on,
    load_part_network,
    parts_file,
    read_part_network,
)
from partrm.inference.part_search import NoPartsError, proposals_in, propose
from partrm.inference.pipeline import believed, network_input
from partrm.inference.prediction import Prediction
from partrm.inference.source import single_view
from partrm.model.checkpoints import CheckpointError, LoadedModel
from partrm.model.network import TINY, PartRMNetwork
from partrm.model.part_network import OPENED_RAD

EXAMPLES = Path(partrm.__file__).parent / "example_images"
SIDE = 32


@pytest.fixture(scope="module")
def base():
    return PartRM.from_pretrained("base", "cpu")


def test_the_head_is_fitted_to_the_bundled_weights(base):
    """New weights have other features: benchmarks/part_network.py trains it again."""
    with safe_open(str(parts_file()), "pt") as stored:
        assert stored.metadata() == {"fitted_to": base.model.hash}


@pytest.mark.parametrize(
    ("damage", "said"),
    [
        (lambda tensors: None, "No such file"),
        (lambda tensors: b"x" * 100, "broken weights file"),
        (lambda tensors: save(tensors)[:-1000], "broken weights file"),
        (lambda tensors: save(tensors | {"head.bias": torch.full((15,), torch.nan)}), "head.bias holds values that"),
        (lambda tensors: save(tensors | {"head.bias": torch.zeros(3)}), "size mismatch for head.bias"),
        (lambda tensors: save({"a": torch.zeros(3)}), "not the small network's weights"),
    ],
)
def test_damaged_weights_of_the_small_network_are_one_line(damage, said, tmp_path):
    content = damage(load_file(parts_file()))
    path = tmp_path / "parts.safetensors"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(CheckpointError, match=said) as refusal:
        read_part_network(path)
    assert str(refusal.value).startswith(f"{path}: ")
    assert "\n" not in str(refusal.value)


def test_the_command_tells_of_damaged_weights_of_the_small_network(tmp_path, monkeypatch, capsys):
    path = tmp_path / "parts.safetensors"
    path.write_bytes(b"x" * 100)
    monkeypatch.setattr(part_maps, "parts_file", lambda: path)
    load_part_network.cache_clear()
    arguments = ["parts", str(EXAMPLES / "drawers.png"), "--no-asset", "--device", "cpu"]
    assert main([*arguments, "--out", str(tmp_path / "out")]) == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(f"partrm parts: {path}: broken weights file")
    assert not (tmp_path / "out").exists()
    load_part_network.cache_clear()


def two_squares() -> PartMaps:
    """On a plane across the view: a square that slides to the right, and one that turns about an upright axis."""
    camera = nominal_crops(1, SIDE, "cpu")[0, 0]
    origins, directions = camera.rays()
    points = origins + (origins[2] / -directions[..., 2])[..., None] * directions
    middles = torch.arange(SIDE) + 0.5
    own = torch.stack(torch.meshgrid(middles, middles, indexing="xy"), -1)
    movable, centre, logit = torch.full((SIDE, SIDE), 0.05), own.clone(), torch.zeros(SIDE, SIDE)
    axis, to_axis, displacement = (torch.zeros(SIDE, SIDE, 3) for _ in range(3))
    for left, direction, turns in ((4, [1.0, 0.0, 0.0], -6.0), (17, [0.0, 1.0, 0.0], 6.0)):
        square = slice(8, 20), slice(left, left + 12)
        movable[square] = 0.9
        noise = 0.4 * torch.randn(12, 12, 2, generator=torch.Generator().manual_seed(left))
        centre[square] = torch.tensor([left + 6.0, 14.0]) + noise
        axis[square], logit[square] = torch.tensor(direction), turns
        if turns < 0:
            displacement[square] = 0.3 * torch.tensor(direction)
        else:
            hinge = points[14, left].clone()
            way = hinge - points[square]
            to_axis[square] = way * torch.tensor([1.0, 0.0, 1.0])
            R = rotation_from_axis_angle(torch.tensor(direction), torch.tensor(OPENED_RAD))
            displacement[square] = (points[square] - hinge) @ R.mT + hinge - points[square]
    return PartMaps(movable, centre, logit, axis, to_axis, displacement, points)


def square_at(left: int) -> torch.Tensor:
    wanted = torch.zeros(SIDE, SIDE, dtype=torch.bool)
    wanted[8:20, left : left + 12] = True
    return wanted


def test_pixels_that_vote_for_one_middle_are_one_part_with_their_joint_and_a_drag_along_it():
    camera = nominal_crops(1, SIDE, "cpu")[0, 0]
    maps = two_squares()
    found = sorted(propose(maps, torch.ones(SIDE, SIDE), camera), key=lambda proposal: float(proposal.start[0]))
    assert len(found) == 2
    slides, turns = found
    for proposal, left in ((slides, 4), (turns, 17)):
        assert torch.equal(proposal.mask, square_at(left))
        x, y = (SIDE * proposal.start).long().tolist()
        assert proposal.mask[y, x]
        assert proposal.confidence > 0.5
    assert slides.joint.type == JointType.PRISMATIC
    assert torch.allclose(slides.joint.axis, torch.tensor([1.0, 0.0, 0.0]), atol=1e-4)
    assert slides.joint.amount == pytest.approx(0.3, abs=1e-3)
    way = slides.end - slides.start
    assert float(way[0]) > 0.05
    assert abs(float(way[1])) < 1e-4
    assert turns.joint.type == JointType.REVOLUTE
    assert turns.joint.amount == pytest.approx(OPENED_RAD, abs=1e-3)
    assert float(turns.joint.pivot[0]) == pytest.approx(float(maps.points[14, 17, 0]), abs=1e-3)
    half = torch.ones(SIDE, SIDE)
    half[:, :17] = 0.0
    assert len(propose(maps, half, camera)) == 1, "what is not the object is no part of it"


def drags_at(*starts: tuple[float, float]) -> Drags:
    start = torch.tensor([starts]) / SIDE
    return Drags(start, start + 0.1, torch.zeros(start.shape[:2]).long(), torch.ones(start.shape[:2]).bool())


def test_a_claim_is_of_the_part_that_most_drags_start_on():
    maps, alpha = two_squares(), torch.ones(SIDE, SIDE)
    claim = claim_of(maps, alpha, drags_at((6.5, 9.5), (20.5, 12.5), (24.5, 18.5)))
    assert claim is not None
    assert torch.equal(claim.probability > 0.5, square_at(17))
    assert claim.turns
    assert claim.sure == pytest.approx(2 / (1 + math.exp(-6.0)) - 1, abs=1e-3)
    slid = claim_of(maps, alpha, drags_at((6.5, 9.5)))
    assert slid is not None
    assert not slid.turns
    assert claim_of(maps, alpha, drags_at((2.5, 28.5))) is None


def test_a_claim_moves_the_answers_mask_as_far_as_it_is_sure():
    joint = JointMotion(JointType.REVOLUTE, torch.tensor([0.0, 1.0, 0.0]), torch.zeros(3), 0.5, 0.9)
    whole = torch.ones(4, 4, dtype=torch.bool)
    answered, claimed = torch.zeros(4, 4), torch.zeros(4, 4)
    answered[:2], answered[2], claimed[:3] = 0.9, 0.4, 0.9

    def heard(turns: bool, sure: float, of: torch.Tensor = claimed, shown: torch.Tensor = whole) -> torch.Tensor:
        return Claim(of, shown, turns, sure).heard(answered, joint)

    assert torch.equal(heard(True, 1.0) > 0.5, claimed > 0.5)
    assert float(heard(True, 1.0)[0, 0]) > 0.99, "where both say so it is sure"
    assert torch.equal(heard(False, 0.3) > 0.5, answered > 0.5), "half of it for another type"
    assert torch.equal(heard(True, 0.0) > 0.5, answered > 0.5)
    assert torch.equal(heard(True, 1.0, claimed.flip(0)), answered), "a claim on another part"
    assert torch.equal(heard(True, 1.0, claimed, ~whole & (answered > 0.5)), answered), "not of the object"


def test_joints_of_another_kind_than_the_known_one_come_last():
    def joint(kind: JointType, axis: list[float]) -> JointMotion:
        return JointMotion(kind, torch.tensor(axis), torch.zeros(3), 0.5, 0.9)

    known, slide = joint(JointType.REVOLUTE, [0.0, 1.0, 0.0]), joint(JointType.PRISMATIC, [0.0, 0.0, 1.0])
    near, far = joint(JointType.REVOLUTE, [0.1, 1.0, 0.0]), joint(JointType.REVOLUTE, [1.0, 0.0, 0.0])
    assert believed([slide, far, near], known) == [near, slide, far]
    assert believed([slide, far], known) == [known, slide, far]


def test_where_nothing_may_move_there_is_no_proposal():
    maps = two_squares()
    camera = nominal_crops(1, SIDE, "cpu")[0, 0]
    assert propose(replace(maps, movable=torch.zeros(SIDE, SIDE)), torch.ones(SIDE, SIDE), camera) == []


def test_drawers_are_found_each_once_and_their_masks_do_not_meet(base):
    found = [p for p in proposals_in(base.open(EXAMPLES / "drawers.png"), base.model) if p.confidence >= 0.5]
    assert len(found) >= 3
    assert all(proposal.joint.type == JointType.PRISMATIC for proposal in found)
    assert int(torch.stack([proposal.mask for proposal in found]).sum(0).max()) == 1
    assert [p.confidence for p in found] == sorted((p.confidence for p in found), reverse=True)


@pytest.mark.whole_run
def test_a_drag_on_a_drawer_hears_the_claim_on_it(base):
    views = base.open(EXAMPLES / "drawers.png")
    first = proposals_in(views, base.model)[0]
    inputs = network_input(views, part_search.drag_of(views, first))
    (claim,) = claims_on(base.model.articulated, [inputs])
    assert claim is not None
    assert torch.equal(claim.probability > 0, first.mask)
    (consultation,) = consult(base.model.articulated, [inputs], [()])
    plain, heard = (conclude(replace(consultation, claim=c), lambda p: p)[0] for c in (None, claim))
    joint = consultation.best.joint
    assert torch.allclose(heard.probability, claim.heard(plain.probability, joint), atol=1e-3)
    assert not torch.equal(heard.probability, plain.probability)


@pytest.mark.whole_run
def test_a_batch_finds_the_parts_that_are_found_alone(base, monkeypatch):
    monkeypatch.setattr(part_search, "MAX_PROPOSALS", 2)
    monkeypatch.setattr(pipeline, "OTHERS", ())  # asked once: tests/test_api.py asks often in a batch
    picture, drag = EXAMPLES / "drawers.png", [(200, 200, 200, 240)]
    jobs = [
        Job(picture, name="parts", parts=True, detail_px=0, min_confidence=0.1),
        Job(picture, drag, "both", parts=True),
        Job(picture, drag, "drag", ensemble=False, detail_px=0),
        Job(picture, name="none", parts=True, min_confidence=1.0),
        Job(picture, name="neither"),
    ]
    results = {job.name: result for job, result in base.predict_batch(jobs, batch=4, threads=1)}
    alone = base.find_parts(picture, min_confidence=0.1, detail_px=0)
    found = results["parts"]
    assert len(found) == len(alone) == 2
    for one, other in zip(found, alone, strict=True):
        assert one.confidence == pytest.approx(other.confidence, abs=1e-4)
        assert one.prediction.joint.type == other.prediction.joint.type
        torch.testing.assert_close(one.prediction.joint.axis, other.prediction.joint.axis, atol=1e-3, rtol=0)
        assert float((one.prediction.part_mask != other.prediction.part_mask).float().mean()) < 1e-3
    assert isinstance(results["drag"], Prediction)
    assert isinstance(results["none"], NoPartsError)
    assert "no part that moves is found" in str(results["none"])
    for name, words in (("both", "drags or parts, not both"), ("neither", "0 drags given")):
        assert isinstance(results[name], DragError)
        assert words in str(results[name])


def test_a_confidence_out_of_range_is_an_error(base):
    with pytest.raises(ConfigError, match="confidence 2"):
        base.find_parts(EXAMPLES / "drawers.png", min_confidence=2.0)


def test_weights_of_another_shape_are_refused():
    tiny = LoadedModel(PartRMNetwork(TINY).eval(), "tiny", "0" * 16, TINY)
    with pytest.raises(PartNetworkError, match="bundled model's features"):
        proposals_in(single_view(torch.ones(4, 64, 64), TINY.image_size_px, "auto"), tiny)
