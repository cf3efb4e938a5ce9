"""Samples from files, brought to the canonical frame of their first view, as ``partrm predict`` brings posed views."""

from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from typing import Any

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from partrm.articulation.estimate import EstimatedJoint
from partrm.articulation.kinematics import JointType
from partrm.articulation.materials import MaterialTable
from partrm.cameras import ABSENT_FOVY_RAD, Cameras, canonical_orbit, canonicalise, filled_frame
from partrm.data.online import PosedBatch, moved_instances, moving_mask
from partrm.data.partdrag4d import DatasetError
from partrm.data.samples import VIEWS, NetworkInput, pooled_rgba
from partrm.data.scenarios import Framing, Scenario
from partrm.drags import MAX_DRAGS, Drags
from partrm.evaluate.baselines import true_surfaces
from partrm.evaluate.batches import DRAG_SIZE_PX, EvalBatch, FirstViews, RunSettings, TrueSurface
from partrm.evaluate.folder_sets import FolderSet
from partrm.evaluate.scoring import Truth
from partrm.evaluate.world_samples import Solid, WorldSample
from partrm.images import FramedImage, crop_turned, frame_object, pixel_centres
from partrm.metrics import composite_on_white
from partrm.rendering.meshes import Instances, Lights, MeshScene, trace_surfaces
from partrm.transforms import pose, transform_points


@dataclass(frozen=True)
class Seen:
    """What the network sees of a sample, and the way from the world of its files to the frame of its answer."""

    crops: tuple[FramedImage, ...]
    """The squares that the object fills in the views that are given."""
    crop_cameras: Cameras
    """[given], that frame."""
    cameras: Cameras
    """[views] of all whole images, that frame."""
    T_frame_world: Float[Tensor, "4 4"]
    """Acts on scaled points."""
    scale: float
    diagonal: float
    """Length in that frame of the canonical frame's unit."""

    @staticmethod
    def of(sample: WorldSample, views: int, size_px: int) -> "Seen":
        """The first views cropped to squares of ``size_px``; the frame is that of the first square."""
        whole, T_canonical_world, scale = canonicalise(sample.cameras)
        given = sample.before[list(sample.inputs)] if sample.input_images is None else sample.input_images
        taken = [
            crop_turned(given[view], whole[index].resized(given.shape[-1]), size_px)
            for view, index in enumerate(sample.inputs[:views])
        ]
        cropped = Cameras(
            torch.stack([camera.T_world_camera for _, camera in taken]),
            torch.stack([camera.fovy_rad for _, camera in taken]),
            size_px,
            size_px,
        )
        cameras, T, larger = filled_frame(cropped)
        poses = whole.T_world_camera.clone()
        poses[:, :3, 3] *= larger
        T_scaled = T_canonical_world.clone()
        T_scaled[:3, 3] *= larger
        return Seen(
            tuple(framed for framed, _ in taken),
            cameras,
            replace(whole, T_world_camera=T @ poses),
            T @ T_scaled,
            float(scale * larger),
            float(larger),
        )

    def points(self, points: Float[Tensor, "n 3"]) -> Float[Tensor, "n 3"]:
        """World points in the frame."""
        return transform_points(self.T_frame_world, self.scale * points)

    def motion(self, T: Float[Tensor, "4 4"]) -> Float[Tensor, "4 4"]:
        """A rigid motion of the world, expressed on points of the frame."""
        R, t = self.T_frame_world[:3, :3], self.T_frame_world[:3, 3]
        turned = R @ T[:3, :3] @ R.T
        return pose(turned, t - turned @ t + self.scale * (R @ T[:3, 3]))

    def joint(self, joint: EstimatedJoint) -> EstimatedJoint:
        """A joint of the world in the frame."""
        slides = joint.type == JointType.PRISMATIC
        return replace(
            joint,
            axis=self.T_frame_world[:3, :3] @ joint.axis,
            pivot=self.points(joint.pivot[None])[0],
            amount=joint.amount * (self.scale if slides else 1.0),
        )


@dataclass(frozen=True)
class FolderStage:
    """A set of files and the device where its samples are scored."""

    evalset: FolderSet
    device: torch.device

    @staticmethod
    def of(evalset: FolderSet, device: torch.device | str) -> "FolderStage":
        return FolderStage(evalset, torch.device(device))

    def inputs(self, numbers: Sequence[int], settings: RunSettings, size_px: int) -> NetworkInput:
        """What the network sees of some samples.

        Raises:
            DatasetError: a file is missing or broken.
        """
        samples = [self.evalset.samples[number].load() for number in numbers]
        seen = [self._seen(n, s, settings, size_px) for n, s in zip(numbers, samples, strict=True)]
        return joined([network_input(*pair, settings) for pair in zip(samples, seen, strict=True)], self.device)

    def _seen(self, number: int, sample: WorldSample, settings: RunSettings, size_px: int) -> Seen:
        if len(sample.inputs) < settings.views:
            raise DatasetError(
                f"sample {number} ({self.evalset.samples[number].transition}) has {len(sample.inputs)} input view(s), "
                f"not {settings.views}: give fewer --views"
            )
        return Seen.of(sample, settings.views, size_px)

    def batch(self, numbers: Sequence[int], settings: RunSettings, size_px: int) -> EvalBatch:
        """Inputs at ``size_px``, truths, cameras and true surfaces of some samples.

        Raises:
            DatasetError: a file is missing or broken.
        """
        samples = [self.evalset.samples[number].load() for number in numbers]
        frames = [self._seen(n, s, settings, size_px) for n, s in zip(numbers, samples, strict=True)]
        inputs = joined([network_input(*pair, settings) for pair in zip(samples, frames, strict=True)], self.device)
        truths, cameras, surfaces = [], [], []
        for row, (sample, frame) in enumerate(zip(samples, frames, strict=True)):
            around = frame.cameras[list(sample.scored)].resized(settings.novel_size_px).to(self.device)
            posed = None if sample.solid is None else posed_solid(sample, sample.solid, frame, self.device)
            truths.append(truth_of(sample, frame, posed, around, settings, size_px // 2))
            cameras.append(around)
            surfaces.append(None if posed is None else surface_of(sample, frame, posed, inputs.cameras[[row]]))
        return EvalBatch(inputs, tuple(truths), tuple(cameras), tuple(surfaces))

    def first_views(self, numbers: Sequence[int], settings: RunSettings, size_px: int) -> FirstViews:
        """Both states as the first view shows them."""
        samples = [self.evalset.samples[number].load() for number in numbers]
        first = [self._seen(n, s, settings, size_px).cameras[0] for n, s in zip(numbers, samples, strict=True)]
        cameras = Cameras(
            torch.stack([c.T_world_camera for c in first]), torch.stack([c.fovy_rad for c in first]), size_px, size_px
        )
        before, after = (
            torch.cat([on_white(getattr(sample, state)[:1], size_px) for sample in samples]).to(self.device)
            for state in ("before", "after")
        )
        return FirstViews(cameras.to(self.device), before, after)

    def describe(self, number: int) -> dict[str, Any]:
        """What a sample is, as the first columns of its row."""
        sample = self.evalset.samples[number]
        return {
            "sample": number,
            "object": sample.object,
            "category": sample.category,
            "part": sample.part,
            "transition": sample.transition,
        }


def resized(images: Float[Tensor, "views 4 h w"], size_px: int) -> Float[Tensor, "views 4 s s"]:
    """Square RGBA at another size: means of whole pixels where the sizes allow, else as ``predict`` resizes."""
    side = images.shape[-1]
    if side % size_px == 0:
        return images if side == size_px else pooled_rgba(images[None], side // size_px)[0]
    return torch.stack([frame_object(image, size_px, "canonical").image for image in images])


def on_white(images: Float[Tensor, "views 4 h w"], size_px: int) -> Float[Tensor, "views 3 s s"]:
    """RGBA at another size, composited."""
    return composite_on_white(resized(images, size_px))


def network_input(sample: WorldSample, seen: Seen, settings: RunSettings) -> NetworkInput:
    """What the network sees of one sample [1], on the CPU; fewer drags than asked for where it has fewer."""
    given, size_px = len(seen.crops), seen.crop_cameras.width
    images = torch.zeros(VIEWS, 4, size_px, size_px)
    images[:given] = torch.stack([framed.image for framed in seen.crops])
    absent = canonical_orbit(VIEWS, size_px, fovy_rad=ABSENT_FOVY_RAD)
    T = torch.cat([seen.crop_cameras.T_world_camera, absent.T_world_camera[given:]])
    fovy = torch.cat([seen.crop_cameras.fovy_rad, absent.fovy_rad[given:]])
    count, first = min(settings.drags, len(sample.drag_start)), seen.crops[0]
    start, end = torch.zeros(MAX_DRAGS, 2), torch.zeros(MAX_DRAGS, 2)
    for ends, points in ((start, sample.drag_start), (end, sample.drag_end)):
        ends[:count] = first.to_canonical_px(points[:count] * first.source_width) / size_px
    drags = Drags(start, end, torch.zeros(MAX_DRAGS, dtype=torch.long), torch.arange(MAX_DRAGS) < count)
    valid = (torch.arange(VIEWS) < given)[None]
    return NetworkInput(images[None], Cameras(T, fovy, size_px, size_px)[None], valid, drags[None], valid)


def joined(inputs: Sequence[NetworkInput], device: torch.device) -> NetworkInput:
    """Samples as one batch on a device."""
    first = inputs[0].cameras
    cameras = Cameras(
        torch.cat([i.cameras.T_world_camera for i in inputs]), torch.cat([i.cameras.fovy_rad for i in inputs]),
        first.width, first.height,
    )  # fmt: skip
    drags = Drags(**{f.name: torch.cat([getattr(i.drags, f.name) for i in inputs]) for f in fields(Drags)})
    images, valid, known = (
        torch.cat([getattr(i, name) for i in inputs]).to(device) for name in ("images", "view_valid", "lens_known")
    )
    return NetworkInput(images, cameras.to(device), valid, drags.to(device), known)


def posed_solid(sample: WorldSample, solid: Solid, frame: Seen, device: torch.device) -> tuple[MeshScene, PosedBatch]:
    """The sample's surface, the answer's frame, as an object of a still and a moving part."""
    scene = MeshScene.from_arrays(
        frame.points(solid.vertices), solid.faces, solid.moving.int(), torch.zeros(len(solid.faces), dtype=torch.int32),
        torch.tensor([0, 2]), device=device,
    )  # fmt: skip
    colour, one, whole = torch.zeros(1, 1, 3), torch.zeros(1, 1), torch.zeros(1, 1, dtype=torch.long)
    materials = MaterialTable(colour, colour, whole, one, colour, one, whole - 1).to(device)
    eye = torch.eye(4, device=device).repeat(1, 2, 1, 1)
    instances = Instances(torch.tensor([[0, 1]], device=device), eye, materials)
    framing = Framing(eye[:, 0, :3, :3], torch.zeros(1, 3, device=device), torch.ones(1, device=device))
    index, q = torch.zeros(1, dtype=torch.long, device=device), torch.zeros(1, 2, device=device)
    assert sample.T_after_before is not None, "a surface is known only with its motion"
    T = frame.motion(sample.T_after_before)[None].to(device)
    carried = torch.tensor([[False, True]], device=device)
    return scene, PosedBatch(
        Scenario(index, index + 1, q, q), framing, instances, T, carried, Lights.reference(1, device)
    )


def truth_of(
    sample: WorldSample,
    frame: Seen,
    posed: tuple[MeshScene, PosedBatch] | None,
    around: Cameras,
    settings: RunSettings,
    splat_px: int,
) -> Truth:
    """What a sample really is, the answer's frame; images on the device of ``around`` [views]."""
    scored, size, device = list(sample.scored), settings.novel_size_px, around.device
    before, after = (on_white(images[scored], size).to(device) for images in (sample.before, sample.after))
    part, moved = None, None
    if posed is not None:
        scene, batch = posed
        first = frame.crop_cameras[[0]].resized(splat_px)[None].to(device)
        part = moving_mask(trace_surfaces(scene, batch.instances, first), batch.carried)[0, 0].cpu()
        states = (batch.instances, moved_instances(batch))
        seen = [moving_mask(trace_surfaces(scene, state, around[None]), batch.carried)[0] for state in states]
        moved = seen[0] | seen[1]
    else:
        if sample.part is not None:
            part = cropped_mask(sample.part, frame.crops[0], splat_px)
        if sample.moved is not None:
            moved = mask_at(sample.moved[scored], size).to(device)
    points = sample.drag_points
    return Truth(
        part_mask=part,
        points=None if sample.points is None else frame.points(sample.points),
        joint=None if sample.joint is None else frame.joint(sample.joint),
        T_after_before=None if sample.T_after_before is None else frame.motion(sample.T_after_before),
        drag_points=None if points is None else frame.points(points[: settings.drags]),
        camera=frame.cameras[0].resized(DRAG_SIZE_PX),
        before=before,
        after=after,
        moved=moved,
        diagonal=frame.diagonal,
        as_published=sample.as_published,
    )


def mask_at(mask: Tensor, size_px: int) -> Tensor:
    """Masks [views, h, w] at another size: pixels more than half of which are covered."""
    if mask.shape[-1] == size_px:
        return mask
    small = torch.nn.functional.interpolate(mask[None].float(), (size_px, size_px), mode="area")[0]
    return small > 0.5


def cropped_mask(mask: Bool[Tensor, "h w"], crop: FramedImage, size_px: int) -> Bool[Tensor, "s s"]:
    """Which pixels of a crop at another size a mask of the whole image covers by more than half."""
    side, finer = crop.image.shape[-1], 4
    places = crop.to_source_px(pixel_centres(finer * size_px, finer * size_px) * (side / (finer * size_px)))
    x, y = (places * (mask.shape[-1] / crop.source_width)).floor().long().unbind(-1)
    inside = (x >= 0) & (x < mask.shape[-1]) & (y >= 0) & (y < mask.shape[-2])
    found = mask[y.clamp(0, mask.shape[-2] - 1), x.clamp(0, mask.shape[-1] - 1)] & inside
    return torch.nn.functional.avg_pool2d(found[None].float(), finer)[0] > 0.5


def surface_of(
    sample: WorldSample, frame: Seen, posed: tuple[MeshScene, PosedBatch], cameras: Cameras
) -> TrueSurface | None:
    """The true surface as the set's four input views show it, and what the network's own rays meet.

    Args:
        cameras: [1, 4] the network's.
    """
    if len(sample.inputs) < VIEWS:
        return None
    scene, batch = posed
    size, side = cameras.width, sample.before.shape[-1]
    taken = [crop_turned(sample.before[v], frame.cameras[v].resized(side), size) for v in sample.inputs]
    T = torch.stack([camera.T_world_camera for _, camera in taken])[None]
    fovy = torch.stack([camera.fovy_rad for _, camera in taken])[None]
    images = torch.stack([framed.image for framed, _ in taken])[None].to(cameras.device)
    surface = true_surfaces(scene, batch, Cameras(T, fovy, size, size).to(cameras.device), images)
    maps = trace_surfaces(scene, batch.instances, cameras.resized(size // 2))
    moving = moving_mask(maps, batch.carried).flatten(1)
    return replace(surface, network_moving=moving)[0]
