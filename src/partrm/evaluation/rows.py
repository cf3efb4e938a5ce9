"""Rows of an evaluation under way, so that a run that was cut off goes on where it stopped."""

import json
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from partrm.errors import PartRMError
from partrm.files import atomic_write

NAME = "rows.jsonl"


class RowsError(PartRMError):
    """Rows that do not belong to this evaluation; the message says what to do."""


def load_rows(path: Path, identity: dict[str, Any]) -> list[dict[str, Any]]:
    """The rows of a run that was cut off, in order; none if there was no such run. A half-written last line is dropped.

    Args:
        path: the file; its first line is the identity of the evaluation.
        identity: what this evaluation's figures depend on.

    Raises:
        RowsError: the file belongs to another evaluation, or is damaged.
    """
    if not path.exists():
        return []
    lines = path.read_text(encoding="utf-8").split("\n")[:-1]
    if not lines:
        return []
    try:
        written, *rows = [json.loads(line) for line in lines]
    except json.JSONDecodeError as error:
        raise RowsError(f"{path}: damaged ({error}); delete it or choose another folder") from error
    if written != json.loads(json.dumps(identity)):
        differing = ", ".join(key for key in identity if written.get(key) != json.loads(json.dumps(identity[key])))
        raise RowsError(
            f"{path}: rows of an unfinished evaluation with another {differing}; delete it or choose another folder"
        )
    if [row["sample"] for row in rows] != list(range(len(rows))):
        raise RowsError(f"{path}: rows are missing; delete it or choose another folder")
    return rows


@contextmanager
def keeping_rows(
    path: Path, identity: dict[str, Any], earlier: list[dict[str, Any]]
) -> Iterator[Callable[[dict[str, Any]], None]]:
    """A function that puts one row more on disk; the file begins with the identity and the earlier rows.

    The file is replaced as a whole at the start, then grows by whole lines, each on disk before the next row is made.
    """
    text = "".join(json.dumps(line, allow_nan=False) + "\n" for line in [identity, *earlier])
    atomic_write(path, text)
    with path.open("a", encoding="utf-8") as file:

        def keep(row: dict[str, Any]) -> None:
            file.write(json.dumps(row, allow_nan=False) + "\n")
            file.flush()
            os.fsync(file.fileno())

        yield keep
