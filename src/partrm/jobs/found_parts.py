"""The files of a job that finds parts: those of ``partrm parts``, and of each part those of a prediction."""

import json
from collections.abc import Collection, Sequence
from pathlib import Path

from partrm.assets.asset import AssetSettings
from partrm.assets.export import DEFAULT_FORMATS
from partrm.inference.part_search import RECORD, FoundPart, export_parts, save_parts
from partrm.inference.prediction import Output, save_prediction

ASSET_SETTINGS = AssetSettings(0.6, range="auto", force=True)
"""Those of ``partrm parts``."""


def save_found(found: Sequence[FoundPart], folder: Path, outputs: Collection[Output], asset: bool) -> None:
    """Write found parts; the same parts are the same bytes.

    ``parts.json``, ``parts.png`` and a mask of each part always; ``part_N/``, the prediction of each, where more of
    predictions is asked for than that; ``asset/`` of them all.

    Args:
        found: the surest first.
        folder: made here.
        outputs: of the predictions.
        asset: whether there is an asset.

    Raises:
        PackageMissingError: a package of the extra ``export`` is missing.
    """
    folder.mkdir()
    about = save_parts(found, folder)
    if set(outputs) - {"json", "masks"}:
        for part, described in zip(found, about["parts"], strict=True):
            described["prediction"] = f"part_{described['number']}"
            save_prediction(part.prediction, folder / described["prediction"], outputs=outputs, timings=False)
    if asset:
        about["asset"] = export_parts(found, folder, ASSET_SETTINGS, DEFAULT_FORMATS, "object", timings=False)
    (folder / RECORD).write_text(json.dumps(about, indent=1, allow_nan=False) + "\n", encoding="utf-8")
