"""MLET: rows that are products of inner rows and a projection."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.library import register_fake

from embpress.kernels.autograd import (
    again,
    backward_op,
    differentiable,
    direct,
    gradient_of_rows,
    is_direct,
    wants_gradient,
)
from embpress.kernels.define import backend, define, room
from embpress.kernels.reference.mlet import check_mlet

_LOOKUP = "Tensor table, Tensor projections, Tensor ids, Tensor row_offsets, Tensor rows"
define(f"mlet_lookup({_LOOKUP}) -> Tensor")
define(f"mlet_lookup_train({_LOOKUP}, bool sparse=False) -> (Tensor, Tensor)")
define(f"mlet_lookup_backward(Tensor grad, Tensor inner, {_LOOKUP}) -> (Tensor, Tensor)")
define(f"mlet_lookup_rows_backward(Tensor grad, Tensor inner, {_LOOKUP}) -> (Tensor, Tensor, Tensor)")


def mlet_lookup(
    table: Tensor, projections: Tensor, ids: Tensor, *, row_offsets: Tensor, rows: Tensor, sparse: bool = False
) -> Tensor:
    """Rows of `T` tables that are products: id i of table t is `table[row_offsets[t] + i] @ projections[t]` (MLET).

    Args:
        table: `(Σ rows, k)`, the inner tables.
        projections: `(T, k, D)`, of the same dtype.
        ids: `(N, T)` int32 or int64.
        row_offsets: `(T,)` int64, where the rows of a table start; in ascending order.
        rows: `(T,)` int64, the rows of each table.
        sparse: the table's gradient is a sparse tensor of the rows that were looked up, coalesced.

    Returns:
        `(N, T, D)` of the table's dtype, differentiable once in `table` and `projections`, on every device in a fixed
        order; where no gradient is wanted, no autograd is involved. Products are summed in float32 at least.

    Raises:
        IdOutOfRange: an IndexError with the id and the table's number. On CUDA ids are only looked at with the
            environment variable `EMBPRESS_CHECK=1`, which waits for the GPU; without it an id out of range is a row of
            zeros without gradient. DtypeError, ArgumentError: types and shapes. NotDifferentiable: a second derivative.
    """
    arguments = (table, projections, ids, row_offsets, rows)
    try:
        if wants_gradient((table, projections)):
            if is_direct() and backend("mlet_lookup_train", table.device.type) == "native":
                return _DIRECT(*arguments, sparse)
            return torch.ops.embpress.mlet_lookup_train.default(*arguments, sparse)[0]
        return torch.ops.embpress.mlet_lookup.default(*arguments)
    except Exception as error:
        return again(error, _TRAIN, (*arguments, sparse), check_mlet, arguments)[0]


def mlet_gradient(
    grad: Tensor,
    table: Tensor,
    projections: Tensor,
    ids: Tensor,
    *,
    row_offsets: Tensor,
    rows: Tensor,
    sparse: bool = False,
) -> tuple[Tensor, Tensor]:
    """The gradients in `table` and `projections` of rows that `mlet_lookup` has returned.

    Args:
        grad: `(N, T, D)`, of these rows.
        table, projections, ids, row_offsets, rows, sparse: as there; compiled ops only.
    """
    return _gradients(grad, table[:0, 0], (table, projections, ids, row_offsets, rows), sparse)


def _gradients(grad: Tensor, inner: Tensor, lookup: Sequence[Tensor], sparse: bool) -> tuple[Tensor, Tensor]:
    if not sparse:
        of_table, of_projections = _gradient(grad, inner, *lookup)
        return of_table, of_projections
    rows, values, of_projections = _gradient_rows(grad, inner, *lookup)
    return gradient_of_rows(rows, values, lookup[0]), of_projections


@register_fake("embpress::mlet_lookup")
def _(table: Any, projections: Any, ids: Any, row_offsets: Any, rows: Any) -> Tensor:
    check_mlet(table, projections, ids, row_offsets, rows)
    return table.new_empty(*ids.shape, projections.shape[2])


@register_fake("embpress::mlet_lookup_train")
def _(
    table: Any, projections: Any, ids: Any, row_offsets: Any, rows: Any, sparse: bool = False
) -> tuple[Tensor, Tensor]:
    check_mlet(table, projections, ids, row_offsets, rows)
    return table.new_empty(*ids.shape, projections.shape[2]), table.new_empty(room(table))


@register_fake("embpress::mlet_lookup_backward")
def _(grad: Any, inner: Any, table: Any, projections: Any, *others: Any) -> tuple[Tensor, Tensor]:
    return (
        torch.empty_like(table, memory_format=torch.contiguous_format),
        torch.empty_like(projections, memory_format=torch.contiguous_format),
    )


@register_fake("embpress::mlet_lookup_rows_backward")
def _(grad: Any, inner: Any, table: Any, projections: Any, ids: Any, *others: Any) -> tuple[Tensor, Tensor, Tensor]:
    found = room(table)
    return (
        ids.new_empty(found, dtype=torch.int64),
        table.new_empty(found, table.shape[1]),
        torch.empty_like(projections, memory_format=torch.contiguous_format),
    )


def _setup(ctx: Any, inputs: Any, output: Any) -> None:
    *tensors, ctx.sparse = inputs
    _, inner = output
    ctx.save_for_backward(inner, *tensors)
    ctx.mark_non_differentiable(inner)
    ctx.set_materialize_grads(False)


def _setup_direct(ctx: Any, inputs: Any, output: Any) -> None:
    *tensors, ctx.sparse = inputs
    ctx.save_for_backward(tensors[0][:0, 0], *tensors)  # compiled ops keep no inner rows
    ctx.set_materialize_grads(False)


def _backward(ctx: Any, grad: Tensor | None, _: Any = None) -> Any:
    if grad is None:
        return (None,) * 6
    inner, *lookup = ctx.saved_tensors
    return *_gradients(grad, inner, lookup, ctx.sparse), None, None, None, None


_gradient = backward_op("mlet_lookup_backward")
_gradient_rows = backward_op("mlet_lookup_rows_backward")
_DIRECT = direct("mlet_lookup", _setup_direct, _backward)
_TRAIN = differentiable("mlet_lookup_train", _setup, _backward)
