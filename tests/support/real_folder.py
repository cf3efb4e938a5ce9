"""Where a real PartNet-Mobility download lies, for tests."""

from pathlib import Path

import pytest


def real_folder() -> Path:
    """Object 3763 of the genesis-world wheel (non-commercial terms: read where installed, never copied here)."""
    from importlib.metadata import PackageNotFoundError, distribution

    try:
        found = Path(str(distribution("genesis-world").locate_file("genesis/assets/urdf/3763")))
    except PackageNotFoundError:
        pytest.skip("the genesis-world wheel is not installed")
    if not found.is_dir():
        pytest.skip("this genesis-world has no folder 3763")
    return found
