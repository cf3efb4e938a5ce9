"""Assets of predictions against the true objects: surfaces, joints, up, and what simulators say of the files.

    python benchmarks/assets.py --procedural 20 --real 20 --out assets.json

One view and one drag of the published samples (the real objects need ``make eval-objects``). Surfaces are compared
where 42 cameras all around see them, in units of the object's diagonal: chamfer (mean distances of either to the other,
summed) and F-scores. Joints in the measures of MonoArt: type, angle of the axes, distance of a hinge's lines. With
``simcheck`` and ``pybullet`` installed every URDF and MuJoCo model is checked. docs/export.md has the figures.
"""

import argparse
import importlib
import json
import math
import statistics
import tempfile
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from rich.console import Console
from rich.progress import track
from scipy.spatial import cKDTree

from partrm.assets.asset import Asset, AssetSettings
from partrm.assets.export import Format, export_prediction
from partrm.assets.predicted import AssetError, PosedImage, PredictedObject
from partrm.evaluation.mesh_samples import EvalSet, MeshSamples, about_the_object
from partrm.evaluation.planning import ProceduralPlan
from partrm.evaluation.samples import RunSettings
from partrm.evaluation.session import plan_procedural_set, plan_real_set
from partrm.geometry.cameras import CANONICAL_FOVY_RAD, Cameras, look_at
from partrm.geometry.joints import JointMotion, JointType
from partrm.inference.decode import read_motion, reading_of
from partrm.model.checkpoints import LoadedModel, load_model
from partrm.rendering.meshes import trace_surfaces
from partrm.synthesis.posed_scenes import PosedBatch, moving_mask

VIEWS, SIZE_PX, DISTANCE = 42, 72, 2.4
POINTS = 20_000
FORMATS: tuple[Format, ...] = ("urdf", "mjcf", "glb")


@dataclass(frozen=True)
class Surface:
    """How near two surfaces are, diagonals."""

    chamfer: float
    f05: float
    f02: float


@dataclass(frozen=True)
class AssetRow:
    """One sample."""

    source: str
    object: str
    category: str
    refused: str
    """Why there is no asset; empty where there is one."""
    type_right: bool
    axis_rad: float
    pivot: float | None
    """Distance between the lines of true and predicted hinges, diagonals."""
    up_deg: float | None = None
    outside: Surface | None = None
    body: Surface | None = None
    part: Surface | None = None
    seconds: float | None = None
    simcheck: dict[str, list[str]] | None = None
    """Errors of each file; None where simcheck is not installed."""


def main() -> None:
    """Run it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--procedural", type=int, default=20)
    parser.add_argument("--real", type=int, default=20)
    parser.add_argument("--model", default="base")
    parser.add_argument("--range", default="predicted", choices=("predicted", "auto"))
    parser.add_argument("--keep", type=Path, help="folder to keep the assets in")
    parser.add_argument("--out", type=Path, required=True)
    arguments = parser.parse_args()
    model, rows = load_model(arguments.model, "cpu"), []
    settings = AssetSettings(range=arguments.range, force=True)
    with tempfile.TemporaryDirectory() as scratch:
        keep = arguments.keep or Path(scratch)
        for name, count in (("procedural", arguments.procedural), ("real", arguments.real)):
            if count:
                rows += evaluate(name, count, model, settings, keep)
    arguments.out.write_text(json.dumps([asdict(row) for row in rows], indent=1, allow_nan=False) + "\n")
    for line in summary(rows):
        Console(soft_wrap=True).print(line)


def evaluate(name: str, count: int, model: LoadedModel, settings: AssetSettings, keep: Path) -> list[AssetRow]:
    """Rows of the first samples of a set, for the real ones spread over all of them."""
    evalset: EvalSet = plan_procedural_set(ProceduralPlan(count)) if name == "procedural" else plan_real_set()
    numbers = np.unique(np.linspace(0, len(evalset) - 1, min(count, len(evalset))).round().astype(int)).tolist()
    stage = evalset.open("cpu")
    return [
        evaluate_sample(name, stage, number, model, settings, keep / f"{name}_{number:03d}")
        for number in track(numbers, description=name, console=Console(stderr=True))
    ]


def evaluate_sample(
    source: str, stage: MeshSamples, number: int, model: LoadedModel, settings: AssetSettings, folder: Path
) -> AssetRow:
    """Predict, export and compare one sample."""
    batch = stage.batch([number], RunSettings(novel_size_px=16), model.config.image_size_px)
    inputs, label, truth = batch.inputs, stage.label(number), batch.truths[0]
    with torch.inference_mode():
        output = model.articulated(inputs)
    gaussians, moving, joint = read_motion(reading_of(output, inputs, close=True), inputs)
    assert truth.joint is not None
    about: dict[str, Any] = {"source": source, "object": label.object, "category": label.category}
    about |= joint_errors(joint, truth.joint, truth.diagonal)
    photo = PosedImage(inputs.images[0, 0], inputs.cameras[0, :1])
    started = time.perf_counter()
    try:
        predicted = PredictedObject(gaussians, moving, joint, photo, model.name, model.hash)
        asset = export_prediction(predicted, folder, settings, FORMATS)
    except AssetError as error:
        return AssetRow(refused=str(error), **about)
    seconds = time.perf_counter() - started
    posed = stage.posed([number])
    cameras = about_the_object(posed.framing, around())
    points, part = true_outside(stage, posed, cameras)
    up, found = posed.framing.R_canonical_object[0, :, 2].double().numpy(), asset.orientation.R_asset_canonical[2]
    return AssetRow(
        refused="", up_deg=math.degrees(math.acos(np.clip(up @ found, -1, 1))), seconds=seconds,
        simcheck=checked(folder), **surfaces(asset, points, part, cameras[0], truth.diagonal), **about,
    )  # fmt: skip


def joint_errors(found: JointMotion, true: JointMotion, diagonal: float) -> dict[str, Any]:
    """Type, angle between the axes without their sign, distance between hinges' lines."""
    a, b = found.axis.double().numpy(), true.axis.double().numpy()
    angle = math.acos(np.clip(abs(a @ b), 0, 1))
    apart = found.pivot.double().numpy() - true.pivot.double().numpy()
    pivot = None
    if found.type == true.type == JointType.REVOLUTE:
        normal = np.cross(a, b)
        length = float(np.linalg.norm(normal))
        pivot = float(abs(apart @ normal) / length if length > 1e-3 else np.linalg.norm(np.cross(apart, b)))
        pivot /= diagonal
    return {"type_right": found.type == true.type, "axis_rad": angle, "pivot": pivot}


def around() -> Cameras:
    """[1, 42] cameras evenly on a sphere, canonical frame."""
    index = np.arange(VIEWS) + 0.5
    y, phi = 1 - 2 * index / VIEWS, index * math.pi * (3 - math.sqrt(5))
    radius = np.sqrt(1 - y * y)
    places = torch.tensor(np.stack([radius * np.cos(phi), y, radius * np.sin(phi)], -1) * DISTANCE, dtype=torch.float32)
    T = look_at(places, torch.zeros(VIEWS, 3), torch.tensor([0.0, 1.0, 0.0]).expand(VIEWS, 3))
    return Cameras(T[None], torch.full((1, VIEWS), CANONICAL_FOVY_RAD), SIZE_PX, SIZE_PX)


def true_outside(stage: MeshSamples, posed: PosedBatch, cameras: Cameras) -> tuple[np.ndarray, np.ndarray]:
    """Points of the object that cameras [1, 42] see, canonical frame, and which lie on what moves."""
    maps = trace_surfaces(stage.scene, posed.instances, posed.framing.cameras_to_object(cameras))
    hit = maps.face[0] >= 0
    points = posed.framing.points_to_canonical(maps.point_world[0][hit][None])[0]
    return points.double().numpy(), moving_mask(maps, posed.carried)[0][hit].numpy()


def surfaces(
    asset: Asset, points: np.ndarray, part: np.ndarray, cameras: Cameras, diagonal: float
) -> dict[str, Surface | None]:
    """The asset's outside from cameras [42] against the true one: all of it, and each part's."""
    import trimesh

    meshes = [trimesh.Trimesh(asset.to_canonical(p.vertices), p.faces, process=False) for p in asset.object.parts]
    both, seen, owner = trimesh.util.concatenate(meshes), [], []
    origins, directions = cameras.rays()
    for view in range(VIEWS):
        rays = directions[view].reshape(-1, 3).double().numpy()
        starts = np.repeat(origins[view].double().numpy()[None], len(rays), 0)
        where, _, face = both.ray.intersects_location(starts, rays, multiple_hits=False)
        seen.append(where)
        owner.append(face >= len(meshes[0].faces))
    found, moving = np.concatenate(seen), np.concatenate(owner)
    pairs = {"outside": (found, points), "body": (found[~moving], points[~part]), "part": (found[moving], points[part])}
    return {name: compare(a / diagonal, b / diagonal) for name, (a, b) in pairs.items()}


def compare(found: np.ndarray, true: np.ndarray) -> Surface | None:
    """Chamfer and F-scores of two sets of points; None where one is empty."""
    if not (len(found) and len(true)):
        return None
    rng = np.random.default_rng(0)
    found, true = (p[rng.integers(0, len(p), POINTS)] for p in (found, true))
    accuracy, completeness = cKDTree(true).query(found)[0], cKDTree(found).query(true)[0]

    def f_score(within: float) -> float:
        precision, recall = float((accuracy < within).mean()), float((completeness < within).mean())
        return 2 * precision * recall / max(precision + recall, 1e-9)

    return Surface(float(accuracy.mean() + completeness.mean()), f_score(0.05), f_score(0.02))


def checked(folder: Path) -> dict[str, list[str]] | None:
    """Errors that simcheck finds in an asset's files; None where it is not installed."""
    try:
        simcheck = importlib.import_module("simcheck")
    except ImportError:
        return None
    reports = {file: simcheck.check(str(folder / file)) for file in ("object.urdf", "object.xml")}
    return {
        file: [f"{f.check}: {f.message}" for f in report.findings if f.severity == "error"]
        for file, report in reports.items()
    }


def summary(rows: list[AssetRow]) -> list[str]:
    """One line a source, and what the checks found."""
    lines = []
    for source in sorted({row.source for row in rows}):
        own = [row for row in rows if row.source == source]
        made = [row for row in own if not row.refused]
        line = f"{source}: {len(made)} of {len(own)} exported, type {share(r.type_right for r in own)}, "
        line += f"axis {statistics.median(r.axis_rad for r in own):.3f} rad (median)"
        pivots = [row.pivot for row in own if row.pivot is not None]
        line += f", pivot {statistics.median(pivots):.3f} (median)" if pivots else ""
        lines.append(line)
        for name in ("outside", "body", "part"):
            found: list[Surface] = [s for row in made if (s := getattr(row, name)) is not None]
            means = [statistics.fmean(getattr(s, key) for s in found) for key in ("chamfer", "f05", "f02")]
            lines.append(f"  {name}: chamfer {means[0]:.4f}, F@.05 {means[1]:.3f}, F@.02 {means[2]:.3f} ({len(found)})")
        ups = [row.up_deg for row in made if row.up_deg is not None]
        lines.append(f"  up off by {statistics.median(ups):.1f} degrees (median), {max(ups):.1f} (worst)")
        seconds = [row.seconds for row in made if row.seconds is not None]
        lines.append(f"  export {statistics.median(seconds):.2f} s (median)")
        checks = [row.simcheck for row in made if row.simcheck is not None]
        if checks:
            lines.append(f"  simcheck passes {sum(not any(c.values()) for c in checks)} of {len(checks)}")
            lines += sorted({f"    {error}" for check in checks for errors in check.values() for error in errors})
        lines += [f"  refused: {row.object}: {row.refused}" for row in own if row.refused]
    return lines


def share(values: Any) -> str:
    """Of true values, in percent."""
    listed = list(values)
    return f"{100 * sum(listed) / max(1, len(listed)):.0f} %"


if __name__ == "__main__":
    main()
