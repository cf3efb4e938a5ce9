"""Launches of the mesh renderer's Warp kernels on torch tensors, on torch's current stream. For meshes.py alone."""

# Warp's structs and kernels are objects where type checkers expect classes and functions: structs are Any here.
# pyright: reportArgumentType=false

import os
import tempfile
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from multiprocessing.util import Finalize
from typing import Any

import warp as wp
from jaxtyping import Bool, Float, Int
from torch import Tensor

from partrm.errors import PartRMWarning
from partrm.rendering._warp import kernels, pixels, tiles
from partrm.rendering._warp.kernels import Maps, Placement, View
from partrm.rendering._warp.shading import Geometry, Look


@contextmanager
def _without_driver_notice() -> Iterator[None]:
    """Drop the one line that Warp's native code prints where there is no CUDA driver; pass all else on to stderr."""
    kept = os.dup(2)
    with tempfile.TemporaryFile() as heard:
        os.dup2(heard.fileno(), 2)
        try:
            yield
        finally:
            os.dup2(kept, 2)
            os.close(kept)
            heard.seek(0)
            for line in heard.read().splitlines(keepends=True):
                if b"Could not find or load the NVIDIA CUDA driver" not in line:
                    os.write(2, line)


def _start() -> None:
    """Start Warp; its kernels go into a folder of this process where its own cannot be written, as without a home."""
    try:
        wp.init()
        with tempfile.TemporaryFile(dir=wp.config.kernel_cache_dir):
            return
    except OSError as error:
        where = error.filename or wp.config.kernel_cache_dir
    warnings.warn(
        f"kernels are compiled anew at each start: {where} cannot be written; set WARP_CACHE_PATH to a folder that can",
        PartRMWarning,
        stacklevel=2,
    )
    own = tempfile.TemporaryDirectory(prefix="partrm-kernels-", ignore_cleanup_errors=True)
    Finalize(None, own.cleanup, exitpriority=0)  # workers run these at their end, and nothing of atexit
    wp.config.kernel_cache_dir = own.name
    wp.init()


wp.config.log_level = wp.LOG_WARNING
wp.config.use_precompiled_headers = False  # workers would leave them among the temporary files
with _without_driver_notice():
    _start()


@dataclass(frozen=True)
class WarpScene:
    """The built scene: the mesh must outlive its id in ``geometry``."""

    mesh: wp.Mesh
    geometry: Any


def _device(tensor: Tensor) -> wp.Device:
    return wp.device_from_torch(tensor.device)


def _stream(tensor: Tensor) -> wp.Stream | None:
    """Torch's current stream as Warp's, so that kernels queue behind torch's own; None on the CPU."""
    return wp.stream_from_torch(tensor.device) if tensor.is_cuda else None


def _array(tensor: Tensor, dtype: type) -> wp.array:
    return wp.from_torch(tensor.detach().contiguous(), dtype=dtype)


def build_scene(
    vertices: Float[Tensor, "v 3"],
    faces: Int[Tensor, "f 3"],
    face_part: Int[Tensor, " f"],
    face_material: Int[Tensor, " f"],
    corner_uv: Float[Tensor, "f 3 2"] | None,
    textures: dict[str, Tensor],
    part_low: Float[Tensor, "parts 3"],
    part_high: Float[Tensor, "parts 3"],
) -> WarpScene:
    """Build the grouped BVH and look up the root of each part's subtree. Tensors are float32, int32 and uint8."""
    parts = len(part_low)
    device, stream = _device(vertices), _stream(vertices)
    with wp.ScopedStream(stream):
        mesh = wp.Mesh(
            _array(vertices, wp.vec3), _array(faces.reshape(-1), wp.int32), groups=_array(face_part, wp.int32)
        )
        geometry = Geometry()
        geometry.mesh = mesh.id
        geometry.group_root = wp.empty(parts, dtype=wp.int32, device=device)
        wp.launch(
            kernels.group_root_kernel, dim=parts, inputs=[mesh.id, geometry.group_root], device=device, stream=stream
        )
    geometry.part_low, geometry.part_high = _array(part_low, wp.vec3), _array(part_high, wp.vec3)
    geometry.face_material = _array(face_material, wp.int32)
    uv = vertices.new_zeros(0, 2) if corner_uv is None else corner_uv.reshape(-1, 2)
    geometry.corner_uv = _array(uv, wp.vec2)
    geometry.texels = _array(textures["texels"], wp.vec3ub)
    geometry.texture_offset = _array(textures["offset"], wp.int32)
    geometry.texture_height = _array(textures["height"], wp.int32)
    geometry.texture_width = _array(textures["width"], wp.int32)
    return WarpScene(mesh, geometry)


def make_placement(
    part: Int[Tensor, "b p"],
    T_world_part: Float[Tensor, "b p 4 4"],
    T_part_world: Float[Tensor, "b p 4 4"],
    sphere: Float[Tensor, "b p 4"],
) -> Any:
    """Wrap the instance table (int32, float32)."""
    placement = Placement()
    placement.part = _array(part, wp.int32)
    placement.T_world_part = _array(T_world_part, wp.mat44)
    placement.T_part_world = _array(T_part_world, wp.mat44)
    placement.sphere = _array(sphere, wp.vec4)
    return placement


def make_view(
    T_world_camera: Float[Tensor, "n 4 4"], focal_px: Float[Tensor, " n"], width: int, height: int, views_per_item: int
) -> Any:
    """Wrap flattened cameras."""
    view = View()
    view.T_world_camera = _array(T_world_camera, wp.mat44)
    view.focal_px = _array(focal_px, wp.float32)
    view.width, view.height, view.views_per_item = width, height, views_per_item
    return view


def make_look(materials: dict[str, Tensor], lights: dict[str, Tensor], decals: dict[str, Tensor]) -> Any:
    """Wrap the fields of a MaterialTable, of Lights and of Decals (int32, float32)."""
    look = Look()
    for name in ("color", "color2", "direction"):
        setattr(look, name, _array(materials[name], wp.vec3))
    for name in ("frequency", "gloss"):
        setattr(look, name, _array(materials[name], wp.float32))
    for name in ("pattern", "texture"):
        setattr(look, name, _array(materials[name], wp.int32))
    look.light_position = _array(lights["position"], wp.vec3)
    look.light_intensity = _array(lights["intensity"], wp.float32)
    look.ambient = _array(lights["ambient"], wp.vec3)
    look.sky = _array(lights["sky"], wp.vec3)
    look.sky_contrast = _array(lights["sky_contrast"], wp.float32)
    look.lamp, look.lamp_color = _array(lights["lamp"], wp.vec3), _array(lights["lamp_color"], wp.vec3)
    for name in ("lamp_sharpness", "mirror", "occlusion"):
        setattr(look, name, _array(lights[name], wp.float32))
    look.decal_slot = _array(decals["slot"], wp.int32)
    for name in ("centre", "half", "color", "ink"):
        setattr(look, f"decal_{name}", _array(decals[name], wp.vec3))
    return look


def _launch_pixels(by_pixel: wp.Kernel, by_tile: wp.Kernel, view: Any, inputs: list, like: Tensor, tiled: bool) -> None:
    grid = (view.focal_px.shape[0], -(-view.height // kernels.TILE_Y), -(-view.width // kernels.TILE_X))
    kernel, dim = (by_tile, grid) if tiled else (by_pixel, (*grid, kernels.TILE_X * kernels.TILE_Y))
    wp.launch(kernel, dim=dim, inputs=inputs, device=_device(like), stream=_stream(like), block_dim=128)


def render(
    scene: WarpScene,
    place: Any,
    view: Any,
    look: Any,
    samples: int,
    shadows: bool,
    image: Float[Tensor, "n 4 h w"],
    tiled: bool | None = None,
) -> None:
    """Fill ``image``; asynchronous on CUDA.

    Args:
        tiled: one thread a tile of pixels, not one a pixel; the same image. Default: on CPUs.
    """
    inputs = [scene.geometry, place, view, look, samples, int(shadows), _array(image, wp.float32)]
    tiled = not image.is_cuda if tiled is None else tiled
    _launch_pixels(pixels.render_kernel, tiles.render_tiles_kernel, view, inputs, image, tiled)


def trace(scene: WarpScene, place: Any, view: Any, maps: dict[str, Tensor], tiled: bool | None = None) -> None:
    """Fill the surface maps [n, h, w, ...]; asynchronous on CUDA. ``tiled`` as in :func:`render`."""
    kinds = {
        "depth": wp.float32, "normal": wp.vec3, "part": wp.int32,
        "point_part": wp.vec3, "point_world": wp.vec3, "face": wp.int32,
    }  # fmt: skip
    wrapped = Maps()
    for name, kind in kinds.items():
        setattr(wrapped, name, _array(maps[name], kind))
    like = maps["depth"]
    tiled = not like.is_cuda if tiled is None else tiled
    inputs = [scene.geometry, place, view, wrapped]
    _launch_pixels(pixels.trace_kernel, tiles.trace_tiles_kernel, view, inputs, like, tiled)


def visible(
    scene: WarpScene,
    place: Any,
    points: Float[Tensor, "b n 3"],
    eyes: Float[Tensor, "b 3"],
    relative_epsilon: float,
    seen: Bool[Tensor, "b n"],
) -> None:
    """Fill ``seen``; asynchronous on CUDA."""
    inputs = [scene.geometry, place, _array(points, wp.vec3), _array(eyes, wp.vec3), relative_epsilon]
    wp.launch(
        kernels.visible_kernel,
        dim=tuple(seen.shape),
        inputs=[*inputs, _array(seen, wp.bool)],
        device=_device(seen),
        stream=_stream(seen),
    )
