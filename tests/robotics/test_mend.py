"""What probes say of where a part is, by arithmetic alone."""

from dataclasses import replace

import numpy as np
import pytest

from partrm.geometry.joints import JointType
from partrm.robotics.arm_plan import BelievedObject
from partrm.robotics.closed_fingers import Probe
from partrm.robotics.simulated_arm import TouchSettings
from partrm.robotics.touch import mend

PLACES = np.array([[x, y, 0.0] for x in (-0.1, 0.0, 0.1) for y in (-0.1, 0.0, 0.1)])
SETTINGS = TouchSettings()


def board(points=PLACES) -> BelievedObject:
    """A board before a camera 1.5 m above it."""
    moving = np.ones(len(points), dtype=bool)
    down = np.array([0.0, 0.0, -1.0])
    return BelievedObject(
        points, moving, np.zeros(3), JointType.PRISMATIC, down, np.zeros(3), 0.2, np.array([0.0, 0.0, 1.5])
    )


def probe(place, farther: float, cosine: float = 1.0) -> tuple[Probe, float]:
    """One along the line of sight through a place, where the surface's normal has some cosine to that line."""
    believed, T = board(), np.eye(4)
    sight = np.asarray(place) - believed.seen_from
    sight /= np.linalg.norm(sight)
    aside = np.cross(sight, [0.0, 1.0, 0.0])
    aside /= np.linalg.norm(aside)
    T[:3, :3], T[:3, 3] = np.stack([aside, np.cross(sight, aside), sight], 1), place
    return Probe(T, cosine * sight + np.sqrt(1 - cosine**2) * aside), farther


FLAT = [probe(place, 0.03) for place in PLACES[[0, 2, 4, 6, 8]]]


def shift(believed: BelievedObject) -> float:
    """How far the start has gone along its line of sight."""
    return float(-believed.start[2])


def test_a_shift_that_all_feel_is_found_and_every_pixel_stays():
    found = mend(board(), FLAT, SETTINGS)
    assert shift(found) == pytest.approx(0.03, abs=0.001)
    eye = found.seen_from
    before, after = PLACES - eye, found.points - eye
    cosines = (before * after).sum(1) / np.linalg.norm(before, axis=1) / np.linalg.norm(after, axis=1)
    np.testing.assert_allclose(cosines, 1, atol=1e-12)


def test_a_slope_that_all_feel_is_found():
    felt = [probe(place, 0.02 + 0.1 * place[0]) for place in PLACES]
    found = mend(board(), felt, SETTINGS)
    farther = np.linalg.norm(found.points - found.seen_from, axis=1) - np.linalg.norm(PLACES - found.seen_from, axis=1)
    np.testing.assert_allclose(farther, 0.02 + 0.1 * PLACES[:, 0], atol=0.004)


@pytest.mark.parametrize("stray", [-0.12, 0.12])
@pytest.mark.parametrize(("flat", "near"), [(FLAT[:2], 0.015), (FLAT[:3], 0.003)])
def test_places_seen_edge_on_do_not_mislead_those_seen_flat(stray, flat, near):
    """A small error across the line of sight looks there like a large one along it."""
    edge_on = [probe([0.1, 0.05, 0.0], stray, cosine=0.1), probe([0.1, -0.05, 0.0], stray, cosine=0.1)]
    assert shift(mend(board(), [*flat, *edge_on], SETTINGS)) == pytest.approx(0.03, abs=near)


def test_one_probe_that_met_something_else_does_not_tilt_the_board():
    found = mend(board(), [*FLAT[:4], probe(PLACES[8], 0.12)], SETTINGS)
    farther = np.linalg.norm(found.points - found.seen_from, axis=1) - np.linalg.norm(PLACES - found.seen_from, axis=1)
    np.testing.assert_allclose(farther, 0.03, atol=0.004)


def test_places_seen_edge_on_alone_say_little():
    felt = [probe(place, 0.1, cosine=0.08) for place in PLACES[[3, 4, 5]]]
    assert 0 < shift(mend(board(), felt, SETTINGS)) < 0.05
    firmer = replace(SETTINGS, shift=0.01)
    assert shift(mend(board(), felt, firmer)) < 0.01


def test_probes_that_do_not_agree_move_nothing():
    felt = [probe(place, depth) for place, depth in zip(PLACES[[0, 2, 6, 8]], (0.1, -0.04, -0.11, 0.03), strict=True)]
    believed = board()
    assert mend(believed, felt, SETTINGS) is believed
