"""Golden files against this machine's backends: a user's check of their installation (``partrm verify FILE…``).

A splat golden (``.npz``) holds activated Gaussians, OpenCV cameras, and the image, alpha and gradient that the
reference CUDA rasterizer (diff-gaussian-rasterization) made of them for random cotangents. A network golden
(``.safetensors``) holds a reduced reference network's weights, input and drags, and the drag maps and Gaussians that
the reference code made of them.
"""

import json
import math
import zipfile
import zlib
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from jaxtyping import Float
from safetensors import SafetensorError, safe_open
from torch import Tensor

from partrm.errors import PartRMError
from partrm.geometry.cameras import Cameras
from partrm.geometry.gaussians import Gaussians
from partrm.model.devices import select_device
from partrm.model.reference import PixelDrags, ReferenceConfig, ReferenceNetwork
from partrm.model.unet import GROUPS, SKIP_SCALE
from partrm.paper.import_weights import convert_weights
from partrm.rendering.splats import render_splats


class GoldenFileError(PartRMError):
    """A golden file that cannot be used; the message says where and why."""


@dataclass(frozen=True)
class Check:
    """One quantity of a golden file as one backend computes it."""

    backend: str
    """What computed it: "cpu", "gsplat" or "cuda"."""
    quantity: str
    """What was compared."""
    mean: float
    """Mean absolute error; for a gradient, the norm of the error over the norm of the golden gradient; for a network's
    tensor, over its range."""
    worst: float
    """Largest absolute error; for a gradient, over the largest entry of the golden gradient; for a network's tensor,
    over its range."""
    tolerance: str
    """The limits, in words."""
    ok: bool
    """Whether the errors (and the image's shape) keep the limits."""


@dataclass(frozen=True)
class SplatTolerance:
    """Limits for every backend."""

    mean: float = 5e-5
    """Mean absolute error of image and alpha."""
    p999: float = 3e-3
    """Its 99.9th percentile."""
    worst: float = 5e-2
    """Its maximum."""
    gradient: float = 1e-2
    """Norm of a gradient's error over the gradient's norm."""


SPLAT_TOLERANCE = SplatTolerance()

MAP_TOLERANCE, GAUSSIAN_TOLERANCE = 1e-5, 1e-4
"""Largest error of a network's drag maps and Gaussians over the golden tensor's range (largest minus smallest).

The standard deviation of a drag map says how few of its cells are written, and nothing of their values.
"""

_PARAMETERS = {
    "means": slice(0, 3),
    "opacities": slice(3, 4),
    "scales": slice(4, 7),
    "quats": slice(7, 11),
    "colors": slice(11, 14),
}


@dataclass(frozen=True)
class SplatGolden:
    """A splat golden file; cotangents and gradient belong to the sum over all views."""

    gaussians: Float[Tensor, "n 14"]
    """Activated parameters: mean, opacity, scale, quaternion wxyz, colour."""
    c2w_opencv: Float[Tensor, "v 4 4"]
    """Camera-to-world poses."""
    fovy_deg: Float[Tensor, ""]
    """Vertical field of view, degrees."""
    background: Float[Tensor, "3"]
    """Colour under the Gaussians."""
    image: Float[Tensor, "v 3 h w"]
    """Composited colour."""
    alpha: Float[Tensor, "v 1 h w"]
    """Opacity."""
    v_image: Float[Tensor, "v 3 h w"]
    """Cotangent of the image."""
    v_alpha: Float[Tensor, "v 1 h w"]
    """Cotangent of alpha."""
    grad_gaussians: Float[Tensor, "n 14"]
    """The reference's gradient."""


def packaged_goldens() -> list[Path]:
    """The golden files of the package: splats as the reference's, but from brute force in float64."""
    return sorted(Path(str(resources.files("partrm.paper") / "golden")).glob("*.npz"))


def verify_file(path: Path | str, device: Literal["auto", "cpu", "cuda"] = "auto") -> list[Check]:
    """Compute a golden file's quantities on the backends of a device: by default, of every one that this machine has.

    Raises:
        GoldenFileError: a missing, broken or unknown file.
        DeviceError: ``cuda`` where there is no such device.
    """
    path = Path(path)
    if not path.is_file():
        raise GoldenFileError(f"{path}: no such file")
    if path.suffix not in (".safetensors", ".npz"):
        raise GoldenFileError(f"{path}: a golden file ends in .npz (splats) or .safetensors (network)")
    select_device(device)
    found = ("cpu", "cuda") if torch.cuda.is_available() else ("cpu",)
    devices = found if device == "auto" else (device,)
    if path.suffix == ".safetensors":
        network = load_network_golden(path)
        return [check for device in devices for check in verify_network(network, device)]
    golden = load_splat_golden(path)
    return [
        check for device in devices for check in verify_splats(golden, "gsplat" if device == "cuda" else "cpu", device)
    ]


def load_splat_golden(path: Path) -> SplatGolden:
    """Read a splat golden ``.npz``.

    Raises:
        GoldenFileError: not such a file, or arrays that are missing, misshapen or not finite.
    """
    names = tuple(SplatGolden.__dataclass_fields__)
    try:
        with np.load(path, allow_pickle=False) as file, np.errstate(over="ignore"):  # told below as not finite
            arrays = {name: torch.from_numpy(_real(np.asarray(file[name])).astype(np.float32)) for name in names}
    except KeyError as error:
        raise GoldenFileError(f"{path}: not a splat golden file ({error.args[0]})") from error
    except (OSError, EOFError, ValueError, TypeError, zlib.error, zipfile.BadZipFile) as error:
        raise GoldenFileError(f"{path}: cannot be read as .npz ({str(error).splitlines()[0]})") from error
    n, v = (math.prod(arrays[name].shape[:1]) for name in ("gaussians", "c2w_opencv"))
    image_shape = tuple(arrays["image"].shape[-2:])
    shapes = {"gaussians": (n, 14), "c2w_opencv": (v, 4, 4), "fovy_deg": (), "background": (3,)}
    shapes |= {"image": (v, 3, *image_shape), "v_image": (v, 3, *image_shape), "grad_gaussians": (n, 14)}
    shapes |= {"alpha": (v, 1, *image_shape), "v_alpha": (v, 1, *image_shape)}
    for name, array in arrays.items():
        if tuple(array.shape) != shapes[name] or array.numel() == 0:
            raise GoldenFileError(f"{path}: '{name}' has shape {tuple(array.shape)}, not {shapes[name]}")
        if not torch.isfinite(array).all():
            raise GoldenFileError(f"{path}: '{name}' is not finite")
    return SplatGolden(**arrays)


def _real(array: np.ndarray) -> np.ndarray:
    """The array, if it holds real numbers.

    Raises:
        TypeError: it does not.
    """
    if array.dtype.kind not in "iuf":
        raise TypeError(f"an array of {array.dtype}")
    return array


@dataclass(frozen=True)
class NetworkGolden:
    """A network golden file: a reduced reference network, what it was given, and what it answered."""

    network: ReferenceNetwork
    """With the file's weights."""
    input: Float[Tensor, "b v 9 h w"]
    """Input map."""
    drags: PixelDrags
    """[b, v, n] drags in pixels of a 512 image."""
    maps: list[Float[Tensor, "two bv _ _ _"]]
    """Start and end map of each level."""
    gaussians: Float[Tensor, "b n 14"]
    """Activated parameters."""


def load_network_golden(path: Path) -> NetworkGolden:
    """Read a network golden ``.safetensors``.

    Raises:
        GoldenFileError: not such a file, or a config, weights or tensors that do not fit each other.
    """
    try:
        with safe_open(path, "pt") as file:
            content = json.loads((file.metadata() or {})["config"])
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        config = _network_config(content)
        network = ReferenceNetwork(config).eval().requires_grad_(False)
        prefix = "weights."
        public = {name.removeprefix(prefix): t for name, t in tensors.items() if name.startswith(prefix)}
        network.load_state_dict(convert_weights(public, config))
        start, end = tensors["drags_start_px512"], tensors["drags_end_px512"]
        side, levels = tensors["input"].shape[-1], range(len(config.down_channels))
        maps = [
            torch.stack([tensors[f"drag_map_{which}.{side >> level}"] for which in ("start", "end")])
            for level in levels
        ]
        drags = PixelDrags(start, end, torch.ones(start.shape[:-1], dtype=torch.bool))
        return NetworkGolden(network, tensors["input"], drags, maps, tensors["gaussians"])
    except KeyError as error:
        raise GoldenFileError(f"{path}: not a network golden file ({error.args[0]})") from error
    except (SafetensorError, OSError, ValueError, TypeError, IndexError, ArithmeticError, RuntimeError) as error:
        raise GoldenFileError(f"{path}: not a sound network golden file ({str(error).splitlines()[0]})") from error


def _network_config(content: dict) -> ReferenceConfig:
    """The config in a golden file's metadata; what our network does not leave open must be as we have it."""
    config = ReferenceConfig(
        name="golden",
        image_size_px=content["input_size"],
        down_channels=tuple(content["down_channels"]),
        down_attention=tuple(content["down_attention"]),
        up_channels=tuple(content["up_channels"]),
        up_attention=tuple(content["up_attention"]),
        down_layers=content["layers_per_block"],
        heads=content["num_heads"],
    )
    if (content["norm_groups"], round(content["skip_scale"], 6)) != (GROUPS, round(SKIP_SCALE, 6)):
        raise ValueError(f"needs {content['norm_groups']} norm groups and skip scale {content['skip_scale']}")
    if config.splat_size_px != content["splat_size"]:
        raise ValueError(f"splat size {content['splat_size']}, but its U-Net gives {config.splat_size_px}")
    return config


def verify_network(golden: NetworkGolden, device: str) -> list[Check]:
    """Compare this machine's network (float32, TF32 off) with the reference: drag maps and Gaussians."""
    network = golden.network.to(device)
    drags = PixelDrags(*(x.to(device) for x in (golden.drags.start, golden.drags.end, golden.drags.valid)))
    with torch.inference_mode(), torch.backends.cudnn.flags(enabled=True, allow_tf32=False):
        maps = network.drag_maps(drags, golden.input.shape[-1])
        g = network.reconstruct(golden.input.to(device), drags)
    checks = []
    for ours, expected in zip(maps, golden.maps, strict=True):
        for which, a, b in zip(("start", "end"), ours, expected, strict=True):
            checks.append(_relative_check(device, f"drag map {which} {a.shape[-1]}", a, b, MAP_TOLERANCE))
    answers = {
        "means": g.means,
        "opacities": g.opacities[..., None],
        "scales": g.scales,
        "quats": g.quats,
        "colors": g.colors,
    }
    for name, ours in answers.items():
        expected = golden.gaussians[..., _PARAMETERS[name]]
        checks.append(_relative_check(device, name, ours, expected, GAUSSIAN_TOLERANCE))
    return checks


def _relative_check(backend: str, quantity: str, ours: Tensor, expected: Tensor, tolerance: float) -> Check:
    """Errors over the golden tensor's range; another shape is an infinite error."""
    words = f"worst {tolerance:g} of the range"
    if ours.shape != expected.shape:
        return Check(backend, quantity, math.inf, math.inf, words, False)
    spread = (expected.max() - expected.min()).double().clamp_min(1e-12)
    error = (ours.cpu() - expected).abs().double() / spread
    worst = error.max().item()
    return Check(backend, quantity, error.mean().item(), worst, words, worst <= tolerance)


def verify_splats(golden: SplatGolden, backend: Literal["cpu", "gsplat"], device: str) -> list[Check]:
    """Compare one backend with the reference rasterizer: image, alpha, and the gradient of each parameter."""
    parameters = golden.gaussians.to(device, copy=True).requires_grad_()
    means, opacities, scales, quats, colors = parameters.split([3, 1, 3, 4, 3], -1)
    height, width = golden.image.shape[-2:]
    fovy_rad = torch.full((len(golden.c2w_opencv),), math.radians(float(golden.fovy_deg)))
    cameras = Cameras(golden.c2w_opencv, fovy_rad, width, height).to(device)
    gaussians = Gaussians(means, quats, scales, opacities.squeeze(-1), colors)
    background = golden.background.to(device)
    images = render_splats(gaussians, cameras, background=background, backend=backend, block_cut=True)
    cotangents = golden.v_image.to(device), golden.v_alpha[:, 0].to(device)
    (grad,) = torch.autograd.grad((images.rgb, images.alpha), parameters, cotangents)

    tolerance = SPLAT_TOLERANCE
    words = f"mean {tolerance.mean:g}, 99.9 % {tolerance.p999:g}, worst {tolerance.worst:g}"
    checks = []
    for name, ours, reference in (("image", images.rgb, golden.image), ("alpha", images.alpha, golden.alpha[:, 0])):
        error = (ours.detach().cpu() - reference).abs().double().flatten()
        mean, worst = error.mean().item(), error.max().item()
        p999 = float(np.quantile(error.numpy(), 0.999))
        ok = mean <= tolerance.mean and p999 <= tolerance.p999 and worst <= tolerance.worst
        checks.append(Check(backend, name, mean, worst, words, ok))
    expected = tangential(golden.grad_gaussians, golden.gaussians)
    for name, columns in _PARAMETERS.items():
        error, reference = grad[:, columns].cpu() - expected[:, columns], expected[:, columns]
        mean = (error.norm() / reference.norm().clamp_min(1e-12)).item()
        worst = (error.abs().max() / reference.abs().max().clamp_min(1e-12)).item()
        words = f"{tolerance.gradient:.0%} of the norm"
        checks.append(Check(backend, f"gradient of {name}", mean, worst, words, mean <= tolerance.gradient))
    return checks


def tangential(grad: Float[Tensor, "n 14"], gaussians: Float[Tensor, "n 14"]) -> Float[Tensor, "n 14"]:
    """The reference's gradient without the part along the quaternions, whose length it takes for a parameter."""
    columns = _PARAMETERS["quats"]
    quats = torch.nn.functional.normalize(gaussians[:, columns], dim=-1)
    radial = (grad[:, columns] * quats).sum(-1, keepdim=True) * quats
    result = grad.clone()
    result[:, columns] -= radial
    return result
