import dataclasses
import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch

pytest.importorskip("warp", reason="training renders its samples with warp-lang (extra `data`)")
pytest.importorskip("accelerate", reason="training needs accelerate (extra `train`)")

import itertools

from boxes import cabinet

from partrm.data.dataset import Prefetcher, dealt
from partrm.data.online import SampleConfig
from partrm.data.pool import Pool, save_pool
from partrm.model.checkpoints import read_checkpoint, save_checkpoint
from partrm.model.network import TINY, PartRMNetwork
from partrm.model.peer import SMALLEST_PEER
from partrm.train import NetworkChanges, Phase, TrainConfig, Trainer, TrainingError, learning_rate, phase_at, train

NONE = Phase("none", 0, 1, 32, 1e-3, 1e-4)


@pytest.fixture(scope="module")
def pool(tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("pool") / "boxes.npz"
    save_pool(Pool.from_objects([cabinet(), cabinet()]), path)
    return path


def tiny(pool: Path, out: Path, steps: int, **changes) -> TrainConfig:
    coarse = Phase("coarse", steps, 2, 32, 1e-3, 1e-4, warmup=5)
    config = TrainConfig(
        pool=(pool,), out=out, preset="tiny", device="cpu", log_every=5, coarse=coarse, fine=NONE, looks=NONE
    )
    return dataclasses.replace(config, **changes)


def rows(folder: Path) -> list[dict]:
    return [json.loads(line) for line in (folder / "log.jsonl").read_text().splitlines()]


def weights_of(folder: Path) -> torch.Tensor:
    weights, _, _ = read_checkpoint(folder / "weights")
    return torch.cat([w.flatten() for w in weights.values()])


def test_the_loss_falls_and_all_terms_are_logged(pool: Path, tmp_path: Path) -> None:
    train(tiny(pool, tmp_path, 60, val_pools=(pool,), validate_every=60, val_batches=1))
    log = rows(tmp_path)
    steps = [r for r in log if r["group"] == "coarse"]

    def share_left(term: str) -> float:
        return sum(r[term] for r in steps[-4:]) / sum(r[term] for r in steps[:4])

    # Two samples a step make the part's terms jump; geometry and the joint's type must be learned all the same.
    assert share_left("opacity") < 0.85
    assert share_left("joint_type") < 0.9
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


def test_a_stopped_run_goes_on_to_the_same_weights(pool: Path, tmp_path: Path) -> None:
    train(tiny(pool, tmp_path / "whole", 40))
    train(tiny(pool, tmp_path / "legs", 40, max_minutes=0.0))
    assert rows(tmp_path / "legs")[-1]["step"] == 20
    train(tiny(pool, tmp_path / "legs", 40, resume=True))
    assert [r["step"] for r in rows(tmp_path / "legs")] == [r["step"] for r in rows(tmp_path / "whole")]
    assert torch.equal(weights_of(tmp_path / "legs"), weights_of(tmp_path / "whole"))


def test_the_appearance_stage_trains(pool: Path, tmp_path: Path) -> None:
    looks = Phase("looks", 10, 2, 32, 1e-3, 1e-4, appearance=True, novel_views=1)
    train(tiny(pool, tmp_path, 0, looks=looks))
    assert {"image", "alpha", "similarity"} <= set(rows(tmp_path)[-1])


def test_a_network_that_learns_to_vote_keeps_what_it_knew(pool: Path, tmp_path: Path) -> None:
    torch.manual_seed(1)
    old = PartRMNetwork(dataclasses.replace(TINY, joint_votes=False))
    save_checkpoint(old.state_dict(), old.config, tmp_path / "old", half=False)
    trainer = Trainer(tiny(pool, tmp_path / "run", 2, init=tmp_path / "old"))
    inputs = trainer.batches.next(0).inputs
    before, after = old(inputs), trainer.network(inputs)
    assert after.votes is not None
    assert torch.allclose(before.displacement, after.displacement, atol=1e-5)
    assert torch.allclose(before.gaussians.means, after.gaussians.means, atol=1e-5)


@pytest.mark.parametrize("faster", ["fused_norms", "graphs"])
def test_what_cannot_be_compiled_is_refused(pool: Path, tmp_path: Path, faster: str) -> None:
    with pytest.raises(TrainingError, match="leave --compile out"):
        Trainer(tiny(pool, tmp_path, 2, compile=True, **{faster: True}))


def test_batches_made_together_are_resumed_in_their_middle(pool: Path, tmp_path: Path) -> None:
    def trainer(name: str) -> Trainer:
        return Trainer(tiny(pool, tmp_path / name, 7, batches_at_once=3))

    whole, cut, resumed = trainer("a"), trainer("b"), trainer("c")
    expected = [whole.batches.next(step).inputs.images for step in range(7)]
    for step in range(5):
        cut.batches.next(step)
    state = cut.batches.state()
    assert state["skip"] == 2
    resumed.data.restore(state)
    left = Prefetcher(resumed.data, resumed.plan, state["skip"])
    for step in (5, 6):
        assert torch.equal(left.next(step).inputs.images, expected[step])
    assert not torch.equal(expected[3], expected[4])
    with pytest.raises(AssertionError, match="no batch is planned"):
        left.next(7)


def test_batches_made_together_have_equally_many_samples_without_motion(pool: Path, tmp_path: Path) -> None:
    data = Trainer(tiny(pool, tmp_path, 2)).data
    data.oversampling = 1.0
    drawn = data.draw(SampleConfig(image_size_px=32), 48)
    assert not bool(drawn.valid.all()), "else there is nothing to deal"
    batches = dealt(drawn, 4).valid.reshape(4, 12).sum(1)
    assert int(batches.max() - batches.min()) <= 1
    turned = dealt(drawn, 4)
    assert torch.equal(turned.inputs.images[:12], drawn.inputs.images[::4])
    assert torch.equal(turned.joint.pivot[36:], drawn.joint.pivot[3::4])


def test_graphs_need_a_gpu(pool: Path, tmp_path: Path) -> None:
    with pytest.raises(TrainingError, match="on CUDA devices"):
        Trainer(tiny(pool, tmp_path, 2, graphs=True))


def test_the_peer_trains_in_both_stages_and_resumes(pool: Path, tmp_path: Path) -> None:
    odds = (0.0, 0.0, 0.0, 1.0)
    coarse = Phase("coarse", 30, 3, 32, 2e-3, 3e-4, warmup=5, view_odds=odds)
    looks = Phase("looks", 2, 1, 32, 1e-3, 1e-4, appearance=True, novel_views=1, view_odds=odds)
    changes = {"preset": "smallest-peer", "coarse": coarse, "looks": looks}
    train(tiny(pool, tmp_path, 0, max_minutes=0.0, **changes))
    train(tiny(pool, tmp_path, 0, resume=True, val_pools=(pool,), val_batches=1, **changes))
    log = rows(tmp_path)
    steps = [r for r in log if r["group"] == "coarse"]
    assert steps[-1]["l2"] < 0.9 * steps[0]["l2"]
    assert {"image", "alpha"} <= set(log[-2])
    assert "boxes/arrival_ratio" in log[-1]
    _, config, _ = read_checkpoint(tmp_path / "weights")
    assert config == SMALLEST_PEER


def test_what_the_peer_does_not_take(pool: Path, tmp_path: Path) -> None:
    with pytest.raises(TrainingError, match="all four views"):
        Trainer(tiny(pool, tmp_path, 2, preset="smallest-peer"))
    with pytest.raises(TrainingError, match="--network"):
        Trainer(tiny(pool, tmp_path, 2, preset="smallest-peer", network=NetworkChanges(head="state")))
    with pytest.raises(TrainingError, match="none of base, tiny"):
        Trainer(tiny(pool, tmp_path, 2, preset="large"))


def test_nothing_to_resume_is_an_error(pool: Path, tmp_path: Path) -> None:
    with pytest.raises(TrainingError, match="nothing to resume"):
        train(tiny(pool, tmp_path, 5, resume=True))


def test_two_processes_train_and_resume(pool: Path, tmp_path: Path) -> None:
    """REFERENCE_DEFECTS C1, C10: distributed steps run, and a resumed run ends where an uninterrupted one does."""
    script = tmp_path / "run.py"
    script.write_text(
        "import sys, dataclasses\nfrom pathlib import Path\nimport torch\n"
        f"sys.path.insert(0, {str(Path(__file__).parent)!r})\n"
        "torch.set_num_threads(1)\nfrom test_train import tiny\nfrom partrm.train import train\n"
        "out, minutes, resume = Path(sys.argv[1]), float(sys.argv[2]), sys.argv[3] == '1'\n"
        f"train(tiny(Path({str(pool)!r}), out, 40, max_minutes=minutes, resume=resume))\n"
    )

    def run(out: str, minutes: float, resume: int) -> None:
        launch = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", "2", "--master-port", "29511"]
        done = subprocess.run(
            [*launch, str(script), str(tmp_path / out), str(minutes), str(resume)], capture_output=True, text=True
        )
        assert done.returncode == 0, done.stderr[-2000:]

    run("whole", 99, 0)
    run("legs", 0, 0)
    run("legs", 99, 1)
    assert torch.allclose(weights_of(tmp_path / "legs"), weights_of(tmp_path / "whole"), atol=1e-5)


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
