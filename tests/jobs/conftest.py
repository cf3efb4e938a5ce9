import json

import numpy as np
import pytest
import torch
from PIL import Image
from support.jobs import arguments, tree

from partrm.cli import main
from partrm.jobs import running
from partrm.model.checkpoints import save_checkpoint
from partrm.model.network import TINY, PartRMNetwork


@pytest.fixture(scope="session")
def folder(tmp_path_factory):
    """Weights, a picture, and a file of five jobs of which one must fail."""
    torch.manual_seed(0)
    root = tmp_path_factory.mktemp("jobs")
    save_checkpoint(PartRMNetwork(TINY).state_dict(), TINY, root / "tiny")
    pixels = np.random.default_rng(0).integers(0, 256, (128, 128, 4), dtype=np.uint8)
    pixels[..., 3] = 0
    pixels[30:90, 30:90, 3] = 255
    Image.fromarray(pixels).save(root / "a.png")
    jobs = [{"name": f"j{n}", "image": "a.png", "drags": [[60, 60, 40 + n, 60]], "detail": 0} for n in range(5)]
    jobs[3]["image"] = "none.png"
    (root / "jobs.jsonl").write_text("".join(json.dumps(job) + "\n" for job in jobs))
    return root


@pytest.fixture
def in_this_process(monkeypatch):
    """The worker's part done here: a process of its own takes seconds to start."""
    monkeypatch.setattr(running, "run_tasks", lambda work, tasks, *_: (work(task, "cpu") for task in tasks))


@pytest.fixture(scope="session")
def whole(folder):
    """Hashes of what one process makes of the file."""
    with pytest.MonkeyPatch.context() as patch:
        in_this_process.__wrapped__(patch)
        assert main(arguments(folder, folder / "whole")) == 1
    return tree(folder / "whole")
