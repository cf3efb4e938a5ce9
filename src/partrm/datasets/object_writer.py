"""All entries of one object in a PartDrag-4D folder: states, views, point clouds, visibility.

An entry's render folder is renamed into place last, so that where it stands the entry is whole. Everything follows from
the object's name and the build's seed: an entry made again has the same bytes.
"""

import hashlib
import json
import math
import shutil
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from jaxtyping import Float, Int
from PIL import Image
from torch import Tensor

from partrm.datasets.partdrag4d import (
    FOVY_RAD,
    PROCESSED,
    REFERENCE_OFFSET,
    REFERENCE_SCALE,
    RENDERS,
    EntryName,
    camera_record,
    save_points,
)
from partrm.errors import require_ranges
from partrm.files import explained_full_disk, read_bytes, staged_file
from partrm.geometry.cameras import CANONICAL_DISTANCE, Cameras, orbit_poses
from partrm.geometry.joints import JointType
from partrm.imaging.drawing import to_bytes
from partrm.objects.articulated_object import ArticulatedObject
from partrm.objects.obj_format import save_obj
from partrm.objects.surface import Surface
from partrm.objects.urdf import save_part_materials
from partrm.rendering.meshes import Instances, Lights, MeshScene, material_table, render_meshes, visible
from partrm.synthesis.posed_scenes import random_lights
from partrm.synthesis.surface_points import sample_triangles

REFERENCE_HEIGHT = 1.5
"""Height of the reference's cameras, at the canonical distance from the origin."""

PARTNET_DIAGONAL = 2.0


@dataclass(frozen=True)
class BuildConfig:
    """What is made of every object."""

    preset: Literal["default", "reference"] = "default"
    """default: diagonal 1, distinct azimuths, varied elevations; reference: the paper's cameras, scale and light."""
    seed: int = 0
    """Of random states, cameras, light and textures; procedural objects are those of seed N times a million on."""
    size_px: int = 512
    """Side of the images."""
    views: int = 12
    """Cameras around each state."""
    states: int = 6
    """States of each moving part over its limits, 2 to 100."""
    distractors: int = 2
    """Other parts, at most, that stand closed and open beside each moving part; each doubles the states."""
    points: int = 10_000
    """Surface points of each point cloud."""
    lighting: Literal["reference", "random"] = "reference"
    """random: another light and sky for each object."""
    textures: Literal["own", "images"] = "own"
    """images: surfaces without an image get a seeded one: wood, brushed metal, paint, glass, dials, labels."""
    backend: Literal["warp", "blender"] = "warp"
    """warp: our ray caster; blender: Cycles, slow, the reference's look (extra `blender`)."""
    samples_per_axis: int = 2
    """Sub-samples per pixel side (warp)."""
    cycles_samples: int = 32
    """Paths per pixel of the Blender backend."""

    def __post_init__(self) -> None:
        """Refuse numbers that no dataset has.

        Raises:
            ConfigError: one out of its range.
        """
        require_ranges(
            {
                "--seed": (self.seed, 0, 2**31),
                "--size-px": (self.size_px, 16, 4096),
                "--views": (self.views, 1, 100),
                "--states": (self.states, 2, 100),
                "--distractors": (self.distractors, 0, 4),
                "--points": (self.points, 1, 10**8),
                "--samples-per-axis": (self.samples_per_axis, 1, 16),
                "--cycles-samples": (self.cycles_samples, 1, 65536),
            }
        )

    @property
    def points_scale(self) -> float:
        """World points are ``points_scale * stored + points_offset``."""
        return REFERENCE_SCALE if self.preset == "reference" else 1.0

    @property
    def points_offset(self) -> tuple[float, float, float]:
        return REFERENCE_OFFSET if self.preset == "reference" else (0.0, 0.0, 0.0)

    def in_world(self, obj: ArticulatedObject) -> ArticulatedObject:
        """A normalised object in the world of the renders."""
        if self.preset == "default":
            return obj
        scale = PARTNET_DIAGONAL * REFERENCE_SCALE
        return obj.rescaled(scale, np.array(REFERENCE_OFFSET) / scale)


def object_seed(mesh: str, seed: int) -> int:
    """The seed of everything drawn for one object."""
    return zlib.crc32(f"{seed}:{mesh}".encode())


def build_cameras(config: BuildConfig, mesh: str) -> Cameras:
    """[views] cameras of an object, world frame; the same in all of its states."""
    if config.preset == "reference":
        azimuth = torch.linspace(0, 2 * math.pi, config.views)
        elevation = torch.full((config.views,), math.asin(REFERENCE_HEIGHT / CANONICAL_DISTANCE))
    else:
        draw = torch.rand(config.views + 1, generator=torch.Generator().manual_seed(object_seed(mesh, config.seed)))
        first = math.radians(100) * (draw[-1] - 0.5)
        azimuth = first + torch.arange(config.views) * (2 * math.pi / config.views)
        elevation = math.radians(5) + math.radians(45) * draw[:-1]
    poses = orbit_poses(azimuth, elevation)
    return Cameras(poses, torch.full((config.views,), FOVY_RAD), config.size_px, config.size_px)


def state_values(obj: ArticulatedObject, part: int, states: int) -> Float[np.ndarray, " states"]:
    """Joint positions of a part's states; a continuous joint goes once round without meeting itself."""
    lower, upper = obj.joint_limits[part]
    joint = obj.parts[part].joint
    around = joint is not None and joint.type == JointType.CONTINUOUS
    return np.linspace(lower, upper, states, endpoint=not around)


def entries_of(obj: ArticulatedObject, config: BuildConfig) -> list[tuple[EntryName, Float[np.ndarray, " parts"]]]:
    """Names and joint positions of all entries; part numbers count the object's moving parts."""
    rng = np.random.default_rng(object_seed(obj.name, config.seed))
    moving, last = obj.movable, config.states - 1
    values = [state_values(obj, part, config.states) for part in moving]
    found = []
    for number, part in enumerate(moving):
        others = [
            k for k, p in enumerate(moving)
            if k != number and k <= 9 and last <= 9 and obj.parts[p].joint.type != JointType.CONTINUOUS  # pyright: ignore[reportOptionalMemberAccess]
        ]  # fmt: skip
        chosen = rng.permutation(others)[: config.distractors].tolist()
        for state, extremes in product(range(config.states), product((0, last), repeat=len(chosen))):
            q = obj.closed_q()
            q[part] = values[number][state]
            distractors = tuple(zip(chosen, extremes, strict=True))
            for k, extreme in distractors:
                q[moving[k]] = values[k][extreme]
            found.append((EntryName(obj.name, number, state, distractors), q))
    return found


@dataclass(frozen=True)
class SurfacePoints:
    """Points on an object at rest, in correspondence over its states."""

    part: Int[np.ndarray, " n"]
    position: Float[np.ndarray, "n 3"]
    normal: Float[np.ndarray, "n 3"]

    def posed(self, T: Float[np.ndarray, "parts 4 4"]) -> tuple[Float[np.ndarray, "n 3"], Float[np.ndarray, "n 3"]]:
        """Positions and normals where the parts' poses bring them."""
        R, t = T[self.part, :3, :3], T[self.part, :3, 3]
        return np.einsum("nij,nj->ni", R, self.position) + t, np.einsum("nij,nj->ni", R, self.normal)


def sample_surface(obj: ArticulatedObject, count: int, seed: int) -> SurfacePoints:
    """Points spread evenly by area over all parts."""
    corners = np.concatenate([p.vertices[p.faces] for p in obj.parts])
    part = np.concatenate([np.full(len(p.faces), i) for i, p in enumerate(obj.parts)])
    points, of_face = sample_triangles(torch.from_numpy(corners), count, torch.Generator().manual_seed(seed))
    order = np.argsort(of_face.numpy(), kind="stable")
    face = of_face.numpy()[order]
    cross = np.cross(corners[face, 1] - corners[face, 0], corners[face, 2] - corners[face, 0])
    return SurfacePoints(part[face], points.numpy()[order], cross / np.linalg.norm(cross, axis=-1, keepdims=True))


class ObjectWriter:
    """Writes the entries of one object below a dataset's root."""

    def __init__(self, root: Path, obj: ArticulatedObject, config: BuildConfig, device: str = "cpu") -> None:
        self.root, self.config, self.device = root, config, device
        self.source, self.obj = obj, config.in_world(obj)
        self.folder = root / PROCESSED / obj.category / obj.name
        self.entries = entries_of(self.obj, config)
        self.scene = MeshScene.from_objects([self.obj], device)
        self.materials = material_table([self.obj]).to(device)
        self.cameras = build_cameras(config, obj.name)
        self.points = sample_surface(self.obj, config.points, object_seed(obj.name, config.seed))
        generator = torch.Generator().manual_seed(object_seed(obj.name, config.seed) + 1)
        lights = Lights.reference(1) if config.lighting == "reference" else random_lights(1, generator)
        self.lights: Lights = lights.to(device)

    def write(self) -> Iterator[str]:
        """Write whatever is not there yet, yielding the names of new entries."""
        with explained_full_disk(self.folder):
            self._write_shared()
        for name, q in self.entries:
            target = self.root / RENDERS / str(name)
            if not target.is_dir():
                with explained_full_disk(target):
                    self._write_entry(name, q, target)
                yield str(name)

    def _stored(self, points: Float[np.ndarray, "n 3"]) -> Float[np.ndarray, "n 3"]:
        return (points - np.array(self.config.points_offset)) / self.config.points_scale

    def _write_shared(self) -> None:
        """What all entries of the object have in common."""
        position, normal = self._stored(self.points.position), self.points.normal
        with _whole_files(self.folder) as folder:
            (folder / "parts_ply").mkdir()
            save_part_materials(self.obj, folder, "textures")
            for index in range(len(self.obj.parts)):
                rows = self.points.part == index
                save_points(folder / "parts_ply" / f"{index}.ply", position[rows], normal[rows])
            np.save(folder / "point_part.npy", self.points.part.astype(np.int16))
            motion = json.dumps(self._motion(), indent=1, ensure_ascii=False)
            (folder / "motion.json").write_text(motion, encoding="utf-8")

    def _motion(self) -> dict:
        rows = []
        for number, index in enumerate(self.obj.movable):
            joint = self.obj.parts[index].joint
            assert joint is not None
            pivot = self._stored(np.array(joint.pivot)[None])[0]
            unit = self.config.points_scale if joint.type == JointType.PRISMATIC else 1.0
            values = state_values(self.obj, index, self.config.states) / unit
            rows.append(
                {
                    "number": number, "index": index, "name": self.obj.parts[index].name,
                    "joint": joint.name, "type": joint.type.name.lower(), "parent": joint.parent,
                    "axis": list(joint.axis), "pivot": pivot.tolist(),
                    "limits": [joint.lower / unit, joint.upper / unit], "states": values.tolist(),
                }
            )  # fmt: skip
        return {
            "frame": "z up, front +x, as the point clouds", "parts": [p.name for p in self.obj.parts], "moving": rows
        }  # fmt: skip

    def _write_entry(self, name: EntryName, q: Float[np.ndarray, " parts"], target: Path) -> None:
        T = self.obj.T_object_part(q)
        poses = torch.from_numpy(T).float()[None].to(self.device)
        first = torch.zeros(1, dtype=torch.long, device=self.device)
        instances = Instances.of_objects(self.scene, first, poses, self.materials)
        staging = self.root / RENDERS / f".{name}.part"
        shutil.rmtree(staging, ignore_errors=True)
        staging.mkdir(parents=True)
        try:
            for view, image in enumerate(self._images(T, instances)):
                save_rgba(image, staging / f"{view:03d}.png")
                record = camera_record(self.cameras.T_world_camera[view])
                (staging / f"{view:03d}_camera.json").write_text(json.dumps(record), encoding="utf-8")
            with _whole_files(self.folder / "motion") as motion:
                self._write_motion(name, T, instances, motion)
            staging.replace(target)
        finally:
            shutil.rmtree(staging, ignore_errors=True)

    def _images(self, T: Float[np.ndarray, "parts 4 4"], instances: Instances) -> Float[Tensor, "views 4 h w"]:
        if self.config.backend == "blender":
            from partrm.rendering.blender import render_object

            samples = self.config.cycles_samples
            return render_object(self.obj, T, self.cameras, self.lights, samples=samples, device=self.device)
        cameras = self.cameras.to(self.device)
        batch = Cameras(cameras.T_world_camera[None], cameras.fovy_rad[None], cameras.width, cameras.height)
        per_axis = self.config.samples_per_axis
        return render_meshes(self.scene, instances, batch, self.lights, samples_per_axis=per_axis)[0].cpu()

    def _write_motion(
        self, name: EntryName, T: Float[np.ndarray, "parts 4 4"], instances: Instances, motion: Path
    ) -> None:
        position, normal = self.points.posed(T)
        save_points(motion / f"{name.motion}.ply", self._stored(position), normal)
        world = torch.from_numpy(position).float()[None]
        first = self.cameras[:1]
        seen = visible(self.scene, instances, world.to(self.device), first.positions.to(self.device))[0].cpu()
        pixels, depth = first.project(world)
        inside = ((pixels[0] >= 0) & (pixels[0] < self.config.size_px)).all(-1) & (depth[0] > 0)
        np.save(motion / f"{name.motion}_visible.npy", torch.nonzero(seen & inside)[:, 0].numpy())
        save_obj(motion / f"{name.motion}.obj", self._surface(T), "../materials.mtl")

    def _surface(self, T: Float[np.ndarray, "parts 4 4"]) -> Surface:
        """The whole object in a state."""
        parts = self.obj.parts
        first = np.cumsum([0] + [len(p.vertices) for p in parts])
        vertices = [p.vertices @ t[:3, :3].T + t[:3, 3] for p, t in zip(parts, T, strict=True)]
        uv = [np.full((len(p.faces), 3, 2), np.nan) if p.corner_uv is None else p.corner_uv for p in parts]
        return Surface(
            self._stored(np.concatenate(vertices)),
            np.concatenate([p.faces + n for p, n in zip(parts, first, strict=False)]),
            np.concatenate([p.face_material for p in parts]),
            self.obj.materials,
            np.concatenate(uv),
        )


@contextmanager
def _whole_files(folder: Path) -> Iterator[Path]:
    """A temporary folder, whose files take their places in ``folder`` if the block succeeds."""
    staging = folder / ".part"
    shutil.rmtree(staging, ignore_errors=True)
    staging.mkdir(parents=True)
    try:
        yield staging
        for file in sorted(path for path in staging.rglob("*") if path.is_file()):
            target = folder / file.relative_to(staging)
            target.parent.mkdir(exist_ok=True)
            file.replace(target)
    finally:
        shutil.rmtree(staging, ignore_errors=True)


def save_rgba(image: Float[Tensor, "4 h w"], path: Path) -> None:
    """Write straight-alpha RGBA as an 8-bit PNG."""
    Image.fromarray(to_bytes(image)).save(path, compress_level=4)


def replace_text(path: Path, text: str) -> None:
    """Write a file under another name and rename it."""
    with staged_file(path) as part:
        part.write_text(text, encoding="utf-8")


def digest(paths: list[Path]) -> str:
    """Checksum of files' names and bytes."""
    total = hashlib.sha256()
    for path in paths:
        total.update(path.name.encode() + b"\0" + hashlib.sha256(read_bytes(path, 2**32)).digest())
    return total.hexdigest()[:24]


def entry_files(root: Path, category: str, name: EntryName) -> list[Path]:
    """Every file of an entry, in a fixed order."""
    motion = root / PROCESSED / category / name.mesh / "motion"
    own = [motion / f"{name.motion}{ending}" for ending in (".obj", ".ply", "_visible.npy")]
    return sorted((root / RENDERS / str(name)).iterdir()) + own
