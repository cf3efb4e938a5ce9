"""The CPU backend of :mod:`partrm.rendering.splats`: numba kernels on a few threads, as one autograd function.

Threads take interleaved tiles of every image, and each adds to gradient sums of its own, so that nothing is shared and
a run repeats exactly. Plain threads over kernels that release the GIL (rather than numba's ``prange``) keep the
renderer usable from several threads at a time and after a fork, and leave inner loops that LLVM vectorises.
"""

import os
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
import torch
from einops import rearrange
from jaxtyping import Float, Int
from torch import Tensor
from torch.autograd.function import once_differentiable

from partrm.geometry.cameras import Cameras
from partrm.geometry.gaussians import Gaussians
from partrm.rendering._cpu_splats import blending, projection

_MAX_THREADS = 16


@dataclass(frozen=True)
class _Job:
    """What does not depend on the Gaussians' values."""

    T_camera_world: Float[np.ndarray, "b v 4 4"]
    focal_px: Float[np.ndarray, "b v"]
    width: int
    height: int
    low_pass_px: float
    near: float

    @property
    def tiles_x(self) -> int:
        return -(-self.width // projection.TILE)

    @property
    def tiles_y(self) -> int:
        return -(-self.height // projection.TILE)


@dataclass(frozen=True)
class _View:
    """One image's projected Gaussians, binned, and its blended tiles (layout: ``_cpu_splat_projection``)."""

    splats: Float[np.ndarray, "n 8"]
    tiles: Int[np.ndarray, "n 4"]
    starts: Int[np.ndarray, "tiles_plus_1"]
    ids: Int[np.ndarray, "pairs"]
    image: Float[np.ndarray, "5 ty tx px"]


def rasterize(
    gaussians: Gaussians, cameras: Cameras, low_pass_px: float, near: float
) -> tuple[Float[Tensor, "b v 3 h w"], Float[Tensor, "b v h w"]]:
    """Premultiplied colour and alpha of ``gaussians`` [b, n] in ``cameras`` [b, v], differentiable in the Gaussians."""
    job = _Job(
        _array(cameras.T_camera_world), _array(cameras.focal_px), cameras.width, cameras.height, low_pass_px, near
    )
    values = (gaussians.means, gaussians.quats, gaussians.scales, gaussians.opacities, gaussians.colors)
    return _Rasterize.apply(job, *values)


class _Rasterize(torch.autograd.Function):
    @staticmethod
    def forward(ctx, job: _Job, *values: Tensor) -> tuple[Tensor, Tensor]:
        ctx.job, ctx.views = job, _render(job, [_array(value) for value in values])
        ctx.save_for_backward(*values)
        images = torch.stack([torch.stack([torch.from_numpy(v.image[:4]) for v in row]) for row in ctx.views])
        images = rearrange(images, "b v c ty tx (y x) -> b v c (ty y) (tx x)", y=projection.TILE)
        images = images[..., : job.height, : job.width].to(values[0].dtype)
        return images[:, :, :3].contiguous(), 1 - images[:, :, 3]

    @staticmethod
    @once_differentiable
    def backward(ctx, *image_grads: Tensor):  # pyright: ignore[reportIncompatibleMethodOverride]
        rgb_grad, alpha_grad = image_grads
        job, values = ctx.job, ctx.saved_tensors
        grad = torch.cat([rgb_grad, alpha_grad[:, :, None]], 2).float()
        padding = (0, job.tiles_x * projection.TILE - job.width, 0, job.tiles_y * projection.TILE - job.height)
        grad = torch.nn.functional.pad(grad, padding)
        grad = rearrange(grad, "b v c (ty y) (tx x) -> b v c ty tx (y x)", y=projection.TILE, x=projection.TILE)
        grads = torch.from_numpy(_render_backward(job, [_array(value) for value in values], ctx.views, _array(grad)))
        means, opacities, scales, quats, colors = grads.to(values[0].dtype).split([3, 1, 3, 4, 3], -1)
        return None, means, quats, scales, opacities.squeeze(-1), colors


def rasterize_states(
    states: Iterable[Gaussians], camera: Cameras, low_pass_px: float, near: float
) -> Iterator[tuple[Float[Tensor, "3 h w"], Float[Tensor, "h w"]]]:
    """Premultiplied colour and alpha of states [n] of the same Gaussians in a camera [1], one after another.

    Tiles that no Gaussian reaches that has changed since the state before are not blended anew: their images are equal.
    """
    job = _Job(_array(camera.T_camera_world)[None], _array(camera.focal_px)[None], camera.width, camera.height,
               low_pass_px, near)  # fmt: skip
    threads, last, tiles = _threads(), None, _empty_image(job)
    with ThreadPoolExecutor(threads) as pool:
        for state in states:
            fields = (state.means, state.quats, state.scales, state.opacities, state.colors)
            values = [_array(value[None]) for value in fields]
            view, colors = _prepare(job, values, (0, 0), tiles), values[-1][0]
            chosen = _all_tiles(job) if last is None else _changed_tiles(job, *last, view, colors)

            def blend(part: int, view: _View = view, colors: np.ndarray = colors, chosen: np.ndarray = chosen) -> None:
                arrays = (view.splats, colors, view.starts, view.ids, job.tiles_x, chosen)
                blending.blend(*arrays, part, threads, view.image)

            _run(pool, blend, range(threads))
            last = view, colors
            image = torch.from_numpy(view.image[:4])
            image = rearrange(image, "c ty tx (y x) -> c (ty y) (tx x)", y=projection.TILE)
            image = image[:, : job.height, : job.width].to(state.means.dtype)
            yield image[:3], 1 - image[3]


def _all_tiles(job: _Job) -> Int[np.ndarray, " tiles"]:
    return np.arange(job.tiles_x * job.tiles_y)


def _changed_tiles(
    job: _Job,
    before: _View,
    colors_before: Float[np.ndarray, "n 3"],
    after: _View,
    colors_after: Float[np.ndarray, "n 3"],
) -> Int[np.ndarray, " tiles"]:
    """Tiles that a Gaussian reaches, or has reached, whose splat or colour is another."""
    changed = (before.splats != after.splats).any(1) | (colors_before != colors_after).any(1)
    marks = np.zeros(job.tiles_x * job.tiles_y, bool)
    for view in (before, after):
        blending.mark_tiles(changed, view.tiles, job.tiles_x, marks)
    return np.flatnonzero(marks)


def _empty_image(job: _Job) -> Float[np.ndarray, "5 ty tx px"]:
    return np.empty((5, job.tiles_y, job.tiles_x, projection.TILE**2), np.float32)


def _prepare(
    job: _Job, values: list[np.ndarray], index: tuple[int, int], image: Float[np.ndarray, "5 ty tx px"]
) -> _View:
    """The Gaussians of a batch element projected to one of its cameras and binned; the image is still to be blended."""
    means, quats, scales, opacities, _ = (value[index[0]] for value in values)
    splats = np.empty((len(means), projection.SPLAT_WIDTH), np.float32)
    tiles = np.empty((len(means), 4), np.int32)
    camera = (job.T_camera_world[index], float(job.focal_px[index]), job.width, job.height)
    projection.project(means, quats, scales, opacities, *camera, job.low_pass_px, job.near, splats, tiles)
    order = blending.sort_by_depth(np.ascontiguousarray(splats[:, projection.DEPTH]).view(np.uint32))
    starts, ids = blending.bin_tiles(order, tiles, job.tiles_x, job.tiles_y)
    return _View(splats, tiles, starts, ids, image)


def _render(job: _Job, values: list[np.ndarray]) -> list[list[_View]]:
    """All images, rows by batch element."""
    batch, count = job.focal_px.shape
    threads, chosen = _threads(), _all_tiles(job)

    def blend(part: int) -> None:
        for (b, _), view in zip(indices, views, strict=True):
            arrays = (view.splats, values[-1][b], view.starts, view.ids)
            blending.blend(*arrays, job.tiles_x, chosen, part, threads, view.image)

    indices = [(b, v) for b in range(batch) for v in range(count)]
    with ThreadPoolExecutor(threads) as pool:
        views = list(pool.map(lambda index: _prepare(job, values, index, _empty_image(job)), indices))
        _run(pool, blend, range(threads))
    return [views[b * count : (b + 1) * count] for b in range(batch)]


def _render_backward(
    job: _Job, values: list[np.ndarray], views: list[list[_View]], image_grads: Float[np.ndarray, "b v 4 ty tx px"]
) -> Float[np.ndarray, "b n 14"]:
    """Gradient to mean, opacity, scale, quaternion and colour."""
    batch, n = values[0].shape[:2]
    threads = _threads()
    grads = np.zeros((batch, n, 14), np.float32)
    bounds = np.linspace(0, n, threads + 1).astype(int)
    with ThreadPoolExecutor(threads) as pool:
        for index in np.ndindex(job.focal_px.shape):
            b, v = index
            view = views[b][v]
            flat_grads = np.zeros((threads, n, projection.FLAT_GRAD_WIDTH), np.float32)

            def unblend(part: int, b=b, view=view, index=index, flat_grads=flat_grads) -> None:
                arrays = (view.splats, values[-1][b], view.starts, view.ids, job.tiles_x, part, threads)
                blending.blend_backward(*arrays, view.image, image_grads[index], flat_grads[part])

            def unproject(part: int, b=b, view=view, index=index, flat_grads=flat_grads) -> None:
                camera = (job.T_camera_world[index], float(job.focal_px[index]), job.width, job.height)
                means, quats, scales, opacities = (value[b] for value in values[:4])
                span = (int(bounds[part]), int(bounds[part + 1]))
                projection.project_backward(
                    means, quats, scales, opacities, *camera, view.splats, flat_grads, *span, grads[b]
                )

            _run(pool, unblend, range(threads))
            _run(pool, unproject, range(threads))
    return grads


def _run(pool: ThreadPoolExecutor, work: Callable[[int], None], parts: Iterable[int]) -> None:
    """Run the parts and raise what any of them raised."""
    for _ in pool.map(work, parts):
        pass


def _threads() -> int:
    return max(1, min(torch.get_num_threads(), os.cpu_count() or 1, _MAX_THREADS))


def _array(value: Tensor) -> np.ndarray:
    """A C-contiguous float32 array that may share the tensor's memory."""
    return np.ascontiguousarray(value.detach().to(torch.float32).numpy())
