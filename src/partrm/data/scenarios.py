"""What happens in a sample, before anything is rendered: object, part, two states, cameras and framing.

All draws come from one ``torch.Generator`` on the device of the tables, so that a seed reproduces a batch and nothing
waits for the host.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from partrm.articulation.kinematics import JointType, forward_kinematics
from partrm.articulation.objects import ArticulatedObject
from partrm.cameras import (
    ABSENT_FOVY_RAD,
    CANONICAL_DISTANCE,
    CANONICAL_FOVY_RAD,
    FILLED,
    INPUT_FOVY_RAD,
    Cameras,
    canonical_orbit,
    canonical_pose,
    look_at,
)
from partrm.data.samples import VIEWS
from partrm.transforms import invert_rigid, pose, rotation_from_axis_angle


@dataclass(frozen=True)
class JointTables:
    """Kinematic trees of many objects, padded to one number of parts."""

    parent: Int[Tensor, "objects parts"]
    """Slot of each part's parent, -1 for roots and padding."""
    joint_type: Int[Tensor, "objects parts"]
    axis: Float[Tensor, "objects parts 3"]
    pivot: Float[Tensor, "objects parts 3"]
    lower: Float[Tensor, "objects parts"]
    """Limits, radians or object units; zero for fixed joints."""
    upper: Float[Tensor, "objects parts"]
    drag_weight: Float[Tensor, "objects parts"]
    """How often each part is the one dragged, relative to its siblings; zero for fixed parts and padding."""

    def __getitem__(self, index) -> "JointTables":
        return JointTables(*(getattr(self, name)[index] for name in self.__dataclass_fields__))

    @staticmethod
    def from_objects(objects: Sequence[ArticulatedObject]) -> "JointTables":
        """Tables of some objects on the CPU (float32); movable parts are dragged equally often."""
        pad = torch.nn.utils.rnn.pad_sequence
        arrays = [o.joint_arrays() for o in objects]
        columns = {name: pad([a[name] for a in arrays], batch_first=True) for name in arrays[0]}
        slot = torch.arange(columns["parent"].shape[1])
        padding = slot >= torch.tensor([len(o.parts) for o in objects])[:, None]
        columns["parent"] = columns["parent"].masked_fill(padding, -1)
        limits = pad([torch.as_tensor(o.joint_limits) for o in objects], batch_first=True).float()
        return JointTables(
            parent=columns["parent"],
            joint_type=columns["joint_type"],
            axis=columns["axis"].float(),
            pivot=columns["pivot"].float(),
            lower=limits[..., 0],
            upper=limits[..., 1],
            drag_weight=(columns["joint_type"] != JointType.FIXED).float(),
        )

    def to(self, device: torch.device | str) -> "JointTables":
        return JointTables(*(getattr(self, name).to(device) for name in self.__dataclass_fields__))

    def poses(self, q: Float[Tensor, "objects parts"]) -> Float[Tensor, "objects parts 4 4"]:
        """``T_object_part(q)`` of every part."""
        return forward_kinematics(self.parent, self.joint_type, self.axis, self.pivot, q)


@dataclass(frozen=True)
class ScenarioConfig:
    """Ranges that states, cameras and framings are drawn from."""

    front_azimuth_deg: float = 70.0
    """First view's azimuth lies within this of the object's front in nine samples of ten, else anywhere."""
    elevation_deg: tuple[float, float] = (0.0, 50.0)
    scale: tuple[float, float] = (0.82, 1.2)
    """Size of the object relative to the canonical framing (a user's image is framed from its mask)."""
    offset: float = 0.05
    """Standard deviation of the object's centre from the origin in the image plane, canonical units."""
    depth_offset: float = 0.015
    """The same along the first view's axis, where an offset looks like another size."""
    canonical_probability: float = 0.5
    """How often the framing is exactly canonical, with neither offset nor scale."""
    outline_probability: float = 0.0
    """How often a single view is framed by the object's outline instead, as an image of unknown camera is."""
    closed_probability: float = 0.45
    """How often a joint starts at its closed end; companions likewise."""
    smallest_change: float = 0.15
    """Least motion of the dragged joint, as a share of its range."""
    small_probability: float = 0.0
    """How often the dragged joint moves only a little."""
    small_change: tuple[float, float] = (0.04, 0.3)
    """Motions of those, at most, as shares of the joint's range; each is at least half as long."""


@dataclass(frozen=True)
class Scenario:
    """States of a batch of objects; one joint of each differs between source and target."""

    object: Int[Tensor, " b"]
    part: Int[Tensor, " b"]
    """Slot of the dragged part."""
    q_source: Float[Tensor, "b parts"]
    q_target: Float[Tensor, "b parts"]

    def __getitem__(self, index) -> "Scenario":
        return Scenario(self.object[index], self.part[index], self.q_source[index], self.q_target[index])


@dataclass(frozen=True)
class Framing:
    """The similarity between the object frame (z up, diagonal 1) and the canonical frame of the first view."""

    R_canonical_object: Float[Tensor, "b 3 3"]
    target: Float[Tensor, "b 3"]
    """Point of the object frame that becomes the canonical origin."""
    scale: Float[Tensor, " b"]
    """Canonical units per object unit."""

    def __getitem__(self, index) -> "Framing":
        return Framing(self.R_canonical_object[index], self.target[index], self.scale[index])

    def points_to_canonical(self, points: Float[Tensor, "b n 3"]) -> Float[Tensor, "b n 3"]:
        return self.scale[:, None, None] * ((points - self.target[:, None]) @ self.R_canonical_object.mT)

    def directions_to_canonical(self, directions: Float[Tensor, "b 3"]) -> Float[Tensor, "b 3"]:
        return (self.R_canonical_object @ directions[..., None]).squeeze(-1)

    def motion_to_canonical(self, T_object: Float[Tensor, "b 4 4"]) -> Float[Tensor, "b 4 4"]:
        """The rigid motion of the object frame, expressed on canonical points."""
        Rc, Rm, t = self.R_canonical_object, T_object[:, :3, :3], T_object[:, :3, 3]
        shift = (Rm @ self.target[..., None]).squeeze(-1) + t - self.target
        return pose(Rc @ Rm @ Rc.mT, self.scale[:, None] * (Rc @ shift[..., None]).squeeze(-1))

    def cameras_to_object(self, cameras: Cameras) -> Cameras:
        """Canonical-frame cameras [b, v] in the object frame (positions scale, images stay the same)."""
        Ro = self.R_canonical_object.mT[:, None]
        R = Ro @ cameras.T_world_camera[..., :3, :3]
        position = (Ro @ (cameras.positions / self.scale[:, None, None])[..., None]).squeeze(-1) + self.target[:, None]
        return Cameras(pose(R, position), cameras.fovy_rad, cameras.width, cameras.height)


def uniform(shape: tuple[int, ...], low: float, high: float, generator: torch.Generator) -> Tensor:
    """Uniform draws on the generator's device."""
    return low + (high - low) * torch.rand(shape, generator=generator, device=generator.device)


def choose(weights: Float[Tensor, "b n"], generator: torch.Generator) -> Int[Tensor, " b"]:
    """One index a row, with probability in proportion to the weights, without waiting for the host."""
    noise = torch.rand(weights.shape, generator=generator, device=weights.device).clamp(min=1e-9)
    return (weights.clamp(min=1e-20).log() - (-noise.log()).log()).argmax(-1)


def sample_scenarios(
    tables: JointTables, objects: Int[Tensor, " b"], config: ScenarioConfig, generator: torch.Generator
) -> Scenario:
    """A moving part and a source and a target state for each of the given objects.

    Raises:
        ValueError: an object without a movable part (checked on the tables, where the pool is built).
    """
    chosen = tables[objects]
    part = choose(chosen.drag_weight, generator)
    shape = tuple(chosen.lower.shape)

    def state() -> Tensor:
        closed = chosen.lower.clamp(min=0).minimum(chosen.upper)
        anywhere = chosen.lower + (chosen.upper - chosen.lower) * uniform(shape, 0.0, 1.0, generator)
        return torch.where(uniform(shape, 0.0, 1.0, generator) < config.closed_probability, closed, anywhere)

    q_source = state()
    span = (chosen.upper - chosen.lower).gather(1, part[:, None])
    low, at = chosen.lower.gather(1, part[:, None]), q_source.gather(1, part[:, None])
    # Uniform over the range without the forbidden interval around the source.
    gap = config.smallest_change * span
    reach = span
    if config.small_probability > 0:
        column, (least, most) = (shape[0], 1), config.small_change
        small = uniform(column, 0.0, 1.0, generator) < config.small_probability
        change = uniform(column, math.log(least), math.log(most), generator).exp() * span
        reach, gap = torch.where(small, change, span), torch.where(small, change / 2, gap)
    first = (at - reach).maximum(low)
    below = (at - gap - first).clamp(min=0)
    above = ((at + reach).minimum(low + span) - at - gap).clamp(min=0)
    draw = uniform((shape[0], 1), 0.0, 1.0, generator) * (below + above)
    target = torch.where(draw < below, first + draw, at + gap + draw - below)
    return Scenario(objects, part, q_source, q_source.scatter(1, part[:, None], target))


def carried_parts(
    tables: JointTables, scenario: Scenario
) -> tuple[Float[Tensor, "b parts 4 4"], Float[Tensor, "b 4 4"], Bool[Tensor, "b parts"]]:
    """Source poses of all parts, the dragged part's motion in the object frame, and which parts it carries."""
    chosen = tables[scenario.object]
    T_source, T_target = chosen.poses(scenario.q_source), chosen.poses(scenario.q_target)
    index = scenario.part[:, None, None, None].expand(-1, 1, 4, 4)
    T_motion = (T_target.gather(1, index) @ invert_rigid(T_source.gather(1, index))).squeeze(1)
    carried = ((T_target - T_source).abs().amax((-2, -1)) > 1e-6) & (chosen.joint_type >= 0)
    return T_source, T_motion, carried


def joint_in_object_frame(
    tables: JointTables, scenario: Scenario, T_source: Float[Tensor, "b parts 4 4"]
) -> tuple[Int[Tensor, " b"], Float[Tensor, "b 3"], Float[Tensor, "b 3"], Float[Tensor, " b"]]:
    """Type, axis, pivot and signed amount of each dragged joint, its axis where the source state has it."""
    chosen, rows = tables[scenario.object], torch.arange(len(scenario.part), device=scenario.part.device)
    at = (rows, scenario.part)
    T = T_source[at]
    axis = (T[:, :3, :3] @ chosen.axis[at][..., None]).squeeze(-1)
    pivot = (T[:, :3, :3] @ chosen.pivot[at][..., None]).squeeze(-1) + T[:, :3, 3]
    kind = chosen.joint_type[at]
    kind = torch.where(kind == JointType.CONTINUOUS, torch.full_like(kind, int(JointType.REVOLUTE)), kind)
    return kind, axis, pivot, scenario.q_target[at] - scenario.q_source[at]


def sample_framing(b: int, config: ScenarioConfig, generator: torch.Generator) -> Framing:
    """Where the first view stands: mostly before the object, a little off its centre and of its usual distance."""
    shape = (b,)
    near = math.radians(config.front_azimuth_deg)
    front = uniform(shape, -near, near, generator)
    azimuth = torch.where(
        uniform(shape, 0.0, 1.0, generator) < 0.9, front, uniform(shape, -math.pi, math.pi, generator)
    )
    elevation = uniform(shape, math.radians(config.elevation_deg[0]), math.radians(config.elevation_deg[1]), generator)
    exact = uniform(shape, 0.0, 1.0, generator) < config.canonical_probability
    scale = torch.where(exact, 1.0, uniform(shape, *config.scale, generator))
    deep, wide = torch.randn(b, 3, generator=generator, device=generator.device).split((1, 2), -1)
    offset = torch.cat([config.depth_offset * deep, config.offset * wide], -1)
    backward = view_direction(azimuth, elevation)
    across = torch.stack([-torch.sin(azimuth), torch.cos(azimuth), torch.zeros_like(azimuth)], -1)
    axes = torch.stack([backward, across, torch.linalg.cross(backward, across)], -1)
    target = torch.where(exact[:, None], 0.0, (axes @ offset[..., None]).squeeze(-1))
    return frame_from(azimuth, elevation, target, scale)


def view_direction(
    azimuth_rad: Float[Tensor, "*batch"], elevation_rad: Float[Tensor, "*batch"]
) -> Float[Tensor, "*batch 3"]:
    """Unit vector from the object towards a camera, object frame (azimuth 0 on +x, z up)."""
    ce = torch.cos(elevation_rad)
    return torch.stack([ce * torch.cos(azimuth_rad), ce * torch.sin(azimuth_rad), torch.sin(elevation_rad)], -1)


def frame_from(
    azimuth_rad: Float[Tensor, " b"], elevation_rad: Float[Tensor, " b"], target: Float[Tensor, "b 3"],
    scale: Float[Tensor, " b"],
) -> Framing:  # fmt: skip
    """Framing of a first view at the given direction from ``target``, object frame (azimuth 0 on +x, z up)."""
    direction = view_direction(azimuth_rad, elevation_rad)
    position = target + direction * (CANONICAL_DISTANCE / scale)[:, None]
    T_object_camera = look_at(position, target, direction.new_tensor([0.0, 0.0, 1.0]))
    R = canonical_pose(target.device)[:3, :3] @ T_object_camera[:, :3, :3].mT
    return Framing(R, target, scale)


def framed_by_outline(framing: Framing, seen: Bool[Tensor, "b h w"]) -> Framing:
    """The framings that single images of unknown camera get: by the box about the object (``images.frame_object``).

    The camera is moved where a photo is cropped: the same but for the perspective of what lies off the middle.

    Args:
        framing: of the canonical cameras in which ``seen`` shows the object; where it shows nothing, the framing stays.
    """

    def span(shown: Bool[Tensor, "b n"]) -> tuple[Tensor, Tensor]:
        n, among = shown.shape[1], shown.float()
        return among.argmax(1) / n, 1 - among.flip(1).argmax(1) / n

    (left, right), (top, bottom) = span(seen.any(1)), span(seen.any(2))
    shown = seen.flatten(1).any(1)
    wanted = FILLED * math.tan(INPUT_FOVY_RAD / 2) / math.tan(CANONICAL_FOVY_RAD / 2)
    larger = torch.where(shown, wanted / torch.maximum(right - left, bottom - top), 1.0)
    reach = 2 * CANONICAL_DISTANCE * math.tan(CANONICAL_FOVY_RAD / 2)
    aside = torch.stack([(left + right - 1) / 2, (1 - top - bottom) / 2, torch.zeros_like(left)], -1) * reach
    moved = (framing.R_canonical_object.mT @ aside[..., None]).squeeze(-1) / framing.scale[:, None]
    target = framing.target + torch.where(shown[:, None], moved, 0.0)
    return Framing(framing.R_canonical_object, target, framing.scale * larger)


def first_view(b: int, size_px: int, device: torch.device | str, fovy_rad: float = INPUT_FOVY_RAD) -> Cameras:
    """[b, 1] cameras at the canonical camera's place."""
    one = canonical_orbit(1, size_px, device, fovy_rad)
    return Cameras(one.T_world_camera.expand(b, 1, 4, 4), one.fovy_rad.expand(b, 1), size_px, size_px)


def sample_input_cameras(
    framing: Framing, views: int, size_px: int, generator: torch.Generator, filled: bool = True
) -> tuple[Cameras, Bool[Tensor, "b v"]]:
    """[b, 4] canonical-frame cameras of the input views and which of them are present (the first ``views``).

    Present views turn about the object's upright axis by steps of 360/11 degrees (PartDrag-4D's first four views), of
    90 degrees, or at random, one way or the other; absent ones are those of the canonical orbit. Objects fill their
    images, or with ``filled`` False have the size that the canonical camera gives them.
    """
    b, device = len(framing.scale), framing.scale.device
    turn = sample_turns(b, generator, device)
    up = framing.R_canonical_object[:, None, :, 2]
    posed = turned_cameras(first_view(b, size_px, device), up.expand(b, VIEWS, 3), turn)
    absent = canonical_orbit(VIEWS, size_px, device).T_world_camera.expand(b, VIEWS, 4, 4)
    valid = (torch.arange(VIEWS, device=device) < views).expand(b, VIEWS)
    T = torch.where(valid[..., None, None], posed.T_world_camera, absent)
    own, others = (INPUT_FOVY_RAD, ABSENT_FOVY_RAD) if filled else (CANONICAL_FOVY_RAD, CANONICAL_FOVY_RAD)
    fovy = torch.where(valid, own, others).to(T.dtype)
    return Cameras(T, fovy, size_px, size_px), valid


def sample_turns(b: int, generator: torch.Generator, device: torch.device) -> Float[Tensor, "b v"]:
    """Radians that views stand about the object from the first: regular steps, or anywhere."""
    step = torch.where(
        uniform((b, 1), 0.0, 1.0, generator) < 0.4,
        torch.full((b, 1), 2 * math.pi / 11, device=device),
        torch.full((b, 1), math.pi / 2, device=device),
    )
    regular = step * torch.arange(VIEWS, device=device)
    free = torch.cat([torch.zeros(b, 1, device=device), uniform((b, VIEWS - 1), 0.3, 6.0, generator)], 1)
    turn = torch.where(uniform((b, 1), 0.0, 1.0, generator) < 0.7, regular, free)
    return turn * torch.where(uniform((b, 1), 0.0, 1.0, generator) < 0.5, -1.0, 1.0)


def turned_cameras(first: Cameras, axis: Float[Tensor, "b v 3"], angle_rad: Float[Tensor, "b v"]) -> Cameras:
    """The first view [b, 1] carried about an axis through the canonical origin by v angles."""
    R = rotation_from_axis_angle(axis, angle_rad)
    T = pose(R, torch.zeros_like(axis)) @ first.T_world_camera
    return Cameras(T, first.fovy_rad.expand(T.shape[:2]), first.width, first.height)


def sample_novel_cameras(framing: Framing, count: int, size_px: int, generator: torch.Generator) -> Cameras:
    """[b, count] canonical-frame cameras all around the object, 0 to 50 degrees above its ground plane."""
    b, device = len(framing.scale), framing.scale.device
    azimuth = uniform((b, count), -math.pi, math.pi, generator)
    elevation = uniform((b, count), 0.0, math.radians(50), generator)
    direction = view_direction(azimuth, elevation)
    R = framing.R_canonical_object[:, None]
    position = CANONICAL_DISTANCE * (R @ direction[..., None]).squeeze(-1)
    T = look_at(position, torch.zeros_like(position), framing.R_canonical_object[:, None, :, 2])
    return Cameras(T, torch.full((b, count), CANONICAL_FOVY_RAD, device=device), size_px, size_px)


def some_at_given_views(novel: Cameras, given: Cameras, share: float, generator: torch.Generator) -> Cameras:
    """Novel cameras [b, m], in this share of the samples the first replaced by any of the given ones [b, k]."""
    b, k = given.batch_shape
    rows = torch.arange(b, device=novel.device)
    which = torch.randint(k, (b,), generator=generator, device=novel.device)
    chosen = uniform((b,), 0.0, 1.0, generator) < share
    T, fovy = novel.T_world_camera.clone(), novel.fovy_rad.clone()
    T[:, 0] = torch.where(chosen[:, None, None], given.T_world_camera[rows, which], T[:, 0])
    fovy[:, 0] = torch.where(chosen, given.fovy_rad[rows, which], fovy[:, 0])
    return Cameras(T, fovy, novel.width, novel.height)
