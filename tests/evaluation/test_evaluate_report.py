"""Baselines, intervals, resuming, comparing and the report of an evaluation."""

import html.parser
import json
import math
from dataclasses import replace
from functools import partial
from pathlib import Path

import numba
import numpy as np
import pytest
import torch
from support.small_evaluation import cabinet_set, untrained_checkpoint

from partrm.cli import main
from partrm.datasets.sources import GENERATORS
from partrm.errors import ConfigError
from partrm.evaluation import parallel, session
from partrm.evaluation.eval_set import differing_samples, published_digests, sample_digests
from partrm.evaluation.html_report import HISTOGRAMS, histogram_svg
from partrm.evaluation.mesh_samples import input_cameras, novel_cameras, true_surfaces, truths_of
from partrm.evaluation.planning import (
    PROCEDURAL_SEED,
    PUBLISHED_CATEGORIES,
    PUBLISHED_SAMPLES,
    ProceduralPlan,
    assemble,
    procedural_candidate,
    procedural_object,
)
from partrm.evaluation.report import paired_differences, results_of
from partrm.evaluation.results import (
    METHODS,
    METRICS,
    ByMethod,
    ByMetric,
    ResultsError,
    SampleRow,
    Statistic,
    load_results,
)
from partrm.evaluation.runner import baseline_answers, evaluate, render_on_white
from partrm.evaluation.samples import MethodOutput, RunSettings, SampleLabel
from partrm.evaluation.scoring import bootstrap_interval, score, summarise, summarise_by
from partrm.evaluation.session import RowsError, RunOptions
from partrm.evaluation.tables import partdrag_table
from partrm.geometry.gaussians import Gaussians
from partrm.geometry.transforms import pose
from partrm.inference.decode import MOVING_WIDTH, STILL_WIDTH
from partrm.model.checkpoints import CheckpointError, load_model, save_checkpoint
from partrm.model.reference import ReferenceConfig, ReferenceNetwork
from partrm.procedural import CATEGORIES, catalogue, registry

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
    content = session.evaluate_into(evalset, out, RunOptions(str(checkpoint), "cpu"), SETTINGS)
    return out, content


def row_of(**figures):
    label = SampleLabel(0, figures.pop("object", "o"), figures.pop("category", "a"), 0, "opening")
    halves = ByMethod.each(lambda method: ByMetric.each(lambda metric: 0.5))
    return SampleRow(label, replace(halves, model=ByMetric.each(lambda metric: figures.get(metric, 1.0))))


def test_oracles_bound_what_a_model_can_reach(evalset):
    """Without a network: true Gaussians find the part, beat their unmoved selves, and lose with a wrong motion."""
    stage, numbers = evalset.open("cpu"), [0, 3]
    posed = stage.posed(numbers)
    around = novel_cameras(posed, evalset.plan.azimuth_rad[numbers], 64)
    truths = truths_of(stage, posed, numbers, RunSettings(), around, 64)
    surface = true_surfaces(stage.scene, posed, input_cameras(stage, posed, numbers, 4, 128))
    for row, truth in enumerate(truths):
        perfect = surface.gaussians[row]
        still = render_on_white(perfect, around[row])
        # A network's splats are widened when they are read: these come out as the true ones.
        shrink_outside_silhouettes = (
            perfect.scales / torch.where(surface.network_moving[row], MOVING_WIDTH, STILL_WIDTH)[:, None]
        )
        answers = baseline_answers(
            truth, (replace(perfect, scales=shrink_outside_silhouettes), None), still, surface[row], around[row]
        )
        assert set(answers) | {"model"} == set(METHODS)
        figures = {name: score(truth, answer) for name, answer in answers.items()}
        assert figures["oracle_geometry"]["iou"] > 0.9
        assert figures["oracle_geometry"]["motion_error_ratio"] < 1e-5
        # On perfect Gaussians both oracles are the same.
        assert figures["oracle_motion"]["psnr"] == pytest.approx(figures["oracle_geometry"]["psnr"], abs=1e-4)
        assert figures["oracle_geometry"]["psnr"] > figures["no_motion"]["psnr"] + 1
        assert figures["oracle_geometry"]["psnr_moved"] > figures["no_motion"]["psnr_moved"] + 3
        wrong = replace(truth, T_after_before=pose(torch.eye(3), torch.tensor([0.3, 0.0, 0.0])))
        lost = baseline_answers(wrong, (perfect, None), still, surface[row], around[row])["oracle_geometry"]
        assert score(truth, lost)["psnr"] < figures["oracle_geometry"]["psnr"] - 1


def test_true_gaussians_reproduce_the_input_view(evalset):
    stage = evalset.open("cpu")
    posed = stage.posed([0])
    cameras = input_cameras(stage, posed, [0], 4, 128)
    surface = true_surfaces(stage.scene, posed, cameras)
    truth = truths_of(stage, posed, [0], RunSettings(), cameras, 64)[0]
    figures = (render_on_white(surface.gaussians[0], cameras[0]) - truth.before).square().mean((1, 2, 3))
    assert float(figures.max()) < 10 ** (-2.2)
    nothing = surface.gaussians[0]
    nothing = Gaussians(nothing.means, nothing.quats, nothing.scales, nothing.opacities * 0, nothing.colors)
    assert bool((render_on_white(nothing, cameras[0]) == 1).all())


@pytest.mark.whole_run
def test_every_row_has_every_method_and_is_counted(finished):
    _, content = finished
    assert len(content.samples) == 6
    for row in content.samples:
        written = row.to_json()
        assert set(written["baselines"]) | {"model"} == set(METHODS)
        assert all(set(metrics) == set(METRICS) for metrics in written["baselines"].values())
    whole = content.all.metrics
    assert all(metrics.psnr.n == 6 for _, metrics in whole)
    assert whole.no_motion.motion_error_ratio.mean == pytest.approx(1, abs=1e-5)


def test_summary_counts_what_is_defined():
    rows = [row_of(), row_of(category="b", object="p", pivot_distance=None, iou=3.0)]
    whole = summarise(rows).metrics
    assert (whole.model.iou.mean, whole.model.iou.median, whole.model.iou.n) == (2, 2, 2)
    assert whole.copy.iou.mean == 0.5
    assert whole.model.pivot_distance == Statistic(1.0, None, None, 1.0, 1)
    assert list(summarise_by(rows, lambda row: row.label.category)) == ["a", "b"]
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


@pytest.mark.whole_run
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
            session.evaluate_into(evalset, out, RunOptions(str(checkpoint), "cpu"), SETTINGS)
    assert [p.name for p in out.iterdir()] == ["rows.jsonl"]
    assert [p.name for p in tmp_path.iterdir()] == ["out"]
    lines = (out / "rows.jsonl").read_text().splitlines(keepends=True)
    assert len(lines) == 1 + 5
    (out / "rows.jsonl").write_text("".join(lines[:-1]) + lines[-1][:40])

    with pytest.raises(RowsError, match="another settings"):
        session.evaluate_into(evalset, out, RunOptions(str(checkpoint), "cpu"), replace(SETTINGS, drags=2))
    made = []
    monkeypatch.setattr(
        parallel,
        "add_rows",
        lambda rows, more, keep: real(rows, more, lambda r: (made.append(r.label.sample), keep(r))),
    )
    session.evaluate_into(evalset, out, RunOptions(str(checkpoint), "cpu"), SETTINGS)
    assert made == [4, 5]
    assert (out / "metrics.json").read_text() == whole
    assert not (out / "rows.jsonl").exists()


def test_rows_of_a_damaged_file_are_refused(evalset, checkpoint, finished, tmp_path):
    (tmp_path / "rows.jsonl").write_text(json.dumps(finished[1].identity.to_json()) + '\n{"sample": 3}\n')
    with pytest.raises(RowsError, match="rows are missing"):
        session.evaluate_into(evalset, tmp_path, RunOptions(str(checkpoint), "cpu"), SETTINGS)


def test_more_rows_than_samples_are_refused(evalset, checkpoint, finished, tmp_path):
    rows = [replace(finished[1].samples[0].label, sample=number) for number in range(9)]
    lines = [finished[1].identity.to_json(), *(replace(finished[1].samples[0], label=row).to_json() for row in rows)]
    (tmp_path / "rows.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    with pytest.raises(RowsError, match="9 rows of 6 samples"):
        session.evaluate_into(evalset, tmp_path, RunOptions(str(checkpoint), "cpu"), SETTINGS)


@pytest.mark.parametrize("side", [-1, 0, 15, 10**9])
def test_images_of_no_size_and_endless_ones_are_refused(side):
    with pytest.raises(ConfigError, match="--novel-size-px"):
        RunSettings(novel_size_px=side)


def test_a_set_is_packed_to_no_place_that_cannot_be_written(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr("partrm.commands.eval._open_meshes", lambda *_: pytest.fail("it was planned"))
    (tmp_path / "file").write_text("mine")
    for place in (tmp_path, tmp_path / "file" / "set.safetensors"):
        assert main(["eval", "--data", "real", "--pack", str(place)]) == 1
        (line,) = capsys.readouterr().err.splitlines()
        assert "cannot write there" in line


@pytest.mark.whole_run
def test_thread_counts_do_not_change_the_figures(evalset, checkpoint):
    model, settings = load_model(checkpoint), replace(SETTINGS, limit=1)
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
        for method, metrics in one.metrics:
            for name, value in metrics:
                assert value == pytest.approx(two.metrics[method][name], abs=1e-4, nan_ok=False), (method, name)


def test_comparison_pairs_by_sample(finished, tmp_path, capsys):
    _, first = finished
    rows = []
    for number, row in enumerate(first.samples):
        model = replace(row.metrics.model, psnr=row.metrics.model.psnr + 1 + 0.1 * (number % 2), pivot_distance=None)
        rows.append(replace(row, metrics=replace(row.metrics, model=model)))
    second = results_of(first.identity, rows[::-1][:4])
    found = {d.name: d for d in paired_differences(first, second)}
    assert found["psnr"].mean == pytest.approx(1.05, abs=1e-6)
    assert (found["psnr"].n, found["psnr"].differs) == (4, True)
    assert 1 <= found["psnr"].low <= 1.05 <= found["psnr"].high <= 1.1 + 1e-6
    assert found["iou"].mean == 0
    assert not found["iou"].differs
    assert "pivot_distance" not in found

    (tmp_path / "b.json").write_text(second.text())
    assert main(["eval", "--compare", str(finished[0]), str(tmp_path / "b.json")]) == 0
    text = capsys.readouterr().out
    assert "6 samples, 2 of them not in the other" in text
    assert "differs" in text

    def of_other_data(**changes):
        return replace(second, identity=replace(second.identity, data=replace(second.identity.data, **changes)))

    with pytest.raises(ResultsError, match="different protocols: rendered and reference"):
        paired_differences(first, of_other_data(protocol="reference"))
    (tmp_path / "b.json").write_text(of_other_data(checksum="0" * 16).text())
    assert main(["eval", "--compare", str(finished[0]), str(tmp_path / "b.json")]) == 1
    assert "different data" in capsys.readouterr().err
    (tmp_path / "b.json").write_text('{"schema": "partrm.metrics/1"}')
    with pytest.raises(ResultsError, match="evaluate again"):
        load_results(tmp_path / "b.json")
    (tmp_path / "b.json").write_text('{"schema": "partrm.metrics/3", "samples": []}')
    with pytest.raises(ResultsError, match="not what the schema"):
        load_results(tmp_path / "b.json")
    with pytest.raises(ResultsError, match="cannot be read"):
        load_results(tmp_path / "none.json")


@pytest.mark.whole_run
def test_grid_puts_every_setting_in_one_table(evalset, checkpoint, tmp_path, monkeypatch):
    monkeypatch.setattr(session, "GRID_VIEWS", (1, 2))
    monkeypatch.setattr(session, "GRID_DRAGS", (1, 3))
    monkeypatch.setattr(session, "RunSettings", partial(RunSettings, novel_size_px=48))
    cells = session.evaluate_grid(evalset, tmp_path, RunOptions(str(checkpoint), "cpu"), 1)
    assert [(c.identity.settings.views, c.identity.settings.drags) for c in cells] == [(1, 1), (1, 3), (2, 1), (2, 3)]
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
    config = ReferenceConfig("mini", 32, (32, 64, 96), (False, False, True), (96, 64), (True, False))
    save_checkpoint(ReferenceNetwork(config).state_dict(), config, tmp_path / "state")
    with pytest.raises(CheckpointError, match="state head"):
        session.evaluate_into(evalset, tmp_path / "out", RunOptions(str(tmp_path / "state"), "cpu"), SETTINGS)
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


def test_histograms_count_every_value():
    values = [-1.0, 0.0, 0.5, 0.99, 1.0, 7.0]
    drawn = histogram_svg(values, "a < b", 0.0, 1.0)
    counts = [int(piece.split("</title>")[0]) for piece in drawn.split("<title>")[1:]]
    assert sum(counts) == len(values)
    assert counts[-1] == 3
    assert "1 beyond 1" in drawn
    assert "a &lt; b" in drawn


def test_procedural_samples_are_those_published():
    """The first samples made again here, one of each of the first categories; the file's own size and order."""
    digests = published_digests()
    assert len(digests) == PUBLISHED_SAMPLES == len(set(digests)) == 500
    notes = []
    evalset = session.plan_procedural_set(ProceduralPlan(8), session.Listener(note=notes.append))
    assert sample_digests(evalset) == [digest for digest, _ in digests[:8]]
    assert [name for _, name in digests[:8]] == list(evalset.object_names)
    assert notes == []
    turned = replace(evalset.plan, q_target=evalset.plan.q_target + 0.001 * (evalset.plan.object == 3)[:, None])
    assert differing_samples(replace(evalset, plan=turned), digests) == [3]
    shrunk = replace(evalset.scene, vertices=evalset.scene.vertices * 0.999)
    assert differing_samples(replace(evalset, scene=shrunk), digests) == list(range(8))


def test_the_last_published_sample_is_made_again_alone():
    digest, name = published_digests()[-1]
    plan, index = ProceduralPlan(), int(name.rpartition("_")[2]) - PROCEDURAL_SEED
    obj = procedural_object(plan, index)
    candidate = procedural_candidate(plan, index, obj)
    assert sample_digests(assemble("procedural", plan.seed, [candidate], [])) == [digest]
    assert obj.name == name


def test_a_new_generator_does_not_change_the_published_samples(monkeypatch):
    """Every published name is its place's category and seed, and so are the plan's own objects, beside a new one."""
    names = [name for _, name in published_digests()]
    assert {name.rpartition("_")[0] for name in names} == set(PUBLISHED_CATEGORIES)
    for name in names:
        index = int(name.rpartition("_")[2]) - PROCEDURAL_SEED
        assert name == f"{PUBLISHED_CATEGORIES[index % len(PUBLISHED_CATEGORIES)]}_{PROCEDURAL_SEED + index}"
    fake = replace(registry.REGISTERED["valve"], category="aaa_fake")
    monkeypatch.setitem(registry.REGISTERED, "aaa_fake", fake)
    monkeypatch.setattr(catalogue, "CATEGORIES", ("aaa_fake", *CATEGORIES))
    assert catalogue.generate("aaa_fake", 1).name == "aaa_fake_1"
    found = [procedural_object(ProceduralPlan(), index).name for index in (0, 1, 33, 34)]
    assert found == [name for name in names if name in found]
    assert len(found) == 4


@pytest.mark.parametrize("shift", [1, 3])
def test_a_shifted_picture_loses_what_skimage_says(evalset, shift):
    """A prediction that is right but for a shift by whole pixels: its PSNR and SSIM by an independent package."""
    from skimage.metrics import peak_signal_noise_ratio, structural_similarity

    stage = evalset.open("cpu")
    posed = stage.posed([0])
    around = novel_cameras(posed, evalset.plan.azimuth_rad[:1], 64)
    truth = truths_of(stage, posed, [0], RunSettings(), around, 32)[0]
    moved = torch.roll(truth.after, shift, -1)
    row = score(truth, MethodOutput(truth.part_mask, truth.joint, moved))
    ends = score(truth, MethodOutput(truth.part_mask, truth.joint, truth.after))
    assert (ends["psnr"], ends["psnr_moved"]) == (60, 60)
    pairs = list(zip(truth.after.double().numpy(), moved.double().numpy(), strict=True))
    wanted = np.mean([peak_signal_noise_ratio(a, b, data_range=1) for a, b in pairs])
    assert row["psnr"] == pytest.approx(wanted, abs=1e-3)
    options = {"gaussian_weights": True, "sigma": 1.5, "use_sample_covariance": False, "data_range": 1.0}
    wanted = np.mean([structural_similarity(a, b, channel_axis=0, **options) for a, b in pairs])
    assert row["ssim"] == pytest.approx(wanted, abs=1e-3)
