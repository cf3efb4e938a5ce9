"""What it brings to know a photograph's lens: joints of real objects, photographed through other lenses, told or not.

    partrm eval --data real --pack real.st
    python benchmarks/lens.py --set real.st --fovy-deg 26 58 75

Each sample is rendered as an RGBA picture by a camera of that vertical field of view, which stands so that the object
is as large, and goes in as a file does, once with ``fovy_deg`` and once without: one pass each. Axes are compared
in the camera's frame. Prints means, medians, and the mean paired difference (told - not told) with its standard error.
"""

import argparse
import math
import statistics
from pathlib import Path

import torch
from corruptions import SETTINGS, Lens, Scene
from torch import Tensor

from partrm.api import PartRM
from partrm.evaluation.eval_set import load_eval_set
from partrm.evaluation.mesh_samples import MeshSamples, drag_points
from partrm.geometry.joints import JointMotion, JointType
from partrm.geometry.transforms import transform_points
from partrm.inference.prediction import describe_camera
from partrm.rendering.meshes import render_meshes

PICTURE_PX = 512


def photographed(stage: MeshSamples, number: int, lens: Lens, size_px: int) -> tuple[Tensor, Tensor, Tensor]:
    """RGBA picture of a sample, its drag (x0, y0, x1, y1), and how the camera that took it is turned."""
    inputs = stage.batch([number], SETTINGS, size_px).inputs
    scene = Scene(stage, stage.posed([number]), [number], inputs, torch.Generator().manual_seed(number))
    cameras = lens.cameras(scene, PICTURE_PX)
    framing, posed = scene.posed.framing, scene.posed
    image = render_meshes(stage.scene, posed.instances, framing.cameras_to_object(cameras), posed.lights)[0, 0]
    points = drag_points(stage, posed, [number], 1)
    moved = transform_points(framing.motion_to_canonical(posed.T_motion), points)
    start, end = (cameras[:, 0].project(p)[0][0, 0] for p in (points, moved))
    return image, torch.cat([start, end]), cameras.T_world_camera[0, 0, :3, :3]


def errors(joint: JointMotion, R: Tensor, truth: JointMotion, R_truth: Tensor) -> tuple[float, float] | None:
    """Angle between the axes in the camera's frame (degrees), and of hinges the error of the amount (degrees)."""
    if joint.type != truth.type:
        return None
    cosine = float((R.T @ joint.axis.double()) @ (R_truth.double().T @ truth.axis.double()))
    amount = math.degrees(abs(joint.amount) - abs(truth.amount)) if joint.type == JointType.REVOLUTE else math.nan
    return math.degrees(math.acos(min(1.0, abs(cosine)))), abs(amount)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--set", type=Path, required=True, help="that partrm eval --pack wrote")
    parser.add_argument("--fovy-deg", type=float, nargs="+", default=[26.0, 58.0, 75.0])
    parser.add_argument("--every", type=int, default=1, help="take only every n-th sample")
    args = parser.parse_args()
    model, stage = PartRM.from_pretrained("base", "cpu"), load_eval_set(args.set).open("cpu")
    for fovy_deg in args.fovy_deg:
        rows: list[list[tuple[float, float] | None]] = []
        for number in range(0, len(stage.evalset), args.every):
            image, drag, R_truth = photographed(stage, number, Lens(fovy_deg), model.model.config.image_size_px)
            truth = stage.batch([number], SETTINGS, model.model.config.image_size_px).truths[0].joint
            assert truth is not None
            found = []
            for told in (None, fovy_deg):
                views = model.open(image, fovy_deg=told)
                joint = model.predict(views, drag[None], ensemble=False, detail_px=0).joint
                R = torch.tensor(describe_camera(views)["T_canonical_camera"], dtype=torch.float64)[:3, :3]
                found.append(errors(joint, R, truth, R_truth))
            rows.append(found)
        both = [(a, b) for a, b in rows if a is not None and b is not None]
        print(f"{fovy_deg:g} degrees: {len(both)} of {len(rows)} samples with the right type both ways")
        for which, name in enumerate(("axis", "amount of hinges")):
            pairs = [(a[which], b[which]) for a, b in both if not math.isnan(a[which])]
            untold, told = zip(*pairs, strict=True)
            more = [b - a for a, b in pairs]
            error = statistics.stdev(more) / math.sqrt(len(more))
            shown = [f"{statistics.mean(v):.1f} (median {statistics.median(v):.1f})" for v in (untold, told)]
            print(f"  {name}: not told {shown[0]}, told {shown[1]} degrees; {statistics.mean(more):+.1f} ± {error:.1f}")


if __name__ == "__main__":
    main()
