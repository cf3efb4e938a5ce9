"""Distributed training is training: several processes take the steps that one takes on the same global batch."""

import json
import runpy
import subprocess
import sys
from pathlib import Path
from unittest import mock

import pytest
import torch

from partrm.model.checkpoints import read_checkpoint

pytest.importorskip("warp", reason="training renders its samples with warp-lang (extra `data`)")
pytest.importorskip("accelerate", reason="training needs accelerate (extra `train`)")

pytestmark = pytest.mark.whole_run

SCRIPT = """
import json, sys, os
from pathlib import Path

import torch

sys.path[:0] = [sys.argv[1], sys.argv[1] + "/training"]
torch.set_num_threads(1)
from support.boxes import cabinet
from test_trainer import tiny, train

from partrm.synthesis.sampler import OnlineSamples, SampleConfig
from partrm.synthesis.mesh_pool import Pool, save_pool
from partrm.training import trainer as training
from partrm.training.trainer import Trainer, load_pool_for


out, steps, batch = Path(sys.argv[2]), 4, 6
out.mkdir(parents=True, exist_ok=True)
rank = int(os.environ.get("RANK", "0"))
pool = out / f"boxes-{rank}.npz"
save_pool(Pool.from_objects([cabinet(), cabinet()]), pool)
if "RANK" in os.environ:
    training.CLOCK_STEPS = 5
    for name, minutes, resume in (("whole", 99, False), ("legs", 0, False), ("legs", 99, True)):
        train(tiny(pool, out / name, 7, max_minutes=minutes, resume=resume))
trainer = Trainer(tiny(pool, out, steps))
data = OnlineSamples(*load_pool_for((pool,), trainer.device), seed=7)
count, losses = trainer.accelerator.num_processes, []
for step in range(steps):
    drawn = data.draw(SampleConfig(image_size_px=32, views=1 + step % 4), 3 * batch)
    good = drawn.valid.nonzero()[:batch, 0]
    assert len(good) == batch
    mine = drawn[good[rank * batch // count : (rank + 1) * batch // count]]
    loss = trainer.train_step(mine, trainer.config.coarse, 1e-3)["loss"]
    losses.append(float(trainer.accelerator.reduce(loss, "mean")))
if rank == 0:
    weights = torch.cat([w.flatten() for w in trainer.network.state_dict().values()])
    (out / "result.json").write_text(json.dumps({"losses": losses, "weights": weights.tolist()}))
trainer.accelerator.wait_for_everyone()
trainer.accelerator.end_training()
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """What one process, this one, has left in ``1``, and two in ``2``: those have trained and resumed before."""
    folder = tmp_path_factory.mktemp("processes")
    script = folder / "steps.py"
    script.write_text(SCRIPT)
    words = [str(script), str(Path(__file__).parents[1])]
    with mock.patch.object(sys, "argv", [*words, str(folder / "1")]), mock.patch.object(sys, "path", list(sys.path)):
        runpy.run_path(str(script), run_name="__main__")
    launch = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", "2", "--master-port", "29517"]
    done = subprocess.run([*launch, *words, str(folder / "2")], capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr[-2000:]
    return folder


@pytest.fixture(scope="module")
def results(folder: Path) -> list[dict]:
    """Losses and final weights of the same steps by one process and by two."""
    return [json.loads((folder / count / "result.json").read_text()) for count in ("1", "2")]


def test_two_processes_have_the_losses_of_one(results: list[dict]) -> None:
    one, two = (result["losses"] for result in results)
    assert two == pytest.approx(one, rel=2e-3)
    assert one[-1] != pytest.approx(one[0], rel=2e-3), "the steps change something"


def test_two_processes_end_at_the_weights_of_one(results: list[dict]) -> None:
    one, two = (result["weights"] for result in results)
    assert max(abs(a - b) for a, b in zip(one, two, strict=True)) < 2e-3


def test_two_processes_end_where_they_would_have_without_a_stop(folder: Path) -> None:
    """REFERENCE_DEFECTS C1, C10: distributed steps run, and a resumed run ends where an uninterrupted one does."""
    whole, legs = (folder / "2" / name for name in ("whole", "legs"))
    (wanted, _, _), (found, _, _) = (read_checkpoint(run / "weights") for run in (whole, legs))
    assert all(torch.allclose(found[name], value, atol=1e-5) for name, value in wanted.items())
    logs = [
        [json.loads(line)["step"] for line in (run / "log.jsonl").read_text().splitlines()] for run in (whole, legs)
    ]
    assert logs[0] == logs[1] == [5, 7]
