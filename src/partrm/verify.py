"""Golden files against this machine's backends: a user's check of their installation (``partrm verify FILE…``).

A splat golden (``.npz``) holds activated Gaussians, OpenCV cameras, and the image, alpha and gradient that the
reference CUDA rasterizer (diff-gaussian-rasterization) made of them for random cotangents.
"""

import math
import zipfile
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from partrm.cameras import Cameras
from partrm.gaussians import Gaussians
from partrm.rendering.splats import render_splats


class GoldenFileError(ValueError):
    """A golden file that cannot be used; the message says where and why."""


@dataclass(frozen=True)
class Check:
    """One quantity of a golden file as one backend computes it."""

    backend: str
    """What computed it: "cpu" or "gsplat"."""
    quantity: str
    """What was compared."""
    mean: float
    """Mean absolute error; for a gradient, the norm of the error over the norm of the golden gradient."""
    worst: float
    """Largest absolute error; for a gradient, over the largest entry of the golden gradient."""
    tolerance: str
    """The limits, in words."""
    ok: bool
    """Whether the errors (and the image's shape) keep the limits."""


@dataclass(frozen=True)
class SplatTolerance:
    """Limits for one backend."""

    mean: float = 5e-5
    """Mean absolute error of image and alpha."""
    p999: float = 3e-3
    """Its 99.9th percentile."""
    worst: float = 5e-2
    """Its maximum."""
    gradient: float = 1e-2
    """Norm of a gradient's error over the gradient's norm."""


TOLERANCES = {"cpu": SplatTolerance(), "gsplat": SplatTolerance(p999=1e-2, gradient=3e-2)}
"""gsplat keeps the faint rim (alpha < 0.012) of a splat that the reference rasterizer cuts off beyond 3 sigma."""

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


def verify_file(path: Path | str) -> list[Check]:
    """Compute a golden file's quantities on every backend that this machine has.

    Raises:
        GoldenFileError: a missing, broken or unknown file.
    """
    path = Path(path)
    if not path.is_file():
        raise GoldenFileError(f"{path}: no such file")
    if path.suffix == ".safetensors":
        raise GoldenFileError(f"{path}: network golden files need the reference network, which this version lacks")
    if path.suffix != ".npz":
        raise GoldenFileError(f"{path}: a golden file ends in .npz (splats) or .safetensors (network)")
    golden = load_splat_golden(path)
    backends: list[tuple[Literal["cpu", "gsplat"], str]] = [("cpu", "cpu")]
    if torch.cuda.is_available():
        backends.append(("gsplat", "cuda"))
    return [check for backend, device in backends for check in verify_splats(golden, backend, device)]


def load_splat_golden(path: Path) -> SplatGolden:
    """Read a splat golden ``.npz``.

    Raises:
        GoldenFileError: not such a file, or arrays that are missing, misshapen or not finite.
    """
    names = tuple(SplatGolden.__dataclass_fields__)
    try:
        with np.load(path, allow_pickle=False) as file:
            arrays = {name: torch.from_numpy(np.asarray(file[name], dtype=np.float32)) for name in names}
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


def verify_splats(golden: SplatGolden, backend: Literal["cpu", "gsplat"], device: str) -> list[Check]:
    """Compare one backend with the reference rasterizer: image, alpha, and the gradient of each parameter."""
    parameters = golden.gaussians.to(device, copy=True).requires_grad_()
    means, opacities, scales, quats, colors = parameters.split([3, 1, 3, 4, 3], -1)
    height, width = golden.image.shape[-2:]
    fovy_rad = torch.full((len(golden.c2w_opencv),), math.radians(float(golden.fovy_deg)))
    cameras = Cameras(golden.c2w_opencv, fovy_rad, width, height).to(device)
    gaussians = Gaussians(means, quats, scales, opacities.squeeze(-1), colors)
    images = render_splats(gaussians, cameras, background=golden.background.to(device), backend=backend)
    cotangents = golden.v_image.to(device), golden.v_alpha[:, 0].to(device)
    (grad,) = torch.autograd.grad((images.rgb, images.alpha), parameters, cotangents)

    tolerance = TOLERANCES[backend]
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
