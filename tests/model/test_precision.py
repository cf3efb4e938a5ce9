"""The network in bfloat16: the same answers but for rounding, told by whatever comes of it."""

import json
from importlib import resources

import jsonschema
import pytest
import torch
from support.network_inputs import some_input
from support.small_evaluation import cabinet_set, untrained_checkpoint

from partrm.errors import ConfigError
from partrm.evaluation.report import comparison
from partrm.evaluation.results import load_results
from partrm.evaluation.samples import RunSettings
from partrm.evaluation.session import RunOptions, evaluate_into
from partrm.model.checkpoints import CheckpointError, load_model, save_checkpoint
from partrm.model.network import PartRMNetwork
from partrm.model.reference import TINY_REFERENCE, ReferenceNetwork
from partrm.model.unet import Norm


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
    return untrained_checkpoint(tmp_path_factory.mktemp("model") / "tiny")


def test_convolutions_are_rounded_and_answers_are_near(checkpoint):
    exact, rounded = (load_model(checkpoint, "cpu", precision) for precision in ("float32", "bfloat16"))
    assert (exact.precision, rounded.precision) == ("float32", "bfloat16")
    network = rounded.articulated
    assert network.head.weight.dtype == torch.bfloat16
    assert all(m.weight.dtype == torch.float32 for m in network.modules() if isinstance(m, Norm))
    inputs = some_input()
    with torch.inference_mode():
        one, two = exact.articulated(inputs), network(inputs)
    for name in ("means", "scales", "opacities", "colors"):
        first, second = getattr(one.gaussians, name), getattr(two.gaussians, name)
        assert second.dtype == torch.float32
        assert 0 < float((first - second).abs().max()) < 0.05
    assert not torch.is_autocast_enabled("cpu")


@pytest.mark.whole_run  # the checks of types come first
def test_other_precisions_and_the_reference_are_refused(checkpoint, tmp_path):
    with pytest.raises(ConfigError, match="precision 'float16': must be float32 or bfloat16"):
        load_model(checkpoint, "cpu", "float16")  # pyright: ignore[reportArgumentType]
    torch.manual_seed(0)
    save_checkpoint(ReferenceNetwork(TINY_REFERENCE).state_dict(), TINY_REFERENCE, tmp_path / "reference")
    with pytest.raises(CheckpointError, match="exact in float32 alone"):
        load_model(tmp_path / "reference", "cpu", "bfloat16")


@pytest.mark.whole_run
def test_evaluations_say_their_precision(checkpoint, tmp_path):
    evalset, options = cabinet_set([]), RunOptions(str(checkpoint), "cpu")
    for precision in ("float32", "bfloat16"):
        settings = RunSettings(limit=1, novel_size_px=48, precision=precision)
        evaluate_into(evalset, tmp_path / precision, options, settings)
    schema = json.loads((resources.files("partrm.evaluation") / "metrics.schema.json").read_text())
    told = {}
    for precision in ("float32", "bfloat16"):
        content = json.loads((tmp_path / precision / "metrics.json").read_text())
        jsonschema.Draft202012Validator(schema).validate(content)
        told[precision] = content["settings"].get("precision")
        assert load_results(tmp_path / precision).identity.settings.precision == precision
    assert told == {"float32": None, "bfloat16": "bfloat16"}
    assert "cpu in bfloat16" in (tmp_path / "bfloat16" / "report.md").read_text()
    lines = comparison(*(load_results(tmp_path / precision) for precision in told))
    assert ["in bfloat16" in line for line in lines if line.startswith(("- A:", "- B:"))] == [False, True]


@pytest.mark.whole_run
def test_settings_know_two_precisions():
    with pytest.raises(ValueError, match="precision 'half'"):
        RunSettings(precision="half")  # pyright: ignore[reportArgumentType]


def test_networks_are_exact_unless_asked(checkpoint):
    assert isinstance(load_model(checkpoint).network, PartRMNetwork)
    assert {p.dtype for p in load_model(checkpoint).network.parameters()} == {torch.float32}
