"""Commands on a disk that runs full, a small tmpfs: one line that says which file, and nothing half-written."""

import json
import re
from pathlib import Path

import pytest
import torch
from support.boxes import cabinet
from support.small_evaluation import cabinet_set, untrained_checkpoint

pytest.importorskip("warp", reason="evaluation, data and training need extras: pip install 'partrm[data,train]'")
pytest.importorskip("accelerate", reason="training is an extra: pip install 'partrm[train]'")

from partrm.cli import main
from partrm.evaluation.eval_set import save_eval_set
from partrm.imaging.images import save_image
from partrm.objects.urdf import save_urdf
from partrm.synthesis.mesh_pool import Pool, save_pool

EVAL = ("--limit", "2", "--novel-size-px", "48", "--lpips", "none")
BUILD = ("--size-px", "64", "--views", "2", "--states", "2", "--distractors", "0", "--points", "500")
TRAIN = ("--preset", "tiny", "--coarse.steps", "2", "--coarse.batch", "1", "--coarse.image-size-px", "32")
PHASES = ("--fine.steps", "0", "--appearance.steps", "0")


@pytest.fixture(scope="module")
def inputs(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("inputs")
    untrained_checkpoint(folder / "tiny")
    image = torch.rand(4, 128, 128, generator=torch.Generator().manual_seed(0))
    image[3] = 0
    image[3, 30:90, 30:90] = 1
    save_image(image, folder / "image.png")
    save_eval_set(cabinet_set([]), folder / "set.safetensors")
    save_urdf(cabinet(), folder / "boxes.urdf")
    save_pool(Pool.from_objects([cabinet()]), folder / "pool.npz")
    return folder


@pytest.mark.parametrize(
    ("size_kib", "arguments", "file", "stays"),
    [
        (400, "predict {i}/image.png --drag 60,60,40,60 --model {i}/tiny --detail 0", "gaussians_before.ply", set()),
        (4, "eval --data {i}/set.safetensors --model {i}/tiny --device cpu", "rows.jsonl", {"rows.jsonl"}),
        (120, "data build {i}/boxes.urdf", "render_PartDrag4D/", {"build.json", "render_PartDrag4D"}),
        (64, "train --pool {i}/pool.npz --device cpu", "checkpoint-0.pt", {"config.json", "log.jsonl"}),
    ],
    ids=["predict", "eval", "build", "train"],
)
def test_a_full_disk_is_told_in_one_line(size_kib, arguments, file, stays, inputs, disk, capsys):
    room = disk(size_kib)
    words = [*arguments.format(i=inputs).split(), "--out", str(room / "out")]
    words += {"eval": EVAL, "data": BUILD, "train": (*TRAIN, *PHASES)}.get(words[0], ())
    assert main(words) == 1
    said = capsys.readouterr().err
    assert re.fullmatch(rf"partrm .*{room}/out/{file}.*No space left on device: .* free, .* needed; .*\n", said), said
    left = {path.name for path in room.rglob("*")}
    assert not [name for name in left if name.endswith(".part") or name.startswith(".partrm.")]
    assert left >= stays
    assert stays or not left
    for rows in room.rglob("*.jsonl"):
        assert [json.loads(line) for line in rows.read_text().splitlines()]
