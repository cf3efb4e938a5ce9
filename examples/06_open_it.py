"""Open it: one picture and one drag, and a Franka Panda opens what was predicted, in MuJoCo.

The prediction becomes an asset in metres, which is simulated. The arm looks for a grasp on the predicted part, finds
joint positions along the predicted motion, and pulls. Of an object that you know better, give its ``Task``: the arm
reads the prediction alone (docs/robotics.md). It needs ``pip install 'partrm[robot,export]'`` and the arm's model,
``pip install --no-deps genesis-world``.

    MUJOCO_GL=egl python examples/06_open_it.py --out opened      # on a machine without a screen
"""

from pathlib import Path

import numpy as np
import tyro

import partrm
from partrm import PartRM
from partrm.assets.asset import AssetSettings
from partrm.assets.export import export_prediction
from partrm.robotics.arm import open_with_arm
from partrm.robotics.beliefs import believed_asset
from partrm.robotics.film import Film
from partrm.robotics.panda import Kinematics
from partrm.robotics.simulated_arm import ArmSettings
from partrm.robotics.simulated_object import Task

IMAGES = Path(partrm.__file__).parent / "example_images"


def main(
    out: Path,
    image: Path = IMAGES / "microwave.png",
    drag: tuple[float, float, float, float] = (164, 170, 112, 203),
    size_m: float = 0.6,
    video: bool = True,
    device: str = "auto",
) -> None:
    prediction = PartRM.from_pretrained("base", device).predict(image, [drag])
    asset = export_prediction(prediction.to_predicted(), out / "asset", AssetSettings(size_m=size_m), ("mjcf",))
    believed = believed_asset(prediction, asset)
    task = Task(asset.object, 1, asset.object.closed_q(), asset.predicted_amounts[0])

    film = Film(believed.start, believed.seen_from + np.array([0.0, 1.0, 0.3])) if video else None
    result = open_with_arm(task, believed, ArmSettings(), Kinematics(), watch=film)
    print(f"opened {result.opened:.0%} of the predicted motion in {result.seconds:.0f} s: {result.ending}")
    if film is not None and film.pictures:
        film.save(out / "arm.mp4")
        print(f"{out / 'arm.mp4'}: {len(film.pictures)} pictures")


if __name__ == "__main__":
    tyro.cli(main)
