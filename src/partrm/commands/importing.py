"""``partrm import``: public PartRM and LGM weights into a checkpoint folder."""

from pathlib import Path
from typing import Literal

import tyro

DESCRIPTION = """Bring public PartRM or LGM weights into a checkpoint folder of safetensors.

CKPT is a file (.safetensors, .ckpt, .pt, .pth, .bin) or hf:OWNER/NAME/FILE on the Hugging Face Hub. Pickle files are
read as plain tensors only; one that holds anything else is refused. Every weight must be there, in its shape, and
nothing else: otherwise nothing is written. LGM's weights give everything but the drag modules, which start neutral.

Examples:
  partrm import partrm.ckpt --out partrm-big
  partrm import hf:ashawkey/LGM/model_fp16_fixrot.safetensors --out lgm-big
  partrm import model.safetensors --preset small --out small
"""


def import_weights(
    ckpt: tyro.conf.Positional[str],
    out: Path,
    preset: Literal["auto", "big", "small", "tiny"] = "auto",
) -> None:
    """Bring public PartRM or LGM weights into a checkpoint folder of safetensors.

    Args:
        ckpt: file, or hf:OWNER/NAME/FILE.
        out: folder for the checkpoint; an older checkpoint there is replaced.
        preset: which network the weights are for; auto takes the one that fits best.
    """
    from partrm.commands.console import plain_console
    from partrm.files import check_writable
    from partrm.paper.import_weights import check_replaceable, fetch_checkpoint, import_checkpoint

    check_writable(out)
    check_replaceable(out)
    out.parent.mkdir(parents=True, exist_ok=True)
    console = plain_console()
    with console.status("reading and converting"):
        imported = import_checkpoint(fetch_checkpoint(ckpt), out, preset, origin=ckpt)
    whose = {"partrm": "PartRM", "lgm": "LGM (drag modules untrained)"}[imported.kind]
    console.print(f"{whose} {imported.config.name}: {imported.parameters / 1e6:.1f} M parameters in {imported.folder}")
    if imported.dropped:
        console.print(f"known and not needed: {', '.join(imported.dropped)}")
