"""Drags propagated by SAM: the choice of the mask, the motion of its points, and SAM itself, tiny and random."""

import json
import math

import pytest
import torch

from partrm.cli import main
from partrm.geometry.drag_numbers import MAX_DRAGS
from partrm.imaging.images import save_image
from partrm.inference.source import check_drags, load_source
from partrm.model.checkpoints import save_checkpoint
from partrm.model.network import TINY, PartRMNetwork
from partrm.paper.pipeline import propagated_drags
from partrm.paper.sam_drags import SegmentationError, choose_mask, load_sam, move, propagate

SIDE = 100
POINT = torch.tensor([62.5, 42.5])


def box(left: int, top: int, right: int, bottom: int) -> torch.Tensor:
    mask = torch.zeros(SIDE, SIDE, dtype=torch.bool)
    mask[top:bottom, left:right] = True
    return mask


CABINET, DOOR, KNOB, ELSEWHERE = box(10, 10, 90, 90), box(50, 20, 85, 80), box(60, 40, 66, 46), box(12, 12, 40, 60)


@pytest.mark.parametrize(
    ("masks", "scores", "expected"),
    [
        ((CABINET, DOOR, KNOB), (0.9, 0.9, 0.9), DOOR),
        ((KNOB, CABINET, DOOR), (0.95, 0.9, 0.85), DOOR),
        ((CABINET, DOOR, KNOB), (0.9, 0.3, 0.9), KNOB),
        ((CABINET, ELSEWHERE, KNOB), (0.9, 0.9, 0.9), KNOB),
        ((CABINET, CABINET, ELSEWHERE), (0.9, 0.9, 0.9), None),
        ((CABINET, CABINET, box(62, 42, 64, 44)), (0.9, 0.9, 0.9), None),
        ((CABINET, box(50, 0, 85, 100), KNOB), (0.9, 0.9, 0.9), box(50, 10, 85, 90)),
    ],
    ids=["part", "any order", "unsure", "not at the point", "no part", "speck", "cut by the object"],
)
def test_the_part_is_chosen(masks, scores, expected) -> None:
    chosen = choose_mask(torch.stack(masks), torch.tensor(scores), CABINET.float(), POINT)
    assert (chosen is None) == (expected is None)
    if chosen is not None:
        assert torch.equal(chosen, expected)


def scene() -> torch.Tensor:
    image = torch.zeros(4, SIDE, SIDE)
    image[3] = CABINET
    return image


def door_sam(rgb, point):
    return torch.stack([CABINET, DOOR, KNOB]), torch.tensor([0.9, 0.9, 0.9])


def test_one_drag_moves_the_part_by_its_translation(generator) -> None:
    seen = []

    def segment(rgb, point):
        seen.append((rgb, point))
        return door_sam(rgb, point)

    start, end = torch.tensor([[62.5, 42.5]]), torch.tensor([[52.5, 45.5]])
    starts, ends = propagate(scene(), start, end, segment, 10, generator)
    assert torch.equal(starts[:1], start)
    assert torch.equal(ends[:1], end)
    assert len(starts) == 10
    torch.testing.assert_close(ends - starts, torch.tensor([[-10.0, 3.0]]).expand(10, 2))
    assert DOOR[starts[:, 1].long(), starts[:, 0].long()].all()
    gaps = torch.cdist(starts, starts) + 1000 * torch.eye(10)
    assert gaps.min() > 8, "the points are spread over the part"
    ((rgb, point),) = seen
    assert torch.equal(point, start[0])
    assert (rgb[:, ~CABINET] == 1).all(), "white lies under transparent pixels"
    again = propagate(scene(), start, end, door_sam, 10, torch.Generator().manual_seed(0))
    assert torch.equal(again[0], starts)


def test_several_drags_on_a_part_turn_it(generator) -> None:
    """Drags of a rotation and a shrinking (a door in perspective): the other points follow them exactly."""
    turn = torch.polar(torch.tensor(0.8), torch.tensor(0.4))

    def true(points):
        local = torch.view_as_complex((points - torch.tensor([55.0, 50.0])).contiguous())
        return torch.view_as_real(local * turn) + torch.tensor([52.0, 48.0])

    starts = torch.tensor([[62.5, 42.5], [75.5, 60.5]])
    all_starts, all_ends = propagate(scene(), starts, true(starts), door_sam, 8, generator)
    assert len(all_starts) == 8
    torch.testing.assert_close(all_ends, true(all_starts), atol=1e-4, rtol=0)
    close = starts[:1].repeat(2, 1) + torch.tensor([[0.0, 0.0], [0.1, 0.1]])
    ends = close + torch.tensor([[4.0, 2.0], [6.0, 2.0]])
    torch.testing.assert_close(move(starts, close, ends) - starts, torch.tensor([[5.0, 2.0]]).expand(2, 2))


def test_parts_share_the_drags_and_points_stay_in_the_image(generator) -> None:
    left = box(12, 12, 48, 88)

    def segment(rgb, point):
        return torch.stack([left if point[0] < 50 else DOOR]), torch.ones(1)

    starts, ends = torch.tensor([[20.5, 50.5], [70.5, 50.5]]), torch.tensor([[10.5, 50.5], [90.5, 50.5]])
    all_starts, all_ends = propagate(scene(), starts, ends, segment, 10, generator)
    on_left = left[all_starts[2:, 1].long(), all_starts[2:, 0].long()]
    assert int(on_left.sum()) == 4
    torch.testing.assert_close((all_ends - all_starts)[2:][on_left], torch.tensor([[-10.0, 0.0]]).expand(4, 2))
    assert ((all_ends >= 0) & (all_ends < SIDE)).all()
    nothing = propagate(scene(), starts, ends, lambda *_: (torch.stack([CABINET]), torch.ones(1)), 10, generator)
    assert torch.equal(nothing[0], starts)


@pytest.fixture(scope="module")
def sam_folder(tmp_path_factory):
    transformers = pytest.importorskip("transformers", reason="partrm[sam] is not installed")
    torch.manual_seed(0)
    vision = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "mlp_dim": 32, "num_pos_feats": 16}
    vision |= {"output_channels": 32, "image_size": 64, "patch_size": 8, "window_size": 4, "global_attn_indexes": [1]}
    decoder = {"hidden_size": 32, "mlp_dim": 32, "num_attention_heads": 2, "iou_head_hidden_dim": 32}
    prompts = {"hidden_size": 32, "image_size": 64, "patch_size": 8}
    config = transformers.SamConfig(
        vision_config=vision, prompt_encoder_config=prompts, mask_decoder_config=decoder, initializer_range=0.5
    )
    folder = tmp_path_factory.mktemp("sam")
    transformers.SamModel(config).save_pretrained(folder)
    sizes = {"size": {"longest_edge": 64}, "pad_size": {"height": 64, "width": 64}}
    transformers.SamProcessor(transformers.SamImageProcessor(**sizes)).save_pretrained(folder)
    return folder


def test_sam_answers_in_the_images_pixels(sam_folder, generator) -> None:
    sam, image = load_sam(sam_folder), torch.rand(3, 50, 80, generator=generator)
    masks, scores = sam(image, torch.tensor([20.5, 30.5]))
    assert masks.shape == (3, 50, 80)
    assert masks.dtype == torch.bool
    # Against the network called with the resized, normalised, padded image and the point in its pixels.
    seen = {}
    hook = sam.model.register_forward_pre_hook(lambda _m, _a, kwargs: seen.update(kwargs), with_kwargs=True)
    again = sam(image, torch.tensor([20.5, 30.5]))
    hook.remove()
    assert torch.equal(again[0], masks)
    torch.testing.assert_close(seen["input_points"], torch.tensor([[[[20.0, 30.0]]]]) * 64 / 80)
    pixels = seen["pixel_values"]
    assert (pixels[..., 40:, :] == 0).all()
    mean, std = torch.tensor([0.485, 0.456, 0.406]), torch.tensor([0.229, 0.224, 0.225])
    torch.testing.assert_close(pixels[0, :, :40].mean((1, 2)), (image.mean((1, 2)) - mean) / std, atol=0.05, rtol=0.05)
    assert not torch.allclose(scores, sam(image, torch.tensor([60.5, 10.5]))[1])


def test_sam_through_the_command(sam_folder, tmp_path, generator) -> None:
    image = torch.rand(4, 80, 100, generator=generator)
    image[3] = 0
    image[3, 20:60, 30:70] = 1
    save_image(image, tmp_path / "a.png")
    torch.manual_seed(0)
    save_checkpoint(PartRMNetwork(TINY).state_dict(), TINY, tmp_path / "m")
    arguments = ["predict", str(tmp_path / "a.png"), "--drag", "50,40,60,40", "--model", str(tmp_path / "m")]
    options = ["--propagate", "sam", "--sam", str(sam_folder), "--out", str(tmp_path / "out")]
    assert main([*arguments, *options]) == 0
    drags = json.loads((tmp_path / "out" / "prediction.json").read_text())["drags_px"]
    assert drags[0] == [50, 40, 60, 40]
    assert 1 <= len(drags) <= MAX_DRAGS


def test_propagated_drags_are_in_the_users_pixels(tmp_path) -> None:
    """The whole object but a strip is the part; the user's image is framed anew for SAM."""
    image = torch.zeros(4, 80, 100)
    image[:, 20:60, 30:70] = 1
    save_image(image, tmp_path / "a.png")
    condition = load_source(tmp_path / "a.png", 256, crop=False)
    drags = check_drags([(50, 40, 58, 44)], load_source(tmp_path / "a.png", 64))

    def segment(rgb, point):
        assert rgb.shape == (3, 256, 256)
        mask = condition.framed[0].image[3] > 0.5
        mask[:, : int(point[0]) - 10] = False
        return mask[None], torch.ones(1)

    found = propagated_drags(drags, condition, segment)
    assert len(found.start) == MAX_DRAGS
    assert torch.equal(found.start[:1], drags.start)
    assert ((found.start > torch.tensor([44.0, 20])) & (found.start < torch.tensor([70.0, 60]))).all()
    torch.testing.assert_close(found.end - found.start, torch.tensor([[8.0, 4.0]]).expand(10, 2), atol=1e-3, rtol=0)
    assert math.isclose(float(found.start[:, 0].max() - found.start[:, 0].min()), 22, abs_tol=6)


def test_models_that_cannot_be_read_give_one_line(tmp_path, monkeypatch) -> None:
    pytest.importorskip("transformers", reason="partrm[sam] is not installed")
    with pytest.raises(SegmentationError, match="not a SAM model") as caught:
        load_sam(tmp_path)
    assert "\n" not in str(caught.value)
    monkeypatch.setitem(__import__("sys").modules, "transformers", None)
    with pytest.raises(SegmentationError, match=r"pip install 'partrm\[sam\]'"):
        load_sam(tmp_path)
