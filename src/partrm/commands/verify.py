"""``partrm verify``: golden files on this machine's backends."""

from pathlib import Path

import tyro

DESCRIPTION = """Check this installation: compute what golden files hold, and compare.

Each FILE holds inputs and answers of the reference implementation (a network, or splats with their gradients).
Prints the worst error of each quantity; exit code 1 if one is beyond its tolerance.

Examples:
  partrm verify splat_a.npz
  partrm verify golden/network.safetensors golden/splat_a.npz golden/splat_b.npz
"""


def verify(files: tyro.conf.Positional[tuple[Path, ...]]) -> int:
    """Check this installation against golden files.

    Args:
        files: golden files, .npz (splats) or .safetensors (network).
    """
    from partrm.commands import UsageError
    from partrm.verify import verify_file

    if not files:
        raise UsageError("give at least one golden file")
    passed = [verify_file(file) for file in files]
    return 0 if all(passed) else 1
