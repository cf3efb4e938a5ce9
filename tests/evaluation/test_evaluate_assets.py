"""``partrm eval --assets``: true objects as their own assets, an asset of the shipped weights, and what is refused."""

import json
from importlib import resources

import jsonschema
import numpy as np
import pytest
import torch
from support.small_evaluation import cabinet_set

from partrm.assets.asset import Asset, AssetSettings
from partrm.assets.orientation import Orientation
from partrm.cli import main
from partrm.evaluation.assets import around, surface_metrics
from partrm.evaluation.eval_set import save_eval_set
from partrm.evaluation.mesh_samples import about_the_object
from partrm.evaluation.results import ASSET_METRICS, load_results
from partrm.geometry.cameras import CANONICAL_DISTANCE
from partrm.geometry.transforms import transform_points
from partrm.objects.articulated_object import ArticulatedObject, Part
from partrm.objects.materials import Material, Role

BODY, DOOR, DRAWER = range(3)
"""Slots of the cabinet."""


@pytest.fixture(scope="module")
def evalset():
    return cabinet_set([])


def true_asset(stage, posed, shift: float) -> Asset:
    """The true object as it is posed, in the canonical frame, its door shifted sideways by so much."""

    def part(name: str, slots: list[int], by: float) -> Part:
        vertices, faces, count = [], [], 0
        for slot in slots:
            own = stage.scene.faces[stage.scene.face_part == slot].long()
            used, renumbered = torch.unique(own, return_inverse=True)
            points = transform_points(posed.instances.T_world_part[0, slot], stage.scene.vertices[used])
            canonical = posed.framing.points_to_canonical(points[None])[0].double().numpy()
            vertices.append(canonical + np.array([by, 0.0, 0.0]))
            faces.append(renumbered.reshape(-1, 3).numpy() + count)
            count += len(used)
        together = np.concatenate(faces)
        return Part(name, np.concatenate(vertices), together, np.zeros(len(together), dtype=np.int64), None)

    parts = part("body", [BODY, DRAWER], 0.0), part("part", [DOOR], shift)
    obj = ArticulatedObject("cabinet", "object", parts, (Material("plain", (0.5, 0.5, 0.5), Role.BODY),))
    level = Orientation(np.eye(3), "given", 0.0, 0.0, 0.0)
    return Asset(obj, (), AssetSettings(), level, 1.0, np.zeros(3), (), 0.0, (), (), "", "", {})


def test_a_true_object_is_its_own_asset_and_a_shifted_door_is_as_far_as_its_shift(evalset):
    stage = evalset.open("cpu")
    posed = stage.posed([0])
    assert posed.carried[0].tolist() == [False, True, False]
    cameras, diagonal = about_the_object(posed.framing, around()), float(posed.framing.scale[0])
    exact = surface_metrics(stage, posed, true_asset(stage, posed, 0.0), cameras, diagonal)
    assert set(exact) <= set(ASSET_METRICS)
    assert [exact[f"{name}_f02"] for name in ("outside", "body", "part")] == pytest.approx([1.0] * 3, abs=1e-3)
    moved = surface_metrics(stage, posed, true_asset(stage, posed, 0.1 * diagonal), cameras, diagonal)
    assert moved["body_f05"] > 0.9
    assert 0.02 < moved["part_chamfer"] < 0.2
    assert moved["part_f02"] < 0.9 < exact["part_f02"]


def test_the_cameras_stand_all_around():
    places = around().positions
    assert torch.allclose(places.norm(dim=-1), torch.tensor(CANONICAL_DISTANCE))
    assert float(places.mean(1).norm()) < 0.05


@pytest.mark.whole_run
def test_assets_are_columns_of_their_own(evalset, tmp_path, capsys):
    save_eval_set(evalset, tmp_path / "set.safetensors")
    out = tmp_path / "out"
    arguments = ["--data", str(tmp_path / "set.safetensors"), "--limit", "1", "--novel-size-px", "48"]
    assert main(["eval", *arguments, "--lpips", "none", "--device", "cpu", "--assets", "--out", str(out)]) == 0
    assert "chamfer of the moving part" in capsys.readouterr().out
    content = json.loads((out / "metrics.json").read_text())
    schema = json.loads((resources.files("partrm.evaluation") / "metrics.schema.json").read_text())
    jsonschema.Draft202012Validator(schema).validate(content)
    assert content["settings"]["assets"] is True
    asset = content["samples"][0]["asset"]
    assert asset["exported"] == asset["type_correct"] == 1.0
    assert asset["part_chamfer"] < 0.12
    assert asset["outside_f05"] > 0.8
    assert load_results(out).to_json() == content
    assert "## Exported assets" in (out / "report.md").read_text()


@pytest.mark.parametrize("other", [["--grid"], ["--task", "manipulation"]])
def test_assets_are_for_one_evaluation(other, capsys):
    assert main(["eval", "--data", "real", "--out", "out", "--assets", *other]) == 2
    assert "--assets is for one evaluation" in capsys.readouterr().err


def test_assets_need_true_objects(tmp_path, capsys):
    assert main(["eval", "--data", str(tmp_path), "--out", str(tmp_path / "out"), "--assets"]) == 2
    assert "needs true objects" in capsys.readouterr().err
