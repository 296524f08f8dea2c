"""MLET's bags: inner rows are pooled, then projected."""

from __future__ import annotations

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
from embpress.kernels.define import define, room
from embpress.kernels.reference.mlet_bags import check_mlet_bags

_BAGS = (
    "Tensor table, Tensor projections, Tensor ids, Tensor offsets, Tensor? weights, Tensor row_offsets, Tensor rows, "
    "bool mean"
)
define(f"mlet_bags({_BAGS}) -> Tensor")
define(f"mlet_bags_train({_BAGS}, bool sparse) -> Tensor")
define(f"mlet_bags_backward(Tensor grad, {_BAGS}) -> (Tensor, Tensor, Tensor)")
define(f"mlet_bags_rows_backward(Tensor grad, {_BAGS}) -> (Tensor, Tensor, Tensor, Tensor)")


def mlet_bags(
    table: Tensor,
    projections: Tensor,
    ids: Tensor,
    offsets: Tensor,
    weights: Tensor | None = None,
    *,
    row_offsets: Tensor,
    rows: Tensor,
    mean: bool = False,
    sparse: bool = False,
) -> Tensor:
    """Bags of the rows that `mlet_lookup` gives, summed or averaged: the sum of inner rows times the projection.

    Args:
        table, projections, row_offsets, rows: see `mlet_lookup`.
        ids: `(N,)` int32 or int64, table after table.
        offsets: `(T B + 1,)` int64: bag b of table t is `ids[offsets[t B + b] : offsets[t B + b + 1]]`.
        weights: `(N,)` of the table's dtype, what each row counts for in a sum; None for 1.
        mean: divide by the number of ids; an empty bag stays zero.
        sparse: the table's gradient is a sparse tensor of the rows that were looked up, coalesced.

    Returns:
        `(T B, D)` of the table's dtype, differentiable once in `table`, `projections` and `weights`, on every device
        in a fixed order. Sums and products are made in float32 at least.

    Raises:
        IdOutOfRange: an IndexError with the id and the table's number. OffsetsError: offsets that make no bags of the
            ids. Both on CUDA with `EMBPRESS_CHECK=1` only. DtypeError, ArgumentError: types and shapes, weights of
            means. NotDifferentiable: a second derivative.
    """
    arguments = (table, projections, ids, offsets, weights, row_offsets, rows, mean)
    try:
        if wants_gradient((table, projections), () if weights is None else (weights,)):
            if is_direct():
                return _DIRECT(*arguments, sparse)
            return torch.ops.embpress.mlet_bags_train.default(*arguments, sparse)
        return torch.ops.embpress.mlet_bags.default(*arguments)
    except Exception as error:
        return again(error, _TRAIN, (*arguments, sparse), check_mlet_bags, arguments)


@register_fake("embpress::mlet_bags")
def _(table: Any, projections: Any, ids: Any, offsets: Any, *known: Any) -> Tensor:
    check_mlet_bags(table, projections, ids, offsets, *known)
    return table.new_empty(offsets.shape[0] - 1, projections.shape[2])


@register_fake("embpress::mlet_bags_train")
def _(table: Any, projections: Any, ids: Any, offsets: Any, *known: Any) -> Tensor:
    check_mlet_bags(table, projections, ids, offsets, *known[:-1])
    return table.new_empty(offsets.shape[0] - 1, projections.shape[2])


def _others(table: Any, projections: Any, weights: Any) -> tuple[Tensor, Tensor]:
    return (
        torch.empty_like(projections, memory_format=torch.contiguous_format),
        table.new_empty((0,) if weights is None else weights.shape),
    )


@register_fake("embpress::mlet_bags_backward")
def _(
    grad: Any, table: Any, projections: Any, ids: Any, offsets: Any, weights: Any, *known: Any
) -> tuple[Tensor, Tensor, Tensor]:
    made = torch.empty_like(table, memory_format=torch.contiguous_format)
    return made, *_others(table, projections, weights)


@register_fake("embpress::mlet_bags_rows_backward")
def _(
    grad: Any, table: Any, projections: Any, ids: Any, offsets: Any, weights: Any, *known: Any
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    found = room(table)
    values = table.new_empty(found, table.shape[1])
    return ids.new_empty(found, dtype=torch.int64), values, *_others(table, projections, weights)


def _setup(ctx: Any, inputs: Any, output: Any) -> None:
    *tensors, ctx.mean, ctx.sparse = inputs
    ctx.save_for_backward(*tensors)
    ctx.set_materialize_grads(False)


def _backward(ctx: Any, grad: Tensor | None) -> Any:
    if grad is None:
        return (None,) * 9
    table, _, _, _, weights, *_ = ctx.saved_tensors
    if ctx.sparse:
        rows, values, *others = _gradient_rows(grad, *ctx.saved_tensors, ctx.mean)
        made = gradient_of_rows(rows, values, table)
    else:
        made, *others = _gradient(grad, *ctx.saved_tensors, ctx.mean)
    of_projections, of_weights = others
    return made, of_projections, None, None, None if weights is None else of_weights, *(None,) * 4


_gradient = backward_op("mlet_bags_backward")
_gradient_rows = backward_op("mlet_bags_rows_backward")
_DIRECT = direct("mlet_bags", _setup, _backward)
_TRAIN = differentiable("mlet_bags_train", _setup, _backward)
