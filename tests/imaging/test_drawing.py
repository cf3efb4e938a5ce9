"""What is drawn changes the picture where it should, to the colour it should, and nowhere else."""

import numpy as np
import torch

from partrm.imaging.drawing import (
    LABEL_PX,
    PALETTE,
    PART_COLOR,
    draw_arrows,
    draw_label,
    draw_mask,
    draw_numbered,
    to_bytes,
)

PICTURE = np.random.default_rng(0).integers(0, 256, (40, 60, 3), dtype=np.uint8)


def test_bytes_survive_the_way_to_floats_and_back():
    image = torch.from_numpy(PICTURE).movedim(-1, 0).float() / 255
    assert np.array_equal(to_bytes(image), PICTURE)
    assert np.array_equal(to_bytes(3 * image - 1), np.clip(3 * PICTURE.astype(int) - 255, 0, 255).astype(np.uint8))


def test_a_mask_tints_where_it_is_at_any_resolution():
    mask = torch.zeros(4, 6, dtype=torch.bool)
    mask[1, 2:4] = True
    large = mask.repeat_interleave(10, 0).repeat_interleave(10, 1)
    tinted = draw_mask(PICTURE, mask, opacity=0.25)
    assert np.array_equal(tinted, draw_mask(PICTURE, large.float(), opacity=0.25))
    on = large.numpy()
    assert np.array_equal(tinted[~on], PICTURE[~on])
    wanted = np.round(0.75 * PICTURE[on] + 0.25 * np.array(PART_COLOR))
    assert np.array_equal(tinted[on], wanted.astype(np.uint8))


def test_arrows_lead_from_start_to_end_and_nowhere_else():
    start, end = torch.tensor([[10.0, 20.0]]), torch.tensor([[45.0, 20.0]])
    for rim in (True, False):
        drawn = draw_arrows(PICTURE, start, end, (1, 2, 3), rim)
        changed = (drawn != PICTURE).any(-1)
        rows, columns = changed.nonzero()
        assert (columns.min(), columns.max()) == (7, 45), "a dot of radius 3 about the start, the tip at the end"
        assert abs(rows - 20).max() <= 4
        colored = (drawn == (1, 2, 3)).all(-1)
        assert colored[20, 10:45].all()
        assert (drawn[changed & ~colored] == 255).all(), "the rim is white"
        assert (changed & ~colored).any() == rim
        head, tail = colored[:, 38].sum(), colored[:, 20].sum()
        assert head > tail, "the head is at the end"
    assert np.array_equal(draw_arrows(PICTURE, torch.zeros(0, 2), torch.zeros(0, 2)), PICTURE)


def test_a_label_stands_above_the_untouched_picture():
    labelled = draw_label(PICTURE, "IoU")
    assert labelled.shape == (40 + LABEL_PX, 60, 3)
    assert np.array_equal(labelled[LABEL_PX:], PICTURE)
    assert (labelled[:LABEL_PX] < 100).any()
    assert (draw_label(PICTURE, "")[:LABEL_PX] == 255).all()


def test_numbered_masks_keep_their_places_and_small_ones_lie_on_top():
    picture = np.full((90, 120, 3), 255, dtype=np.uint8)
    large, small = torch.zeros(90, 120), torch.zeros(90, 120)
    large[10:80, 10:110], small[60:78, 80:108] = 1.0, 1.0
    drawn = draw_numbered(picture, [large, small], opacity=1.0)
    assert np.array_equal(drawn[5], picture[5])
    assert drawn[15, 15].tolist() == list(PALETTE[0])
    assert drawn[62, 82].tolist() == list(PALETTE[1])
    around = drawn[45 - 3 : 45 + 3, 60 - 20 : 60 + 20]
    assert (around == 255).all(-1).any(), "the number stands on white in the middle"
