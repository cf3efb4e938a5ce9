"""Base of the frozen dataclasses of tensors: moved, indexed, joined and taken apart as one value."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from typing import Any, TypeVar

import torch
from torch import Tensor

Record = TypeVar("Record", bound="TensorRecord")


@dataclass(frozen=True)
class TensorRecord:
    """A frozen dataclass of tensors, of further records, and of values that all rows share (sizes, names, None)."""

    def map(self: Record, function: Callable[[Tensor], Tensor]) -> Record:
        """The same record with ``function`` applied to each tensor, nested ones too; shared values stay."""

        def mapped(value: Any) -> Any:
            if isinstance(value, TensorRecord):
                return value.map(function)
            return function(value) if isinstance(value, Tensor) else value

        return replace(self, **{f.name: mapped(getattr(self, f.name)) for f in fields(self)})

    def to(self: Record, device: torch.device | str) -> Record:
        """The record with all tensors on ``device``; those that are there already are not copied."""
        return self.map(lambda tensor: tensor.to(device))

    def __getitem__(self: Record, index: Any) -> Record:
        """Each tensor indexed alike, along the leading (batch) dimensions."""
        return self.map(lambda tensor: tensor[index])

    def leaves(self) -> dict[str, Tensor]:
        """All tensors by their dotted names (``cameras.fovy_rad``), in the order of the fields."""
        found: dict[str, Tensor] = {}
        for field in fields(self):
            value = getattr(self, field.name)
            if isinstance(value, TensorRecord):
                found |= {f"{field.name}.{name}": leaf for name, leaf in value.leaves().items()}
            elif isinstance(value, Tensor):
                found[field.name] = value
        return found

    def with_leaves(self: Record, leaves: Mapping[str, Tensor]) -> Record:
        """The same record around other tensors, named as :meth:`leaves` names them; shared values stay.

        Raises:
            ValueError: a tensor is missing, or one has no place here.
        """
        if set(leaves) != set(self.leaves()):
            raise ValueError(
                f"these tensors do not fit {type(self).__name__}: {sorted(set(leaves) ^ set(self.leaves()))}"
            )
        rest = iter([leaves[name] for name in self.leaves()])
        return self.map(lambda _: next(rest))

    @classmethod
    def cat(cls: type[Record], records: Sequence[Record], dim: int = 0) -> Record:
        """Records joined along a dimension that all their tensors have.

        Args:
            dim: counted from the front, as tensors differ in their trailing dimensions.

        Raises:
            ValueError: no records, or some that differ in a shared value or in the tensors that they hold.
        """
        if not records:
            raise ValueError(f"no {cls.__name__} to join")
        if dim < 0:
            raise ValueError(f"dim {dim}: count from the front, tensors differ in their trailing dimensions")
        parts = [record.leaves() for record in records]
        shared = [_shared(record) for record in records]
        if any(part.keys() != parts[0].keys() for part in parts) or any(values != shared[0] for values in shared):
            raise ValueError(f"{cls.__name__}: records that differ in more than their rows cannot be joined")
        return records[0].with_leaves({name: torch.cat([part[name] for part in parts], dim) for name in parts[0]})


def _shared(record: TensorRecord) -> list[Any]:
    """What of a record is no tensor, nested records included, in the order of the fields."""
    values: list[Any] = []
    for field in fields(record):
        value = getattr(record, field.name)
        if isinstance(value, TensorRecord):
            values += _shared(value)
        elif not isinstance(value, Tensor):
            values.append(value)
    return values
