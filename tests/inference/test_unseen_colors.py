import torch
from torch.testing import assert_close

from partrm.geometry.gaussians import Gaussians
from partrm.inference.unseen_colors import LEAST, LIKE_SEEN, with_likely_colors
from partrm.model.network import NetworkOutput, PartLayer

N = 64
RED, BLUE, GREY = (torch.tensor(c) for c in ([0.8, 0.1, 0.1], [0.1, 0.1, 0.9], [0.5, 0.5, 0.5]))


def layer(color, opacity=0.9):
    """Two views of N splats; the first has a colour."""
    colors = torch.cat([color.expand(N, 3), GREY.expand(N, 3)])[None]
    quats = torch.tensor([1.0, 0.0, 0.0, 0.0]).expand(1, 2 * N, 4)
    return Gaussians(torch.zeros(1, 2 * N, 3), quats, torch.ones(1, 2 * N, 3), torch.full((1, 2 * N), opacity), colors)


def answer(moving, still_color=RED, part_color=BLUE):
    logit = torch.where(moving, 5.0, -5.0)[None]
    nothing = torch.zeros(1, 2 * N)
    part = PartLayer(layer(part_color), nothing, nothing)
    return NetworkOutput(
        layer(still_color), logit, torch.zeros(1, 2 * N, 3), nothing, nothing, torch.tensor([[True, False]]), None, part
    )


def test_unseen_sides_of_each_layer_are_coloured_as_what_is_seen_of_it():
    moving = torch.arange(2 * N) % 2 == 0
    found = with_likely_colors(answer(moving))
    assert found.part is not None
    assert_close(found.gaussians.colors[0, N:], torch.lerp(GREY, RED, LIKE_SEEN).expand(N, 3))
    assert_close(found.part.gaussians.colors[0, N:], torch.lerp(GREY, BLUE, LIKE_SEEN).expand(N, 3))


def test_what_is_seen_keeps_its_colours():
    moving = torch.arange(2 * N) % 2 == 0
    given, found = answer(moving), with_likely_colors(answer(moving))
    assert found.part is not None
    assert_close(found.seen.colors[0, :N], given.seen.colors[0, :N])


def test_a_part_that_is_hardly_seen_is_coloured_as_the_whole():
    moving = torch.arange(2 * N) < LEAST - 1
    found = with_likely_colors(answer(moving))
    assert found.part is not None
    assert_close(found.part.gaussians.colors[0, N:], torch.lerp(GREY, RED, LIKE_SEEN).expand(N, 3))
