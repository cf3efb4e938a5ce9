"""What the network eats and what it is taught: one batch of samples, in memory and on disk.

Everything is in the canonical frame of each sample's first view, and describes the source state; the target state is
the source state with the moving Gaussians carried by ``JointTruth.T_after_before``.
"""

import json
from dataclasses import dataclass, fields, is_dataclass, replace
from pathlib import Path
from typing import Any

import torch
from einops import rearrange
from jaxtyping import Bool, Float, Int
from torch import Tensor

from partrm.cameras import Cameras
from partrm.data._sample_packing import pack, unpack
from partrm.drags import Drags
from partrm.transforms import transform_points

VIEWS = 4
"""Input views of a sample; absent ones enter as rays with a zero image."""


@dataclass(frozen=True)
class NetworkInput:
    """A batch of samples in the canonical frame of their first views."""

    images: Float[Tensor, "b v 4 h w"]
    """RGBA, straight alpha, [0, 1]; zero for absent views."""
    cameras: Cameras
    """[b, v] canonical-frame cameras; absent views take the poses of ``canonical_orbit(4, ...)`` and a wider lens."""
    view_valid: Bool[Tensor, "b v"]
    """False for absent views; the first view is always present."""
    drags: Drags
    """[b, n] drags, n <= 10, in views that are present."""
    lens_known: Bool[Tensor, "b v"]
    """Whether the view's camera is told exactly; False where an image of unknown lens gets the assumed one, and for
    absent views."""


@dataclass(frozen=True)
class MotionTargets:
    """The exact surface behind every splat pixel of every view (our Gaussian database)."""

    point: Float[Tensor, "b v h w 3"]
    """Surface point, canonical frame; zero where the ray meets nothing."""
    distance: Float[Tensor, "b v h w"]
    """Distance from the camera along the pixel's ray; zero where nothing."""
    normal: Float[Tensor, "b v h w 3"]
    """Unit normal towards the camera, canonical frame; zero where nothing."""
    surface: Bool[Tensor, "b v h w"]
    """Whether the ray through the pixel's centre meets the object."""
    coverage: Float[Tensor, "b v h w"]
    """Anti-aliased alpha of the pixel, [0, 1]."""
    rgb: Float[Tensor, "b v h w 3"]
    """Straight colour of the pixel, [0, 1]."""
    moving: Bool[Tensor, "b v h w"]
    """Whether the point belongs to the dragged part, or to a part carried by it."""
    displacement: Float[Tensor, "b v h w 3"]
    """Exact motion of the point, canonical frame; zero where nothing moves."""


@dataclass(frozen=True)
class JointTruth:
    """The joint behind each sample's motion, canonical frame."""

    type: Int[Tensor, " b"]
    """:class:`partrm.articulation.kinematics.JointType`."""
    axis: Float[Tensor, "b 3"]
    pivot: Float[Tensor, "b 3"]
    amount: Float[Tensor, " b"]
    """Radians or canonical units, signed about the axis."""
    T_after_before: Float[Tensor, "b 4 4"]


@dataclass(frozen=True)
class StateViews:
    """Renders of the source and the target state from cameras of their own (appearance stage, evaluation)."""

    cameras: Cameras
    """[b, m], canonical frame."""
    before: Float[Tensor, "b m 4 h w"]
    """RGBA of the source state."""
    after: Float[Tensor, "b m 4 h w"]
    """RGBA of the target state."""


@dataclass(frozen=True)
class Samples:
    """A batch of training or evaluation samples."""

    inputs: NetworkInput
    targets: MotionTargets
    joint: JointTruth
    valid: Bool[Tensor, " b"]
    """False where no candidate showed enough of a moving part; such rows carry no loss."""
    views: StateViews | None = None
    still: MotionTargets | None = None
    """What the views would show with the moving part taken away; for networks of two layers."""
    part: MotionTargets | None = None
    """What they would show of the moving part alone, all of it moving."""


def pooled_rgba(images: Float[Tensor, "b v 4 h w"], factor: int = 2) -> Float[Tensor, "b v 4 h2 w2"]:
    """Average RGBA down by ``factor`` with premultiplied colour; where alpha is zero the colour is grey."""
    b = images.shape[0]
    flat = rearrange(images, "b v c h w -> (b v) c h w")
    alpha = torch.nn.functional.avg_pool2d(flat[:, 3:], factor)
    premultiplied = torch.nn.functional.avg_pool2d(flat[:, :3] * flat[:, 3:], factor)
    rgb = torch.where(alpha > 0, premultiplied / alpha.clamp(min=1e-4), torch.full_like(premultiplied, 0.5))
    return rearrange(torch.cat([rgb, alpha], 1), "(b v) c h w -> b v c h w", b=b)


def to_device(value: Any, device: torch.device | str) -> Any:
    """A copy of a (nested) dataclass of tensors on another device."""
    if isinstance(value, Tensor):
        return value.to(device)
    if is_dataclass(value) and not isinstance(value, type):
        return replace(value, **{f.name: to_device(getattr(value, f.name), device) for f in fields(value)})
    return value


def save_samples(samples: Samples, path: Path) -> None:
    """Write a batch as one safetensors file: dotted names, image-like fields deflated, sizes in the metadata.

    Colours are stored as 8 bit, everything else as it is; points and displacements follow from distances, cameras and
    the joint, so that reading gives the same batch within 1/510 of colour and 1e-5 of length. Targets of single
    layers are not stored.
    """
    from safetensors.torch import save_file

    tensors: dict[str, Tensor] = {}
    layout: dict[str, dict] = {"sizes": {}, "packed": {}}
    for name, value in _leaves(replace(samples, still=None, part=None), ""):
        if not isinstance(value, Tensor):
            layout["sizes"][name] = value
            continue
        if name in _DERIVED_FIELDS:
            continue
        if name.rsplit(".", 1)[-1] in _COLOUR_FIELDS:
            value = (value * 255).round().to(torch.uint8)
        if name in _ROW_AXES:
            tensors[name], layout["packed"][name] = pack(value, _ROW_AXES[name])
        else:
            tensors[name] = value.contiguous().cpu()
    part = path.with_name(path.name + ".part")
    # One entry: safetensors writes several in an order of chance, and equal batches shall have equal bytes.
    save_file(tensors, part, {"layout": json.dumps(layout)})
    part.replace(path)


def load_samples(path: Path) -> Samples:
    """Read a batch that :func:`save_samples` wrote.

    Raises:
        ValueError: not a file of samples.
    """
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, "pt") as file:
            flat: dict[str, Any] = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
            layout = json.loads((file.metadata() or {})["layout"])
            flat |= layout["sizes"] | {name: unpack(flat[name], how) for name, how in layout["packed"].items()}
    except (SafetensorError, OSError, ValueError, KeyError, TypeError) as error:
        raise ValueError(f"{path}: not a file of samples ({error}); build the samples again") from error
    for name, value in flat.items():
        if isinstance(value, Tensor) and value.dtype == torch.uint8:
            flat[name] = value.float() / 255
    try:
        cameras, joint = _read(Cameras, flat, "inputs.cameras."), _read(JointTruth, flat, "joint.")
        flat |= _derived(flat, cameras, joint)
        has_views = any(name.startswith("views.") for name in flat)
        return Samples(
            inputs=NetworkInput(
                images=flat["inputs.images"],
                cameras=cameras,
                view_valid=flat["inputs.view_valid"],
                drags=_read(Drags, flat, "inputs.drags."),
                lens_known=flat["inputs.lens_known"],
            ),
            targets=_read(MotionTargets, flat, "targets."),
            joint=joint,
            valid=flat["valid"],
            views=StateViews(_read(Cameras, flat, "views.cameras."), flat["views.before"], flat["views.after"])
            if has_views
            else None,
        )
    except KeyError as error:
        raise ValueError(f"{path}: the field {error} is missing; build the samples again") from error


def _derived(flat: dict[str, Any], cameras: Cameras, joint: JointTruth) -> dict[str, Tensor]:
    """Surface points, and how far they move, of a batch whose distances are known."""
    distance, surface = flat["targets.distance"], flat["targets.surface"][..., None]
    origin, direction = cameras.resized(distance.shape[-1], distance.shape[-2]).rays()
    point = torch.where(surface, origin[:, :, None, None] + distance[..., None] * direction, 0.0)
    spread = rearrange(point, "b v h w c -> b (v h w) c")
    shift = (transform_points(joint.T_after_before, spread) - spread).reshape(point.shape)
    moving = flat["targets.moving"][..., None]
    return {"targets.point": point, "targets.displacement": torch.where(moving, shift, 0.0)}


_COLOUR_FIELDS = {"images", "coverage", "rgb", "before", "after"}
_DERIVED_FIELDS = {"targets.point", "targets.displacement"}

_ROW_AXES = {"inputs.images": -1, "views.before": -1, "views.after": -1} | {
    f"targets.{name}": axis
    for name, axis in {"distance": -1, "normal": -2, "surface": -1, "coverage": -1, "rgb": -2, "moving": -1}.items()
}
"""Image-like fields and the axis along which their rows run."""


def _leaves(value: Any, prefix: str) -> list[tuple[str, Any]]:
    if not is_dataclass(value):
        return [] if value is None else [(prefix, value)]
    found = []
    for field in fields(value):
        found += _leaves(getattr(value, field.name), f"{prefix}.{field.name}" if prefix else field.name)
    return found


def _read(kind: type, flat: dict[str, Any], prefix: str) -> Any:
    return kind(**{f.name: flat[prefix + f.name] for f in fields(kind)})
