"""Pictures of objects without a drag, and of every cell which part it shows and how that moves."""

from dataclasses import dataclass, replace

import torch
from einops import rearrange
from jaxtyping import Bool, Float, Int
from torch import Tensor

from partrm.geometry.drags import Drags
from partrm.geometry.joints import JointType
from partrm.geometry.tensor_record import TensorRecord
from partrm.geometry.transforms import screw_motion, transform_points
from partrm.model.inputs import NetworkInput
from partrm.model.part_network import OPENED_RAD, OPENED_UNITS
from partrm.objects.materials import MaterialTable
from partrm.rendering.meshes import MeshScene, SurfaceMaps, trace_surfaces
from partrm.synthesis.augmentation import PhotometricJitter
from partrm.synthesis.posed_scenes import PosedBatch
from partrm.synthesis.sampler import (
    SampleConfig,
    photographed,
    posed_for_photographs,
    render_inputs,
    told_cameras,
)
from partrm.synthesis.scenarios import JointTables

LEAST_CELLS = 20
"""Parts that show fewer cells do not count, neither as moving nor as still."""

MIDDLE_SIGMA = 1.5
"""Standard deviation of the bump at the middle of a part, cells."""


@dataclass(frozen=True)
class PartTargets(TensorRecord):
    """What each cell of some pictures shows; canonical frame of each picture's crop."""

    counts: Bool[Tensor, "b h w"]
    """Whether it shows the object, and no part too small to count."""
    owner: Int[Tensor, "b h w"]
    """Slot of the part whose joint moves it, -1 where nothing does."""
    cells: Float[Tensor, "b h w"]
    """How many cells that part shows; 0 where nothing moves."""
    middle: Float[Tensor, "b h w"]
    """Bumps of height 1 at the middles of parts."""
    to_middle: Float[Tensor, "b h w 2"]
    hinge: Bool[Tensor, "b h w"]
    axis: Float[Tensor, "b h w 3"]
    """Opening, towards the farther end of its range, is right-handed about it or along it."""
    to_axis: Float[Tensor, "b h w 3"]
    displacement: Float[Tensor, "b h w 3"]

    @property
    def moves(self) -> Bool[Tensor, "b h w"]:
        """Where a part that counts is shown."""
        return self.counts & (self.owner >= 0)


@dataclass(frozen=True)
class PartSamples(TensorRecord):
    """Pictures and what they show."""

    inputs: NetworkInput
    """One view each, no drag."""
    targets: PartTargets


def owners(tables: JointTables) -> Int[Tensor, "objects parts"]:
    """The slot whose joint moves each part: its own, or that of the nearest ancestor that has one; -1: none."""
    moves = (tables.joint_type != JointType.FIXED) & (
        (tables.upper > tables.lower) | (tables.joint_type == JointType.CONTINUOUS)
    )
    found: list[Tensor] = []
    for slot in range(tables.parent.shape[1]):
        parent = tables.parent[:, slot]
        above = torch.full_like(parent, -1)
        if found:
            above = torch.stack(found, 1).gather(1, parent.clamp(min=0)[:, None])[:, 0]
            above = torch.where(parent >= 0, above, -1)
        found.append(torch.where(moves[:, slot], slot, above))
    return torch.stack(found, 1)


def make_part_samples(
    scene: MeshScene,
    tables: JointTables,
    objects: Int[Tensor, " b"],
    materials: MaterialTable,
    config: SampleConfig,
    generator: torch.Generator,
) -> PartSamples:
    """Pictures of the given objects, drawn as :func:`partrm.synthesis.sampler.make_samples` draws those of training."""
    posed = posed_for_photographs(scene, tables, objects, materials, config, generator)
    return pictures_of(scene, tables, posed, config, generator)


def pictures_of(
    scene: MeshScene, tables: JointTables, posed: PosedBatch, config: SampleConfig, generator: torch.Generator
) -> PartSamples:
    """Render a posed batch, and tell its parts."""
    b, size, single = len(posed.scenario.object), config.image_size_px, replace(config, views=1)
    taken = posed.first.resized(size)
    in_object = posed.framing.cameras_to_object(taken)
    images = render_inputs(scene, posed, in_object, single)
    if config.augment:
        images = photographed(images, PhotometricJitter.random(b, generator), single, generator)
    maps = trace_surfaces(scene, posed.instances, in_object.resized(size // 2))
    alone = torch.ones(b, 1, dtype=torch.bool, device=images.device)
    nowhere = torch.zeros(b, 1, 2, device=images.device)
    none = Drags(nowhere, nowhere, torch.zeros_like(alone).long(), torch.zeros_like(alone))
    inputs = NetworkInput(images, told_cameras(taken, single, generator), alone, none)
    return PartSamples(inputs, part_targets(tables, posed, maps))


def part_targets(tables: JointTables, posed: PosedBatch, maps: SurfaceMaps) -> PartTargets:
    """What the one view of a posed batch shows, cell by cell."""
    chosen, q = tables[posed.scenario.object], posed.scenario.q_source
    slot = rearrange(maps.part[:, 0].long(), "b h w -> b (h w)")
    b, (h, w) = len(slot), maps.part.shape[-2:]
    shown = slot >= 0
    owner = torch.where(shown, owners(chosen).gather(1, slot.clamp(min=0)), -1)
    moves = owner >= 0
    at = owner.clamp(min=0)
    parts = chosen.parent.shape[1]
    totals = torch.zeros(b, parts, 3, device=slot.device)
    rows, columns = torch.meshgrid(
        torch.arange(h, device=slot.device), torch.arange(w, device=slot.device), indexing="ij"
    )
    place = torch.stack([columns, rows], -1).flatten(0, 1).float() + 0.5
    each = torch.cat([place, torch.ones_like(place[:, :1])], 1).expand(b, -1, -1) * moves[..., None]
    totals.scatter_add_(1, at[..., None].expand(-1, -1, 3), each)
    cells, middles = totals[..., 2], totals[..., :2] / totals[..., 2:].clamp(min=1)
    large = cells >= LEAST_CELLS
    bumps = torch.zeros(b, h * w, device=slot.device)
    for part in range(parts):
        away = (place - middles[:, part, None]).square().sum(-1)
        bumps = torch.maximum(bumps, torch.exp(-away / (2 * MIDDLE_SIGMA**2)) * large[:, part, None])

    def of_owner(values: Tensor) -> Tensor:
        index = at.reshape(b, -1, *[1] * (values.ndim - 2)).expand(-1, -1, *values.shape[2:])
        return values.gather(1, index)

    axis, pivot, slides = opening_joints(chosen, q, posed)
    points = posed.framing.points_to_canonical(maps.point_world[:, 0].flatten(1, 2))
    axis, pivot, slides = of_owner(axis), of_owner(pivot), of_owner(slides)
    to_axis = pivot - points
    to_axis = to_axis - (to_axis * axis).sum(-1, keepdim=True) * axis
    amount = torch.where(slides, OPENED_UNITS, OPENED_RAD)
    T = screw_motion(axis, pivot, amount, slides)
    displacement = transform_points(T, points[..., None, :])[..., 0, :] - points
    on = moves[..., None]

    def grid(values: Tensor) -> Tensor:
        return values.reshape(b, h, w, *values.shape[2:])

    return PartTargets(
        counts=grid(shown & (~moves | of_owner(large))),
        owner=grid(owner),
        cells=grid(torch.where(moves, of_owner(cells), 0.0)),
        middle=grid(bumps),
        to_middle=grid(torch.where(on, of_owner(middles) - place, 0.0)),
        hinge=grid(moves & ~slides),
        axis=grid(torch.where(on, axis, 0.0)),
        to_axis=grid(torch.where(on & ~slides[..., None], to_axis, 0.0)),
        displacement=grid(torch.where(on, displacement, 0.0)),
    )


def opening_joints(
    chosen: JointTables, q: Float[Tensor, "b parts"], posed: PosedBatch
) -> tuple[Float[Tensor, "b parts 3"], Float[Tensor, "b parts 3"], Bool[Tensor, "b parts"]]:
    """Axis, pivot and whether it slides of every part's joint, where the state has it; towards its farther end."""
    T = posed.instances.T_world_part
    axis = (T[..., :3, :3] @ chosen.axis[..., None])[..., 0]
    pivot = (T[..., :3, :3] @ chosen.pivot[..., None])[..., 0] + T[..., :3, 3]
    forward = torch.where(chosen.upper - q >= q - chosen.lower, 1.0, -1.0)
    axis = axis * forward[..., None] @ posed.framing.R_canonical_object.mT
    unit = axis / axis.norm(dim=-1, keepdim=True).clamp(min=1e-6)
    return unit, posed.framing.points_to_canonical(pivot), chosen.joint_type == JointType.PRISMATIC
