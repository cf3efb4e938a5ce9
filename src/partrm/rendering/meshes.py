"""Images, surface maps and exact visibility of articulated meshes, by ray casting on the CPU and on CUDA alike.

A :class:`MeshScene` is built once from the parts of all objects at rest; a state of an object is then only a table of
rigid part poses (:class:`Instances`), so states, samples and batches of different objects need no rebuild. The world
frame of a call is whatever frame ``T_world_part`` and the cameras share.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from einops import rearrange, repeat
from jaxtyping import Bool, Float, Int, UInt8
from torch import Tensor

from partrm.errors import PartRMError
from partrm.geometry.cameras import Cameras
from partrm.geometry.tensor_record import TensorRecord
from partrm.geometry.transforms import invert_rigid
from partrm.objects.articulated_object import ArticulatedObject
from partrm.objects.materials import MaterialTable


class RendererMissingError(PartRMError, ImportError):
    """The ray caster's package is not installed; the message names the extra to install."""


def _backend():
    """The Warp module, imported on first use."""
    try:
        from partrm.rendering._warp import backend as _warp_meshes
    except ModuleNotFoundError as error:
        if error.name is None or error.name.split(".")[0] != "warp":
            raise
        raise RendererMissingError(
            "rendering meshes needs the package warp-lang: pip install 'partrm[data]'"
        ) from error
    return _warp_meshes


@dataclass(frozen=True)
class Textures(TensorRecord):
    """All sRGB images of a scene in one buffer, each row by row from its top (v = 1)."""

    texels: UInt8[Tensor, "texels 3"]
    offset: Int[Tensor, " textures"]
    """First texel of each image."""
    height: Int[Tensor, " textures"]
    width: Int[Tensor, " textures"]

    @staticmethod
    def from_images(images: Sequence[UInt8[np.ndarray, "_ _ 3"]], device: torch.device | str = "cpu") -> "Textures":
        sizes = np.array([image.shape[:2] for image in images], dtype=np.int64).reshape(-1, 2)
        ends = np.cumsum(sizes.prod(1))
        flat = [torch.from_numpy(np.ascontiguousarray(image)).reshape(-1, 3) for image in images]
        return Textures(
            texels=torch.cat(flat).to(device) if flat else torch.zeros(0, 3, dtype=torch.uint8, device=device),
            offset=torch.tensor(ends - sizes.prod(1), dtype=torch.int32, device=device),
            height=torch.tensor(sizes[:, 0], dtype=torch.int32, device=device),
            width=torch.tensor(sizes[:, 1], dtype=torch.int32, device=device),
        )


@dataclass(frozen=True)
class MeshScene:
    """Parts of any number of objects at rest, and the ray-casting structure over them."""

    vertices: Float[Tensor, "v 3"]
    """Object frames at rest."""
    faces: Int[Tensor, "f 3"]
    """int32 indices into ``vertices``."""
    face_part: Int[Tensor, " f"]
    """int32 global part index."""
    face_material: Int[Tensor, " f"]
    """int32 material slot within the face's object."""
    part_offset: Int[Tensor, " offsets"]
    """First global part of each object, then the number of all parts: objects + 1 values (int64)."""
    textures: Textures
    corner_uv: Float[Tensor, "f 3 2"] | None = None
    """Texture coordinates per face corner, v = 0 at the bottom of the image."""
    part_sphere: Float[Tensor, "parts 4"] = field(kw_only=True, repr=False)
    """Bounding sphere (centre, radius) of each part at rest; radius -1 for a part without faces."""
    _warp: Any = field(kw_only=True, repr=False)

    @property
    def device(self) -> torch.device:
        return self.vertices.device

    @staticmethod
    def from_arrays(
        vertices: Float[Tensor, "v 3"],
        faces: Int[Tensor, "f 3"],
        face_part: Int[Tensor, " f"],
        face_material: Int[Tensor, " f"],
        part_offset: Int[Tensor, " offsets"],
        corner_uv: Float[Tensor, "f 3 2"] | None = None,
        textures: Textures | None = None,
        device: torch.device | str | None = None,
    ) -> "MeshScene":
        """Build the scene of a packed pool on ``device`` (default: that of ``vertices``).

        Raises:
            ValueError: no faces, or indices out of range.
            RendererMissingError: Warp is not installed.
        """
        device = vertices.device if device is None else torch.device(device)
        parts = int(part_offset[-1])
        if len(faces) == 0 or len(vertices) == 0:
            raise ValueError("a mesh scene needs at least one face")
        for name, index, count in (("faces", faces, len(vertices)), ("face_part", face_part, parts)):
            low, high = torch.aminmax(index)
            if int(low) < 0 or int(high) >= count:
                raise ValueError(f"{name} must lie in 0..{count - 1}, found {int(low)}..{int(high)}")
        vertices = vertices.to(device, torch.float32).contiguous()
        faces, face_part, face_material = (
            x.to(device, torch.int32).contiguous() for x in (faces, face_part, face_material)
        )
        corner_uv = None if corner_uv is None else corner_uv.to(device, torch.float32).contiguous()
        textures = (Textures.from_images([]) if textures is None else textures).to(device)
        low, high = _part_boxes(vertices, faces, face_part, parts)
        built = _backend().build_scene(
            vertices, faces, face_part, face_material, corner_uv, _tensors(textures), low, high
        )
        return MeshScene(
            vertices,
            faces,
            face_part,
            face_material,
            part_offset.to(device, torch.int64),
            textures,
            corner_uv,
            part_sphere=_part_spheres(vertices, faces, face_part, low, high),
            _warp=built,
        )

    @staticmethod
    def from_objects(objects: Sequence[ArticulatedObject], device: torch.device | str = "cpu") -> "MeshScene":
        """Build the scene of some objects; object i's parts are ``part_offset[i]`` onwards, in its own order."""
        parts = [part for obj in objects for part in obj.parts]
        first_vertex = np.cumsum([0] + [len(p.vertices) for p in parts])
        with_uv = any(p.corner_uv is not None for p in parts)
        uv = [np.zeros((len(p.faces), 3, 2)) if p.corner_uv is None else p.corner_uv for p in parts]

        def packed(arrays: list[np.ndarray], width: tuple[int, ...], dtype: type) -> Tensor:
            return torch.from_numpy(np.concatenate([a.reshape(-1, *width) for a in arrays]).astype(dtype))

        return MeshScene.from_arrays(
            packed([p.vertices for p in parts], (3,), np.float32),
            packed([p.faces + first for p, first in zip(parts, first_vertex, strict=False)], (3,), np.int32),
            packed([np.full(len(p.faces), i) for i, p in enumerate(parts)], (), np.int32),
            packed([p.face_material for p in parts], (), np.int32),
            torch.from_numpy(np.cumsum([0] + [len(obj.parts) for obj in objects])),
            packed(uv, (3, 2), np.float32) if with_uv else None,
            Textures.from_images(_texture_images(objects)[0]),
            device,
        )


@dataclass(frozen=True)
class Decals(TensorRecord):
    """Prints and labels: upright boxes in the rest frames of parts, within which their surfaces have another colour."""

    slot: Int[Tensor, "b decals"]
    """Slot of the part in ``Instances.part``, -1 for none."""
    centre: Float[Tensor, "b decals 3"]
    """Object units, rest frame of the part."""
    half: Float[Tensor, "b decals 3"]
    """Half sides, > 0, object units; the box of a label on a flat front is as deep as the part."""
    color: Float[Tensor, "b decals 3"]
    """sRGB, [0, 1]."""
    ink: Float[Tensor, "b decals 3"]
    """sRGB, [0, 1], of its lines of print."""

    @staticmethod
    def none(b: int, device: torch.device | str) -> "Decals":
        """No decal on any of b objects."""
        slot = torch.zeros(b, 0, dtype=torch.int32, device=device)
        return Decals(slot, *torch.zeros(4, b, 0, 3, device=device).unbind(0))


@dataclass(frozen=True)
class Instances(TensorRecord):
    """A batch of posed objects: which parts, where, and in which materials."""

    part: Int[Tensor, "b parts"]
    """Global part index in the scene, -1 for padding."""
    T_world_part: Float[Tensor, "b parts 4 4"]
    """Rigid pose of each part; ``T_object_part(q)`` where the world is the object frame."""
    materials: MaterialTable
    """Batch [b, slots], slots padded."""
    decals: Decals | None = None
    """Labels on their surfaces; none by default."""

    @staticmethod
    def of_objects(
        scene: MeshScene,
        object_index: Int[Tensor, " b"],
        T_world_part: Float[Tensor, "b parts 4 4"],
        materials: MaterialTable,
    ) -> "Instances":
        """Whole objects of the scene; ``parts`` must be at least their largest number of parts."""
        first, last = scene.part_offset[object_index], scene.part_offset[object_index + 1]
        part = first[:, None] + torch.arange(T_world_part.shape[1], device=first.device)
        return Instances(torch.where(part < last[:, None], part, -1), T_world_part, materials)


LAMPS = 3
"""Of the lights that this package makes."""


REFERENCE_SKY = tuple(torch.nn.functional.normalize(torch.tensor([0.4, -0.25, 0.88]), dim=0).tolist())
"""Where the reference's ambient light comes from, object frame."""


@dataclass(frozen=True)
class Lights(TensorRecord):
    """One point light (no fall-off), a world whose brightness varies over the sky, and lamps in it, per batch item."""

    position: Float[Tensor, "b 3"]
    """World frame."""
    intensity: Float[Tensor, "b"]
    """Linear strength of the point light's diffuse and specular terms."""
    ambient: Float[Tensor, "b 3"]
    """Linear colour of the ambient world where it is brightest."""
    sky: Float[Tensor, "b 3"]
    """Unit direction, world frame, from which the ambient world is brightest."""
    sky_contrast: Float[Tensor, "b"]
    """Part of the ambient light lost by a surface that faces away from ``sky``, [0, 1]."""
    lamp: Float[Tensor, "b lamps 3"]
    """Unit directions, world frame, of windows and lamps at infinity: spherical Gaussians, without shadows."""
    lamp_color: Float[Tensor, "b lamps 3"]
    """Linear radiance in their middles."""
    lamp_sharpness: Float[Tensor, "b lamps"]
    """Of the Gaussians, > 0: radiance falls as exp(sharpness (cosine - 1))."""
    mirror: Float[Tensor, "b"]
    """How strongly glossy surfaces mirror the world, [0, 1]; 0 leaves only the point light's highlight, puts the lamps
    out and makes brushed metal as matt as all else."""
    occlusion: Float[Tensor, "b"]
    """Reach, world units, within which surfaces darken each other's ambient light; 0: they do not."""

    @staticmethod
    def reference(count: int, device: torch.device | str = "cpu") -> "Lights":
        """White world and one light at (5, 5, 5) of an object frame (z up), as in the reference's renders."""
        ones = torch.ones(count, device=device)
        # Filled in, not copied: a copy waits for the device.
        sky = torch.stack([torch.full((), value, device=device) for value in REFERENCE_SKY])
        return Lights(
            position=5 * torch.ones(count, 3, device=device),
            intensity=0.45 * ones,
            ambient=0.85 * torch.ones(count, 3, device=device),
            sky=sky.repeat(count, 1),
            sky_contrast=0.55 * ones,
            lamp=sky.repeat(count, LAMPS, 1),
            lamp_color=torch.zeros(count, LAMPS, 3, device=device),
            lamp_sharpness=torch.ones(count, LAMPS, device=device),
            mirror=0 * ones,
            occlusion=0 * ones,
        )


@dataclass(frozen=True)
class SurfaceMaps(TensorRecord):
    """The first surface through each pixel centre."""

    depth: Float[Tensor, "b v h w"]
    """Camera z; infinite on the background."""
    normal: Float[Tensor, "b v h w 3"]
    """Unit normal in the world frame, turned towards the camera; zero on the background."""
    part: Int[Tensor, "b v h w"]
    """Slot in ``instances.part`` (its second index), -1 on the background (int32)."""
    point_part: Float[Tensor, "b v h w 3"]
    """Hit point in the rest frame of its part."""
    point_world: Float[Tensor, "b v h w 3"]
    face: Int[Tensor, "b v h w"]
    """Index into ``scene.faces``, -1 on the background (int32)."""


def material_table(objects: Sequence[ArticulatedObject]) -> MaterialTable:
    """Materials of all objects [objects, slots], padded; texture numbers are those of ``from_objects(objects)``."""
    numbers = _texture_images(objects)[1]
    tables = [MaterialTable.from_materials(obj.materials, n) for obj, n in zip(objects, numbers, strict=True)]
    pad = torch.nn.utils.rnn.pad_sequence
    columns = {name: pad([t.leaves()[name] for t in tables], batch_first=True) for name in tables[0].leaves()}
    lengths = torch.tensor([len(obj.materials) for obj in objects])
    padding = torch.arange(columns["texture"].shape[1]) >= lengths[:, None]
    columns["texture"] = columns["texture"].masked_fill(padding, -1)
    return MaterialTable(**columns)


def render_meshes(
    scene: MeshScene,
    instances: Instances,
    cameras: Cameras,
    lights: Lights,
    *,
    samples_per_axis: int = 2,
    shadows: bool = True,
) -> Float[Tensor, "b v 4 h w"]:
    """RGBA images [0, 1], sRGB, straight alpha, from a regular grid of sub-samples in each pixel.

    Args:
        cameras: batch [b, v], in the same world frame as ``instances.T_world_part`` and the lights.
        samples_per_axis: sub-samples per pixel side; colour is the mean over those that hit, alpha their share.
        shadows: cast one ray towards the light from each hit.

    Asynchronous on CUDA, on torch's current stream; not differentiable.
    """
    b, v = _check_cameras(scene, instances, cameras)
    _check(scene, instances, materials=(instances.materials.color, ()), lights=(lights.position, ()))
    if samples_per_axis < 1:
        raise ValueError(f"samples_per_axis must be at least 1, got {samples_per_axis}")
    backend = _backend()
    image = torch.empty(b * v, 4, cameras.height, cameras.width, device=scene.device)
    decals = Decals.none(b, scene.device) if instances.decals is None else instances.decals
    look = backend.make_look(_tensors(instances.materials), _tensors(lights), _tensors(decals))
    place, view = _placement(scene, instances), _view(cameras)
    backend.render(scene._warp, place, view, look, samples_per_axis, shadows, image)
    return rearrange(image, "(b v) c h w -> b v c h w", v=v)


def trace_surfaces(scene: MeshScene, instances: Instances, cameras: Cameras) -> SurfaceMaps:
    """Exact surface maps of cameras [b, v]: one ray through each pixel centre. Asynchronous on CUDA."""
    b, v = _check_cameras(scene, instances, cameras)
    shape = (b * v, cameras.height, cameras.width)
    maps = {
        "depth": torch.empty(shape, device=scene.device),
        "part": torch.empty(shape, dtype=torch.int32, device=scene.device),
        "face": torch.empty(shape, dtype=torch.int32, device=scene.device),
    }
    for name in ("normal", "point_part", "point_world"):
        maps[name] = torch.empty(*shape, 3, device=scene.device)
    _backend().trace(scene._warp, _placement(scene, instances), _view(cameras), maps)
    return SurfaceMaps(**{name: rearrange(x, "(b v) ... -> b v ...", v=v) for name, x in maps.items()})


def visible(
    scene: MeshScene,
    instances: Instances,
    points_world: Float[Tensor, "b n 3"],
    from_world: Float[Tensor, "b 3"],
    relative_epsilon: float = 2e-4,
) -> Bool[Tensor, "b n"]:
    """Whether nothing of the instanced objects lies between each point and ``from_world``, by ray casting.

    Args:
        relative_epsilon: the last part of each ray, as a share of its length, that may hit the point's own surface.
    """
    _check(scene, instances, points_world=(points_world, ()), from_world=(from_world, ()))
    seen = torch.empty(points_world.shape[:2], dtype=torch.bool, device=scene.device)
    place = _placement(scene, instances)
    _backend().visible(scene._warp, place, points_world.float(), from_world.float(), relative_epsilon, seen)
    return seen


def _tensors(record: TensorRecord) -> dict[str, Tensor]:
    """Fields of a record in the widths the kernels take: float32 and int32."""
    width = {torch.float64: torch.float32, torch.int64: torch.int32}
    return {name: x.to(width.get(x.dtype, x.dtype)) for name, x in record.leaves().items()}


def _check(scene: MeshScene, instances: Instances, **others: tuple[Tensor, tuple[int, ...]]) -> int:
    """Batch size; refuses tensors on another device or without the leading shape (which the kernels cannot check)."""
    b, parts = instances.part.shape
    wanted = {"instances.part": (instances.part, ()), "T_world_part": (instances.T_world_part, (parts,)), **others}
    for name, (tensor, shape) in wanted.items():
        if tensor.device != scene.device:
            raise ValueError(f"{name} must be on the scene's device {scene.device}, found {tensor.device}")
        if tuple(tensor.shape[: 1 + len(shape)]) != (b, *shape):
            raise ValueError(f"{name} must have the batch {[b, *shape]}, found the shape {list(tensor.shape)}")
    return b


def _check_cameras(scene: MeshScene, instances: Instances, cameras: Cameras) -> tuple[int, int]:
    if len(cameras.batch_shape) != 2:
        raise ValueError(f"cameras must have the batch [b, views], got {list(cameras.batch_shape)}")
    return _check(scene, instances, cameras=(cameras.T_world_camera, ())), cameras.batch_shape[1]


def _view(cameras: Cameras):
    T = rearrange(cameras.T_world_camera, "b v i j -> (b v) i j").float()
    focal = rearrange(cameras.focal_px, "b v -> (b v)").float()
    return _backend().make_view(T, focal, cameras.width, cameras.height, cameras.batch_shape[1])


def _placement(scene: MeshScene, instances: Instances):
    """Instance table with inverse poses and bounding spheres in the world frame."""
    T = instances.T_world_part.float()
    sphere = scene.part_sphere[instances.part.clamp(min=0).long()]
    centre = (T[..., :3, :3] @ sphere[..., :3, None]).squeeze(-1) + T[..., :3, 3]
    radius = torch.where(instances.part >= 0, sphere[..., 3], -1.0)
    moved = torch.cat([centre, radius[..., None]], -1)
    return _backend().make_placement(instances.part.int(), T, invert_rigid(T), moved)


def _part_boxes(
    vertices: Float[Tensor, "v 3"], faces: Int[Tensor, "f 3"], face_part: Int[Tensor, " f"], parts: int
) -> tuple[Float[Tensor, "parts 3"], Float[Tensor, "parts 3"]]:
    """Lowest and highest corner of each part's bounding box; +inf and -inf for a part without faces."""
    corners = vertices[faces.reshape(-1).long()]
    of_part = repeat(face_part.long(), "f -> (f three) c", three=3, c=3)
    low = corners.new_full((parts, 3), torch.inf).scatter_reduce_(0, of_part, corners, "amin")
    return low, corners.new_full((parts, 3), -torch.inf).scatter_reduce_(0, of_part, corners, "amax")


def _part_spheres(
    vertices: Float[Tensor, "v 3"],
    faces: Int[Tensor, "f 3"],
    face_part: Int[Tensor, " f"],
    low: Float[Tensor, "parts 3"],
    high: Float[Tensor, "parts 3"],
) -> Float[Tensor, "parts 4"]:
    """Sphere about the centre of each part's bounding box, a little enlarged against rounding."""
    corners, of_part = vertices[faces.reshape(-1).long()], repeat(face_part.long(), "f -> (f three)", three=3)
    empty = (low > high).any(-1)
    centre = torch.where(empty[:, None], torch.zeros_like(low), (low + high) / 2)
    reach = (corners - centre[of_part]).norm(dim=-1)
    radius = corners.new_zeros(len(low)).scatter_reduce_(0, of_part, reach, "amax")
    radius = radius * (1 + 1e-4) + 1e-7
    return torch.cat([centre, torch.where(empty, -1.0, radius)[:, None]], -1)


def _texture_images(objects: Sequence[ArticulatedObject]) -> tuple[list[np.ndarray], list[list[int]]]:
    """The distinct texture images of some objects, and per object the image number of each material slot (-1: none)."""
    images: list[np.ndarray] = []
    known: dict[int, int] = {}
    numbers: list[list[int]] = []
    for obj in objects:
        row = []
        for texture in (material.texture for material in obj.materials):
            if texture is not None and id(texture) not in known:
                known[id(texture)] = len(images)
                images.append(texture)
            row.append(-1 if texture is None else known[id(texture)])
        numbers.append(row)
    return images, numbers
