"""How people photograph furniture: from where, through which lens, what stands before it, what the crop cuts off."""

import math
from dataclasses import dataclass, replace

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from partrm.cameras import CANONICAL_DISTANCE, INPUT_FOVY_RAD, Cameras
from partrm.data.scenarios import Framing, frame_from, uniform
from partrm.data.shapes import Shapes
from partrm.transforms import pose

FILLED = 0.9
"""Share of the frame's side that the longer side of a cut-out fills."""

FITS = 7
"""Rounds of framing; a nearer camera sees another outline."""

CUTS, BEFORE, LEAKS = 2, 3, 2
"""Places for shapes of each kind."""


@dataclass(frozen=True)
class ViewpointConfig:
    """Ranges of cameras, lenses, crops and things in the way of single photographs."""

    frontal_share: float = 0.35
    """How often the azimuth lies within ``frontal_deg`` of the object's front."""
    frontal_deg: float = 10.0
    aside_deg: float = 65.0
    """Greatest azimuth of the three-quarter views, to either side."""
    anywhere_share: float = 0.06
    """How often the azimuth is any."""
    low_elevation_deg: tuple[float, float] = (-5.0, 25.0)
    high_elevation_deg: tuple[float, float] = (25.0, 55.0)
    high_share: float = 0.22
    """How often the elevation is a high one."""
    roll_deg: float = 1.2
    """Standard deviation of the camera's turn about its axis."""
    photo_fovy_deg: tuple[float, float] = (15.0, 80.0)
    """Vertical field of view of whole photographs; its tangent is uniform in logarithm."""
    photo_share: tuple[float, float] = (0.35, 1.0)
    """Share of the photograph's height that the square about the object takes."""
    crop_fovy_deg: tuple[float, float] = (12.0, 60.0)
    """Bounds of the field of view of that square."""
    known_share: float = 0.4
    """How often the network is told the true lens and distance; else the canonical ones."""
    cut_share: float = 0.15
    """How often the photograph ends within the object."""
    cut_depth: tuple[float, float] = (0.03, 0.35)
    """Share of the object's width or height that is lost there."""
    cut_twice: float = 0.3
    """How often, of those, at a horizontal and a vertical side."""
    hidden_share: float = 0.25
    """How often one to three things stand before the object."""
    hidden_kept: float = 0.45
    """How often, of those, the cut-out takes them for the object; else it leaves them out."""
    leak_share: float = 0.15
    """How often a piece of the background beside the outline is taken for the object."""
    leak_size: tuple[float, float] = (0.03, 0.2)
    """Its half sides, shares of the object's longer side; uniform in logarithm."""
    jitter: float = 0.05
    """Greatest relative error of the frame's side, and of its centre in shares of half of it."""


@dataclass(frozen=True)
class Viewpoint:
    """What a batch of single photographs shows, beside the objects; the shapes are in the final images."""

    fovy_rad: Float[Tensor, " b"]
    """Of the lenses that take the images; the cameras' distances go with them."""
    known: Bool[Tensor, " b"]
    """Whether the network is told."""
    shapes: Shapes
    """``CUTS`` ends of the photograph, ``BEFORE`` things before the object, ``LEAKS`` pieces of background."""
    kept: Bool[Tensor, " b"]
    """Whether the cut-out takes the things before the object for the object."""

    def __getitem__(self, index) -> "Viewpoint":
        return Viewpoint(self.fovy_rad[index], self.known[index], self.shapes[index], self.kept[index])

    @property
    def hiding(self) -> Shapes:
        """Ends of the photograph and things before the object."""
        return self.shapes[:, : CUTS + BEFORE]

    def erased(self) -> Bool[Tensor, "b n"]:
        """Of the hiding shapes those that the cut-out leaves out."""
        return erased(self.kept)

    def hides(self, side_px: int) -> Bool[Tensor, "b h w"]:
        """Pixels of a square image in which the object cannot be seen."""
        return self.hiding.cover(side_px).any(1)

    def taken(self, told: Cameras) -> Cameras:
        """The cameras [b, v] that really take the images: the first views' lenses and distances are these."""
        return with_first_lens(told, self.fovy_rad)

    def told(self, cameras: Cameras) -> Cameras:
        """The cameras [b, v] that the network is told of."""
        return with_first_lens(cameras, torch.where(self.known, self.fovy_rad, cameras.fovy_rad[:, 0]))


def with_first_lens(cameras: Cameras, fovy_rad: Float[Tensor, " b"]) -> Cameras:
    """First views nearer or farther with other lenses: what lies in the plane of the origin keeps its size."""
    farther = torch.tan(cameras.fovy_rad[:, 0] / 2) / torch.tan(fovy_rad / 2)
    T = cameras.T_world_camera.clone()
    T[:, 0, :3, 3] = T[:, 0, :3, 3] * farther[:, None]
    return replace(cameras, T_world_camera=T, fovy_rad=torch.cat([fovy_rad[:, None], cameras.fovy_rad[:, 1:]], 1))


def erased(kept: Bool[Tensor, " b"]) -> Bool[Tensor, "b n"]:
    """Which hiding shapes a cut-out leaves out: ends of the photograph, and what it does not take for the object."""
    return (torch.arange(CUTS + BEFORE, device=kept.device) < CUTS) | ~kept[:, None]


def sample_viewing_framing(b: int, config: ViewpointConfig, generator: torch.Generator) -> Framing:
    """First views at the object's middle: frontal, three-quarter or, rarely, from anywhere; mostly from low."""
    near, far = math.radians(config.frontal_deg), math.radians(config.aside_deg)
    kind = uniform((b,), 0.0, 1.0, generator)
    side = torch.where(uniform((b,), 0.0, 1.0, generator) < 0.5, -1.0, 1.0)
    azimuth = side * uniform((b,), near, far, generator)
    azimuth = torch.where(kind < config.frontal_share, uniform((b,), -near, near, generator), azimuth)
    anywhere = uniform((b,), -math.pi, math.pi, generator)
    azimuth = torch.where(kind > 1 - config.anywhere_share, anywhere, azimuth)
    low, high = (uniform((b,), *e, generator) for e in (config.low_elevation_deg, config.high_elevation_deg))
    elevation = torch.deg2rad(torch.where(uniform((b,), 0.0, 1.0, generator) < config.high_share, high, low))
    framing = frame_from(azimuth, elevation, azimuth.new_zeros(b, 3), azimuth.new_ones(b))
    roll = math.radians(config.roll_deg) * torch.randn(b, generator=generator, device=generator.device)
    c, s, zero = torch.cos(roll), torch.sin(roll), torch.zeros_like(roll)
    about = torch.stack([c, -s, zero, s, c, zero, zero, zero, zero + 1], -1).unflatten(-1, (3, 3))
    return replace(framing, R_canonical_object=about @ framing.R_canonical_object)


def sample_lenses(b: int, config: ViewpointConfig, generator: torch.Generator) -> Float[Tensor, " b"]:
    """Vertical fields of view (radians) of the squares about objects that were cropped from photographs."""
    least, most = (math.log(math.tan(math.radians(x) / 2)) for x in config.photo_fovy_deg)
    tangent = uniform((b,), least, most, generator).exp() * uniform((b,), *config.photo_share, generator)
    low, high = (math.tan(math.radians(x) / 2) for x in config.crop_fovy_deg)
    return 2 * torch.atan(tangent.clamp(low, high))


def projected(
    framing: Framing, fovy_rad: Float[Tensor, " b"], points: Float[Tensor, "b n 3"]
) -> Float[Tensor, "b n 2"]:
    """Where first views of these lenses show points of the object frame, fractions of the image."""
    local = framing.points_to_canonical(points)
    reach = 2 * CANONICAL_DISTANCE * math.tan(INPUT_FOVY_RAD / 2)
    distance = (reach / 2 / torch.tan(fovy_rad / 2))[:, None]
    depth = torch.maximum(distance - local[..., 2], 0.1 * distance)
    flat = local[..., :2] * (distance / depth)[..., None] / reach
    return torch.stack([0.5 + flat[..., 0], 0.5 - flat[..., 1]], -1)


def box_of(
    points: Float[Tensor, "b n 2"], seen: Bool[Tensor, "b n"]
) -> tuple[Float[Tensor, "b 2"], Float[Tensor, "b 2"]]:
    """Lowest and highest corner about those that are seen; the middle of the image where none is."""
    low = torch.where(seen[..., None], points, torch.inf).amin(1)
    high = torch.where(seen[..., None], points, -torch.inf).amax(1)
    return low.where(low.isfinite(), 0.4), high.where(high.isfinite(), 0.6)


def moved_to(framing: Framing, middle: Float[Tensor, "b 2"], larger: Float[Tensor, " b"]) -> Framing:
    """The framing whose image is ``larger`` times as large about what was at ``middle`` of the image."""
    reach = 2 * CANONICAL_DISTANCE * math.tan(INPUT_FOVY_RAD / 2)
    aside = torch.stack([middle[:, 0] - 0.5, 0.5 - middle[:, 1], torch.zeros_like(larger)], -1) * reach
    moved = (framing.R_canonical_object.mT @ aside[..., None]).squeeze(-1) / framing.scale[:, None]
    return Framing(framing.R_canonical_object, framing.target + moved, framing.scale * larger)


def fitted(
    framing: Framing, fovy_rad: Float[Tensor, " b"], points: Float[Tensor, "b n 3"], seen: Bool[Tensor, "b n"]
) -> Framing:
    """Framings in which the longer side of what is seen fills ``FILLED`` of images through these lenses."""
    R, reach = framing.R_canonical_object, 2 * CANONICAL_DISTANCE * math.tan(INPUT_FOVY_RAD / 2)
    turned = points @ R.mT
    flat, toward = turned[..., :2], turned[..., 2]
    distance = (reach / 2 / torch.tan(fovy_rad / 2))[:, None]
    start = (R @ framing.target[..., None]).squeeze(-1)
    middle, scale = start[:, :2], framing.scale
    step = last_excess = torch.zeros_like(scale)
    for _ in range(FITS):
        size = distance / (distance - scale[:, None] * (toward - start[:, 2:])).clamp(min=0.1 * distance)
        shown = (flat - middle[:, None]) * size[..., None]
        low = shown.masked_fill(~seen[..., None], torch.inf).amin(1)
        high = shown.masked_fill(~seen[..., None], -torch.inf).amax(1)
        some = seen.any(1, keepdim=True)
        middle = torch.where(some, middle + (low + high) / 2, middle)
        excess = torch.log(((high - low).amax(-1) * scale / (FILLED * reach)).clamp(1e-3, 1e3))
        # Near objects grow faster than their scale: secants of the logarithms converge where plain ratios swing.
        change = excess - last_excess
        growth = torch.where(step.abs() > 1e-3, change / step, 1.5).nan_to_num(1.5).clamp(1.0, 6.0)
        step, last_excess = torch.where(some[:, 0], (-excess / growth).clamp(-0.5, 0.5), 0.0), excess
        scale = scale * step.exp()
    target = torch.cat([middle, start[:, 2:]], -1)
    return Framing(R, (R.mT @ target[..., None]).squeeze(-1), scale)


def sample_shapes(
    low: Float[Tensor, "b 2"], high: Float[Tensor, "b 2"], config: ViewpointConfig, generator: torch.Generator
) -> Shapes:
    """Cuts, things before the object and leaks, for objects in these boxes of the image."""
    groups = (_cuts(low, high, config, generator), _before(low, high, config, generator),
              _leaks(low, high, config, generator))  # fmt: skip
    return Shapes(*(torch.cat([getattr(g, name) for g in groups], 1) for name in Shapes.__dataclass_fields__))


def _cuts(low: Tensor, high: Tensor, config: ViewpointConfig, generator: torch.Generator) -> Shapes:
    b, u = len(low), uniform((len(low), 4), 0.0, 1.0, generator)
    depth = uniform((b, 2), *config.cut_depth, generator) * (high - low)
    first = u[:, 1] < 0.5
    at_low = u[:, 2:] < 0.5
    edge = torch.where(at_low, low + depth, high - depth)
    # Boxes three images wide that end at the edge.
    middle = torch.where(at_low, edge - 1.5, edge + 1.5)
    zero = torch.full_like(middle[:, 0], 0.5)
    centre = torch.stack([torch.stack([middle[:, 0], zero], -1), torch.stack([zero, middle[:, 1]], -1)], 1)
    twice = u[:, 0] < config.cut_share * config.cut_twice
    on = torch.stack([first | twice, ~first | twice], 1) & (u[:, :1] < config.cut_share)
    half = torch.full_like(centre, 1.5)
    half[:, 0, 1] = half[:, 1, 0] = 4.0
    return Shapes(centre, half, torch.zeros_like(on, dtype=low.dtype), torch.zeros_like(on), on)


def _before(low: Tensor, high: Tensor, config: ViewpointConfig, generator: torch.Generator) -> Shapes:
    """Boxes, ellipses and thin bars that reach into the object, more from its lower edge and its sides."""
    b = len(low)
    size = (high - low).amax(-1)[:, None, None]
    centre = low[:, None] + uniform((b, BEFORE, 2), -0.05, 1.05, generator) * (high - low)[:, None]
    down = uniform((b, BEFORE), 0.0, 1.0, generator) < 0.5
    foot = high[:, None, 1] - uniform((b, BEFORE), -0.05, 0.15, generator) * size[..., 0]
    centre = torch.stack([centre[..., 0], torch.where(down, foot, centre[..., 1])], -1)
    half = uniform((b, BEFORE, 2), math.log(0.03), math.log(0.22), generator).exp() * size
    bar = uniform((b, BEFORE), 0.0, 1.0, generator) < 0.3
    thin = torch.stack([uniform((b, BEFORE), 0.006, 0.02, generator), uniform((b, BEFORE), 0.3, 0.8, generator)], -1)
    half = torch.where(bar[..., None], thin * size, half)
    upright = uniform((b, BEFORE), 0.0, 1.0, generator) < 0.5
    turn = torch.where(upright, 0.0, uniform((b, BEFORE), -0.7, 0.7, generator))
    turn = turn + (bar & (uniform((b, BEFORE), 0.0, 1.0, generator) < 0.3)) * (math.pi / 2)
    count = 1 + (uniform((b, 1), 0.0, 1.0, generator) * BEFORE).long()
    some = uniform((b, 1), 0.0, 1.0, generator) < config.hidden_share
    on = some & (torch.arange(BEFORE, device=low.device) < count)
    return Shapes(centre, half, turn, ~bar & (uniform((b, BEFORE), 0.0, 1.0, generator) < 0.45), on)


def _leaks(low: Tensor, high: Tensor, config: ViewpointConfig, generator: torch.Generator) -> Shapes:
    """Patches on the outline's box, mostly at its foot (the floor, the shadow) and sides (the wall, the neighbour)."""
    b = len(low)
    size = (high - low).amax(-1)[:, None, None]
    along = uniform((b, LEAKS), 0.0, 1.0, generator)
    side = (uniform((b, LEAKS), 0.0, 1.0, generator) * 5).long()
    x = torch.where(side == 0, 0.0, torch.where(side == 1, 1.0, along))
    y = torch.where(side == 2, 0.0, torch.where(side >= 3, 1.0, along))
    centre = low[:, None] + torch.stack([x, y], -1) * (high - low)[:, None]
    least, most = (math.log(share) for share in config.leak_size)
    half = uniform((b, LEAKS, 2), least, most, generator).exp() * size
    count = 1 + (uniform((b, 1), 0.0, 1.0, generator) * LEAKS).long()
    some = uniform((b, 1), 0.0, 1.0, generator) < config.leak_share
    on = some & (torch.arange(LEAKS, device=low.device) < count)
    turn = uniform((b, LEAKS), -0.6, 0.6, generator)
    return Shapes(centre, half, turn, uniform((b, LEAKS), 0.0, 1.0, generator) < 0.7, on)


def photographed(
    framing: Framing,
    fovy_rad: Float[Tensor, " b"],
    points: Float[Tensor, "b n 3"],
    seen: Bool[Tensor, "b n"],
    config: ViewpointConfig,
    generator: torch.Generator,
) -> tuple[Framing, Viewpoint]:
    """Photographs framed by what an imperfect cut-out shows of the object.

    Args:
        framing: directions of the first views.
        fovy_rad: lenses of the squares about the whole objects; those about parts of objects are longer.
        points: of the surface, object frames, so many that their box is the outline's.
        seen: which of them count.
    """
    framing = fitted(framing, fovy_rad, points, seen)
    flat = projected(framing, fovy_rad, points)
    low, high = box_of(flat, seen)
    shapes = sample_shapes(low, high, config, generator)
    b = len(low)
    kept = uniform((b,), 0.0, 1.0, generator) < config.hidden_kept
    some, seen = flat[:, ::2], seen[:, ::2]  # each shape is tried on each point: half of them are enough
    gone = shapes[:, : CUTS + BEFORE].only(erased(kept)).contain(some).any(1)
    low, high = box_of(some, seen & ~gone)
    first, last = shapes.bounds()
    taken = shapes.on.clone()
    taken[:, :CUTS] = False
    taken[:, CUTS : CUTS + BEFORE] &= kept[:, None]
    low = torch.minimum(low, torch.where(taken[..., None], first, torch.inf).amin(1))
    high = torch.maximum(high, torch.where(taken[..., None], last, -torch.inf).amax(1))
    jitter = uniform((b, 3), -config.jitter, config.jitter, generator)
    larger = FILLED * (1 + jitter[:, 0]) / (high - low).amax(-1).clamp(min=0.1)
    middle = (low + high) / 2 + jitter[:, 1:] / 2
    # A crop zooms: lens and distance change together, the perspective stays.
    fovy = 2 * torch.atan(torch.tan(fovy_rad / 2) / larger)
    known = uniform((b,), 0.0, 1.0, generator) < config.known_share
    return moved_to(framing, middle, larger), Viewpoint(fovy, known, shapes.zoomed(middle, larger), kept)


def first_cameras(b: int, side_px: int, fovy_rad: Float[Tensor, " b"]) -> Cameras:
    """[b, 1] first views through these lenses."""
    distance = CANONICAL_DISTANCE * math.tan(INPUT_FOVY_RAD / 2) / torch.tan(fovy_rad / 2)
    zero = torch.zeros_like(distance)
    R = torch.eye(3, device=distance.device)
    R[1:] *= -1
    T = pose(R.expand(b, 3, 3), torch.stack([zero, zero, distance], -1))
    return Cameras(T[:, None], fovy_rad[:, None], side_px, side_px)
