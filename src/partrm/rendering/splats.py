"""Gaussians to images, differentiably: our own kernels on the CPU, gsplat on CUDA, behind one function.

Both backends compute the same image: EWA projection with a low-pass filter, front-to-back blending (Kerbl et al. 2023),
alpha at most 0.999, contributions below 1/255 skipped, pixels closed at a transmittance of 1e-4.
"""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from jaxtyping import Float, UInt8
from torch import Tensor

from partrm.errors import PartRMError
from partrm.geometry.cameras import Cameras, canonical_orbit
from partrm.geometry.gaussians import Gaussians
from partrm.imaging.drawing import to_bytes

LOW_PASS_PX, NEAR = 0.3, 0.01
"""What :func:`render_splats` widens splats by, and how near Gaussians are left out, unless told otherwise."""


class SplatBackendError(PartRMError):
    """The backend asked for cannot run here; the message says what to install."""


@dataclass(frozen=True)
class SplatImages:
    """Images of Gaussians."""

    rgb: Float[Tensor, "*batch 3 h w"]
    """Colour composited on ``background``."""
    alpha: Float[Tensor, "*batch h w"]
    """Opacity, [0, 1]."""
    background: Float[Tensor, "3"]
    """The colour under ``rgb``."""

    def rgba(self) -> Float[Tensor, "*batch 4 h w"]:
        """Straight (not premultiplied) colour and alpha; black where alpha is 0."""
        alpha = self.alpha[..., None, :, :]
        premultiplied = self.rgb - (1 - alpha) * self.background[:, None, None]
        visible = alpha > 0
        straight = torch.where(visible, premultiplied / torch.where(visible, alpha, 1.0), 0.0)
        return torch.cat([straight.clamp(0, 1), alpha], -3)

    def rgba_bytes(self) -> UInt8[np.ndarray, "v h w 4"]:
        """:meth:`rgba` of images [v] with 8 bits a channel, on the CPU."""
        if self.rgb.device.type != "cpu":
            return np.stack([to_bytes(image) for image in self.rgba()])
        from partrm.rendering._cpu_splats.pixels import straight_bytes

        rgb, alpha = self.rgb.detach().numpy(), self.alpha.detach().numpy()
        out = np.empty((*alpha.shape, 4), np.uint8)
        straight_bytes(rgb, alpha, self.background.numpy(), out)
        return out


def render_splats(
    gaussians: Gaussians,
    cameras: Cameras,
    *,
    background: Float[Tensor, "3"] | None = None,
    low_pass_px: float = LOW_PASS_PX,
    near: float = NEAR,
    backend: Literal["auto", "cpu", "gsplat"] = "auto",
    block_cut: bool = False,
) -> SplatImages:
    """Render every batch element from each of its cameras; differentiable in all fields of the Gaussians.

    Quaternions are normalised first, so their gradient is tangential. Cameras receive no gradient.

    Args:
        gaussians: a set [n] or a batch [b, n], in the cameras' world frame.
        cameras: [v] or [b, v] to match, on the same device.
        background: RGB under the Gaussians; white when None.
        low_pass_px: variance (pixels squared) added to both axes of a projected Gaussian.
        near: Gaussians whose centre lies nearer (camera z, frame units) are left out.
        backend: "auto" takes the device's: "cpu" (numba kernels) or "gsplat" (CUDA).
        block_cut: gsplat too cuts splats to the reference rasterizer's blocks, as the CPU's kernels always do.

    Returns:
        images [v, ...] or [b, v, ...] of the cameras' size.

    Raises:
        ValueError: batch shapes or devices that do not match, or a backend for another device.
        SplatBackendError: the backend is not installed.
    """
    batched = gaussians.opacities.ndim == 2
    expected = (gaussians.opacities.shape[0],) if batched else ()
    if gaussians.opacities.ndim > 2 or cameras.batch_shape[:-1] != expected or len(cameras.batch_shape) == 0:
        shapes = f"{tuple(gaussians.opacities.shape)} and {tuple(cameras.batch_shape)}"
        raise PartRMError(f"Gaussians [n] with cameras [v], or [b, n] with [b, v], are needed; got {shapes}")
    device = gaussians.means.device
    if cameras.device != device:
        raise PartRMError(f"Gaussians on {device} cannot be seen by cameras on {cameras.device}")
    if backend == "auto":
        backend = "cpu" if device.type == "cpu" else "gsplat"
    if (backend == "cpu") != (device.type == "cpu"):
        raise PartRMError(f"the {backend} splat backend cannot render tensors on {device}")
    if not batched:
        gaussians, cameras = gaussians[None], cameras[None]
    if backend == "cpu":
        premultiplied, alpha = _rasterize_cpu(gaussians, cameras, low_pass_px, near)
    else:
        premultiplied, alpha = _rasterize_gsplat(gaussians, cameras, low_pass_px, near, block_cut)
    if not batched:
        premultiplied, alpha = premultiplied[0], alpha[0]
    background = premultiplied.new_ones(3) if background is None else background.to(premultiplied)
    rgb = premultiplied + (1 - alpha[..., None, :, :]) * background[:, None, None]
    return SplatImages(rgb, alpha, background)


def render_states(states: Iterable[Gaussians], camera: Cameras) -> Iterator[SplatImages]:
    """Images on white of states [n] of the same Gaussians, one after another, from one camera [1].

    They are those of :func:`render_splats`; on a CPU what has not changed since the state before is not drawn anew.

    Raises:
        SplatBackendError: the backend is not installed.
    """
    if camera.device.type != "cpu":
        for state in states:
            yield render_splats(state, camera)
        return
    with missing_numba_told():
        from partrm.rendering._cpu_splats.rasterizer import rasterize_states
    for premultiplied, alpha in rasterize_states(states, camera, LOW_PASS_PX, NEAR):
        background = premultiplied.new_ones(3)
        rgb = premultiplied + (1 - alpha[None]) * background[:, None, None]
        yield SplatImages(rgb[None], alpha[None], background)


def load_kernels() -> None:
    """Load what the CPU renders splats with, which takes half a second, ahead of the first image.

    Raises:
        SplatBackendError: it is not installed.
    """
    dot = Gaussians(torch.zeros(1, 3), torch.eye(1, 4), torch.ones(1, 3), torch.ones(1), torch.ones(1, 3))
    render_splats(dot, canonical_orbit(1, 16)).rgba_bytes()
    for _ in render_states([dot, dot], canonical_orbit(1, 16)):
        pass


@contextmanager
def missing_numba_told() -> Iterator[None]:
    """Let a missing numba say what to install."""
    try:
        yield
    except ModuleNotFoundError as error:
        if error.name != "numba":
            raise
        raise SplatBackendError("rendering Gaussians on the CPU needs numba: pip install numba") from error


def _rasterize_cpu(
    gaussians: Gaussians, cameras: Cameras, low_pass_px: float, near: float
) -> tuple[Float[Tensor, "b v 3 h w"], Float[Tensor, "b v h w"]]:
    """Premultiplied colour and alpha by our kernels."""
    with missing_numba_told():
        from partrm.rendering._cpu_splats.rasterizer import rasterize
    return rasterize(gaussians, cameras, low_pass_px, near)


def _rasterize_gsplat(
    gaussians: Gaussians, cameras: Cameras, low_pass_px: float, near: float, block_cut: bool
) -> tuple[Float[Tensor, "b v 3 h w"], Float[Tensor, "b v h w"]]:
    """Premultiplied colour and alpha by gsplat."""
    try:
        from partrm.rendering._gsplat_splats import rasterize
    except ModuleNotFoundError as error:
        if error.name != "gsplat":
            raise
        raise SplatBackendError("rendering Gaussians on CUDA needs gsplat: pip install 'partrm[cuda]'") from error
    return rasterize(gaussians, cameras, low_pass_px, near, block_cut)
