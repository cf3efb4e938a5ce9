"""Evaluation on single images that are framed by the outline, as ``partrm predict`` frames photos."""

import json
from dataclasses import replace
from importlib import resources

import jsonschema
import pytest
import torch
from small_evaluation import cabinet_set, untrained_checkpoint
from torch.testing import assert_close

from partrm.articulation.kinematics import JointType
from partrm.cli import main
from partrm.evaluate.__main__ import run
from partrm.evaluate.batches import RunSettings
from partrm.evaluate.compare import comparison, load_results
from partrm.evaluate.folder_sets import FolderSet
from partrm.evaluate.mesh_stage import MeshStage
from partrm.evaluate.publish import index
from partrm.evaluate.rows import RowsError
from partrm.evaluate.scoring import Answer, score
from partrm.evaluate.session import Means, evaluate_into
from partrm.evaluate.sets import save_eval_set
from partrm.images import frame_object
from partrm.transforms import transform_points

SIZE = 256
CANONICAL = RunSettings(limit=2, novel_size_px=48)
OUTLINE = replace(CANONICAL, framing="outline")


@pytest.fixture(scope="module")
def evalset():
    return cabinet_set([])


@pytest.fixture(scope="module")
def stage(evalset):
    return MeshStage.of(evalset, "cpu")


@pytest.fixture(scope="module")
def two_batches(stage):
    """All samples of the cabinet under both framings."""
    numbers = range(len(stage.evalset))
    return [stage.batch(numbers, settings, SIZE) for settings in (CANONICAL, OUTLINE)]


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
    return untrained_checkpoint(tmp_path_factory.mktemp("model") / "tiny")


@pytest.fixture(scope="module")
def finished(evalset, checkpoint, tmp_path_factory):
    """Folders of results under both framings."""
    out = tmp_path_factory.mktemp("eval")
    for settings in (CANONICAL, OUTLINE):
        evaluate_into(evalset, out / settings.framing, Means(str(checkpoint), "cpu"), settings)
    return out


def correction(image):
    """By what share ``predict`` would still scale and shift an image."""
    framed = frame_object(image, SIZE, "filled")
    middle = torch.tensor([SIZE / 2, SIZE / 2])
    return abs(framed.scale - 1), float((framed.to_canonical_px(middle) - middle).abs().max()) / SIZE


def test_outlines_are_where_predict_puts_them(two_batches):
    for batch, known in zip(two_batches, (True, False), strict=True):
        corrections = [correction(image) for image in batch.inputs.images[:, 0]]
        assert max(scaled for scaled, _ in corrections) < 0.03
        assert max(shifted for _, shifted in corrections) < 0.02
        assert batch.inputs.lens_known[:, 0].tolist() == [known] * len(batch.truths)


def test_first_views_look_from_the_same_directions_at_what_is_dragged(stage, two_batches):
    numbers = range(len(stage.evalset))
    canonical, outline = (stage.posed(numbers, framing).framing for framing in ("canonical", "outline"))
    assert_close(outline.R_canonical_object, canonical.R_canonical_object, rtol=0, atol=0)
    assert bool((outline.scale != 1).all())
    for batch in two_batches:
        view, drags = batch.inputs.cameras[:, 0], batch.inputs.drags
        x, y = (drags.start[:, 0] * SIZE).long().unbind(-1)
        rows = torch.arange(len(x))
        assert bool((batch.inputs.images[rows, 0, 3, y, x] > 0.5).all())
        first = view.T_world_camera
        assert_close(
            first[:, :3, :3], torch.diag(torch.tensor([1.0, -1.0, -1.0])).expand(len(x), 3, 3), atol=1e-5, rtol=0
        )
        assert_close(first[:, :2, 3], torch.zeros(len(x), 2), atol=1e-5, rtol=0)
        for row, truth in enumerate(batch.truths):
            end, _ = view[row].project(transform_points(truth.T_after_before, truth.drag_points))
            assert_close(end[0] / SIZE, drags.end[row, 0], atol=2e-5, rtol=0)


def test_what_is_scored_shows_the_same_pictures_and_pixels(two_batches):
    canonical, outline = (batch.truths for batch in two_batches)
    for one, two in zip(canonical, outline, strict=True):
        # Rounding may move an edge over a sub-sample here and there.
        assert float((one.after - two.after).abs().mean()) < 1e-4
        assert float((one.before - two.before).abs().mean()) < 1e-4
        assert float((one.moved != two.moved).float().mean()) < 1e-3
        for T in (torch.eye(4), None):
            pixels = [
                t.camera.project(transform_points(t.T_after_before if T is None else T, t.points))[0]
                for t in (one, two)
            ]
            assert_close(pixels[0], pixels[1], atol=0.01, rtol=0)


def test_errors_are_in_object_diagonals_whatever_the_framing(two_batches):
    """An answer that is wrong by the same share of the object has the same figures under both framings."""
    rows = []
    for batch in two_batches:
        found = []
        for truth in batch.truths:
            perfect = score(truth, Answer(truth.part_mask, truth.joint, truth.after))
            assert perfect["motion_error_ratio"] < 1e-5
            assert perfect["psnr"] == 60
            axis, slides = truth.joint.axis, truth.joint.type == JointType.PRISMATIC
            ahead = truth.camera.T_world_camera[:3, 2]  # the same direction under both framings
            aside = torch.nn.functional.normalize(torch.linalg.cross(axis, ahead), dim=0)
            amount = truth.joint.amount + 0.05 * (truth.diagonal if slides else 1)
            wrong = replace(truth.joint, pivot=truth.joint.pivot + 0.1 * truth.diagonal * aside, amount=amount)
            found.append(score(truth, Answer(truth.part_mask, wrong, truth.before)))
        rows.append(found)
    for one, two in zip(*rows, strict=True):
        name = "amount_error_rad" if one["amount_error_units"] is None else "amount_error_units"
        assert one[name] == pytest.approx(0.05, abs=1e-6)
        assert one["pivot_distance"] in (None, pytest.approx(0.1, abs=1e-5))
        for figure in ("pivot_distance", name, "motion_error_ratio", "drag_error_px", "axis_error_deg"):
            assert (two[figure] is None) == (one[figure] is None), figure
            assert (two[figure] or 0) == pytest.approx(one[figure] or 0, rel=1e-3, abs=1e-3), figure
        assert two["psnr"] == pytest.approx(one["psnr"], abs=0.05)


def test_results_name_the_framing_and_compare(finished):
    schema = json.loads((resources.files("partrm.evaluate") / "metrics.schema.json").read_text())
    contents = {name: load_results(finished / name) for name in ("canonical", "outline")}
    for name, content in contents.items():
        jsonschema.Draft202012Validator(schema).validate(content)
        assert content["settings"]["framing"] == name
    first, second = contents.values()
    assert first["data"] == second["data"]
    assert first["samples"] != second["samples"]
    for one, two in zip(first["samples"], second["samples"], strict=True):
        assert one["baselines"]["copy"]["psnr"] == pytest.approx(two["baselines"]["copy"]["psnr"], abs=0.05)
        oracles = [row["baselines"]["oracle_geometry"] for row in (one, two)]
        assert oracles[0]["psnr"] == pytest.approx(oracles[1]["psnr"], abs=2), "of the same size in the images"
        assert oracles[1]["motion_error_ratio"] < 1e-5
    for report in ("report.md", "report.html"):
        assert "1 view(s) of canonical framing, 1 drag(s)" in (finished / "canonical" / report).read_text()
        assert "1 view(s) framed by the outline, 1 drag(s)" in (finished / "outline" / report).read_text()
    lines = "\n".join(comparison(first, second))
    assert "of canonical framing" in lines
    assert "framed by the outline" in lines


def test_results_from_before_the_setting_are_read_as_canonical(finished):
    content = load_results(finished / "canonical")
    before = content | {"settings": {k: v for k, v in content["settings"].items() if k != "framing"}}
    schema = json.loads((resources.files("partrm.evaluate") / "metrics.schema.json").read_text())
    jsonschema.Draft202012Validator(schema).validate(before)
    assert comparison(before, content) == comparison(content, content)
    assert index({"real": before}) == index({"real": content})
    folder = before | {"data": before["data"] | {"protocol": "corrected"}}
    assert "framing" not in index({"own": folder})


def test_rows_of_the_other_framing_are_refused(evalset, checkpoint, finished, tmp_path):
    content = load_results(finished / "canonical")
    known = {key: content[key] for key in ("schema", "code", "data", "model", "lpips", "settings")}
    known["code"] = {key: known["code"][key] for key in ("version", "source")}
    (tmp_path / "rows.jsonl").write_text(json.dumps(known) + "\n" + json.dumps(content["samples"][0]) + "\n")
    with pytest.raises(RowsError, match="another settings"):
        evaluate_into(evalset, tmp_path, Means(str(checkpoint), "cpu"), OUTLINE)


def test_packed_sets_take_the_framing_too(evalset, checkpoint, finished, tmp_path):
    save_eval_set(evalset, tmp_path / "set.safetensors")
    options = {"model": str(checkpoint), "device": "cpu", "limit": 2, "novel_size_px": 48, "lpips": "none"}
    run(tmp_path / "set.safetensors", tmp_path / "out", framing="outline", **options)
    assert load_results(tmp_path / "out") == load_results(finished / "outline")


def test_settings_that_do_not_go_together_are_refused(checkpoint, tmp_path):
    with pytest.raises(ValueError, match="for single images, not 4 views"):
        RunSettings(views=4, framing="outline")
    own = FolderSet("own", 0, "simple", (), (), "0" * 16)
    with pytest.raises(ValueError, match="own: its images are framed as they are"):
        evaluate_into(own, tmp_path / "out", Means(str(checkpoint), "cpu"), OUTLINE)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--data", "real", "--views", "4"], "--framing outline is for single images, not --views 4"),
        (["--data", "real", "--grid"], "--framing outline is for single images, not --grid"),
        (["--data", "."], "a folder's images are framed as they are"),
        (["--data", "elsewhere"], "no folder is there"),
    ],
)
def test_command_refuses_framings_that_mean_nothing(arguments, words, tmp_path, capsys):
    out = tmp_path / "out"
    assert main(["eval", *arguments, "--framing", "outline", "--out", str(out)]) == 2
    said = capsys.readouterr().err
    assert words in said
    assert len(said.strip().splitlines()) == 1
    assert not out.exists()
