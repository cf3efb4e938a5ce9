"""Every transition of every real object in one picture: drag, part found, prediction, truth, the failures too.

From the repository root, with ``make eval-objects`` done and an evaluation to take the figures from:
``partrm eval --data real --out eval_real``, then ``python tools/docs/make_real_pictures.py eval_real``.
Writes ``docs/images/real_objects.jpg``.
"""

import argparse
from pathlib import Path

import numpy as np
from PIL import Image

from partrm.evaluation.html_report import QualitativeExample, examples_of
from partrm.evaluation.results import load_results
from partrm.evaluation.session import plan_real_set
from partrm.imaging.drawing import draw_label
from partrm.model.checkpoints import load_model

OUT = Path("docs/images/real_objects.jpg")
COLUMNS, PANEL_PX, PANELS_SHOWN = 3, 128, 4
MIDDLE = (24, 24, 232, 232)
"""What is shown of a panel of 256²: left, top, right, bottom."""

AT_A_TIME = 3
"""Transitions of one joint, predicted together."""


def tile(example: QualitativeExample) -> np.ndarray:
    """Source with its drag, the part found, prediction and truth, under a line of text."""
    panels = [
        Image.fromarray(panel).resize((PANEL_PX, PANEL_PX), box=MIDDLE) for panel in example.panels[:PANELS_SHOWN]
    ]
    what, metrics = example.row.label, example.row.metrics.model
    text = f"{what.object}, {what.transition}: IoU {metrics.iou:.2f}, motion error {metrics.motion_error_ratio:.2f}"
    return draw_label(np.concatenate([np.asarray(panel) for panel in panels], 1), text)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("results", type=Path, help="folder of an evaluation of the real set")
    results = load_results(parser.parse_args().results)
    rows, settings = results.samples, results.identity.settings
    evalset, model = plan_real_set(), load_model("base")
    tiles = []
    for first in range(0, len(rows), AT_A_TIME):
        some = {row.label.sample: row.label.transition for row in rows[first : first + AT_A_TIME]}
        tiles += [tile(example) for example in examples_of(evalset, model, settings, rows, some)]
    lines = [np.concatenate(tiles[i : i + COLUMNS], 1) for i in range(0, len(tiles), COLUMNS)]
    Image.fromarray(np.concatenate(lines, 0)).save(OUT, quality=88)
    print(OUT)


if __name__ == "__main__":
    main()
