"""The simple layout of a user's own samples (docs/evaluation.md): a folder a sample, pictures and ``sample.json``."""

import math
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, Float
from torch import Tensor
from torch.nn.functional import max_pool2d

from partrm.datasets.partdrag4d import (
    FARTHEST,
    MAX_NAME,
    DatasetError,
    check_inputs,
    files_below,
    is_plain_name,
    load_rgba,
    read_array,
)
from partrm.evaluation.samples import WorldSample
from partrm.files import read_json
from partrm.geometry.cameras import CameraFileError, load_cameras
from partrm.geometry.drag_numbers import MAX_DRAGS, DragError
from partrm.geometry.joints import JointMotion, JointType
from partrm.geometry.transforms import transform_points
from partrm.imaging.decoding import in_order
from partrm.inference.source import drags_on
from partrm.model.inputs import VIEWS

RECORD = "sample.json"
ONE_TURN_RAD = 2 * math.pi + 1e-3
"""A joint that turns by more is told in degrees."""

STILL = 1e-6
"""A part that moves by less than this share of the first camera's distance stands still."""

JOINT_TYPES = {"revolute": JointType.REVOLUTE, "prismatic": JointType.PRISMATIC}


@dataclass(frozen=True)
class SimpleSample:
    """One folder of the simple layout."""

    folder: Path
    record: dict[str, Any]
    """Content of ``sample.json``."""

    @property
    def object(self) -> str:
        return str(self.record.get("object", self.folder.name))

    @property
    def category(self) -> str:
        return str(self.record.get("category", "all"))

    @property
    def part(self) -> int:
        return int(self.record.get("part", 0))

    @property
    def transition(self) -> str:
        return str(self.record.get("transition", self.folder.name))

    def files(self) -> list[Path]:
        """Everything that the sample is read from."""
        return sorted(path for path in self.folder.rglob("*") if path.is_file())

    def load(self) -> WorldSample:
        """Everything from disk.

        Raises:
            DatasetError: a file is missing or broken, or does not fit the others.
        """
        try:
            cameras = load_cameras(self.folder / "cameras.json")
        except CameraFileError as error:
            raise DatasetError(str(error)) from error
        count, size = len(cameras.fovy_rad), cameras.width
        if cameras.height != size:
            raise DatasetError(f"{self.folder}: images must be square, not {size}x{cameras.height}")
        before, after = (self._images(name, count, size) for name in ("before", "after"))
        assert before is not None
        assert after is not None
        inputs = self._inputs(count)
        check_inputs(self.folder / "cameras.json", before, range(inputs), cameras)
        drags = self._drags(before[0, 3]) / size
        away = float(cameras.positions[0].norm())
        joint, points = self._joint(away), self._points(away)
        if joint is not None and points is not None:
            still = (transform_points(joint.T_after_before, points) - points).norm(dim=-1).mean()
            if not float(still) > STILL * away:
                raise DatasetError(f"{self.folder / RECORD}: the joint does not move the points of part_points.npy")
        masks = [self._images(name, count, size, needed=False) for name in ("part_before", "part_after")]
        seen = [None if mask is None else mask_of(mask) for mask in masks]
        return WorldSample(
            before=before,
            after=after,
            cameras=cameras,
            inputs=tuple(range(inputs)),
            scored=tuple(range(inputs, count)) if inputs < count else tuple(range(count)),
            drag_start=drags[:, :2],
            drag_end=drags[:, 2:],
            T_after_before=None if joint is None else joint.T_after_before,
            joint=joint,
            points=points,
            moved=None if seen[0] is None or seen[1] is None else seen[0] | seen[1],
            part=None if seen[0] is None else seen[0][0],
        )

    def _inputs(self, count: int) -> int:
        inputs = self.record.get("inputs", 1)
        if not isinstance(inputs, int) or not 1 <= inputs <= min(VIEWS, count):
            raise DatasetError(f"{self.folder / RECORD}: inputs must be 1 to {min(VIEWS, count)}, found {inputs!r}")
        return inputs

    def _drags(self, alpha: Float[Tensor, "size size"]) -> Float[Tensor, "d 4"]:
        """In pixels; as ``partrm predict`` takes them, but a start may be a pixel off, for its pixel is where a true
        surface ends."""
        try:
            drags = drags_on(self.record["drags"], max_pool2d(alpha[None], 3, 1, 1)[0])
        except DragError as error:
            raise DatasetError(f"{self.folder / RECORD}: {error}") from error
        return torch.cat([drags.start, drags.end], -1)

    def _images(self, name: str, count: int, size: int, needed: bool = True) -> Float[Tensor, "views 4 h w"] | None:
        if not needed and not os.path.lexists(self.folder / name):
            return None
        try:
            files = in_order(path for path in files_below(self.folder / name) if path.suffix == ".png")
        except ValueError as error:
            raise DatasetError(f"{self.folder / name}: {error}") from error
        if len(files) != count:
            raise DatasetError(f"{self.folder / name}: holds {len(files)} PNG images for {count} cameras")
        images = [load_rgba(path) for path in files]
        if any(tuple(image.shape[1:]) != (size, size) for image in images):
            raise DatasetError(f"{self.folder / name}: its images are not all {size}x{size}, as cameras.json says")
        return torch.stack(images)

    def _joint(self, away: float) -> JointMotion | None:
        """The joint.

        Args:
            away: distance of the first camera from the origin, in whose terms lengths can be too small or great.
        """
        joint = self.record.get("joint")
        if joint is None:
            return None
        try:
            axis, pivot = (
                torch.tensor([float(v) for v in joint[key]], dtype=torch.float64) for key in ("axis", "pivot")
            )
            kind, amount = JOINT_TYPES[joint["type"]], float(joint["amount"])
        except (KeyError, TypeError, ValueError, OverflowError, RuntimeError) as error:
            raise DatasetError(
                f"{self.folder / RECORD}: a joint needs type (revolute or prismatic), axis, pivot and amount ({error})"
            ) from error
        if axis.shape != (3,) or pivot.shape != (3,) or not float(axis.norm()) > 0 or not amount:
            raise DatasetError(f"{self.folder / RECORD}: the joint's axis, pivot or amount is empty")
        if not (math.isfinite(amount) and bool(torch.isfinite(torch.cat([axis, pivot])).all())):
            raise DatasetError(f"{self.folder / RECORD}: the joint's axis, pivot and amount must be finite numbers")
        turns = kind == JointType.REVOLUTE
        least, most = (STILL, ONE_TURN_RAD) if turns else (STILL * away, FARTHEST * away)
        if not least <= abs(amount) <= most or not float(pivot.norm()) <= FARTHEST * away:
            radians = " (radians)" if turns else ""
            raise DatasetError(
                f"{self.folder / RECORD}: the joint's amount must lie in {least:.3g} to {most:.5g}{radians}, its pivot "
                f"within {FARTHEST * away:.3g} of the origin, for its first camera is {away:.3g} away"
            )
        return JointMotion(kind, (axis / axis.norm()).float(), pivot.float(), amount, 1.0)

    def _points(self, away: float) -> Float[Tensor, "p 3"] | None:
        path = self.folder / "part_points.npy"
        if not os.path.lexists(path):
            return None
        try:
            points = torch.from_numpy(read_array(path).astype(np.float64))
        except (OSError, ValueError) as error:
            raise DatasetError(f"{path}: not an array ({error})") from error
        if points.ndim != 2 or points.shape[1] != 3 or len(points) == 0 or not bool(torch.isfinite(points).all()):
            raise DatasetError(f"{path}: must hold n x 3 finite numbers")
        if not float(points.abs().max()) <= FARTHEST * away:
            raise DatasetError(f"{path}: a point is farther than {FARTHEST * away:.3g} from the origin")
        return points.float()


def mask_of(images: Float[Tensor, "views 4 h w"]) -> Bool[Tensor, "views h w"]:
    """White (and opaque) pixels of mask images."""
    return (images[:, 0] > 0.5) & (images[:, 3] > 0.5)


def simple_samples(root: Path) -> list[SimpleSample]:
    """All samples of a folder, by name.

    Raises:
        DatasetError: there is none, or a record is malformed.
    """
    folders = [folder for folder in files_below(root) if _is_sample(folder)]
    if not folders:
        raise DatasetError(
            f"{root}: neither PartDrag-4D (no folder render_PartDrag4D) nor samples (no */{RECORD}); "
            "docs/evaluation.md shows both layouts"
        )
    return [SimpleSample(folder, _record(folder / RECORD)) for folder in folders]


def _is_sample(folder: Path) -> bool:
    """A folder with a record, or without one but with what goes with it: such a sample is not left out silently."""
    try:
        with_record, with_views = os.path.lexists(folder / RECORD), (folder / "before").is_dir()
        return with_record or (with_views and (folder / "cameras.json").is_file())
    except OSError as error:
        raise DatasetError(f"{folder}: cannot be read ({error.strerror})") from error


def _record(path: Path) -> dict[str, Any]:
    try:
        record = read_json(path)
    except OSError as error:
        raise DatasetError(f"{path}: cannot be read ({error.strerror})") from error
    except ValueError as error:
        raise DatasetError(f"{path}: not valid JSON ({str(error)[:200]})") from error
    try:
        drags = np.array(record["drags"], dtype=np.float64)
        if any(
            isinstance(value, bool) or not isinstance(value, int | float) for row in record["drags"] for value in row
        ):
            raise TypeError("one of them is not a number")
    except (ValueError, KeyError, TypeError, OverflowError) as error:
        raise DatasetError(f"{path}: needs drags, a list of [x0, y0, x1, y1] in pixels ({error})") from error
    if drags.ndim != 2 or drags.shape[1] != 4 or not 1 <= len(drags) <= MAX_DRAGS or not np.isfinite(drags).all():
        raise DatasetError(f"{path}: drags must be 1 to {MAX_DRAGS} lists of four finite numbers")
    if not isinstance(record.get("part", 0), int) or isinstance(record.get("part", 0), bool):
        raise DatasetError(f"{path}: part must be a whole number, found {record['part']!r}")
    if abs(record.get("part", 0)) >= 2**31:
        raise DatasetError(f"{path}: part is a number of more than 31 bits")
    for key in ("object", "category", "transition"):
        value = record.get(key, path.parent.name)
        if isinstance(value, bool) or not isinstance(value, str | int) or not is_plain_name(str(value)):
            raise DatasetError(f"{path}: {key} must be a name of at most {MAX_NAME} characters, found {value!r:.60}")
    return record
