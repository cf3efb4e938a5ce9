"""Which samples an evaluation set holds: states, a first view that shows the motion, drag points. All deterministic."""

import itertools
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import torch
from einops import rearrange
from jaxtyping import Bool, Float, Int
from torch import Tensor

from partrm.evaluation.mesh_samples import EvalSamples, EvalSet, EvalSetError, SceneArrays, canonical_framing
from partrm.geometry.drag_numbers import MAX_DRAGS
from partrm.geometry.transforms import transform_points
from partrm.objects.articulated_object import ArticulatedObject
from partrm.objects.materials import MaterialTable
from partrm.rendering.meshes import MeshScene, material_table, trace_surfaces
from partrm.synthesis.posed_scenes import moving_mask, pose_batch
from partrm.synthesis.scenarios import (
    PUBLISHED_SCENARIOS,
    JointTables,
    Scenario,
    first_view,
    sample_scenarios,
    uniform,
)

PROCEDURAL_SEED = 1_000_000
"""Seed of the first procedural object; training uses seeds below."""

PUBLISHED_CATEGORIES = (
    "cabinet", "mixed_cabinet", "drawers", "sliding_cabinet", "window", "door", "chest", "desk", "microwave",
    "toaster_oven", "oven", "refrigerator", "dishwasher", "washing_machine", "safe", "laptop", "lidded_box",
    "trash_can", "kettle", "light_switch", "faucet", "valve", "press", "lever", "suitcase", "kitchen_refrigerator",
    "kitchen_dishwasher", "kitchen_range", "kitchen_microwave", "kitchen_base_cabinet", "kitchen_wall_cabinet",
    "kitchen_sink_cabinet", "kitchen_recursive_cabinet", "kitchen_island",
)  # fmt: skip
"""Of the published samples, in turn: generators that come later change nothing."""

PUBLISHED_SAMPLES = 500
PUBLISHED_SEED = 0

PLAN_SIZE_PX = 128
"""Side of the surface maps that choose views and drag points."""

MIN_MOVING = 0.004
"""Least fraction of the first view's pixels that must show the moving part."""

MIN_DRAG = 0.02
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


@dataclass(frozen=True)
class ProceduralPlan:
    """Which procedural samples; the published ones by default."""

    count: int = PUBLISHED_SAMPLES
    """Samples, the first of those published for fewer."""
    seed: int = PUBLISHED_SEED
    """Of states and cameras; the objects are always those from :data:`PROCEDURAL_SEED` on."""
    categories: tuple[str, ...] = PUBLISHED_CATEGORIES
    """Of the objects, in turn."""
    motion_fraction: float = 1.0
    """Motions are cut to this part of what was drawn, (0, 1]."""

    def __post_init__(self) -> None:
        if self.count < 1 or not self.categories:
            raise EvalSetError("a procedural set needs at least 1 sample, and a category")
        if not 0 < self.motion_fraction <= 1:
            raise EvalSetError(f"a fraction of the motions of {self.motion_fraction:g}: it must be above 0, at most 1")

    @property
    def published(self) -> bool:
        """Whether all samples are published ones."""
        return replace(self, count=PUBLISHED_SAMPLES) == ProceduralPlan() and self.count <= PUBLISHED_SAMPLES


def plan_procedural(plan: ProceduralPlan, advance: Callable[[], None]) -> EvalSet:
    """Held-out procedural objects, one sample each, until there are as many as asked for.

    Args:
        advance: called after each sample found.

    Raises:
        ObjectError: the ``data`` extra is not installed, or an unknown category.
        EvalSetError: too few samples.
    """
    found: list[Candidate] = []
    dropped: list[str] = []
    for index in range(2 * plan.count + len(plan.categories)):
        if len(found) == plan.count:
            break
        obj = procedural_object(plan, index)
        candidate = procedural_candidate(plan, index, obj)
        if candidate is None:
            dropped.append(f"{obj.name}: no draw shows the part and its motion")
        else:
            found.append(candidate)
            advance()
    if len(found) < plan.count:
        raise EvalSetError(f"only {len(found)} of {plan.count} procedural samples show their motion")
    return assemble("procedural", plan.seed, found, dropped)


def procedural_object(plan: ProceduralPlan, index: int) -> ArticulatedObject:
    """The object of a plan's place ``index``; places whose motion no draw shows give no sample.

    Raises:
        ObjectError: the ``data`` extra is not installed, or an unknown category.
    """
    from partrm.procedural import generate

    return generate(plan.categories[index % len(plan.categories)], PROCEDURAL_SEED + index)


def procedural_candidate(plan: ProceduralPlan, index: int, obj: ArticulatedObject) -> "Candidate | None":
    """The sample of a plan's place ``index``; None where no draw shows the part and its motion."""
    scene = ObjectScene.of(obj)
    generator = torch.Generator().manual_seed(1_000_003 * plan.seed + index)
    draws = (_random_candidates(scene.tables, generator) for _ in range(ROUNDS))
    sample = next((s for s in map(scene.first_shown, draws) if s is not None), None)
    if sample is None:
        return None
    shortened = torch.lerp(sample.q_source, sample.q_target, plan.motion_fraction)
    return Candidate(obj, "random", replace(sample, q_target=shortened))


def _random_candidates(tables: JointTables, generator: torch.Generator) -> Candidates:
    shape = (CANDIDATES,)
    scenario = sample_scenarios(tables, torch.zeros(shape, dtype=torch.long), PUBLISHED_SCENARIOS, generator)
    azimuth = uniform(shape, math.radians(-60), math.radians(60), generator)
    return Candidates(scenario, azimuth, uniform(shape, math.radians(10), math.radians(40), generator))


def plan_real(names: Sequence[str], advance: Callable[[], None]) -> EvalSet:
    """Every joint of the named real objects in three transitions, the other joints closed, from fixed first views.

    Raises:
        ObjectError: an unknown name, or a wheel that is not installed.
    """
    from partrm.objects.real_objects import load_real_object

    found: list[Candidate] = []
    dropped: list[str] = []
    for name in names:
        obj = load_real_object(name)
        scene = ObjectScene.of(obj)
        for part, number in itertools.product(obj.movable, range(len(REAL_TRANSITIONS))):
            plan = scene.first_shown(fixed_candidates(obj, part, number))
            transition = REAL_TRANSITIONS[number][0]
            if plan is None:
                dropped.append(f"{name}/{obj.parts[part].name} {transition}: no view shows the part and its motion")
            else:
                found.append(Candidate(obj, transition, plan))
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
class Candidate:
    """A usable sample of one object; the plan's object index is set when the set is assembled."""

    object: ArticulatedObject
    transition: str
    plan: EvalSamples


def assemble(name: str, seed: int, found: Sequence[Candidate], dropped: Sequence[str]) -> EvalSet:
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
        plan=EvalSamples.cat(plans),
    )


@dataclass(frozen=True)
class ObjectScene:
    """One object ready for looking at."""

    scene: MeshScene
    tables: JointTables
    materials: MaterialTable

    @staticmethod
    def of(obj: ArticulatedObject) -> "ObjectScene":
        return ObjectScene(MeshScene.from_objects([obj]), JointTables.from_objects([obj]), material_table([obj]))

    def first_shown(self, candidates: Candidates) -> EvalSamples | None:
        """The first candidate that shows its motion, as a plan of one sample."""
        scenario, b = candidates.scenario, len(candidates.azimuth_rad)
        framing = canonical_framing(candidates.azimuth_rad, candidates.elevation_rad)
        materials = self.materials[scenario.object]
        first = first_view(b, PLAN_SIZE_PX, self.scene.device)
        posed = pose_batch(self.scene, self.tables, scenario, framing, first, materials, False, torch.Generator())
        cameras = framing.cameras_to_object(first)
        maps = trace_surfaces(self.scene, posed.instances, cameras)
        moving = moving_mask(maps, posed.carried)[:, 0]
        points = rearrange(maps.point_world[:, 0], "b h w c -> b (h w) c")
        start, _ = cameras[:, 0].project(points)
        end, depth = cameras[:, 0].project(transform_points(posed.T_motion, points))
        for row in range(b):
            on = moving[row].flatten()
            length = (end[row, on] - start[row, on]).norm(dim=-1) / PLAN_SIZE_PX
            if float(on.float().mean()) < MIN_MOVING or bool((depth[row, on] < 0.1).any()):
                continue
            drags = drag_points(points[row], start[row], end[row], moving[row])
            if drags is None or float(length.mean()) < MIN_DRAG:
                continue
            chosen, index = scenario[[row]], [row]
            return EvalSamples(
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
