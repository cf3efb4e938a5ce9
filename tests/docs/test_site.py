"""The documentation site: links bend to where their targets are, and the whole of it builds without a warning."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

pytest.importorskip("mkdocs", reason="the site needs the extra `docs`")

from site_hooks import LINK, ROOT_PAGES, examples_page, site_link

ROOT = Path(__file__).parents[2]


def bent(link: str, where: str, page: str, repository: str = "") -> str:
    match = LINK.fullmatch(link)
    assert match
    pages = {"index.md", "train.md", "api.md", "experiments/run-1.md", "changelog.md", "images/demo.png", "examples.md"}
    return site_link(match, where, page, pages, repository)


@pytest.mark.parametrize(
    ("link", "where", "page", "wanted"),
    [
        ("[a](docs/train.md#resume)", "README.md", "index.md", "[a](train.md#resume)"),
        ("![a](docs/images/demo.png)", "README.md", "index.md", "![a](images/demo.png)"),
        ("[a](../train.md)", "docs/experiments/run-1.md", "experiments/run-1.md", "[a](../train.md)"),
        ("[a](../CHANGELOG.md)", "docs/train.md", "train.md", "[a](changelog.md)"),
        ("[a](../examples)", "docs/train.md", "train.md", "[a](examples.md)"),
        ("[`a`](https://example.org/x.md)", "README.md", "index.md", "[`a`](https://example.org/x.md)"),
        ("[a](#here)", "README.md", "index.md", "[a](#here)"),
        ("[a](gone.md)", "docs/train.md", "train.md", "[a](gone.md)"),
        ("[cli](../src/partrm/cli.py)", "docs/train.md", "train.md", "cli (`src/partrm/cli.py`)"),
        ("[Makefile](Makefile)", "README.md", "index.md", "Makefile"),
    ],
)
def test_links_lead_to_pages_or_name_their_files(link, where, page, wanted):
    assert bent(link, where, page) == wanted


def test_links_to_sources_lead_to_the_repository_where_it_has_an_address():
    found = bent("[cli](../src/partrm/cli.py)", "docs/train.md", "train.md", "https://example.org/partrm/")
    assert found == "[cli](https://example.org/partrm/blob/main/src/partrm/cli.py)"


def test_every_example_is_on_its_page():
    page = examples_page()
    scripts = sorted((ROOT / "examples").glob("*.py"))
    assert page.count("```python") == len(scripts) == page.count("\n## ")
    assert all(f"python examples/{path.name}" in page for path in scripts)
    assert '```python\n"""' not in page, "a docstring is text there, not code"


def test_every_page_is_in_the_navigation():
    text = (ROOT / "mkdocs.yml").read_text(encoding="utf-8")
    nav = set(re.findall(r"([\w/-]+\.md)$", text, flags=re.MULTILINE))
    pages = {str(path.relative_to(ROOT / "docs")) for path in (ROOT / "docs").rglob("*.md")}
    generated = {name for source, name in ROOT_PAGES.items() if (ROOT / source).exists()}
    assert pages <= nav, "pages that no tab leads to"
    assert nav <= pages | generated, "tabs that lead to no page"


def test_the_site_builds_without_a_warning_and_searches_offline(tmp_path):
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(tmp_path / "site")]
    env = os.environ | {"NO_MKDOCS_2_WARNING": "1"}
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, env=env, timeout=300)
    assert done.returncode == 0, done.stderr
    site = tmp_path / "site"
    api = (site / "api.html").read_text(encoding="utf-8")
    for name in ("partrm.api.PartRM.predict", "partrm.geometry.joints.JointMotion.motion"):
        assert f'id="{name}"' in api
    assert (site / "search" / "search_index.js").stat().st_size > 100_000
    for page in site.rglob("*.html"):
        if "report" in page.parts:
            continue
        text = page.read_text(encoding="utf-8")
        assert not re.findall(r'<(?:script|link|img)[^>]*(?:src|href)="(https?://[^"]+)"', text), page.name


def test_workflows_and_forms_are_yaml():
    files = [*(ROOT / ".github").rglob("*.yml"), ROOT / ".pre-commit-config.yaml"]
    assert len(files) > 5
    for path in files:
        assert isinstance(yaml.safe_load(path.read_text(encoding="utf-8")), dict), path.name
