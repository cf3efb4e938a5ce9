"""Samples made where they are used: scenarios, ray casting, drags and exact targets on the training device."""

from collections.abc import Callable
from dataclasses import dataclass, field, replace

import torch
from einops import rearrange, repeat
from jaxtyping import Bool, Float, Int
from torch import Tensor

from partrm.articulation.kinematics import JointType
from partrm.articulation.materials import MaterialTable
from partrm.cameras import CANONICAL_FOVY_RAD, Cameras
from partrm.data.cutouts import CutoutConfig
from partrm.data.effects import EffectConfig
from partrm.data.lighting import sample_decals, training_lights
from partrm.data.photographs import Tone, developed
from partrm.data.posed_views import posed_views
from partrm.data.samples import VIEWS, JointTruth, MotionTargets, NetworkInput, Samples, StateViews, pooled_rgba
from partrm.data.scenarios import (
    Framing,
    JointTables,
    Scenario,
    ScenarioConfig,
    carried_parts,
    choose,
    first_view,
    framed_by_outline,
    joint_in_object_frame,
    sample_framing,
    sample_input_cameras,
    sample_novel_cameras,
    sample_scenarios,
    some_at_given_views,
    uniform,
)
from partrm.data.viewpoints import (
    Viewpoint,
    ViewpointConfig,
    first_cameras,
    photographed,
    sample_lenses,
    sample_viewing_framing,
)
from partrm.drags import MAX_DRAGS, Drags
from partrm.rendering.meshes import Instances, Lights, MeshScene, SurfaceMaps, render_meshes, trace_surfaces
from partrm.transforms import transform_points


@dataclass(frozen=True)
class SampleConfig:
    """What one batch of samples holds."""

    image_size_px: int = 256
    """Side of the input images; targets lie on a grid of half that side."""
    views: int = 1
    """Input views that are present, 1 to 4."""
    filled: bool = True
    """Of several views: each cropped to what it shows of the object; without, the canonical cameras as they are."""
    drags: int = 0
    """Drags of each sample; 0 draws 1 (half of the time) to 10."""
    drag_noise: float = 0.02
    """Standard deviation of drag ends, fraction of the image, for half of the drags; of short drags a tenth."""
    novel_views: int = 0
    """Renders of both states from cameras of their own."""
    novel_size_px: int = 128
    at_given_views: float = 0.5
    """How often, where several views are given, one of them takes the first novel camera's place: what the others show
    must look right from it. Only with ``augment``."""
    samples_per_axis: int = 2
    """Sub-samples per pixel side of the input images."""
    augment: bool = True
    """Random light, lens, exposure and image noise; without, the reference's light and the canonical lens."""
    least_moving: float = 0.016
    """Least share of the first view's pixels that must show the dragged part."""
    least_drag: float = 0.03
    """Least mean length of the part's motion in the first view, fraction of the image."""
    layers: int = 1
    """2 adds the targets of what stays, with the moving part taken away, and of that part alone."""
    scenario: ScenarioConfig = field(
        default_factory=lambda: ScenarioConfig(small_probability=0.3, outline_probability=1.0)
    )
    viewpoint: ViewpointConfig = field(default_factory=ViewpointConfig)
    """Of single views that are framed by the outline; only with ``augment``, as all that follows."""
    home_share: float = 0.5
    """How often objects drawn from a pool have materials as homes have them, with ``augment``."""
    cutout: CutoutConfig = field(default_factory=CutoutConfig)
    effects: EffectConfig = field(default_factory=EffectConfig)


@dataclass(frozen=True)
class PosedBatch:
    """A batch of scenarios with everything that rendering needs, object frames."""

    scenario: Scenario
    framing: Framing
    instances: Instances
    """Source state."""
    T_motion: Float[Tensor, "b 4 4"]
    """Motion of the dragged part, object frame."""
    carried: Bool[Tensor, "b parts"]
    lights: Lights


def make_samples(
    scene: MeshScene,
    tables: JointTables,
    objects: Int[Tensor, " b"],
    materials: MaterialTable,
    config: SampleConfig,
    generator: torch.Generator,
    batch: int | None = None,
) -> Samples:
    """A batch of samples of the given objects of a scene.

    Args:
        objects: candidate objects; those whose motion the first view does not show well come last.
        materials: [b, slots] materials of the candidates.
        batch: number of samples kept of the candidates (default: all).

    Rows that still show too little have ``valid`` False.
    """
    scenario = sample_scenarios(tables, objects, config.scenario, generator)
    by_outline = config.views == 1 and config.scenario.outline_probability > 0
    as_people = config.augment and by_outline
    if as_people:
        framing = sample_viewing_framing(len(objects), config.viewpoint, generator)
    else:
        framing = sample_framing(len(objects), config.scenario, generator)
    posed = pose_batch(scene, tables, scenario, framing, materials, config.augment, generator)
    viewpoint = None
    if as_people:
        posed, viewpoint = as_people_photograph(scene, posed, config.viewpoint, generator)
    elif by_outline:
        posed = some_framed_by_outline(scene, posed, config.scenario.outline_probability, generator)
    shown = motion_shown(scene, posed, config, viewpoint)
    keep = torch.argsort(shown.int(), descending=True, stable=True)[: batch or len(objects)]
    viewpoint = None if viewpoint is None else viewpoint[keep]
    return samples_of(scene, tables, select(posed, keep), shown[keep], config, generator, viewpoint)


def pose_batch(
    scene: MeshScene,
    tables: JointTables,
    scenario: Scenario,
    framing: Framing,
    materials: MaterialTable,
    augment: bool,
    generator: torch.Generator,
) -> PosedBatch:
    """Place the objects of a batch in their source states, under a light."""
    T_source, T_motion, carried = carried_parts(tables, scenario)
    instances = Instances.of_objects(scene, scenario.object, T_source.float(), materials)
    b = len(scenario.object)
    lights = Lights.reference(b, scene.device)
    if augment:
        lights = training_lights(b, generator)
        instances = replace(instances, decals=sample_decals(scene, instances, generator))
    return PosedBatch(scenario, framing, instances, T_motion.float(), carried, lights)


OUTLINE_PX = 96
"""Side of the coarse renders that training reads outlines off."""

OUTLINE_SCALE = 0.6
"""Canonical units per object diagonal in the first render, so that objects with their doors wide open lie inside."""

LENS_SCALE = 0.36
"""The same for first views of photographs, which show .86 canonical units at the origin whatever their lens."""


def outline_framing(
    framing: Framing, size_px: int, rounds: int, shows: Callable[[Cameras], Bool[Tensor, "b h w"]]
) -> Framing:
    """Framings in which ``images.frame_object`` finds first views, from given directions, well framed already.

    Args:
        framing: whose directions count.
        size_px: side of the images that outlines are read off.
        rounds: each reads the outline off the first view as the last one framed it, for a camera that comes nearer sees
            another one.
        shows: where first views [b, 1], object frame, show the object.
    """
    R, device = framing.R_canonical_object, framing.scale.device
    framing = Framing(R, torch.zeros_like(framing.target), torch.full_like(framing.scale, OUTLINE_SCALE))
    for _ in range(rounds):
        cameras = framing.cameras_to_object(first_view(len(R), size_px, device, CANONICAL_FOVY_RAD))
        framing = framed_by_outline(framing, shows(cameras))
    return framing


def some_framed_by_outline(scene: MeshScene, posed: PosedBatch, share: float, generator: torch.Generator) -> PosedBatch:
    """The batch with this share of its framings replaced by those that the objects' outlines give, same directions."""
    chosen = uniform((len(posed.scenario.object),), 0.0, 1.0, generator) < share

    def shows(cameras: Cameras) -> Bool[Tensor, "b h w"]:
        return trace_surfaces(scene, posed.instances, cameras).part[:, 0] >= 0

    outlined = outline_framing(posed.framing, OUTLINE_PX, 1, shows)
    target = torch.where(chosen[:, None], outlined.target, posed.framing.target)
    scale = torch.where(chosen, outlined.scale, posed.framing.scale)
    return replace(posed, framing=Framing(outlined.R_canonical_object, target, scale))


def as_people_photograph(
    scene: MeshScene, posed: PosedBatch, config: ViewpointConfig, generator: torch.Generator
) -> tuple[PosedBatch, Viewpoint]:
    """The batch framed as cut-outs of photographs are, same directions; one coarse render finds the outlines."""
    b = len(posed.scenario.object)
    fovy = sample_lenses(b, config, generator)
    still = Framing(
        posed.framing.R_canonical_object,
        torch.zeros_like(posed.framing.target),
        torch.full_like(posed.framing.scale, LENS_SCALE),
    )
    maps = trace_surfaces(scene, posed.instances, still.cameras_to_object(first_cameras(b, OUTLINE_PX, fovy)))
    points = rearrange(maps.point_world, "b 1 h w c -> b (h w) c")
    seen = rearrange(maps.part >= 0, "b 1 h w -> b (h w)")
    framing, viewpoint = photographed(still, fovy, points, seen, config, generator)
    return replace(posed, framing=framing), viewpoint


def select(posed: PosedBatch, index: Tensor) -> PosedBatch:
    """Rows of a batch."""
    inst, lights = posed.instances, posed.lights
    return PosedBatch(
        posed.scenario[index],
        posed.framing[index],
        inst[index],
        posed.T_motion[index],
        posed.carried[index],
        Lights(**{name: getattr(lights, name)[index] for name in lights.__dataclass_fields__}),
    )


def moving_mask(maps: SurfaceMaps, carried: Bool[Tensor, "b parts"]) -> Bool[Tensor, "b v h w"]:
    """Which pixels show a part that the motion carries."""
    flat = rearrange(maps.part.long(), "b v h w -> b (v h w)")
    moving = carried.gather(1, flat.clamp(min=0)) & (flat >= 0)
    _, v, h, w = maps.part.shape
    return rearrange(moving, "b (v h w) -> b v h w", v=v, h=h, w=w)


def motion_shown(
    scene: MeshScene, posed: PosedBatch, config: SampleConfig, viewpoint: Viewpoint | None = None
) -> Bool[Tensor, " b"]:
    """Whether the first view shows enough of the moving part, moving far enough (a coarse render decides)."""
    b = len(posed.scenario.object)
    cameras = first_view(b, 48, scene.device)
    cameras = posed.framing.cameras_to_object(cameras if viewpoint is None else viewpoint.taken(cameras))
    maps = trace_surfaces(scene, posed.instances, cameras)
    moving = rearrange(moving_mask(maps, posed.carried), "b v h w -> b (v h w)")
    if viewpoint is not None:
        moving = moving & ~viewpoint.hides(cameras.width).flatten(1)
    points = rearrange(maps.point_world, "b v h w c -> b (v h w) c")
    before, _ = cameras[:, 0].project(points)
    after, depth = cameras[:, 0].project(transform_points(posed.T_motion, points))
    length = (after - before).norm(dim=-1) / cameras.width
    count = moving.sum(-1)
    mean = torch.where(moving & (depth > 0.1), length, torch.zeros_like(length)).sum(-1) / count.clamp(min=1)
    return (count >= config.least_moving * moving.shape[-1]) & (mean >= config.least_drag)


def samples_of(
    scene: MeshScene,
    tables: JointTables,
    posed: PosedBatch,
    valid: Bool[Tensor, " b"],
    config: SampleConfig,
    generator: torch.Generator,
    viewpoint: Viewpoint | None = None,
) -> Samples:
    """Render a posed batch and derive drags and targets from the exact surfaces."""
    size, splat = config.image_size_px, config.image_size_px // 2
    if config.views == 1 or not config.filled:
        cameras, view_valid = sample_input_cameras(posed.framing, config.views, size, generator, config.filled)
    else:
        framing, cameras, view_valid = posed_views(
            scene, posed.instances, posed.framing, config.views, size, config.augment, generator
        )
        posed = replace(posed, framing=framing)
    taken = cameras
    if viewpoint is not None:
        taken, cameras = viewpoint.taken(cameras), viewpoint.told(cameras)
    in_object = posed.framing.cameras_to_object(taken)
    maps = trace_surfaces(scene, posed.instances, in_object.resized(splat))
    images = render_inputs(scene, posed, in_object, config)
    targets = motion_targets(scene, posed, maps, in_object.resized(splat), images)
    targets = replace(targets, distance=distances_from(cameras, targets))
    joint = joint_truth(tables, posed)
    hidden = None if viewpoint is None else viewpoint.hides(splat)
    drags = sample_drags(targets, taken, joint.T_after_before, config, generator, hidden)
    padded = torch.zeros(*images.shape[:1], VIEWS - config.views, *images.shape[2:], device=images.device)
    tone = Tone.random(len(images), generator) if config.augment else None
    seen = images
    if tone is not None:
        seen = developed(images, tone, viewpoint, config.cutout, config.effects, generator)
    if tone is not None:
        targets = replace(targets, rgb=tone.of_colors(targets.rgb))
    known = view_valid & (config.views > 1)
    if viewpoint is not None:
        known = view_valid & viewpoint.known[:, None]
    inputs = NetworkInput(torch.cat([seen, padded], 1), cameras, view_valid, drags, known)
    views = None
    if config.novel_views:
        novel = sample_novel_cameras(posed.framing, config.novel_views, config.novel_size_px, generator)
        if config.augment and config.views > 1:
            novel = some_at_given_views(novel, cameras[:, : config.views], config.at_given_views, generator)
        views = render_states(scene, posed, novel)
        if tone is not None:
            views = replace(views, before=tone.of_images(views.before), after=tone.of_images(views.after))
    still = part = None
    if config.layers == 2:
        grid = in_object.resized(splat)
        still = layer_targets(scene, posed, grid, cameras, ~posed.carried, tone)
        part = layer_targets(scene, posed, grid, cameras, posed.carried, tone)
    return Samples(inputs, targets, joint, valid, views, still, part)


def layer_targets(
    scene: MeshScene,
    posed: PosedBatch,
    in_object: Cameras,
    cameras: Cameras,
    keep: Bool[Tensor, "b parts"],
    tone: Tone | None,
) -> MotionTargets:
    """Targets of some parts alone: what all views would show if the others were taken away.

    Colours are those of the unshadowed surface, for what hides a surface must not darken it.

    Args:
        in_object: cameras that take the images, at the targets' size, object frames.
        cameras: those that the network is told of, canonical frames.
        keep: the parts that stay.
    """
    some = replace(posed, instances=replace(posed.instances, part=torch.where(keep, posed.instances.part, -1)))
    maps = trace_surfaces(scene, some.instances, in_object)
    images = render_meshes(scene, some.instances, in_object, posed.lights, samples_per_axis=1, shadows=False)
    targets = motion_targets(scene, some, maps, in_object, images)
    targets = replace(targets, distance=distances_from(cameras, targets))
    return targets if tone is None else replace(targets, rgb=tone.of_colors(targets.rgb))


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


def render_inputs(
    scene: MeshScene, posed: PosedBatch, cameras: Cameras, config: SampleConfig
) -> Float[Tensor, "b k 4 h w"]:
    """Anti-aliased RGBA of the present views, source state; ``cameras`` in object frames."""
    return render_meshes(
        scene, posed.instances, cameras[:, : config.views], posed.lights, samples_per_axis=config.samples_per_axis
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
    rgba = rearrange(pooled_rgba(images, images.shape[-1] // w), "b k c h w -> b k h w c")
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


def sample_drags(
    targets: MotionTargets,
    cameras: Cameras,
    T_after_before: Float[Tensor, "b 4 4"],
    config: SampleConfig,
    generator: torch.Generator,
    hidden: Bool[Tensor, "b h w"] | None = None,
) -> Drags:
    """Drags on visible points of the moving part in the first view, and where the motion takes them.

    ``hidden``: pixels of the targets' first view in which something else is seen.
    """
    device, n = cameras.device, MAX_DRAGS
    b = len(T_after_before)
    visible = targets.moving[:, 0] if hidden is None else targets.moving[:, 0] & ~hidden
    weights = repeat(visible.float(), "b h w -> (b n) (h w)", n=n)
    pixel = rearrange(choose(weights, generator), "(b n) -> b n", n=n)
    points = rearrange(targets.point[:, 0], "b h w c -> b (h w) c").gather(1, repeat(pixel, "b n -> b n c", c=3))
    first = cameras[:, 0]
    start, _ = first.project(points)
    end, _ = first.project(transform_points(T_after_before, points))
    within = uniform((b, n, 2), -0.5, 0.5, generator) / targets.moving.shape[-1]
    noisy = (uniform((b, n, 1), 0.0, 1.0, generator) < 0.5) * (config.drag_noise if config.augment else 0.0)
    length = ((end - start) / first.width).norm(dim=-1, keepdim=True)
    noise = torch.minimum(noisy, 0.1 * length) * torch.randn(b, n, 2, generator=generator, device=device)
    if config.drags:
        count = torch.full((b, 1), config.drags, device=device)
    else:
        several = 1 + (uniform((b, 1), 0.0, 1.0, generator) * n).long()
        count = torch.where(uniform((b, 1), 0.0, 1.0, generator) < 0.5, torch.ones_like(several), several)
    jitter = within if config.augment else torch.zeros_like(within)
    return Drags(
        start=(start / first.width + jitter).clamp(0, 1),
        end=(end / first.width + jitter + noise).nan_to_num(0.5).clamp(-2, 3),
        view=torch.zeros(b, n, dtype=torch.long, device=device),
        valid=torch.arange(n, device=device) < count,
    )
