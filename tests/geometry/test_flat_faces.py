import math
from dataclasses import replace

import pytest
import torch
from torch.testing import assert_close

from partrm.geometry.cameras import canonical_orbit
from partrm.geometry.flat_faces import large_faces, normals_about, shown_to, with_flat_faces
from partrm.geometry.gaussians import Gaussians
from partrm.geometry.transforms import quaternion_from_matrix

HALF = 0.3


def splats(points, thin):
    """Splats [n] whose thinnest axis is one of the frame's."""
    n = len(points)
    scales = torch.full((n, 3), 0.01)
    scales[torch.arange(n), thin] = 0.002
    quats = torch.tensor([1.0, 0.0, 0.0, 0.0]).expand(n, 4)
    return Gaussians(points, quats, scales, torch.full((n,), 0.9), torch.full((n, 3), 0.5))


def box(generator, waver=0.02):
    """Six faces of a box, out of the plane by a slow wave; of each splat its axis and its face's place on it."""
    points, axes, places = [], [], []
    for axis in range(3):
        for place in (-HALF, HALF):
            face = HALF * (2 * torch.rand(1500, 3, generator=generator) - 1)
            across = face[:, (axis + 1) % 3]
            face[:, axis] = place + waver * torch.sin(2 * math.pi * across / 0.4)
            points.append(face)
            axes.append(torch.full((1500,), axis))
            places.append(torch.full((1500,), place))
    return torch.cat(points), torch.cat(axes), torch.cat(places)


def flat(body):
    return with_flat_faces(body, torch.ones(len(body), dtype=torch.bool))


def off_the_face(points, axes, places):
    return (points[torch.arange(len(points)), axes] - places).abs()


def test_a_wavering_box_has_six_faces_and_they_become_flat(generator):
    points, axes, places = box(generator)
    body = splats(points, axes)
    faces = large_faces(body.means, normals_about(body.means))
    assert len(faces) == 6
    assert all(normal.abs().max() > 0.99 and abs(abs(offset) - HALF) < 0.01 for normal, offset in faces)
    inner = (points.abs() < HALF - 0.06).sum(1) == 2
    before, after = (off_the_face(p, axes, places)[inner] for p in (points, flat(body).means))
    assert after.mean() < 0.3 * before.mean()


def test_what_stands_off_a_face_stays_and_nothing_tears(generator):
    points, axes, _ = box(generator, waver=0.0)
    side = torch.linspace(-0.1, 0.1, 30)
    knob = torch.stack(torch.meshgrid(side, side, torch.tensor([HALF + 0.2]), indexing="ij"), -1).reshape(-1, 3)
    body = splats(torch.cat([points, knob]), torch.cat([axes, torch.full((len(knob),), 2)]))
    moved = flat(body).means
    assert_close(moved[len(points) :], knob, atol=0.005, rtol=0)
    assert (moved - body.means).norm(dim=1).max() < 0.02


def test_a_drum_stays_round(generator):
    angle = 2 * math.pi * torch.rand(6000, generator=generator)
    around = torch.stack([angle.cos(), angle.sin(), torch.zeros(6000)], -1)
    up = torch.tensor([0.0, 0.0, 1.0]).expand(6000, 3)
    height = 0.5 * torch.rand(6000, 1, generator=generator)
    drum = splats(0.25 * around + height * up, torch.zeros(6000, dtype=torch.long))
    frames = torch.stack([around, torch.linalg.cross(up, around), up], -1)
    drum = replace(drum, quats=quaternion_from_matrix(frames))
    assert large_faces(drum.means, normals_about(drum.means)) == []
    assert torch.equal(flat(drum).means, drum.means)


@pytest.mark.parametrize("count", [0, 5])
def test_a_few_splats_stay(count, generator):
    body = splats(torch.rand(count, 3, generator=generator), torch.zeros(count, dtype=torch.long))
    assert torch.equal(flat(body).means, body.means)


def test_what_the_picture_does_not_show_stays(generator):
    points, axes, places = box(generator)
    body = splats(points, axes)
    shown = shown_to(canonical_orbit(1, 64)[0], body)
    front = (axes == 2) & (places > 0)
    assert shown[front].float().mean() > 0.9
    assert shown[(axes == 2) & (places < 0)].float().mean() < 0.2
    moved = with_flat_faces(body, shown).means
    assert torch.equal(moved[~shown], points[~shown])
    before, after = (off_the_face(p, axes, places)[front & shown].mean() for p in (points, moved))
    assert after < 0.5 * before
