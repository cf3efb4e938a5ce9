"""Samples from files, brought to the canonical frame of their first view, as ``partrm predict`` brings posed views."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Protocol, runtime_checkable

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from partrm.datasets.partdrag4d import DatasetError
from partrm.evaluation.mesh_samples import true_surfaces
from partrm.evaluation.samples import (
    DRAG_SIZE_PX,
    SHOWN,
    EvalBatch,
    FirstViews,
    GroundTruth,
    LabelledMesh,
    RunSettings,
    SampleLabel,
    TrueSurface,
    WorldSample,
    padded_input,
    shown_around,
)
from partrm.geometry.cameras import Cameras, canonicalise
from partrm.geometry.framing import Framing, framing_of_crops
from partrm.geometry.joints import JointMotion, JointType
from partrm.geometry.transforms import pose, transform_points
from partrm.imaging.images import frame_canonical, frame_view, frame_views, resampled
from partrm.metrics.images import composite_on_white
from partrm.model.inputs import VIEWS, NetworkInput, pooled_rgba
from partrm.objects.materials import MaterialTable
from partrm.rendering.meshes import Instances, Lights, MeshScene, trace_surfaces
from partrm.synthesis.posed_scenes import PosedBatch, moved_instances, moving_mask
from partrm.synthesis.scenarios import Scenario


@dataclass(frozen=True)
class Canonical:
    """The way from the world of a sample's files to the canonical frame of its first view."""

    cameras: Cameras
    """[views], canonical frame."""
    T_canonical_world: Float[Tensor, "4 4"]
    """Acts on scaled points."""
    scale: float
    diagonal: float
    """Of the object, as the canonical cameras take it, in units of this frame."""
    crop: Cameras
    """Unbatched, of this frame: takes what the network sees of the first input view."""
    H_view_crop: Float[Tensor, "3 3"]
    """Homography from that picture to the first input view, both of side 1."""

    @staticmethod
    def of(sample: WorldSample) -> "Canonical":
        """The frame of the crop that the network sees of the first input view."""
        cameras, T, scale = canonicalise(sample.cameras)
        image, first = given_images(sample)[0], cameras[sample.inputs[0]]
        picture, crop = frame_view(image, first.resized(image.shape[-1]), first.width)
        crops = Cameras(crop.T_world_camera[None], crop.fovy_rad[None], crop.width, crop.height)
        frame = framing_of_crops(crops, torch.zeros(1, 3))
        view_px, crop_px = (torch.tensor([side, side, 1.0]) for side in (image.shape[-1], crop.width))
        H = picture.H_source_framed * crop_px / view_px[:, None]
        R, s = frame.R_canonical_object[0], frame.scale[0]
        T_network = pose(R @ T[:3, :3], s * (R @ (T[:3, 3] - frame.target[0])))
        seen = frame.cameras_to_canonical(crops[None])[0, 0]
        return Canonical(frame.cameras_to_canonical(cameras[None])[0], T_network, float(scale * s), float(s), seen, H)

    def around(self, image: Float[Tensor, "4 h w"], size_px: int) -> Float[Tensor, "4 s s"]:
        """A picture by the first input view's camera as :func:`shown_around` sees it about the network's crop."""
        shown_px, view_px = (torch.tensor([side, side, 1.0]) for side in (size_px, image.shape[-1]))
        aside = 0.5 * (1 - SHOWN)
        wider = torch.tensor([[SHOWN, 0.0, aside], [0.0, SHOWN, aside], [0.0, 0.0, 1.0]])
        return resampled(image, view_px[:, None] * (self.H_view_crop @ wider) / shown_px, size_px).image

    def cropped(self, mask: Bool[Tensor, "h w"], size_px: int) -> Bool[Tensor, "s s"]:
        """A mask of the first input view as the network's picture of it shows it."""
        crop_px, mask_px = (torch.tensor([side, side, 1.0]) for side in (size_px, mask.shape[-1]))
        H = mask_px[:, None] * self.H_view_crop / crop_px
        return resampled(mask.float().expand(4, -1, -1), H, size_px).image[3] > 0.5

    def points(self, points: Float[Tensor, "n 3"]) -> Float[Tensor, "n 3"]:
        """World points in the canonical frame."""
        return transform_points(self.T_canonical_world, self.scale * points)

    def motion(self, T: Float[Tensor, "4 4"]) -> Float[Tensor, "4 4"]:
        """A rigid motion of the world, expressed on canonical points."""
        R, t = self.T_canonical_world[:3, :3], self.T_canonical_world[:3, 3]
        turned = R @ T[:3, :3] @ R.T
        return pose(turned, t - turned @ t + self.scale * (R @ T[:3, 3]))

    def joint(self, joint: JointMotion) -> JointMotion:
        """A joint of the world in the canonical frame."""
        slides = joint.type == JointType.PRISMATIC
        return replace(
            joint,
            axis=self.T_canonical_world[:3, :3] @ joint.axis,
            pivot=self.points(joint.pivot[None])[0],
            amount=joint.amount * (self.scale if slides else 1.0),
        )


@runtime_checkable
class FileSample(Protocol):
    """A sample that lies in files."""

    @property
    def object(self) -> str: ...
    @property
    def category(self) -> str: ...
    @property
    def part(self) -> int: ...
    @property
    def transition(self) -> str: ...
    def files(self) -> list[Path]:
        """Everything that the sample is read from."""
        ...

    def load(self) -> WorldSample:
        """Everything from disk.

        Raises:
            DatasetError: a file is missing or broken, or does not fit the others.
        """
        ...


@dataclass(frozen=True)
class FolderSamples:
    """Samples in files and the device where they are scored."""

    samples: tuple[FileSample, ...]
    device: torch.device

    def inputs(self, numbers: Sequence[int], settings: RunSettings, size_px: int) -> NetworkInput:
        """What the network sees of some samples.

        Raises:
            DatasetError: a file is missing or broken.
        """
        samples = [self.samples[number].load() for number in numbers]
        found = [self._input(n, s, Canonical.of(s), settings, size_px) for n, s in zip(numbers, samples, strict=True)]
        return NetworkInput.cat(found).to(self.device)

    def _input(
        self, number: int, sample: WorldSample, frame: Canonical, settings: RunSettings, size_px: int
    ) -> NetworkInput:
        if len(sample.inputs) < settings.views:
            raise DatasetError(
                f"sample {number} ({self.samples[number].transition}) has {len(sample.inputs)} input view(s), "
                f"not {settings.views}: give fewer --views"
            )
        return network_input(sample, frame, settings, size_px)

    def batch(self, numbers: Sequence[int], settings: RunSettings, size_px: int, splat_stride: int = 2) -> EvalBatch:
        """Inputs at ``size_px``, truths, cameras and true surfaces, ``splat_stride`` pixels a splat, of some samples.

        Raises:
            DatasetError: a file is missing or broken.
        """
        samples = [self.samples[number].load() for number in numbers]
        frames = [Canonical.of(sample) for sample in samples]
        each = zip(numbers, samples, frames, strict=True)
        inputs = NetworkInput.cat([self._input(n, s, c, settings, size_px) for n, s, c in each]).to(self.device)
        splats = size_px // splat_stride
        shown = inputs.cameras.resized(2 * splats)
        truths, cameras, surfaces = [], [], []
        for row, (sample, frame) in enumerate(zip(samples, frames, strict=True)):
            around = frame.cameras[list(sample.scored)].resized(settings.novel_size_px).to(self.device)
            posed = None if sample.solid is None else posed_solid(sample, sample.solid, frame, self.device)
            truths.append(truth_of(sample, frame, posed, around, settings, splats))
            cameras.append(around)
            surfaces.append(None if posed is None else surface_of(sample, frame, posed, shown[[row]]))
        return EvalBatch(inputs, tuple(truths), tuple(cameras), tuple(surfaces))

    def first_views(self, numbers: Sequence[int], settings: RunSettings, size_px: int) -> FirstViews:
        """Both states as the first view shows them."""
        samples = [self.samples[number].load() for number in numbers]
        frames = [Canonical.of(sample) for sample in samples]
        cameras = Cameras.cat([shown_around(frame.crop.resized(size_px))[None] for frame in frames])
        before, after = (
            composite_on_white(
                torch.stack([f.around(getattr(s, state)[0], size_px) for f, s in zip(frames, samples, strict=True)])
            ).to(self.device)
            for state in ("before", "after")
        )
        return FirstViews(cameras.to(self.device), before, after)

    def label(self, number: int) -> SampleLabel:
        """Which sample it is."""
        sample = self.samples[number]
        return SampleLabel(number, sample.object, sample.category, sample.part, sample.transition)


def resized(images: Float[Tensor, "views 4 h w"], size_px: int) -> Float[Tensor, "views 4 s s"]:
    """Square RGBA at another size: means of whole pixels where the sizes allow, else as ``predict`` resizes."""
    side = images.shape[-1]
    if side % size_px == 0:
        return images if side == size_px else pooled_rgba(images[None], side // size_px)[0]
    return torch.stack([frame_canonical(image, size_px).image for image in images])


def on_white(images: Float[Tensor, "views 4 h w"], size_px: int) -> Float[Tensor, "views 3 s s"]:
    """RGBA at another size, composited."""
    return composite_on_white(resized(images, size_px))


def network_input(sample: WorldSample, frame: Canonical, settings: RunSettings, size_px: int) -> NetworkInput:
    """What the network sees of one sample [1], on the CPU; fewer drags than asked for where it has fewer."""
    views = list(sample.inputs[: settings.views])
    given = given_images(sample)
    framed, present = frame_views(list(given[: len(views)]), frame.cameras[views], size_px)
    side, first = given.shape[-1], framed[0]
    start, end = (
        first.to_framed_px(side * points[: settings.drags]) / size_px for points in (sample.drag_start, sample.drag_end)
    )
    images = torch.stack([picture.image for picture in framed])
    return padded_input(images[None], present[None], start[None], end[None])


def given_images(sample: WorldSample) -> Float[Tensor, "views 4 h w"]:
    """RGBA of all the views that a sample may show the network."""
    return sample.before[list(sample.inputs)] if sample.input_images is None else sample.input_images


def posed_solid(
    sample: WorldSample, solid: LabelledMesh, frame: Canonical, device: torch.device
) -> tuple[MeshScene, PosedBatch]:
    """The sample's surface, canonical frame, as an object of a still and a moving part."""
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
        Scenario(index, index + 1, q, q),
        framing,
        frame.crop[None, None].to(device),
        instances,
        T,
        carried,
        Lights.reference(1, device),
    )


def truth_of(
    sample: WorldSample,
    frame: Canonical,
    posed: tuple[MeshScene, PosedBatch] | None,
    around: Cameras,
    settings: RunSettings,
    splat_px: int,
) -> GroundTruth:
    """What a sample really is, canonical frame; images on the device of ``around`` [views]."""
    scored, size, device = list(sample.scored), settings.novel_size_px, around.device
    before, after = (on_white(images[scored], size).to(device) for images in (sample.before, sample.after))
    part, moved = None, None
    if posed is not None:
        scene, batch = posed
        first = frame.crop.resized(splat_px)[None, None].to(device)
        part = moving_mask(trace_surfaces(scene, batch.instances, first), batch.carried)[0, 0].cpu()
        states = (batch.instances, moved_instances(batch))
        seen = [moving_mask(trace_surfaces(scene, state, around[None]), batch.carried)[0] for state in states]
        moved = seen[0] | seen[1]
    else:
        if sample.part is not None:
            part = frame.cropped(sample.part, splat_px)
        if sample.moved is not None:
            moved = mask_at(sample.moved[scored], size).to(device)
    points = sample.drag_points
    return GroundTruth(
        part_mask=part,
        points=None if sample.points is None else frame.points(sample.points),
        joint=None if sample.joint is None else frame.joint(sample.joint),
        T_after_before=None if sample.T_after_before is None else frame.motion(sample.T_after_before),
        drag_points=None if points is None else frame.points(points[: settings.drags]),
        camera=frame.cameras[0].resized(DRAG_SIZE_PX),
        diagonal=frame.diagonal,
        before=before,
        after=after,
        moved=moved,
        as_published=sample.as_published,
    )


def mask_at(mask: Tensor, size_px: int) -> Tensor:
    """Masks [views, h, w] at another size: pixels more than half of which are covered."""
    if mask.shape[-1] == size_px:
        return mask
    small = torch.nn.functional.interpolate(mask[None].float(), (size_px, size_px), mode="area")[0]
    return small > 0.5


def surface_of(
    sample: WorldSample, frame: Canonical, posed: tuple[MeshScene, PosedBatch], cameras: Cameras
) -> TrueSurface | None:
    """The true surface as the set's four input views show it, and what the network's own rays meet.

    Args:
        cameras: [1, 4] the network's.
    """
    if len(sample.inputs) < VIEWS:
        return None
    scene, batch = posed
    views = list(sample.inputs)
    size = cameras.width
    framed, seen = frame_views(list(sample.before[views]), frame.cameras[views], size)
    images = torch.stack([picture.image for picture in framed])[None].to(cameras.device)
    surface = true_surfaces(scene, batch, seen[None].to(cameras.device), images)
    maps = trace_surfaces(scene, batch.instances, cameras.resized(size // 2))
    moving = moving_mask(maps, batch.carried).flatten(1)
    return replace(surface, network_moving=moving)[0]
