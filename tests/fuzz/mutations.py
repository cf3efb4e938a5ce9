"""Damage that files have: cut, spliced and flipped bytes, odd numbers and words, other types and shapes in JSON."""

import json
import random
import re
from typing import Any

NUMBERS = (
    b"0", b"-1", b"1e999", b"nan", b"-inf", b"1e308", b"1e-320", b"99999999999999999999", b"4294967296", b"2147483648",
    b"0.5", b"", b"1" + b"0" * 4400, b"0x10", b"1,5", b"\xd9\xa3",
)  # fmt: skip
WORDS = (
    b"..",
    b"/dev/zero",
    b"\x00",
    b"\xff\xfe",
    b"a" * 300,
    b"${x}",
    b"$(find a)",
    b"package://",
    b"%s",
    b" ",
    b"\\",
)
VALUES: tuple[Any, ...] = (
    None, True, False, 0, -1, 1, 2, 0.5, 1e308, float("nan"), float("inf"), 10**19, 10**400, "", "a", "1", "\x00",
    "\ud800", "a" * 300, "../x", [], {}, [None], [[]], [1, 2], [1, 2, 3], [[1, 2], [3]], {"": None}, {"a": {"a": 1}},
)  # fmt: skip
NUMBER = re.compile(rb"-?\d+(?:\.\d+)?(?:e-?\d+)?", re.IGNORECASE)
WORD = re.compile(rb"[A-Za-z_][\w./:-]*")


def mutated(content: bytes, rng: random.Random) -> bytes:
    """The content with one to four injuries."""
    for _ in range(rng.choice((1, 1, 1, 2, 4))):
        content = rng.choice(BYTES)(content, rng)
    return content


def _flip(content: bytes, rng: random.Random) -> bytes:
    at = rng.randrange(max(len(content), 1))
    return content[:at] + bytes([rng.randrange(256)]) + content[at + 1 :]


def _head(content: bytes, rng: random.Random) -> bytes:
    """Flip where headers are."""
    at = rng.randrange(min(max(len(content), 1), 128))
    return content[:at] + bytes([rng.choice((0, 1, 127, 128, 255, rng.randrange(256)))]) + content[at + 1 :]


def _cut(content: bytes, rng: random.Random) -> bytes:
    return content[: rng.randrange(len(content) + 1)]


def _remove(content: bytes, rng: random.Random) -> bytes:
    at = rng.randrange(len(content) + 1)
    return content[:at] + content[at + rng.choice((1, 2, 4, 16, 100)) :]


def _repeat(content: bytes, rng: random.Random) -> bytes:
    at = rng.randrange(len(content) + 1)
    piece = content[at : at + rng.choice((1, 8, 40, 200))]
    return content[:at] + piece * rng.choice((2, 2, 2, 50)) + content[at:]


def _line(content: bytes, rng: random.Random) -> bytes:
    """Remove, repeat or swap lines."""
    lines = content.split(b"\n")
    a, b = rng.randrange(len(lines)), rng.randrange(len(lines))
    kind = rng.randrange(3)
    if kind == 0:
        del lines[a]
    elif kind == 1:
        lines.insert(b, lines[a])
    else:
        lines[a], lines[b] = lines[b], lines[a]
    return b"\n".join(lines)


def _replaced(pattern: re.Pattern[bytes], choices: tuple[bytes, ...]):
    def mutate(content: bytes, rng: random.Random) -> bytes:
        found = list(pattern.finditer(content[:20_000]))
        if not found:
            return content
        at = rng.choice(found)
        return content[: at.start()] + rng.choice(choices) + content[at.end() :]

    return mutate


def _swap(content: bytes, rng: random.Random) -> bytes:
    """Put one word in the place of another."""
    found = list(WORD.finditer(content[:20_000]))
    if not found:
        return content
    at, other = rng.choice(found), rng.choice(found)
    return content[: at.start()] + other[0] + content[at.end() :]


BYTES = (
    _flip, _head, _cut, _remove, _repeat, _line, _swap, _replaced(NUMBER, NUMBERS), _replaced(NUMBER, NUMBERS),
    _replaced(WORD, WORDS),
)  # fmt: skip


def mutated_json(content: bytes, rng: random.Random) -> bytes:
    """A JSON text in which values, keys or the nesting are others; now and then its bytes."""
    if rng.random() < 0.25:
        return mutated(content, rng)
    if rng.random() < 0.02:
        return b"[" * 100_000
    tree = json.loads(content)
    for _ in range(rng.choice((1, 1, 2))):
        tree = _elsewhere(tree, rng)
    return json.dumps(tree).encode()


def _elsewhere(tree: Any, rng: random.Random) -> Any:
    """The tree with one node replaced, removed or doubled."""
    if rng.random() < 0.15 or not isinstance(tree, dict | list) or not tree:
        return rng.choice(VALUES)
    key = rng.choice(list(tree) if isinstance(tree, dict) else range(len(tree)))
    tree = tree.copy()
    kind = rng.random()
    if kind < 0.15:
        del tree[key]
    elif kind < 0.25 and isinstance(tree, list):
        tree.insert(key, tree[key])
    elif kind < 0.25 and isinstance(tree, dict):
        tree[str(key) + "x"] = tree.pop(key)
    else:
        tree[key] = _elsewhere(tree[key], rng)
    return tree
