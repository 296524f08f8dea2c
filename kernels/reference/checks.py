"""Whether ids and offsets are right, in plain PyTorch."""

from __future__ import annotations

import functools
import os
from typing import Any

import torch
from torch import Tensor

from embpress.kernels.arguments import integers, longs, shaped, whole
from embpress.kernels.errors import ArgumentError, IdOutOfRange, offsets_decrease, offsets_end, offsets_start


def looks_at(values: Tensor) -> bool:
    """Whether ids and offsets are checked by their values.

    Always on CPU; on CUDA, where looking means waiting for the device, with `EMBPRESS_CHECK=1`.
    """
    return values.device.type == "cpu" or (values.device.type != "meta" and os.environ.get("EMBPRESS_CHECK") == "1")


def check_arguments_of_ids(ids: Tensor, rows: Tensor, row_offsets: Tensor | None, tables: Tensor | None) -> None:
    """Raises for types and shapes that `ops.check_ids` does not take."""
    integers("ids", ids)
    count = longs("rows", rows, "T").shape[0]
    if row_offsets is not None:
        longs("row_offsets", row_offsets, count)
    if tables is not None:
        longs("tables", tables, *ids.shape)
    elif count == 0 or (count > 1 and (ids.dim() == 0 or ids.shape[-1] != count)):
        raise ArgumentError(f"ids must be of shape (…, {count}), a column a table, got {tuple(ids.shape)}")


def check_ids(ids: Tensor, rows: Tensor, row_offsets: Tensor | None = None, tables: Tensor | None = None) -> Tensor:
    """See `ops.check_ids`."""
    check_arguments_of_ids(ids, rows, row_offsets, tables)
    if looks_at(ids) and ids.numel():
        if tables is not None and bool(((tables < 0) | (tables >= rows.shape[0])).any()):
            raise ArgumentError(f"tables must be numbers below {rows.shape[0]}")
        wrong = (ids < 0) | (ids >= (rows if tables is None else rows[tables]))
        if bool(wrong.any()):
            at = int(wrong.flatten().nonzero()[0])
            t = at % rows.shape[0] if tables is None else int(tables.flatten()[at])
            raise IdOutOfRange(int(ids.flatten()[at]), int(rows[t]), t)
    if row_offsets is None:
        return ids.to(torch.int64, copy=True)
    return ids + (row_offsets if tables is None else row_offsets[tables])


def check_arguments_of_offsets(offsets: Tensor, size: int, include_last_offset: bool) -> None:
    """Raises for types and shapes that `ops.check_offsets` does not take."""
    shaped("offsets", integers("offsets", offsets), "B")
    whole("size", size, 0)
    if include_last_offset and offsets.shape[0] == 0:
        raise ArgumentError("offsets with include_last_offset=True must hold at least the last offset")


def check_offsets(offsets: Tensor, size: int, include_last_offset: bool = True) -> Tensor:
    """See `ops.check_offsets`."""
    check_arguments_of_offsets(offsets, size, include_last_offset)
    last = () if include_last_offset else (offsets.new_full((1,), size, dtype=torch.int64),)
    bounds = torch.cat([offsets, *last]) if last else offsets.to(torch.int64, copy=True)
    if looks_at(offsets):
        first, end = int(bounds[0]), int(bounds[-1])
        if first != 0:
            raise offsets_start(first)
        if end != size:
            raise offsets_end(size, end)
        if bool((bounds[1:] < bounds[:-1]).any()):
            raise offsets_decrease()
    return bounds


def checked(ids: Tensor, rows: Tensor, row_offsets: Tensor | None = None) -> Tensor:
    """`check_ids` as the dispatcher has it: compiled, where it is."""
    return _op()(ids, rows, row_offsets, None)


@functools.cache
def _op() -> Any:
    return torch.ops.embpress.check_ids.default  # which `ops` defines, later than this
