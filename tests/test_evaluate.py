import json
import math
from dataclasses import replace

import pytest
import torch
from boxes import cabinet
from torch.testing import assert_close

from partrm.articulation.estimate import EstimatedJoint
from partrm.articulation.kinematics import JointType
from partrm.cameras import FILLED, canonical_orbit, filled_frame
from partrm.cli import main
from partrm.data.scenarios import JointTables
from partrm.drags import MAX_DRAGS
from partrm.evaluate import planning
from partrm.evaluate.baselines import render_on_white
from partrm.evaluate.batches import RunSettings
from partrm.evaluate.mesh_stage import (
    MeshStage,
    drag_points,
    network_input,
    novel_cameras,
    sample_surface,
    surface_points,
    truths_of,
)
from partrm.evaluate.pictures import chosen_samples
from partrm.evaluate.runs import evaluate
from partrm.evaluate.scoring import Answer, score
from partrm.evaluate.session import Means, evaluate_into, plan_set
from partrm.evaluate.sets import EvalSetError, load_eval_set, save_eval_set
from partrm.model.checkpoints import load_model, save_checkpoint
from partrm.model.network import TINY, PartRMNetwork
from partrm.pipeline import network_input as predict_input
from partrm.rendering.meshes import render_meshes
from partrm.transforms import transform_points

SIZE = TINY.image_size_px
"""Side of the tiny network's images."""


@pytest.fixture(scope="module")
def evalset():
    """The hand-made cabinet's door and drawer in three transitions each, planned like the real objects."""
    obj = cabinet()
    ground = planning.Ground.of(obj)
    found = []
    for part in obj.movable:
        for number, (transition, *_) in enumerate(planning.REAL_TRANSITIONS):
            plan = ground.first_shown(planning.fixed_candidates(obj, part, number))
            assert plan is not None
            found.append(planning.Found(obj, transition, plan))
    return planning.assemble("real", 0, found, ())


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
    torch.manual_seed(0)
    folder = tmp_path_factory.mktemp("model") / "tiny"
    save_checkpoint(PartRMNetwork(TINY).state_dict(), TINY, folder)
    return folder


@pytest.fixture(scope="module")
def all_truths(evalset):
    stage, numbers = MeshStage.of(evalset, "cpu"), range(len(evalset))
    posed, given, _ = stage.seen(numbers, RunSettings(), SIZE)
    cameras = novel_cameras(posed, evalset.plan.azimuth_rad, 48)
    return truths_of(stage, posed, numbers, RunSettings(), cameras, given[:, :1].resized(SIZE // 2))


def test_the_truth_scores_the_ceiling_and_no_motion_scores_one(all_truths):
    for truth in all_truths:
        row = score(truth, Answer(truth.part_mask, truth.joint, truth.after))
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
        copy = score(truth, Answer(None, None, truth.before))
        assert copy["psnr_moved"] < copy["psnr"] < 40
        assert copy["iou"] is copy["axis_error_deg"] is copy["lpips"] is None
        still = score(truth, Answer(~truth.part_mask, replace(truth.joint, amount=0.0), truth.before))
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
        same, wrong = (score(truth, Answer(truth.part_mask, j, truth.after)) for j in (turned, flipped))
        turns = truth.joint.type == JointType.REVOLUTE
        name = "amount_error_rad" if turns else "amount_error_units"
        wanted = 2 * abs(truth.joint.amount) / (1 if turns else truth.diagonal)
        assert same[name] == pytest.approx(0, abs=1e-6)
        assert same["motion_error_ratio"] < 1e-5
        assert wrong[name] == pytest.approx(wanted, rel=1e-5)


def test_the_wrong_joint_type_has_no_pivot_and_no_amount(all_truths):
    truth = all_truths[0]
    slide = EstimatedJoint(JointType.PRISMATIC, truth.joint.axis, truth.joint.pivot, 0.1, 1.0)
    row = score(truth, Answer(truth.part_mask, slide, truth.after))
    assert row["type_correct"] == 0
    assert row["pivot_distance"] is row["amount_error_rad"] is row["amount_error_units"] is None


def test_planned_samples_show_their_motion_and_drag_what_moves(evalset, all_truths):
    stage = MeshStage.of(evalset, "cpu")
    numbers = range(len(evalset))
    posed, given, valid = stage.seen(numbers, RunSettings(), 128)
    inputs = network_input(stage, posed, given, valid, numbers, RunSettings(drags=MAX_DRAGS))
    drags = inputs.drags
    assert bool(drags.valid.all())
    for row, truth in enumerate(all_truths):
        x, y = (drags.start[row] * 128).long().unbind(-1)
        assert bool((inputs.images[row, 0, 3, y, x] > 0.5).all()), "drags start on the object"
        mask = torch.nn.functional.interpolate(truth.part_mask[None, None].float(), (128, 128))[0, 0]
        near = torch.nn.functional.max_pool2d(mask[None], 5, 1, 2)[0]
        assert bool((near[y, x] > 0).all()), "drags start on the part that moves"
        # Each end is where the true joint takes the point, by an independent route: the object's own kinematics.
        tables, plan = JointTables.from_objects([cabinet()]), evalset.plan
        poses = [tables.poses(q[[row]])[0, plan.part[row]] for q in (plan.q_source, plan.q_target)]
        point = transform_points(poses[1] @ poses[0].inverse(), plan.drag_point[row])
        canonical = posed.framing[[row]].points_to_canonical(point[None])[0]
        pixels, _ = given[row, 0].project(canonical)
        assert_close(drags.end[row] * 128, pixels, atol=0.02, rtol=0)
    assert drags.start[:, 0].sub(drags.end[:, 0]).norm(dim=-1).min() > planning.LEAST_DRAG / 2
    one = stage.inputs(numbers, RunSettings(drags=1), 128).drags
    assert one.valid.sum(-1).tolist() == [1] * len(evalset)


def test_input_views_are_taken_from_the_canonical_places_and_views_around_keep_their_distance(evalset):
    stage, numbers = MeshStage.of(evalset, "cpu"), range(len(evalset))
    posed, given, _ = stage.seen(numbers, RunSettings(views=3), SIZE)
    inputs = stage.inputs(numbers, RunSettings(views=3), SIZE)
    assert_close(inputs.cameras.T_world_camera, given.T_world_camera)
    assert inputs.view_valid.tolist() == [[True, True, True, False]] * len(evalset)
    assert bool((inputs.images[:, 3] == 0).all())
    # In object frames they stand where the whole images' cameras stood, and see the object filling their frames.
    plain = stage.posed(numbers)
    first = plain.framing.cameras_to_object(canonical_orbit(1, SIZE)[None][[0] * len(evalset)])
    assert_close(posed.framing.cameras_to_object(given).positions[:, :1], first.positions, atol=1e-4, rtol=0)
    for image in inputs.images[:, :3].flatten(0, 1):
        shown = (image[3] > 0.5).nonzero()
        assert float((shown.amax(0) - shown.amin(0) + 1).max()) == pytest.approx(FILLED * SIZE, abs=0.06 * SIZE)
    posed = plain
    around = novel_cameras(posed, evalset.plan.azimuth_rad, 64)
    assert_close(around.positions.norm(dim=-1), torch.full(around.batch_shape, 2.4))
    up = posed.framing.R_canonical_object[:, :, 2]
    height = (around.positions * up[:, None]).sum(-1)
    assert_close(height, torch.full_like(height, 2.4 * math.sin(math.radians(20))), atol=1e-5, rtol=0)
    angles = [around.positions[0, i] @ around.positions[0, i + 4] / 2.4**2 for i in range(4)]
    assert_close(torch.stack(angles), torch.full((4,), -math.cos(math.radians(40))), atol=1e-5, rtol=0)


def test_surface_points_cover_the_part_by_area_and_lie_on_it(evalset):
    corners = torch.tensor([[[0.0, 0, 0], [1, 0, 0], [0, 1, 0]], [[5.0, 0, 0], [8, 0, 0], [5, 1, 0]]])
    points, of_face = sample_surface(corners, 4000, torch.Generator().manual_seed(0))
    assert float((of_face == 1).float().mean()) == pytest.approx(0.75, abs=0.03)
    for face in (0, 1):
        assert_close(points[of_face == face].mean(0), corners[face].mean(0), atol=0.06, rtol=0)
    stage, numbers = MeshStage.of(evalset, "cpu"), range(len(evalset))
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


def test_textures_and_materials_survive_the_file(tmp_path):
    import numpy as np

    obj = cabinet()
    picture = np.random.default_rng(0).integers(0, 255, (8, 6, 3), dtype=np.uint8)
    parts = tuple(replace(p, corner_uv=np.random.default_rng(1).random((len(p.faces), 3, 2))) for p in obj.parts)
    textured = replace(obj, parts=parts, materials=(replace(obj.materials[0], texture=picture), *obj.materials[1:]))
    plan = planning.Ground.of(textured).first_shown(planning.fixed_candidates(textured, 1, 0))
    before = planning.assemble("real", 0, [planning.Found(textured, "opening", plan)], ["x: hidden"])
    save_eval_set(before, tmp_path / "set.safetensors")
    images = []
    for evalset in (before, load_eval_set(tmp_path / "set.safetensors")):
        stage = MeshStage.of(evalset, "cpu")
        posed = stage.posed([0])
        view = posed.framing.cameras_to_object(canonical_orbit(1, 48)[None])
        images.append(render_meshes(stage.scene, posed.instances, view, posed.lights))
    assert_close(images[0], images[1], rtol=0, atol=0)
    assert images[0][0, 0, :3].std() > 0.1


def test_packed_and_direct_runs_give_the_same_rows_and_files(evalset, checkpoint, tmp_path):
    save_eval_set(evalset, tmp_path / "set.safetensors")
    rows = evaluate(evalset, load_model(checkpoint), RunSettings(limit=2, novel_size_px=48), lambda count: None)
    settings = RunSettings(limit=2, novel_size_px=48)
    loaded = load_eval_set(tmp_path / "set.safetensors")
    content = evaluate_into(loaded, tmp_path / "out", Means(str(checkpoint), "cpu"), settings)
    assert content["samples"] == rows
    assert [row["sample"] for row in rows] == [0, 1]
    written = json.loads((tmp_path / "out" / "metrics.json").read_text())
    assert written == json.loads(json.dumps(content))
    assert written["data"]["checksum"] == evalset.checksum
    assert written["summary"]["all"]["model"]["iou"]["n"] == 2
    assert not (tmp_path / "out" / "rows.jsonl").exists()
    assert (tmp_path / "out" / "contact_sheet.png").stat().st_size > 1000
    assert "oracle geometry" in (tmp_path / "out" / "report.md").read_text()


def test_eval_scores_what_predict_answers(evalset, checkpoint, tmp_path):
    """The row of a sample equals scoring ``predict`` itself on the rendered image and the drag in pixels."""
    from partrm.images import save_image
    from partrm.pipeline import check_drags, load_source, predict

    model = load_model(checkpoint)
    stage = MeshStage.of(evalset, "cpu")
    whole = stage.posed([0])
    camera = canonical_orbit(1, 512)
    image = render_meshes(stage.scene, whole.instances, whole.framing.cameras_to_object(camera[None]), whole.lights)
    save_image(image[0, 0], tmp_path / "source.png")
    source = load_source(tmp_path / "source.png", SIZE, "canonical")
    point = drag_points(stage, whole, [0], 1)
    moved = transform_points(whole.framing.motion_to_canonical(whole.T_motion), point)
    drag = torch.cat([camera.project(p)[0][0, 0] for p in (point, moved)])
    pixels = check_drags([tuple(drag.tolist())], source)
    _, given, _ = stage.seen([0], RunSettings(), SIZE)
    inputs = stage.inputs([0], RunSettings(), SIZE)
    framed, _, _ = filled_frame(source.cameras)
    told = predict_input(replace(source, cameras=framed), pixels)
    # The boxes are read off images of other sizes, a pixel apart.
    assert_close(told.cameras.T_world_camera[0], given.T_world_camera[0], atol=0.03, rtol=0)
    assert float((told.images - inputs.images).abs().mean()) < 0.02
    assert_close(told.drags.start[0, 0], inputs.drags.start[0, 0], atol=0.01, rtol=0)
    prediction = predict(source, pixels, model)
    row = evaluate(evalset, model, RunSettings(limit=1, novel_size_px=48), lambda count: None)[0]
    cameras = novel_cameras(whole, evalset.plan.azimuth_rad[:1], 48)
    truth = truths_of(stage, whole, [0], RunSettings(), cameras, given[:, :1].resized(SIZE // 2))[0]
    scored = score(truth, Answer(truth.part_mask, prediction.joint, render_on_white(prediction.after, cameras[0])))
    still = score(truth, Answer(None, None, render_on_white(prediction.before, cameras[0])))
    for name in ("psnr", "psnr_moved", "motion_error_ratio"):
        assert scored[name] == pytest.approx(row[name], rel=0.05), name
        assert still[name] == pytest.approx(row["baselines"]["no_motion"][name], rel=0.05), name


def test_sheet_shows_best_median_and_worst():
    rows = [{"sample": i, "motion_error_ratio": (i * 7 % 11) / 10} for i in range(11)]
    ratio = {row["sample"]: row["motion_error_ratio"] for row in rows}
    chosen = chosen_samples(rows)
    assert [round(ratio[i], 1) for i in chosen] == [0.0, 0.1, 0.2, 0.4, 0.5, 0.6, 0.8, 0.9, 1.0]
    assert list(chosen.values()) == ["best"] * 3 + ["median"] * 3 + ["worst"] * 3


def test_procedural_sets_are_the_same_every_time_and_of_full_size():
    one, two = (planning.plan_procedural(3, 0, lambda: None) for _ in range(2))
    assert one.checksum == two.checksum
    assert len(one) == 3
    other = planning.plan_procedural(3, 1, lambda: None)
    assert other.object_names == one.object_names
    assert other.checksum != one.checksum


def test_other_kinds_and_short_motions_can_be_asked_for():
    whole = planning.plan_procedural(2, 0, lambda: None, ["toilet", "lamp"])
    short = planning.plan_procedural(2, 0, lambda: None, ["toilet", "lamp"], 0.25)
    assert whole.categories == short.categories == ("toilet", "lamp")
    assert torch.equal(whole.plan.q_source, short.plan.q_source)
    moved, little = (s.plan.q_target - s.plan.q_source for s in (whole, short))
    torch.testing.assert_close(little, 0.25 * moved)
    assert (moved.abs().sum(1) > 0).all()
    with pytest.raises(ValueError, match="unknown category 'sofa'"):
        planning.plan_procedural(1, 0, lambda: None, ["sofa"])
    for share in (0.0, 1.5, float("nan")):
        with pytest.raises(ValueError, match="must be above 0"):
            planning.plan_procedural(1, 0, lambda: None, motion_share=share)
    with pytest.raises(ValueError, match="for procedural samples"):
        plan_set("real", kinds=["lamp"])


def test_settings_out_of_range_are_refused():
    for wrong in ({"views": 5}, {"views": 0}, {"drags": 11}, {"limit": 0}):
        with pytest.raises(ValueError, match="must be"):
            RunSettings(**wrong)


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (["--data", "real", "--views", "5"], 2, "--views 5: give 1 to 4"),
        (["--data", "real", "--drags", "0"], 2, "--drags 0: give 1 to 10"),
        (["--data", "procedural", "--limit", "0"], 2, "--limit 0"),
        (["--data", "elsewhere"], 2, "elsewhere"),
        ([], 2, "give --data and --out"),
        (["--data", "real", "--grid", "--views", "4"], 2, "--grid sets views"),
        (["--compare", "a.json", "b.json"], 2, "--compare takes"),
        (["--data", "real", "--model", "no-such-model"], 1, "neither bundled"),
    ],
)
def test_command_refuses_bad_arguments_before_it_works(arguments, code, words, tmp_path, capsys):
    assert main(["eval", *arguments, "--out", str(tmp_path / "out")]) == code
    assert words in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_command_writes_the_results_of_procedural_samples(checkpoint, tmp_path):
    out = tmp_path / "out"
    arguments = ["--data", "procedural", "--limit", "1", "--model", str(checkpoint), "--device", "cpu"]
    assert main(["eval", *arguments, "--out", str(out)]) == 0
    assert sorted(p.name for p in out.iterdir()) == ["contact_sheet.png", "metrics.json", "report.html", "report.md"]
    content = json.loads((out / "metrics.json").read_text())
    assert len(content["samples"]) == content["summary"]["all"]["samples"] == 1
    assert content["model"]["hash"] == load_model(checkpoint).hash
