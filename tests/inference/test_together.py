"""What a GPU reads of a batch at once is what a CPU reads one by one: every fast twin against its plain one."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image
from scipy.ndimage import gaussian_filter
from torch.testing import assert_close

from partrm import PartRM
from partrm.imaging.edge_aware import follow_edges, follow_edges_at_once
from partrm.inference import batch, detail, ensemble, pipeline
from partrm.inference.batch import Job
from partrm.inference.decode import read_joints, read_motion, run_network
from partrm.inference.joint_fit import joints_from_votes
from partrm.model.inputs import NetworkInput


def smooth(generator, shape, reach):
    return gaussian_filter(generator.random(shape), (reach, reach, 0)[: len(shape)])


def test_edges_are_followed_alike():
    rng = np.random.default_rng(0)
    probability = rng.random((2, 60, 60)).astype(np.float32)
    guide = np.stack([4 * smooth(rng, (60, 60, 3), 4) for _ in range(2)]).astype(np.float32)
    inside = np.stack([smooth(rng, (60, 60), 8) > 0.49 for _ in range(2)]).astype(np.float32)
    found = follow_edges_at_once(
        torch.from_numpy(probability), torch.from_numpy(guide).movedim(-1, 1), torch.from_numpy(inside), 12.0, 0.03
    )
    for row in range(2):
        plain = follow_edges(probability[row], guide[row], inside[row], 12.0, 0.03)
        assert_close(found[row], torch.from_numpy(plain), atol=1e-5, rtol=0)


def votes(prismatic, generator):
    """Noisy votes of 50 points on a joint, every other without weight; one of them no number."""
    points = torch.randn(50, 3, generator=generator)
    axis, pivot = torch.tensor([0.0, 0.6, 0.8]), torch.tensor([0.3, -0.2, 0.1])
    offset = pivot - points - ((pivot - points) @ axis)[:, None] * axis
    turned = 0.7 * axis.expand(50, 3) if prismatic else 0.7 * torch.linalg.cross(axis.expand(50, 3), -offset)
    noise = 0.02 * torch.randn(4, 50, 3, generator=generator)
    logit = torch.full((50,), -1.0 if prismatic else 1.0)
    weights = torch.rand(50, generator=generator) * (torch.arange(50) % 2)
    points[0] = torch.nan
    angle = 0.7 + noise[3, :, 0]
    return points, turned + noise[0], weights, logit, axis + noise[1], offset + noise[2], angle


def test_joints_are_voted_for_as_alone_and_votes_without_weight_are_not_heard(generator):
    said = [votes(prismatic, generator) for prismatic in (True, False, False)]
    together = joints_from_votes(*(torch.stack(column) for column in zip(*said, strict=True))).unbatched()
    for one, joint in zip(said, together, strict=True):
        counted = one[2] > 0
        (alone,) = joints_from_votes(*(column[None, counted] for column in one)).unbatched()
        assert joint.type == alone.type
        assert_close(joint.axis, alone.axis, atol=1e-6, rtol=0)
        assert_close(joint.pivot, alone.pivot, atol=1e-6, rtol=0)
        assert joint.amount == pytest.approx(alone.amount, abs=1e-9)
        assert joint.confidence == pytest.approx(alone.confidence, abs=1e-9)


def test_votes_without_weight_are_refused(generator):
    said = [column[None] for column in votes(False, generator)]
    said[2] = torch.zeros(1, 50)
    with pytest.raises(ValueError, match="positive weight"):
        joints_from_votes(*said)


@pytest.fixture(scope="module")
def jobs(tmp_path_factory):
    """Of several drags, sizes and settings; the first object is one that fails."""
    folder, found = tmp_path_factory.mktemp("pictures"), []
    for number in range(3):
        rng = np.random.default_rng(number)
        pixels = np.zeros((128, 128, 4), np.uint8)
        pixels[..., :3] = (255 * smooth(rng, (128, 128, 3), 6)).astype(np.uint8)
        pixels[30:90, 30 + 10 * number : 100, 3] = 255
        Image.fromarray(pixels).save(folder / f"{number}.png")
        found.append(folder / f"{number}.png")
    return [
        Job(found[0], [(1, 1, 20, 20)], "off the object"),
        Job(found[0], [(60, 60, 40, 60)], "one drag"),
        Job(found[1], [(60, 60, 40, 60), (70, 50, 90, 40)], "two drags"),
        Job(found[1], [(60, 60, 40, 60)], "as it is", detail_px=0, ensemble=False),
        Job(found[2], [(80, 60, 99, 70)], "finer", detail_px=100),
    ]


def read_at_once(monkeypatch):
    for module in (batch, pipeline, detail):
        monkeypatch.setattr(module, "together", lambda device: True)


def test_joints_are_read_and_drags_heard_alike(tiny, jobs):
    samples = [tiny._prepared(job).inputs for job in (jobs[1], jobs[2], jobs[4])]
    inputs = NetworkInput.cat([ensemble.replace(one, drags=one.drags.padded(2)) for one in samples])
    reading = run_network(tiny.model.articulated, inputs)
    for row, joint in enumerate(read_joints(reading, inputs)):
        _, _, alone = read_motion(reading, inputs, row)
        assert joint.type == alone.type
        assert joint.amount == pytest.approx(alone.amount, abs=1e-5)
        assert_close(joint.axis, alone.axis, atol=1e-5, rtol=0)


def test_a_batch_read_at_once_answers_as_predict_does(tiny, jobs, monkeypatch):
    alone = {}
    for job in jobs[1:]:
        alone[job.name] = tiny.predict(job.image, job.drags, ensemble=job.ensemble, detail_px=job.detail_px)
    read_at_once(monkeypatch)
    results = {job.name: result for job, result in tiny.predict_batch(jobs, batch=5, threads=2)}
    assert "on the background" in str(results.pop("off the object"))
    for name, plain in alone.items():
        found = results[name]
        assert found.joint.type == plain.joint.type
        assert_close(found.joint.T_after_before, plain.joint.T_after_before, atol=1e-4, rtol=0)
        assert torch.equal(found.moving, plain.moving)
        assert_close(found.before.means, plain.before.means, atol=1e-4, rtol=0)
        assert_close(found.after.means, plain.after.means, atol=1e-4, rtol=0)
        assert torch.equal(found.part_mask, plain.part_mask)
        assert found.chance_right == pytest.approx(plain.chance_right, abs=1e-3)


@pytest.mark.gpu
def test_a_batch_on_a_gpu_answers_as_a_cpu_does(tiny, jobs, tmp_path, monkeypatch):
    monkeypatch.setattr(torch.backends.cudnn, "allow_tf32", False)
    tiny.save_pretrained(tmp_path / "tiny")
    on_gpu = PartRM.from_pretrained(tmp_path / "tiny", "cuda")
    asked = [replace(job, detail_px=job.detail_px or 0) for job in jobs[1:]]
    results = {job.name: result for job, result in on_gpu.predict_batch(asked, batch=4, threads=2)}
    for job in asked:
        plain = tiny.predict(job.image, job.drags, ensemble=job.ensemble, detail_px=job.detail_px)
        found = results[job.name]
        assert found.before.means.device.type == "cpu"
        assert found.joint.type == plain.joint.type
        assert_close(found.joint.T_after_before, plain.joint.T_after_before, atol=1e-2, rtol=0)
        assert len(found.before) == pytest.approx(len(plain.before), rel=0.01)
        assert_close(found.before.means.mean(0), plain.before.means.mean(0), atol=1e-3, rtol=0)
        assert found.part_mask.mean() == pytest.approx(float(plain.part_mask.mean()), abs=0.01)
