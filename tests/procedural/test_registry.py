"""Kinds are found by what their own files say, and those of published data keep their places."""

import ast
from collections import Counter
from pathlib import Path

import pytest

import partrm.procedural
from partrm.datasets.partdrag4d import CATEGORIES as PARTDRAG
from partrm.procedural import CATEGORIES, OWN_CATEGORIES, partdrag_generators
from partrm.procedural.catalogue import FIRST_CATEGORIES
from partrm.procedural.registry import REGISTERED, category

FOLDER = Path(partrm.procedural.__file__).parent


def decorated(path: Path) -> list[str]:
    """Categories whose generators a file registers, read off its decorators."""
    names = []
    for node in ast.parse(path.read_text(encoding="utf-8")).body:
        for call in node.decorator_list if isinstance(node, ast.FunctionDef) else []:
            if isinstance(call, ast.Call) and ast.unparse(call.func) == "category":
                names.append(node.name)
            elif isinstance(call, ast.Call) and ast.unparse(call.func) == "_kitchen":
                names.append(ast.literal_eval(call.args[0]))
    return names


def test_every_decorated_generator_is_a_category_once():
    assert Counter(name for path in FOLDER.glob("*.py") for name in decorated(path)) == Counter(CATEGORIES)


def test_later_kinds_do_not_move_the_first_ones():
    assert CATEGORIES[: len(FIRST_CATEGORIES)] == FIRST_CATEGORIES
    assert len(set(FIRST_CATEGORIES)) == 61
    assert (FIRST_CATEGORIES[0], FIRST_CATEGORIES[51], FIRST_CATEGORIES[60]) == ("cabinet", "book", "kitchen_island")
    assert set(CATEGORIES) - set(OWN_CATEGORIES) == {name for name in CATEGORIES if name.startswith("kitchen_")}


def test_generators_of_a_partdrag_category_have_a_turn_each():
    made = partdrag_generators()
    assert set(made) == set(PARTDRAG)
    for names in made.values():
        assert [REGISTERED[name].turn for name in names] == list(range(len(names)))
    first = ("cabinet", "mixed_cabinet", "kitchen_base_cabinet", "drawers", "chest", "sliding_cabinet", "desk")
    assert made["StorageFurniture"][:7] == first
    assert made["Oven"][:3] == ("oven", "kitchen_range", "toaster_oven")


def test_a_taken_category_is_refused():
    def cabinet(b):
        raise AssertionError("never drawn")

    with pytest.raises(ValueError, match="two generators make the category 'cabinet'"):
        category()(cabinet)
