"""``partrm verify``: golden files on this machine's backends."""

from pathlib import Path
from typing import Literal

import tyro

DESCRIPTION = """Check this installation: compute what golden files hold, and compare.

Each FILE holds inputs and answers of the reference implementation: splats with their gradients (.npz) or a network
with its weights (.safetensors). Without FILE two small ones of the package are taken, which hold what brute force in
double precision makes of Gaussians.

Prints the error of each quantity; exit code 1 if one is beyond its tolerance.

Examples:
  partrm verify
  partrm verify splat_a.npz
  partrm verify golden/splat_a.npz golden/network.safetensors --device cuda
"""


def verify(files: tyro.conf.Positional[tuple[Path, ...]] = (), device: Literal["auto", "cpu", "cuda"] = "auto") -> int:
    """Check this installation against golden files.

    Args:
        files: golden files; those of the package if left out.
        device: auto takes the CPU, and a CUDA device if there is one.
    """
    from rich.console import Console
    from rich.markup import escape
    from rich.table import Table

    from partrm.paper.verify import packaged_goldens, verify_file

    console, passed = Console(), True
    for file in files or packaged_goldens():
        table = Table(
            "backend", "quantity", "mean", "worst", "tolerance", "", title=escape(str(file)), title_justify="left"
        )
        for check in verify_file(file, device):
            verdict = "[green]ok[/green]" if check.ok else "[red]beyond[/red]"
            table.add_row(
                check.backend, check.quantity, f"{check.mean:.1e}", f"{check.worst:.1e}", check.tolerance, verdict
            )
            passed &= check.ok
        console.print(table)
    return 0 if passed else 1
