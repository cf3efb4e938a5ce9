"""An evaluation set of one cabinet and an untrained checkpoint, for the tests of evaluation."""

from pathlib import Path

import torch

from partrm.evaluation import planning
from partrm.evaluation.mesh_samples import EvalSet
from partrm.model.checkpoints import save_checkpoint
from partrm.model.network import TINY, PartRMNetwork
from support.boxes import cabinet


def cabinet_set(dropped: list[str]) -> EvalSet:
    obj = cabinet()
    ground = planning.ObjectScene.of(obj)
    plans = [
        (name, ground.first_shown(planning.fixed_candidates(obj, part, number)))
        for part in obj.movable
        for number, (name, *_) in enumerate(planning.REAL_TRANSITIONS)
    ]
    return planning.assemble("real", 0, [planning.Candidate(obj, name, plan) for name, plan in plans], dropped)


def untrained_checkpoint(folder: Path) -> Path:
    torch.manual_seed(0)
    save_checkpoint(PartRMNetwork(TINY).state_dict(), TINY, folder)
    return folder
