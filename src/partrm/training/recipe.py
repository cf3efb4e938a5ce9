"""Recipes of training: fields of :class:`partrm.training.config.TrainConfig` as TOML files, ``base`` among them."""

import tomllib
from collections.abc import Iterator
from dataclasses import fields, replace
from importlib import resources
from pathlib import Path
from typing import Any

from partrm.files import read_text
from partrm.training.config import LossWeights, NetworkChanges, Phase, TrainConfig, TrainingError

TABLES = (Phase, LossWeights, NetworkChanges)
"""Types of fields that are tables of their own."""

OF_A_RUN = ("pool", "out")
"""Fields that belong to a run, not to a recipe."""


def recipe_names() -> list[str]:
    """Names of the recipes in the package."""
    folder = resources.files("partrm.training") / "recipes"
    return sorted(entry.name.removesuffix(".toml") for entry in folder.iterdir() if entry.name.endswith(".toml"))


def load_recipe(name_or_path: str | Path) -> dict[str, Any]:
    """Fields of :class:`TrainConfig` by a recipe's name or file; what a table leaves out is as by default.

    Raises:
        TrainingError: no such recipe, no TOML, or values that no recipe has.
    """
    name = str(name_or_path)
    source = Path(name_or_path)
    if name in recipe_names():
        source = resources.files("partrm.training") / "recipes" / f"{name}.toml"
    try:
        written = tomllib.loads(read_text(str(source)))
    except OSError as error:
        known = ", ".join(recipe_names())
        raise TrainingError(f"recipe {name!r} is neither bundled ({known}) nor a file ({error.strerror})") from error
    except (ValueError, RecursionError) as error:
        raise TrainingError(f"{name}: not a recipe ({str(error)[:200]})") from error
    if any(abs(number) >= 2**63 for number in _integers(written)):
        # In base 16 one may have more digits than Python writes out, also in messages.
        raise TrainingError(f"{name}: no value of a recipe has more than 19 digits")
    config = TrainConfig(pool=(), out=Path())
    defaults = {f.name: getattr(config, f.name) for f in fields(config) if f.name not in OF_A_RUN}
    return {key: _read(f"{name}: {key}", defaults.get(key), value) for key, value in written.items()}


def _read(where: str, default: Any, value: Any) -> Any:
    """A value of the default's type; of a table, with the default's values where it has none.

    Raises:
        TrainingError: it has another type, or recipes have no such value.
    """
    if isinstance(default, TABLES) and isinstance(value, dict):
        known = {f.name for f in fields(default)}
        if odd := sorted(set(value) - known):
            raise TrainingError(f"{where} has no {', '.join(odd)}; it has {', '.join(sorted(known))}")
        read = {name: _read(f"{where}.{name}", getattr(default, name), given) for name, given in value.items()}
        return replace(default, **read)
    if isinstance(default, tuple) and isinstance(value, list) and all(type(item) in (int, float) for item in value):
        return tuple(value)
    if isinstance(default, float) and type(value) is int and abs(value) < 2**53:
        return float(value)
    if default is None or type(value) is not type(default):
        raise TrainingError(f"{where}: {repr(value)[:100]} is no value of a recipe there")
    return value


def _integers(value: Any) -> Iterator[int]:
    """All integers in tables and lists, nested ones too."""
    if type(value) is int:
        yield value
    elif isinstance(value, dict | list):
        for item in value.values() if isinstance(value, dict) else value:
            yield from _integers(item)
