"""Assets as binary glTF: textured parts, y up, and the joint's range as an animation."""

from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

from partrm.assets._surface_files import origins
from partrm.assets.asset import Asset
from partrm.assets.part_meshes import missing
from partrm.files import atomic_write
from partrm.geometry.joints import JointType
from partrm.geometry.transforms import quaternion_from_matrix, rotation_from_axis_angle
from partrm.objects.articulated_object import Joint, Part

SECONDS = 4.0
"""Of the animation: to the far end of the range and back."""

KEYS = 33
"""Poses of each part in it."""

UP = np.array([[1.0, 0, 0, 0], [0, 0, 1, 0], [0, -1, 0, 0], [0, 0, 0, 1]])
"""From z up to glTF's y up; the front then looks along x still."""

FLOAT = 5126
"""glTF's number of 32-bit floats."""


def save_glb(asset: Asset, path: Path) -> None:
    """Write ``path`` (.glb).

    Raises:
        as :func:`to_glb`.
    """
    atomic_write(path, to_glb(asset))


def to_glb(asset: Asset) -> bytes:
    """The content of a GLB; its nodes have the parts' names, and frames without rotation at rest.

    Raises:
        PackageMissingError: trimesh is missing.
    """
    try:
        import trimesh
        from trimesh.exchange.gltf import export_glb
    except ImportError as error:
        raise missing("trimesh") from error
    scene, places = trimesh.Scene(base_frame="asset"), origins(asset)
    for number, part in enumerate(asset.object.parts):
        above = None if part.joint is None else asset.object.parts[part.joint.parent].name
        offset = places[number] - (np.zeros(3) if part.joint is None else places[part.joint.parent])
        T = np.eye(4)
        T[:3, 3] = offset
        T = UP @ T if above is None else T
        scene.add_geometry(_mesh(asset, part, places[number]), part.name, part.name, above, T)
    # trimesh writes no animation itself: it is added to what it is about to write.
    keys: list[tuple[str, str, np.ndarray]] = [_keys(p, scene) for p in asset.object.parts if p.joint is not None]
    return export_glb(
        scene,
        include_normals=True,
        buffer_postprocessor=lambda buffers, tree: _add_animation(buffers, tree, keys),
    )


def _mesh(asset: Asset, part: Part, origin: np.ndarray) -> Any:
    """Three vertices a face, since UVs belong to corners."""
    import trimesh
    from trimesh.visual import TextureVisuals
    from trimesh.visual.material import PBRMaterial

    texture = asset.object.materials[int(part.face_material[0])].texture
    assert texture is not None
    assert part.corner_uv is not None
    material = PBRMaterial(
        name=part.name, baseColorTexture=Image.fromarray(texture), metallicFactor=0.0, roughnessFactor=0.8
    )
    corners = part.faces.ravel()
    mesh = trimesh.Trimesh(
        part.vertices[corners] - origin, np.arange(len(corners)).reshape(-1, 3), process=False,
        visual=TextureVisuals(uv=part.corner_uv.reshape(-1, 2), material=material),
    )  # fmt: skip
    mesh.merge_vertices()
    return mesh


def _keys(part: Part, scene: Any) -> tuple[str, str, np.ndarray]:
    """Node, what of it moves, and its values [keys, 3 or 4] over the animation."""
    joint = part.joint
    assert joint is not None
    phase = (1 - np.cos(np.linspace(0, 2 * np.pi, KEYS))) / 2
    # It starts and ends at rest where rest lies in the range's end nearer to zero.
    start, end = sorted((joint.lower, joint.upper), key=abs)
    q = start + phase * (end - start)
    T, _ = scene.graph.get(part.name, scene.graph.transforms.parents[part.name])
    if joint.type == JointType.PRISMATIC:
        return part.name, "translation", T[:3, 3] + q[:, None] * np.array(joint.axis)
    return part.name, "rotation", _quaternions(joint, q)


def _quaternions(joint: Joint, q: np.ndarray) -> np.ndarray:
    """Rotations about the joint's axis as glTF writes them, xyzw."""
    axis = torch.tensor(joint.axis, dtype=torch.float64).expand(len(q), 3)
    wxyz = quaternion_from_matrix(rotation_from_axis_angle(axis, torch.from_numpy(q))).numpy()
    return wxyz[:, [1, 2, 3, 0]]


def _add_animation(buffers: Any, tree: dict, keys: list[tuple[str, str, np.ndarray]]) -> None:
    """Append times and values to the buffers, and say in the tree which nodes they move."""
    times = np.linspace(0, SECONDS, KEYS, dtype=np.float32)
    nodes = {node.get("name"): index for index, node in enumerate(tree["nodes"])}
    clock = _append(buffers, tree, times, "SCALAR", {"min": [0.0], "max": [SECONDS]})
    animation: dict[str, Any] = {"name": "joint", "samplers": [], "channels": []}
    for name, what, values in keys:
        node = tree["nodes"][nodes[name]]
        # Animated nodes have no matrix, by the specification.
        matrix = np.array(node.pop("matrix", np.eye(4).T.ravel().tolist())).reshape(4, 4).T
        node["translation"] = matrix[:3, 3].tolist()
        kind = "VEC3" if values.shape[1] == 3 else "VEC4"
        output = _append(buffers, tree, values.astype(np.float32), kind, {})
        animation["samplers"].append({"input": clock, "output": output, "interpolation": "LINEAR"})
        target = {"node": nodes[name], "path": what}
        animation["channels"].append({"sampler": len(animation["samplers"]) - 1, "target": target})
    tree["animations"] = [animation]


def _append(buffers: Any, tree: dict, values: np.ndarray, kind: str, bounds: dict) -> int:
    """Number of a new accessor of float values; trimesh lays out the views in the buffers' order."""
    name = f"partrm_{len(buffers)}"
    buffers[name] = values.tobytes()
    tree["accessors"][name] = {
        "bufferView": len(buffers) - 1, "componentType": FLOAT, "count": len(values), "type": kind, **bounds,
    }  # fmt: skip
    return len(tree["accessors"]) - 1
