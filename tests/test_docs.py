"""Every relative link and picture of the root's pages and docs/ leads to a file, or to a heading of one."""

import re
import subprocess
from pathlib import Path

import pytest

import partrm

ROOT = Path(__file__).parents[1]
PAGES = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")])
LINK = re.compile(r"\]\(\s*<?([^)\s>]+)")
CODE = re.compile(r"^```[\s\S]*?^```|^(?: {4}|\t).*$|`[^`\n]*`", re.MULTILINE)
EXTERNAL = re.compile(r"[a-z][a-z0-9+.-]*:", re.IGNORECASE)
ABSOLUTE = re.compile(r"(?<![\w.:)\]}*>~<$%/\\-])(?:/|[A-Z]:[\\/]+)([A-Za-z][\w.-]*)[\\/]+[\w.{}-]+")
"""An absolute path of two folders or more, and its first; no URL, no closing tag, no part of a relative path."""
EVERYWHERE = {"bin", "dev", "etc", "proc", "usr"}
SCENE_NODES = {"gallery", "object"}
"""What the viewer names its nodes by."""
INVENTED = {"data", "elsewhere"}
"""First folders of paths that no test opens."""
OUTSIDE = re.compile(r"(?<![\w./\\-])((?:\.\./)+\w[\w./-]*)")
PRIVATE_PAGES = re.compile(r"\bDESIGN (?:§|section|\d)")
TEXT = {".cff", ".html", ".json", ".jsonl", ".md", ".py", ".sha256", ".toml", ".txt", ""}


def links(text: str) -> list[str]:
    """Targets of Markdown links and pictures outside of code; a linked picture gives both."""
    return LINK.findall(CODE.sub("", text))


def anchors(text: str) -> set[str]:
    """The names that GitHub gives to the headings of a page; the second of a name ends in ``-1``, and so on."""
    seen: dict[str, int] = {}
    names = set()
    for heading in re.findall(r"^#{1,6} +(.+?) *#*$", text, flags=re.MULTILINE):
        plain = re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", heading).lower()
        name = re.sub(r"[^\w\- ]", "", plain).replace(" ", "-")
        count = seen.get(name, 0)
        seen[name] = count + 1
        names.add(f"{name}-{count}" if count else name)
    return names


def broken(page: Path) -> list[str]:
    """Relative links of a page that lead nowhere."""
    found = []
    for link in links(page.read_text(encoding="utf-8")):
        if EXTERNAL.match(link):
            continue
        path, _, anchor = link.partition("#")
        target = page.parent / path if path else page
        lost = bool(anchor) and target.suffix == ".md" and target.exists() and anchor not in anchors(target.read_text())
        if lost or not target.exists():
            found.append(link)
    return found


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_lead_somewhere(page: Path):
    assert broken(page) == []


def local_words(path: Path) -> list[str]:
    """What of a text file only its author's machine has: absolute paths, and in pages paths out of the repository."""
    text = re.sub(r"data:[\w/+;,=.-]*", "", path.read_text(encoding="utf-8"))
    known = EVERYWHERE | SCENE_NODES | INVENTED
    found = [match[0] for match in ABSOLUTE.finditer(text) if match[1] not in known]
    if path.suffix == ".md":
        found += [name for name in OUTSIDE.findall(text) if not (path.parent / name).exists()]
        found += PRIVATE_PAGES.findall(text)
    return found


def test_nothing_of_an_authors_machine():
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=False)
    if listed.returncode:
        pytest.skip("not a checkout: nothing says which files are the repository's")
    files = [ROOT / name for name in listed.stdout.split("\0") if name and Path(name).suffix in TEXT]
    assert len(files) > len(PAGES)
    found = {str(path.relative_to(ROOT)): words for path in files if path.is_file() and (words := local_words(path))}
    assert found == {}


@pytest.mark.parametrize("root", ["/home", "/root", "/tmp", "/Users", "/opt", "C:\\Users", "/scratch"])
def test_paths_of_a_machine_are_found(root: str, tmp_path: Path):
    page = tmp_path / "page.md"
    page.write_text(f"As in `{root}/someone/notes.txt`, or `python run.py --out={root}/someone`.\n")
    assert len(local_words(page)) == 2
    page.write_text("See `../notes/list.txt`, https://example.org/a/b, src/partrm/api.py, page.md/x/y and 1/2/3.\n")
    assert local_words(page) == ["../notes/list.txt"]


def test_every_page_is_reached_from_the_readme():
    reached, todo = set(), [ROOT / "README.md"]
    while todo:
        page = todo.pop().resolve()
        if page in reached:
            continue
        reached.add(page)
        targets = (link.partition("#")[0] for link in links(page.read_text(encoding="utf-8")))
        todo += [page.parent / path for path in targets if path.endswith(".md") and not EXTERNAL.match(path)]
    assert {page.resolve() for page in PAGES} <= reached


def test_broken_links_are_found(tmp_path: Path):
    (tmp_path / "there.md").write_text("# A `b`: c, d\n\n## Twice\n\n## Twice\n")
    page = tmp_path / "page.md"
    good = ["there.md", "there.md#a-b-c-d", "there.md#twice-1", "#here", "https://example.org/x"]
    bad = ["gone.md", "there.md#twice-2", "#nowhere", "gone.png", "shown.png", "linked.md"]
    lines = [f"[text]({link})" for link in (*good, *bad[:3])]
    lines += [f"![picture]({bad[3]})", f"[![picture]({bad[4]})]({bad[5]})"]
    page.write_text("# Here\n\n" + "\n".join(lines) + "\n\n    [code](not-a-link.md)\n")
    assert sorted(broken(page)) == sorted(bad)


def test_the_release_is_the_same_everywhere():
    """The changelog's newest release, the citation and the package; changes after it stand under Unreleased."""
    heading = re.search(
        r"^## (\d+\.\d+\.\d+) \((\d{4}-\d\d-\d\d)\)$", (ROOT / "CHANGELOG.md").read_text(), re.MULTILINE
    )
    citation = (ROOT / "CITATION.cff").read_text()
    assert heading is not None
    assert heading[1] == partrm.__version__
    assert f"\nversion: {heading[1]}\ndate-released: {heading[2]}\n" in citation
