import dataclasses
import io
import json
import math
import time
import zipfile
from pathlib import Path

import pytest
import torch

pytest.importorskip("warp", reason="training renders its samples with warp-lang (extra `data`)")
pytest.importorskip("accelerate", reason="training needs accelerate (extra `train`)")

import itertools

from support.boxes import cabinet
from support.tiny_training import NONE, tiny

from partrm.errors import ConfigError
from partrm.files import OutputError, alone_in
from partrm.model.checkpoints import read_checkpoint, save_checkpoint
from partrm.model.network import TINY, NetworkConfig, PartRMNetwork
from partrm.synthesis.mesh_pool import Pool, PoolError, save_pool
from partrm.synthesis.sampler import SampleConfig
from partrm.training import trainer
from partrm.training.config import (
    LossWeights,
    Phase,
    TrainConfig,
    TrainingError,
    learning_rate,
    phase_at,
)
from partrm.training.losses import Objective
from partrm.training.pools import PoolTurns, pool_files
from partrm.training.prefetch import Prefetcher, interleave
from partrm.training.run_log import Listener
from partrm.training.run_state import load_state
from partrm.training.trainer import Trainer, train


@pytest.fixture(scope="module")
def pool(tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("pool") / "boxes.npz"
    save_pool(Pool.from_objects([cabinet(), cabinet()]), path)
    return path


def rows(folder: Path) -> list[dict]:
    return [json.loads(line) for line in (folder / "log.jsonl").read_text().splitlines()]


def weights_of(folder: Path) -> torch.Tensor:
    weights, _, _ = read_checkpoint(folder / "weights")
    return torch.cat([w.flatten() for w in weights.values()])


@pytest.mark.whole_run
def test_the_loss_falls_and_all_terms_are_logged(pool: Path, tmp_path: Path) -> None:
    # Gradients of one size; the recipe's displacement term would rule sixty steps.
    even = LossWeights(distance=3.0, point=0.5, displacement=1.0, offset_to_axis=2.0)
    train(tiny(pool, tmp_path, 60, val_pools=(pool,), validate_every=60, val_batches=1, weights=even))
    log = rows(tmp_path)
    steps = [r for r in log if r["group"] == "coarse"]

    def share_left(term: str) -> float:
        return sum(r[term] for r in steps[-4:]) / sum(r[term] for r in steps[:4])

    # Two samples a step make the joint's terms jump; geometry and displacements must be learned all the same.
    assert share_left("opacity") < 0.85
    assert share_left("displacement") < 0.8
    assert sum(r["loss"] for r in steps[6:]) < sum(r["loss"] for r in steps[:6])
    assert {"distance", "opacity", "rgb", "mask", "dice", "displacement", "samples_per_s"} <= set(log[0])
    assert {"boxes/iou", "boxes/motion_ratio"} <= set(log[-1])


def test_the_best_weights_are_kept_when_later_ones_are_worse(pool: Path, tmp_path: Path) -> None:
    trainer = Trainer(tiny(pool, tmp_path, 1))

    def kept() -> dict:
        return json.loads((tmp_path / "weights-best" / "config.json").read_text())["card"]["validation"]

    trainer.keep_best({"a/iou": 0.5, "a/motion_ratio": 0.9})
    trainer.keep_best({"a/iou": 0.6, "a/motion_ratio": 0.5})
    trainer.keep_best({"a/iou": 0.3, "a/motion_ratio": 1.0})
    assert kept()["a/iou"] == 0.6
    trainer.save()
    again = Trainer(tiny(pool, tmp_path, 1, resume=True))
    again.keep_best({"a/iou": 0.5, "a/motion_ratio": 0.6})
    assert kept()["a/iou"] == 0.6, "a resumed run remembers what it has reached"


@pytest.mark.whole_run
def test_a_stopped_run_goes_on_to_the_same_weights(pool: Path, tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr(trainer, "CLOCK_STEPS", 5)
    train(tiny(pool, tmp_path / "whole", 8))
    train(tiny(pool, tmp_path / "legs", 8, max_minutes=0.0))
    assert rows(tmp_path / "legs")[-1]["step"] == 5
    train(tiny(pool, tmp_path / "legs", 8, resume=True))
    assert [r["step"] for r in rows(tmp_path / "legs")] == [r["step"] for r in rows(tmp_path / "whole")]
    assert torch.equal(weights_of(tmp_path / "legs"), weights_of(tmp_path / "whole"))


def test_weights_know_the_image_size_of_the_last_phase(pool: Path, tmp_path: Path) -> None:
    larger = dataclasses.replace(NONE, steps=1, image_size_px=48)
    train(tiny(pool, tmp_path, 1, fine=larger))
    _, config, _ = read_checkpoint(tmp_path / "weights")
    assert config.image_size_px == 48


def test_the_appearance_stage_trains(pool: Path, tmp_path: Path) -> None:
    appearance = Phase("appearance", 5, 2, 32, 1e-3, 1e-4, appearance=True, novel_size_px=64)
    train(tiny(pool, tmp_path, 0, appearance=appearance))
    assert {"image", "alpha", "similarity"} <= set(rows(tmp_path)[-1])


def test_a_run_starts_from_the_weights_it_is_given_and_refuses_others(pool: Path, tmp_path: Path) -> None:
    torch.manual_seed(1)
    old = PartRMNetwork(dataclasses.replace(TINY, down_channels=(32, 32)))
    save_checkpoint(old.state_dict(), old.config, tmp_path / "old", half=False)
    trainer = Trainer(tiny(pool, tmp_path / "run", 2, init=str(tmp_path / "old")))
    assert all(torch.equal(value, old.state_dict()[name]) for name, value in trainer.network.state_dict().items())
    wide = dataclasses.replace(TINY, down_channels=(32, 64))
    save_checkpoint(PartRMNetwork(wide).state_dict(), wide, tmp_path / "wide")
    for init in (str(tmp_path / "wide"), "base"):
        with pytest.raises(TrainingError, match="weights of another network") as refusal:
            Trainer(tiny(pool, tmp_path / "run", 2, init=init))
        assert "\n" not in str(refusal.value)


class Constant(PartRMNetwork):
    """Any network can be trained that has a config; this one says what it is asked."""

    asked = 0

    def forward(self, inputs, unet=None):
        Constant.asked += 1
        return super().forward(inputs, unet)


def test_a_run_takes_no_checkpoints_folder_and_none_that_another_run_holds(pool: Path, tmp_path: Path) -> None:
    torch.manual_seed(0)
    save_checkpoint(PartRMNetwork(TINY).state_dict(), TINY, tmp_path / "model")
    before = (tmp_path / "model" / "config.json").read_bytes()
    with pytest.raises(OutputError, match=r"model/config\.json: was not written by a training"):
        train(tiny(pool, tmp_path / "model", 1))
    assert (tmp_path / "model" / "config.json").read_bytes() == before
    with alone_in(tmp_path / "run"), pytest.raises(OutputError, match="run: another command writes there"):
        train(tiny(pool, tmp_path / "run", 1))
    train(tiny(pool, tmp_path / "run", 1))
    train(tiny(pool, tmp_path / "run", 2, resume=True))


def test_an_experiment_brings_its_network_and_its_objective(pool: Path, tmp_path: Path) -> None:
    def losses(output, samples, weights, appearance):
        return {"mine": output.gaussians.means.square().mean()}

    def metrics(output, samples):
        return {"mine": samples.inputs.view_valid.sum(1).float()}

    network, said = Constant(NetworkConfig(**vars(TINY))), []
    config = tiny(pool, tmp_path, 5, val_pools=(pool,), val_batches=1)
    trainer = Trainer(
        config, network=network, objective=Objective(losses, metrics, views=3),
        listener=Listener(row=lambda step, group, values: said.append((step, group, set(values)))),
    )  # fmt: skip
    trainer.run()
    assert Constant.asked == 5 + 1, "five steps and a validation"
    assert said[0][:2] == (5, "coarse")
    assert {"mine", "loss"} <= said[0][2]
    assert rows(tmp_path)[-1]["boxes/mine"] == 3, "validated with the objective's number of views"
    assert json.loads((tmp_path / "weights" / "config.json").read_text())["network"]["name"] == "tiny"


@pytest.mark.parametrize("faster", ["fused_norms", "graphs"])
def test_what_cannot_be_compiled_is_refused(pool: Path, tmp_path: Path, faster: str) -> None:
    with pytest.raises(ConfigError, match="leave --compile out"):
        Trainer(tiny(pool, tmp_path, 2, compile=True, **{faster: True}))


def test_batches_made_together_are_resumed_in_their_middle(pool: Path, tmp_path: Path) -> None:
    def trainer(name: str) -> Trainer:
        return Trainer(tiny(pool, tmp_path / name, 7, batches_at_once=3))

    whole, cut, resumed = trainer("a"), trainer("b"), trainer("c")
    expected = [whole.batches.next(step).inputs.images for step in range(7)]
    for step in range(5):
        cut.batches.next(step)
    state = cut.batches.state()
    assert state["first_step"] == 3, "the chunk of steps 3 to 5 is made again"
    resumed.data.restore(state["data"])
    left = Prefetcher(resumed.data, resumed.plan, state["first_step"])
    for step in (5, 6):
        assert torch.equal(left.next(step).inputs.images, expected[step])
    assert not torch.equal(expected[3], expected[4])
    assert left.state()["first_step"] == 7, "nothing is left to be made"
    with pytest.raises(IndexError, match="no batch is planned"):
        left.next(7)
    with pytest.raises(IndexError, match="no batch is planned"):
        whole.batches.next(0)


def test_batches_made_together_have_equally_many_samples_without_motion(pool: Path, tmp_path: Path) -> None:
    data = Trainer(tiny(pool, tmp_path, 2)).data
    data.oversampling = 1.0
    drawn = data.draw(SampleConfig(image_size_px=32), 48)
    assert not bool(drawn.valid.all()), "else there is nothing to deal"
    batches = interleave(drawn, 4).valid.reshape(4, 12).sum(1)
    assert int(batches.max() - batches.min()) <= 1
    turned = interleave(drawn, 4)
    assert torch.equal(turned.inputs.images[:12], drawn.inputs.images[::4])
    assert torch.equal(turned.joint.pivot[36:], drawn.joint.pivot[3::4])


@pytest.fixture(scope="module")
def shards(tmp_path_factory) -> Path:
    """A pool in three files, of one to three objects."""
    folder = tmp_path_factory.mktemp("shards")
    for count in (1, 2, 3):
        save_pool(Pool.from_objects([cabinet()] * count), folder / f"{count}.npz")
    return folder


def test_shards_take_turns_and_each_has_as_many_in_a_round(shards: Path) -> None:
    one, other = (PoolTurns([shards], 4, seed=0, process=rank) for rank in (0, 1))
    turns = [one.file_at(step) for step in range(0, 4 * 9, 4)]
    assert all(sorted(turns[first : first + 3]) == pool_files(shards) for first in (0, 3, 6))
    assert len({tuple(turns[first : first + 3]) for first in (0, 3, 6)}) > 1, "rounds differ"
    assert [one.file_at(step) for step in range(36)] == [turns[step // 4] for step in range(36)]
    assert all(one.file_at(step) != other.file_at(step) for step in range(36)), "processes hold different ones"


def test_a_run_on_shards_holds_one_at_a_time_and_is_resumed_on_the_same(shards: Path, tmp_path: Path) -> None:
    def trainer(name: str) -> Trainer:
        return Trainer(tiny(shards, tmp_path / name, 8, batches_at_once=2, pool_steps=2, seed=3))

    whole, cut, resumed = trainer("a"), trainer("b"), trainer("c")
    assert whole.turns is not None
    batches, held = [], []
    for step in range(8):
        held.append(whole.data.pool.count)
        batches.append(whole.batches.next(step).inputs.images)
    files = [int(whole.turns.file_at(step).stem) for step in range(8)]
    assert held[2::2] == files[2::2], "the next two steps are made where two end"
    assert len(set(files)) == 3
    for step in range(5):
        cut.batches.next(step)
    state = cut.batches.state()
    resumed.data.restore(state["data"])
    left = Prefetcher(resumed.data, resumed.plan, state["first_step"])
    assert all(torch.equal(left.next(step).inputs.images, batches[step]) for step in (5, 6, 7))


def test_shards_all_at_once_are_one_pool(shards: Path, tmp_path: Path) -> None:
    assert Trainer(tiny(shards, tmp_path, 1)).data.pool.count == 6
    with pytest.raises(ConfigError, match="leave --pool-shares out"):
        tiny(shards, tmp_path, 1, pool_steps=2, pool_shares=(1.0,))
    (tmp_path / "empty").mkdir()
    with pytest.raises(PoolError, match="a folder without pools"):
        Trainer(tiny(tmp_path / "empty", tmp_path, 1))
    with pytest.raises(PoolError, match=r"gone\.npz: no such file"):
        Trainer(tiny(tmp_path / "gone.npz", tmp_path, 1, pool_steps=2))


def test_training_says_how_long_it_waits_for_its_batches(pool: Path, tmp_path: Path) -> None:
    train(tiny(pool, tmp_path, 5, batches_at_once=2))
    assert all(0 < row["waiting_share"] < 1 for row in rows(tmp_path))
    batches = Trainer(tiny(pool, tmp_path / "b", 4, batches_at_once=4)).batches
    batches.next(0)
    assert batches.waited_s() > 0
    began = time.perf_counter()
    batches.next(1)
    assert batches.waited_s() <= time.perf_counter() - began
    assert batches.waited_s() == 0


def test_graphs_need_a_gpu(pool: Path, tmp_path: Path) -> None:
    with pytest.raises(TrainingError, match="for CUDA devices"):
        Trainer(tiny(pool, tmp_path, 2, graphs=True))


def test_presets_and_shares_that_mean_nothing_are_refused(pool: Path, tmp_path: Path) -> None:
    with pytest.raises(TrainingError, match="none of base, tiny"):
        Trainer(tiny(pool, tmp_path, 2, preset="large"))
    for shares in ((1.0, 2.0), (0.0,), (-1.0,)):
        with pytest.raises(ConfigError, match="--pool-shares"):
            tiny(pool, tmp_path, 2, pool_shares=shares)


def test_nothing_to_resume_is_an_error(pool: Path, tmp_path: Path) -> None:
    with pytest.raises(TrainingError, match="nothing to resume"):
        train(tiny(pool, tmp_path, 5, resume=True))


def test_schedule() -> None:
    config = tiny(Path(), Path(), 10, fine=Phase("fine", 5, 2, 32, 1e-3, 1e-4))
    assert phase_at(config, 9)[0].name == "coarse"
    assert phase_at(config, 10) == (config.fine, 0)
    with pytest.raises(IndexError):
        phase_at(config, 15)
    phase = Phase("p", 1000, 2, 32, 1e-3, 1e-4, warmup=100)
    rates = [learning_rate(phase, i) for i in range(1000)]
    assert max(rates) == pytest.approx(1e-3)
    assert rates[-1] == pytest.approx(1e-4, rel=0.01)
    assert all(b >= a for a, b in itertools.pairwise(rates[:100]))
    assert all(b <= a for a, b in itertools.pairwise(rates[100:]))


PHASE = Phase("coarse", 2, 2, 64, 1e-4, 1e-5)


@pytest.mark.parametrize(("change", "words"), [
    ({"steps": -5}, "--coarse.steps -5"), ({"batch": 0}, "--coarse.batch 0"), ({"lr": math.nan}, "--coarse.lr nan"),
    ({"image_size_px": 10**6}, "--coarse.image-size-px"), ({"view_odds": (0.0, 0.0)}, "view-odds"),
    ({"view_odds": (math.nan,)}, "view-odds"),
])  # fmt: skip
def test_phases_of_no_meaning_are_refused(change, words):
    with pytest.raises(ConfigError, match=words):
        dataclasses.replace(PHASE, **change)


@pytest.mark.parametrize("change", [
    {"ema": 2.0}, {"clip": 0.0}, {"log_every": 0}, {"val_batches": -1}, {"seed": -1}, {"max_minutes": math.nan},
    {"weights": LossWeights(mask=math.nan)}, {"batches_at_once": 0},
])  # fmt: skip
def test_runs_of_no_meaning_are_refused(tmp_path, change):
    with pytest.raises(ConfigError, match="give"):
        TrainConfig(pool=(), out=tmp_path, **change)


def test_a_training_of_nothing_is_refused(tmp_path):
    with pytest.raises(TrainingError, match="at least one pool"):
        train(TrainConfig(pool=(), out=tmp_path))
    none = {name: dataclasses.replace(PHASE, steps=0) for name in ("coarse", "fine", "appearance")}
    with pytest.raises(TrainingError, match="no phase has any steps"):
        train(TrainConfig(pool=(tmp_path / "a.npz",), out=tmp_path, **none))


def archive(pickled: bytes) -> bytes:
    """A checkpoint of such a pickle."""
    whole = io.BytesIO()
    with zipfile.ZipFile(whole, "w") as file:
        file.writestr("a/data.pkl", pickled)
        file.writestr("a/byteorder", b"little")
        file.writestr("a/version", b"3\n")
    return whole.getvalue()


TENSOR_ONE = archive(b"\x80\x02K\x01Q.")
"""It names a tensor by the number 1."""

CUT_NUMBER = archive(b"\x80\x02G\x3f\xf0")
"""It ends within a number."""


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"no checkpoint",
        b"PK\x03\x04" + bytes(100),
        b"\x80\x04N.",
        pytest.param(TENSOR_ONE, id="tensor 1"),
        pytest.param(CUT_NUMBER, id="cut number"),
    ],
)
def test_damaged_checkpoints_are_refused(tmp_path, content):
    path = tmp_path / "checkpoint-0.pt"
    path.write_bytes(content)
    with pytest.raises(TrainingError, match=r"checkpoint-0\.pt: (damaged|holds)"):
        load_state(path)
    torch.save({"step": 1}, path)
    assert load_state(path) == {"step": 1}
