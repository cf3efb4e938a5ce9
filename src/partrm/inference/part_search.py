"""Which parts move, found without a drag: a head says where parts may be, and a drag of each asks the network.

Data flow::

    SourceViews ─► part_maps ─► propose ─► ask ─► weigh ─► distinct ─► ask_network, finish ─► FoundPart
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, Float, UInt8
from scipy.cluster.vq import ClusterError, kmeans2
from scipy.ndimage import gaussian_filter, maximum_filter
from torch import Tensor
from torch.nn.functional import cosine_similarity, interpolate, max_pool2d

from partrm import __version__
from partrm.errors import ConfigError, PartRMError
from partrm.geometry.cameras import Cameras
from partrm.geometry.joints import JointMotion
from partrm.geometry.transforms import transform_points
from partrm.imaging.drawing import draw_numbered, to_bytes
from partrm.inference.ensemble import AS_GIVEN, OTHERS, Answer, ask, differ, first_view_alone
from partrm.inference.part_head import PartMaps, part_maps
from partrm.inference.pipeline import ask_network, finish, network_input, prepare
from partrm.inference.prediction import Prediction, describe_camera, describe_joint
from partrm.inference.source import DragPixels, SourceViews
from partrm.metrics.images import composite_on_white
from partrm.model.checkpoints import LoadedModel

MIN_MOVABLE = 0.4
"""Probability from which a pixel is looked at."""

MIN_PIXELS = 16
"""Of a proposal, splats."""

VOTE_BLUR = 1.5
"""Standard deviation of a vote on a part's middle, splats."""

MIN_VOTES = 0.08
"""Height of a part's middle among the votes, as a share of the highest."""

APART = 3
"""Splats between two middles, at least."""

MIN_WAYS_APART, SPREAD_WEIGHT = 0.5, 0.3
"""Halves of a proposal that go ways as far apart, of the mean way's length, are asked about as well; and what a pixel's
place counts beside its way when halves are told apart."""

SIBLING = 0.25
"""A group of pixels at least so large, as a share of another's, is beside it; a smaller one may lie on it: a knob."""

MAX_PROPOSALS = 24

START_QUANTILE = 0.75
"""A proposal is pulled where the motion in the picture has this quantile: off the hinge, but not at the extreme end."""

SAME_PART = 0.5
"""Intersection over union from which two masks are of one part."""

MAX_AREA = 0.85
"""Of the object's pixels: what moves all of it is no part."""

WEIGHTS = {"movable": 0.7, "confidence": 0.6, "agreement": 1.2, "direction": 1.8}
"""What speaks for a candidate, logistic: the head's mean probability on its mask, the joint's own confidence, the share
of the ensemble's answers that agree, and how well the joint's motion goes where the head says. Fitted by
``benchmarks/parts.py --fit``."""

BIAS = -3.6

MIN_CONFIDENCE = 0.5
"""Below it a part is left out by default."""


class NoPartsError(PartRMError):
    """A picture in which nothing that moves is found."""


@dataclass(frozen=True)
class Proposal:
    """Where a part may be, and the drag to ask with."""

    mask: Bool[Tensor, "side side"]
    """On the network's grid of splats."""
    movable: float
    """Mean probability there that it moves."""
    others: Bool[Tensor, "side side"]
    """What other groups of pixels claim."""
    start: Float[Tensor, "2"]
    """Fractions of the network's picture."""
    end: Float[Tensor, "2"]


@dataclass(frozen=True)
class Candidate:
    """What the network says to a proposal."""

    proposal: Proposal
    joint: JointMotion
    """Of the surest answer, network's frame."""
    mask: Bool[Tensor, "side side"]
    """What would move."""
    evidence: tuple[float, ...]
    """One value for each of :data:`WEIGHTS`, [0, 1]."""

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


def propose(maps: PartMaps, alpha: Float[Tensor, "side side"], camera: Cameras) -> list[Proposal]:
    """Groups of pixels that move together, the largest first.

    Every pixel that may move votes for the middle of its part; it belongs to the middle nearest to its vote.

    Args:
        maps: what the head says.
        alpha: opacity of the object.
        camera: unbatched, that took the picture.
    """
    side = len(alpha)
    looked = (maps.movable > MIN_MOVABLE) & (alpha > 0.5)
    if int(looked.sum()) < MIN_PIXELS:
        return []
    middles = middles_of(maps.centre[looked], maps.movable[looked], side)
    nearest = torch.cdist(maps.centre[looked], middles).argmin(1)
    owner = torch.full((side, side), -1)
    owner[looked] = nearest
    wholes = torch.stack([owner == number for number in range(len(middles))])
    sizes, found = wholes.sum((1, 2)), []
    for number, whole in enumerate(wholes):
        siblings = (sizes > SIBLING * sizes[number]) & (torch.arange(len(wholes)) != number)
        others = wholes[siblings].any(0)
        for mask in (whole, *halves_of(whole, maps.displacement)):
            if int(mask.sum()) >= MIN_PIXELS:
                start, end = pull_of(mask, maps, camera)
                found.append(Proposal(mask, float(maps.movable[mask].mean()), others, start, end))
    return sorted(found, key=lambda proposal: -int(proposal.mask.sum()))[:MAX_PROPOSALS]


def halves_of(
    mask: Bool[Tensor, "side side"], displacement: Float[Tensor, "side side 3"]
) -> list[Bool[Tensor, "side side"]]:
    """The two groups of a proposal's pixels that go unlike ways, as two doors do that open from their middle; or none.

    Two means of where the pixels go and where they lie, begun at its far ends along the widest spread.
    """
    row, column = mask.nonzero(as_tuple=True)
    if len(row) < 2 * MIN_PIXELS:
        return []
    place = torch.stack([column, row], -1).float()
    place = (place - place.mean(0)) / place.std(0).clamp(min=1.0)
    ways = displacement[row, column]
    ways = ways / ways.norm(dim=-1).mean().clamp(min=1e-6)
    values = torch.cat([ways - ways.mean(0), SPREAD_WEIGHT * place], 1)
    along = values @ torch.linalg.svd(values, full_matrices=False).Vh[0]
    far = along > along.median()
    if not bool(far.any()):
        return []
    begun = torch.stack([values[~far].mean(0), values[far].mean(0)])
    try:
        _, group = kmeans2(values.numpy(), begun.numpy(), minit="matrix", missing="raise")
    except ClusterError:  # one of them is empty
        return []
    first = torch.from_numpy(group).bool()
    apart = (ways[first].mean(0) - ways[~first].mean(0)).norm()
    if float(apart) < MIN_WAYS_APART:
        return []
    halves = torch.zeros(2, *mask.shape, dtype=torch.bool)
    halves[0, row[first], column[first]] = True
    halves[1, row[~first], column[~first]] = True
    return list(halves)


def middles_of(votes: Float[Tensor, "n 2"], weights: Float[Tensor, " n"], side: int) -> Float[Tensor, "k 2"]:
    """Where votes pile up, x and y, splats."""
    cell = votes.floor().long().clamp(0, side - 1)
    heap = torch.zeros(side * side).index_add(0, cell[:, 1] * side + cell[:, 0], weights).reshape(side, side).numpy()
    heap = gaussian_filter(heap, VOTE_BLUR, mode="constant", truncate=3.0)
    peak = (heap == maximum_filter(heap, 2 * APART + 1)) & (heap > MIN_VOTES * heap.max())
    row, column = np.nonzero(peak)
    return torch.from_numpy(np.stack([column, row], -1)).float() + 0.5


def pull_of(
    mask: Bool[Tensor, "side side"], maps: PartMaps, camera: Cameras
) -> tuple[Float[Tensor, "2"], Float[Tensor, "2"]]:
    """Start and end of the drag that shows a proposal's motion, fractions of the picture."""
    side = len(mask)
    border = max_pool2d((~mask).float()[None], 3, 1, 1)[0] > 0
    inner = mask & ~border if int((mask & ~border).sum()) >= 4 else mask
    row, column = inner.nonzero(as_tuple=True)
    start = (torch.stack([column, row], -1) + 0.5) / side
    points = maps.points[row, column]
    before, _ = camera.project(points)
    after, _ = camera.project(points + maps.displacement[row, column])
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
        advance: called with the numbers of proposals and parts asked about, and of all that are known of.

    Raises:
        NoPartsError: nothing is found.
        PartHeadError: weights of another shape.
        CheckpointError: weights that do not tell parts and joints.
        ConfigError: a confidence or a detail out of its range.
    """
    check_confidence(min_confidence)
    places = candidates(views, model, advance)
    found = distinct([candidate for candidate in places if candidate.confidence >= min_confidence])
    if not found:
        raise NoPartsError(
            "no part that moves is found: pull one yourself (partrm predict --drag), or give a lower --min-confidence"
        )
    parts = []
    for number, candidate in enumerate(found, start=1):
        prepared = prepare(views, drag_of(views, candidate.proposal), True, detail_px, close=True)
        (consultation,), seconds = ask_network([prepared], model)
        prediction = finish(prepared, consultation, model, seconds, without=candidate.proposal.others)
        parts.append(FoundPart(prediction, candidate.confidence))
        advance(len(places) + number, len(places) + len(found))
    return tuple(parts)


def check_confidence(confidence: float) -> None:
    """Refuse what is no confidence.

    Raises:
        ConfigError: not in [0, 1].
    """
    if not 0 <= confidence <= 1:
        raise ConfigError(f"confidence {confidence:g}: give 0 to 1")


def candidates(
    views: SourceViews, model: LoadedModel, advance: Callable[[int, int], None] = lambda done, total: None
) -> list[Candidate]:
    """What the network says to every proposal, shown the first view alone; see :func:`find_parts`."""
    network = model.articulated
    device = next(network.parameters()).device
    nowhere = DragPixels(torch.zeros(1, 2), torch.ones(1, 2), torch.zeros(1, dtype=torch.bool))
    shown = first_view_alone(network_input(views, nowhere, device))
    maps = part_maps(network, shown)
    side = len(maps.movable)
    alpha = interpolate(shown.images[:, 0, 3:].cpu(), (side, side), mode="area")[0, 0]
    proposals, found = propose(maps, alpha, shown.cameras[0, 0].to("cpu")), []
    for number, proposal in enumerate(proposals, start=1):
        inputs = first_view_alone(network_input(views, drag_of(views, proposal), device))
        found.append(weigh(maps, alpha, proposal, ask(network, inputs, (AS_GIVEN, *OTHERS))))
        advance(number, len(proposals))
    area = int((alpha > 0.5).sum())
    return [candidate for candidate in found if MIN_PIXELS <= int(candidate.mask.sum()) <= MAX_AREA * area]


def drag_of(views: SourceViews, proposal: Proposal) -> DragPixels:
    """A proposal's drag in the user's pixels."""
    framed = views.framed[0]
    size = framed.image.shape[-1]
    start, end = (framed.to_source_px(size * point[None]) for point in (proposal.start, proposal.end))
    return DragPixels(start, end, torch.zeros(1, dtype=torch.bool))


def weigh(
    maps: PartMaps, alpha: Float[Tensor, "side side"], proposal: Proposal, answers: Sequence[Answer]
) -> Candidate:
    """What the network's answers to a proposal are worth."""
    best = max(answers, key=lambda answer: answer.joint.confidence * along(maps, alpha, answer))
    agreeing = [answer for answer in answers if not differ(answer.joint, best.joint)]
    mask = shown_by(alpha, agreeing) & ~proposal.others
    if not bool(mask.any()):
        return Candidate(proposal, best.joint, mask, (0.0,) * len(WEIGHTS))
    evidence = {
        "movable": float(maps.movable[mask].mean()),
        "confidence": best.joint.confidence,
        "agreement": len(agreeing) / len(answers),
        "direction": along(maps, alpha, best),
    }
    return Candidate(proposal, best.joint, mask, tuple(evidence[name] for name in WEIGHTS))


def shown_by(alpha: Float[Tensor, "side side"], answers: Sequence[Answer]) -> Bool[Tensor, "side side"]:
    """Where the picture shows the part by the mean of some answers."""
    return (torch.stack([answer.probability for answer in answers]).mean(0).cpu() > 0.5) & (alpha > 0.5)


def along(maps: PartMaps, alpha: Float[Tensor, "side side"], answer: Answer) -> float:
    """How well an answer moves its part where the head says, mean cosine, [0, 1]."""
    mask = shown_by(alpha, [answer])
    if not bool(mask.any()):
        return 0.0
    points = maps.points[mask]
    moved = transform_points(answer.joint.T_after_before, points) - points
    return float(cosine_similarity(moved, maps.displacement[mask], dim=-1).mean().clamp(min=0))


def distinct(found: Sequence[Candidate]) -> list[Candidate]:
    """The surest first, without those whose masks a surer one overlaps; parts on parts stay."""
    kept: list[Candidate] = []
    for candidate in sorted(found, key=lambda c: -c.confidence):
        if all(overlap(candidate.mask, other.mask) <= SAME_PART for other in kept):
            kept.append(candidate)
    return kept


def overlap(a: Bool[Tensor, "h w"], b: Bool[Tensor, "h w"]) -> float:
    """Intersection over union of two masks; 0 where both are empty."""
    return float((a & b).sum() / (a | b).sum().clamp(min=1))


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
