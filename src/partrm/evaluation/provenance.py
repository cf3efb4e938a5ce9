"""Which code made some figures: version, commit, and a hash of the package's source that any change of it changes."""

import hashlib
import subprocess
from importlib import resources
from pathlib import Path

from partrm import __version__

GIT_SECONDS = 10


def source_hash() -> str:
    """First 16 hex digits of the SHA-256 over names and lines of all of the package's modules, in order."""
    root = Path(str(resources.files("partrm")))
    digest = hashlib.sha256()
    for path in sorted(root.rglob("*.py")):
        text = path.read_text(encoding="utf-8").replace("\r\n", "\n")
        digest.update(f"{path.relative_to(root).as_posix()}\0{text}\0".encode())
    return digest.hexdigest()[:16]


def git_commit() -> str | None:
    """Commit of the checkout that the package runs from; None for an installed package, or without git."""
    root = Path(str(resources.files("partrm")))
    command = ["git", "-C", str(root), "ls-files", "--error-unmatch", "__init__.py"]
    try:
        if subprocess.run(command, capture_output=True, timeout=GIT_SECONDS, check=False).returncode:
            return None
        command = ["git", "-C", str(root), "rev-parse", "HEAD"]
        done = subprocess.run(command, capture_output=True, timeout=GIT_SECONDS, check=True, text=True)
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.strip()


def code_version() -> dict[str, str]:
    """What figures depend on; the commit does not belong to it, since it changes with files that are no code."""
    return {"version": __version__, "source": source_hash()}
