"""Lossless packing of image-like tensors for sample files: differences along rows, bytes by significance, deflate."""

import zlib
from typing import Any

import numpy as np
import torch
from torch import Tensor

_UNSIGNED = {1: np.uint8, 2: np.uint16, 4: np.uint32, 8: np.uint64}


def pack(value: Tensor, axis: int) -> tuple[Tensor, dict[str, Any]]:
    """The bytes of a tensor, deflated, and what :func:`unpack` needs; neighbours along ``axis`` should be alike."""
    array = value.detach().cpu().contiguous().numpy()
    integers = array.view(_UNSIGNED[array.itemsize])
    steps = np.diff(integers, axis=axis, prepend=np.zeros_like(np.take(integers, [0], axis)))
    planes = np.ascontiguousarray(steps).reshape(-1).view(np.uint8).reshape(-1, array.itemsize).T
    deflated = np.frombuffer(zlib.compress(planes.tobytes(), 6), np.uint8)
    return torch.from_numpy(deflated.copy()), {"dtype": array.dtype.name, "shape": list(array.shape), "axis": axis}


def unpack(packed: Tensor, how: dict[str, Any]) -> Tensor:
    """Inverse of :func:`pack`.

    Raises:
        ValueError: the bytes are not those of such a tensor.
    """
    dtype, shape = np.dtype(how["dtype"]), tuple(how["shape"])
    try:
        planes = np.frombuffer(zlib.decompress(packed.numpy().tobytes()), np.uint8).reshape(dtype.itemsize, -1)
    except zlib.error as error:
        raise ValueError(f"broken packed bytes ({error})") from error
    unsigned = _UNSIGNED[dtype.itemsize]
    steps = np.ascontiguousarray(planes.T).view(unsigned).reshape(shape)
    return torch.from_numpy(np.cumsum(steps, axis=how["axis"], dtype=unsigned).view(dtype))
