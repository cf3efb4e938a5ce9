"""The packed pool: exact packing, round trip through its file, refusals, the command line."""

import subprocess
import sys
from dataclasses import fields

import numpy as np
import pytest
import torch

from partrm.articulation.kinematics import forward_kinematics
from partrm.articulation.procedural import generate
from partrm.data.pool import QUANTA, Pool, PoolError, build_pool, concatenated, load_pool, save_pool

JOBS = [("cabinet", 0), ("laptop", 1), ("drawers", 2), ("washing_machine", 3), ("door", 4)]


@pytest.fixture(scope="module")
def objects():
    return [generate(*job) for job in JOBS]


@pytest.fixture(scope="module")
def pool(objects):
    return Pool.from_objects(objects)


def test_each_object_can_be_read_back_from_the_arrays(objects, pool):
    assert pool.count == len(objects)
    for i, obj in enumerate(objects):
        first = int(pool.part_offset[i])
        assert int(pool.part_offset[i + 1]) - first == len(obj.parts) == int(pool.part_valid[i].sum())
        assert pool.category_names[int(pool.category[i])] == obj.category
        assert (obj.category, int(pool.seed[i])) == JOBS[i]
        assert pool.roles[i, : len(obj.materials)].tolist() == [int(m.role) for m in obj.materials]
        assert (pool.roles[i, len(obj.materials) :] == -1).all()
        for k, part in enumerate(obj.parts):
            mine = pool.face_part == first + k
            corners = pool.vertices[pool.faces[mine].long()]
            np.testing.assert_allclose(corners.numpy(), part.vertices[part.faces], atol=1e-6)
            np.testing.assert_array_equal(pool.face_material[mine].numpy(), part.face_material)


def test_the_joint_tables_pose_objects_like_the_objects_do(objects, pool):
    q = pool.lower + 0.7 * (pool.upper - pool.lower)
    poses = forward_kinematics(pool.parent, pool.joint_type, pool.axis, pool.pivot, q)
    for i, obj in enumerate(objects):
        n = len(obj.parts)
        np.testing.assert_allclose(poses[i, :n].numpy(), obj.T_object_part(q[i, :n].double().numpy()), atol=1e-5)


def test_only_movable_parts_have_weights(objects, pool):
    for i, obj in enumerate(objects):
        assert set(torch.nonzero(pool.weights[i]).flatten().tolist()) == set(obj.movable)
    assert float(pool.weights.sum(-1).max()) <= 1


def test_file_round_trip_stays_within_half_a_step(pool, tmp_path):
    path = tmp_path / "pool.npz"
    save_pool(pool, path)
    assert [p.name for p in tmp_path.iterdir()] == ["pool.npz"]
    loaded = load_pool(path)
    assert loaded.category_names == pool.category_names
    for f in fields(Pool):
        a, b = getattr(pool, f.name), getattr(loaded, f.name)
        if f.name == "vertices":
            assert float((a - b).abs().max()) <= 0.5 * float(a.abs().max()) / QUANTA * 1.01
            assert float((a - b).abs().max()) > 0
        elif isinstance(a, torch.Tensor):
            assert a.dtype == b.dtype
            assert torch.equal(a, b)
    second = tmp_path / "again.npz"
    save_pool(loaded, second)
    assert torch.equal(load_pool(second).vertices, loaded.vertices)


def test_what_is_no_pool_is_refused(tmp_path, objects):
    import lzma

    path = tmp_path / "broken"
    for content in (b"", b"not a pool", lzma.compress(b"neither")):
        path.write_bytes(content)
        with pytest.raises(PoolError, match="is not a pool"):
            load_pool(path)
    with pytest.raises(PoolError, match="at least one"):
        Pool.from_objects([])
    from dataclasses import replace

    with pytest.raises(PoolError, match="no part of it moves"):
        Pool.from_objects([replace(objects[0], parts=objects[0].parts[:1])])


def test_workers_change_nothing():
    jobs = [("lidded_box", 0), ("press", 1), ("valve", 2)]
    one, two = build_pool(jobs, 1), build_pool(jobs, 2)
    assert torch.equal(one.vertices, two.vertices)
    assert torch.equal(one.faces, two.faces)


def test_command_line_builds_a_pool(tmp_path):
    out = tmp_path / "small.npz"
    arguments = ["build", "--out", str(out), "--per-category", "2", "--seed", "7", "--workers", "1"]
    command = [sys.executable, "-m", "partrm.data.pool", *arguments, "--categories", "chest", "kettle"]
    subprocess.run(command, check=True, capture_output=True)
    pool = load_pool(out)
    assert pool.count == 4
    assert pool.seed.tolist() == [7, 8, 7, 8]


@pytest.mark.parametrize("split", [1, 3])
def test_pools_put_together_are_the_pool_of_all_objects(objects, pool, split):
    parts = [Pool.from_objects(objects[:split]), Pool.from_objects(objects[split:])]
    together = concatenated(parts)
    assert together.category_names == pool.category_names
    for f in fields(Pool):
        a, b = getattr(pool, f.name), getattr(together, f.name)
        assert a == b if f.name == "category_names" else torch.equal(a, b), f.name
        assert f.name == "category_names" or a.dtype == b.dtype
    with pytest.raises(PoolError, match="no pools"):
        concatenated([])
