"""The dataset factory: names and files of PartDrag-4D, exact geometry, refusals, resuming, checking."""

import json
import math
import shutil
import time
from dataclasses import replace
from hashlib import sha256
from pathlib import Path

import numpy as np
import pytest
import torch
from support.boxes import cabinet
from support.ranks import begun

from partrm.cli import main
from partrm.datasets.build import BuildError, build, load_records, split_checksum, split_objects
from partrm.datasets.check import check_dataset, share_on_object
from partrm.datasets.object_writer import (
    BuildConfig,
    build_cameras,
    digest,
    entries_of,
    entry_files,
    object_seed,
    sample_surface,
)
from partrm.datasets.partdrag4d import (
    PROCESSED,
    REFERENCE_OFFSET,
    REFERENCE_SCALE,
    RENDERS,
    DatasetError,
    EntryName,
    PartDrag4D,
    camera_record,
    load_cameras_of,
    load_points,
    read_file_list,
    save_points,
)
from partrm.datasets.sources import SourceError, plan_sources
from partrm.files import OutputError, alone_in
from partrm.objects.partnet import save_partnet
from partrm.objects.urdf import save_urdf

pytest.importorskip("warp")
pytest.importorskip("yourdfpy")

SMALL = BuildConfig(size_px=64, views=3, states=3, distractors=1, points=500)


def sources(folder: Path) -> tuple[str, ...]:
    """Two PartNet folders, a URDF, and one whose limits are reversed."""
    save_partnet(cabinet(), folder / "partnet" / "7120")
    save_partnet(cabinet(), folder / "partnet" / "7121")
    save_urdf(cabinet(), folder / "größe_1.urdf")
    text = (folder / "größe_1.urdf").read_text(encoding="utf-8")
    (folder / "bad.urdf").write_text(text.replace('upper="1.6"', 'upper="-9"'), encoding="utf-8")
    return str(folder / "partnet"), str(folder / "größe_1.urdf"), str(folder / "bad.urdf")


@pytest.fixture(scope="module")
def built(tmp_path_factory):
    folder = tmp_path_factory.mktemp("built")
    words = sources(folder)
    result = build(words, folder / "data", SMALL)
    return folder / "data", words, result


@pytest.fixture
def copy(built, tmp_path):
    shutil.copytree(built[0], tmp_path / "data")
    return tmp_path / "data"


def problems(root):
    return [text for found in check_dataset(root) for text in found.problems]


def tree(root):
    return {str(p.relative_to(root)): sha256(p.read_bytes()).hexdigest() for p in root.rglob("*") if p.is_file()}


@pytest.mark.parametrize("text", ["7120_0_3_2010", "7120_11_0", "a-b_2_5_10"])
def test_entry_names_round_trip(text):
    assert str(EntryName.parse(text)) == text


def test_entry_names_mean_what_the_dataset_says():
    assert EntryName.parse("7120_0_3_2010") == EntryName("7120", 0, 3, ((2, 0), (1, 0)))
    for text in ("7120", "7120_0", "7120_0_3_201", "7120_0_3_", "_0_3", "7120_x_3"):
        with pytest.raises(DatasetError):
            EntryName.parse(text)
    with pytest.raises(DatasetError):
        EntryName("a_b", 0, 0)


def test_official_file_lists_are_read_under_any_prefix(tmp_path):
    path = tmp_path / "list.txt"
    path.write_text("/data/user/render_PartDrag4D/7120_0_3\n# Random\n\n  D:\\data\\7130_1_2_00/ \n")
    assert {n: str(e) for n, e in read_file_list(path).items()} == {0: "7120_0_3", 3: "7130_1_2_00"}


def test_camera_files_hold_blenders_axes(tmp_path):
    camera = build_cameras(SMALL, "x")[0]
    record = camera_record(camera.T_world_camera)
    towards_origin = -np.array(record["origin"]) / np.linalg.norm(record["origin"])
    np.testing.assert_allclose(record["z"], -towards_origin, atol=1e-6)
    assert record["y"][2] > 0, "the image's up is the world's"
    np.testing.assert_allclose(np.cross(record["x"], record["y"]), record["z"], atol=1e-6)
    (tmp_path / "000_camera.json").write_text(json.dumps(record))
    assert torch.equal(load_cameras_of(tmp_path, 1, 64).T_world_camera[0], camera.T_world_camera)


def test_presets_place_the_cameras():
    reference = build_cameras(BuildConfig(preset="reference"), "x")
    np.testing.assert_allclose(reference.positions[:, 2], 1.5, atol=1e-6)
    np.testing.assert_allclose(reference.positions[11], reference.positions[0], atol=1e-5)
    ours = build_cameras(BuildConfig(), "x").positions
    azimuth = torch.rad2deg(torch.atan2(ours[:, 1], ours[:, 0])).sort().values
    assert float(azimuth.diff().min()) > 29
    assert len({round(float(z), 4) for z in ours[:, 2]}) == 12, "elevations vary"
    for positions in (reference.positions, ours):
        np.testing.assert_allclose(positions.norm(dim=-1), 2.4, atol=1e-5)
    assert not torch.equal(ours, build_cameras(BuildConfig(seed=1), "x").positions)


def test_point_clouds_of_other_writers_are_read(tmp_path):
    points = np.random.default_rng(0).normal(size=(5, 3)).astype(np.float32)
    save_points(tmp_path / "a.ply", points, points)
    np.testing.assert_array_equal(load_points(tmp_path / "a.ply"), points)
    rows = "\n".join(f"{x} {y} {z} 255" for x, y, z in points.tolist())
    names = "property double x\nproperty double y\nproperty double z\nproperty uchar red\n"
    head = f"ply\nformat {{}} 1.0\ncomment by hand\nelement vertex 5\n{names}element face 0\nend_header\n"
    (tmp_path / "b.ply").write_text(head.format("ascii") + rows + "\n")
    np.testing.assert_allclose(load_points(tmp_path / "b.ply"), points, rtol=1e-6)
    table = np.zeros(5, [("x", ">f8"), ("y", ">f8"), ("z", ">f8"), ("red", "u1")])
    table["x"], table["y"], table["z"] = points.T
    (tmp_path / "c.ply").write_bytes(head.format("binary_big_endian").encode() + table.tobytes())
    np.testing.assert_array_equal(load_points(tmp_path / "c.ply"), points)
    (tmp_path / "d.ply").write_bytes((tmp_path / "a.ply").read_bytes()[:-7])
    with pytest.raises(DatasetError, match=r"d\.ply"):
        load_points(tmp_path / "d.ply")


def test_sources_are_planned_before_anything_is_loaded(tmp_path):
    words = sources(tmp_path)
    planned = plan_sources(("procedural", *words), 9, 0)
    assert len(planned) == 9
    assert len({s.mesh for s in planned}) == 9
    assert not [s.mesh for s in planned if "_" in s.mesh]
    assert {s.kind for s in planned} == {"procedural", "partnet", "urdf"}
    eight = plan_sources(("procedural",), 8, 0)
    assert len({s.category for s in eight}) == 8, "all of PartDrag-4D's categories"
    assert not {s.where for s in eight} & {s.where for s in plan_sources(("procedural",), 8, 1)}
    assert [s.mesh for s in plan_sources((words[0], words[0]), None, 0)] == ["7120", "7121"]
    for word in ("procedural:Unicorn", str(tmp_path / "gone"), str(tmp_path / "gone.urdf"), str(tmp_path)):
        with pytest.raises(SourceError):
            plan_sources((word,), None, 0)


def test_splits_are_by_object_and_do_not_hang_on_order():
    meshes = [f"m{i}" for i in range(60)]
    split = split_objects(meshes, 0)
    assert split == split_objects(meshes[::-1], 0) != split_objects(meshes, 1)
    assert [list(split.values()).count(s) for s in ("train", "val", "test")] == [54, 3, 3]
    assert set(split_objects(["a", "b", "c"], 0).values()) == {"train", "val", "test"}
    assert set(split_objects(["a"], 0).values()) == {"train"}


def test_a_build_is_sound_and_lists_what_it_refused(built):
    root, words, result = built
    manifest = json.loads((root / "manifest.json").read_text(encoding="utf-8"))
    # Two moving parts, three states, one distractor joint at two extremes.
    assert (result.objects, result.entries) == (3, 3 * 2 * 3 * 2)
    assert manifest["counts"] == {"planned": 4, "objects": 3, "refused": 1, "entries": 36}
    assert result.refused[0][0] == words[2] == manifest["refused"][0]["source"]
    assert "reversed" in manifest["refused"][0]["reason"]
    assert problems(root) == []
    lists = {s: list(read_file_list(root / f"{s}_filelist.txt").values()) for s in ("train", "val", "test")}
    meshes = {s: {n.mesh for n in names} for s, names in lists.items()}
    assert sum(len(m) for m in meshes.values()) == len(set.union(*meshes.values())) == 3
    assert manifest["split"]["checksum"] == split_checksum({m: s for s, names in meshes.items() for m in names})
    assert "größe-1" in set.union(*meshes.values())


@pytest.mark.parametrize("preset", ["default", "reference"])
def test_points_are_in_correspondence_and_where_the_joints_bring_them(tmp_path, preset):
    config = replace(SMALL, preset=preset)
    save_partnet(cabinet(), tmp_path / "7")
    build((str(tmp_path / "7"),), tmp_path / "data", config)
    data = PartDrag4D.from_file_list(tmp_path / "data", tmp_path / "data" / "train_filelist.txt")
    obj = replace(config.in_world(cabinet()), name="7")
    at_rest = sample_surface(obj, config.points, object_seed("7", 0))
    wanted = entries_of(obj, config)
    assert [n for n, _ in wanted] == data.entries
    if preset == "reference":  # as in a download
        (tmp_path / "data" / "manifest.json").unlink()
        data = PartDrag4D(tmp_path / "data", data.entries)
    for state, (_, q) in zip(data, wanted, strict=False):
        position, _ = at_rest.posed(obj.T_object_part(q))
        np.testing.assert_allclose(state.points, position, atol=1e-5)
        assert share_on_object(state) == 1.0
    stored = load_points(data.motion_file(data.entries[0], ".ply"))
    scale, offset = (REFERENCE_SCALE, REFERENCE_OFFSET) if preset == "reference" else (1.0, (0.0, 0.0, 0.0))
    np.testing.assert_allclose(stored * scale + offset, data[0].points, atol=1e-6)
    motion = json.loads((data.mesh_folder["7"] / "motion.json").read_text())["moving"]
    assert [m["type"] for m in motion] == ["revolute", "prismatic"]
    first, last = (load_points(data.motion_file(n, ".ply")) for n in (wanted[6][0], wanted[10][0]))
    # The drawer's travel in the clouds is what motion.json says (stored unit).
    moved = np.linalg.norm(last - first, axis=-1)
    assert moved.max() == pytest.approx(motion[1]["states"][2] - motion[1]["states"][0], abs=1e-5)


@pytest.mark.usefixtures("forking")
def test_killed_anywhere_it_goes_on_to_the_same_bytes(built, tmp_path):
    root, words, _ = built
    out = tmp_path / "data"
    run = begun(build, words, out, SMALL)
    while run.is_alive() and len(list((out / RENDERS).glob("[!.]*"))) < 8:
        time.sleep(0.005)
    run.kill()
    run.join()
    assert not (out / "manifest.json").exists()
    left = len(list((out / RENDERS).glob("[!.]*")))
    result = build(words, out, SMALL)
    assert result.made == result.entries - left, "nothing is made twice"
    assert tree(out) == tree(root)
    assert build(words, out, SMALL).made == 0


def test_a_folder_belongs_to_one_build(built, copy, tmp_path):
    _, words, _ = built
    with pytest.raises(BuildError, match="other sources or settings"):
        build(words, copy, replace(SMALL, seed=5))
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "thesis.txt").write_text("mine")
    with pytest.raises(BuildError, match="not empty"):
        build(words, tmp_path / "full", SMALL)
    with alone_in(copy), pytest.raises(OutputError, match="another command writes there"):
        build(words, copy, SMALL)


def test_a_full_disk_leaves_nothing_half_written(built, tmp_path, monkeypatch):
    import partrm.datasets.object_writer as module

    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(module, "save_obj", full)
    with pytest.raises(BuildError, match="No space left"):
        build(built[1], tmp_path / "data", SMALL)
    assert not list((tmp_path / "data" / RENDERS).glob("[!.]*"))
    assert not list((tmp_path / "data").glob("objects/*"))
    monkeypatch.undo()
    build(built[1], tmp_path / "data", SMALL)
    assert tree(tmp_path / "data") == tree(built[0])


def test_nothing_usable_is_an_error(built, tmp_path):
    with pytest.raises(BuildError, match="reversed"):
        build(built[1][2:], tmp_path / "data", SMALL)


def first_entry(root):
    record = next(r for r in load_records(root) if "refused" not in r)
    name = EntryName.parse(next(iter(record["entries"])))
    return record, name


def flip(path):
    raw = bytearray(path.read_bytes())
    raw[-1] ^= 1
    path.write_bytes(raw)


def rewrite(root, record):
    """Make a tampered record and manifest agree, so that only geometry can tell."""
    (root / "objects" / f"{record['mesh']}.json").write_text(json.dumps(record, indent=1, ensure_ascii=False))
    manifest = json.loads((root / "manifest.json").read_text(encoding="utf-8"))
    manifest["objects"] = [record if r["mesh"] == record["mesh"] else r for r in manifest["objects"]]
    (root / "manifest.json").write_text(json.dumps(manifest), encoding="utf-8")


def test_check_finds_what_is_missing_corrupt_or_unsplit(copy):
    record, name = first_entry(copy)
    motion = copy / PROCESSED / record["category"] / name.mesh / "motion"
    (copy / RENDERS / str(name) / "001.png").unlink()
    second = EntryName.parse(list(record["entries"])[1])
    flip(motion / f"{second.motion}.ply")
    third = EntryName.parse(list(record["entries"])[2])
    shutil.rmtree(copy / RENDERS / str(third))
    fourth = EntryName.parse(list(record["entries"])[3])
    (motion / f"{fourth.motion}_visible.npy").write_bytes(b"")
    (copy / PROCESSED / record["category"] / name.mesh / "motion.json").write_text("{}")
    found = problems(copy)
    for wanted in (
        f"{name}: corrupt",
        f"{second}: corrupt",
        f"{third}: missing",
        f"{fourth}: ",
        f"{name.mesh}: joints",
    ):
        assert [p for p in found if p.startswith(wanted)], wanted
    assert not [p for p in found if "misprojected" in p]


def test_check_finds_objects_in_two_splits(copy):
    lists = {s: (copy / f"{s}_filelist.txt").read_text(encoding="utf-8") for s in ("train", "val")}
    (copy / "train_filelist.txt").write_text(lists["train"] + lists["val"].splitlines()[0] + "\n", encoding="utf-8")
    assert [p for p in problems(copy) if "is in train and in val" in p]
    (copy / "train_filelist.txt").write_text("", encoding="utf-8")
    found = problems(copy)
    assert [p for p in found if "in no file list" in p]
    assert [p for p in found if "checksum" in p]


def test_check_finds_misprojected_entries(copy):
    record, name = first_entry(copy)
    path = copy / RENDERS / str(name) / "000_camera.json"
    camera = json.loads(path.read_text())
    camera["origin"] = [c + 0.3 for c in camera["origin"]]
    path.write_text(json.dumps(camera))
    record["entries"][str(name)] = digest(entry_files(copy, record["category"], name))
    rewrite(copy, record)
    found = problems(copy)
    assert len(found) == 1
    assert found[0].startswith(f"{name}: misprojected")


def test_command_line(tmp_path, capsys):
    out = str(tmp_path / "data")
    small = ["--size-px", "48", "--states", "2", "--points", "200", "--distractors", "0"]
    assert main(["data", "build", "procedural:Laptop", "--limit", "1", "--out", out, *small]) == 0
    assert "1 objects, 2 states" in capsys.readouterr().out
    assert main(["data", "check", out]) == 0
    assert main(["data", "show", out]) == 0
    from PIL import Image

    with Image.open(tmp_path / "data" / "contact_sheet.png") as sheet:
        assert sheet.size == (6 * 192, 192)
        assert len(set(sheet.convert("L").tobytes())) > 50
    flip(next((tmp_path / "data").rglob("000.png")))
    assert main(["data", "check", out]) == 1
    for wrong in (
        ["procedural:Unicorn"],
        ["nowhere.urdf"],
        ["procedural", "--states", "1"],
        ["procedural", "--limit", "0"],
    ):
        assert main(["data", "build", *wrong, "--out", str(tmp_path / "x")]) == 2
    assert not (tmp_path / "x").exists()
    assert main(["data", "check", str(tmp_path / "x")]) == 1
    assert main(["data", "--help"]) == 0
    assert "partrm data build procedural" in capsys.readouterr().out


def test_continuous_joints_go_round_without_meeting_themselves():
    from partrm.datasets.object_writer import state_values
    from partrm.geometry.joints import JointType

    obj = cabinet()
    assert obj.parts[1].joint is not None
    turning = replace(obj.parts[1].joint, type=JointType.CONTINUOUS, lower=-math.pi, upper=math.pi)
    obj = replace(obj, parts=(obj.parts[0], replace(obj.parts[1], joint=turning), obj.parts[2]))
    np.testing.assert_allclose(np.diff(state_values(obj, 1, 6)), math.pi / 3)
    np.testing.assert_allclose(state_values(obj, 2, 6)[[0, -1]], obj.joint_limits[2])
