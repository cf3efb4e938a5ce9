"""A moving picture of arms that open true objects, led by predictions: docs/images/arm.gif.

Six samples of packed sets, each as SET.safetensors:NUMBER; all that is shown is one run each, whatever comes of it.

    MUJOCO_GL=egl python tools/docs/make_arm_film.py real.safetensors:0 procedural.safetensors:18 …
"""

from pathlib import Path

import numpy as np
import torch
import tyro
from PIL import Image

from partrm.evaluation.eval_set import load_eval_set
from partrm.evaluation.samples import RunSettings
from partrm.model.checkpoints import load_model
from partrm.robotics.arm import open_with_arm
from partrm.robotics.arm_evaluation import ArmJob
from partrm.robotics.film import Film
from partrm.robotics.manipulation import task_of
from partrm.robotics.simulated_arm import ArmSettings

COLUMNS = 3
FRAME_MS = 120
COLORS = 48


def pictures_of(sample: str, size_px: tuple[int, int], frames: int) -> list[np.ndarray]:
    """One run, at equal steps of its time."""
    path, number = sample.rsplit(":", 1)
    evalset, row = load_eval_set(Path(path)), int(number)
    settings = ArmSettings()
    job = ArmJob(evalset, "base", RunSettings(), settings, ("predicted",))
    operator = job.scorer(load_model("base", torch.device("cpu")))
    believed, task = operator.believed([row])[0], task_of(evalset, row, settings.diagonal_m)
    aside = believed.seen_from - believed.start
    turned = believed.start + np.array(
        [0.5 * aside[0] - 0.9 * aside[1], 0.9 * aside[0] + 0.5 * aside[1], aside[2] + 0.3]
    )
    film = Film(0.6 * believed.start, turned, size_px, every_s=0.5, distance_m=1.35)
    result = open_with_arm(task, believed, settings, operator.kinematics, row, film)
    print(f"{sample}: {evalset.categories[int(evalset.plan.object[row])]}, {result.ending}, {result.opened:.0%}")
    if not film.pictures:
        raise SystemExit(f"{sample}: {result.ending}: there is no run to show")
    chosen = np.linspace(0, len(film.pictures) - 1, frames).round().astype(int)
    return [film.pictures[index] for index in chosen]


def main(
    samples: tyro.conf.Positional[tuple[str, ...]],
    out: Path = Path("docs/images/arm.gif"),
    width: int = 240,
    height: int = 180,
    frames: int = 22,
) -> None:
    runs = [pictures_of(sample, (width, height), frames) for sample in samples]
    rows = [runs[first : first + COLUMNS] for first in range(0, len(runs), COLUMNS)]
    sheets = [np.concatenate([np.concatenate([run[t] for run in row], 1) for row in rows]) for t in range(frames)]
    images = [Image.fromarray(sheet) for sheet in sheets]
    palette = images[0].quantize(COLORS)
    first, *others = [image.quantize(palette=palette, dither=Image.Dither.NONE) for image in images]
    first.save(out, save_all=True, append_images=others, duration=FRAME_MS, loop=0, optimize=True)
    print(f"{out}: {out.stat().st_size / 1e6:.2f} MB")


if __name__ == "__main__":
    tyro.cli(main)
