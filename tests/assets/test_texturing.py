"""Where on a surface a texel lies."""

import numpy as np

from partrm.assets._kernels import texel_points

SIZE = 8


def test_texels_show_the_points_that_their_uvs_are_mapped_to() -> None:
    rng = np.random.default_rng(3)
    uv = np.array([[[0.0, 0.0], [1.0, 0.0], [0.0, 1.0]], [[1.0, 1.0], [0.0, 1.0], [1.0, 0.0]]])
    triangles = rng.normal(size=(2, 3, 3))
    face, rows, columns = np.array([0, 0, 1]), np.array([7, 5, 0]), np.array([0, 3, 7])
    points = texel_points(triangles, uv, face, rows, columns, SIZE)
    for point, number, row, column in zip(points, face, rows, columns, strict=True):
        at = np.array([(column + 0.5) / SIZE, 1 - (row + 0.5) / SIZE, 1.0])
        weights = np.linalg.solve(np.vstack([uv[number].T, np.ones(3)]), at)
        np.testing.assert_allclose(point, weights @ triangles[number], atol=1e-12)


def test_texels_outside_of_their_triangle_show_its_edge() -> None:
    uv = np.array([[[0.0, 0.0], [0.5, 0.0], [0.0, 1.0]]])
    triangles = np.array([[[0.0, 0.0, 0.0], [1.0, 0.0, 0.0], [0.0, 1.0, 0.0]]])
    # Right of the triangle, at the height of its lowest texels: beyond the second corner.
    (point,) = texel_points(triangles, uv, np.array([0]), np.array([7]), np.array([7]), SIZE)
    assert point.min() >= 0
    assert point.sum() <= 1 + 1e-12
    assert point[0] > 0.9
