"""``partrm export`` on results of ``partrm predict``, sound and broken."""

import json
import os
import shutil
from dataclasses import replace

import pytest
import torch
from support.gaussian_cabinet import cabinet
from torch.testing import assert_close

from partrm.assets import density
from partrm.assets.asset import build_asset
from partrm.assets.predicted import AssetError, load_predicted
from partrm.cli import main
from partrm.commands import UsageError
from partrm.commands.export import PredictFirst, part_drags


def test_a_result_holds_what_an_asset_is_made_from(laptop_result):
    prediction, folder = laptop_result
    found, given = load_predicted(folder), prediction.to_predicted()
    assert (found.moving == given.moving).all()
    assert_close(found.before.means, given.before.means)
    assert found.joint.type == given.joint.type
    assert_close(found.joint.axis, given.joint.axis)
    assert_close(found.joint.pivot, given.joint.pivot)
    assert (found.joint.amount, found.joint.confidence) == (given.joint.amount, given.joint.confidence)
    assert found.photo is not None
    assert_close(found.photo.image, given.photo.image, atol=0.51 / 255, rtol=0)
    assert_close(found.photo.camera.T_world_camera, given.photo.camera.T_world_camera)
    assert_close(found.photo.camera.fovy_rad, given.photo.camera.fovy_rad)


def test_the_command_writes_an_asset(laptop_result, tmp_path, capsys):
    arguments = [
        "--out",
        str(tmp_path / "a"),
        "--formats",
        "glb",
        "--size-m",
        "0.35",
        "--up",
        "0,1,0.4",
        "--texture-px",
        "256",
    ]
    assert main(["export", str(laptop_result[1]), *arguments]) == 0
    said = capsys.readouterr().out
    assert "revolute joint from 0.00 to" in said
    assert "assumed: diagonal 0.35 m, 400 kg/m3, camera 22 degrees above the horizon" in said
    about = json.loads((tmp_path / "a" / "asset.json").read_text())
    assert about["assumed"]["up"]["source"] == "given"
    assert about["files"] == {"glb": "object.glb"}


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (["--size-m", "0"], 2, "size 0: give a positive number"),
        (["--size-m", "nan"], 2, "size nan: give a positive number"),
        (["--size-m", "1e300"], 2, "size 1e+300: give a positive number, 0.001 to 10000"),
        (["--size-m", "1e-6"], 2, "size 1e-06: give a positive number, 0.001 to 10000"),
        (["--density", "-3"], 2, "density -3: give a positive number"),
        (["--density", "inf"], 2, "density inf: give a positive number, 0.001 to 1e+06"),
        (["--up", "1e300,0,0"], 1, "up 1e+300, 0, 0: give a direction"),
        (["--up", "sideways"], 2, "--up sideways: give auto, or three numbers X,Y,Z"),
        (["--up", "0,0,0"], 1, "up 0, 0, 0: give a direction"),
        (["--formats", "stl"], 2, ""),
        (["--drag", "1,2,3,4"], 2, "is a result already"),
    ],
)
def test_wrong_arguments_are_told_in_one_line(arguments, code, said, laptop_result, tmp_path, capsys):
    assert main(["export", str(laptop_result[1]), "--out", str(tmp_path / "a"), *arguments]) == code
    assert said in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


def test_sources_that_are_no_results(tmp_path, capsys):
    (tmp_path / "empty").mkdir()
    assert main(["export", str(tmp_path / "empty"), "--out", str(tmp_path / "a")]) == 1
    assert "empty: no result of partrm predict (prediction.json: No such file" in capsys.readouterr().err
    (tmp_path / "photo.png").write_bytes(b"x")
    assert main(["export", str(tmp_path / "photo.png"), "--out", str(tmp_path / "a")]) == 2
    assert "photo.png: an image needs --drag" in capsys.readouterr().err
    assert main(["export", str(tmp_path / "none.png"), "--out", str(tmp_path / "a")]) == 2
    assert "give at least one --drag" in capsys.readouterr().err
    drag = ["--drag", "1,2,30,40"]
    assert main(["export", str(tmp_path / "photo.png"), *drag, "--box", "1", "--out", str(tmp_path / "a")]) == 2
    assert "the box 1: give four finite numbers" in capsys.readouterr().err
    assert main(["export", str(tmp_path / "none.png"), *drag, "--out", str(tmp_path / "a")]) == 1
    assert "none.png: there is no such image file" in capsys.readouterr().err
    assert sorted(path.name for path in tmp_path.iterdir()) == ["empty", "photo.png"]


def edited(result, tmp_path, **changes):
    """A copy of a result with other entries in its description; None drops one."""
    folder = tmp_path / "r"
    shutil.copytree(result, folder)
    path = folder / "prediction.json"
    content = json.loads(path.read_text())
    for key, value in changes.items():
        content[key] = value(content[key])
        if content[key] is None:
            del content[key]
    path.write_text(json.dumps(content))
    return folder


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"joint": lambda j: None}, "tells no joint, as the results of a reference network"),
        ({"joint": lambda j: j | {"axis": [0, 0, 3]}}, "its axis has not the length 1; run partrm predict again"),
        ({"joint": lambda j: j | {"amount": float("nan")}}, "numbers that are missing or not finite"),
        ({"joint": lambda j: j | {"type": "ball"}}, "'BALL'"),
        ({"joint": lambda j: {"type": "revolute"}}, "'axis'"),
        ({"gaussians": lambda g: g | {"moving": 3}}, "its Gaussians are not those of its prediction.json"),
        ({"gaussians": lambda g: g | {"count": 3}}, "its Gaussians are not those of its prediction.json"),
        ({"joint": lambda j: j | {"confidence": 1.5}}, "its confidence 1.5, a share"),
        ({"joint": lambda j: j | {"amount": "1.0"}}, "numbers that are missing"),
        ({"joint": lambda j: j | {"amount": True}}, "numbers that are missing"),
        ({"joint": lambda j: j | {"amount": -j["amount"]}}, "does not move its Gaussians as they do"),
        ({"source": lambda s: []}, "the source, an object"),
        ({"source": lambda s: s | {"input": s["input"] | {"fovy_deg": True}}}, "name or field of view"),
        ({"model": lambda m: None}, "'model'"),
        ({"joint": lambda j: j | {"axis": ["a", "b", "c"]}}, "lacks or garbles"),
        ({"joint": lambda j: j | {"axis": [[1, 0], [0]]}}, "lacks or garbles"),
        ({"joint": lambda j: j | {"amount": 10**400}}, "lacks or garbles"),
        ({"joint": lambda j: j | {"type": "fixed"}}, "its type 'fixed'"),
        ({"source": lambda s: s | {"input": s["input"] | {"file": "no.png"}}}, "no.png: there is no such image file"),
        ({"source": lambda s: s | {"input": s["input"] | {"file": "../r/input.png"}}}, "a file of the same folder"),
        ({"source": lambda s: s | {"input": s["input"] | {"fovy_deg": 180}}}, "between 0.01 and 179 degrees"),
        ({"source": lambda s: s | {"input": s["input"] | {"fovy_deg": None}}}, "lacks or garbles"),
        ({"source": lambda s: s | {"input": s["input"] | {"T_canonical_camera": [[1, 2]]}}}, "a 4x4 matrix"),
        ({"source": lambda s: s | {"input": s["input"] | {"T_canonical_camera": [[2] * 4] * 4}}}, "not rigid"),
    ],
)
def test_damaged_results_are_refused(changes, said, laptop_result, tmp_path):
    folder = edited(laptop_result[1], tmp_path, **changes)
    with pytest.raises(ValueError, match=said) as caught:
        load_predicted(folder)
    assert "r" in str(caught.value)


@pytest.mark.parametrize(
    "joint", [{"amount": 1e30}, {"type": "prismatic", "amount": -1000.0}, {"pivot": [1e30, 1e30, 0.0]}]
)
def test_joints_of_no_part_are_refused_before_they_fill_the_memory(joint, laptop_result, tmp_path):
    with pytest.raises(AssetError, match="the joint of this prediction is no part's"):
        load_predicted(edited(laptop_result[1], tmp_path, joint=lambda j: j | joint))


def test_gaussians_apart_or_unseen_are_refused_before_they_fill_the_memory(laptop_result, monkeypatch):
    given = laptop_result[0].to_predicted()
    means, opacities = given.before.means.clone(), given.before.opacities.clone()
    means[0], opacities[0] = 1e6, 0.07
    with pytest.raises(AssetError, match="lie far from all others, or are huge"):
        replace(given, before=replace(given.before, means=means, opacities=opacities))
    large = replace(given, before=replace(given.before, scales=torch.full_like(given.before.scales, 9.0)))
    monkeypatch.setattr(density, "MAX_SUMMANDS", 10**6)  # this object has few Gaussians
    with pytest.raises(AssetError, match="as large as the whole object"):
        build_asset(large)
    monkeypatch.undo()
    opacities[given.moving] = 0.0
    unseen = replace(given, before=replace(given.before, opacities=opacities))
    with pytest.raises(AssetError, match="cannot be seen"):
        build_asset(unseen)


def test_states_that_changed_places_are_refused(laptop_result, tmp_path):
    folder = edited(laptop_result[1], tmp_path)
    before, after = folder / "gaussians_before.ply", folder / "gaussians.ply"
    before.rename(folder / "x")
    after.rename(before)
    (folder / "x").rename(after)
    with pytest.raises(AssetError, match="does not move its Gaussians as they do"):
        load_predicted(folder)


@pytest.mark.parametrize(("scale", "stray", "said"), [(1e-3, 0.0, "as a point"), (1.0, 9.9, "lie far from all others")])
def test_objects_of_no_size_and_strays_are_refused_before_they_fill_the_memory(scale, stray, said):
    """Grids of cells of one size were made about them, or figures of other libraries' rounding."""
    given = cabinet().predicted
    means = scale * given.before.means
    means[0] += stray
    with pytest.raises(AssetError, match=said):
        replace(given, before=replace(given.before, means=means, scales=scale * given.before.scales))


def test_an_uncertain_result_needs_force(laptop_result, tmp_path, capsys):
    folder = edited(laptop_result[1], tmp_path, joint=lambda j: j | {"confidence": 0.2})
    assert main(["export", str(folder), "--out", str(tmp_path / "a"), "--formats", "glb"]) == 1
    assert "the prediction is uncertain (confidence 0.20" in capsys.readouterr().err
    assert not (tmp_path / "a").exists()


def test_results_without_their_image_have_textures_of_the_gaussians(laptop_result, tmp_path):
    def without_input(source):
        return {key: value for key, value in source.items() if key != "input"}

    assert load_predicted(edited(laptop_result[1], tmp_path, source=without_input)).photo is None


def test_a_truncated_result_is_refused(laptop_result, tmp_path):
    folder = edited(laptop_result[1], tmp_path)
    for content in (b"{", b"\xff", b"[" * 100_000, b"9" * 5000):
        (folder / "prediction.json").write_bytes(content)
        with pytest.raises(AssetError, match="not valid JSON"):
            load_predicted(folder)
    (folder / "prediction.json").unlink()
    os.mkfifo(folder / "prediction.json")
    with pytest.raises(AssetError, match="not a regular file"):
        load_predicted(folder)


def test_drags_of_a_part_are_joined_and_parts_are_apart():
    texts = ("1,2,30,40", "5,6,50,60+7,8,70,80")
    first, second, third = (1, 2, 30, 40), (5, 6, 50, 60), (7, 8, 70, 80)
    assert part_drags(PredictFirst(drag=texts, parts="separate")) == [[first], [second, third]]
    assert part_drags(PredictFirst(drag=texts)) == [[first, second, third]]
    with pytest.raises(UsageError, match="--drag : not numbers"):
        part_drags(PredictFirst(drag=("1,2,30,40+",), parts="separate"))
    with pytest.raises(UsageError, match="at least one"):
        part_drags(PredictFirst(parts="separate"))
