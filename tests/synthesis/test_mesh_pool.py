"""The packed pool: exact packing, round trip through its file, refusals."""

import io
import lzma
import zipfile
from dataclasses import fields

import numpy as np
import pytest
import torch

from partrm.geometry.joints import forward_kinematics
from partrm.procedural import generate
from partrm.synthesis.mesh_pool import QUANTA, Pool, PoolError, load_pool, save_pool

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


def repacked(path, change):
    with np.load(io.BytesIO(lzma.decompress(path.read_bytes()))) as archive:
        stored = {key: archive[key] for key in archive.files}
    change(stored)
    plain = io.BytesIO()
    np.savez(plain, **stored)
    path.write_bytes(lzma.compress(plain.getvalue()))


def put(key, value):
    def change(stored):
        stored[key] = stored[key].copy()
        stored[key].reshape(-1)[-1] = value

    return change


@pytest.mark.parametrize(("change", "words"), [
    *[(lambda stored, key=key: stored.pop(key), f"{key}.* is missing") for key in ("axis", "faces", "roles", "seed")],
    *[(put(key, np.nan), f"{key} holds values") for key in ("axis", "pivot", "lower", "weights", "reach")],
    (put("faces", 255), "faces index"), (put("category", 99), "category"), (put("parent", 99), "parent"),
    (put("reach", 0), "reach is"),
    (put("object_parts", 0), "object_parts"), (lambda s: s.update(lower=s["lower"][:1, :1]), "lower has the shape"),
    (lambda s: s.update(axis=s["axis"].astype("U8")), "axis has the shape"), (put("lower", 1e9), "reversed"),
])  # fmt: skip
def test_damaged_pools_are_refused_when_they_are_read(tmp_path, change, words):
    path = tmp_path / "a.npz"
    save_pool(Pool.from_objects([generate("laptop", 1), generate("microwave", 2)]), path)
    load_pool(path)
    repacked(path, change)
    with pytest.raises(PoolError, match=words) as caught:
        load_pool(path)
    assert str(path) in str(caught.value)


def test_a_pool_whose_entry_is_no_array_is_refused(tmp_path):
    """numpy then gives the bytes."""
    path = tmp_path / "a.npz"
    save_pool(Pool.from_objects([generate("laptop", 1)]), path)
    plain, other = io.BytesIO(lzma.decompress(path.read_bytes())), io.BytesIO()
    with zipfile.ZipFile(plain) as archive, zipfile.ZipFile(other, "w") as changed:
        for name in archive.namelist():
            changed.writestr(name, b"" if name == "axis.npy" else archive.read(name))
    path.write_bytes(lzma.compress(other.getvalue()))
    with pytest.raises(PoolError, match="axis has the shape"):
        load_pool(path)


def test_files_that_are_no_pools_are_named(tmp_path):
    for content in (b"", b"no pool", lzma.compress(b"no archive"), lzma.compress(bytes(2**26))):
        (tmp_path / "a.npz").write_bytes(content)
        with pytest.raises(PoolError, match=r"a\.npz"):
            load_pool(tmp_path / "a.npz")
    with pytest.raises(PoolError, match=r"gone\.npz: cannot be read"):
        load_pool(tmp_path / "gone.npz")
