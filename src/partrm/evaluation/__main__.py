"""``python -m partrm.evaluation pack|run|publish``: a set made on one machine, evaluated on another; results into docs.

``run`` needs neither the real objects' wheels nor what makes procedural objects.
"""

import sys
from pathlib import Path
from typing import Literal

import tyro

from partrm.evaluation.eval_set import load_eval_set, save_eval_set
from partrm.evaluation.publish import publish
from partrm.evaluation.published import digest_lines
from partrm.evaluation.samples import InputFraming, RunSettings
from partrm.evaluation.session import Listener, RunOptions, evaluate_into, plan_set
from partrm.metrics.lpips import find_lpips


def pack(
    data: Literal["procedural", "real"],
    out: Path,
    limit: int | None = None,
    seed: int = 0,
    digests: Path | None = None,
    kinds: tuple[str, ...] = (),
    motion_share: float = 1.0,
) -> None:
    """Plan a set and write it to one file.

    Args:
        data: which set.
        out: file to write (.safetensors).
        limit: number of samples (procedural: 500 unless given).
        seed: of procedural states and cameras.
        digests: text file to write the samples' digests to, as ``procedural.sha256`` holds them.
        kinds: procedural categories other than the published 34, such as ``toilet lamp``.
        motion_share: cut procedural motions to this share: short drags.
    """
    evalset = plan_set(data, limit, seed, Listener(print), kinds=kinds, motion_share=motion_share)
    save_eval_set(evalset, out)
    print(f"{out}: {len(evalset)} samples of {len(evalset.object_names)} objects, checksum {evalset.checksum}")
    if digests is not None:
        digests.write_text("\n".join(digest_lines(evalset)) + "\n", encoding="utf-8")
    for reason in evalset.dropped:
        print(f"left out: {reason}")


def run(
    set: Path,
    out: Path,
    model: str = "base",
    device: Literal["auto", "cpu", "cuda"] = "auto",
    views: int = 1,
    drags: int = 1,
    framing: InputFraming = "canonical",
    limit: int | None = None,
    novel_size_px: int = 256,
    workers: int = 1,
    lpips: Literal["auto", "none"] | Path = "auto",
) -> None:
    """Evaluate a model on a packed set.

    Args:
        set: file that ``pack`` wrote.
        out: folder for the results.
        model: name of the bundled weights, or a checkpoint folder.
        device: auto takes a CUDA device if there is one.
        views: input views, 1 to 4.
        drags: drags of each sample, 1 to 10.
        framing: of single images: the object's true centre and size, or its outline, as ``predict`` frames photos.
        limit: only the first samples.
        novel_size_px: side of the images from around.
        workers: processes on the CPU.
        lpips: auto computes it where VGG16's weights lie in the hub's cache; or their file.
    """
    settings = RunSettings(views, drags, limit, novel_size_px, framing)
    evaluate_into(
        load_eval_set(set), out, RunOptions(model, device, workers, lpips=find_lpips(lpips)), settings, Listener(print)
    )


def to_docs(results: tuple[Path, ...], docs: Path = Path("docs/report")) -> None:
    """Put the pages of evaluations and one table of all into the documentation.

    Args:
        results: folders that ``partrm eval`` wrote.
        docs: folder for ``README.md`` and one page each.
    """
    for path in publish(results, docs):
        print(f"{path}: {path.stat().st_size} bytes")


if __name__ == "__main__":
    commands = {"pack": pack, "run": run, "publish": to_docs}
    try:
        tyro.extras.subcommand_cli_from_dict(commands, prog="python -m partrm.evaluation")
    except ValueError as error:  # ours say what is wrong, in one line
        print(f"python -m partrm.evaluation: {error}", file=sys.stderr)
        sys.exit(1)
