"""A hollow cabinet with a door as Gaussians on its surfaces: what a perfect network would predict, and the truth."""

import math
from dataclasses import dataclass

import numpy as np
import torch

from partrm.assets.predicted import PosedImage, PredictedObject
from partrm.geometry.cameras import canonical_orbit
from partrm.geometry.gaussians import Gaussians
from partrm.geometry.joints import JointMotion, JointType

ELEVATION_DEG = 25.0
AZIMUTH_DEG = 30.0
WIDTH, DEPTH, HEIGHT, WALL = 0.5, 0.4, 0.6, 0.03
BODY_COLOR, DOOR_COLOR = (0.1, 0.2, 0.8), (0.8, 0.1, 0.1)
SPACING = 0.009


@dataclass(frozen=True)
class Cabinet:
    """The prediction, and what an asset of it should say."""

    predicted: PredictedObject
    R_canonical_object: np.ndarray
    """Object frame: z up, front towards +x."""
    door_volume: float
    """Share of the object's diagonal cubed."""


def surface(low, high) -> np.ndarray:
    """Points all over the surface of a box."""
    low, high = np.array(low), np.array(high)
    axes = [np.linspace(a, b, max(2, math.ceil((b - a) / SPACING) + 1)) for a, b in zip(low, high, strict=True)]
    points = np.stack(np.meshgrid(*axes, indexing="ij"), -1).reshape(-1, 3)
    return points[((points == low) | (points == high)).any(1)]


def walls() -> np.ndarray:
    """Points of the open cabinet."""
    x, y, z = DEPTH / 2, WIDTH / 2, HEIGHT / 2
    boxes = [
        ([-x, -y, -z], [-x + WALL, y, z]),
        ([-x, -y, -z], [x, -y + WALL, z]),
        ([-x, y - WALL, -z], [x, y, z]),
        ([-x, -y, -z], [x, y, -z + WALL]),
        ([-x, -y, z - WALL], [x, y, z]),
    ]
    return np.concatenate([surface(*box) for box in boxes])


def camera_rotation() -> np.ndarray:
    """``R_canonical_object``: the camera stands before the front, turned by the azimuth and raised by the elevation."""
    e, a = math.radians(ELEVATION_DEG), math.radians(AZIMUTH_DEG)
    turned = np.array([[-math.sin(a), math.cos(a), 0], [0, 0, 1], [math.cos(a), math.sin(a), 0]])
    raised = np.array([[1, 0, 0], [0, math.cos(e), -math.sin(e)], [0, math.sin(e), math.cos(e)]])
    return raised @ turned


def small(points, colors) -> Gaussians:
    """Small opaque Gaussians."""
    n = len(points)
    return Gaussians(
        torch.tensor(points, dtype=torch.float32),
        torch.tensor([1.0, 0, 0, 0]).repeat(n, 1),
        torch.full((n, 3), 0.004),
        torch.full((n,), 0.95),
        torch.tensor(colors, dtype=torch.float32),
    )


PARTS = ("dial", "drawer", "door")
"""What :func:`cabinet_of_three` predicts, in this order."""


def cabinet_of_three() -> list[PredictedObject]:
    """Predictions about one cabinet: a dial on its door, a drawer, and that door with the dial; each shuffled anew.

    The drawer claims a strip of the door too, with less confidence.
    """
    x, y, z = DEPTH / 2, WIDTH / 2, HEIGHT / 2
    front = x + 0.02
    pieces = {
        "body": walls(),
        "door": surface([front, -y, -z + 0.22], [front + 0.03, y, z]),
        "drawer": surface([front, -y, -z], [front + 0.03, y, -z + 0.2]),
        "dial": surface([front + 0.04, -0.15, 0.1], [front + 0.09, -0.05, 0.2]),
    }
    R = camera_rotation()
    points = np.concatenate(list(pieces.values()))
    label = np.repeat(list(pieces), [len(piece) for piece in pieces.values()])
    strip = (label == "door") & (points[:, 2] < -z + 0.24)
    joints = {
        "dial": (JointType.REVOLUTE, [1.0, 0, 0], [front, -0.1, 0.15], 1.5, 0.9, label == "dial"),
        "drawer": (JointType.PRISMATIC, [1.0, 0, 0], [0, 0, 0], 0.25, 0.8, (label == "drawer") | strip),
        "door": (JointType.REVOLUTE, [0, 0, 1.0], [front, y, 0], 1.2, 0.95, np.isin(label, ("door", "dial"))),
    }
    found, rng = [], np.random.default_rng(0)
    for name in PARTS:
        kind, axis, pivot, amount, confidence, moving = joints[name]
        order = rng.permutation(len(points))
        colors = np.tile(BODY_COLOR, (len(points), 1))
        axis, pivot = (torch.tensor(R @ np.array(v), dtype=torch.float32) for v in (axis, pivot))
        joint = JointMotion(kind, axis, pivot, amount, confidence)
        shuffled = small((points @ R.T + rng.normal(0, 0.001, points.shape))[order], colors)
        found.append(PredictedObject(shuffled, torch.from_numpy(moving[order]), joint, None, "exact", "0" * 16))
    return found


def cabinet(kind: JointType = JointType.REVOLUTE, confidence: float = 0.9, photo: bool = False) -> Cabinet:
    """Closed, with the door before the open front; hinged at +y, or a slide that comes out."""
    x, y, z = DEPTH / 2, WIDTH / 2, HEIGHT / 2
    body, R = walls(), camera_rotation()
    door = surface([x + 0.02, -y, -z], [x + 0.05, y, z])
    points, moving = np.concatenate([body, door]), np.arange(len(body) + len(door)) >= len(body)
    colors = np.where(moving[:, None], DOOR_COLOR, BODY_COLOR)
    gaussians = small(points @ R.T, colors)
    axis, pivot = (
        (R @ [0, 0, 1.0], R @ [x + 0.035, y, 0]) if kind == JointType.REVOLUTE else (R @ [1.0, 0, 0], np.zeros(3))
    )
    joint = JointMotion(
        kind,
        torch.tensor(axis, dtype=torch.float32),
        torch.tensor(pivot, dtype=torch.float32),
        1.2 if kind == JointType.REVOLUTE else 0.3,
        confidence,
    )
    green = torch.tensor([0.0, 1.0, 0.0, 1.0])[:, None, None].expand(4, 128, 128).clone()
    taken = PosedImage(green, canonical_orbit(1, 128)) if photo else None
    diagonal = math.sqrt((DEPTH + 0.05) ** 2 + WIDTH**2 + HEIGHT**2)
    return Cabinet(
        PredictedObject(gaussians, torch.from_numpy(moving), joint, taken, "exact", "0" * 16),
        R,
        0.03 * WIDTH * HEIGHT / diagonal**3,
    )
