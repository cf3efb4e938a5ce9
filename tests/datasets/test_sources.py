"""The plan of a build: every object once, however its sources overlap, and none of the evaluation's."""

from itertools import pairwise

import pytest
from support.boxes import cabinet

from partrm.cli import main
from partrm.datasets.sources import (
    MOVED_SEEDS,
    OBJECTS_PER_BUILD,
    SEEDS_PER_BUILD,
    SourceError,
    plan_sources,
    require_generators,
)
from partrm.evaluation.planning import PROCEDURAL_SEED
from partrm.objects.partnet import save_partnet


def test_sources_that_overlap_give_every_object_once(tmp_path):
    planned = plan_sources(("procedural", "procedural:Microwave", "procedural:microwave"), 60, 0)
    assert len(planned) == len({s.where for s in planned}) == len({s.mesh for s in planned}) == 60
    for name in ("a/good.urdf", "b/good.urdf"):
        (tmp_path / name).parent.mkdir()
        (tmp_path / name).write_text("<robot/>")
    (tmp_path / "linked.urdf").symlink_to(tmp_path / "a" / "good.urdf")
    good = str(tmp_path / "a" / "good.urdf")
    words = (good, str(tmp_path / "b" / ".." / "a" / "good.urdf"), str(tmp_path / "linked.urdf"), good)
    assert [s.mesh for s in plan_sources(words, None, 0)] == ["good"]
    both = plan_sources((good, str(tmp_path / "b" / "good.urdf")), None, 0)
    assert [s.mesh for s in both] == ["good", "good-2"], "two files of one name are two objects"


def test_a_partnet_folder_its_parent_and_its_urdf_are_one_object(tmp_path):
    save_partnet(cabinet(), tmp_path / "all" / "7120")
    save_partnet(cabinet(), tmp_path / "all" / "7121")
    words = (str(tmp_path / "all"), str(tmp_path / "all" / "7121"), str(tmp_path / "all" / "7120" / "mobility.urdf"))
    planned = plan_sources(words, None, 0)
    assert [(s.mesh, s.kind) for s in planned] == [("7120", "partnet"), ("7121", "partnet")]


def first_seed(seed):
    (source,) = plan_sources(("procedural:laptop",), 1, seed)
    return int(source.where.split(":")[1])


def test_no_build_seed_makes_objects_of_the_evaluation_or_of_another_seed():
    firsts = sorted(first_seed(seed) for seed in range(20))
    assert all(b - a >= OBJECTS_PER_BUILD for a, b in pairwise(firsts))
    held_out = range(PROCEDURAL_SEED - OBJECTS_PER_BUILD + 1, PROCEDURAL_SEED + 2 * SEEDS_PER_BUILD)
    assert not [first for first in firsts if first in held_out]
    others = [seed for seed in range(20) if seed not in MOVED_SEEDS]
    assert [first_seed(seed) for seed in others] == [seed * SEEDS_PER_BUILD for seed in others]
    with pytest.raises(SourceError, match="at most 500000 objects a seed"):
        plan_sources(("procedural:laptop",), OBJECTS_PER_BUILD + 1, 0)


def test_what_needs_a_package_is_told_before_the_work(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr("partrm.datasets.sources.find_spec", lambda name: None)
    words = ["--limit", "9", "--out", str(tmp_path / "out")]
    assert main(["data", "build", "procedural", *words]) == 1
    line = "kitchen_dishwasher needs scene-synthesizer: pip install 'partrm[data]', or name other categories"
    assert line in capsys.readouterr().err
    assert main(["data", "pool", "procedural:kitchen_dishwasher", "--out", str(tmp_path / "pool.npz")]) == 1
    assert "kitchen_dishwasher needs scene-synthesizer" in capsys.readouterr().err
    assert not list(tmp_path.iterdir())
    require_generators(plan_sources(("procedural:laptop", "procedural:oven"), 4, 0))
