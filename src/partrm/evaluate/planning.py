"""Which samples an evaluation set holds: states, a first view that shows the motion, drag points. All deterministic."""

import itertools
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import torch
from einops import rearrange
from jaxtyping import Bool, Float, Int
from torch import Tensor

from partrm.articulation.materials import MaterialTable
from partrm.articulation.objects import ArticulatedObject
from partrm.cameras import CANONICAL_FOVY_RAD
from partrm.data.online import moving_mask, pose_batch
from partrm.data.scenarios import (
    Framing,
    JointTables,
    Scenario,
    ScenarioConfig,
    first_view,
    frame_from,
    sample_scenarios,
    uniform,
)
from partrm.drags import MAX_DRAGS
from partrm.evaluate.sets import EvalSet, EvalSetError, Plan, SceneArrays
from partrm.rendering.meshes import MeshScene, material_table, trace_surfaces
from partrm.transforms import transform_points

PROCEDURAL_SEED = 1_000_000
"""Seed of the first procedural object; training uses seeds below."""

UNEVALUATED = frozenset(
    (
        *("latch_door", "knobs", "sliders", "toaster", "toilet", "bottle", "bucket", "jaws", "lamp", "swivel"),
        *("cart", "folding_chair", "ladder", "eyeglasses", "knife", "scissors", "flip_phone", "cap"),
        *("pot", "carton", "keys", "clock", "camera", "printer", "mirror", "book", "assembly"),
    )
)
"""Categories to train on that came after the published samples, which stay what they are."""

PLAN_SIZE_PX = 128
"""Side of the surface maps that choose views and drag points."""

LEAST_MOVING = 0.004
"""Least share of the first view's pixels that must show the moving part."""

LEAST_DRAG = 0.02
"""Least mean motion of the part's visible points in the first view, fraction of the image."""

DRAG_QUANTILE = 0.75
"""The single drag starts at the visible point whose motion in the image has this quantile: off the hinge, where a user
would pull, but not the extreme corner."""

CANDIDATES = 8
"""Scenarios drawn at once for a procedural sample; the first that shows its motion is taken."""

ROUNDS = 6

AZIMUTHS_DEG = (30.0, -30.0, 50.0, -50.0, 10.0, -10.0, 70.0, -70.0)
"""First views of real objects, tried in this order."""

REAL_TRANSITIONS = (("opening", 0.0, 0.8, 28.0), ("closing", 1.0, 0.0, 22.0), ("part way", 0.3, 0.7, 34.0))
"""Name, source and target state (0 closed, 1 the end farther from it) and the first view's elevation in degrees."""


@dataclass(frozen=True)
class Candidates:
    """Samples that might be taken, best first."""

    scenario: Scenario
    azimuth_rad: Float[Tensor, " b"]
    elevation_rad: Float[Tensor, " b"]


def canonical_framing(azimuth_rad: Float[Tensor, " b"], elevation_rad: Float[Tensor, " b"]) -> Framing:
    """Framing of first views without offset and with scale 1, as a canonical image has it."""
    zeros = torch.zeros(len(azimuth_rad), 3, device=azimuth_rad.device)
    return frame_from(azimuth_rad, elevation_rad, zeros, torch.ones_like(azimuth_rad))


def plan_procedural(
    limit: int, seed: int, advance: Callable[[], None], kinds: Sequence[str] = (), motion_share: float = 1.0
) -> EvalSet:
    """Held-out procedural objects, one sample each, categories in turn, until ``limit`` samples are found.

    Args:
        limit: number of samples.
        seed: of states and cameras; the objects are always those from :data:`PROCEDURAL_SEED` on.
        advance: called after each sample found.
        kinds: categories other than those of the published samples.
        motion_share: motions are cut to this share of what was drawn, (0, 1].

    Raises:
        ObjectError: the ``data`` extra is not installed, or an unknown category.
        EvalSetError: another share, or too few samples.
    """
    from partrm.articulation.procedural import CATEGORIES, generate

    if not 0 < motion_share <= 1:
        raise EvalSetError(f"a share of the motions of {motion_share:g}: it must be above 0, and 1 at most")
    categories = kinds or [category for category in CATEGORIES if category not in UNEVALUATED]
    found: list[Found] = []
    dropped: list[str] = []
    for index in range(2 * limit + len(categories)):
        if len(found) == limit:
            break
        obj = generate(categories[index % len(categories)], PROCEDURAL_SEED + index)
        ground = Ground.of(obj)
        generator = torch.Generator().manual_seed(1_000_003 * seed + index)
        candidates = (_random_candidates(ground.tables, generator) for _ in range(ROUNDS))
        plan = next((p for p in map(ground.first_shown, candidates) if p is not None), None)
        if plan is None:
            dropped.append(f"{obj.name}: no draw shows the part and its motion")
        else:
            shortened = torch.lerp(plan.q_source, plan.q_target, motion_share)
            found.append(Found(obj, "random", replace(plan, q_target=shortened)))
            advance()
    if len(found) < limit:
        raise EvalSetError(f"only {len(found)} of {limit} procedural samples show their motion")
    return assemble("procedural", seed, found, dropped)


def _random_candidates(tables: JointTables, generator: torch.Generator) -> Candidates:
    shape = (CANDIDATES,)
    scenario = sample_scenarios(tables, torch.zeros(shape, dtype=torch.long), ScenarioConfig(), generator)
    azimuth = uniform(shape, math.radians(-60), math.radians(60), generator)
    return Candidates(scenario, azimuth, uniform(shape, math.radians(10), math.radians(40), generator))


def plan_real(names: Sequence[str], advance: Callable[[], None]) -> EvalSet:
    """Every joint of the named real objects in three transitions, companions closed, from fixed first views.

    Raises:
        ObjectError: an unknown name, or a wheel that is not installed.
    """
    from partrm.articulation.real import load_real_object

    found: list[Found] = []
    dropped: list[str] = []
    for name in names:
        obj = load_real_object(name)
        ground = Ground.of(obj)
        for part, number in itertools.product(obj.movable, range(len(REAL_TRANSITIONS))):
            plan = ground.first_shown(fixed_candidates(obj, part, number))
            transition = REAL_TRANSITIONS[number][0]
            if plan is None:
                dropped.append(f"{name}/{obj.parts[part].name} {transition}: no view shows the part and its motion")
            else:
                found.append(Found(obj, transition, plan))
        advance()
    return assemble("real", 0, found, dropped)


def fixed_candidates(obj: ArticulatedObject, part: int, number: int) -> Candidates:
    """First views for the transition ``number`` of a part; each transition begins its search at another azimuth."""
    _, start, end, elevation_deg = REAL_TRANSITIONS[number]
    azimuths = AZIMUTHS_DEG[number:] + AZIMUTHS_DEG[:number]
    b = len(azimuths)
    lower, upper = obj.joint_limits[part]
    closed = obj.closed_q()
    far = lower if abs(lower - closed[part]) > abs(upper - closed[part]) else upper

    def state(share: float) -> Tensor:
        q = torch.from_numpy(closed).float().repeat(b, 1)
        q[:, part] += share * (far - closed[part])
        return q

    scenario = Scenario(torch.zeros(b, dtype=torch.long), torch.full((b,), part), state(start), state(end))
    elevation = torch.full((b,), math.radians(elevation_deg))
    return Candidates(scenario, torch.deg2rad(torch.tensor(azimuths)), elevation)


@dataclass(frozen=True)
class Found:
    """A usable sample of one object; the plan's object index is set when the set is assembled."""

    object: ArticulatedObject
    transition: str
    plan: Plan


def assemble(name: str, seed: int, found: Sequence[Found], dropped: Sequence[str]) -> EvalSet:
    """One set of all samples, each object held once."""
    if not found:
        raise EvalSetError(f"the set {name} has no usable sample")
    objects = list({f.object.name: f.object for f in found}.values())
    number = {obj.name: index for index, obj in enumerate(objects)}
    tables = JointTables.from_objects(objects)
    parts = tables.parent.shape[1]

    def padded(q: Float[Tensor, "1 few"]) -> Float[Tensor, "1 parts"]:
        return torch.nn.functional.pad(q, (0, parts - q.shape[1]))

    plans = [
        replace(
            f.plan,
            object=torch.tensor([number[f.object.name]]),
            q_source=padded(f.plan.q_source),
            q_target=padded(f.plan.q_target),
        )
        for f in found
    ]
    return EvalSet(
        name=name,
        seed=seed,
        object_names=tuple(o.name for o in objects),
        categories=tuple(o.category for o in objects),
        transitions=tuple(f.transition for f in found),
        dropped=tuple(dropped),
        scene=SceneArrays.of(MeshScene.from_objects(objects)),
        tables=tables,
        materials=material_table(objects),
        plan=Plan(*(torch.cat([getattr(p, column) for p in plans]) for column in Plan.__dataclass_fields__)),
    )


@dataclass(frozen=True)
class Ground:
    """One object ready for looking at."""

    scene: MeshScene
    tables: JointTables
    materials: MaterialTable

    @staticmethod
    def of(obj: ArticulatedObject) -> "Ground":
        return Ground(MeshScene.from_objects([obj]), JointTables.from_objects([obj]), material_table([obj]))

    def first_shown(self, candidates: Candidates) -> Plan | None:
        """The first candidate that shows its motion, as a plan of one sample."""
        scenario, b = candidates.scenario, len(candidates.azimuth_rad)
        framing = canonical_framing(candidates.azimuth_rad, candidates.elevation_rad)
        materials = self.materials[scenario.object]
        posed = pose_batch(self.scene, self.tables, scenario, framing, materials, False, torch.Generator())
        cameras = framing.cameras_to_object(first_view(b, PLAN_SIZE_PX, self.scene.device, CANONICAL_FOVY_RAD))
        maps = trace_surfaces(self.scene, posed.instances, cameras)
        moving = moving_mask(maps, posed.carried)[:, 0]
        points = rearrange(maps.point_world[:, 0], "b h w c -> b (h w) c")
        start, _ = cameras[:, 0].project(points)
        end, depth = cameras[:, 0].project(transform_points(posed.T_motion, points))
        for row in range(b):
            on = moving[row].flatten()
            length = (end[row, on] - start[row, on]).norm(dim=-1) / PLAN_SIZE_PX
            if float(on.float().mean()) < LEAST_MOVING or bool((depth[row, on] < 0.1).any()):
                continue
            drags = drag_points(points[row], start[row], end[row], moving[row])
            if drags is None or float(length.mean()) < LEAST_DRAG:
                continue
            chosen, index = scenario[[row]], [row]
            return Plan(
                chosen.object, chosen.part, chosen.q_source.float(), chosen.q_target.float(),
                candidates.azimuth_rad[index], candidates.elevation_rad[index], drags[None],
            )  # fmt: skip
        return None


def drag_points(
    points: Float[Tensor, "p 3"], start: Float[Tensor, "p 2"], end: Float[Tensor, "p 2"], moving: Bool[Tensor, "h w"]
) -> Float[Tensor, "drags 3"] | None:
    """Drag points among the pixels of a view: the first by :data:`DRAG_QUANTILE`, the others far from all before.

    Only points whose motion ends inside the image count, as ``partrm predict`` asks; of these, pixels surrounded by the
    part are preferred. None where there are fewer than :data:`MAX_DRAGS` points.

    Args:
        points: what each pixel shows, row by row.
        start: their pixels, units of ``moving``'s pixels.
        end: their pixels after the motion.
        moving: which pixels show the moving part.
    """
    size = moving.shape[-1]
    inside = ((end > 0.5) & (end < size - 0.5)).all(-1)
    border = torch.nn.functional.max_pool2d((~moving).float()[None, None], 3, 1, 1)[0, 0] > 0
    usable = moving.flatten() & inside
    inner = usable & ~border.flatten()
    index = (inner if int(inner.sum()) >= MAX_DRAGS else usable).nonzero()[:, 0]
    if len(index) < MAX_DRAGS:
        return None
    # Centres of pixels, exactly: their distances tie, and what ray casting leaves in the last bit would break the ties.
    pixel = torch.arange(len(points), device=points.device)
    centre = torch.stack([pixel % size, pixel // size], -1) + 0.5
    return points[spread_points(centre, end - start + centre, index)]


def spread_points(start: Float[Tensor, "p 2"], end: Float[Tensor, "p 2"], index: Int[Tensor, " k"]) -> list[int]:
    """:data:`MAX_DRAGS` of the points ``index`` (all, if fewer): the first by :data:`DRAG_QUANTILE` of how far they go
    in the image, then always the one farthest from those before.

    Args:
        start: pixels of all points.
        end: their pixels after the motion.
    """
    length = (end[index] - start[index]).norm(dim=-1)
    order = torch.argsort(length, stable=True)
    chosen = [int(index[order[int(DRAG_QUANTILE * (len(order) - 1))]])]
    for _ in range(1, min(MAX_DRAGS, len(index))):
        # By matrix products, as cdist does it left to itself, equal distances would differ by the processor.
        away = torch.cdist(start[index], start[chosen], compute_mode="donot_use_mm_for_euclid_dist").amin(1)
        chosen.append(int(index[int(away.argmax())]))
    return chosen
