"""What a prediction is measured against, from the same samples: copies, no motion, and oracles of motion and geometry.

Read from one to the next they say where quality is lost: ``oracle_geometry`` is what Gaussians on the true surface
give, on the input views' rays and without being fitted to any image (surfaces that no input view sees are missing),
``oracle_motion`` loses what the reconstruction loses, the model what finding part and motion loses.
"""

import math

import torch
from einops import rearrange
from jaxtyping import Bool, Float
from torch import Tensor

from partrm.evaluation.samples import OPAQUE, GroundTruth, MethodOutput, TrueSurface
from partrm.geometry.cameras import Cameras
from partrm.geometry.gaussians import Gaussians
from partrm.inference.decode import apply_joint_motion, widened
from partrm.model.inputs import VIEWS
from partrm.rendering.meshes import MeshScene, render_meshes, trace_surfaces
from partrm.rendering.splats import render_splats
from partrm.synthesis.posed_scenes import PosedBatch, motion_targets
from partrm.synthesis.target_gaussians import surface_gaussians


def true_surfaces(
    scene: MeshScene, posed: PosedBatch, cameras: Cameras, images: Float[Tensor, "b 4 4 h w"] | None = None
) -> TrueSurface:
    """True Gaussians [b, n] of some samples.

    Args:
        cameras: [b, 4] the network's input cameras, canonical frame; its Gaussians lie on a grid of half their pixels.
        images: RGBA from all of these cameras where the scene has no materials; rendered by default.

    Each Gaussian is the disc on the surface that its pixel sees, as opaque as its pixel is covered.
    """
    side = cameras.width // 2
    in_object = posed.framing.cameras_to_object(cameras)
    maps = trace_surfaces(scene, posed.instances, in_object.resized(side))
    if images is None:
        images = render_meshes(scene, posed.instances, in_object, posed.lights)
    targets = motion_targets(scene, posed, maps, in_object.resized(side), images)
    gaussians = surface_gaussians(targets, cameras)
    moving = rearrange(targets.moving, "b v h w -> b (v h w)")
    return TrueSurface(gaussians, moving, moving)


def baseline_answers(
    truth: GroundTruth,
    reconstruction: tuple[Gaussians, Gaussians | None],
    still: Float[Tensor, "views 3 h w"],
    surface: TrueSurface | None,
    cameras: Cameras,
) -> dict[str, MethodOutput]:
    """The answers of all baselines to one sample; without oracles where the data do not tell surface and motion.

    Args:
        reconstruction: all the network's Gaussians of this sample before the motion: seen [n], and hidden [n] by them.
        still: that reconstruction seen from ``cameras`` [views].
        surface: [n].
    """
    answers = {"copy": MethodOutput(None, None, truth.before), "no_motion": MethodOutput(None, None, still)}
    if surface is None or truth.T_after_before is None:
        return answers
    T = truth.T_after_before.to(cameras.device)
    shown, hidden = reconstruction[0].to(cameras.device), reconstruction[1]
    everything, moving = shown, surface.network_moving
    if hidden is not None:
        everything = Gaussians.concatenate([shown, hidden.to(cameras.device)])
        moving = torch.cat([moving, ~moving])
    ours = apply_joint_motion(widened(everything, moving), moving, T)
    true = apply_joint_motion(surface.gaussians, surface.moving, T)
    seen = first_view_grid(surface.network_moving & (shown.opacities > OPAQUE))
    true_seen = first_view_grid(surface.moving & (surface.gaussians.opacities > OPAQUE))
    return answers | {
        "oracle_motion": MethodOutput(seen, truth.joint, render_on_white(ours, cameras)),
        "oracle_geometry": MethodOutput(true_seen, truth.joint, render_on_white(true, cameras)),
    }


def first_view_grid(values: Bool[Tensor, " n"]) -> Bool[Tensor, "side side"]:
    """The first of four views of a value for each Gaussian, on the CPU."""
    side = math.isqrt(len(values) // VIEWS)
    return rearrange(values, "(v h w) -> v h w", v=VIEWS, h=side)[0].cpu()


def render_on_white(gaussians: Gaussians, cameras: Cameras) -> Float[Tensor, "views 3 h w"]:
    """Images of Gaussians on white, on the cameras' device."""
    with torch.inference_mode():
        return render_splats(gaussians.to(cameras.device), cameras).rgb.clamp(0, 1)
