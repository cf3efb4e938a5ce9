"""Images of articulated objects by Blender's path tracer Cycles: the same cameras and pixels as the ray caster's.

``bpy`` is one scene for the whole process, so every call starts from an empty one; nothing of a start-up file counts.
"""

import math
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import torch
from einops import rearrange
from jaxtyping import Float, Int
from torch import Tensor

from partrm.geometry.cameras import Cameras
from partrm.imaging.formats import open_image
from partrm.objects.articulated_object import ArticulatedObject, Part
from partrm.rendering.meshes import Lights, RendererMissingError

CYCLES_SAMPLES = 32
"""Paths a pixel; the reference's figure."""


@contextmanager
def _quiet() -> Iterator[None]:
    """Keep Blender's own lines, written below Python, off stdout and stderr."""
    with open(os.devnull, "wb") as nowhere:
        kept = [os.dup(1), os.dup(2)]
        try:
            for number in (1, 2):
                os.dup2(nowhere.fileno(), number)
            yield
        finally:
            for number, copy in zip((1, 2), kept, strict=True):
                os.dup2(copy, number)
                os.close(copy)


def _modules() -> tuple[Any, Any]:
    """``bpy`` and our materials for it, imported on first use."""
    require_blender()
    with _quiet():
        import bpy

        from partrm.rendering import _blender_materials
    return bpy, _blender_materials


def require_blender() -> None:
    """Raise a RendererMissingError where ``bpy`` is not installed, without starting Blender."""
    if find_spec("bpy") is None:
        raise RendererMissingError(
            "the Blender backend needs the package bpy: pip install 'partrm[blender]' (Blender 4.2 to 5.0: Python 3.11)"
        )


def render_object(
    obj: ArticulatedObject,
    T_world_part: Float[np.ndarray, "parts 4 4"],
    cameras: Cameras,
    lights: Lights,
    *,
    samples: int = CYCLES_SAMPLES,
    device: str = "cpu",
) -> Float[Tensor, "v 4 h w"]:
    """RGBA images [0, 1], sRGB, straight alpha, of an object in a state, by Cycles with a box filter of one pixel.

    Args:
        cameras: batch [v], in the world frame of ``T_world_part`` and the lights.
        lights: a batch of one.
        device: ``cpu`` (as many threads as torch's) or ``cuda:<card>``.

    Raises:
        RendererMissingError: ``bpy`` is not installed, or Cycles finds no such card.
    """
    bpy, materials = _modules()
    with _quiet():
        scene = _empty_scene(bpy, device)
        made = [materials.make_material(material) for material in obj.materials]
        for part, pose in zip(obj.parts, T_world_part, strict=True):
            _add_part(bpy, part, pose, made)
        scene.world = materials.make_world(
            lights.ambient[0].tolist(), lights.sky[0].tolist(), float(lights.sky_contrast[0])
        )
        _add_light(bpy, lights.position[0].tolist(), float(lights.intensity[0]))
        return _render(bpy, cameras, samples)


def render_part_ids(
    obj: ArticulatedObject, T_world_part: Float[np.ndarray, "parts 4 4"], cameras: Cameras
) -> Int[Tensor, "v h w"]:
    """Index of the part that one ray somewhere within each pixel meets, -1 on the background.

    Args and errors as of :func:`render_object`.
    """
    bpy, materials = _modules()
    if len(obj.parts) > 250:
        raise ValueError("part ids are rendered as 8-bit greys: at most 250 parts")
    with _quiet():
        scene = _empty_scene(bpy, "cpu")
        scene.view_settings.view_transform = "Raw"
        for index, (part, pose) in enumerate(zip(obj.parts, T_world_part, strict=True)):
            _add_part(bpy, part, pose, [materials.make_flat_material((index + 1) / 255)])
        images = _render(bpy, cameras, 1)
    ids = (images[:, 0] * 255).round().long() - 1
    return torch.where(images[:, 3] > 0.5, ids, -1)


def _empty_scene(bpy: Any, device: str) -> Any:
    """A scene with nothing in it and our settings, made after the reset so that they hold."""
    bpy.ops.wm.read_factory_settings(use_empty=True)
    scene = bpy.context.scene
    scene.render.engine = "CYCLES"
    scene.cycles.use_adaptive_sampling = False
    scene.cycles.use_denoising = False
    scene.cycles.pixel_filter_type = "BOX"
    scene.cycles.filter_width = 1.0
    scene.cycles.seed = 0
    scene.render.film_transparent = True
    scene.render.use_persistent_data = True
    scene.render.resolution_percentage = 100
    scene.render.dither_intensity = 0.0
    scene.render.image_settings.file_format = "PNG"
    scene.render.image_settings.color_mode = "RGBA"
    scene.render.image_settings.color_depth = "8"
    scene.view_settings.view_transform = "Standard"
    kind, _, card = device.partition(":")
    if kind == "cpu":
        scene.render.threads_mode = "FIXED"
        scene.render.threads = torch.get_num_threads()
        return scene
    preferences = bpy.context.preferences.addons["cycles"].preferences
    preferences.compute_device_type = "CUDA"
    preferences.get_devices()
    cards = [d for d in preferences.devices if d.type == "CUDA"]
    if int(card or 0) >= len(cards):
        raise RendererMissingError(f"Cycles finds {len(cards)} CUDA cards, wanted {device}")
    for d in preferences.devices:
        d.use = d == cards[int(card or 0)]
    scene.cycles.device = "GPU"
    return scene


def _add_part(bpy: Any, part: Part, T_world_part: Float[np.ndarray, "4 4"], materials: list[Any]) -> None:
    """A part with its materials; with one material only, all faces have it."""
    a, b, c = part.faces.T
    sound = (a != b) & (b != c) & (c != a)  # Blender breaks on faces that name a vertex twice
    if not sound.any():
        return
    mesh = bpy.data.meshes.new(part.name)
    mesh.from_pydata(part.vertices.astype(np.float32).tolist(), [], part.faces[sound].tolist())
    for material in materials:
        mesh.materials.append(material)
    if len(materials) > 1:
        mesh.polygons.foreach_set("material_index", part.face_material[sound].astype(np.int32))
    if part.corner_uv is not None:
        layer = mesh.uv_layers.new(name="uv")
        layer.data.foreach_set("uv", part.corner_uv[sound].astype(np.float32).reshape(-1))
    placed = bpy.data.objects.new(part.name, mesh)
    placed.matrix_world = _matrix(bpy, T_world_part)
    bpy.context.scene.collection.objects.link(placed)


def _matrix(bpy: Any, T: Float[np.ndarray, "4 4"]) -> Any:
    import mathutils

    return mathutils.Matrix(T.tolist())


def _add_light(bpy: Any, position: list[float], intensity: float) -> None:
    """A point light that lights a white surface at the origin with linear ``intensity``."""
    light = bpy.data.lights.new("light", "POINT")
    light.energy = 4 * math.pi**2 * sum(c * c for c in position) * intensity
    light.shadow_soft_size = 0.0
    placed = bpy.data.objects.new("light", light)
    placed.location = position
    bpy.context.scene.collection.objects.link(placed)


def _render(bpy: Any, cameras: Cameras, samples: int) -> Float[Tensor, "v 4 h w"]:
    scene = bpy.context.scene
    scene.cycles.samples = samples
    scene.render.resolution_x, scene.render.resolution_y = cameras.width, cameras.height
    lens = bpy.data.cameras.new("camera")
    lens.sensor_fit = "VERTICAL"
    lens.clip_start, lens.clip_end = 0.01, 100.0
    camera = bpy.data.objects.new("camera", lens)
    scene.collection.objects.link(camera)
    scene.camera = camera
    images = []
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "view.png"
        scene.render.filepath = str(path)
        for T, fovy in zip(cameras.T_world_camera.cpu().double().numpy(), cameras.fovy_rad.tolist(), strict=True):
            lens.angle_y = fovy
            camera.matrix_world = _matrix(bpy, T @ np.diag([1.0, -1.0, -1.0, 1.0]))  # Blender: y up, z backward
            bpy.ops.render.render(write_still=True)
            with open_image(path) as image:
                images.append(torch.from_numpy(np.array(image.convert("RGBA"))))
    return rearrange(torch.stack(images), "v h w c -> v c h w").float() / 255
