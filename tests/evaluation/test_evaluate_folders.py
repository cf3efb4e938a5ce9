"""PartDrag-4D folders under both protocols, and the simple layout: pairs, truths, figures, refusals."""

import json
import math
import re
import shutil
from dataclasses import replace
from importlib import resources

import jsonschema
import numpy as np
import pytest
import torch
from PIL import Image
from torch.testing import assert_close

from partrm.cli import main
from partrm.datasets.build import build
from partrm.datasets.object_writer import BuildConfig
from partrm.datasets.partdrag4d import DatasetError, read_file_list
from partrm.evaluation.folder_samples import Canonical, posed_solid
from partrm.evaluation.folder_sets import open_folder
from partrm.evaluation.results import METRICS
from partrm.evaluation.runner import evaluate
from partrm.evaluation.samples import SHOWN, MethodOutput, RunSettings
from partrm.evaluation.scoring import score
from partrm.geometry.cameras import INPUT_HALF_WIDTH, canonical_pose, save_cameras
from partrm.geometry.joints import JointType
from partrm.geometry.transforms import transform_points
from partrm.imaging.images import save_image
from partrm.metrics.images import composite_on_white, psnr
from partrm.model.checkpoints import load_model, save_checkpoint
from partrm.model.network import TINY, PartRMNetwork
from partrm.paper.eval_protocol import published_crops, published_drags
from partrm.rendering.meshes import trace_surfaces
from partrm.synthesis.posed_scenes import moving_mask

SIZE = TINY.image_size_px
SETTINGS = RunSettings(novel_size_px=SIZE)
CONFIG = BuildConfig(preset="reference", size_px=SIZE, states=3, distractors=1, points=1500)


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    """A microwave and a cabinet in the official layout, with the reference's cameras and scale."""
    folder = tmp_path_factory.mktemp("partdrag") / "data"
    made = build(("procedural:Microwave", "procedural:StorageFurniture"), folder, CONFIG, limit=2)
    assert (made.objects, made.entries) == (2, 15)
    return folder


@pytest.fixture(scope="module")
def corrected(root):
    return open_folder(root)


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
    torch.manual_seed(0)
    folder = tmp_path_factory.mktemp("model") / "tiny"
    save_checkpoint(PartRMNetwork(TINY).state_dict(), TINY, folder)
    return folder


def test_pairs_are_those_of_one_start_state_a_mesh(root, corrected):
    reference = open_folder(root, "reference")
    pairs = [(str(s.source), str(s.target)) for s in corrected.samples]
    assert pairs == [(str(s.source), str(s.target)) for s in reference.samples]
    assert pairs == [(str(s.source), str(s.target)) for s in open_folder(root).samples]
    start = {}
    for pair in corrected.samples:
        assert start.setdefault(pair.source.mesh, pair.source.state) == pair.source.state
        assert replace(pair.target, state=pair.source.state) == pair.source
    # Each entry in its start state goes to both other states; what is left out has a reason.
    assert len(pairs) + len(corrected.dropped) == 2 * (1 + 4)
    assert len(set(pairs)) == len(pairs)
    assert all("nothing moves" in reason or "shows no point" in reason for reason in corrected.dropped)
    assert len({str(open_folder(root, seed=seed).samples[0].source) for seed in range(6)}) > 1
    assert len(open_folder(root, limit=3)) == 3


def test_joints_are_those_that_the_build_wrote(root, corrected):
    """Axis, pivot and amount, found from two point clouds, against the record of the object that was posed."""
    for pair in corrected.samples:
        record = json.loads((corrected.samples[0].dataset.mesh_folder[pair.object] / "motion.json").read_text())
        moving = record["moving"][pair.part]
        sample = pair.load()
        joint, T = sample.joint, sample.T_after_before
        states = moving["states"]
        amount = states[pair.target.state] - states[pair.source.state]
        slides = joint.type == JointType.PRISMATIC
        assert slides == (moving["type"] == "prismatic")
        axis = torch.tensor(moving["axis"], dtype=torch.float32)
        assert_close(
            joint.axis * joint.amount, axis * amount * (CONFIG.points_scale if slides else 1), atol=2e-4, rtol=0
        )
        if not slides:
            pivot = CONFIG.points_scale * torch.tensor(moving["pivot"]) + torch.tensor(CONFIG.points_offset)
            assert_close(transform_points(T, pivot[None].float())[0], pivot.float(), atol=1e-4, rtol=0)
        assert_close(joint.T_after_before, T, atol=2e-4, rtol=0)


def test_truths_agree_with_points_and_perfect_answers_score_the_ceiling(corrected):
    stage, numbers = corrected.open("cpu"), range(len(corrected))
    batch = stage.batch(numbers, replace(SETTINGS, views=4, drags=10), 4 * SIZE)
    assert batch.inputs.view_valid.all()
    for row, truth in enumerate(batch.truths):
        sample = corrected.samples[row].load()
        drags = batch.inputs.drags[row]
        # The part's mask, from the surface, covers the points that the build's own ray casting saw.
        x, y = (drags.start[drags.valid] * truth.part_mask.shape[0]).long().unbind(-1)
        near = torch.nn.functional.max_pool2d(truth.part_mask[None].float(), 3, 1, 1)[0]
        assert bool((near[y, x] > 0).all())
        crop = batch.inputs.cameras[row, 0]
        arrived, _ = crop.project(transform_points(truth.T_after_before, truth.drag_points))
        assert_close(arrived / crop.width, drags.end[drags.valid], atol=2e-3, rtol=0)
        perfect = score(truth, MethodOutput(truth.part_mask, truth.joint, truth.after))
        assert (perfect["iou"], perfect["psnr"], perfect["psnr_moved"]) == (1, 60, 60)
        assert perfect["motion_error_ratio"] < 2e-3
        assert perfect["drag_error_px"] < 0.05
        copy = score(truth, MethodOutput(None, None, truth.before))
        assert copy["motion_error_ratio"] == pytest.approx(1, abs=1e-5)
        assert copy["psnr_moved"] < copy["psnr"] < 45
        shifted = score(truth, MethodOutput(truth.part_mask, truth.joint, torch.roll(truth.after, 2, -1)))
        wanted = float(psnr(torch.roll(truth.after, 2, -1), truth.after).mean())
        assert shifted["psnr"] == pytest.approx(wanted, abs=1e-5)
        # View 11 repeats view 0, and views 0 to 3 are inputs.
        assert sample.scored == tuple(range(4, 11))
        assert len(truth.after) == 7


def test_the_first_camera_is_canonical_and_lengths_scale_with_it(corrected):
    sample = corrected.samples[0].load()
    frame = Canonical.of(sample)
    # What the network sees looks along the axis, and its picture has the size of the frame at the origin.
    assert_close(frame.crop.T_world_camera[:3, :3], canonical_pose()[:3, :3], atol=1e-5, rtol=0)
    assert_close(frame.crop.positions[:2], torch.zeros(2), atol=1e-5, rtol=0)
    assert float(frame.crop.positions[2] * torch.tan(frame.crop.fovy_rad / 2)) == pytest.approx(
        INPUT_HALF_WIDTH, rel=1e-4
    )
    assert_close(frame.crop.positions, frame.cameras.positions[0], atol=1e-4, rtol=0)
    points = sample.points[:5]
    T = frame.motion(sample.T_after_before)
    assert_close(
        transform_points(T, frame.points(points)), frame.points(transform_points(sample.T_after_before, points)),
        atol=1e-5, rtol=0,
    )  # fmt: skip
    assert_close(frame.joint(sample.joint).T_after_before, T, atol=2e-4, rtol=0)
    seen, _ = frame.cameras[0].project(frame.points(points))
    assert_close(seen, sample.cameras[0].project(points)[0], atol=1e-2, rtol=0)


def test_pictures_of_a_folder_are_the_crops_with_what_is_about_them(corrected):
    stage, side = corrected.open("cpu"), 4 * SIZE
    shown = stage.first_views([0], SETTINGS, round(side * SHOWN))
    rim = round(side * (SHOWN - 1) / 2)
    inputs = stage.inputs([0], SETTINGS, side)
    middle = shown.before[:, :, rim:-rim, rim:-rim]
    seen = composite_on_white(inputs.images[:, :1])[:, 0]
    # Resampled twice over at other places, an edge may be a little softer.
    assert float((middle - seen).abs().mean()) < 0.02
    assert float((seen < 1).any(1).float().mean()) > 0.2, "the object is there"
    assert_close(torch.tan(shown.cameras.fovy_rad / 2), SHOWN * torch.tan(inputs.cameras.fovy_rad[:, 0] / 2))


def test_published_crops_straddle_views_and_flatter_a_blurred_picture():
    colors = torch.linspace(0, 1, 12)
    views = colors[:, None, None, None].expand(12, 3, 256, 256)
    crops = published_crops(views)
    assert crops.shape == (8, 3, 256, 256)
    for crop in range(8):
        for column in (20, 100, 236):
            view = int((crop * 256 + column + 0.5) * 1.5 // 256)
            assert float(crops[crop, 0, 128, column]) == pytest.approx(float(colors[view]), abs=0.02)
    generator = torch.Generator().manual_seed(0)
    true = torch.nn.functional.interpolate(torch.rand(12, 3, 64, 64, generator=generator), (256, 256), mode="bilinear")
    blurred = torch.nn.functional.avg_pool2d(true, 5, 1, 2, count_include_pad=False)
    honest = float(psnr(blurred, true).mean())
    assert float(psnr(published_crops(blurred), published_crops(true)).mean()) > honest + 0.5


def test_published_figures_leave_out_what_has_no_error(root):
    stage = open_folder(root, "reference").open("cpu")
    truth = stage.batch([0], RunSettings(novel_size_px=256), SIZE).truths[0]
    assert len(truth.after) == 12
    perfect = score(truth, MethodOutput(None, truth.joint, truth.after))
    assert perfect["psnr"] is perfect["ssim"] is perfect["psnr_moved"] is None
    one = truth.after.clone()
    one[0, :, :32] = 0.5
    crops, whole = published_crops(one)[:1], published_crops(truth.after)[:1]
    figures = score(truth, MethodOutput(None, truth.joint, one))
    # Only the two squares that hold a piece of view 0 differ; the others do not count.
    assert figures["psnr"] < float(psnr(crops, whole)[0]) + 25
    assert figures["psnr"] < 40


def test_published_drags_all_take_the_wrong_shift():
    starts = torch.tensor([[100.0, 50.0], [300.0, 400.0], [500.0, 20.0]])
    end = torch.tensor([150.0, 80.0])
    given, ends = published_drags(end, starts)
    for n in range(3):
        shift = [float(end[i]) + 0.5 - float(starts[0, i]) for i in (0, 1)]
        wanted = [min(max(float(starts[n, i]) + shift[i], 0), 511) for i in (0, 1)]
        assert ends[n].tolist() == pytest.approx(wanted)
    assert_close(given, starts)


def test_lines_behind_the_stray_one_read_another_states_views(root, tmp_path):
    lines = (root / "train_filelist.txt").read_text().splitlines()
    padded = tmp_path / "list.txt"
    padded.write_text("\n".join(["# padding"] * 153 + lines) + "\n")
    assert list(read_file_list(padded)) == list(range(153, 153 + len(lines)))
    honest = open_folder(root, "corrected", padded)
    assert all(s.load().input_images is None for s in honest.samples[:2])
    seen = set()
    for pair in open_folder(root, "reference", padded).samples:
        own, given = pair.load().before, pair.load().input_images
        assert_close(given[0], own[0], rtol=0, atol=0)
        for view in (1, 2, 3):
            if pair.line < 155:
                wanted = own[view]
            elif pair.line == 155:
                wanted = own[0]
            else:
                wanted = pair.dataset.load(read_file_list(padded)[pair.line - 1]).images[view]
            assert_close(given[view], wanted, rtol=0, atol=0)
        seen.add(min(pair.line, 156))
    assert 156 in seen


@pytest.mark.whole_run
@pytest.mark.parametrize("protocol", ["corrected", "reference"])
def test_command_evaluates_a_folder_under_both_protocols(root, checkpoint, protocol, tmp_path):
    lines = [line for line in (root / "train_filelist.txt").read_text().splitlines() if "microwave" in line]
    (tmp_path / "some.txt").write_text("# the microwave alone\n" + "\n".join(f"/elsewhere/{line}/" for line in lines))
    arguments = ["--data", str(root), "--protocol", protocol, "--file-list", str(tmp_path / "some.txt")]
    arguments += ["--views", "4", "--drags", "10"]
    arguments += ["--lpips", "none", "--model", str(checkpoint), "--device", "cpu", "--out", str(tmp_path / "out")]
    assert main(["eval", *arguments]) == 0
    content = json.loads((tmp_path / "out" / "metrics.json").read_text())
    schema = json.loads((resources.files("partrm.evaluation") / "metrics.schema.json").read_text())
    jsonschema.Draft202012Validator(schema).validate(content)
    assert content["data"]["protocol"] == protocol
    assert len(content["samples"]) == content["summary"]["all"]["samples"] == 2
    whole = content["summary"]["all"]
    assert whole["oracle_geometry"]["iou"]["mean"] > 0.8
    assert whole["oracle_motion"]["motion_error_ratio"]["mean"] < 2e-3
    assert whole["oracle_geometry"]["psnr"]["mean"] > 18
    assert (whole["model"]["psnr_moved"]["n"] == 0) == (protocol == "reference")
    assert whole["model"]["lpips"] == {"mean": None, "low": None, "high": None, "median": None, "n": 0}


def to_simple(sample, folder):
    """A sample of PartDrag-4D in the simple layout: input view and scored views, masks, joint, points."""
    views = [0, *sample.scored]
    save = {"before": sample.before[views], "after": sample.after[views]}
    for name, images in save.items():
        (folder / name).mkdir(parents=True)
        for number, image in enumerate(images):
            save_image(image, folder / name / f"{number:02d}.png")
    save_cameras(sample.cameras[views], folder / "cameras.json")
    drags = torch.cat([sample.drag_start, sample.drag_end], 1) * SIZE
    joint = sample.joint
    record = {
        "object": "mine", "category": "boxes", "inputs": 1, "drags": drags.tolist(),
        "joint": {
            "type": joint.type.name.lower(), "axis": joint.axis.tolist(), "pivot": joint.pivot.tolist(),
            "amount": joint.amount,
        },
    }  # fmt: skip
    (folder / "sample.json").write_text(json.dumps(record))
    np.save(folder / "part_points.npy", sample.points.numpy())


@pytest.mark.whole_run
def test_the_simple_layout_gives_the_same_figures(corrected, checkpoint, tmp_path):
    """What PartDrag-4D's reader finds out is what a user writes down: same rows, but for what was not written."""
    model = load_model(checkpoint)
    (wanted,) = evaluate(replace(corrected, samples=corrected.samples[:1]), model, SETTINGS, lambda row: None)
    sample = corrected.samples[0].load()
    to_simple(sample, tmp_path / "one")
    stage = corrected.open("cpu")
    truth = stage.batch([0], replace(SETTINGS, novel_size_px=SIZE), 2 * SIZE).truths[0]
    frame = Canonical.of(sample)
    scene, batch = posed_solid(sample, sample.solid, frame, torch.device("cpu"))
    maps = trace_surfaces(scene, batch.instances, frame.cameras[[0]].resized(SIZE)[None])
    first = moving_mask(maps, batch.carried)[0, 0]
    for name, masks in (("part_before", truth.moved), ("part_after", truth.moved)):
        (tmp_path / "one" / name).mkdir()
        for number, mask in enumerate([first, *masks]):
            Image.fromarray(mask.numpy()).save(tmp_path / "one" / name / f"{number:02d}.png")
    simple = open_folder(tmp_path)
    assert (simple.protocol, len(simple), simple.object_names) == ("simple", 1, ("mine",))
    (row,) = evaluate(simple, model, SETTINGS, lambda row: None)
    for name in set(METRICS) - {"drag_error_px", "iou"}:
        value = wanted.metrics.model[name]
        assert row.metrics.model[name] == (None if value is None else pytest.approx(value, abs=2e-3)), name
    assert row.metrics.model.iou == pytest.approx(wanted.metrics.model.iou, abs=0.02)
    assert row.metrics.model.drag_error_px is None
    assert row.metrics.copy.psnr == pytest.approx(wanted.metrics.copy.psnr, abs=1e-3)
    assert all(value is None for _, value in row.metrics.oracle_geometry)


def test_a_simple_sample_needs_little(corrected, checkpoint, tmp_path):
    to_simple(corrected.samples[0].load(), tmp_path / "data" / "one")
    record = json.loads((tmp_path / "data" / "one" / "sample.json").read_text())
    (tmp_path / "data" / "one" / "sample.json").write_text(json.dumps({"drags": record["drags"]}))
    (tmp_path / "data" / "one" / "part_points.npy").unlink()
    arguments = ["--data", str(tmp_path / "data"), "--model", str(checkpoint), "--device", "cpu"]
    assert main(["eval", *arguments, "--out", str(tmp_path / "out")]) == 0
    (row,) = json.loads((tmp_path / "out" / "metrics.json").read_text())["samples"]
    assert row["object"] == "one"
    assert math.isfinite(row["psnr"])
    assert row["iou"] is row["motion_error_ratio"] is row["axis_error_deg"] is row["psnr_moved"] is None
    assert "by PSNR" in (tmp_path / "out" / "report.html").read_text()
    with pytest.raises(DatasetError, match=r"has 1 input view\(s\), not 4"):
        evaluate(open_folder(tmp_path / "data"), load_model(checkpoint), replace(SETTINGS, views=4), lambda row: None)


def broken(root, tmp_path, what):
    folder = tmp_path / "data"
    shutil.copytree(root, folder)
    if what == "image":
        for path in folder.glob("render_PartDrag4D/*/003.png"):
            path.write_bytes(b"no image")
    elif what == "mesh":
        for path in folder.glob("processed_data_partdrag4d/*/*/motion/*.obj"):
            path.write_text("v 0 0 0\n")
    elif what == "points":
        for path in folder.glob("processed_data_partdrag4d/*/*/motion/*_0*.ply"):
            path.write_bytes(path.read_bytes()[:-5])
    elif what == "list":
        (folder / "train_filelist.txt").write_text("render_PartDrag4D/nonsense\n")
    return folder


@pytest.mark.parametrize(
    ("what", "words"),
    [
        ("image", "003.png: not an image"),
        ("mesh", "has no faces"),
        ("points", "truncated"),
        ("list", "nonsense"),
    ],
)
def test_broken_folders_are_refused_with_the_file(root, checkpoint, what, words, tmp_path, capsys):
    folder = broken(root, tmp_path, what)
    arguments = ["--data", str(folder), "--model", str(checkpoint), "--device", "cpu", "--out", str(tmp_path / "out")]
    assert main(["eval", *arguments]) == 1
    lines = [line for line in capsys.readouterr().err.splitlines() if line.startswith("partrm eval:")]
    assert len(lines) == 1
    assert re.search(words, lines[0]), lines[0]
    assert not (tmp_path / "out" / "metrics.json").exists()


def test_folders_of_no_layout_are_refused(tmp_path, corrected):
    with pytest.raises(DatasetError, match="neither PartDrag-4D"):
        open_folder(tmp_path)
    to_simple(corrected.samples[0].load(), tmp_path / "one")
    good = json.loads((tmp_path / "one" / "sample.json").read_text())["drags"]
    with pytest.raises(DatasetError, match="--protocol"):
        open_folder(tmp_path, "reference")
    for wrong, words in (
        ({"drags": []}, "1 to 10"),
        ({"drags": [[1, 2, 3]]}, "four finite"),
        ({}, "needs drags"),
    ):
        (tmp_path / "one" / "sample.json").write_text(json.dumps(wrong))
        with pytest.raises(DatasetError, match=words):
            open_folder(tmp_path)
    (tmp_path / "one" / "sample.json").write_text(json.dumps({"drags": good, "inputs": 9}))
    with pytest.raises(DatasetError, match="inputs must be"):
        open_folder(tmp_path).samples[0].load()
    (tmp_path / "one" / "sample.json").write_text(json.dumps({"drags": good, "joint": {"type": "ball"}}))
    with pytest.raises(DatasetError, match="revolute or prismatic"):
        open_folder(tmp_path).samples[0].load()


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"drags": [[1, 1, 1, 1]]}, "start and end are the same point"),
        ({"drags": [[900, 1, 9, 9]]}, "lies outside of the image"),
        ({"drags": [[1, 1, 9, 9]]}, "lies on the background"),
        ({"part": "door"}, "part must be a whole number, found 'door'"),
        ({"drags": [["1", 1, 9, 9]]}, "needs drags.*not a number"),
        ({"object": "\ud800"}, "object must be a name"),
        ({"category": ["Door"]}, "category must be a name"),
        ({"transition": "a\nb"}, "transition must be a name"),
        ({"joint": {"type": "revolute", "axis": [0, 0, 1], "pivot": [0, 0, 0], "amount": float("inf")}}, "finite"),
        ({"joint": {"type": "revolute", "axis": [0, 0, 1], "pivot": [0, 0, 0], "amount": 90}}, "radians"),
        ({"joint": {"type": "revolute", "axis": [0, 0, 1], "pivot": [1e30, 0, 0], "amount": 1}}, "its pivot within"),
        ({"joint": {"type": "prismatic", "axis": [0, 0, 1], "pivot": [0, 0, 0], "amount": 1e-20}}, "amount must lie"),
    ],
)
def test_samples_that_mean_nothing_are_refused_by_name(change, words, corrected, tmp_path):
    to_simple(corrected.samples[0].load(), tmp_path / "one")
    record = json.loads((tmp_path / "one" / "sample.json").read_text())
    (tmp_path / "one" / "sample.json").write_text(json.dumps(record | change))
    with pytest.raises(DatasetError, match=rf"one/sample\.json: .*{words}"):
        open_folder(tmp_path).samples[0].load()


def test_samples_without_a_record_are_not_left_out_silently(corrected, tmp_path):
    for name in ("one", "two"):
        to_simple(corrected.samples[0].load(), tmp_path / name)
    assert len(open_folder(tmp_path)) == 2
    (tmp_path / "two" / "part_after").mkdir()
    with pytest.raises(DatasetError, match="part_after: holds 0 PNG images for 8 cameras"):
        open_folder(tmp_path).samples[1].load()
    (tmp_path / "two" / "part_after").rmdir()
    (tmp_path / "two" / "part_after").symlink_to("nowhere")
    with pytest.raises(DatasetError, match=r"part_after: cannot be read \(No such file"):
        open_folder(tmp_path).samples[1].load()
    (tmp_path / "two" / "sample.json").unlink()
    with pytest.raises(DatasetError, match=r"two/sample\.json: cannot be read \(No such file"):
        open_folder(tmp_path)
    (tmp_path / "two" / "sample.json").mkdir()
    with pytest.raises(DatasetError, match=r"two/sample\.json: cannot be read \(not a regular file"):
        open_folder(tmp_path)


@pytest.mark.parametrize(
    ("points", "words"),
    [(np.full((4, 3), 1e300), "farther than"), (np.zeros((4, 3)), "does not move the points"), (None, "not an array")],
)
def test_points_that_no_motion_can_be_measured_by_are_refused(points, words, corrected, tmp_path):
    to_simple(corrected.samples[0].load(), tmp_path / "one")
    record = json.loads((tmp_path / "one" / "sample.json").read_text())
    joint = {"type": "revolute", "axis": [0, 0, 1], "pivot": [0, 0, 0], "amount": 1}
    (tmp_path / "one" / "sample.json").write_text(json.dumps(record | {"joint": joint}))
    path = tmp_path / "one" / "part_points.npy"
    path.unlink()
    path.symlink_to("nowhere.npy") if points is None else np.save(path, points)
    with pytest.raises(DatasetError, match=words):
        open_folder(tmp_path).samples[0].load()


def test_entries_of_a_list_without_renders_are_left_out_with_a_word(root, corrected, tmp_path):
    folder = broken(root, tmp_path, "nothing")
    gone = str(corrected.samples[0].source)
    shutil.rmtree(folder / "render_PartDrag4D" / gone)
    fewer = open_folder(folder)
    assert gone not in {str(pair.source) for pair in fewer.samples}
    assert [reason for reason in fewer.dropped if reason.startswith(f"{gone}: ") and "no such folder" in reason]
    (folder / "render_PartDrag4D" / "microwave-0_00_7").mkdir()
    with pytest.raises(DatasetError, match=r"render_PartDrag4D: 'microwave-0_00_7' is called 'microwave-0_0_7'"):
        open_folder(folder)


@pytest.mark.parametrize(
    ("change", "words"),
    [({"scale": -1}, "the scale above 0"), ({"scale": True}, "not four numbers"), ({"offset": "123"}, "not four numb")],
)
def test_manifests_whose_points_have_no_unit_are_refused(change, words, root, tmp_path):
    folder = broken(root, tmp_path, "nothing")
    manifest = json.loads((folder / "manifest.json").read_text())
    manifest["points"] |= change
    (folder / "manifest.json").write_text(json.dumps(manifest))
    with pytest.raises(DatasetError, match=rf"manifest\.json: not a manifest \(.*{words}"):
        open_folder(folder)
    (folder / "manifest.json").unlink()
    (folder / "manifest.json").symlink_to("nowhere")
    with pytest.raises(DatasetError, match=r"manifest\.json: not a manifest"):
        open_folder(folder)


@pytest.mark.parametrize(
    ("where", "words"), [(0.0, "stands at the origin"), (1e30, "times the object's size away"), (None, "no object")]
)
def test_views_that_show_nothing_are_refused_by_name(where, words, root, corrected, tmp_path):
    folder = broken(root, tmp_path, "nothing")
    entry = folder / "render_PartDrag4D" / str(corrected.samples[0].source)
    path = entry / "000_camera.json"
    if where is None:
        save_image(torch.zeros(4, SIZE, SIZE), entry / "000.png")
    else:
        path.write_text(json.dumps(json.loads(path.read_text()) | {"origin": [where, 0, 0]}))
    with pytest.raises(DatasetError, match=rf"{entry.name}: .*{words}"):
        open_folder(folder).samples[0].load()


def test_a_first_camera_in_the_object_is_refused(corrected, tmp_path):
    to_simple(corrected.samples[0].load(), tmp_path / "one")
    content = json.loads((tmp_path / "one" / "cameras.json").read_text())
    for row in content["cameras"][0][:3]:
        row[3] = 0.0
    (tmp_path / "one" / "cameras.json").write_text(json.dumps(content))
    with pytest.raises(DatasetError, match=r"one/cameras\.json: the first camera stands at the origin"):
        open_folder(tmp_path).samples[0].load()


def test_a_changed_file_changes_the_checksum(root, corrected, tmp_path):
    folder = tmp_path / "data"
    shutil.copytree(root, folder)
    assert open_folder(folder).checksum == corrected.checksum
    path = folder / "render_PartDrag4D" / str(corrected.samples[0].target) / "005.png"
    save_image(torch.zeros(4, SIZE, SIZE), path)
    assert open_folder(folder).checksum != corrected.checksum
