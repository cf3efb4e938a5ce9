"""Frozen dataclasses of tensors, walked as one value: moved, indexed, joined."""

from dataclasses import fields, is_dataclass, replace
from typing import Any

import torch
from jaxtyping import Int
from torch import Tensor


def to_device(value: Any, device: torch.device | str) -> Any:
    """A copy of a (nested) dataclass of tensors on another device."""
    if isinstance(value, Tensor):
        return value.to(device)
    if is_dataclass(value) and not isinstance(value, type):
        return replace(value, **{f.name: to_device(getattr(value, f.name), device) for f in fields(value)})
    return value


def rows_of(value: Any, rows: slice | Int[Tensor, " rows"]) -> Any:
    """Some rows of every tensor of a nested dataclass, as views where they are a slice; what is no tensor stays."""
    if isinstance(value, Tensor):
        return value[rows]
    if not is_dataclass(value) or isinstance(value, type):
        return value
    return replace(value, **{field.name: rows_of(getattr(value, field.name), rows) for field in fields(value)})
