"""Bundles of tensors that are sliced, moved and copied together."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import fields, replace
from typing import Any, TypeVar

import torch
from torch import Tensor

Kind = TypeVar("Kind", bound="Bundle")


class Bundle:
    """Base of dataclasses whose fields are tensors, lists of tensors, other bundles, None, or plain values."""

    def tensors(self) -> tuple[Tensor | None, ...]:
        """The tensors of all fields in their order, None where one is left out."""
        found: list[Tensor | None] = []
        for value in self._values().values():
            if isinstance(value, Bundle):
                found += value.tensors()
            elif isinstance(value, list):
                found += value
            elif value is None or isinstance(value, Tensor):
                found.append(value)
        return tuple(found)

    def each(self: Kind, change: Callable[[Tensor], Tensor]) -> Kind:
        """The same with every tensor changed."""
        changed: dict[str, Any] = {}
        for name, value in self._values().items():
            if isinstance(value, Bundle):
                changed[name] = value.each(change)
            elif isinstance(value, list):
                changed[name] = [change(tensor) for tensor in value]
            elif isinstance(value, Tensor):
                changed[name] = change(value)
        return replace(self, **changed)  # type: ignore[type-var]

    def named(self) -> dict[str, Tensor]:
        """The fields that are tensors, by name."""
        return {name: value for name, value in self._values().items() if isinstance(value, Tensor)}

    def __getitem__(self: Kind, rows: slice) -> Kind:
        """The same with those rows of every tensor [B, ...]."""
        return self.each(lambda values: values[rows])

    def to(self: Kind, device: torch.device) -> Kind:
        """The same on a device."""
        return self.each(lambda values: values.to(device))

    def detach(self: Kind) -> Kind:
        """The same without the way back to what it was computed from."""
        return self.each(torch.Tensor.detach)

    def _values(self) -> dict[str, Any]:
        return {field.name: getattr(self, field.name) for field in fields(self)}  # type: ignore[arg-type]
