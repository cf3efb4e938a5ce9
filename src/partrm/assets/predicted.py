"""What an asset is made from: the Gaussians, the part, the joint and the photo of one prediction."""

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from partrm.errors import PartRMError
from partrm.files import read_json
from partrm.geometry.cameras import Cameras, check_poses
from partrm.geometry.gaussians import Gaussians, load_ply
from partrm.geometry.joints import JointMotion, JointType
from partrm.imaging.cutout import ImageError
from partrm.imaging.decoding import decode

RESULT = "prediction.json"
"""What a folder of ``partrm predict`` holds."""


FARTHEST, MOST_RAD = 10.0, 4 * math.pi
"""Canonical units that a part slides and that anything lies off, and radians that a part turns, at most."""


class AssetError(PartRMError):
    """A prediction that cannot become an asset, or a setting that an asset cannot have; the message says why."""


@dataclass(frozen=True)
class PosedImage:
    """The first image and whence it was taken."""

    image: Float[Tensor, "4 h w"]
    """RGBA, straight alpha, [0, 1]."""
    camera: Cameras
    """[1] in the canonical frame, in the image's size."""


@dataclass(frozen=True)
class PredictedObject:
    """One prediction, as far as an asset needs it, on the CPU, in the canonical frame."""

    before: Gaussians
    """[n] the object as given."""
    moving: Bool[Tensor, " n"]
    """Which of them belong to the part."""
    joint: JointMotion
    """The joint and how far it moved."""
    photo: PosedImage | None
    """None where the image is not known: textures then come from the Gaussians alone."""
    model_name: str
    model_hash: str

    @property
    def joints(self) -> tuple[JointMotion, ...]:
        """The one joint."""
        return (self.joint,)

    def __post_init__(self) -> None:
        if not bool(self.moving.any()):
            raise AssetError("the prediction has no moving part: drag another point, an asset needs a joint")
        if bool(self.moving.all()):
            raise AssetError("everything moves in this prediction: an asset needs a body that stays; drag a part of it")
        if not (math.isfinite(self.joint.amount) and abs(self.joint.amount) > 1e-4):
            raise AssetError("the joint of this prediction does not move: give a longer drag")
        if float(self.before.means.abs().max()) > FARTHEST or float(self.before.scales.max()) > FARTHEST:
            raise AssetError("single Gaussians of this prediction lie far from all others, or are huge: predict again")
        slides = self.joint.type == JointType.PRISMATIC
        away = 0.0 if slides else float(torch.linalg.cross(self.joint.axis, self.joint.pivot).norm())
        if abs(self.joint.amount) > (FARTHEST if slides else MOST_RAD) or away > FARTHEST:
            raise AssetError("the joint of this prediction is no part's: it moves too far, or lies far from the object")


def load_predicted(folder: str | Path) -> PredictedObject:
    """Read what ``partrm predict --out`` wrote.

    The part is where ``gaussians.ply`` and ``gaussians_before.ply`` differ.

    Raises:
        AssetError: no such result, one without a joint (of a reference network), a damaged one.
        GaussianFileError: Gaussians that cannot be read.
    """
    folder = Path(folder)
    path = folder / RESULT
    try:
        content = read_json(path)
    except OSError as error:
        raise AssetError(f"{folder}: no result of partrm predict ({RESULT}: {error.strerror})") from error
    except ValueError as error:
        raise AssetError(f"{path}: not valid JSON ({str(error)[:200]}); run partrm predict again") from error
    if not isinstance(content, dict) or "joint" not in content:
        raise AssetError(
            f"{path}: tells no joint, as the results of a reference network; predict with an articulated model (base)"
        )
    before, after = load_ply(folder / "gaussians_before.ply"), load_ply(folder / "gaussians.ply")
    if len(before) != len(after):
        raise AssetError(f"{folder}: {len(before)} Gaussians before, {len(after)} after; run partrm predict again")
    moving = (before.means != after.means).any(-1) | (before.quats != after.quats).any(-1)
    try:
        joint, model = _joint(content["joint"]), content["model"]
        if int(moving.sum()) != content["gaussians"]["moving"]:
            raise AssetError(f"{folder}: its Gaussians are not those of its {RESULT}; run partrm predict again")
        return PredictedObject(
            before, moving, joint, _photo(folder, content["source"]), str(model["name"]), str(model["hash"])
        )
    except PartRMError:
        raise
    except (KeyError, TypeError, IndexError, AttributeError, ValueError, RuntimeError, OverflowError) as error:
        raise AssetError(f"{path}: lacks or garbles {str(error)[:200]}; run partrm predict again") from error


def _joint(content: dict[str, Any]) -> JointMotion:
    axis, pivot = (torch.tensor(content[key], dtype=torch.float32) for key in ("axis", "pivot"))
    amount, confidence = float(content["amount"]), float(content["confidence"])
    numbers = [*axis.tolist(), *pivot.tolist(), amount, confidence]
    if axis.shape != (3,) or pivot.shape != (3,) or not all(math.isfinite(value) for value in numbers):
        raise TypeError("the joint: numbers that are missing or not finite")
    if not math.isclose(float(axis.norm()), 1.0, abs_tol=1e-3):
        raise TypeError("the joint: its axis has not the length 1")
    kind = JointType[content["type"].upper()]
    if kind == JointType.FIXED:
        raise TypeError("the joint: its type 'fixed'")
    return JointMotion(kind, axis, pivot, amount, confidence)


def _photo(folder: Path, source: dict[str, Any]) -> PosedImage | None:
    """The cut-out that was predicted from; None in results of versions that did not keep it."""
    if "input" not in source:
        return None
    about = source["input"]
    name, fovy_deg = str(about["file"]), float(about["fovy_deg"])
    if Path(name).name != name:
        raise ValueError(f"the image {name!r}: a file of the same folder is named without one")
    T = torch.tensor([about["T_canonical_camera"]], dtype=torch.float32)
    if T.shape != (1, 4, 4) or not 0.01 < fovy_deg < 179:
        raise ValueError("the image's camera: give a 4x4 matrix and a field of view between 0.01 and 179 degrees")
    check_poses(T)
    try:
        pixels = decode(folder / name).pixels
    except ImageError as error:
        raise ImageError(f"{error}; run partrm predict again") from error
    height, width = pixels.shape[:2]
    camera = Cameras(T, torch.tensor([math.radians(fovy_deg)]), width, height)
    return PosedImage(torch.from_numpy(pixels).permute(2, 0, 1), camera)
