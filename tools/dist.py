"""Build what goes to a package index: `partrm` without its weights, and `partrm-weights`, which it depends on.

From the repository root: ``python tools/dist.py``; writes into ``dist/``. A fix of the code is then a small download.
``pip install .`` in a clone needs none of this: there the weights are data of the package itself.
"""

import argparse
import shutil
import subprocess
import sys
import tempfile
import tomllib
from collections.abc import Sequence
from pathlib import Path

ROOT = Path(__file__).parents[1]
WEIGHTS = Path("src/partrm/model/weights")
SHIPPED = (
    "pyproject.toml", "MANIFEST.in", "README.md", "LICENSE", "THIRD_PARTY_LICENSES.md", "CHANGELOG.md", "CITATION.cff",
    "constraints.txt", "src", "examples",
)  # fmt: skip
DEPENDENCIES = "dependencies = [\n"


def weights_requirement(root: Path) -> str:
    """The weights that this code goes with."""
    project = tomllib.loads((root / "weights" / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    return f"{project['name']}=={project['version']}"


def code_tree(root: Path, target: Path) -> None:
    """Copy the sources without weights, which become a dependency.

    Raises:
        ValueError: pyproject.toml has no list of dependencies where it is looked for.
    """
    target.mkdir()
    for name in SHIPPED:
        if (root / name).is_dir():
            left = shutil.ignore_patterns("__pycache__", "*.egg-info", "build", WEIGHTS.name)
            shutil.copytree(root / name, target / name, ignore=left)
        else:
            shutil.copy(root / name, target / name)
    before, found, after = (target / "pyproject.toml").read_text(encoding="utf-8").partition(DEPENDENCIES)
    if not found:
        raise ValueError(f"pyproject.toml: no line {DEPENDENCIES.strip()!r}")
    text = f'{before}{found}    "{weights_requirement(root)}",\n{after}'
    (target / "pyproject.toml").write_text(text, encoding="utf-8")


def weights_tree(root: Path, target: Path) -> None:
    """Lay out the package of the weights."""
    package = target / "partrm_weights"
    shutil.copytree(root / WEIGHTS, package)
    (package / "__init__.py").write_text('"""Weights of PartRM, a folder each; `partrm` finds them."""\n')
    shutil.copy(root / "weights" / "pyproject.toml", target / "pyproject.toml")
    shutil.copy(root / "LICENSE", target / "LICENSE")
    shutil.copy(root / "docs" / "model_card.md", target / "README.md")


def build_all(root: Path, out: Path, options: Sequence[str] = ()) -> None:
    """Write wheel and sdist of the code and the wheel of the weights into a folder.

    Args:
        root: the repository.
        out: made if missing.
        options: of ``python -m build``.

    Raises:
        subprocess.CalledProcessError: a build failed; its output tells why.
    """
    with tempfile.TemporaryDirectory() as scratch:
        code, weights = Path(scratch) / "partrm", Path(scratch) / "partrm-weights"
        code_tree(root, code)
        weights_tree(root, weights)
        command = [sys.executable, "-m", "build", "--outdir", str(out.absolute()), *options]
        subprocess.run([*command, str(code)], check=True)
        subprocess.run([*command, "--wheel", str(weights)], check=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=ROOT / "dist", help="folder of the packages")
    out = parser.parse_args().out
    build_all(ROOT, out)
    for path in sorted(out.iterdir()):
        print(f"{path}: {path.stat().st_size / 1e6:.2f} MB")


if __name__ == "__main__":
    main()
