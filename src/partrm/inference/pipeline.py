"""One forward pass from images and drags to a prediction.

Data flow::

    source.SourceViews ─┐
    source.DragPixels  ─┴► prepare ─► ask_network (of one or many) ─► finish ─► prediction.Prediction
"""

import time
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from einops import rearrange
from jaxtyping import Bool, Float
from torch import Tensor

from partrm.geometry.drags import Drags
from partrm.geometry.framing import gaussians_to_object, joint_to_object
from partrm.geometry.gaussians import Gaussians
from partrm.imaging.edge_aware import follow_edges
from partrm.inference.decode import apply_joint_motion
from partrm.inference.detail import THICKNESS, check_detail, detailed, without_ghosts
from partrm.inference.ensemble import (
    OTHERS,
    Answer,
    Consultation,
    Question,
    chance_right,
    conclude,
    consult,
    distinct_joints,
)
from partrm.inference.prediction import Prediction
from partrm.inference.source import DragPixels, SourceViews
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
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return answers, (time.perf_counter() - started) / len(group)


def finish(
    prepared: Prepared,
    consultation: Consultation,
    model: LoadedModel,
    network_s: float,
    without: Bool[Tensor, "side side"] | None = None,
) -> Prediction:
    """The prediction that the network's answers amount to.

    Args:
        prepared: what was asked.
        consultation: what :func:`ask_network` gave.
        model: whose answers they are.
        network_s: seconds that the network took.
        without: what of the first view is known not to be the part's.
    """
    started = time.perf_counter()
    source = prepared.source
    fine: list[Float[Tensor, "h w"]] = []
    guide = source.first_picture(GUIDE_PX)[0].image

    def refine(probability: Float[Tensor, "side side"]) -> Float[Tensor, "side side"]:
        known = probability if without is None else probability.masked_fill(without, 0.0)
        fine.append(refined_part(known, guide))
        return torch.nn.functional.interpolate(fine[0][None, None], probability.shape, mode="area")[0, 0]

    best, *others = conclude(consultation, refine, prepared.close)
    joints = distinct_joints([answer.joint for answer in (best, *others)])
    gaussians, moving = best.gaussians, best.moving
    if prepared.detail_px:
        picture = source.first_picture(prepared.detail_px)[0].image
        gaussians, moving = detailed_answer(best, prepared.inputs, fine[0], picture)
    if source.network_frame is not None:
        gaussians = gaussians_to_object(source.network_frame, gaussians)
        joints = tuple(joint_to_object(source.network_frame, joint) for joint in joints)
    return Prediction(
        before=gaussians,
        after=apply_joint_motion(gaussians, moving, joints[0].T_after_before),
        moving=moving,
        joint=joints[0],
        part_mask=_part_mask(fine[0], source),
        source=source,
        drags=prepared.drags,
        model_name=model.name,
        model_hash=model.hash,
        timings_s={"network": network_s, "joint": time.perf_counter() - started},
        alternatives=joints[1:],
        chance_right=chance_right((best, *others)),
    )


GUIDE_PX = 384
"""Side of the picture whose edges the part's mask follows."""

EDGE_REACH, EDGE_CONTRAST = 0.07, 0.03
"""How far sure pixels tell others of an even surface, as a share of the picture's side; and which edge stops them."""


def detailed_answer(
    answer: Answer, inputs: NetworkInput, probability: Float[Tensor, "h w"], picture: Float[Tensor, "4 size size"]
) -> tuple[Gaussians, Bool[Tensor, " n"]]:
    """An answer's Gaussians, those that the first image shows in the picture's resolution; and which move."""
    side = picture.shape[-1]
    where = torch.nn.functional.interpolate(probability[None, None], (side, side), mode="bilinear")[0, 0] > 0.5
    camera = inputs.cameras[0, 0].to("cpu").resized(side)
    seen, seen_moving = detailed(answer.surface, answer.probability.flatten() > 0.5, camera, picture, where)
    hidden, hidden_moving = answer.gaussians[answer.shown :], answer.moving[answer.shown :]
    rest, rest_moving = without_ghosts(
        hidden,
        hidden_moving,
        seen,
        seen_moving,
        camera,
        picture[3],
        THICKNESS[answer.joint.type],
        spacing_px=side / len(answer.probability),
    )
    return Gaussians.concatenate([seen, rest]), torch.cat([seen_moving, rest_moving])


def refined_part(
    probability: Float[Tensor, "side side"], guide: Float[Tensor, "4 size size"]
) -> Float[Tensor, "size size"]:
    """Where the first view shows the part, by the network and by the edges of the photograph itself."""
    large = torch.nn.functional.interpolate(probability[None, None], guide.shape[1:], mode="bilinear")[0, 0]
    followed = follow_edges(
        large.numpy(),
        rearrange(guide[:3], "c h w -> h w c").numpy(),
        guide[3].numpy(),
        EDGE_REACH * guide.shape[-1],
        EDGE_CONTRAST,
    )
    return torch.from_numpy(followed).float()


def _part_mask(probability: Float[Tensor, "side side"], source: SourceViews) -> Float[Tensor, "h w"]:
    """The moving pixels of the first view, carried to the user's pixels and cut by the object's mask there."""
    carried = source.first_framed.map_to_source(probability)
    found = ((carried > 0.5) & (source.first_alpha > 0.5)).float()
    return (source.mask_in_user_px(found) > 0.5).float()
