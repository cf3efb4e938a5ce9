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
from partrm.drags import Drags

VIEWS = 4
"""Input views of a sample; absent ones enter as rays with a zero image."""


@dataclass(frozen=True)
class NetworkInput:
    """A batch of samples in the canonical frame of their first views."""

    images: Float[Tensor, "b v 4 h w"]
    """RGBA, straight alpha, [0, 1]; zero for absent views."""
    cameras: Cameras
    """[b, v] canonical-frame cameras; absent views take those of ``canonical_orbit(4, ...)``."""
    view_valid: Bool[Tensor, "b v"]
    """False for absent views; the first view is always present."""
    drags: Drags
    """[b, n] drags, n <= 10, in views that are present."""


@dataclass(frozen=True)
class MotionTargets:
    """The exact surface behind every splat pixel of every view (our Gaussian database, DESIGN §6)."""

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
    """Write a batch as one safetensors file: one tensor a field, dotted names, image sizes in the metadata.

    Colours are stored as 8 bit and geometry as float32, so that reading gives the same batch within 1/510 of colour.
    """
    from safetensors.torch import save_file

    tensors, sizes = {}, {}
    for name, value in _leaves(samples, ""):
        if isinstance(value, Tensor):
            as_bytes = name.rsplit(".", 1)[-1] in _COLOUR_FIELDS
            tensors[name] = ((value * 255).round().to(torch.uint8) if as_bytes else value).contiguous().cpu()
        else:
            sizes[name] = value
    part = path.with_name(path.name + ".part")
    # One entry: safetensors writes several in an order of chance, and equal batches shall have equal bytes.
    save_file(tensors, part, {"sizes": json.dumps(sizes)})
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
            flat.update(json.loads((file.metadata() or {})["sizes"]))
    except (SafetensorError, OSError, ValueError, KeyError) as error:
        raise ValueError(f"{path}: not a file of samples ({error})") from error
    for name, value in flat.items():
        if isinstance(value, Tensor) and value.dtype == torch.uint8:
            flat[name] = value.float() / 255
    try:
        has_views = any(name.startswith("views.") for name in flat)
        return Samples(
            inputs=NetworkInput(
                images=flat["inputs.images"],
                cameras=_read(Cameras, flat, "inputs.cameras."),
                view_valid=flat["inputs.view_valid"],
                drags=_read(Drags, flat, "inputs.drags."),
            ),
            targets=_read(MotionTargets, flat, "targets."),
            joint=_read(JointTruth, flat, "joint."),
            valid=flat["valid"],
            views=StateViews(_read(Cameras, flat, "views.cameras."), flat["views.before"], flat["views.after"])
            if has_views
            else None,
        )
    except KeyError as error:
        raise ValueError(f"{path}: the field {error} is missing; build the samples again") from error


_COLOUR_FIELDS = {"images", "coverage", "rgb", "before", "after"}


def _leaves(value: Any, prefix: str) -> list[tuple[str, Any]]:
    if not is_dataclass(value):
        return [] if value is None else [(prefix, value)]
    found = []
    for field in fields(value):
        found += _leaves(getattr(value, field.name), f"{prefix}.{field.name}" if prefix else field.name)
    return found


def _read(kind: type, flat: dict[str, Any], prefix: str) -> Any:
    return kind(**{f.name: flat[prefix + f.name] for f in fields(kind)})
