"""The pages' commands and code: each block runs here or says why not, and every `partrm …` line is understood."""

import importlib
import inspect
import json
import re
import shlex
import textwrap
import tomllib
from dataclasses import dataclass
from functools import wraps
from pathlib import Path

import pytest
import tyro

from partrm.cli import COMMANDS, main

ROOT = Path(__file__).parents[2]
PAGES = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")])
NOT_RUN = re.compile(r"<!-- not run: ([^>]+) -->")
FILES_NAMED = re.compile(r"\b(?:tests|examples)/[\w./]*\w")
PLACEHOLDERS = re.compile(r"[A-Z]{2,}|…|\.\.\.|<|\[")
"""What stands for something in a line that shows a form, not a command."""
MUST_SAY = [page for page in PAGES if page.parent.name not in ("experiments", "report") and page.name != "CHANGELOG.md"]
"""Pages whose blocks run here or say why not; those of experiments hold commands as they ran once."""


@dataclass(frozen=True)
class Block:
    """A fenced or indented block of a page."""

    reason: str
    """Why it is not run, or nothing."""
    language: str
    """Of a fence; of an indented block ``bash`` or ``python``."""
    code: str


def blocks(page: Path) -> list[Block]:
    """The blocks of a page, with the reason above each that is not run."""
    lines = [*page.read_text(encoding="utf-8").splitlines(), ""]
    found: list[Block] = []
    reason, number = "", 0
    while number < len(lines):
        line, begin = lines[number], number
        if told := NOT_RUN.fullmatch(line):
            reason = told[1]
        elif line.startswith("```"):
            number = lines.index("```", number + 1)
            found.append(Block(reason, line[3:], "\n".join(lines[begin + 1 : number]) + "\n"))
            reason = ""
        elif line.startswith("    ") and line.strip() and not lines[begin - 1].strip():
            while number + 1 < len(lines) and (lines[number + 1].startswith("    ") or not lines[number + 1].strip()):
                number += 1
            code = textwrap.dedent("\n".join(lines[begin : number + 1])).strip() + "\n"
            found.append(Block(reason, "python" if re.match(r"from |import ", code) else "bash", code))
            reason = ""
        elif line.strip():
            reason = ""
        number += 1
    return found


def command_lines(code: str) -> list[list[str]]:
    """Words of each line of a shell block, comments left out and continued lines joined."""
    lines = code.replace("\\\n", " ").splitlines()
    return [words for line in lines if (words := shlex.split(line, comments=True))]


def partrm_lines(page: Path) -> list[list[str]]:
    """Arguments of every `partrm …` command of a page's blocks that is meant as it stands."""
    shell = [block.code for block in blocks(page) if block.language == "bash"]
    starts = re.compile(r"^(?:\.venv/bin/)?partrm (?!COMMAND)")
    found = []
    for line in re.split(r"\n|&&\s*", "\n".join(shell).replace("\\\n", " ")):
        if starts.match(line) and not PLACEHOLDERS.search(line.partition("#")[0].replace("PartDrag-4D", "")):
            found.append(shlex.split(starts.sub("", line), comments=True))
    return found


def understood(arguments: list[str]) -> None:
    """Read a command's arguments as the command does, without running it.

    Raises:
        SystemExit: they are refused (2), or the help was asked for (0).
    """
    command = COMMANDS[arguments[0]]
    function = getattr(importlib.import_module(command.module), command.function)
    rest = [word for word in arguments[1:] if word != "--debug"]
    if command.by_arguments:
        function = function(rest)
    if inspect.isclass(function):
        tyro.cli(function, args=rest, console_outputs=False)
        return

    @wraps(function)
    def nothing(*_args, **_kwargs):
        return 0

    tyro.cli(nothing, args=rest, console_outputs=False)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_every_command_of_a_page_is_understood(page: Path):
    refused = []
    for arguments in partrm_lines(page):
        try:
            understood(arguments)
        except SystemExit as stop:
            if stop.code:
                refused.append(shlex.join(arguments))
    assert refused == []


def test_the_pages_hold_commands_and_wrong_ones_are_refused(tmp_path):
    assert sum(len(partrm_lines(page)) for page in PAGES) > 20
    page = tmp_path / "page.md"
    page.write_text("Text\n\n    partrm predict a.png --dragg 1,2,3,4 --out b   # wrong\n    partrm view SOURCE\n")
    (arguments,) = partrm_lines(page)
    with pytest.raises(SystemExit):
        understood(arguments)


def test_every_extra_is_explained():
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["optional-dependencies"]
    table = (ROOT / "docs" / "install.md").read_text(encoding="utf-8").partition("## Extras")[2].partition("\n## ")[0]
    assert set(extras) == set(
        re.findall(r"`([a-z0-9]+)`", "\n".join(re.findall(r"^\| (`.*?) \|", table, re.MULTILINE)))
    )


def runnable(page: Path) -> list[Block]:
    return [block for block in blocks(page) if not block.reason]


@pytest.mark.parametrize("page", MUST_SAY, ids=lambda page: str(page.relative_to(ROOT)))
def test_blocks_run_or_say_why_not(page: Path):
    for block in blocks(page):
        for name in FILES_NAMED.findall(block.reason):
            assert (ROOT / name).exists(), f"{page.name}: no {name}"
        if not block.reason:
            assert page.relative_to(ROOT) in RUN_WHOLE, f"{page.name}: run it here, or say why not: {block.code}"
            assert block.language in ("bash", "python"), f"{page.name}: a block of {block.language!r}"
            known = block.language == "python" or all(words[0] == "partrm" for words in command_lines(block.code))
            assert known, f"{page.name}: only partrm is run, say why not: {block.code}"


def test_blocks_and_their_reasons_are_found(tmp_path):
    page = tmp_path / "page.md"
    page.write_text(
        "Text\n\n    partrm a   # b\n\n    partrm c\n\n- list\n  goes on\n\n"
        "<!-- not run: yours -->\n\n    from x import y\n\n<!-- not run: theirs -->\n```bash\npartrm d\n```\n\n"
        "<!-- not run: of nothing -->\n\nText\n\n```python\ne\n```\n"
    )
    assert blocks(page) == [
        Block("", "bash", "partrm a   # b\n\npartrm c\n"),
        Block("yours", "python", "from x import y\n"),
        Block("theirs", "bash", "partrm d\n"),
        Block("", "python", "e\n"),
    ]


@pytest.fixture
def clone(tmp_path, monkeypatch):
    """A folder that looks like a clone, to work in; fewer splats than usual, for time."""
    monkeypatch.setattr("partrm.api.DETAIL_PX", {"cpu": 64, "cuda": 64})
    (tmp_path / "src").symlink_to(ROOT / "src")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_the_readme_s_python_is_three_lines():
    (block,) = [block for block in blocks(ROOT / "README.md") if block.language == "python"]
    assert len([line for line in block.code.splitlines() if line]) == 3


RUN_WHOLE = {
    Path("README.md"): ["result/prediction.json", "result/before_after.png"],
    Path("docs/quickstart.md"): ["result/motion.mp4", "result/gaussians.ply", "half_open.ply"],
    Path("docs/first_walk.md"): ["result/before_after.png", "asset/object.urdf"],
    Path("docs/export.md"): ["asset/object.xml", "page/object.html"],
    Path("docs/robotics.md"): ["trajectory.json"],
}
"""Pages of which blocks run, and files that they say they write."""


@pytest.mark.whole_run
@pytest.mark.usefixtures("remembered")
@pytest.mark.parametrize("page", RUN_WHOLE, ids=str)
def test_a_page_runs_as_it_stands(page: Path, clone, capsys):
    if page.name in ("first_walk.md", "export.md"):
        pytest.importorskip("skimage", reason="the asset is meshed with scikit-image (extra `export`)")
    ran, names = 0, {}
    for block in runnable(ROOT / page):
        if block.language == "python":
            exec(compile(block.code, page.name, "exec"), names)
            ran += 1
            continue
        for words in command_lines(block.code):
            assert main(words[1:]) == 0, capsys.readouterr().err
            ran += 1
    assert ran
    for name in RUN_WHOLE[page]:
        assert (clone / name).stat().st_size > 0
    if (clone / "result").exists():
        assert json.loads((clone / "result" / "prediction.json").read_text())["joint"]["type"] == "revolute"
