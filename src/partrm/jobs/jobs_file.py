"""Files of jobs: one JSON object a line, checked as a whole before any work."""

import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any, get_args

from partrm.errors import PartRMError
from partrm.files import parse_json, read_text
from partrm.geometry.drag_numbers import check_drag_numbers
from partrm.imaging.photos import Method, check_box, check_fovy
from partrm.inference.batch import Job
from partrm.inference.detail import check_detail
from partrm.inference.part_search import MIN_CONFIDENCE, check_confidence

NAME = re.compile(r"[A-Za-z0-9_-][A-Za-z0-9._-]{0,199}")
"""Names that are folders everywhere, and never hidden ones."""

TAKEN = ("failures.jsonl", "batch.json")
"""What stands beside the folders of the jobs."""


class JobsError(PartRMError):
    """A file of jobs, or a folder of their results, that cannot be used; the message names the line."""


@dataclass(frozen=True)
class JobLine:
    """A job as its line says it; the words are those of the command line."""

    line: int
    """Counted from 1."""
    name: str
    """Of its folder of results."""
    image: str
    drags: tuple[tuple[float, ...], ...] = ()
    """(x0, y0, x1, y1) each, pixels of the image."""
    parts: bool = False
    """Find the parts, without drags."""
    box: tuple[float, float, float, float] | None = None
    mask: str | None = None
    cutout: Method = "auto"
    fovy_deg: float | None = None
    framing: str = "auto"
    ensemble: bool = True
    detail: int | None = None
    min_confidence: float = MIN_CONFIDENCE
    """Of parts."""

    def job(self) -> Job:
        """The same for :meth:`partrm.PartRM.predict_batch`."""
        framing = "canonical" if self.framing == "canonical" else "auto"
        options = (framing, None, self.box, self.mask, self.cutout, self.fovy_deg, self.ensemble, self.detail)
        return Job(self.image, self.drags, self.name, *options, self.parts, self.min_confidence)


KEYS = tuple(key for key in JobLine.__dataclass_fields__ if key != "line")


def read_jobs(path: Path) -> list[JobLine]:
    """The jobs of a file; paths in it are relative to its folder.

    Raises:
        JobsError: it cannot be read, holds no job, or a line is wrong.
    """
    try:
        # Strings may hold what else ends a line for ``splitlines``.
        lines = read_text(path, 2**30).split("\n")
    except (OSError, ValueError) as error:
        raise JobsError(f"{path}: cannot be read ({getattr(error, 'strerror', None) or error})") from error
    jobs: list[JobLine] = []
    seen: dict[str, int] = {}
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        try:
            job = _job(parse_json(line), number, path.parent)
        except (ValueError, TypeError, OverflowError) as error:
            raise JobsError(f"{path}, line {number}: {str(error)[:300]}") from error
        if (same := job.name.casefold()) in seen:
            twin = jobs[seen[same]]
            but = "" if twin.name == job.name else " but for capitals, which not every disk tells apart"
            raise JobsError(f"{path}, line {number}: the name {job.name} is that of line {twin.line}{but}")
        seen[same] = len(jobs)
        jobs.append(job)
    if not jobs:
        raise JobsError(f"{path}: holds no job; give one JSON object a line")
    return jobs


def _job(content: Any, line: int, folder: Path) -> JobLine:
    """One line's job.

    Raises:
        ValueError: what is wrong with it.
    """
    if not isinstance(content, dict):
        raise ValueError("not a JSON object")
    unknown = sorted(set(content) - set(KEYS))
    if unknown:
        raise ValueError(f"no option is called {unknown[0]!r}; there are {', '.join(KEYS)}")
    given = {key: value for key, value in content.items() if value is not None}
    for key in ("name", "image"):
        if key not in given:
            raise ValueError(f"{key} is missing")
    _check_question(given)
    if not isinstance(given["name"], str) or not NAME.fullmatch(given["name"]) or given["name"].casefold() in TAKEN:
        raise ValueError(f"name {given['name']!r}: give letters, digits, '.', '_' and '-', no '.' first")
    for key in {"image", "mask"} & set(given):
        if not isinstance(given[key], str):
            raise ValueError(f"{key}: give a path")
        given[key] = str(folder / given[key])
    if "drags" in given:
        given["drags"] = tuple(_numbers(row, "drags") for row in _listed(given["drags"], "drags"))
        check_drag_numbers(given["drags"])
    if "box" in given:
        given["box"] = _numbers(given["box"], "box")
        check_box(given["box"])
    _check_options(given)
    return JobLine(line, **given)


def _check_question(given: dict[str, Any]) -> None:
    """Refuse what asks in no way, or in two.

    Raises:
        ValueError: what is wrong with it.
    """
    if given.get("parts", True) is not True:
        raise ValueError(f"parts {given['parts']!r}: give true, or drags instead")
    if ("drags" in given) == ("parts" in given):
        found = "both drags and parts" if "drags" in given else "neither drags nor parts"
        raise ValueError(f'{found}: give "drags": [[X0, Y0, X1, Y1]] or "parts": true')
    for key, other in (("ensemble", "parts"), ("min_confidence", "drags")):
        if key in given and other in given:
            raise ValueError(f"{key} does not go with {other}")


def _check_options(given: dict[str, Any]) -> None:
    for key, words in (("cutout", get_args(Method)), ("framing", ("auto", "canonical")), ("ensemble", (True, False))):
        if key in given and (given[key] not in words or type(given[key]) is not type(words[0])):
            raise ValueError(f"{key} {given[key]!r}: give {' or '.join(json.dumps(word) for word in words)}")
    if "mask" in given and ("box" in given or given.get("cutout", "auto") != "auto"):
        raise ValueError("mask tells the object: give no box or cutout beside it")
    if "fovy_deg" in given:
        (given["fovy_deg"],) = _numbers([given["fovy_deg"]], "fovy_deg", 1)
        check_fovy(given["fovy_deg"])
        if given.get("framing") == "canonical":
            raise ValueError("framing canonical has its own lens: give no fovy_deg beside it")
    if "min_confidence" in given:
        (given["min_confidence"],) = _numbers([given["min_confidence"]], "min_confidence", 1)
        check_confidence(given["min_confidence"])
    detail = given.get("detail", 0)
    if not isinstance(detail, int) or isinstance(detail, bool):
        raise ValueError(f"detail {detail!r}: give a whole number")
    check_detail(detail)


def _listed(value: Any, key: str) -> list[Any]:
    if not isinstance(value, list):
        raise ValueError(f"{key}: give a list")
    return value


def _numbers(value: Any, key: str, count: int = 4) -> tuple[float, ...]:
    numbers = _listed(value, key)
    if len(numbers) != count or any(isinstance(n, bool) or not isinstance(n, int | float) for n in numbers):
        raise ValueError(f"{key}: give {count} numbers")
    return tuple(float(number) for number in numbers)
