"""Samples made where they are used: scenarios, ray casting, drags and exact targets on the training device."""

import random
from collections.abc import Callable
from dataclasses import dataclass, replace

import torch
from einops import rearrange, repeat
from jaxtyping import Bool, Float, Int
from torch import Tensor

from partrm.geometry.cameras import Cameras, crop_cameras, mask_boxes
from partrm.geometry.drag_numbers import MAX_DRAGS
from partrm.geometry.drags import Drags
from partrm.geometry.framing import first_crops, framing_of_crops, with_nominal_lens
from partrm.geometry.transforms import transform_points
from partrm.model.inputs import VIEWS, NetworkInput, with_absent_views
from partrm.objects.materials import MaterialTable
from partrm.rendering.meshes import MeshScene, render_meshes, trace_surfaces
from partrm.synthesis.augmentation import PhotometricJitter, camera_noise
from partrm.synthesis.cutouts import USUAL_CUT_OUTS, CutOutConfig, rough_cut_out, within_rooms
from partrm.synthesis.effects import USUAL_EFFECTS, EffectConfig, affected
from partrm.synthesis.lighting import USUAL_LIGHTING, LightingConfig
from partrm.synthesis.mesh_pool import ObjectPool
from partrm.synthesis.posed_scenes import (
    MASK_BOX_PX,
    PosedBatch,
    distances_from,
    framed_as_cropped,
    joint_truth,
    layer_targets,
    motion_targets,
    moving_mask,
    pose_batch,
    render_states,
    silhouettes,
    turned_views,
)
from partrm.synthesis.samples import MotionTargets, Samples
from partrm.synthesis.scenarios import (
    TRAINING_SCENARIOS,
    JointTables,
    ScenarioConfig,
    choose,
    sample_novel_cameras,
    sample_photographs,
    sample_scenarios,
    some_at_given_views,
    uniform,
)


@dataclass(frozen=True)
class SampleConfig:
    """What one batch of samples holds."""

    image_size_px: int = 256
    """Side of the input images; targets lie on a grid of half that side."""
    views: int = 1
    """Input views that are present, 1 to 4."""
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
    told_lens: float = 0.4
    """How often the camera of a single view is told; else the network is told :data:`INPUT_FOVY_RAD`, as of photos."""
    rough: float = 0.6
    """How often the mask of the input has the errors of a cut-out by hand or by GrabCut."""
    box_jitter: float = 0.04
    """Standard deviation of the sides of the mask's box, as a share of its longer side."""
    cut: float = 0.15
    """How often the frame cuts the object, by up to a third of its box."""
    min_moving: float = 0.012
    """Least share of the first view's pixels that must show the dragged part."""
    min_drag: float = 0.03
    """Least mean length of the part's motion in the first view, fraction of the image."""
    scenario: ScenarioConfig = TRAINING_SCENARIOS
    lighting: LightingConfig = USUAL_LIGHTING
    """Lamps, mirrors, occlusion and labels; only with ``augment``."""
    cut_outs: CutOutConfig = USUAL_CUT_OUTS
    """Which errors the share ``rough`` of the masks has; only with ``augment``."""
    effects: EffectConfig = USUAL_EFFECTS
    """Of lenses, sensors and files, on inputs alone; only with ``augment``."""


def rough_boxes(boxes: Float[Tensor, "b 4"], config: SampleConfig, generator: torch.Generator) -> Float[Tensor, "b 4"]:
    """Boxes as people and imperfect masks give them: a little off, and some that cut the object."""
    b, device = len(boxes), boxes.device
    size = boxes[:, 2:] - boxes[:, :2]
    longer = size.amax(1, keepdim=True)
    off = config.box_jitter * longer * torch.randn(b, 4, generator=generator, device=device).clamp(-2, 2)
    side = torch.nn.functional.one_hot(torch.randint(4, (b,), generator=generator, device=device), 4)
    lost = uniform((b, 1), 0.05, 0.35, generator) * size.repeat(1, 2) * side
    cuts = (uniform((b, 1), 0.0, 1.0, generator) < config.cut).float()
    inwards = torch.ones(4, device=device)
    inwards[2:] = -1.0
    return boxes + off + cuts * lost * inwards


def told_cameras(taken: Cameras, config: SampleConfig, generator: torch.Generator) -> Cameras:
    """What the network is told of cameras [b, 4]: of posed views the truth, of single ones often the nominal camera."""
    b = len(taken.fovy_rad)
    share = config.told_lens if config.augment else 0.0
    if config.views > 1:
        return taken
    told = uniform((b,), 0.0, 1.0, generator) < share
    nominal = with_nominal_lens(taken)
    T = torch.where(told[:, None, None, None], taken.T_world_camera, nominal.T_world_camera)
    return replace(taken, T_world_camera=T, fovy_rad=torch.where(told[:, None], taken.fovy_rad, nominal.fovy_rad))


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
    posed = posed_for_photographs(scene, tables, objects, materials, config, generator)
    shown = motion_shown(scene, posed, config)
    keep = torch.argsort(shown.int(), descending=True, stable=True)[: batch or len(objects)]
    return samples_of(scene, tables, posed[keep], shown[keep], config, generator)


def posed_for_photographs(
    scene: MeshScene,
    tables: JointTables,
    objects: Int[Tensor, " b"],
    materials: MaterialTable,
    config: SampleConfig,
    generator: torch.Generator,
) -> PosedBatch:
    """Objects in drawn states before drawn cameras, in the frames of crops about their mask boxes."""
    scenario = sample_scenarios(tables, objects, config.scenario, generator)
    photographs = sample_photographs(len(objects), MASK_BOX_PX, config.scenario, generator)
    framing = framing_of_crops(photographs, torch.zeros_like(photographs.positions))
    first = first_crops(photographs.fovy_rad, MASK_BOX_PX)
    posed = pose_batch(scene, tables, scenario, framing, first, materials, config.augment, generator, config.lighting)
    boxes = mask_boxes(silhouettes(scene, posed, photographs[:, None])[:, 0])
    if config.augment:
        boxes = rough_boxes(boxes, config, generator)
    return framed_as_cropped(posed, crop_cameras(photographs, boxes))


def motion_shown(scene: MeshScene, posed: PosedBatch, config: SampleConfig) -> Bool[Tensor, " b"]:
    """Whether the first view shows enough of the moving part, moving far enough (a coarse render decides)."""
    cameras = posed.framing.cameras_to_object(posed.first.resized(48))
    maps = trace_surfaces(scene, posed.instances, cameras)
    moving = rearrange(moving_mask(maps, posed.carried), "b v h w -> b (v h w)")
    points = rearrange(maps.point_world, "b v h w c -> b (v h w) c")
    before, _ = cameras[:, 0].project(points)
    after, depth = cameras[:, 0].project(transform_points(posed.T_motion, points))
    length = (after - before).norm(dim=-1) / cameras.width
    count = moving.sum(-1)
    mean = torch.where(moving & (depth > 0.1), length, torch.zeros_like(length)).sum(-1) / count.clamp(min=1)
    return (count >= config.min_moving * moving.shape[-1]) & (mean >= config.min_drag)


def samples_of(
    scene: MeshScene,
    tables: JointTables,
    posed: PosedBatch,
    valid: Bool[Tensor, " b"],
    config: SampleConfig,
    generator: torch.Generator,
) -> Samples:
    """Render a posed batch and derive drags and targets from the exact surfaces."""
    size, splat = config.image_size_px, config.image_size_px // 2
    taken, view_valid = with_absent_views(turned_views(scene, posed, config.views, size, generator))
    cameras = told_cameras(taken, config, generator)
    in_object = posed.framing.cameras_to_object(taken)
    maps = trace_surfaces(scene, posed.instances, in_object.resized(splat))
    images = render_inputs(scene, posed, in_object, config)
    targets = motion_targets(scene, posed, maps, in_object.resized(splat), images)
    targets = replace(targets, distance=distances_from(cameras, targets))
    joint = joint_truth(tables, posed)
    drags = sample_drags(targets, taken, joint.T_after_before, config, generator)
    padded = torch.zeros(*images.shape[:1], VIEWS - config.views, *images.shape[2:], device=images.device)
    tone = PhotometricJitter.random(len(images), generator) if config.augment else None
    seen = images if tone is None else photographed(images, tone, config, generator)
    carried = posed.carried
    layers = [layer_targets(scene, posed, in_object.resized(splat), keep) for keep in (~carried, carried)]
    layers = [replace(t, distance=distances_from(cameras, t)) for t in layers]
    if tone is not None:
        targets, *layers = (replace(t, rgb=tone.of_colors(t.rgb)) for t in (targets, *layers))
    inputs = NetworkInput(torch.cat([seen, padded], 1), cameras, view_valid, drags)
    views = None
    if config.novel_views:
        novel = sample_novel_cameras(posed.framing, config.novel_views, config.novel_size_px, generator)
        if config.augment and config.views > 1:
            novel = some_at_given_views(novel, taken[:, : config.views], config.at_given_views, generator)
        views = render_states(scene, posed, novel)
        if tone is not None:
            views = replace(views, before=tone.of_images(views.before), after=tone.of_images(views.after))
    return Samples(inputs, targets, joint, valid, views, *layers)


def photographed(
    images: Float[Tensor, "b k 4 h w"], tone: PhotometricJitter, config: SampleConfig, generator: torch.Generator
) -> Float[Tensor, "b k 4 h w"]:
    """Renders as cameras take them, people cut them out and files hold them."""
    noisy = camera_noise(images, tone, generator)
    cut = within_rooms(rough_cut_out(noisy, config.rough, generator, config.cut_outs), generator)
    return torch.cat([affected(cut[:, :, :3], config.effects, generator), cut[:, :, 3:]], 2)


def render_inputs(
    scene: MeshScene, posed: PosedBatch, cameras: Cameras, config: SampleConfig
) -> Float[Tensor, "b k 4 h w"]:
    """Anti-aliased RGBA of the present views, source state; ``cameras`` in object frames."""
    return render_meshes(
        scene, posed.instances, cameras[:, : config.views], posed.lights, samples_per_axis=config.samples_per_axis
    )


def sample_drags(
    targets: MotionTargets,
    cameras: Cameras,
    T_after_before: Float[Tensor, "b 4 4"],
    config: SampleConfig,
    generator: torch.Generator,
) -> Drags:
    """Drags on visible points of the moving part in the first view, and where the motion takes them."""
    device, n = cameras.device, MAX_DRAGS
    b = len(T_after_before)
    weights = repeat(targets.moving[:, 0].float(), "b h w -> (b n) (h w)", n=n)
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


MaterialSampler = Callable[[Int[Tensor, "b slots"], torch.Generator], MaterialTable]


class OnlineSamples:
    """Draws batches of fresh samples from a pool: objects, materials, states, cameras, light and drags."""

    def __init__(self, pool: ObjectPool, sample_materials: MaterialSampler, seed: int, oversampling: float = 1.8):
        """``oversampling``: candidates per sample kept, since 35 first views in a hundred hide the moving part."""
        self.pool = pool
        self.sample_materials = sample_materials
        self.oversampling = oversampling
        self.generator = torch.Generator(pool.scene.device).manual_seed(seed)
        self.choices = random.Random(seed)

    def draw(self, config: SampleConfig, batch: int) -> Samples:
        """One batch, asynchronous on the current CUDA stream."""
        objects = self.pool.sample(int(batch * self.oversampling), self.generator)
        materials = self.sample_materials(self.pool.roles[objects], self.generator)
        return make_samples(self.pool.scene, self.pool.tables, objects, materials, config, self.generator, batch)

    def state(self) -> dict:
        """What :meth:`restore` needs to go on with the very same draws."""
        version, numbers, gauss = self.choices.getstate()
        return {"generator": self.generator.get_state(), "choices": [version, list(numbers), gauss]}

    def restore(self, state: dict) -> None:
        """Continue where :meth:`state` was taken."""
        self.generator.set_state(state["generator"].cpu())
        version, numbers, gauss = state["choices"]
        self.choices.setstate((version, tuple(numbers), gauss))
