"""Makes docs/images/export.jpg: predictions of bundled examples as assets in MuJoCo, closed, open, and their collision.

MUJOCO_GL=egl python tools/docs/make_export_picture.py [--out docs/images/export.jpg]
"""

import argparse
import json
import tempfile
from importlib.resources import files
from pathlib import Path

import mujoco
import numpy as np
from PIL import Image

from partrm.api import PartRM
from partrm.assets.asset import AssetSettings
from partrm.assets.physics import USUAL_TURN_RAD
from partrm.imaging.drawing import to_bytes
from partrm.inference.prediction import Prediction, input_photo
from partrm.metrics.images import composite_on_white

SHOWN = ("microwave.png", "laptop.png", "refrigerator.png", "oven.png", "drawers.png")
SIDE_PX = 280
VISUAL, COLLISION = 2, 3
AZIMUTHS_DEG = (150, 150, 215, 150, 150)
"""Of the columns' cameras: MuJoCo looks along this direction."""


def picture(prediction: Prediction, folder: Path) -> np.ndarray:
    """One row: the image, the asset at rest and opened, opened from another side, its collision at rest and opened."""
    prediction.export(folder, AssetSettings(range="auto"), ("mjcf",))
    model = mujoco.MjModel.from_xml_path(str(folder / "object.xml"))
    model.vis.headlight.ambient[:], model.vis.headlight.diffuse[:] = 0.5, 0.45
    data, renderer = mujoco.MjData(model), mujoco.Renderer(model, SIDE_PX, SIDE_PX)
    lower, upper = model.jnt_range[0]
    # A drawer pulled out all the way leaves the picture.
    opened = 0.6 * upper if model.jnt_type[0] == mujoco.mjtJoint.mjJNT_SLIDE else min(upper, USUAL_TURN_RAD)
    shots = [shown(prediction)]
    positions, groups = (0.0, opened, opened, 0.0, opened), (VISUAL, VISUAL, VISUAL, COLLISION, COLLISION)
    for azimuth, q, group in zip(AZIMUTHS_DEG, positions, groups, strict=True):
        data.qpos[0] = max(lower, q)
        mujoco.mj_forward(model, data)
        camera, options = mujoco.MjvCamera(), mujoco.MjvOption()
        camera.lookat[:], camera.distance, camera.elevation, camera.azimuth = (0, 0, 0.17), 0.95, -22, azimuth
        options.geomgroup[:] = 0
        options.geomgroup[group] = 1
        shots.append(on_white_ground(renderer, data, camera, options))
    renderer.close()
    return np.concatenate(shots, 1)


def shown(prediction: Prediction) -> np.ndarray:
    """The input as the network framed it."""
    image = Image.fromarray(to_bytes(composite_on_white(input_photo(prediction.source)[0])))
    small = image.resize((3 * SIDE_PX // 4, 3 * SIDE_PX // 4), Image.Resampling.LANCZOS)
    framed = Image.new("RGB", (SIDE_PX, SIDE_PX), "white")
    framed.paste(small, ((SIDE_PX - small.width) // 2, (SIDE_PX - small.height) // 2))
    return np.asarray(framed)


def on_white_ground(renderer, data, camera, options) -> np.ndarray:
    """A render before white instead of MuJoCo's black."""
    renderer.update_scene(data, camera, options)
    rgb = renderer.render().copy()
    renderer.enable_segmentation_rendering()
    renderer.update_scene(data, camera, options)
    rgb[renderer.render()[..., 0] < 0] = 255
    renderer.disable_segmentation_rendering()
    return rgb


def main() -> None:
    """Make the picture."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("docs/images/export.jpg"))
    out = parser.parse_args().out
    root = Path(str(files("partrm") / "example_images"))
    known = {e["file"]: e for e in json.loads((root / "examples.json").read_text(encoding="utf-8"))["examples"]}
    model, rows = PartRM.from_pretrained("base", "cpu"), []
    with tempfile.TemporaryDirectory() as scratch:
        for name in SHOWN:
            about = known[name]
            found = model.predict(root / name, about["drags_px"], about["framing"])
            rows.append(picture(found, Path(scratch) / name))
    Image.fromarray(np.concatenate(rows, 0)).save(out, quality=85)


if __name__ == "__main__":
    main()
