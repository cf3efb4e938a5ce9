"""One forward pass from images and drags to a prediction.

Data flow::

    source.SourceViews ─┐
    source.DragPixels  ─┴► prepare ─► ask_network (of one or many) ─► finish ─► prediction.Prediction
"""

import time
from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from einops import rearrange
from jaxtyping import Bool, Float
from torch import Tensor
from torch.nn.functional import interpolate

from partrm.geometry.cameras import Cameras
from partrm.geometry.drags import Drags
from partrm.geometry.framing import gaussians_to_object, joint_to_object
from partrm.geometry.gaussians import Gaussians
from partrm.geometry.joints import JointMotion
from partrm.imaging.edge_aware import follow_edges, follow_edges_at_once
from partrm.inference.decode import apply_joint_motion
from partrm.inference.detail import THICKNESS, check_detail, detailed, without_ghosts
from partrm.inference.ensemble import (
    DISTINCT_DEG,
    OTHERS,
    Answer,
    Consultation,
    Question,
    chance_right,
    conclude_all,
    consult,
    distinct_joints,
    of_both,
)
from partrm.inference.part_maps import claims_on, knows
from partrm.inference.prediction import Prediction
from partrm.inference.reading import together
from partrm.inference.source import DragPixels, SourceViews
from partrm.metrics.motion import joint_axis_error_rad
from partrm.model.checkpoints import LoadedModel
from partrm.model.inputs import VIEWS, NetworkInput, with_absent_views


def network_input(source: SourceViews, drags: DragPixels, device: torch.device | str = "cpu") -> NetworkInput:
    """One sample [b = 1] for the network, in its frame; absent views are zero images of cameras around the object."""
    present, size_px = len(source.framed), source.cameras.width
    images = torch.zeros(VIEWS, 4, size_px, size_px)
    images[:present] = torch.stack([framed.image for framed in source.framed])
    own = source.cameras[None]
    if source.network_frame is not None:
        own = source.network_frame[None].cameras_to_canonical(own)
    cameras, valid = with_absent_views(own)
    first = source.framed[0]
    pixels = Drags.from_pixels(first.to_framed_px(drags.start), first.to_framed_px(drags.end), size_px, size_px)
    return NetworkInput(images[None].to(device), cameras.to(device), valid.to(device), pixels[None].to(device))


@dataclass(frozen=True)
class Prepared:
    """What is asked about one object, ready for the network."""

    source: SourceViews
    drags: DragPixels
    inputs: NetworkInput
    """One sample [b = 1], on the CPU."""
    questions: tuple[Question, ...]
    """The ways to ask beside the one as given."""
    detail_px: int
    close: bool
    known: "Known | None" = None


@dataclass(frozen=True)
class Known:
    """What is known of a part before the network is asked about it."""

    joint: JointMotion
    """Network's frame; an answer of another type or axis is not believed."""
    probability: Float[Tensor, "side side"]
    """That what the first view shows belongs to it, on the network's grid of splats."""
    others: Bool[Tensor, "side side"]
    """What of the first view belongs to other parts."""

    def heard(self, probability: Float[Tensor, "side side"]) -> Float[Tensor, "side side"]:
        """Where the first view shows the part, by the network's answers and what is known."""
        mean = of_both(probability, self.probability, KNOWN_WEIGHT)
        return mean.masked_fill(self.others.to(mean.device), 0.0)


KNOWN_WEIGHT = 0.7
"""What is known counts so much beside the answers."""


def prepare(
    source: SourceViews, drags: DragPixels, ensemble: bool = True, detail_px: int = 0, close: bool = False
) -> Prepared:
    """Views and drags made ready for the network; see :func:`predict`."""
    check_detail(detail_px)
    single = ensemble and len(source.framed) == 1
    return Prepared(
        source, drags, network_input(source, drags), OTHERS if single else (), detail_px, close or detail_px > 0
    )


def predict(
    source: SourceViews,
    drags: DragPixels,
    model: LoadedModel,
    ensemble: bool = True,
    detail_px: int = 0,
    close: bool = False,
) -> Prediction:
    """Run the network on the device of its weights and read the part and its joint off the answer.

    Args:
        source: the views.
        drags: in pixels of the first.
        model: the weights.
        ensemble: of a single image, whether the network is asked in other ways too (:func:`consult`).
        detail_px: side of the grid of splats of what the first image shows; 0 leaves those of the network.
        close: whether surfaces are closed without detail too (:mod:`partrm.inference.closing`).

    Raises:
        CheckpointError: a network that does not tell parts and joints.
        ConfigError: a detail out of its range.
    """
    prepared = prepare(source, drags, ensemble, detail_px, close)
    (consultation,), seconds = ask_network([prepared], model)
    return finish(prepared, consultation, model, seconds)


def ask_network(group: Sequence[Prepared], model: LoadedModel) -> tuple[list[Consultation], float]:
    """The network's answers about several objects, asked together; and the seconds that each took of it.

    Raises:
        CheckpointError: a network that does not tell parts and joints.
    """
    started = time.perf_counter()
    network = model.articulated
    device = next(network.parameters()).device
    samples = [prepared.inputs.to(device) for prepared in group]
    answers = consult(network, samples, [prepared.questions for prepared in group])
    # What is known of a part already says what a claim would.
    rows = [row for row, prepared in enumerate(group) if prepared.questions and prepared.known is None]
    if rows and knows(network):
        for row, claim in zip(rows, claims_on(network, [samples[row] for row in rows]), strict=True):
            answers[row] = replace(answers[row], claim=claim)
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return answers, (time.perf_counter() - started) / len(group)


def finish(
    prepared: Prepared,
    consultation: Consultation,
    model: LoadedModel,
    network_s: float,
) -> Prediction:
    """The prediction that the network's answers amount to.

    Args:
        prepared: what was asked.
        consultation: what :func:`ask_network` gave.
        model: whose answers they are.
        network_s: seconds that the network took.
    """
    (found,) = finish_all([prepared], [consultation], model, network_s)
    return found.on_cpu()


def finish_all(
    group: Sequence[Prepared],
    consultations: Sequence[Consultation],
    model: LoadedModel,
    network_s: float,
) -> list[Prediction]:
    """:func:`finish` of several objects, read together on the network's device; their Gaussians stay there."""
    found: dict[int, Prediction] = {}
    for close in (False, True):
        rows = [row for row, prepared in enumerate(group) if prepared.close == close]
        if rows:
            asked, told = [group[row] for row in rows], [consultations[row] for row in rows]
            found |= zip(rows, _finished(asked, told, model, network_s), strict=True)
    return [found[row] for row in range(len(group))]


def _finished(
    group: Sequence[Prepared],
    consultations: Sequence[Consultation],
    model: LoadedModel,
    network_s: float,
) -> list[Prediction]:
    """The same of objects whose surfaces are all to be closed, or none of them."""
    started = time.perf_counter()
    device = consultations[0].inputs.images.device
    pictures = [_pictures(prepared, device) for prepared in group]
    fine: list[Float[Tensor, "b h w"]] = []

    def refine(probability: Float[Tensor, "b side side"]) -> Float[Tensor, "b side side"]:
        own = [
            one if prepared.known is None else prepared.known.heard(one)
            for one, prepared in zip(probability, group, strict=True)
        ]
        fine.append(refined_parts(torch.stack(own), torch.stack([guide for guide, _ in pictures])))
        return interpolate(fine[0][:, None], probability.shape[1:], mode="area")[:, 0]

    concluded = conclude_all(consultations, refine, group[0].close)
    found = []
    splats = _splats(group, [answers[0] for answers in concluded], fine[0], [one for _, one in pictures])
    for prepared, answers, part, (gaussians, moving) in zip(group, concluded, fine[0], splats, strict=True):
        best, source = answers[0], prepared.source
        joints = [answer.joint for answer in answers]
        if prepared.known is not None:
            joints = believed(joints, prepared.known.joint)
        chance = chance_right(answers) if joints[0] is best.joint else None
        joints = distinct_joints(joints)
        if source.network_frame is not None:
            gaussians = gaussians_to_object(source.network_frame.to(device), gaussians)
            joints = tuple(joint_to_object(source.network_frame, joint) for joint in joints)
        timings = {"network": network_s, "joint": (time.perf_counter() - started) / len(group)}
        found.append(
            Prediction(
                before=gaussians,
                after=apply_joint_motion(gaussians, moving, joints[0].T_after_before.to(device)),
                moving=moving,
                joint=joints[0],
                part=part,
                source=source,
                drags=prepared.drags,
                model_name=model.name,
                model_hash=model.hash,
                timings_s=timings,
                alternatives=joints[1:],
                chance_right=chance,
                precision=model.precision,
            )
        )
    return found


def _splats(
    group: Sequence[Prepared],
    best: Sequence[Answer],
    probability: Float[Tensor, "b h w"],
    pictures: Sequence[Float[Tensor, "4 _ _"] | None],
) -> list[tuple[Gaussians, Bool[Tensor, "_"]]]:
    """Each object's Gaussians before the motion and which of them move, as fine as its picture if it has one."""
    found = {row: (best[row].gaussians, best[row].moving) for row, one in enumerate(pictures) if one is None}
    rows = [row for row in range(len(group)) if row not in found]
    sizes = {group[row].detail_px for row in rows}
    alike = [[row for row in rows if group[row].detail_px == size] for size in sizes]
    for some in alike if together(probability.device) else [[row] for row in rows]:
        seen = torch.stack([picture for picture in (pictures[row] for row in some) if picture is not None])
        asked = [group[row].inputs for row in some]
        found |= zip(some, detailed_answers([best[row] for row in some], asked, probability[some], seen), strict=True)
    return [found[row] for row in range(len(group))]


def believed(joints: Sequence[JointMotion], known: JointMotion) -> list[JointMotion]:
    """Joints, the surest first, those of another type or axis than the known one after all others; it if all are."""

    def like(joint: JointMotion) -> bool:
        turned = torch.rad2deg(joint_axis_error_rad(joint.axis, known.axis))
        return joint.type == known.type and float(turned) <= DISTINCT_DEG

    alike = [joint for joint in joints if like(joint)]
    return (alike or [known]) + [joint for joint in joints if not like(joint)]


def _pictures(
    prepared: Prepared, device: torch.device
) -> tuple[Float[Tensor, "4 size size"], Float[Tensor, "4 side side"] | None]:
    """The picture whose edges the part's mask follows, and the one that the splats are as fine as, if any."""

    def picture(size_px: int) -> Float[Tensor, "4 size size"]:
        return prepared.source.first_picture(size_px, device=device)[0].image

    guide = picture(GUIDE_PX)
    if not prepared.detail_px:
        return guide, None
    return guide, guide if prepared.detail_px == GUIDE_PX else picture(prepared.detail_px)


GUIDE_PX = 384
"""Side of the picture whose edges the part's mask follows."""

EDGE_REACH, EDGE_CONTRAST = 0.07, 0.03
"""How far sure pixels tell others of an even surface, as a share of the picture's side; and which edge stops them."""


def detailed_answers(
    answers: Sequence[Answer],
    asked: Sequence[NetworkInput],
    probability: Float[Tensor, "b h w"],
    pictures: Float[Tensor, "b 4 size size"],
) -> list[tuple[Gaussians, Bool[Tensor, "_"]]]:
    """Answers' Gaussians, those that the first images show in the pictures' resolution; and which move.

    Args:
        answers: whose surfaces are closed.
        asked: the samples [b = 1] that they are about.
        probability: where the first images show the parts.
        pictures: what the first cameras see.
    """
    side = pictures.shape[-1]
    where = interpolate(probability[:, None], (side, side), mode="bilinear")[:, 0] > 0.5
    cameras = Cameras.cat([inputs.cameras[0, :1] for inputs in asked]).to(pictures.device).resized(side)
    surface = Gaussians.cat([answer.surface[None] for answer in answers])
    moving = torch.stack([answer.probability.flatten() > 0.5 for answer in answers])
    seen = detailed(surface, moving, cameras, pictures, where)
    rest, rest_moving = zip(*(answer.unseen for answer in answers), strict=True)
    rest_moving = torch.stack(rest_moving)
    thickness = pictures.new_tensor([THICKNESS[answer.joint.type] for answer in answers])
    spacing_px = side / len(answers[0].probability)
    rest = Gaussians.cat([one[None] for one in rest])
    rest, kept = without_ghosts(rest, rest_moving, seen, cameras, pictures[:, 3], thickness, spacing_px)
    kept = torch.cat([~seen.depth.flatten(1).isnan(), kept], 1)
    index = kept.flatten().nonzero()[:, 0]
    whole = Gaussians.cat([seen.gaussians, rest], dim=1).map(lambda values: values.flatten(0, 1)[index])
    moves = torch.cat([seen.moving.flatten(1), rest_moving], 1).flatten()[index]
    ends = kept.sum(1).cumsum(0).tolist()
    return [(whole[first:end], moves[first:end]) for first, end in zip([0, *ends], ends, strict=False)]


def refined_parts(
    probability: Float[Tensor, "b side side"], guide: Float[Tensor, "b 4 size size"]
) -> Float[Tensor, "b size size"]:
    """Where the first views show the parts, by the network and by the edges of the photographs themselves."""
    size = guide.shape[-1]
    large = interpolate(probability[:, None], (size, size), mode="bilinear")[:, 0]
    reach_px = EDGE_REACH * size
    if together(guide.device):
        return follow_edges_at_once(large, guide[:, :3], guide[:, 3], reach_px, EDGE_CONTRAST).float()
    followed = [
        follow_edges(
            one.numpy(), rearrange(picture[:3], "c h w -> h w c").numpy(), picture[3].numpy(), reach_px, EDGE_CONTRAST
        )
        for one, picture in zip(large, guide, strict=True)
    ]
    return torch.stack([torch.from_numpy(one).float() for one in followed])
