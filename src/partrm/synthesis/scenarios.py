"""What happens in a sample, before anything is rendered: object, part, two states, cameras and framing.

All draws come from one ``torch.Generator`` on the device of the tables, so that a seed reproduces a batch and nothing
waits for the host.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from partrm.geometry.cameras import (
    ABSENT_FOVY_RAD,
    CANONICAL_DISTANCE,
    Cameras,
    canonical_orbit,
    canonical_pose,
    look_at,
)
from partrm.geometry.framing import Framing
from partrm.geometry.joints import JointType, forward_kinematics
from partrm.geometry.tensor_record import TensorRecord
from partrm.geometry.transforms import invert_rigid, pose, rotation_from_axis_angle
from partrm.objects.articulated_object import ArticulatedObject


@dataclass(frozen=True)
class JointTables(TensorRecord):
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

    def poses(self, q: Float[Tensor, "objects parts"]) -> Float[Tensor, "objects parts 4 4"]:
        """``T_object_part(q)`` of every part."""
        return forward_kinematics(self.parent, self.joint_type, self.axis, self.pivot, q)


PHOTOGRAPH_HALF_WIDTH = 0.45
"""Half the side of what a crop of an object of diagonal 1 shows, object units, before its mask is known."""

PHOTOGRAPH_MARGIN = 2.4
"""How many times as wide the picture is that the mask is first seen in, so that open doors lie inside."""


@dataclass(frozen=True)
class ScenarioConfig:
    """Ranges that states, cameras and framings are drawn from."""

    front_azimuth_deg: float
    """First view's azimuth lies within this of the object's front in nine samples of ten, else anywhere."""
    frontal_probability: float
    """How often it lies within ``frontal_azimuth_deg``, as people stand before furniture."""
    frontal_azimuth_deg: float
    elevation_deg: tuple[float, float]
    elevation_power: float
    """Above 1: low cameras are more frequent."""
    lens_fovy_deg: tuple[float, float]
    """Vertical fields of view of what a crop of the object shows; the camera's distance goes with it."""
    lens_power: float
    """Above 1: long lenses are more frequent."""
    offset: float
    """Standard deviation of the point that the camera looks at from the object's centre, object units."""
    closed_probability: float
    """How often a joint starts at its closed end; distractors likewise."""
    smallest_change: float
    """Least motion of the dragged joint, as a share of its range."""
    small_probability: float
    """How often the dragged joint moves only a little."""
    small_change: tuple[float, float]
    """Motions of those, at most, as shares of the joint's range; each is at least half as long."""


PUBLISHED_SCENARIOS = ScenarioConfig(
    front_azimuth_deg=70.0,
    frontal_probability=0.35,
    frontal_azimuth_deg=10.0,
    elevation_deg=(-5.0, 55.0),
    elevation_power=1.6,
    lens_fovy_deg=(12.0, 50.0),
    lens_power=1.0,
    offset=0.05,
    closed_probability=0.45,
    smallest_change=0.15,
    small_probability=0.0,
    small_change=(0.04, 0.3),
)
"""Of the published evaluation samples, whose states are never changed; their cameras are the canonical ones."""

TRAINING_SCENARIOS = replace(
    PUBLISHED_SCENARIOS,
    small_probability=0.3,
    elevation_deg=(-10.0, 75.0),
    elevation_power=1.8,
    lens_fovy_deg=(12.0, 68.0),
    lens_power=1.6,
)
"""Of training: also small motions, steep views, wide lenses from near by."""


@dataclass(frozen=True)
class Scenario(TensorRecord):
    """States of a batch of objects; one joint of each differs between source and target."""

    object: Int[Tensor, " b"]
    part: Int[Tensor, " b"]
    """Slot of the dragged part."""
    q_source: Float[Tensor, "b parts"]
    q_target: Float[Tensor, "b parts"]


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


def sample_photographs(b: int, size_px: int, config: ScenarioConfig, generator: torch.Generator) -> Cameras:
    """[b] cameras in object frames whose pictures show whole objects, and more about them: mostly from the front."""
    shape = (b,)
    azimuth = uniform(shape, -1.0, 1.0, generator)
    how = uniform(shape, 0.0, 1.0, generator)
    frontal, front = config.frontal_probability, 0.92
    widest = torch.where(how < frontal, config.frontal_azimuth_deg, config.front_azimuth_deg)
    azimuth = torch.deg2rad(azimuth * torch.where(how < front, widest, 180.0))
    low, high = config.elevation_deg
    elevation = torch.deg2rad(low + (high - low) * uniform(shape, 0.0, 1.0, generator) ** config.elevation_power)
    longest, widest_lens = config.lens_fovy_deg
    fovy = torch.deg2rad(longest + (widest_lens - longest) * uniform(shape, 0.0, 1.0, generator) ** config.lens_power)
    tangent = torch.tan(fovy / 2)
    target = config.offset * torch.randn(b, 3, generator=generator, device=generator.device)
    position = target + view_direction(azimuth, elevation) * (PHOTOGRAPH_HALF_WIDTH / tangent)[:, None]
    T = look_at(position, target, position.new_tensor([0.0, 0.0, 1.0]))
    return Cameras(T, 2 * torch.atan(PHOTOGRAPH_MARGIN * tangent), size_px, size_px)


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


def first_view(b: int, size_px: int, device: torch.device | str) -> Cameras:
    """[b, 1] canonical cameras."""
    one = canonical_orbit(1, size_px, device)
    return Cameras(one.T_world_camera.expand(b, 1, 4, 4), one.fovy_rad.expand(b, 1), size_px, size_px)


def sample_turned_cameras(framing: Framing, first: Cameras, views: int, generator: torch.Generator) -> Cameras:
    """[b, views] canonical-frame cameras: the first view's [b, 1], turned about the object's upright axis.

    By steps of 360/11 degrees (PartDrag-4D's first four views), of 90 degrees, or at random, one way or the other.
    """
    b, device = len(framing.scale), framing.scale.device
    step = torch.where(
        uniform((b, 1), 0.0, 1.0, generator) < 0.4,
        torch.full((b, 1), 2 * math.pi / 11, device=device),
        torch.full((b, 1), math.pi / 2, device=device),
    )
    regular = step * torch.arange(views, device=device)
    free = torch.cat([torch.zeros(b, 1, device=device), uniform((b, views - 1), 0.3, 6.0, generator)], 1)
    turn = torch.where(uniform((b, 1), 0.0, 1.0, generator) < 0.7, regular, free)
    turn = turn * torch.where(uniform((b, 1), 0.0, 1.0, generator) < 0.5, -1.0, 1.0)
    up = framing.R_canonical_object[:, None, :, 2]
    return turned_cameras(first, up.expand(b, views, 3), turn)


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
    return Cameras(T, torch.full((b, count), ABSENT_FOVY_RAD, device=device), size_px, size_px)


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
