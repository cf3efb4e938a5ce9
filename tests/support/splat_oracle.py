"""Gaussians rendered by brute force in plain autograd, and golden files made of that."""

import math

import numpy as np
import torch

from partrm.geometry.cameras import Cameras
from partrm.geometry.gaussians import Gaussians
from partrm.geometry.transforms import matrix_from_quaternion


def oracle(gaussians: Gaussians, camera: Cameras, low_pass_px: float = 0.3, near: float = 0.01):
    """Every Gaussian at every pixel of one camera, by plain autograd: premultiplied colour and alpha."""
    w, h, f = camera.width, camera.height, camera.focal_px
    T = camera.T_camera_world.to(gaussians.means.dtype)
    local = gaussians.means @ T[:3, :3].T + T[:3, 3]
    kept = torch.nonzero(local[:, 2] >= near).squeeze(-1)
    kept = kept[torch.argsort(local[kept, 2], stable=True)]
    x, y, z = local[kept].unbind(-1)
    M = T[:3, :3] @ matrix_from_quaternion(torch.nn.functional.normalize(gaussians.quats[kept], dim=-1))
    M = M * gaussians.scales[kept, None, :]
    u = (x / z).clamp(-0.65 * w / f, 0.65 * w / f)
    v = (y / z).clamp(-0.65 * h / f, 0.65 * h / f)
    zero = torch.zeros_like(z)
    J = torch.stack([torch.stack([f / z, zero, -f * u / z], -1), torch.stack([zero, f / z, -f * v / z], -1)], -2)
    cov = J @ M @ M.mT @ J.mT + low_pass_px * torch.eye(2, dtype=J.dtype)
    centre = torch.stack([f * x / z + w / 2, f * y / z + h / 2], -1)
    rows, columns = torch.meshgrid(torch.arange(h), torch.arange(w), indexing="ij")
    pixels = torch.stack([columns, rows], -1)
    d = pixels + 0.5 - centre[:, None, None, :]
    power = -0.5 * torch.einsum("nhwi,nij,nhwj->nhw", d, torch.linalg.inv(cov), d)
    alpha = (gaussians.opacities[kept, None, None] * power.exp()).clamp_max(0.999)
    # The reference rasterizer cuts a splat to the 16-pixel blocks that its square of 3 sigma touches.
    low, high = torch.linalg.eigvalsh(cov.detach()).unbind(-1)
    longest = (low + high) / 2 + ((high - low) / 2).clamp_min(0.1**0.5)
    radius = torch.ceil(3 * longest.sqrt())[:, None]
    first = torch.floor((centre.detach() - 0.5 - radius) / 16)[:, None, None]
    last = torch.floor((centre.detach() - 0.5 + radius + 15) / 16)[:, None, None]
    inside = ((pixels // 16 >= first) & (pixels // 16 < last)).all(-1)
    alpha = torch.where(inside & (alpha >= 1 / 255), alpha, 0.0)
    after = torch.cumprod(1 - alpha, 0)
    is_open = after > 1e-4
    before = torch.cat([torch.ones_like(after[:1]), after[:-1]])
    weight = torch.where(is_open, alpha * before, 0.0)
    return torch.einsum("nhw,nc->chw", weight, gaussians.colors[kept]), weight.sum(0)


def golden_arrays(
    gaussians: torch.Tensor, cameras: Cameras, v_image: torch.Tensor, v_alpha: torch.Tensor
) -> dict[str, np.ndarray]:
    """What a splat golden file holds, in float64 from the oracle: 14 parameters [n, 14] seen on white."""
    parameters = gaussians.double().requires_grad_()
    means, opacities, scales, quats, colors = parameters.split([3, 1, 3, 4, 3], -1)
    seen = [
        oracle(Gaussians(means, quats, scales, opacities[:, 0], colors), cameras[i])
        for i in range(len(cameras.fovy_rad))
    ]
    alpha = torch.stack([alpha for _, alpha in seen])[:, None]
    image = torch.stack([rgb for rgb, _ in seen]) + 1 - alpha
    (grad,) = torch.autograd.grad((image, alpha), parameters, (v_image.double(), v_alpha.double()))
    arrays = {
        "gaussians": gaussians,
        "c2w_opencv": cameras.T_world_camera,
        "fovy_deg": torch.tensor(math.degrees(float(cameras.fovy_rad[0]))),
        "background": torch.ones(3),
        "image": image,
        "alpha": alpha,
        "v_image": v_image,
        "v_alpha": v_alpha,
        "grad_gaussians": grad,
    }
    return {name: value.detach().numpy().astype(np.float32) for name, value in arrays.items()}
