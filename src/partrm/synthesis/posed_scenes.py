"""Batches of objects in their states: posed, framed, lit, rendered; the exact surface and motion behind every pixel."""

from dataclasses import dataclass, replace

import torch
from einops import rearrange
from jaxtyping import Bool, Float
from torch import Tensor

from partrm.geometry.cameras import Cameras, crop_cameras, mask_boxes
from partrm.geometry.framing import Framing, first_crops, framing_of_crops
from partrm.geometry.joints import JointType
from partrm.geometry.tensor_record import TensorRecord
from partrm.geometry.transforms import transform_points
from partrm.model.inputs import VIEWS, pooled_rgba
from partrm.objects.materials import MaterialTable
from partrm.rendering.meshes import Instances, Lights, MeshScene, SurfaceMaps, render_meshes, trace_surfaces
from partrm.synthesis.lighting import USUAL_LIGHTING, LightingConfig, sample_decals, with_lamps
from partrm.synthesis.samples import JointTruth, MotionTargets, StateViews
from partrm.synthesis.scenarios import (
    PHOTOGRAPH_MARGIN,
    JointTables,
    Scenario,
    carried_parts,
    joint_in_object_frame,
    sample_turned_cameras,
    uniform,
)


@dataclass(frozen=True)
class PosedBatch(TensorRecord):
    """A batch of scenarios with everything that rendering needs, object frames."""

    scenario: Scenario
    framing: Framing
    first: Cameras
    """[b, 1] canonical frame: the camera that takes the first view."""
    instances: Instances
    """Source state."""
    T_motion: Float[Tensor, "b 4 4"]
    """Motion of the dragged part, object frame."""
    carried: Bool[Tensor, "b parts"]
    lights: Lights


def pose_batch(
    scene: MeshScene,
    tables: JointTables,
    scenario: Scenario,
    framing: Framing,
    first: Cameras,
    materials: MaterialTable,
    augment: bool,
    generator: torch.Generator,
    lighting: LightingConfig = USUAL_LIGHTING,
) -> PosedBatch:
    """Place the objects of a batch in their source states, under a light; ``first`` [b, 1] takes their first views.

    With ``augment`` light and labels are random as in ``lighting``; without, it is the reference's, and none.
    """
    T_source, T_motion, carried = carried_parts(tables, scenario)
    instances = Instances.of_objects(scene, scenario.object, T_source.float(), materials)
    b = len(scenario.object)
    if augment:
        lights = training_lights(b, generator, lighting)
        instances = replace(instances, decals=sample_decals(scene, instances, lighting, generator))
    else:
        lights = Lights.reference(b, scene.device)
    return PosedBatch(scenario, framing, first, instances, T_motion.float(), carried, lights)


MASK_BOX_PX = 96
"""Side of the coarse pictures that training reads mask boxes off."""


def framed_as_cropped(posed: PosedBatch, crops: Cameras) -> PosedBatch:
    """The batch in the frames of its first views, given as crops [b], object frame."""
    framing = framing_of_crops(crops, torch.zeros_like(crops.positions))
    return replace(posed, framing=framing, first=first_crops(crops.fovy_rad, crops.width))


def silhouettes(scene: MeshScene, posed: PosedBatch, cameras: Cameras) -> Bool[Tensor, "b v h w"]:
    """Where cameras [b, v], object frame, see the source state."""
    return trace_surfaces(scene, posed.instances, cameras).part >= 0


def turned_views(scene: MeshScene, posed: PosedBatch, views: int, size_px: int, generator: torch.Generator) -> Cameras:
    """[b, views] canonical-frame crops of the first view and others about the object, each about its own mask box."""
    first = Cameras(posed.first.T_world_camera, posed.first.fovy_rad, size_px, size_px)
    if views == 1:
        return first
    turned = sample_turned_cameras(posed.framing, first, views, generator)
    wide = 2 * torch.atan(PHOTOGRAPH_MARGIN * torch.tan(turned.fovy_rad / 2))
    coarse = Cameras(turned.T_world_camera, wide, MASK_BOX_PX, MASK_BOX_PX)
    boxes = mask_boxes(silhouettes(scene, posed, posed.framing.cameras_to_object(coarse)))
    crops = crop_cameras(coarse, boxes)
    T = torch.cat([first.T_world_camera, crops.T_world_camera[:, 1:]], 1)
    return Cameras(T, torch.cat([first.fovy_rad, crops.fovy_rad[:, 1:]], 1), size_px, size_px)


def training_lights(b: int, generator: torch.Generator, lighting: LightingConfig = USUAL_LIGHTING) -> Lights:
    """The reference's light in some samples, a random one with lamps that gloss mirrors in the others."""
    random = with_lamps(random_lights(b, generator), lighting, generator)
    reference = Lights.reference(b, generator.device)
    usual = uniform((b,), 0.0, 1.0, generator) < lighting.reference_share

    usual_values = reference.leaves()

    def either(name: str, drawn: Tensor) -> Tensor:
        return torch.where(usual.view(-1, *[1] * (drawn.ndim - 1)), usual_values[name], drawn)

    return Lights(**{name: either(name, drawn) for name, drawn in random.leaves().items()})


def random_lights(b: int, generator: torch.Generator) -> Lights:
    """One light somewhere above and a world of random strength and direction, object frame."""
    device = generator.device
    direction = torch.randn(b, 3, generator=generator, device=device)
    direction[:, 2] = direction[:, 2].abs() + 0.3
    direction[:, 0] += 0.7
    direction = torch.nn.functional.normalize(direction, dim=-1)
    sky = torch.randn(b, 3, generator=generator, device=device) * 0.5
    sky[:, 2] += 1.0
    warmth = 1 + 0.08 * torch.randn(b, 3, generator=generator, device=device)
    return replace(
        Lights.reference(b, device),
        position=direction * uniform((b, 1), 3.0, 9.0, generator),
        intensity=uniform((b,), 0.1, 0.7, generator),
        ambient=uniform((b, 1), 0.55, 0.95, generator) * warmth.clamp(0.8, 1.2),
        sky=torch.nn.functional.normalize(sky, dim=-1),
        sky_contrast=uniform((b,), 0.2, 0.75, generator),
    )


def moving_mask(maps: SurfaceMaps, carried: Bool[Tensor, "b parts"]) -> Bool[Tensor, "b v h w"]:
    """Which pixels show a part that the motion carries."""
    flat = rearrange(maps.part.long(), "b v h w -> b (v h w)")
    moving = carried.gather(1, flat.clamp(min=0)) & (flat >= 0)
    _, v, h, w = maps.part.shape
    return rearrange(moving, "b (v h w) -> b v h w", v=v, h=h, w=w)


def distances_from(cameras: Cameras, targets: MotionTargets) -> Float[Tensor, "b v h w"]:
    """How far the surface lies from the cameras that the network is told of, zero on the background."""
    distance = (targets.point - cameras.positions[:, :, None, None]).norm(dim=-1)
    return torch.where(targets.surface, distance, 0.0)


def joint_truth(tables: JointTables, posed: PosedBatch) -> JointTruth:
    """The dragged joints of a batch in its canonical frames."""
    kind, axis, pivot, amount = joint_in_object_frame(tables, posed.scenario, posed.instances.T_world_part)
    in_units = torch.where(kind == JointType.PRISMATIC, amount * posed.framing.scale, amount)
    return JointTruth(
        type=kind,
        axis=posed.framing.directions_to_canonical(axis.float()),
        pivot=posed.framing.points_to_canonical(pivot.float()[:, None])[:, 0],
        amount=in_units.float(),
        T_after_before=posed.framing.motion_to_canonical(posed.T_motion),
    )


def moved_instances(posed: PosedBatch) -> Instances:
    """The batch in its target states."""
    T = posed.instances.T_world_part
    moved = torch.where(posed.carried[..., None, None], posed.T_motion[:, None] @ T, T)
    return replace(posed.instances, T_world_part=moved)


def render_states(scene: MeshScene, posed: PosedBatch, cameras: Cameras) -> StateViews:
    """Source and target state from canonical-frame cameras [b, m]."""
    in_object = posed.framing.cameras_to_object(cameras)
    before = render_meshes(scene, posed.instances, in_object, posed.lights)
    after = render_meshes(scene, moved_instances(posed), in_object, posed.lights)
    return StateViews(cameras, before, after)


def layer_targets(
    scene: MeshScene, posed: PosedBatch, cameras: Cameras, keep: Bool[Tensor, "b parts"]
) -> MotionTargets:
    """Surfaces that pixels would show of some parts alone, the others taken away; ``cameras`` in object frames."""
    instances = replace(posed.instances, part=torch.where(keep, posed.instances.part, -1))
    alone = replace(posed, instances=instances)
    maps = trace_surfaces(scene, instances, cameras)
    images = render_meshes(scene, instances, cameras, posed.lights, samples_per_axis=1, shadows=False)
    return motion_targets(scene, alone, maps, cameras, images)


def motion_targets(
    scene: MeshScene, posed: PosedBatch, maps: SurfaceMaps, cameras: Cameras, images: Float[Tensor, "b k 4 H W"]
) -> MotionTargets:
    """Exact surface, colour and motion of every splat pixel; ``cameras`` are the maps', in object frames."""
    _, _, h, w = maps.part.shape
    surface = maps.part >= 0
    in_object = torch.where(surface[..., None], maps.point_world, torch.zeros_like(maps.point_world))
    flat = rearrange(in_object, "b v h w c -> b (v h w) c")
    point = posed.framing.points_to_canonical(flat)
    T = posed.framing.motion_to_canonical(posed.T_motion)
    shift = transform_points(T, point) - point

    def maps_of(values: Tensor) -> Tensor:
        return rearrange(values, "b (v h w) c -> b v h w c", h=h, w=w)

    offset = in_object - cameras.positions[:, :, None, None]
    distance = offset.norm(dim=-1) * posed.framing.scale[:, None, None, None]
    k = images.shape[1]
    pooled = images if images.shape[-1] == w else pooled_rgba(images, images.shape[-1] // w)
    rgba = rearrange(pooled, "b k c h w -> b k h w c")
    if k < VIEWS:
        absent = render_meshes(scene, posed.instances, cameras[:, k:], posed.lights, samples_per_axis=1)
        rgba = torch.cat([rgba, rearrange(absent, "b k c h w -> b k h w c")], 1)
    moving = moving_mask(maps, posed.carried)
    on = surface[..., None]
    return MotionTargets(
        point=torch.where(on, maps_of(point), 0.0),
        distance=torch.where(surface, distance, 0.0),
        normal=torch.einsum("b i j, b v h w j -> b v h w i", posed.framing.R_canonical_object, maps.normal),
        surface=surface,
        coverage=rgba[..., 3],
        rgb=rgba[..., :3],
        moving=moving,
        displacement=torch.where(moving[..., None], maps_of(shift), 0.0),
    )
