"""Bags of rows put together from rows of part tables, pooled inside."""

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
from embpress.kernels.errors import ArgumentError
from embpress.kernels.reference.compositional import COMBINE
from embpress.kernels.reference.compositional_bags import check_compositional_bags

_BAGS = (
    "Tensor ids, Tensor offsets, Tensor? weights, Tensor row_offsets, Tensor rows, Tensor coefficients, Tensor base, "
    "Tensor sizes, int combine, bool mean"
)
define(f"compositional_bags(Tensor weight, {_BAGS}) -> Tensor")
define(f"compositional_bags_train(Tensor weight, {_BAGS}, bool sparse) -> Tensor")
define(f"compositional_bags_backward(Tensor grad, Tensor weight, {_BAGS}) -> (Tensor, Tensor)")
define(f"compositional_bags_rows_backward(Tensor grad, Tensor weight, {_BAGS}) -> (Tensor, Tensor, Tensor)")


def compositional_bags(
    weight: Tensor,
    ids: Tensor,
    offsets: Tensor,
    weights: Tensor | None = None,
    *,
    row_offsets: Tensor,
    rows: Tensor,
    coefficients: Tensor,
    base: Tensor,
    sizes: Tensor,
    combine: str,
    mean: bool = False,
    sparse: bool = False,
) -> Tensor:
    """Bags of the rows that `compositional_lookup` gives, summed or averaged; no row is written down on the way.

    Args:
        weight, row_offsets, rows, coefficients, base, sizes, combine: see `compositional_lookup`.
        ids: `(N,)` int32 or int64, table after table. Hashed ones are below 2^31.
        offsets: `(T B + 1,)` int64: bag b of table t is `ids[offsets[t B + b] : offsets[t B + b + 1]]`.
        weights: `(N,)` of the weight's dtype, what each row counts for in a sum; None for 1.
        mean: divide by the number of ids; an empty bag stays zero.
        sparse: the weight's gradient is a sparse tensor of the rows that were looked up, coalesced.

    Returns:
        `(T B, D)` of the weight's dtype, differentiable once in `weight` and `weights`, on every device in a fixed
        order. Sums and products are made in float32 at least.

    Raises:
        IdOutOfRange: an IndexError with the id and the table's number. OffsetsError: offsets that make no bags of the
            ids. Both on CUDA with `EMBPRESS_CHECK=1` only. DtypeError, ArgumentError: types and shapes, an unknown
            `combine`, weights of means. NotDifferentiable: a second derivative.
    """
    if combine not in COMBINE:
        raise ArgumentError(f"combine={combine!r} is not one of {', '.join(COMBINE)}")
    known = (row_offsets, rows, coefficients, base, sizes, COMBINE.index(combine), mean)
    arguments = (weight, ids, offsets, weights, *known)
    try:
        if wants_gradient((weight,), () if weights is None else (weights,)):
            if is_direct():
                return _DIRECT(*arguments, sparse)
            return torch.ops.embpress.compositional_bags_train.default(*arguments, sparse)
        return torch.ops.embpress.compositional_bags.default(*arguments)
    except Exception as error:
        return again(error, _TRAIN, (*arguments, sparse), check_compositional_bags, arguments)


def _out(weight: Any, offsets: Any, base: Any, combine: int) -> Tensor:
    parts = base.shape[1] if COMBINE[combine] == "concat" else 1
    return weight.new_empty(offsets.shape[0] - 1, parts * weight.shape[1])


@register_fake("embpress::compositional_bags")
def _(weight: Any, ids: Any, offsets: Any, weights: Any, *known: Any) -> Tensor:
    check_compositional_bags(weight, ids, offsets, weights, *known)
    return _out(weight, offsets, known[3], known[5])


@register_fake("embpress::compositional_bags_train")
def _(weight: Any, ids: Any, offsets: Any, weights: Any, *known: Any) -> Tensor:
    check_compositional_bags(weight, ids, offsets, weights, *known[:-1])
    return _out(weight, offsets, known[3], known[5])


@register_fake("embpress::compositional_bags_backward")
def _(grad: Any, weight: Any, ids: Any, offsets: Any, weights: Any, *known: Any) -> tuple[Tensor, Tensor]:
    of_weights = weight.new_empty((0,) if weights is None else weights.shape)
    return torch.empty_like(weight, memory_format=torch.contiguous_format), of_weights


@register_fake("embpress::compositional_bags_rows_backward")
def _(grad: Any, weight: Any, ids: Any, offsets: Any, weights: Any, *known: Any) -> tuple[Tensor, Tensor, Tensor]:
    found = room(weight)
    of_weights = weight.new_empty((0,) if weights is None else weights.shape)
    return ids.new_empty(found, dtype=torch.int64), weight.new_empty(found, weight.shape[1]), of_weights


def _setup(ctx: Any, inputs: Any, output: Any) -> None:
    *tensors, ctx.combine, ctx.mean, ctx.sparse = inputs
    ctx.save_for_backward(*tensors)
    ctx.set_materialize_grads(False)


def _backward(ctx: Any, grad: Tensor | None) -> Any:
    if grad is None:
        return (None,) * 12
    weight, ids, offsets, weights, *known = ctx.saved_tensors
    arguments = (grad, weight, ids, offsets, weights, *known, ctx.combine, ctx.mean)
    if ctx.sparse:
        rows, values, of_weights = _gradient_rows(*arguments)
        made = gradient_of_rows(rows, values, weight)
    else:
        made, of_weights = _gradient(*arguments)
    return made, None, None, None if weights is None else of_weights, *(None,) * 8


_gradient = backward_op("compositional_bags_backward")
_gradient_rows = backward_op("compositional_bags_rows_backward")
_DIRECT = direct("compositional_bags", _setup, _backward)
_TRAIN = differentiable("compositional_bags_train", _setup, _backward)
