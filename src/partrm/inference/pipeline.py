"""One forward pass from images and drags to a prediction.

Data flow::

    source.SourceViews ─┐
    source.DragPixels  ─┴► network_input ─► network ─► read_motion ─► prediction.Prediction
"""

import math
import time

import torch
from einops import rearrange
from jaxtyping import Float
from torch import Tensor

from partrm.geometry.drags import Drags
from partrm.geometry.framing import gaussians_to_object, joint_to_object
from partrm.inference.decode import apply_joint_motion, read_motion, run_network
from partrm.inference.prediction import Prediction
from partrm.inference.reading import Reading
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


def predict(source: SourceViews, drags: DragPixels, model: LoadedModel) -> Prediction:
    """Run the network once on the device of its weights and read the part and its joint off the answer.

    Raises:
        CheckpointError: a network that does not tell parts and joints.
    """
    started = time.perf_counter()
    network = model.articulated
    device = next(network.parameters()).device
    inputs = network_input(source, drags, device)
    output = run_network(network, inputs)
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    networked = time.perf_counter()
    gaussians, part, joint = read_motion(output, inputs)
    if source.network_frame is not None:
        gaussians = gaussians_to_object(source.network_frame, gaussians)
        joint = joint_to_object(source.network_frame, joint)
    return Prediction(
        before=gaussians,
        after=apply_joint_motion(gaussians, part, joint.T_after_before),
        moving=part,
        joint=joint,
        part_mask=_part_mask(output, source),
        source=source,
        drags=drags,
        model_name=model.name,
        model_hash=model.hash,
        timings_s={"network": networked - started, "joint": time.perf_counter() - networked},
    )


def _part_mask(output: Reading, source: SourceViews) -> Float[Tensor, "h w"]:
    """The moving pixels of the first view, carried to the user's pixels and cut by the object's mask there."""
    side = math.isqrt(output.moving.shape[1] // VIEWS)
    first = rearrange(output.moving[0], "(v h w) -> v h w", v=VIEWS, h=side, w=side)[0]
    probability = source.framed[0].map_to_source(first.float().cpu())
    return ((probability > 0.5) & (source.first_alpha > 0.5)).float()
