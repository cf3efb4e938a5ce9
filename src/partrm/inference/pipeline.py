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

from partrm.geometry.cameras import Cameras, canonical_orbit
from partrm.geometry.drags import Drags
from partrm.inference.decode import apply_joint_motion, read_motion, run_network
from partrm.inference.prediction import Prediction
from partrm.inference.source import DragPixels, SourceViews
from partrm.model.checkpoints import LoadedModel
from partrm.model.inputs import VIEWS, NetworkInput
from partrm.model.network import NetworkOutput


def network_input(source: SourceViews, drags: DragPixels, device: torch.device | str = "cpu") -> NetworkInput:
    """One sample [b = 1] for the network; absent views are zero images under the cameras of the canonical orbit."""
    present, size_px = len(source.framed), source.cameras.width
    images = torch.zeros(VIEWS, 4, size_px, size_px)
    images[:present] = torch.stack([framed.image for framed in source.framed])
    absent = canonical_orbit(VIEWS, size_px)
    cameras = Cameras(
        torch.cat([source.cameras.T_world_camera, absent.T_world_camera[present:]]),
        torch.cat([source.cameras.fovy_rad, absent.fovy_rad[present:]]),
        size_px,
        size_px,
    )
    first = source.framed[0]
    canonical = Drags.from_pixels(
        first.to_canonical_px(drags.start), first.to_canonical_px(drags.end), size_px, size_px, view=0
    )
    return NetworkInput(
        images=images[None].to(device),
        cameras=cameras[None].to(device),
        view_valid=(torch.arange(VIEWS) < present)[None].to(device),
        drags=canonical[None].to(device),
    )


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


def _part_mask(output: NetworkOutput, source: SourceViews) -> Float[Tensor, "h w"]:
    """The moving pixels of the first view, carried to the user's pixels and cut by the object's mask there."""
    side = math.isqrt(output.moving.shape[1] // VIEWS)
    first = rearrange(output.moving[0], "(v h w) -> v h w", v=VIEWS, h=side, w=side)[0]
    probability = source.framed[0].map_to_source(first.float().cpu())
    return ((probability > 0.5) & (source.first_alpha > 0.5)).float()
