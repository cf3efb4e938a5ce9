"""A small file of jobs: the command that does it, and what stands in its folder then."""

from hashlib import sha256
from pathlib import Path


def arguments(folder: Path, out: Path, *more: str) -> list[str]:
    """The command that does the jobs of ``folder`` into ``out``."""
    words = ["--jobs", folder / "jobs.jsonl", "--out", out, "--model", folder / "tiny", "--save", "json", "ply"]
    return ["predict", *map(str, words), "--batch", "2", *more]


def tree(root: Path) -> dict[str, str]:
    """Hashes of all files, by name."""
    return {str(p.relative_to(root)): sha256(p.read_bytes()).hexdigest() for p in root.rglob("*") if p.is_file()}
