"""Baselines, intervals, resuming, comparing and the report of an evaluation."""

import html.parser
import json
import math
import shutil
from dataclasses import replace
from pathlib import Path

import numba
import numpy as np
import pytest
import torch
from small_evaluation import cabinet_set, untrained_checkpoint

from partrm.articulation.procedural import CATEGORIES
from partrm.cameras import CANONICAL_FOVY_RAD
from partrm.cli import main
from partrm.data.sources import GENERATORS
from partrm.evaluate import parallel, published, session
from partrm.evaluate.baselines import baseline_answers, render_on_white, true_surfaces
from partrm.evaluate.batches import RunSettings
from partrm.evaluate.compare import CompareError, load_results, paired_differences
from partrm.evaluate.mesh_stage import MeshStage, input_cameras, novel_cameras, truths_of
from partrm.evaluate.page import HISTOGRAMS, histogram_svg
from partrm.evaluate.provenance import code_version
from partrm.evaluate.publish import PublishError, publish
from partrm.evaluate.report import results
from partrm.evaluate.rows import RowsError
from partrm.evaluate.runs import evaluate
from partrm.evaluate.scoring import METHODS, METRICS, Answer, bootstrap_interval, score, summarise, summarise_by
from partrm.evaluate.session import Means
from partrm.evaluate.tables import number, partdrag_table
from partrm.gaussians import Gaussians
from partrm.model.checkpoints import CheckpointError, load_model, save_checkpoint
from partrm.model.network import TINY, NetworkOutput, PartRMNetwork
from partrm.motion import MOVING_WIDTH
from partrm.transforms import pose

SETTINGS = RunSettings(limit=6, novel_size_px=48)


@pytest.fixture(scope="module")
def evalset():
    return cabinet_set(["x: <hidden>"])


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
    return untrained_checkpoint(tmp_path_factory.mktemp("model") / "tiny")


@pytest.fixture(scope="module")
def finished(evalset, checkpoint, tmp_path_factory):
    out = tmp_path_factory.mktemp("eval") / "out"
    content = session.evaluate_into(evalset, out, Means(str(checkpoint), "cpu"), SETTINGS)
    return out, content


def row_of(**figures):
    methods = {name: dict.fromkeys(METRICS, 0.5) for name in METHODS if name != "model"}
    return dict.fromkeys(METRICS, 1.0) | {"category": "a", "object": "o", "baselines": methods} | figures


def one_layer(gaussians):
    """A network's answer of these Gaussians [n] to one sample; which of them move it does not know."""
    n, one = len(gaussians), gaussians[None]
    nothing = torch.zeros(1, n)
    return NetworkOutput(one, nothing, torch.zeros(1, n, 3), nothing, nothing, torch.ones(1, 4, dtype=torch.bool))


def test_oracles_bound_what_a_model_can_reach(evalset):
    """Without a network: true Gaussians find the part, beat their unmoved selves, and lose with a wrong motion."""
    stage, numbers = MeshStage.of(evalset, "cpu"), [0, 3]
    posed = stage.posed(numbers)
    around = novel_cameras(posed, evalset.plan.azimuth_rad[numbers], 64)
    given, _ = input_cameras(posed, 4, 128, CANONICAL_FOVY_RAD)
    truths = truths_of(stage, posed, numbers, RunSettings(), around, given[:, :1].resized(64))
    surface = true_surfaces(stage.scene, posed, given)
    for row, truth in enumerate(truths):
        perfect = surface.gaussians[row]
        still = render_on_white(perfect, around[row])
        # A network's moving splats are widened when they are read: these come out as the true ones.
        narrowed = perfect.scales / torch.where(surface.network_moving[row], MOVING_WIDTH, 1.0)[:, None]
        network = one_layer(replace(perfect, scales=narrowed))
        answers = baseline_answers(truth, network, 0, still, surface[row], around[row])
        assert set(answers) | {"model"} == set(METHODS)
        figures = {name: score(truth, answer) for name, answer in answers.items()}
        assert figures["oracle_geometry"]["iou"] > 0.9
        assert figures["oracle_geometry"]["motion_error_ratio"] < 1e-5
        # On perfect Gaussians both oracles are the same.
        assert figures["oracle_motion"]["psnr"] == pytest.approx(figures["oracle_geometry"]["psnr"], abs=1e-4)
        assert figures["oracle_geometry"]["psnr"] > figures["no_motion"]["psnr"] + 1
        assert figures["oracle_geometry"]["psnr_moved"] > figures["no_motion"]["psnr_moved"] + 3
        wrong = replace(truth, T_after_before=pose(torch.eye(3), torch.tensor([0.3, 0.0, 0.0])))
        lost = baseline_answers(wrong, one_layer(perfect), 0, still, surface[row], around[row])["oracle_geometry"]
        assert score(truth, lost)["psnr"] < figures["oracle_geometry"]["psnr"] - 1


def test_true_gaussians_reproduce_the_input_view(evalset):
    stage = MeshStage.of(evalset, "cpu")
    posed = stage.posed([0])
    cameras, _ = input_cameras(posed, 4, 128, CANONICAL_FOVY_RAD)
    surface = true_surfaces(stage.scene, posed, cameras)
    truth = truths_of(stage, posed, [0], RunSettings(), cameras, cameras[:, :1].resized(64))[0]
    figures = (render_on_white(surface.gaussians[0], cameras[0]) - truth.before).square().mean((1, 2, 3))
    assert float(figures.max()) < 10 ** (-2.2)
    nothing = surface.gaussians[0]
    nothing = Gaussians(nothing.means, nothing.quats, nothing.scales, nothing.opacities * 0, nothing.colors)
    assert bool((render_on_white(nothing, cameras[0]) == 1).all())


def test_every_row_has_every_method_and_is_counted(finished):
    _, content = finished
    assert len(content["samples"]) == 6
    for row in content["samples"]:
        assert set(row["baselines"]) | {"model"} == set(METHODS)
        assert all(set(figures) == set(METRICS) for figures in row["baselines"].values())
    whole = content["summary"]["all"]
    assert all(whole[method]["psnr"]["n"] == 6 for method in METHODS)
    assert whole["no_motion"]["motion_error_ratio"]["mean"] == pytest.approx(1, abs=1e-5)


def test_summary_counts_what_is_defined():
    rows = [row_of(), row_of(category="b", object="p", pivot_distance=None, iou=3.0)]
    whole = summarise(rows)
    assert (whole["model"]["iou"]["mean"], whole["model"]["iou"]["median"], whole["model"]["iou"]["n"]) == (2, 2, 2)
    assert whole["copy"]["iou"]["mean"] == 0.5
    assert whole["model"]["pivot_distance"] == {"mean": 1.0, "low": None, "high": None, "median": 1.0, "n": 1}
    assert list(summarise_by(rows, "category")) == ["a", "b"]
    with pytest.raises(AssertionError, match="not finite"):
        summarise([row_of(iou=math.nan)])


def test_intervals_have_the_width_of_theory_and_repeat():
    values = np.random.default_rng(3).normal(5, 2, 400).tolist()
    names = [str(i) for i in range(400)]
    low, high = bootstrap_interval(values, names)
    error = 1.96 * np.std(values) / 20
    assert (low, high) == pytest.approx((np.mean(values) - error, np.mean(values) + error), abs=0.15 * error)
    assert bootstrap_interval(values, names) == (low, high)
    # Samples of an object that are all alike say no more than one of them.
    wide = bootstrap_interval([v for v in values for _ in range(5)], [n for n in names for _ in range(5)])
    assert wide == pytest.approx((low, high), abs=1e-9)
    naive = bootstrap_interval([v for v in values for _ in range(5)], [str(i) for i in range(2000)])
    assert naive[1] - naive[0] < 0.6 * (high - low)
    assert bootstrap_interval([1.0], ["a"]) == (None, None)
    assert bootstrap_interval([1.0, 2.0, 3.0], ["a"] * 3)[0] < 2


def test_a_killed_run_goes_on_to_the_same_file(evalset, checkpoint, finished, tmp_path, monkeypatch):
    out, whole = tmp_path / "out", (finished[0] / "metrics.json").read_text()
    real = parallel.add_rows

    def killed(rows, more, keep):
        real(rows, more[: 5 - len(rows)], keep)
        if len(rows) == 5:
            raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(parallel, "add_rows", killed)
        with pytest.raises(KeyboardInterrupt):
            session.evaluate_into(evalset, out, Means(str(checkpoint), "cpu"), SETTINGS)
    assert [p.name for p in out.iterdir()] == ["rows.jsonl"]
    assert [p.name for p in tmp_path.iterdir()] == ["out"]
    lines = (out / "rows.jsonl").read_text().splitlines(keepends=True)
    assert len(lines) == 1 + 5
    (out / "rows.jsonl").write_text("".join(lines[:-1]) + lines[-1][:40])

    with pytest.raises(RowsError, match="another settings"):
        session.evaluate_into(evalset, out, Means(str(checkpoint), "cpu"), replace(SETTINGS, drags=2))
    made = []
    monkeypatch.setattr(
        parallel, "add_rows", lambda rows, more, keep: real(rows, more, lambda r: (made.append(r["sample"]), keep(r)))
    )
    session.evaluate_into(evalset, out, Means(str(checkpoint), "cpu"), SETTINGS)
    assert made == [4, 5]
    assert (out / "metrics.json").read_text() == whole
    assert not (out / "rows.jsonl").exists()


def test_rows_of_a_damaged_file_are_refused(evalset, checkpoint, finished, tmp_path):
    known = {k: v for k, v in finished[1].items() if k in json.loads((finished[0] / "metrics.json").read_text())}
    keys = ("schema", "code", "data", "model", "lpips", "settings")
    (tmp_path / "rows.jsonl").write_text(
        json.dumps({k: known[k] for k in keys} | {"code": code_version()}) + '\n{"sample": 3}\n'
    )
    with pytest.raises(RowsError, match="rows are missing"):
        session.evaluate_into(evalset, tmp_path, Means(str(checkpoint), "cpu"), SETTINGS)


def test_thread_counts_do_not_change_the_figures(evalset, checkpoint):
    model, settings = load_model(checkpoint), replace(SETTINGS, limit=2)
    threads = torch.get_num_threads(), numba.get_num_threads()
    runs = []
    try:
        for count in (1, threads[1]):
            torch.set_num_threads(count)
            numba.set_num_threads(count)
            runs.append(evaluate(evalset, model, settings, lambda row: None))
    finally:
        torch.set_num_threads(threads[0])
        numba.set_num_threads(threads[1])
    for one, two in zip(*runs, strict=True):
        for name in METRICS:
            assert one[name] == pytest.approx(two[name], abs=1e-4, nan_ok=False), name
            for method, figures in one["baselines"].items():
                assert figures[name] == pytest.approx(two["baselines"][method][name], abs=1e-4), (method, name)


def test_comparison_pairs_by_sample(finished, tmp_path, capsys):
    _, first = finished
    rows = [
        row | {"psnr": row["psnr"] + 1 + 0.1 * (i % 2), "pivot_distance": None}
        for i, row in enumerate(first["samples"])
    ]
    known = {key: first[key] for key in ("schema", "code", "data", "model", "lpips", "settings")}
    second = json.loads(json.dumps(results(known, rows[::-1][:4])))
    found = {d.name: d for d in paired_differences(first, second)}
    assert found["psnr"].mean == pytest.approx(1.05, abs=1e-6)
    assert (found["psnr"].n, found["psnr"].differs) == (4, True)
    assert 1 <= found["psnr"].low <= 1.05 <= found["psnr"].high <= 1.1 + 1e-6
    assert found["iou"].mean == 0
    assert not found["iou"].differs
    assert "pivot_distance" not in found

    (tmp_path / "b.json").write_text(json.dumps(second))
    assert main(["eval", "--compare", str(finished[0]), str(tmp_path / "b.json")]) == 0
    text = capsys.readouterr().out
    assert "6 samples, 2 of them not in the other" in text
    assert "differs" in text

    other = second | {"data": second["data"] | {"protocol": "reference"}}
    with pytest.raises(CompareError, match="different protocols: rendered and reference"):
        paired_differences(first, other)
    second["data"]["checksum"] = "0" * 16
    (tmp_path / "b.json").write_text(json.dumps(second))
    assert main(["eval", "--compare", str(finished[0]), str(tmp_path / "b.json")]) == 1
    assert "different data" in capsys.readouterr().err
    (tmp_path / "b.json").write_text('{"schema": "partrm.metrics/1"}')
    with pytest.raises(CompareError, match="evaluate again"):
        load_results(tmp_path / "b.json")
    with pytest.raises(CompareError, match="cannot be read"):
        load_results(tmp_path / "none.json")


def test_grid_puts_every_setting_in_one_table(evalset, checkpoint, tmp_path, monkeypatch):
    monkeypatch.setattr(session, "GRID_VIEWS", (1, 2))
    monkeypatch.setattr(session, "GRID_DRAGS", (1, 3))
    cells = session.evaluate_grid(evalset, tmp_path, Means(str(checkpoint), "cpu"), 1)
    assert [(c["settings"]["views"], c["settings"]["drags"]) for c in cells] == [(1, 1), (1, 3), (2, 1), (2, 3)]
    lines = [line for line in (tmp_path / "grid.md").read_text().splitlines() if line.startswith("| model")]
    assert [line.split(" | ")[1:3] for line in lines] == [["1", "1"], ["1", "3"], ["2", "1"], ["2", "3"]]
    assert (tmp_path / "views2_drags3" / "metrics.json").is_file()


class Page(html.parser.HTMLParser):
    """What a page loads, how often each tag stands in it, and whether tags are closed."""

    def __init__(self):
        super().__init__()
        self.sources, self.count, self.open = [], {}, []

    def handle_starttag(self, tag, attrs):
        self.count[tag] = self.count.get(tag, 0) + 1
        self.sources += [v for k, v in attrs if k in ("src", "href")]
        if tag not in ("meta", "img", "br", "rect", "line"):
            self.open.append(tag)

    def handle_endtag(self, tag):
        if tag not in ("rect", "line"):
            assert self.open.pop() == tag


def test_report_page_is_whole_and_loads_nothing(finished):
    text = (Path(finished[0]) / "report.html").read_text()
    page = Page()
    page.feed(text)
    assert page.open == []
    assert all(source.startswith("data:image/webp;base64,") for source in page.sources)
    assert page.count["img"] == 5 * 6
    assert page.count["svg"] == len(HISTOGRAMS)
    assert page.count["table"] == 4
    assert "script" not in page.count
    assert "x: &lt;hidden&gt;" in text


def test_a_network_without_parts_is_refused_before_anything_is_written(evalset, tmp_path):
    config = replace(TINY, head="state")
    torch.manual_seed(0)
    save_checkpoint(PartRMNetwork(config).state_dict(), config, tmp_path / "state")
    with pytest.raises(CheckpointError, match="state head"):
        session.evaluate_into(evalset, tmp_path / "out", Means(str(tmp_path / "state"), "cpu"), SETTINGS)
    assert not (tmp_path / "out").exists()


def test_procedural_samples_are_grouped_by_the_categories_of_partdrag():
    kinds = ("oven", "kitchen_range", "faucet", "laptop", "valve", "valve")
    rows = [row_of(object=str(i), category=kind, iou=i / 10) for i, kind in enumerate(kinds)]
    found = {row[0]: row for row in partdrag_table(rows).rows}
    assert list(found) == ["Laptop", "Oven", "not in PartDrag-4D"]
    assert [row[1] for row in found.values()] == ["1", "2", "3"]
    assert found["Oven"][2].startswith("0.050")
    assert found["not in PartDrag-4D"][2].startswith("0.367")
    kinds_made = {generator for generators in GENERATORS.values() for generator in generators}
    assert kinds_made <= set(CATEGORIES)


def test_published_pages_and_table_hold_the_figures(finished, tmp_path):
    first, second = tmp_path / "procedural", tmp_path / "real"
    for folder in (first, second):
        shutil.copytree(finished[0], folder)
    files = publish([first, second], tmp_path / "docs" / "report")
    assert sorted(p.name for p in files) == ["README.md", "procedural.html", "real.html"]
    text = files[0].read_text()
    value = finished[1]["summary"]["all"]["model"]["psnr"]["mean"]
    assert text.count(f"| {number(value)}") >= 2
    for name in ("procedural", "real"):
        assert (tmp_path / "docs" / "report" / f"{name}.html").read_text() == (first / "report.html").read_text()
        assert f"({name}.html)" in text
    assert finished[1]["model"]["hash"] in text
    (first / "report.html").write_text("x" * 3_000_000)
    with pytest.raises(PublishError, match="more than"):
        publish([first], tmp_path / "docs" / "report")
    (second / "report.html").unlink()
    with pytest.raises(PublishError, match="page is missing"):
        publish([second], tmp_path / "docs" / "report")
    with pytest.raises(PublishError, match="one name"):
        publish([first, first], tmp_path / "docs" / "report")


def test_histograms_count_every_value():
    values = [-1.0, 0.0, 0.5, 0.99, 1.0, 7.0]
    drawn = histogram_svg(values, "a < b", 0.0, 1.0)
    counts = [int(piece.split("</title>")[0]) for piece in drawn.split("<title>")[1:]]
    assert sum(counts) == len(values)
    assert counts[-1] == 3
    assert "1 beyond 1" in drawn
    assert "a &lt; b" in drawn


def test_procedural_samples_are_those_published(capsys):
    """The first samples made again here, one of each of the first categories; the file's own size and order."""
    digests = published.published_digests()
    assert len(digests) == session.PROCEDURAL_SAMPLES == len(set(digests)) == 500
    evalset = session.plan_set("procedural", 8)
    assert published.sample_digests(evalset) == [digest for digest, _ in digests[:8]]
    assert [name for _, name in digests[:8]] == list(evalset.object_names)
    assert "not those published" not in capsys.readouterr().err
    turned = replace(evalset.plan, q_target=evalset.plan.q_target + 0.001 * (evalset.plan.object == 3)[:, None])
    assert published.differing_samples(replace(evalset, plan=turned), digests) == [3]
    shrunk = replace(evalset.scene, vertices=evalset.scene.vertices * 0.999)
    assert published.differing_samples(replace(evalset, scene=shrunk), digests) == list(range(8))


@pytest.mark.parametrize("shift", [1, 3])
def test_a_shifted_picture_loses_what_skimage_says(evalset, shift):
    """A prediction that is right but for a shift by whole pixels: its PSNR and SSIM by an independent package."""
    from skimage.metrics import peak_signal_noise_ratio, structural_similarity

    stage = MeshStage.of(evalset, "cpu")
    posed = stage.posed([0])
    around = novel_cameras(posed, evalset.plan.azimuth_rad[:1], 64)
    own = input_cameras(posed, 1, 32, CANONICAL_FOVY_RAD)[0][:, :1]
    truth = truths_of(stage, posed, [0], RunSettings(), around, own)[0]
    moved = torch.roll(truth.after, shift, -1)
    row = score(truth, Answer(truth.part_mask, truth.joint, moved))
    ends = score(truth, Answer(truth.part_mask, truth.joint, truth.after))
    assert (ends["psnr"], ends["psnr_moved"]) == (60, 60)
    pairs = list(zip(truth.after.double().numpy(), moved.double().numpy(), strict=True))
    wanted = np.mean([peak_signal_noise_ratio(a, b, data_range=1) for a, b in pairs])
    assert row["psnr"] == pytest.approx(wanted, abs=1e-3)
    options = {"gaussian_weights": True, "sigma": 1.5, "use_sample_covariance": False, "data_range": 1.0}
    wanted = np.mean([structural_similarity(a, b, channel_axis=0, **options) for a, b in pairs])
    assert row["ssim"] == pytest.approx(wanted, abs=1e-3)
