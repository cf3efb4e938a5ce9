"""Export and simulate: a prediction becomes a URDF and a MuJoCo model, and a simulator pushes the door open.

The asset has closed meshes, collision, masses and a joint with limits; what a picture does not tell, such as the size,
is assumed and stands in ``asset.json`` (docs/export.md). Needs ``pip install 'partrm[export]' mujoco``.

    python examples/05_export_and_simulate.py --out microwave
"""

import math
from pathlib import Path

import mujoco
import numpy as np
import tyro

import partrm
from partrm import PartRM
from partrm.assets.asset import AssetSettings

MICROWAVE = Path(partrm.__file__).parent / "example_images" / "microwave.png"
SECONDS = 3.0


def opened(model: mujoco.MjModel, push: float) -> tuple[float, float]:
    """Push the first joint (N m, or N of a slide): where it is after some seconds, and the end of its range."""
    data = mujoco.MjData(model)
    end = model.jnt_range[0, np.abs(model.jnt_range[0]).argmax()]
    while data.time < SECONDS:
        data.qfrc_applied[0] = math.copysign(push, end)
        mujoco.mj_step(model, data)
    return float(data.qpos[0]), float(end)


def main(
    out: Path,
    image: Path = MICROWAVE,
    drag: tuple[float, float, float, float] = (164, 170, 112, 203),
    size_m: float = 0.6,
    push: float = 2.0,
    device: str = "auto",
) -> None:
    prediction = PartRM.from_pretrained("base", device).predict(image, [drag])
    prediction.export(out, AssetSettings(size_m=size_m, range="auto"))
    for name in ("object.xml", "object.urdf"):
        model = mujoco.MjModel.from_xml_path(str(out / name))
        position, end = opened(model, push)
        print(f"{name}: pushed for {SECONDS:.0f} s, it stands at {position:.2f} of {end:.2f} (radians, or metres)")


if __name__ == "__main__":
    tyro.cli(main)
