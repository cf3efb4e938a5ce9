"""A small set to open, and an untrained model."""

from dataclasses import replace

import pytest
from support.small_evaluation import cabinet_set, untrained_checkpoint

from partrm.evaluation.session import RunOptions


@pytest.fixture(scope="module")
def evalset():
    """The door and the drawer are to be opened."""
    whole = cabinet_set([])
    return replace(whole, plan=whole.plan[[0, 3]], transitions=("opening", "opening"))


@pytest.fixture(scope="module")
def options(tmp_path_factory):
    return RunOptions(str(untrained_checkpoint(tmp_path_factory.mktemp("model") / "tiny")), "cpu")
