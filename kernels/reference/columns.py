"""Columns of lookups taken apart and put together, in plain PyTorch."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from embpress.kernels.arguments import integers, longs, shaped, tensor
from embpress.kernels.errors import ArgumentError


def check_take_columns(ids: Tensor, columns: Tensor) -> None:
    """Raises for types and shapes that `ops.take_columns` does not take."""
    if tensor("ids", ids).dim() == 3:
        shaped("rows", ids, "B", "F", "D")
    else:
        shaped("ids", integers("ids", ids), "B", "F")
    shaped("columns", longs("columns", columns, ...), "T")


def take_columns(ids: Tensor, columns: Tensor) -> Tensor:
    """See `ops.take_columns`."""
    check_take_columns(ids, columns)
    return ids.index_select(1, columns)


def check_join_columns(parts: Sequence[Tensor], places: Tensor) -> None:
    """Raises for types and shapes that `ops.join_columns` does not take."""
    if not parts:
        raise ArgumentError("there are no parts to join")
    for part in parts:
        shaped("a part", tensor("a part", part), parts[0].shape[0], "T", parts[0].shape[2])
        if part.dtype != parts[0].dtype:
            raise ArgumentError(f"parts must have one dtype, got {parts[0].dtype} and {part.dtype}")
    longs("places", places, sum(part.shape[1] for part in parts))


def join_columns(parts: Sequence[Tensor], places: Tensor) -> Tensor:
    """See `ops.join_columns`."""
    check_join_columns(parts, places)
    return torch.cat(list(parts), dim=1).index_select(1, places.argsort())
