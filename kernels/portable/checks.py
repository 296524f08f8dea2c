"""Ids and offsets that somebody else has looked at: who makes the program sees to it."""

from __future__ import annotations

import torch
from torch import Tensor


def check_ids(ids: Tensor, rows: Tensor, row_offsets: Tensor | None = None, tables: Tensor | None = None) -> Tensor:
    """See `ops.check_ids`."""
    if row_offsets is None:
        return ids.to(torch.int64, copy=True)
    return ids + (row_offsets if tables is None else row_offsets[tables])


def check_offsets(offsets: Tensor, size: int, include_last_offset: bool = True) -> Tensor:
    """See `ops.check_offsets`."""
    if include_last_offset:
        return offsets.to(torch.int64, copy=True)
    return torch.cat([offsets.long(), offsets.new_full((1,), size, dtype=torch.int64)])
