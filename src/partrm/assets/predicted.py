"""What an asset is made from: the Gaussians, the part, the joint and the photo of one prediction."""

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from partrm.assets import RESULT
from partrm.errors import PartRMError
from partrm.files import read_json
from partrm.geometry.cameras import Cameras, check_poses
from partrm.geometry.gaussians import Gaussians, load_ply
from partrm.geometry.joints import JointMotion, JointType
from partrm.geometry.transforms import transform_points
from partrm.imaging.cutout import ImageError
from partrm.imaging.decoding import decode

FARTHEST, MOST_RAD = 10.0, 4 * math.pi
"""Canonical units that a part slides, that anything lies off and that all extends, and radians that a part turns, at
most."""

SMALLEST, SEEN = 0.02, 0.1
"""Extent of what is more opaque than the second, canonical units, at least."""

OFF = 0.01
"""Canonical units that a Gaussian of the part may lie off the place to which the joint moves it."""


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
        means, seen = self.before.means, self.before.opacities > SEEN
        if max(float(means.abs().max()), float(self.before.scales.max()), _extent(means)) > FARTHEST:
            raise AssetError("single Gaussians of this prediction lie far from all others, or are huge: predict again")
        if bool(seen.any()) and _extent(means[seen]) < SMALLEST:
            raise AssetError("what can be seen of this prediction is as small as a point: predict again")
        slides = self.joint.type == JointType.PRISMATIC
        away = 0.0 if slides else float(torch.linalg.cross(self.joint.axis, self.joint.pivot).norm())
        if abs(self.joint.amount) > (FARTHEST if slides else MOST_RAD) or away > FARTHEST:
            raise AssetError("the joint of this prediction is no part's: it moves too far, or lies far from the object")


def _extent(points: Float[Tensor, "n 3"]) -> float:
    """Diagonal of the box around some points."""
    return float((points.amax(0) - points.amin(0)).norm())


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
        told = content["gaussians"]
        if (len(before), int(moving.sum())) != (told.get("count", len(before)), told["moving"]):
            raise AssetError(f"{folder}: its Gaussians are not those of its {RESULT}; run partrm predict again")
        predicted = PredictedObject(
            before, moving, joint, _photo(folder, content["source"]), str(model["name"]), str(model["hash"])
        )
    except PartRMError:
        raise
    except (KeyError, TypeError, IndexError, AttributeError, ValueError, RuntimeError, OverflowError) as error:
        raise AssetError(f"{path}: lacks or garbles {str(error)[:200]}; run partrm predict again") from error
    moved = transform_points(joint.T_after_before, before.means[moving])
    if float((moved - after.means[moving]).norm(dim=-1).max()) > OFF:
        raise AssetError(f"{folder}: the joint of its {RESULT} does not move its Gaussians as they do; predict again")
    return predicted


def _joint(content: dict[str, Any]) -> JointMotion:
    axis, pivot = (torch.tensor(content[key], dtype=torch.float32) for key in ("axis", "pivot"))
    amount, confidence = content["amount"], content["confidence"]
    numbers = [*content["axis"], *content["pivot"], amount, confidence]
    if axis.shape != (3,) or pivot.shape != (3,) or not all(map(_is_number, numbers)):
        raise TypeError("the joint: numbers that are missing or not finite")
    if not 0 <= confidence <= 1:
        raise TypeError(f"the joint: its confidence {confidence:g}, a share")
    if not math.isclose(float(axis.norm()), 1.0, abs_tol=1e-3):
        raise TypeError("the joint: its axis has not the length 1")
    kind = JointType[content["type"].upper()]
    if kind == JointType.FIXED:
        raise TypeError("the joint: its type 'fixed'")
    return JointMotion(kind, axis, pivot, float(amount), float(confidence))


def _is_number(value: Any) -> bool:
    """Whether JSON says a finite number; ``true`` and ``"1"`` are none."""
    return type(value) in (int, float) and abs(value) < 1e300


def _photo(folder: Path, source: Any) -> PosedImage | None:
    """The cut-out that was predicted from; None in results of versions that did not keep it."""
    if not isinstance(source, dict):
        raise TypeError("the source, an object")
    if "input" not in source:
        return None
    about = source["input"]
    name, fovy_deg = about["file"], about["fovy_deg"]
    if not isinstance(name, str) or not _is_number(fovy_deg):
        raise TypeError("the image's name or field of view")
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
