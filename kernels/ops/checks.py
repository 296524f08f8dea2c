"""Ids and offsets looked at inside an op, where neither torch.compile nor torch.export sees values."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.library import register_fake

from embpress.kernels.autograd import again
from embpress.kernels.define import define
from embpress.kernels.reference.checks import check_arguments_of_ids, check_arguments_of_offsets

define("check_ids(Tensor ids, Tensor rows, Tensor? row_offsets, Tensor? tables) -> Tensor")
define("check_offsets(Tensor offsets, SymInt size, bool include_last_offset) -> Tensor")


def check_ids(ids: Tensor, rows: Tensor, *, row_offsets: Tensor | None = None, tables: Tensor | None = None) -> Tensor:
    """Ids that are in range, as rows of all tables: what a method without an op of its own looks up.

    The check is a part of what is computed, not beside it: take the result, and no compiler leaves the check out.

    Args:
        ids: int32 or int64, `(…, T)`, the last dimension the table; of any shape where T is 1, or with `tables`.
        rows: `(T,)` int64, the rows of each table.
        row_offsets: `(T,)` int64, what to add to the ids of each table; None: nothing.
        tables: int64 of the ids' shape: the table of each id.

    Returns:
        int64 of the ids' shape, a tensor of its own.

    Raises:
        IdOutOfRange: an IndexError with the id and the table's number. On CUDA ids are only looked at with the
            environment variable `EMBPRESS_CHECK=1`, which waits for the GPU. DtypeError, ArgumentError: types and
            shapes.
    """
    arguments = (ids, rows, row_offsets, tables)
    try:
        return torch.ops.embpress.check_ids.default(*arguments)
    except Exception as error:
        return again(error, None, (), check_arguments_of_ids, arguments)


def check_offsets(offsets: Tensor, size: int, *, include_last_offset: bool = True) -> Tensor:
    """Offsets that make bags of `size` lookups: they start at 0, do not decrease and end at `size`.

    Args:
        offsets: int32 or int64, `(B + 1,)`.
        size: how many lookups there are.
        include_last_offset: False: the last offset is missing, `(B,)`.

    Returns:
        `(B + 1,)` int64 with the last one, a tensor of its own.

    Raises:
        OffsetsError: a ValueError. On CUDA as in `check_ids`. DtypeError, ArgumentError: types and shapes.
    """
    arguments = (offsets, size, include_last_offset)
    try:
        return torch.ops.embpress.check_offsets.default(*arguments)
    except Exception as error:
        return again(error, None, (), check_arguments_of_offsets, arguments)


@register_fake("embpress::check_ids")
def _(ids: Any, rows: Any, row_offsets: Any, tables: Any) -> Tensor:
    check_arguments_of_ids(ids, rows, row_offsets, tables)
    return torch.empty(ids.shape, dtype=torch.int64, device=ids.device)


@register_fake("embpress::check_offsets")
def _(offsets: Any, size: int, include_last_offset: bool) -> Tensor:
    check_arguments_of_offsets(offsets, size, include_last_offset)
    return offsets.new_empty(offsets.shape[0] + (not include_last_offset), dtype=torch.int64)
