"""Several predictions about one picture as one object: a body, its parts, and the tree of their joints."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Bool, Int
from scipy.spatial import KDTree
from torch import Tensor

from partrm.assets.density import MIN_OPACITY
from partrm.assets.predicted import AssetError, PosedImage, PredictedObject
from partrm.geometry.gaussians import Gaussians
from partrm.geometry.joints import JointMotion

SAME = 0.5
"""Intersection over union of what two predictions move, above which they are about one and the same part."""

WITHIN = 0.7
"""Share of a part that another one carries along, from which it hangs on that one."""


@dataclass(frozen=True)
class PredictedParts:
    """A body and its parts, on the CPU, in the canonical frame; parents come before what hangs on them."""

    before: Gaussians
    """[n] the object as given."""
    part: Int[Tensor, " n"]
    """Whose each Gaussian is: 0 the body's, k the k-th part's."""
    joints: tuple[JointMotion, ...]
    """One a part: what carries it relative to its parent, and how far."""
    parents: tuple[int, ...]
    """One a part: 0 the body, k the k-th part."""
    names: tuple[str, ...]
    """One a part."""
    photo: PosedImage | None
    model_name: str
    model_hash: str


def as_parts(predicted: PredictedObject) -> PredictedParts:
    """One prediction as a body with one part."""
    return PredictedParts(
        predicted.before, predicted.moving.long(), (predicted.joint,), (0,), ("part",), predicted.photo,
        predicted.model_name, predicted.model_hash,
    )  # fmt: skip


def merge_parts(predictions: Sequence[PredictedObject]) -> PredictedParts:
    """One object of predictions about its parts, all of the same picture.

    Each part is made of the Gaussians that its own prediction moves. What a prediction moves is found in the others by
    the nearest Gaussian. A part of which another one carries most along hangs on that one (a knob on a door) and keeps
    what both claim; else that goes to the surer joint. The body is what nothing moves in the surest prediction, and
    what the others say lies behind their parts. Parts are named ``part_1`` and so on in the order given.

    Raises:
        AssetError: no prediction, two about the same part, nothing left of a part or of the body.
    """
    if not predictions:
        raise AssetError("no prediction: an asset needs at least one part")
    if len(predictions) == 1:
        return as_parts(predictions[0])
    claims = [_claims(predictions, row) for row in range(len(predictions))]
    parents = _parents(np.array([c[p.moving.numpy()].mean(0) for c, p in zip(claims, predictions, strict=True)]))
    owned = [_owned(predictions, claims[row], parents, row) for row in range(len(predictions))]
    for row, mask in enumerate(owned):
        if not mask.any():
            raise AssetError(f"part {row + 1}: other parts claim all of it: drag another point, or leave it out")
    bodies = _bodies(predictions, claims)
    order = _parents_first(parents)
    pieces, labels = list(bodies), [np.zeros(len(piece), np.int64) for piece in bodies]
    for label, row in enumerate(order, start=1):
        pieces.append(predictions[row].before[torch.from_numpy(owned[row])])
        labels.append(np.full(len(pieces[-1]), label))
    first = predictions[0]
    return PredictedParts(
        Gaussians.concatenate(pieces),
        torch.from_numpy(np.concatenate(labels)),
        tuple(predictions[row].joint for row in order),
        tuple(0 if (above := parents[row]) is None else order.index(above) + 1 for row in order),
        tuple(f"part_{row + 1}" for row in order),
        first.photo,
        first.model_name,
        first.model_hash,
    )


def _claims(predictions: Sequence[PredictedObject], row: int) -> Bool[np.ndarray, "n k"]:
    """Which of the predictions move each Gaussian of one of them."""
    own = predictions[row]
    columns = [
        own.moving.numpy() if other is own else other.moving.numpy()[_nearest(own.before, other.before)]
        for other in predictions
    ]
    return np.stack(columns, -1)


def _nearest(points: Gaussians, among: Gaussians) -> Int[np.ndarray, " n"]:
    """Index of the nearest visible Gaussian."""
    seen = np.flatnonzero(among.opacities.numpy() > MIN_OPACITY)
    return seen[KDTree(among.means.numpy()[seen]).query(points.means.numpy())[1]]


def _parents(shares: np.ndarray) -> list[int | None]:
    """What each part hangs on, by the shares of each (rows) that the others (columns) move; None is the body.

    Raises:
        AssetError: two that are one and the same.
    """
    count, parents = len(shares), []
    for row in range(count):
        containers = []
        for other in range(count):
            if other == row:
                continue
            ours, theirs = shares[row, other], shares[other, row]
            union = 1 / max(ours, 1e-9) + 1 / max(theirs, 1e-9) - 1
            if 1 / union > SAME:
                a, b = sorted((row + 1, other + 1))
                raise AssetError(
                    f"parts {a} and {b} are one and the same: leave one out, or give its drags to one part (drag+drag)"
                )
            if ours >= WITHIN:
                containers.append((theirs, other))
        # The smallest of them: the one of which this part is the largest share.
        parents.append(max(containers)[1] if containers else None)
    return parents


def _ancestors(parents: Sequence[int | None], row: int) -> list[int]:
    """What a part hangs on, from the nearest on."""
    found: list[int] = []
    above = parents[row]
    while above is not None and above not in found:
        found.append(above)
        above = parents[above]
    return found


def _parents_first(parents: Sequence[int | None]) -> list[int]:
    return sorted(range(len(parents)), key=lambda row: len(_ancestors(parents, row)))


def _owned(
    predictions: Sequence[PredictedObject], claims: Bool[np.ndarray, "n k"], parents: Sequence[int | None], row: int
) -> Bool[np.ndarray, " n"]:
    """What of one prediction its part keeps."""
    own = predictions[row].moving.numpy().copy()
    for other, prediction in enumerate(predictions):
        if other == row or other in _ancestors(parents, row):
            continue
        surer = (prediction.joint.confidence, -other) > (predictions[row].joint.confidence, -row)
        if surer or row in _ancestors(parents, other):
            own &= ~claims[:, other]
    return own


def _bodies(predictions: Sequence[PredictedObject], claims: Sequence[Bool[np.ndarray, "_ k"]]) -> list[Gaussians]:
    """What nothing moves: of the surest prediction, and behind the others' parts.

    Raises:
        AssetError: nothing is left.
    """
    surest = max(range(len(predictions)), key=lambda row: (predictions[row].joint.confidence, -row))
    body = predictions[surest].before[torch.from_numpy(~claims[surest].any(1))]
    if not len(body):
        raise AssetError("everything moves in these predictions: an asset needs a body that stays")
    found, near = [body], KDTree(body.means.numpy())
    for row, prediction in enumerate(predictions):
        if row != surest:
            rest = prediction.before[torch.from_numpy(~claims[row].any(1))]
            part = KDTree(prediction.before.means[prediction.moving].numpy())
            points = rest.means.numpy()
            behind = part.query(points)[0] < near.query(points)[0] if len(points) else np.zeros(0, bool)
            found.append(rest[torch.from_numpy(behind)])
    return found
