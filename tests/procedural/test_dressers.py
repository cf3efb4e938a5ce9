"""Faces of joiners' furniture are laid out without gaps; pulls and ornament lie on their fronts and are whole."""

from typing import get_args

import numpy as np
import pytest

from partrm.objects.materials import Role
from partrm.procedural.builder import ObjectBuilder
from partrm.procedural.dressers import _drawers, _face
from partrm.procedural.fronts import Rect, sample_style
from partrm.procedural.pulls import Ornament, Pull, add_ornament, add_pull
from partrm.procedural.shapes import signed_volume

FRONT = Rect(-0.3, 0.3, 0.1, 0.3)


def overlap(a: Rect, b: Rect) -> float:
    """Area that two rectangles share."""
    wide = min(a.y1, b.y1) - max(a.y0, b.y0)
    high = min(a.z1, b.z1) - max(a.z0, b.z0)
    return max(wide, 0.0) * max(high, 0.0)


@pytest.mark.parametrize("layout", [_face, lambda rng, rect: _drawers(rng, rect, 4, 2)])
def test_cells_tile_the_face(layout) -> None:
    outer, ways = Rect(-0.6, 0.6, 0.02, 0.9), set()
    for seed in range(40):
        cells = layout(np.random.default_rng(seed), outer)
        ways |= {way for _, way in cells}
        assert sum(cell.width * cell.height for cell, _ in cells) == pytest.approx(outer.width * outer.height)
        for index, (cell, _) in enumerate(cells):
            assert overlap(cell, outer) == pytest.approx(cell.width * cell.height)
            assert all(overlap(cell, other) < 1e-9 for other, _ in cells[:index])
    assert ways == ({"drawer"} if layout is not _face else {"drawer", "left", "right", "pair", "bottom", "open"})


def pieces_of(add) -> list:
    """Meshes that ``add`` gives to the moving part of a builder."""
    b = ObjectBuilder("test", np.random.default_rng(3))
    b.names.append("front")
    b.pieces.append([])
    add(b)
    assert not b.pieces[0]
    return [mesh for mesh, _ in b.pieces[1]]


@pytest.mark.parametrize("pull", get_args(Pull))
@pytest.mark.parametrize("height", [0.5, 0.75])
def test_pulls_stand_on_the_front(pull: Pull, height: float) -> None:
    style = sample_style(np.random.default_rng(1), ("flat",), ("none",), 0.2)
    meshes = pieces_of(lambda b: add_pull(b, 1, FRONT, 0.02, pull, (0.5, height), style, b.new_slot(Role.HANDLE)))
    assert bool(meshes) == (pull not in ("gap", "none"))
    for mesh in meshes:
        low, high = mesh.vertices.min(0), mesh.vertices.max(0)
        assert signed_volume(mesh) > 0
        assert low[0] < 0.02 + style.handle_depth
        assert low[0] > 0.02 - style.handle_radius
        assert high[0] > 0.02
        assert FRONT.y0 < low[1] < high[1] < FRONT.y1
        assert FRONT.z0 < low[2] < high[2] < FRONT.z1 + 0.001
        assert (low[1] + high[1]) / 2 == pytest.approx(0, abs=0.3 * FRONT.width)


@pytest.mark.parametrize("kind", get_args(Ornament))
def test_ornament_is_raised_within_the_border(kind: Ornament) -> None:
    meshes = pieces_of(lambda b: add_ornament(b, 1, FRONT, 0.02, kind, 0.04, b.new_slot(Role.HANDLE)))
    assert bool(meshes) == (kind != "plain")
    inner = FRONT.inset(0.04 - 1e-9)
    for mesh in meshes:
        low, high = mesh.vertices.min(0), mesh.vertices.max(0)
        assert signed_volume(mesh) > 0
        assert low[0] == pytest.approx(0.02)
        assert inner.y0 < low[1] < high[1] < inner.y1
        assert inner.z0 < low[2] < high[2] < inner.z1
