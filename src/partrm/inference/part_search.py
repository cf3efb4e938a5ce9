"""Which parts move, found without a drag: a small network tells them apart, a drag of each asks the large one.

Data flow::

    SourceViews ─► maps_of ─► propose ─► ask_network, finish ─► FoundPart
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from jaxtyping import Bool, Float, UInt8
from PIL import Image
from torch import Tensor
from torch.nn.functional import max_pool2d

from partrm import __version__
from partrm.errors import ConfigError, PartRMError
from partrm.geometry.cameras import Cameras
from partrm.geometry.joints import JointMotion
from partrm.geometry.transforms import transform_points
from partrm.imaging.drawing import draw_numbered, to_bytes
from partrm.imaging.images import save_image
from partrm.inference.detail import check_detail
from partrm.inference.ensemble import first_view_alone
from partrm.inference.part_maps import PartMaps, coverage, maps_of
from partrm.inference.pipeline import Known, Prepared, ask_network, finish, network_input, prepare
from partrm.inference.prediction import Prediction, describe_camera, describe_joint
from partrm.inference.source import DragPixels, SourceViews
from partrm.metrics.images import composite_on_white
from partrm.model.checkpoints import LoadedModel
from partrm.model.inputs import NetworkInput

if TYPE_CHECKING:
    from partrm.assets.asset import AssetSettings
    from partrm.assets.export import Format

SIBLING = 0.25
"""A group of pixels at least so large, as a share of another's, is beside it; a smaller one may lie on it: a knob."""

MAX_PROPOSALS = 24

START_QUANTILE = 0.75
"""A proposal is pulled where the motion in the picture has this quantile: off the hinge, but not at the extreme end."""

MAX_AREA = 0.85
"""Of the object's pixels: what moves all of it is no part."""

WEIGHTS = {"movable": 0.38, "sure": 3.99, "size": 0.31}
"""What speaks for a proposal, logistic: the mean probability that its pixels move, how sure and how much of one mind
they are about its joint, and the logarithm of how many they are. Fitted by ``benchmarks/parts.py --fit``."""

BIAS = -3.85

MIN_CONFIDENCE = 0.4
"""Below it a part is left out by default."""


RECORD, PICTURE, ASSET, MASKS = "parts.json", "parts.png", "asset", "part_*.png"
"""What is written of found parts; see :func:`save_parts`."""


class NoPartsError(PartRMError):
    """A picture in which nothing that moves is found."""

    def __init__(self) -> None:
        super().__init__(
            "no part that moves is found: pull one yourself (partrm predict --drag), or give a lower --min-confidence"
        )


@dataclass(frozen=True)
class Proposal:
    """Where a part may be, how it moves, and the drag to ask with."""

    mask: Bool[Tensor, "side side"]
    """On the network's grid of splats."""
    probability: Float[Tensor, "side side"]
    """That it is moved, zero off the mask."""
    joint: JointMotion
    """That its pixels vote for, opened a little, network's frame."""
    evidence: tuple[float, ...]
    """One value for each of :data:`WEIGHTS`."""
    others: Bool[Tensor, "side side"]
    """What other groups of pixels claim."""
    start: Float[Tensor, "2"]
    """Fractions of the network's picture."""
    end: Float[Tensor, "2"]

    @property
    def confidence(self) -> float:
        """How sure it is that this is a part that moves so, [0, 1]."""
        return 1 / (1 + math.exp(-BIAS - sum(w * e for w, e in zip(WEIGHTS.values(), self.evidence, strict=True))))


@dataclass(frozen=True)
class FoundPart:
    """One part that seems to move."""

    prediction: Prediction
    """What its drag gives: mask, joint, Gaussians."""
    confidence: float
    """How sure it is that this is a part that moves so, [0, 1]."""


@dataclass(frozen=True)
class Sought:
    """An object whose parts are to be found."""

    views: SourceViews
    """Of them the first is looked at."""
    min_confidence: float = MIN_CONFIDENCE
    """Parts below it are left out, [0, 1]."""
    detail_px: int = 0
    """Of the predictions; see :func:`partrm.inference.pipeline.predict`."""

    def __post_init__(self) -> None:
        """Refuse numbers out of their ranges.

        Raises:
            ConfigError: the first one.
        """
        check_confidence(self.min_confidence)
        check_detail(self.detail_px)


@dataclass(frozen=True)
class Pull:
    """A drag of a part that may be there, ready for the network."""

    prepared: Prepared
    confidence: float


def propose(maps: PartMaps, alpha: Float[Tensor, "side side"], camera: Cameras) -> list[Proposal]:
    """Groups of pixels that move together, the surest first.

    Args:
        maps: what the small network says.
        alpha: opacity of the object.
        camera: unbatched, that took the picture.
    """
    wholes = maps.groups(alpha)
    sizes, found = wholes.sum((1, 2)), []
    for number, mask in enumerate(wholes):
        if int(sizes[number]) <= MAX_AREA * int((alpha > 0.5).sum()):
            siblings = (sizes > SIBLING * sizes[number]) & (torch.arange(len(wholes)) != number)
            joint = maps.joint(mask)
            drag = pull_of(mask, joint, maps.points, camera)
            likely = torch.where(mask, maps.movable, 0.0)
            found.append(Proposal(mask, likely, joint, evidence_of(mask, maps), wholes[siblings].any(0), *drag))
    return sorted(found, key=lambda proposal: -proposal.confidence)[:MAX_PROPOSALS]


def evidence_of(mask: Bool[Tensor, "side side"], maps: PartMaps) -> tuple[float, ...]:
    """What speaks for a group of pixels, in the order of :data:`WEIGHTS`."""
    _, sure = maps.sureness(mask)
    found = {"movable": float(maps.movable[mask].mean()), "sure": sure, "size": math.log(int(mask.sum()))}
    return tuple(found[name] for name in WEIGHTS)


def pull_of(
    mask: Bool[Tensor, "side side"], joint: JointMotion, points: Float[Tensor, "side side 3"], camera: Cameras
) -> tuple[Float[Tensor, "2"], Float[Tensor, "2"]]:
    """Start and end of the drag that shows a part's motion, fractions of the picture."""
    side = len(mask)
    border = max_pool2d((~mask).float()[None], 3, 1, 1)[0] > 0
    inner = mask & ~border if int((mask & ~border).sum()) >= 4 else mask
    row, column = inner.nonzero(as_tuple=True)
    start = (torch.stack([column, row], -1) + 0.5) / side
    before, _ = camera.project(points[row, column])
    after, _ = camera.project(transform_points(joint.T_after_before, points[row, column]))
    way = (after - before) / camera.width
    order = way.norm(dim=-1).argsort(stable=True)
    chosen = order[int(START_QUANTILE * (len(order) - 1))]
    return start[chosen], start[chosen] + way[chosen]


def find_parts(
    views: SourceViews,
    model: LoadedModel,
    min_confidence: float = MIN_CONFIDENCE,
    detail_px: int = 0,
    advance: Callable[[int, int], None] = lambda done, total: None,
) -> tuple[FoundPart, ...]:
    """The parts of an object that seem to move, the surest first.

    Args:
        views: of them the first is looked at.
        model: the bundled weights, or such as were tuned from them.
        min_confidence: parts below it are left out, [0, 1].
        detail_px: of the predictions; see :func:`partrm.inference.pipeline.predict`.
        advance: called with the numbers of parts asked about, and of all.

    Raises:
        NoPartsError: nothing is found.
        PartNetworkError: weights of another shape.
        CheckpointError: weights that do not tell parts and joints.
        ConfigError: a confidence or a detail out of its range.
    """
    (pulls,) = pulls_on([Sought(views, min_confidence, detail_px)], model)
    if not pulls:
        raise NoPartsError
    parts = []
    for number, pull in enumerate(pulls, start=1):
        (consultation,), seconds = ask_network([pull.prepared], model)
        parts.append(FoundPart(finish(pull.prepared, consultation, model, seconds), pull.confidence))
        advance(number, len(pulls))
    return tuple(parts)


def pulls_on(sought: Sequence[Sought], model: LoadedModel) -> list[list[Pull]]:
    """What is asked about each of several objects, the surest parts first; none where nothing is found.

    Raises:
        PartNetworkError: weights of another shape.
        CheckpointError: weights that do not tell parts and joints.
    """
    found = all_proposals([one.views for one in sought], model)
    return [
        [_pull(one, proposal) for proposal in own if proposal.confidence >= one.min_confidence]
        for one, own in zip(sought, found, strict=True)
    ]


def _pull(sought: Sought, proposal: Proposal) -> Pull:
    drag = drag_of(sought.views, proposal)
    prepared = prepare(sought.views, drag, True, sought.detail_px, close=True)
    known = Known(proposal.joint, proposal.probability, proposal.others)
    return Pull(replace(prepared, known=known), proposal.confidence)


def check_confidence(confidence: float) -> None:
    """Refuse what is no confidence.

    Raises:
        ConfigError: not in [0, 1].
    """
    if not 0 <= confidence <= 1:
        raise ConfigError(f"confidence {confidence:g}: give 0 to 1")


def proposals_in(views: SourceViews, model: LoadedModel) -> list[Proposal]:
    """The parts that the first view seems to show, the surest first; see :func:`find_parts`."""
    (found,) = all_proposals([views], model)
    return found


def all_proposals(views: Sequence[SourceViews], model: LoadedModel) -> list[list[Proposal]]:
    """:func:`proposals_in` of several objects, seen in one pass of the network."""
    if not views:
        return []
    network = model.articulated
    device = next(network.parameters()).device
    nowhere = DragPixels(torch.zeros(1, 2), torch.ones(1, 2), torch.zeros(1, dtype=torch.bool))
    shown = NetworkInput.cat([first_view_alone(network_input(one, nowhere, device)) for one in views])
    maps = maps_of(network, shown)
    alpha, cameras = coverage(shown.images, len(maps[0].movable)), shown.cameras.to("cpu")
    return [propose(own, alpha[row], cameras[row, 0]) for row, own in enumerate(maps)]


def drag_of(views: SourceViews, proposal: Proposal) -> DragPixels:
    """A proposal's drag in the user's pixels."""
    framed = views.framed[0]
    size = framed.image.shape[-1]
    start, end = (framed.to_source_px(size * point[None]) for point in (proposal.start, proposal.end))
    return DragPixels(start, end, torch.zeros(1, dtype=torch.bool))


def numbered_picture(found: Sequence[FoundPart]) -> UInt8[np.ndarray, "h w 3"]:
    """The first image on white, every part tinted and numbered from 1 on."""
    picture = to_bytes(composite_on_white(found[0].prediction.source.first_image))
    return draw_numbered(picture, [part.prediction.part_mask for part in found])


def describe_parts(found: Sequence[FoundPart]) -> dict[str, Any]:
    """What ``parts.json`` says but for its files; canonical frame, radians or object diagonals, pixels of the image."""
    first = found[0].prediction
    source = first.source
    return {
        "partrm_version": __version__,
        "model": {"name": first.model_name, "hash": first.model_hash},
        "source": {
            "width": source.framed[0].source_width,
            "height": source.framed[0].source_height,
            "cut_by": source.cut_by,
            "camera": describe_camera(source),
        },
        "parts": [
            {
                "number": number,
                "confidence": part.confidence,
                "joint": describe_joint(part.prediction.joint),
                "drag_px": torch.cat([part.prediction.drags.start, part.prediction.drags.end], 1)[0].tolist(),
            }
            for number, part in enumerate(found, start=1)
        ],
    }


def save_parts(found: Sequence[FoundPart], folder: Path) -> dict[str, Any]:
    """Write the picture and the masks; the content of ``parts.json``."""
    Image.fromarray(numbered_picture(found)).save(folder / PICTURE)
    about = describe_parts(found)
    for part, described in zip(found, about["parts"], strict=True):
        described["mask"] = f"part_{described['number']}.png"
        save_image(part.prediction.part_mask[None], folder / described["mask"])
    return about


def export_parts(
    found: Sequence[FoundPart],
    folder: Path,
    settings: "AssetSettings",
    formats: "Sequence[Format]",
    name: str,
    timings: bool = True,
) -> str | dict[str, str]:
    """Write one asset of all parts into ``folder / ASSET``; what ``parts.json`` says of it.

    Args:
        found: the parts.
        folder: of the results.
        settings: of the asset.
        formats: to write.
        name: of the object in them.
        timings: whether ``asset.json`` says how long it took.

    Returns:
        the asset's folder, or ``refused`` and why: parts that do not go together make none.
    """
    from partrm.assets.export import export_prediction
    from partrm.assets.predicted import AssetError
    from partrm.assets.predicted_parts import merge_parts

    try:
        merged = merge_parts([part.prediction.to_predicted() for part in found])
        export_prediction(merged, folder / ASSET, settings, formats, name=name, timings=timings)
    except AssetError as error:
        return {"refused": str(error)}
    return ASSET
