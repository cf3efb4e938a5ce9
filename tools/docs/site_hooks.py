"""What the site adds to docs/: pages of the repository's root, the examples, and links that hold on both.

Files of docs/ are written to be read in the repository. On the site, links to files that are no page lead to the
repository's address (`repo_url` of mkdocs.yml), or become the file's name where there is none.
"""

import ast
import posixpath
import re
from pathlib import Path

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

ROOT = Path(__file__).parents[2]
ROOT_PAGES = {
    "README.md": "index.md",
    "CHANGELOG.md": "changelog.md",
    "CONTRIBUTING.md": "contributing.md",
    "CODE_OF_CONDUCT.md": "code_of_conduct.md",
    "SECURITY.md": "security.md",
    "THIRD_PARTY_LICENSES.md": "third_party_licenses.md",
    "examples": "examples.md",
}
"""What of the repository's root is a page, as far as it is there, and the page's name."""
LINK = re.compile(r"(!?)\[((?:[^\[\]]|\[[^\]]*\])*)\]\(([^)\s]+)\)")
CODE = re.compile(r"(^```[\s\S]*?^```|^(?: {4}|\t).*$|`[^`\n]*`)", re.MULTILINE)
EXTERNAL = re.compile(r"[a-z][a-z0-9+.-]*:|#|//", re.IGNORECASE)


def on_config(config: MkDocsConfig) -> MkDocsConfig:
    """Name the security policy in the navigation, where there is one."""
    if config.nav and (ROOT / "SECURITY.md").is_file():
        (project,) = [entry["Project"] for entry in config.nav if "Project" in entry]
        project.append({"Security": ROOT_PAGES["SECURITY.md"]})
    return config


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the pages that are not in docs/."""
    for source, name in ROOT_PAGES.items():
        if (ROOT / source).is_file():
            text = (ROOT / source).read_text(encoding="utf-8")
            files.append(File.generated(config, name, content=text))
    files.append(File.generated(config, "examples.md", content=examples_page()))
    return files


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Bend the links of a page to where their targets are on the site."""
    sources = {name: source for source, name in ROOT_PAGES.items()}
    where = sources.get(page.file.src_uri, f"docs/{page.file.src_uri}")
    pages = {file.src_uri for file in files}

    def bend(match: re.Match[str]) -> str:
        return site_link(match, where, page.file.src_uri, pages, config.repo_url or "")

    pieces = CODE.split(markdown)
    return "".join(piece if i % 2 else LINK.sub(bend, piece) for i, piece in enumerate(pieces))


def site_link(match: re.Match[str], where: str, page: str, pages: set[str], repository: str) -> str:
    """One link as the site has it.

    Args:
        match: of LINK.
        where: the page's file, from the repository's root.
        page: its name on the site.
        pages: names of all files of the site.
        repository: its address, or nothing.
    """
    mark, text, target = match.groups()
    if EXTERNAL.match(target):
        return match[0]
    path, _, anchor = target.partition("#")
    full = posixpath.normpath(posixpath.join(posixpath.dirname(where), path))
    name = ROOT_PAGES.get(full, full.removeprefix("docs/") if full.startswith("docs/") else "")
    if name in pages:
        relative = posixpath.relpath(name, posixpath.dirname(page) or ".")
        return f"{mark}[{text}]({relative}{'#' if anchor else ''}{anchor})"
    if not (ROOT / full).exists():
        return match[0]  # mkdocs says that it is broken
    if repository:
        return f"{mark}[{text}]({repository.rstrip('/')}/blob/main/{full})"
    return text if text in (f"`{full}`", full) else f"{text} (`{full}`)"


def examples_page() -> str:
    """The numbered examples: what they say of themselves, and their code."""
    parts = ["# Examples\n\nFiles of the repository's folder `examples/`; the tests run them as they are.\n"]
    for path in sorted((ROOT / "examples").glob("*.py")):
        text = path.read_text(encoding="utf-8")
        docstring = ast.get_docstring(ast.parse(text)) or ""
        title, _, rest = docstring.partition("\n")
        heading, _, said = title.partition(":")
        code = text.split('"""', 2)[2].strip()
        parts.append(f"## {heading.strip()}\n\n{said.strip().capitalize()}\n{rest}\n\n```python\n{code}\n```\n")
    return "\n".join(parts)
