"""Evaluation on single images that are framed by the box of the mask, as ``partrm predict`` frames photos."""

import json
from dataclasses import replace
from importlib import resources

import jsonschema
import pytest
import torch
from support.small_evaluation import cabinet_set, untrained_checkpoint
from torch.testing import assert_close

from partrm.cli import main
from partrm.evaluation.eval_set import save_eval_set
from partrm.evaluation.folder_sets import FolderSet
from partrm.evaluation.report import comparison
from partrm.evaluation.results import Results, load_results
from partrm.evaluation.samples import SHOWN, MethodOutput, RunSettings
from partrm.evaluation.scoring import score
from partrm.evaluation.session import RowsError, RunOptions, evaluate_into
from partrm.geometry.cameras import INPUT_FOVY_RAD
from partrm.geometry.joints import JointType
from partrm.geometry.transforms import transform_points
from partrm.imaging.images import frame_object
from partrm.metrics.images import composite_on_white

pytestmark = pytest.mark.whole_run  # tests/evaluation/test_evaluate.py calls the same functions with checks

SIZE = 256
CANONICAL = RunSettings(limit=2, novel_size_px=48)
MASK_BOX = replace(CANONICAL, framing="mask-box")


@pytest.fixture(scope="module")
def evalset():
    return cabinet_set([])


@pytest.fixture(scope="module")
def stage(evalset):
    return evalset.open("cpu")


@pytest.fixture(scope="module")
def two_batches(stage):
    """All samples of the cabinet under both framings."""
    numbers = range(len(stage.evalset))
    return [stage.batch(numbers, settings, SIZE) for settings in (CANONICAL, MASK_BOX)]


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
    return untrained_checkpoint(tmp_path_factory.mktemp("model") / "tiny")


@pytest.fixture(scope="module")
def finished(evalset, checkpoint, tmp_path_factory):
    """Folders of results under both framings."""
    out = tmp_path_factory.mktemp("eval")
    for settings in (CANONICAL, MASK_BOX):
        evaluate_into(evalset, out / settings.framing, RunOptions(str(checkpoint), "cpu"), settings)
    return out


def correction(image):
    """By what share ``predict`` would still scale and shift an image."""
    framed = frame_object(image, SIZE)
    middle = torch.tensor([SIZE / 2, SIZE / 2])
    return abs(framed.scale - 1), float((framed.to_framed_px(middle) - middle).abs().max()) / SIZE


def test_boxes_are_where_predict_puts_them(two_batches):
    for batch in two_batches:
        corrections = [correction(image) for image in batch.inputs.images[:, 0]]
        assert max(scaled for scaled, _ in corrections) < 0.035, "boxes are read off 256 px"
        assert max(shifted for _, shifted in corrections) < 0.02


def test_framings_differ_only_in_what_is_told_of_the_lens(two_batches):
    canonical, boxed = (batch.inputs for batch in two_batches)
    assert_close(boxed.images, canonical.images, rtol=0, atol=0)
    assert_close(boxed.drags.start, canonical.drags.start, rtol=0, atol=0)
    nominal = torch.full_like(boxed.cameras.fovy_rad[:, 0], INPUT_FOVY_RAD)
    assert_close(boxed.cameras.fovy_rad[:, 0], nominal)
    assert bool(((canonical.cameras.fovy_rad[:, 0] - nominal).abs() > 0.02).all())


def test_first_views_look_at_what_is_dragged(two_batches):
    view, drags = two_batches[0].inputs.cameras[:, 0], two_batches[0].inputs.drags
    x, y = (drags.start[:, 0] * SIZE).long().unbind(-1)
    rows = torch.arange(len(x))
    assert bool((two_batches[0].inputs.images[rows, 0, 3, y, x] > 0.5).all())
    for row, truth in enumerate(two_batches[0].truths):
        end, _ = view[row].project(transform_points(truth.T_after_before, truth.drag_points))
        assert_close(end[0] / SIZE, drags.end[row, 0], atol=1e-5, rtol=0)


def test_pictures_are_the_crops_with_what_is_about_them(stage, two_batches):
    shown = stage.first_views(range(2), CANONICAL, round(SIZE * SHOWN))
    inputs, rim = two_batches[0].inputs, round(SIZE * (SHOWN - 1) / 2)
    middle = shown.before[:, :, rim:-rim, rim:-rim]
    assert float((middle - composite_on_white(inputs.images[:2, :1])[:, 0]).abs().mean()) < 2e-3
    assert float((middle == 1).float().mean()) < 0.9, "the object is there"
    crop = inputs.cameras[:2, 0]
    assert_close(torch.tan(shown.cameras.fovy_rad / 2), SHOWN * torch.tan(crop.fovy_rad / 2))
    assert_close(shown.cameras.T_world_camera, crop.T_world_camera)


def test_what_is_scored_shows_the_same_pictures_and_pixels(two_batches):
    canonical, boxed = (batch.truths for batch in two_batches)
    for one, two in zip(canonical, boxed, strict=True):
        # Rounding may move an edge over a sub-sample here and there.
        assert float((one.after - two.after).abs().mean()) < 1e-4
        assert float((one.before - two.before).abs().mean()) < 1e-4
        assert float((one.moved != two.moved).float().mean()) < 1e-3
        assert one.diagonal == two.diagonal
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
    first, second = (load_results(finished / name) for name in ("canonical", "mask-box"))
    for name, word in (("canonical", "canonical"), ("mask-box", "outline")):
        content = json.loads((finished / name / "metrics.json").read_text())
        jsonschema.Draft202012Validator(schema).validate(content)
        assert content["settings"]["framing"] == word, "the word of the schema"
    assert second.identity.settings.framing == "mask-box"
    assert first.identity.data == second.identity.data
    assert first.samples != second.samples
    for one, two in zip(first.samples, second.samples, strict=True):
        assert one.metrics.copy.psnr == pytest.approx(two.metrics.copy.psnr, abs=0.05)
        oracles = [row.metrics.oracle_geometry for row in (one, two)]
        assert oracles[0].psnr == pytest.approx(oracles[1].psnr, abs=2), "of the same size in the images"
        assert oracles[1].motion_error_ratio < 1e-5
    for report in ("report.md", "report.html"):
        for name in ("canonical", "mask-box"):
            assert f"1 view(s) of {name} framing, 1 drag(s)" in (finished / name / report).read_text()
    lines = "\n".join(comparison(first, second))
    assert "of canonical framing" in lines
    assert "of mask-box framing" in lines


def test_results_from_before_the_setting_are_read_as_canonical(finished):
    content = json.loads((finished / "canonical" / "metrics.json").read_text())
    before = content | {"settings": {k: v for k, v in content["settings"].items() if k != "framing"}}
    schema = json.loads((resources.files("partrm.evaluation") / "metrics.schema.json").read_text())
    jsonschema.Draft202012Validator(schema).validate(before)
    assert Results.from_json(before) == Results.from_json(content) == load_results(finished / "canonical")


def test_rows_of_the_other_framing_are_refused(evalset, checkpoint, finished, tmp_path):
    results = load_results(finished / "canonical")
    lines = [results.identity.to_json(), results.samples[0].to_json()]
    (tmp_path / "rows.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    with pytest.raises(RowsError, match="another settings"):
        evaluate_into(evalset, tmp_path, RunOptions(str(checkpoint), "cpu"), MASK_BOX)


def test_the_command_takes_packed_sets_and_their_framing(evalset, checkpoint, finished, tmp_path):
    save_eval_set(evalset, tmp_path / "set.safetensors")
    arguments = ["--data", tmp_path / "set.safetensors", "--framing", "mask-box", "--limit", 2, "--novel-size-px", 48]
    arguments += ["--model", checkpoint, "--device", "cpu", "--lpips", "none", "--out", tmp_path / "out"]
    assert main(["eval", *map(str, arguments)]) == 0
    assert (tmp_path / "out" / "metrics.json").read_text() == (finished / "mask-box" / "metrics.json").read_text()


def test_settings_that_do_not_go_together_are_refused(checkpoint, tmp_path):
    with pytest.raises(ValueError, match="for single images, not 4 views"):
        RunSettings(views=4, framing="mask-box")
    own = FolderSet("own", 0, "simple", (), (), "0" * 16)
    with pytest.raises(ValueError, match="own: its images are framed as they are"):
        evaluate_into(own, tmp_path / "out", RunOptions(str(checkpoint), "cpu"), MASK_BOX)
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
    assert main(["eval", *arguments, "--framing", "mask-box", "--out", str(out)]) == 2
    said = capsys.readouterr().err
    assert words in said
    assert len(said.strip().splitlines()) == 1
    assert not out.exists()
