"""The pages' commands and code: the quickstart runs, and every `partrm …` line of every page is understood."""

import importlib
import inspect
import json
import re
import shlex
import tomllib
from functools import wraps
from pathlib import Path

import pytest
import tyro

from partrm.cli import COMMANDS, main

ROOT = Path(__file__).parents[2]
PAGES = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")])
BLOCK = re.compile(
    r"(?:<!-- not run: (?P<reason>[^>]+) -->\n)?^```(?P<language>\w+)\n(?P<code>[\s\S]*?)^```", re.MULTILINE
)
INDENTED = re.compile(r"(?:^(?: {4}|\t).*\n)+", re.MULTILINE)
PLACEHOLDERS = re.compile(r"[A-Z]{2,}|…|\.\.\.|<|\[")
"""What stands for something in a line that shows a form, not a command."""
RUN = ("quickstart.md", "install.md")
"""Pages whose fenced blocks run, or say why not."""


def blocks(page: Path) -> list[tuple[str, str, str]]:
    """Reason not to run (or nothing), language and code of each fenced block."""
    text = page.read_text(encoding="utf-8")
    return [(m["reason"] or "", m["language"], m["code"]) for m in BLOCK.finditer(text)]


def command_lines(code: str) -> list[list[str]]:
    """Words of each line of a shell block, comments left out and continued lines joined."""
    lines = code.replace("\\\n", " ").splitlines()
    return [words for line in lines if (words := shlex.split(line, comments=True))]


def partrm_lines(page: Path) -> list[list[str]]:
    """Arguments of every `partrm …` command of a page's blocks that is meant as it stands."""
    text = page.read_text(encoding="utf-8")
    shell = [code for _, language, code in blocks(page) if language in ("bash", "sh", "console")]
    indented = [re.sub(r"^(?: {4}|\t)", "", block, flags=re.MULTILINE) for block in INDENTED.findall(text)]
    starts = re.compile(r"^(?:\.venv/bin/)?partrm (?!COMMAND)")
    found = []
    for line in re.split(r"\n|&&\s*", "\n".join([*shell, *indented]).replace("\\\n", " ")):
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


@pytest.mark.parametrize("name", RUN)
def test_blocks_run_or_say_why_not(name: str):
    found = blocks(ROOT / "docs" / name)
    assert found
    for reason, language, code in found:
        assert language in ("bash", "python"), f"{name}: a block of {language!r}"
        known = all(words[0] == "partrm" for words in command_lines(code)) if language == "bash" else True
        assert known or reason, f"{name}: only partrm is run, say why not: {code}"


@pytest.fixture
def clone(tmp_path, monkeypatch):
    """A folder that looks like a clone, to work in; fewer splats than usual, for time."""
    monkeypatch.setattr("partrm.api.DETAIL_PX", {"cpu": 64, "cuda": 64})
    (tmp_path / "src").symlink_to(ROOT / "src")
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.whole_run
def test_the_readme_s_python_is_three_lines_and_runs(clone):
    (code,) = [code for _, language, code in blocks(ROOT / "README.md") if language == "python"]
    assert len([line for line in code.splitlines() if line]) == 3
    exec(compile(code, "README.md", "exec"), {})
    assert json.loads((clone / "result" / "prediction.json").read_text())["joint"]["type"] == "revolute"


@pytest.mark.whole_run
def test_the_quickstart_runs_as_it_stands(clone, capsys):
    ran = []
    for reason, language, code in blocks(ROOT / "docs" / "quickstart.md"):
        if reason:
            continue
        if language == "python":
            exec(compile(code, "quickstart.md", "exec"), {})
            ran.append("python")
            continue
        for words in command_lines(code):
            assert main(words[1:]) == 0, capsys.readouterr().err
            ran.append(words[1])
    assert ran == ["predict", "python"]
    for name in ("before_after.png", "motion.mp4", "prediction.json", "gaussians.ply"):
        assert (clone / "result" / name).stat().st_size > 0
    assert (clone / "half_open.ply").is_file()
    assert "REVOLUTE" in capsys.readouterr().out
