"""Recipes: the one in the package is what `partrm train` does, whole; others change what they name and nothing else."""

import dataclasses
import json
from pathlib import Path

import pytest

from partrm.commands.train import named_recipe
from partrm.training.config import LossWeights, Phase, TrainConfig, TrainingError
from partrm.training.recipe import load_recipe

PLAIN = TrainConfig(pool=(), out=Path())
SHIPPED = Path(__file__).parents[2] / "src" / "partrm" / "model" / "weights" / "base" / "config.json"


def test_the_defaults_are_the_recipe_base() -> None:
    recipe = load_recipe("base")
    assert {name: getattr(PLAIN, name) for name in recipe} == recipe
    assert {"coarse", "fine", "appearance", "weights", "preset", "ema", "weight_decay", "clip"} <= set(recipe)


def test_the_recipe_base_leaves_no_value_of_a_phase_or_loss_to_the_code(monkeypatch) -> None:
    """With every default another, it reads the same."""
    import tomllib
    from importlib import resources

    text = (resources.files("partrm.training") / "recipes" / "base.toml").read_text()
    written = tomllib.loads(text)
    assert set(written["weights"]) == {f.name for f in dataclasses.fields(LossWeights)}
    for phase in ("coarse", "fine", "appearance"):
        assert set(written[phase]) == {f.name for f in dataclasses.fields(Phase)}


def test_the_recipe_base_weighs_losses_as_the_last_run_of_the_bundled_weights() -> None:
    card = json.loads(SHIPPED.read_text())["card"]
    last = card["legs"][-1]
    weights = {{"to_axis": "offset_to_axis"}.get(name, name): value for name, value in last["loss_weights"].items()}
    recipe = load_recipe("base")
    assert dataclasses.asdict(recipe["weights"]) == weights
    appearance = recipe["appearance"]
    assert appearance.view_odds == tuple(last["view_odds"])
    assert appearance.steps == last["steps"][1] - last["steps"][0]
    assert (recipe["ema"], recipe["weight_decay"], recipe["clip"]) == (card["ema"], card["weight_decay"], card["clip"])


def test_a_recipe_of_ones_own_changes_what_it_names(tmp_path: Path) -> None:
    path = tmp_path / "mine.toml"
    path.write_text("clip = 2\n[fine]\nsteps = 7\nview_odds = [1.0, 0.0, 0.0, 0.0]\n[weights]\nrgb = 3.0\n")
    changed = dataclasses.replace(PLAIN, **load_recipe(path))
    fine = dataclasses.replace(PLAIN.fine, steps=7, view_odds=(1.0, 0.0, 0.0, 0.0))
    weights = dataclasses.replace(PLAIN.weights, rgb=3.0)
    assert changed == dataclasses.replace(PLAIN, clip=2.0, fine=fine, weights=weights)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("colour = 1", "colour"),
        ("pool = 'x.npz'", "pool"),
        ("preset = 3", "preset"),
        ("clip = '1'", "clip"),
        ("[fine]\nstep = 1", "step"),
        ("fine = 3", "fine"),
        ("[fine", "not a recipe"),
        ("clip = " + "9" * 5000, "not a recipe"),
        ("clip = " + "9" * 400, "more than 19 digits"),
        ("clip = " + "[" * 100_000, "not a recipe"),
        ("coarse = 0x" + "f" * 5000, "no value of a recipe has more than 19 digits"),
        ("[coarse]\nsteps = 0x" + "f" * 5000, "more than 19 digits"),
        ("[coarse]\nview_odds = [0.5, 0x" + "f" * 5000 + "]", "more than 19 digits"),
        ("coarse = [[0x" + "f" * 5000 + "]]", "more than 19 digits"),
        ("pool = ['x.npz']", "pool"),
        ("[fine]\nview_odds = ['a', 'b']", "view_odds"),
    ],
)
def test_values_that_no_recipe_has_are_refused(tmp_path: Path, text: str, said: str) -> None:
    (tmp_path / "odd.toml").write_text(text)
    with pytest.raises(TrainingError, match=said):
        load_recipe(tmp_path / "odd.toml")


def test_unknown_recipes_are_refused_with_those_there_are() -> None:
    with pytest.raises(TrainingError, match=r"neither bundled \(base\) nor a file"):
        load_recipe("bose")


def test_the_recipe_that_arguments_name() -> None:
    assert named_recipe(["--pool", "x"]) == "base"
    assert named_recipe(["--recipe", "a.toml", "--pool", "x"]) == "a.toml"
    assert named_recipe(["--recipe=a.toml", "--recipe=b.toml"]) == "b.toml"
