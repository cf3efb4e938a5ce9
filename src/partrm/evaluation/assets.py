"""Predictions as assets against the true objects: their surfaces, which way is up, and the seconds that it takes.

Surfaces are compared where 42 cameras all around see them, in units of the object's diagonal: all of the outside, and
that of what stays and of what moves.
"""

import math
import tempfile
import time
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Bool, Float
from torch import Tensor

from partrm.assets.asset import Asset, AssetSettings
from partrm.assets.export import DEFAULT_FORMATS, export_prediction
from partrm.assets.predicted import AssetError, PosedImage, PredictedObject
from partrm.evaluation.mesh_samples import MeshSamples, about_the_object
from partrm.evaluation.results import AssetMetrics, ByAssetMetric
from partrm.evaluation.samples import GroundTruth
from partrm.evaluation.scoring import score_joint
from partrm.geometry.cameras import CANONICAL_DISTANCE, CANONICAL_FOVY_RAD, Cameras, look_at
from partrm.geometry.transforms import even_directions
from partrm.inference.decode import read_motion
from partrm.inference.reading import Reading
from partrm.metrics.surfaces import match_surfaces
from partrm.model.checkpoints import LoadedModel
from partrm.model.inputs import NetworkInput
from partrm.objects.materials import MaterialTable
from partrm.rendering.meshes import Instances, MeshScene, trace_surfaces
from partrm.synthesis.posed_scenes import PosedBatch, moving_mask

VIEWS, SIZE_PX = 42, 72
"""Cameras all around, and the side of their pictures."""

SETTINGS = AssetSettings(force=True)
"""Unsure predictions count as well: their errors belong to the figures."""


def score_asset(
    stage: MeshSamples,
    number: int,
    model: LoadedModel,
    asked: tuple[NetworkInput, Reading, int],
    truth: GroundTruth,
    folder: Path | None = None,
) -> AssetMetrics:
    """Export what the network says of one sample, and compare it; without an asset only the joint is known.

    Args:
        stage: of the sample.
        number: the sample's.
        model: whose answer it is.
        asked: a batch, its answer with closed surfaces, and the sample's row of both.
        truth: of the sample.
        folder: where the asset stays; by default nowhere.

    Raises:
        PackageMissingError: a package of the extra ``export`` is missing.
    """
    inputs, reading, row = asked
    gaussians, moving, joint = read_motion(reading, inputs, row)
    values: dict[str, float | None] = {"exported": 0.0}
    if truth.joint is not None:
        of_joint = score_joint(truth.joint, joint, truth.diagonal)
        axis = of_joint["axis_error_deg"]
        values |= {"type_correct": of_joint["type_correct"], "pivot_distance": of_joint["pivot_distance"]}
        values["axis_error_rad"] = None if axis is None else math.radians(axis)
    photo = PosedImage(inputs.images[row, 0].cpu(), inputs.cameras[row, :1].to("cpu"))
    with tempfile.TemporaryDirectory() as scratch:
        started = time.perf_counter()
        try:
            predicted = PredictedObject(gaussians, moving, joint, photo, model.name, model.hash)
            asset = export_prediction(predicted, folder or scratch, SETTINGS, DEFAULT_FORMATS)
        except AssetError:
            return ByAssetMetric.each(values.get)
        values |= {"exported": 1.0, "export_s": time.perf_counter() - started}
    posed = stage.posed([number])
    cameras = about_the_object(posed.framing, around().to(stage.device))
    up = posed.framing.R_canonical_object[0, :, 2].double().cpu().numpy()
    values["up_error_deg"] = math.degrees(math.acos(np.clip(up @ asset.orientation.R_asset_canonical[2], -1, 1)))
    return ByAssetMetric.each((values | surface_metrics(stage, posed, asset, cameras, truth.diagonal)).get)


def around() -> Cameras:
    """[1, 42] cameras evenly on a sphere, canonical frame."""
    x, z, y = even_directions(VIEWS).float().unbind(-1)
    places = CANONICAL_DISTANCE * torch.stack([x, y, -z], -1)
    T = look_at(places, torch.zeros(VIEWS, 3), torch.tensor([0.0, 1.0, 0.0]).expand(VIEWS, 3))
    return Cameras(T[None], torch.full((1, VIEWS), CANONICAL_FOVY_RAD), SIZE_PX, SIZE_PX)


def surface_metrics(
    stage: MeshSamples, posed: PosedBatch, asset: Asset, cameras: Cameras, diagonal: float
) -> dict[str, float | None]:
    """What cameras [1, 42] see of an asset against what they see of the true object: all, what stays, what moves."""
    true, truly = true_outside(stage, posed, cameras)
    found, moving = asset_outside(asset, cameras.to("cpu"))
    pairs = {"outside": (found, true), "body": (found[~moving], true[~truly]), "part": (found[moving], true[truly])}
    values: dict[str, float | None] = {}
    for name, (a, b) in pairs.items():
        match = match_surfaces(a / diagonal, b / diagonal)
        for column in ("chamfer", "f05", "f02"):
            values[f"{name}_{column}"] = None if match is None else getattr(match, column)
    return values


def true_outside(
    stage: MeshSamples, posed: PosedBatch, cameras: Cameras
) -> tuple[Float[np.ndarray, "n 3"], Bool[np.ndarray, " n"]]:
    """Points of one object that cameras [1, v] see, canonical frame, and which lie on what moves."""
    maps = trace_surfaces(stage.scene, posed.instances, posed.framing.cameras_to_object(cameras))
    hit = maps.part[0] >= 0
    points = posed.framing.points_to_canonical(maps.point_world[0][hit][None])[0]
    return _numpy(points), _numpy(moving_mask(maps, posed.carried)[0][hit])


def asset_outside(asset: Asset, cameras: Cameras) -> tuple[Float[np.ndarray, "n 3"], Bool[np.ndarray, " n"]]:
    """Points of an asset that cameras [1, v] see, canonical frame, and which lie on what moves."""
    parts = asset.object.parts
    first = np.cumsum([0] + [len(part.vertices) for part in parts])
    vertices = torch.from_numpy(np.concatenate([asset.to_canonical(part.vertices) for part in parts])).float()
    faces = torch.from_numpy(np.concatenate([p.faces + at for p, at in zip(parts, first[:-1], strict=True)]))
    owner = torch.arange(len(parts)).repeat_interleave(torch.tensor([len(part.faces) for part in parts]))
    offset = torch.tensor([0, len(parts)])
    scene = MeshScene.from_arrays(vertices, faces, owner, torch.zeros_like(owner), offset)
    plain = MaterialTable.from_materials(asset.object.materials)[None]
    still = torch.eye(4).expand(1, len(parts), 4, 4)
    maps = trace_surfaces(scene, Instances.of_objects(scene, torch.tensor([0]), still, plain), cameras)
    hit = maps.part[0] >= 0
    return _numpy(maps.point_world[0][hit]), _numpy(maps.part[0][hit] > 0)


def _numpy(values: Tensor) -> np.ndarray:
    array = values.cpu().numpy()
    return array.astype(np.float64) if array.dtype == np.float32 else array
