import numpy as np
import pytest

from partrm.imaging.edge_aware import _sweep, follow_edges


def test_a_sweep_solves_the_tridiagonal_system():
    rng = np.random.default_rng(0)
    values, links = rng.random((2, 3, 12)), rng.random((3, 11))
    solved = _sweep(values, links)
    for row in range(3):
        system = np.eye(12)
        for x, link in enumerate(links[row]):
            system[[x, x + 1], [x, x + 1]] += link
            system[[x, x + 1], [x + 1, x]] -= link
        np.testing.assert_allclose(solved[:, row], np.linalg.solve(system, values[:, row].T).T, rtol=1e-10)


def panel(size=96, edge=40):
    """An image whose left part is darker, and probabilities whose edge lies eight pixels beside its own."""
    guide = np.full((size, size, 3), 0.6, np.float32)
    guide[:, edge:] = 0.8
    x = np.arange(size)
    probability = np.broadcast_to(1 / (1 + np.exp((x - edge - 8) / 5.0)), (size, size))
    return guide, probability


def test_the_mask_moves_to_the_images_edge():
    guide, probability = panel()
    found = follow_edges(probability, guide, np.ones(guide.shape[:2], np.float32), 20.0, 0.03) > 0.5
    assert (probability > 0.5)[:, :48].all()
    assert found[:, :40].all()
    assert not found[:, 41:].any()


def test_an_even_image_leaves_sure_pixels_as_they_are():
    guide = np.full((48, 48, 3), 0.5, np.float32)
    probability = np.where(np.arange(48) < 20, 0.99, 0.01) * np.ones((48, 1))
    found = follow_edges(probability, guide, np.ones((48, 48), np.float32), 4.0, 0.03)
    assert ((found > 0.5) == (probability > 0.5)).all()


def test_nothing_flows_across_the_objects_outline():
    guide, probability = np.full((48, 48, 3), 0.5, np.float32), np.full((48, 48), 0.5)
    inside = np.ones((48, 48), np.float32)
    inside[:, 24:26] = 0
    probability[:, :4] = 1.0
    probability[:, -4:] = 0.0
    found = follow_edges(probability, guide, inside, 30.0, 0.03)
    assert found[:, :24].min() > 0.9
    assert found[:, 26:].max() < 0.1


@pytest.mark.parametrize("value", [0.0, 1.0])
def test_constant_probabilities_stay(value):
    guide = np.random.default_rng(1).random((20, 30, 3)).astype(np.float32)
    found = follow_edges(np.full((20, 30), value), guide, np.ones((20, 30), np.float32), 6.0, 0.05)
    np.testing.assert_allclose(found, value, atol=1e-9)
