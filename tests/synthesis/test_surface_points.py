"""Points on triangles against the triangles' areas and centres."""

import pytest
import torch
from torch.testing import assert_close

from partrm.synthesis.surface_points import sample_triangles


def test_points_are_uniform_over_the_area():
    corners = torch.tensor([[[0.0, 0, 0], [1, 0, 0], [0, 1, 0]], [[5.0, 0, 0], [8, 0, 0], [5, 1, 0]]])
    points, of_face = sample_triangles(corners, 4000, torch.Generator().manual_seed(0))
    assert float((of_face == 1).float().mean()) == pytest.approx(0.75, abs=0.03)
    for face in (0, 1):
        assert_close(points[of_face == face].mean(0), corners[face].mean(0), atol=0.06, rtol=0)
