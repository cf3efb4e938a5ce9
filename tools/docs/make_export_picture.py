"""Makes docs/images/export.jpg: predictions of bundled examples as assets in MuJoCo, closed, open, and their collision;
with --parts docs/images/export_parts.jpg: one asset of three predictions.

MUJOCO_GL=egl python tools/docs/make_export_picture.py [--parts] [--out docs/images/export.jpg]
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
from partrm.assets.export import export_prediction
from partrm.assets.physics import USUAL_TURN_RAD
from partrm.assets.predicted_parts import merge_parts
from partrm.imaging.drawing import to_bytes
from partrm.inference.prediction import Prediction, input_photo
from partrm.metrics.images import composite_on_white

SHOWN = ("microwave.png", "laptop.png", "refrigerator.png", "oven.png", "drawers.png")
SIDE_PX = 280
VISUAL, COLLISION = 2, 3
AZIMUTHS_DEG = (150, 150, 215, 150, 150)
"""Of the columns' cameras: MuJoCo looks along this direction."""

SEVERAL = "drawers.png"
SEVERAL_DRAGS = ((214, 126, 243, 140), (198, 192, 227, 206), (199, 223, 228, 237))
SEVERAL_SHOTS = (
    (150, (0, 0, 0), VISUAL),
    (150, (0, 1, 0), VISUAL),
    (150, (1, 0.6, 0.3), VISUAL),
    (215, (1, 0.6, 0.3), VISUAL),
    (150, (1, 0.6, 0.3), COLLISION),
)
"""Azimuth, shares of how far each part is opened, and what is shown."""
SEVERAL_LIGHT = (0.3, 0.15)
"""White fronts stay below white."""


def picture(prediction: Prediction, folder: Path) -> np.ndarray:
    """One row: the image, the asset at rest and opened, opened from another side, its collision at rest and opened."""
    prediction.export(folder, AssetSettings(range="auto"), ("mjcf",))
    shares, groups = (0, 1, 1, 0, 1), (VISUAL, VISUAL, VISUAL, COLLISION, COLLISION)
    shots = [(azimuth, (share,), group) for azimuth, share, group in zip(AZIMUTHS_DEG, shares, groups, strict=True)]
    return np.concatenate([shown(prediction), *simulated(folder, shots)], 1)


def picture_of_parts(model: PartRM, image: Path, folder: Path) -> np.ndarray:
    """The image, and the asset of several drags at rest, opened one by one, and its collision."""
    views = model.open(image)
    predictions = [model.predict(views, [drag]) for drag in SEVERAL_DRAGS]
    merged = merge_parts([prediction.to_predicted() for prediction in predictions])
    export_prediction(merged, folder, AssetSettings(range="auto"), ("mjcf",))
    return np.concatenate([shown(predictions[0]), *simulated(folder, SEVERAL_SHOTS, SEVERAL_LIGHT)], 1)


def simulated(folder: Path, views, light: tuple[float, float] = (0.5, 0.45)) -> list[np.ndarray]:
    """Renders of an asset.

    Args:
        folder: of the asset.
        views: azimuth in degrees, shares of how far the parts are opened, and group of geometries of each.
        light: ambient and diffuse, beside the asset's own.
    """
    model = mujoco.MjModel.from_xml_path(str(folder / "object.xml"))
    model.vis.headlight.ambient[:], model.vis.headlight.diffuse[:] = light
    data, renderer = mujoco.MjData(model), mujoco.Renderer(model, SIDE_PX, SIDE_PX)
    lower, upper = model.jnt_range.T
    # A drawer pulled out all the way leaves the picture.
    slides = model.jnt_type == mujoco.mjtJoint.mjJNT_SLIDE
    opened, shots = np.where(slides, 0.6 * upper, np.minimum(upper, USUAL_TURN_RAD)), []
    for azimuth, shares, group in views:
        for joint, share in enumerate(shares, start=1):
            name = "joint" if model.njnt == 1 else f"joint_{joint}"
            number = model.joint(name).id
            data.qpos[number] = max(lower[number], share * opened[number])
        mujoco.mj_forward(model, data)
        camera, options = mujoco.MjvCamera(), mujoco.MjvOption()
        camera.lookat[:], camera.distance, camera.elevation, camera.azimuth = (0, 0, 0.17), 0.95, -22, azimuth
        options.geomgroup[:] = 0
        options.geomgroup[group] = 1
        shots.append(on_white_ground(renderer, data, camera, options))
    renderer.close()
    return shots


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
    parser.add_argument("--parts", action="store_true", help="the asset of several parts")
    parser.add_argument("--out", type=Path)
    arguments = parser.parse_args()
    out = arguments.out or Path("docs/images") / ("export_parts.jpg" if arguments.parts else "export.jpg")
    root = Path(str(files("partrm") / "example_images"))
    known = {e["file"]: e for e in json.loads((root / "examples.json").read_text(encoding="utf-8"))["examples"]}
    model, rows = PartRM.from_pretrained("base", "cpu"), []
    with tempfile.TemporaryDirectory() as scratch:
        if arguments.parts:
            rows.append(picture_of_parts(model, root / SEVERAL, Path(scratch) / SEVERAL))
        for name in () if arguments.parts else SHOWN:
            about = known[name]
            found = model.predict(root / name, about["drags_px"], about["framing"])
            rows.append(picture(found, Path(scratch) / name))
    Image.fromarray(np.concatenate(rows, 0)).save(out, quality=85)


if __name__ == "__main__":
    main()
