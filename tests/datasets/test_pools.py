"""``partrm data pool``: objects of every source in one file, what words mean, refusals; a fine-tune on own objects."""

import json
import os
from pathlib import Path

import numpy as np
import pytest
import torch
from support.boxes import cabinet

from partrm.cli import main
from partrm.datasets.pools import ProceduralCounts, pack_sources, plan_pool
from partrm.datasets.sources import SourceError
from partrm.errors import ConfigError
from partrm.objects.mjcf_export import save_mjcf
from partrm.objects.partnet import save_partnet
from partrm.objects.urdf import save_urdf
from partrm.procedural import CATEGORIES, OWN_CATEGORIES, generate
from partrm.synthesis.mesh_pool import Pool, PoolError, load_pool, pool_odds

pytest.importorskip("yourdfpy")


def seeds_of(sources) -> dict[str, list[int]]:
    found: dict[str, list[int]] = {}
    for source in sources:
        generator, seed = source.where.split(":")
        found.setdefault(generator, []).append(int(seed))
    return found


def test_procedural_means_every_generator_as_often_as_asked() -> None:
    counts = ProceduralCounts(per_category=2, per_kitchen_category=1, per_assembly=3, seed=7)
    found = seeds_of(plan_pool(["procedural"], counts))
    assert set(found) == set(CATEGORIES)
    assert found["assembly"] == [7, 8, 9]
    assert found["chest"] == [7, 8]
    assert all(len(seeds) == 1 for name, seeds in found.items() if name not in OWN_CATEGORIES)
    ovens = seeds_of(plan_pool(["procedural:Oven"], counts))
    assert ovens == {"oven": [7, 8], "kitchen_range": [7], "toaster_oven": [7, 8]}
    twice = plan_pool(["procedural:chest", "procedural:chest"], counts)
    assert seeds_of(twice) == {"chest": [7, 8]}


def test_words_and_numbers_that_mean_nothing_are_refused() -> None:
    for words, said in (
        ((), "at least one SOURCE"),
        (("procedural:unicorn",), "no such category"),
        (("procedural:",), "behind the colon"),
        (("x.urdf",), "x.urdf"),
    ):
        with pytest.raises(SourceError, match=said):
            plan_pool(words, ProceduralCounts())
    with pytest.raises(ConfigError, match="--per-category -1"):
        ProceduralCounts(per_category=-1)
    with pytest.raises(ConfigError, match="--seed 4239"):
        ProceduralCounts(seed=9**30)
    assert main(["data", "pool", "procedural", "--per-category", "-1", "--out", "x.npz"]) == 2
    with pytest.raises(PoolError, match="no object"):
        pack_sources(plan_pool(["procedural:chest"], ProceduralCounts(per_category=0)))


@pytest.mark.parametrize("name", ["source.urdf", "folder", "pipe", "file/pool.npz"])
def test_a_pool_takes_no_place_but_another_pools(name, tmp_path, monkeypatch, capsys):
    """A source was written over, and what cannot be written was found out after the work."""
    monkeypatch.setattr("partrm.datasets.pools.pack_sources", lambda *_: pytest.fail("it was packed"))
    (tmp_path / "folder").mkdir()
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "file").write_text("mine")
    save_urdf(cabinet(), tmp_path / "source.urdf")
    given = (tmp_path / "source.urdf").read_bytes()
    assert main(["data", "pool", str(tmp_path / "source.urdf"), "--out", str(tmp_path / name)]) in (1, 2)
    (line,) = capsys.readouterr().err.splitlines()
    assert str(tmp_path) in line
    assert (tmp_path / "source.urdf").read_bytes() == given


def assert_holds(pool: Pool, index: int, obj) -> None:
    """The pool's object is this one: its triangles, joints and limits, part by part."""
    first = int(pool.part_offset[index])
    assert int(pool.part_offset[index + 1]) - first == len(obj.parts)
    for slot, part in enumerate(obj.parts):
        corners = pool.vertices[pool.faces[pool.face_part == first + slot].long()]
        np.testing.assert_allclose(corners.numpy(), part.vertices[part.faces], atol=1e-4)
    n = len(obj.parts)
    limits = torch.stack([pool.lower[index, :n], pool.upper[index, :n]], -1)
    np.testing.assert_allclose(limits.numpy(), obj.joint_limits, atol=1e-5)


def test_every_kind_of_source_lands_in_one_pool(tmp_path: Path, capsys) -> None:
    pytest.importorskip("mujoco")
    save_urdf(cabinet(), tmp_path / "mine.urdf")
    save_mjcf(cabinet(), tmp_path / "yours.xml")
    save_partnet(cabinet(), tmp_path / "7120")
    (tmp_path / "bad.urdf").write_text("<robot name='x'/>")
    words = ["mine.urdf", "yours.xml", "7120", "bad.urdf"]
    out = tmp_path / "pool.npz"
    command = ["data", "pool", *(str(tmp_path / word) for word in words), "procedural:laptop"]
    assert main([*command, "--per-category", "2", "--seed", "5", "--workers", "1", "--out", str(out)]) == 0
    printed = capsys.readouterr().out
    assert "bad.urdf: no link" in printed
    assert "5 objects of" in printed
    pool = load_pool(out)
    sources = plan_pool([str(tmp_path / word) for word in words[:3]], ProceduralCounts())
    for index, obj in enumerate([s.load() for s in sources] + [generate("laptop", seed) for seed in (5, 6)]):
        assert_holds(pool, index, obj)
    assert pool.seed.tolist() == [-1, -1, -1, 5, 6]
    assert pool.category_names[int(pool.category[-1])] == "laptop"


def test_real_objects_are_packed_as_the_evaluation_reads_them(tmp_path: Path) -> None:
    from partrm.objects.articulated_object import ObjectError
    from partrm.objects.real_objects import load_real_object, real_object_names

    try:
        truth = [load_real_object(name) for name in real_object_names()]
    except ObjectError as error:
        pytest.skip(str(error))
    packed = pack_sources(plan_pool(["real"], ProceduralCounts()))
    assert packed.refused == ()
    assert packed.pool.count == len(truth) == 14
    for index, obj in enumerate(truth):
        assert_holds(packed.pool, index, obj)


@pytest.mark.usefixtures("forking")
def test_workers_change_nothing_and_are_told_apart() -> None:
    sources = plan_pool(["procedural:lidded_box", "procedural:press"], ProceduralCounts(per_category=2))
    told: list[tuple[int, int]] = []
    one = pack_sources(sources, 1, lambda done, of: told.append((done, of))).pool
    two = pack_sources(sources, 2).pool
    assert torch.equal(one.vertices, two.vertices)
    assert torch.equal(one.faces, two.faces)
    assert told == [(1, 4), (2, 4), (3, 4), (4, 4)]


def test_shards_hold_every_object_once_and_kinds_of_all_over_the_list(tmp_path: Path, capsys) -> None:
    out, command = tmp_path / "train", ["data", "pool", "procedural:lidded_box", "procedural:press", "--workers", "1"]
    words = [*command, "--per-category", "3", "--shard-objects", "2", "--out", str(out)]
    assert main(words) == 0
    assert "6 objects of 2 categories" in capsys.readouterr().out
    pools = [load_pool(path) for path in sorted(out.iterdir())]
    assert [(pool.category_names, pool.seed.tolist()) for pool in pools] == [
        (("lidded_box", "press"), [seed, seed]) for seed in (0, 1, 2)
    ]
    assert main(words) == 2
    assert "is there already" in capsys.readouterr().err
    assert main([*command, "--shard-objects", "0", "--out", str(tmp_path / "no")]) == 2
    assert "--shard-objects 0: give 1 or more" in capsys.readouterr().err


@pytest.mark.whole_run
def test_three_urdfs_of_ones_own_are_trained_on_end_to_end_on_a_cpu(tmp_path: Path) -> None:
    """The commands of docs/train.md, in small: a pool, a fine-tune beside other objects, weights that predict."""
    pytest.importorskip("warp")
    pytest.importorskip("accelerate")
    from partrm.model.checkpoints import load_model, read_checkpoint

    own = [cabinet(), generate("chest", 900), generate("laptop", 900)]
    for number, obj in enumerate(own):
        save_urdf(obj, tmp_path / f"own{number}.urdf")
    urdfs = [str(tmp_path / f"own{number}.urdf") for number in range(3)]
    assert main(["data", "pool", *urdfs, "--out", str(tmp_path / "own.npz"), "--workers", "1"]) == 0
    assert load_pool(tmp_path / "own.npz").count == 3
    others = ["data", "pool", "procedural:drawers", "--per-category", "2", "--workers", "1"]
    assert main([*others, "--out", str(tmp_path / "others.npz")]) == 0
    tiny = ["--preset", "tiny", "--device", "cpu", "--log-every", "3", "--coarse.image-size-px", "32"]
    tiny += ["--coarse.batch", "2", "--fine.steps", "0", "--appearance.batch", "2", "--appearance.image-size-px", "32"]
    tiny += ["--appearance.novel-size-px", "32"]
    before = ["--coarse.steps", "3", "--appearance.steps", "0"]
    assert main(["train", "--pool", str(tmp_path / "others.npz"), "--out", str(tmp_path / "a"), *tiny, *before]) == 0
    tune = ["--init", str(tmp_path / "a" / "weights"), "--coarse.steps", "3", "--appearance.steps", "3"]
    pools = ["--pool", str(tmp_path / "own.npz"), str(tmp_path / "others.npz"), "--pool-shares", "3", "1"]
    assert main(["train", *pools, "--out", str(tmp_path / "b"), *tiny, *tune, "--coarse.lr", "1e-3"]) == 0
    rows = [json.loads(line) for line in (tmp_path / "b" / "log.jsonl").read_text().splitlines()]
    assert {"image_log", "similarity"} <= set(rows[-1])
    weights, _, _ = read_checkpoint(tmp_path / "b" / "weights")
    start, _, _ = read_checkpoint(tmp_path / "a" / "weights")
    assert max(float((weights[name] - start[name]).abs().max()) for name in weights) > 1e-4
    card = json.loads((tmp_path / "b" / "weights" / "config.json").read_text())["card"]
    assert card["config"]["pool_shares"] == [3.0, 1.0]
    assert load_model(tmp_path / "b" / "weights").articulated.config.name == "tiny"


def test_shares_of_pools_are_those_of_the_draws() -> None:
    pytest.importorskip("warp")
    from partrm.synthesis.mesh_pool import ObjectPool, concatenated

    few, many = (Pool.from_objects([cabinet()] * count) for count in (2, 6))
    odds = pool_odds([few, many], [3.0, 1.0])
    assert float(odds.sum()) == pytest.approx(1)
    whole = concatenated([few, many])
    generator = torch.Generator().manual_seed(0)
    drawn = ObjectPool.from_pool(whole, odds).sample(8000, generator)
    share = torch.bincount(drawn, minlength=8) / 8000
    assert torch.allclose(share, odds, atol=0.02)
    assert float(share[:2].sum()) == pytest.approx(0.75, abs=0.02)
    with pytest.raises(PoolError, match="2 pools"):
        pool_odds([few, many], [1.0])


def test_pools_put_together_hold_the_objects_of_each() -> None:
    from partrm.synthesis.mesh_pool import concatenated

    one, two = [cabinet(), generate("kettle", 1)], [generate("chest", 2), cabinet(), generate("assembly", 3)]
    whole = concatenated([Pool.from_objects(one), Pool.from_objects(two)])
    assert whole.count == 5
    for index, obj in enumerate([*one, *two]):
        assert_holds(whole, index, obj)
        assert whole.category_names[int(whole.category[index])] == obj.category
    assert torch.equal(whole.face_part, torch.sort(whole.face_part).values)
