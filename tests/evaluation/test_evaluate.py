import json
import math
import os
from dataclasses import replace

import pytest
import torch
from support.boxes import cabinet
from torch.testing import assert_close

from partrm.cli import main
from partrm.errors import PartRMError
from partrm.evaluation import planning
from partrm.evaluation.eval_set import load_eval_set, save_eval_set
from partrm.evaluation.html_report import choose_samples
from partrm.evaluation.mesh_samples import (
    EvalSetError,
    drag_points,
    network_input,
    novel_cameras,
    surface_points,
    truths_of,
)
from partrm.evaluation.planning import ProceduralPlan
from partrm.evaluation.results import ByMethod, ByMetric, SampleRow
from partrm.evaluation.runner import evaluate, render_on_white
from partrm.evaluation.samples import MethodOutput, RunSettings, SampleLabel, padded_input
from partrm.evaluation.scoring import score
from partrm.evaluation.session import RunOptions, evaluate_into
from partrm.geometry.cameras import INPUT_HALF_WIDTH, Cameras, canonical_orbit
from partrm.geometry.drag_numbers import MAX_DRAGS
from partrm.geometry.framing import Framing, gaussians_to_object, joint_to_object
from partrm.geometry.joints import JointMotion, JointType
from partrm.geometry.transforms import transform_points
from partrm.inference.decode import run_network
from partrm.inference.pipeline import network_input as predict_input
from partrm.model.checkpoints import load_model, save_checkpoint
from partrm.model.inputs import VIEWS
from partrm.model.network import TINY, PartRMNetwork
from partrm.rendering.meshes import render_meshes
from partrm.synthesis.scenarios import JointTables

SIZE = TINY.image_size_px
"""Side of the tiny network's images."""


@pytest.fixture(scope="module")
def evalset():
    """The hand-made cabinet's door and drawer in three transitions each, planned like the real objects."""
    obj = cabinet()
    ground = planning.ObjectScene.of(obj)
    found = []
    for part in obj.movable:
        for number, (transition, *_) in enumerate(planning.REAL_TRANSITIONS):
            plan = ground.first_shown(planning.fixed_candidates(obj, part, number))
            assert plan is not None
            found.append(planning.Candidate(obj, transition, plan))
    return planning.assemble("real", 0, found, ())


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
    torch.manual_seed(0)
    folder = tmp_path_factory.mktemp("model") / "tiny"
    save_checkpoint(PartRMNetwork(TINY).state_dict(), TINY, folder)
    return folder


@pytest.fixture(scope="module")
def all_truths(evalset):
    stage, numbers = evalset.open("cpu"), range(len(evalset))
    posed = stage.posed(numbers)
    cameras = novel_cameras(posed, evalset.plan.azimuth_rad, 48)
    return truths_of(stage, posed, numbers, RunSettings(), cameras, SIZE // 2)


def test_the_truth_scores_the_ceiling_and_no_motion_scores_one(all_truths):
    for truth in all_truths:
        row = score(truth, MethodOutput(truth.part_mask, truth.joint, truth.after))
        assert row["iou"] == 1
        assert row["motion_error_ratio"] < 1e-5
        assert row["type_correct"] == 1
        assert row["axis_error_deg"] < 0.05
        assert row["drag_error_px"] < 1e-3
        assert (row["psnr"], row["psnr_moved"]) == (60, 60)
        assert row["ssim"] == pytest.approx(1, abs=1e-5)
        turns = truth.joint.type == JointType.REVOLUTE
        assert row["amount_error_rad" if turns else "amount_error_units"] == pytest.approx(0, abs=1e-6)
        assert (row["pivot_distance"] or 0) < 1e-6
        assert (row["pivot_distance"] is None) != turns
        copy = score(truth, MethodOutput(None, None, truth.before))
        assert copy["psnr_moved"] < copy["psnr"] < 40
        assert copy["iou"] is copy["axis_error_deg"] is copy["lpips"] is None
        still = score(truth, MethodOutput(~truth.part_mask, replace(truth.joint, amount=0.0), truth.before))
        assert still["motion_error_ratio"] == pytest.approx(1, abs=1e-6)
        assert copy["motion_error_ratio"] == pytest.approx(1, abs=1e-6)
        assert copy["drag_error_px"] == pytest.approx(still["drag_error_px"], abs=1e-3)
        assert still["iou"] == 0
        assert still["psnr"] == copy["psnr"]
        assert still["drag_error_px"] > 0.02 * 256 / 2


def test_the_amounts_sign_is_read_about_the_true_axis(all_truths):
    for truth in all_truths:
        turned = replace(truth.joint, axis=-truth.joint.axis, amount=-truth.joint.amount)
        flipped = replace(truth.joint, axis=-truth.joint.axis)
        same, wrong = (score(truth, MethodOutput(truth.part_mask, j, truth.after)) for j in (turned, flipped))
        name = "amount_error_rad" if truth.joint.type == JointType.REVOLUTE else "amount_error_units"
        assert same[name] == pytest.approx(0, abs=1e-6)
        assert same["motion_error_ratio"] < 1e-5
        unit = 1 if truth.joint.type == JointType.REVOLUTE else truth.diagonal
        assert wrong[name] == pytest.approx(2 * abs(truth.joint.amount) / unit, rel=1e-5)


def test_the_wrong_joint_type_has_no_pivot_and_no_amount(all_truths):
    truth = all_truths[0]
    slide = JointMotion(JointType.PRISMATIC, truth.joint.axis, truth.joint.pivot, 0.1, 1.0)
    row = score(truth, MethodOutput(truth.part_mask, slide, truth.after))
    assert row["type_correct"] == 0
    assert row["pivot_distance"] is row["amount_error_rad"] is row["amount_error_units"] is None


def test_planned_samples_show_their_motion_and_drag_what_moves(evalset, all_truths):
    stage = evalset.open("cpu")
    numbers = range(len(evalset))
    posed = stage.posed(numbers)
    inputs = network_input(stage, posed, numbers, RunSettings(drags=MAX_DRAGS), 128)
    drags = inputs.drags
    assert bool(drags.valid.all())
    for row, truth in enumerate(all_truths):
        x, y = (drags.start[row] * 128).long().unbind(-1)
        assert bool((inputs.images[row, 0, 3, y, x] > 0.5).all()), "drags start on the object"
        mask = torch.nn.functional.interpolate(truth.part_mask[None, None].float(), (128, 128))[0, 0]
        near = torch.nn.functional.max_pool2d(mask[None], 5, 1, 2)[0]
        assert bool((near[y, x] > 0).all()), "drags start on the part that moves"
        assert bool(((drags.end[row] > -0.5) & (drags.end[row] < 1.5)).all()), "perhaps outside, but near"
        # Each end is where the true joint takes the point, by an independent route: the object's own kinematics.
        tables, plan = JointTables.from_objects([cabinet()]), evalset.plan
        poses = [tables.poses(q[[row]])[0, plan.part[row]] for q in (plan.q_source, plan.q_target)]
        point = transform_points(poses[1] @ poses[0].inverse(), plan.drag_point[row])
        canonical = posed.framing[[row]].points_to_canonical(point[None])[0]
        pixels, _ = inputs.cameras[row, 0].project(canonical)
        assert_close(drags.end[row] * 128, pixels, atol=0.02, rtol=0)
    assert drags.start[:, 0].sub(drags.end[:, 0]).norm(dim=-1).min() > planning.MIN_DRAG / 2
    one = network_input(stage, posed, numbers, RunSettings(drags=1), 128).drags
    assert one.valid.sum(-1).tolist() == [1] * len(evalset)


def test_first_view_looks_along_the_canonical_axis_and_views_around_keep_their_distance(evalset):
    stage, numbers = evalset.open("cpu"), range(len(evalset))
    posed = stage.posed(numbers)
    inputs = network_input(stage, posed, numbers, RunSettings(views=3), SIZE)
    assert inputs.view_valid.tolist() == [[True, True, True, False]] * len(evalset)
    assert bool((inputs.images[:, 3] == 0).all())
    first = inputs.cameras[:, 0]
    assert_close(
        first.T_world_camera[:, :3, :3], canonical_orbit(1, SIZE).T_world_camera[:, :3, :3].expand(len(evalset), 3, 3)
    )
    assert_close(first.positions[:, :2], torch.zeros(len(evalset), 2), atol=1e-5, rtol=0)
    assert_close(first.positions[:, 2] * torch.tan(first.fovy_rad / 2), torch.full((len(evalset),), INPUT_HALF_WIDTH))
    around = novel_cameras(posed, evalset.plan.azimuth_rad, 64)
    centre = posed.framing.points_to_canonical(torch.zeros(len(evalset), 1, 3))
    away = (around.positions - centre) / posed.framing.scale[:, None, None]
    assert_close(away.norm(dim=-1), torch.full(around.batch_shape, 2.4))
    up = posed.framing.R_canonical_object[:, :, 2]
    height = (away * up[:, None]).sum(-1)
    assert_close(height, torch.full_like(height, 2.4 * math.sin(math.radians(20))), atol=1e-5, rtol=0)
    angles = [away[0, i] @ away[0, i + 4] / 2.4**2 for i in range(4)]
    assert_close(torch.stack(angles), torch.full((4,), -math.cos(math.radians(40))), atol=1e-5, rtol=0)


def test_surface_points_lie_on_the_part_and_cover_it(evalset):
    stage, numbers = evalset.open("cpu"), range(len(evalset))
    posed = stage.posed(numbers)
    found = surface_points(evalset, posed, numbers)
    obj = cabinet()
    for row in numbers:
        part, q = int(evalset.plan.part[row]), evalset.plan.q_source[row].numpy()
        vertices = torch.from_numpy(obj.posed_vertices(q)[part]).float()
        canonical = posed.framing[[row]].points_to_canonical(vertices[None])[0]
        low, high = canonical.amin(0), canonical.amax(0)
        assert bool(((found[row] > low - 1e-4) & (found[row] < high + 1e-4)).all())
        assert_close(found[row].amax(0) - found[row].amin(0), high - low, atol=0.05, rtol=0)


def test_a_set_survives_its_file_and_a_changed_one_has_another_checksum(evalset, tmp_path):
    path = tmp_path / "set.safetensors"
    save_eval_set(evalset, path)
    loaded = load_eval_set(path)
    assert loaded.checksum == evalset.checksum
    assert (loaded.object_names, loaded.transitions, loaded.dropped) == (
        evalset.object_names,
        evalset.transitions,
        evalset.dropped,
    )
    assert_close(loaded.plan.drag_point, evalset.plan.drag_point, rtol=0, atol=0)
    moved = replace(evalset, plan=replace(evalset.plan, azimuth_rad=evalset.plan.azimuth_rad + 1e-6))
    assert moved.checksum != evalset.checksum
    path.write_bytes(b"no set")
    with pytest.raises(EvalSetError, match="not an evaluation set"):
        load_eval_set(path)


def outside(record, name, value):
    """The record with the last value of one of its tensors replaced."""
    changed = getattr(record, name).clone()
    changed.view(-1)[-1] = value
    return replace(record, **{name: changed})


@pytest.mark.parametrize(
    ("part", "name", "value"),
    [
        ("scene", "faces", 10**6), ("scene", "face_part", -1), ("scene", "face_material", 99),
        ("scene", "part_offset", 10**6), ("scene", "vertices", math.nan), ("tables", "joint_type", 9),
        ("tables", "parent", 7), ("materials", "texture", 0), ("materials", "pattern", -1), ("plan", "object", 5),
        ("plan", "part", 77), ("plan", "q_target", math.inf), ("plan", "drag_point", math.nan),
    ],
)  # fmt: skip
def test_arrays_out_of_their_range_are_refused_before_they_are_rendered(part, name, value, evalset, tmp_path):
    damaged = replace(evalset, **{part: outside(getattr(evalset, part), name, value)})
    save_eval_set(damaged, tmp_path / "set.safetensors")
    with pytest.raises(EvalSetError, match=f"{part}.{name}"):
        load_eval_set(tmp_path / "set.safetensors")


@pytest.mark.whole_run  # what is damaged here are types and shapes
def test_sets_of_other_shapes_types_or_names_are_refused(evalset, tmp_path):
    path = tmp_path / "set.safetensors"
    plan = evalset.plan
    for changed in (
        replace(evalset, plan=replace(plan, part=plan.part.float())),
        replace(evalset, plan=replace(plan, drag_point=plan.drag_point[..., :2])),
        replace(evalset, scene=replace(evalset.scene, faces=evalset.scene.faces[:, :2])),
        replace(evalset, seed="a"),
        replace(evalset, object_names=(7,) * len(evalset.object_names)),
    ):
        save_eval_set(changed, path)
        with pytest.raises(EvalSetError, match="damaged evaluation set"):
            load_eval_set(path)
    save_eval_set(evalset, path)
    path.write_bytes(path.read_bytes().replace(b'transitions\\": [', b'transitions\\": [  ', 1))
    with pytest.raises(EvalSetError, match="not an evaluation set"):
        load_eval_set(path)
    path.unlink()
    os.mkfifo(path)
    with pytest.raises(EvalSetError, match="no such file"):
        load_eval_set(path)


def test_textures_and_materials_survive_the_file(tmp_path):
    import numpy as np

    obj = cabinet()
    picture = np.random.default_rng(0).integers(0, 255, (8, 6, 3), dtype=np.uint8)
    parts = tuple(replace(p, corner_uv=np.random.default_rng(1).random((len(p.faces), 3, 2))) for p in obj.parts)
    textured = replace(obj, parts=parts, materials=(replace(obj.materials[0], texture=picture), *obj.materials[1:]))
    plan = planning.ObjectScene.of(textured).first_shown(planning.fixed_candidates(textured, 1, 0))
    before = planning.assemble("real", 0, [planning.Candidate(textured, "opening", plan)], ["x: hidden"])
    save_eval_set(before, tmp_path / "set.safetensors")
    images = []
    for evalset in (before, load_eval_set(tmp_path / "set.safetensors")):
        stage = evalset.open("cpu")
        posed = stage.posed([0])
        view = posed.framing.cameras_to_object(canonical_orbit(1, 48)[None])
        images.append(render_meshes(stage.scene, posed.instances, view, posed.lights))
    assert_close(images[0], images[1], rtol=0, atol=0)
    assert images[0][0, 0, :3].std() > 0.1


@pytest.mark.whole_run
def test_packed_and_direct_runs_give_the_same_rows_and_files(evalset, checkpoint, tmp_path):
    save_eval_set(evalset, tmp_path / "set.safetensors")
    rows = evaluate(evalset, load_model(checkpoint), RunSettings(limit=2, novel_size_px=48), lambda count: None)
    settings = RunSettings(limit=2, novel_size_px=48)
    loaded = load_eval_set(tmp_path / "set.safetensors")
    content = evaluate_into(loaded, tmp_path / "out", RunOptions(str(checkpoint), "cpu"), settings)
    assert list(content.samples) == rows
    assert [row.label.sample for row in rows] == [0, 1]
    written = json.loads((tmp_path / "out" / "metrics.json").read_text())
    assert written == json.loads(content.text())
    assert written["data"]["checksum"] == evalset.checksum
    assert written["summary"]["all"]["model"]["iou"]["n"] == 2
    assert not (tmp_path / "out" / "rows.jsonl").exists()
    assert (tmp_path / "out" / "contact_sheet.png").stat().st_size > 1000
    assert "oracle geometry" in (tmp_path / "out" / "report.md").read_text()


def test_eval_scores_what_predict_answers(evalset, checkpoint, tmp_path):
    """The row of a sample equals scoring ``predict`` itself on the rendered image and the drag in pixels."""
    from partrm.imaging.images import save_image
    from partrm.inference.pipeline import predict
    from partrm.inference.source import check_drags, load_source

    model = load_model(checkpoint)
    stage = evalset.open("cpu")
    posed = stage.posed([0])
    inputs = network_input(stage, posed, [0], RunSettings(), SIZE)
    camera = stage.true_cameras([0], 1, 4 * SIZE)
    picture = render_meshes(stage.scene, posed.instances, camera, posed.lights)[0, 0]
    save_image(picture, tmp_path / "source.png")
    source = load_source(tmp_path / "source.png", SIZE, "canonical")
    seen = posed.framing.cameras_to_canonical(camera)[0, 0]
    point = drag_points(stage, posed, [0], 1)[0]
    T = posed.framing.motion_to_canonical(posed.T_motion)[0]
    drag = torch.cat([seen.project(p)[0][0] for p in (point, transform_points(T, point))])
    pixels = check_drags([tuple(drag.tolist())], source)
    given = predict_input(source, pixels)
    assert float((given.images - inputs.images).abs().mean()) < 0.01
    assert_close(given.drags.start[:, 0], inputs.drags.start[:, 0], atol=1e-2, rtol=0)
    assert_close(given.drags.end[:, 0], inputs.drags.end[:, 0], atol=1e-2, rtol=0)
    assert_close(given.cameras.fovy_rad[:, 0], inputs.cameras.fovy_rad[:, 0], rtol=0.02, atol=0)
    prediction = predict(source, pixels, model)
    row = evaluate(evalset, model, RunSettings(limit=1, novel_size_px=48), lambda count: None)[0]
    cameras = novel_cameras(posed, evalset.plan.azimuth_rad[:1], 48)
    truth = truths_of(stage, posed, [0], RunSettings(), cameras, SIZE // 2)[0]
    # Predictions are in the canonical frame, truths in the one that the network answers in.
    frame = source.network_frame
    assert frame is not None
    back = Framing(
        frame.R_canonical_object.mT, -frame.scale * (frame.R_canonical_object @ frame.target), 1 / frame.scale
    )
    before, after = (gaussians_to_object(back, state) for state in (prediction.before, prediction.after))
    joint = joint_to_object(back, prediction.joint)
    scored = score(truth, MethodOutput(truth.part_mask, joint, render_on_white(after, cameras[0])))
    still = score(truth, MethodOutput(None, None, render_on_white(before, cameras[0])))
    # The one crop is resampled from the picture, the other ray-cast.
    for name in ("psnr", "psnr_moved", "motion_error_ratio", "drag_error_px"):
        assert scored[name] == pytest.approx(row.metrics.model[name], rel=0.02), name
        assert still[name] == pytest.approx(row.metrics.no_motion[name], rel=0.02), name


def test_sheet_shows_best_median_and_worst():
    ratio = {i: (i * 7 % 11) / 10 for i in range(11)}
    nothing = ByMetric.each(lambda name: None)
    rows = [
        SampleRow(
            SampleLabel(i, "o", "a", 0, "opening"),
            replace(ByMethod.each(lambda name: nothing), model=replace(nothing, motion_error_ratio=error)),
        )
        for i, error in ratio.items()
    ]
    chosen = choose_samples(rows)
    assert [round(ratio[i], 1) for i in chosen] == [0.0, 0.1, 0.2, 0.4, 0.5, 0.6, 0.8, 0.9, 1.0]
    assert list(chosen.values()) == ["best"] * 3 + ["median"] * 3 + ["worst"] * 3


def test_procedural_sets_are_the_same_every_time_and_of_full_size():
    one, two = (planning.plan_procedural(ProceduralPlan(3), lambda: None) for _ in range(2))
    assert one.checksum == two.checksum
    assert len(one) == 3
    other = planning.plan_procedural(ProceduralPlan(3, seed=1), lambda: None)
    assert other.object_names == one.object_names
    assert other.checksum != one.checksum


def test_other_categories_and_short_motions_can_be_asked_for():
    plan = ProceduralPlan(2, categories=("toilet", "lamp"))
    whole = planning.plan_procedural(plan, lambda: None)
    short = planning.plan_procedural(replace(plan, motion_fraction=0.25), lambda: None)
    assert whole.categories == short.categories == ("toilet", "lamp")
    assert torch.equal(whole.plan.q_source, short.plan.q_source)
    moved, little = (s.plan.q_target - s.plan.q_source for s in (whole, short))
    torch.testing.assert_close(little, 0.25 * moved)
    assert (moved.abs().sum(1) > 0).all()
    with pytest.raises(ValueError, match="unknown category 'sofa'"):
        planning.plan_procedural(ProceduralPlan(1, categories=("sofa",)), lambda: None)
    for fraction in (0.0, 1.5, float("nan")):
        with pytest.raises(EvalSetError, match="must be above 0"):
            ProceduralPlan(motion_fraction=fraction)


def test_packing_by_the_command_gives_the_set_that_was_planned(tmp_path, capsys):
    path = tmp_path / "sets" / "two.safetensors"
    arguments = ["--data", "procedural", "--limit", "2", "--categories", "toilet", "lamp", "--motion-fraction", "0.25"]
    assert main(["eval", *arguments, "--pack", str(path)]) == 0
    wanted = planning.plan_procedural(ProceduralPlan(2, 0, ("toilet", "lamp"), 0.25), lambda: None)
    assert load_eval_set(path).checksum == wanted.checksum
    assert f"2 samples of 2 objects, checksum {wanted.checksum}" in capsys.readouterr().out


def test_absent_views_and_drags_are_filled_up_and_change_no_answer(checkpoint):
    """Inputs by hand, as the network defines them, and the same answer whatever stands in what is absent."""
    generator = torch.Generator().manual_seed(0)
    images, drags = torch.rand(2, 3, 4, SIZE, SIZE, generator=generator), torch.rand(2, 2, 2, 2, generator=generator)
    around = canonical_orbit(VIEWS, SIZE)[[0, 2, 1, 3]]
    cameras = Cameras.cat([around[:3][None], around[:3][None]])
    inputs = padded_input(images, cameras, drags[:, 0], drags[:, 1])
    assert inputs.view_valid.tolist() == [[True, True, True, False]] * 2
    assert inputs.drags.valid.sum(1).tolist() == [2, 2]
    assert_close(inputs.images[:, :3], images, rtol=0, atol=0)
    assert not bool(inputs.images[:, 3].any())
    assert_close(inputs.cameras[:, :3].T_world_camera, cameras.T_world_camera, rtol=0, atol=0)
    assert_close(inputs.cameras.T_world_camera[0, 3], canonical_orbit(VIEWS, SIZE).T_world_camera[3], rtol=0, atol=0)
    assert_close(inputs.drags.end[:, :2], drags[:, 1], rtol=0, atol=0)
    other = replace(inputs.drags, end=torch.where(inputs.drags.valid[..., None], inputs.drags.end, 0.7))
    network = load_model(checkpoint).articulated
    one, two = (run_network(network, given).moving for given in (inputs, replace(inputs, drags=other)))
    assert_close(one, two, rtol=0, atol=0)


def test_settings_out_of_range_are_refused():
    for wrong in ({"views": 5}, {"views": 0}, {"drags": 11}, {"limit": 0}):
        with pytest.raises(PartRMError, match="must be"):
            RunSettings(**wrong)
    with pytest.raises(PartRMError, match="give at least 1"):
        RunOptions(workers=0)
    with pytest.raises(PartRMError, match="at least 1 sample"):
        ProceduralPlan(0)
    assert ProceduralPlan(8).published
    assert not ProceduralPlan(501).published
    assert not ProceduralPlan(8, seed=1).published


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (["--data", "real", "--views", "5"], 2, "views must be 1 to 4"),
        (["--data", "real", "--drags", "0"], 2, "drags 1 to 10"),
        (["--data", "procedural", "--limit", "0"], 2, "a limit at least 1"),
        (["--data", "elsewhere"], 2, "elsewhere"),
        ([], 2, "give --data and --out"),
        (["--data", "procedural", "--motion-fraction", "0"], 2, "must be above 0"),
        (["--data", "real", "--categories", "lamp"], 2, "are for procedural samples"),
        (["--data", "real", "--protocol", "reference"], 2, "are for PartDrag-4D folders"),
        (["--data", "real", "--pack", "set.safetensors"], 2, "--pack writes the set and nothing else"),
        (["--data", "real", "--grid", "--views", "4"], 2, "--grid sets views"),
        (["--compare", "a.json", "b.json"], 2, "--compare takes"),
        (["--data", "real", "--json", "--grid"], 2, "--json prints the summary of one evaluation"),
        (["--data", "real", "--model", "no-such-model"], 1, "neither bundled"),
    ],
)
def test_command_refuses_bad_arguments_before_it_works(arguments, code, words, tmp_path, capsys):
    assert main(["eval", *arguments, "--out", str(tmp_path / "out")]) == code
    assert words in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


@pytest.mark.whole_run
def test_command_writes_the_results_of_procedural_samples(checkpoint, tmp_path, capsys):
    out = tmp_path / "out"
    arguments = ["--data", "procedural", "--limit", "1", "--novel-size-px", "48"]
    arguments += ["--model", str(checkpoint), "--device", "cpu"]
    assert main(["eval", *arguments, "--out", str(out), "--json"]) == 0
    assert sorted(p.name for p in out.iterdir()) == ["contact_sheet.png", "metrics.json", "report.html", "report.md"]
    content = json.loads((out / "metrics.json").read_text())
    assert json.loads(capsys.readouterr().out) == content["summary"]["all"]
    assert len(content["samples"]) == content["summary"]["all"]["samples"] == 1
    assert content["model"]["hash"] == load_model(checkpoint).hash
