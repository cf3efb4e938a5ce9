"""Evaluation on single images that are framed by the outline, as ``partrm predict`` frames photos."""

import json
from dataclasses import replace
from importlib import resources

import jsonschema
import pytest
import torch
from support.small_evaluation import cabinet_set, untrained_checkpoint
from torch.testing import assert_close

from partrm.cli import main
from partrm.evaluation.__main__ import run
from partrm.evaluation.compare import comparison, load_results
from partrm.evaluation.eval_set import save_eval_set
from partrm.evaluation.folder_sets import FolderSet
from partrm.evaluation.mesh_samples import MeshSamples
from partrm.evaluation.publish import index
from partrm.evaluation.rows import RowsError
from partrm.evaluation.samples import RunSettings
from partrm.evaluation.scoring import MethodOutput, score
from partrm.evaluation.session import RunOptions, evaluate_into
from partrm.geometry.joints import JointType
from partrm.geometry.transforms import transform_points
from partrm.imaging.images import frame_object

SIZE = 256
CANONICAL = RunSettings(limit=2, novel_size_px=48)
OUTLINE = replace(CANONICAL, framing="outline")


@pytest.fixture(scope="module")
def evalset():
    return cabinet_set([])


@pytest.fixture(scope="module")
def stage(evalset):
    return MeshSamples.of(evalset, "cpu")


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
        evaluate_into(evalset, out / settings.framing, RunOptions(str(checkpoint), "cpu"), settings)
    return out


def correction(image):
    """By what share ``predict`` would still scale and shift an image."""
    framed = frame_object(image, SIZE)
    middle = torch.tensor([SIZE / 2, SIZE / 2])
    return abs(framed.scale - 1), float((framed.to_canonical_px(middle) - middle).abs().max()) / SIZE


def test_outlines_are_where_predict_puts_them(two_batches):
    canonical, outline = ([correction(image) for image in batch.inputs.images[:, 0]] for batch in two_batches)
    assert max(scaled for scaled, _ in canonical) > 0.1, "or the cabinet would test nothing"
    assert max(shifted for _, shifted in canonical) > 0.05
    assert max(scaled for scaled, _ in outline) < 0.02
    assert max(shifted for _, shifted in outline) < 0.02
    for one, two in zip(canonical, outline, strict=True):
        assert two < one


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
        assert_close(view.T_world_camera, two_batches[0].inputs.cameras[:, 0].T_world_camera)
        for row, truth in enumerate(batch.truths):
            end, _ = view[row].project(transform_points(truth.T_after_before, truth.drag_points))
            assert_close(end[0] / SIZE, drags.end[row, 0], atol=1e-5, rtol=0)


def test_what_is_scored_shows_the_same_pictures_and_pixels(two_batches):
    canonical, outline = (batch.truths for batch in two_batches)
    for one, two in zip(canonical, outline, strict=True):
        # Rounding may move an edge over a sub-sample here and there.
        assert float((one.after - two.after).abs().mean()) < 1e-4
        assert float((one.before - two.before).abs().mean()) < 1e-4
        assert float((one.moved != two.moved).float().mean()) < 1e-3
        assert one.diagonal == 1
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
            perfect = score(truth, MethodOutput(truth.part_mask, truth.joint, truth.after))
            assert perfect["motion_error_ratio"] < 1e-5
            assert perfect["psnr"] == 60
            axis, slides = truth.joint.axis, truth.joint.type == JointType.PRISMATIC
            aside = torch.nn.functional.normalize(torch.linalg.cross(axis, axis.roll(1)), dim=0)
            amount = truth.joint.amount + 0.05 * (truth.diagonal if slides else 1)
            wrong = replace(truth.joint, pivot=truth.joint.pivot + 0.1 * truth.diagonal * aside, amount=amount)
            found.append(score(truth, MethodOutput(truth.part_mask, wrong, truth.before)))
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
    schema = json.loads((resources.files("partrm.evaluation") / "metrics.schema.json").read_text())
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
    schema = json.loads((resources.files("partrm.evaluation") / "metrics.schema.json").read_text())
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
        evaluate_into(evalset, tmp_path, RunOptions(str(checkpoint), "cpu"), OUTLINE)


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
        evaluate_into(own, tmp_path / "out", RunOptions(str(checkpoint), "cpu"), OUTLINE)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--data", "real", "--views", "4"], "is for single images, not 4 views"),
        (["--data", "real", "--grid"], "--grid sets views, drags and framing"),
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
