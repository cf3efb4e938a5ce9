"""The measures of surfaces on planes whose errors are known."""

import numpy as np
import pytest

from partrm.metrics.surfaces import match_surfaces


def test_a_shifted_surface_is_as_far_as_its_shift():
    plane = np.stack(np.meshgrid(np.linspace(0, 1, 90), np.linspace(0, 1, 90), [0.0]), -1).reshape(-1, 3)
    shifted = match_surfaces(plane + np.array([0, 0, 0.03]), plane)
    assert shifted is not None
    # Either way 0.03, and a little more between random points.
    assert 0.06 <= shifted.chamfer < 0.063
    assert (shifted.f05, shifted.f02) == (1.0, 0.0)
    same = match_surfaces(plane, plane)
    assert same is not None
    assert same.f02 == 1.0
    half = match_surfaces(plane[plane[:, 0] < 0.5], plane)
    assert half is not None
    assert half.f02 == pytest.approx(2 * 0.52 / 1.52, abs=0.02)
    assert match_surfaces(plane[:0], plane) is None
