"""Columns of lookups taken apart and put together: groups of tables answer for some of a model's columns each."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.library import register_fake

from embpress.kernels.autograd import again
from embpress.kernels.define import define
from embpress.kernels.reference.columns import check_join_columns, check_take_columns

define("take_columns(Tensor ids, Tensor columns) -> Tensor")
define("join_columns(Tensor[] parts, Tensor places) -> Tensor")


def take_columns(ids: Tensor, columns: Tensor) -> Tensor:
    """Columns `(T,)` int64 of ids `(B, F)` int32 or int64, `(B, T)`; or of rows `(B, F, D)` of any dtype, `(B, T, D)`.

    Nothing is differentiated.

    Raises:
        DtypeError, ArgumentError: types and shapes; a column that is not there.
    """
    try:
        return torch.ops.embpress.take_columns.default(ids, columns)
    except Exception as error:
        return again(error, None, (), check_take_columns, (ids, columns))


def join_columns(parts: Sequence[Tensor], places: Tensor) -> Tensor:
    """Parts `(B, T_g, D)` of one dtype in one tensor `(B, F, D)`, `F = Σ T_g`; for serving, where nothing is
    differentiated or traced.

    Args:
        parts: at least one.
        places: `(F,)` int64, the column of each part's columns one after another; each from 0 to F - 1 once.

    Raises:
        DtypeError, ArgumentError: types and shapes; a place that is not there.
    """
    try:
        return torch.ops.embpress.join_columns.default(parts, places)
    except Exception as error:
        return again(error, None, (), check_join_columns, (parts, places))


@register_fake("embpress::take_columns")
def _(ids: Any, columns: Any) -> Tensor:
    check_take_columns(ids, columns)
    return ids.new_empty(ids.shape[0], columns.shape[0], *ids.shape[2:])


@register_fake("embpress::join_columns")
def _(parts: Any, places: Any) -> Tensor:
    check_join_columns(parts, places)
    return parts[0].new_empty(parts[0].shape[0], places.shape[0], parts[0].shape[2])
