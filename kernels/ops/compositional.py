"""Rows put together from rows of part tables: hashing trick, QR."""

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
from embpress.kernels.errors import ArgumentError
from embpress.kernels.reference.compositional import COMBINE, check_compositional

_LOOKUP = "Tensor ids, Tensor row_offsets, Tensor rows, Tensor coefficients, Tensor base, Tensor sizes, int combine"
define(f"compositional_lookup(Tensor weight, {_LOOKUP}) -> Tensor")
define(f"compositional_lookup_train(Tensor weight, {_LOOKUP}, bool sparse=False) -> (Tensor, Tensor)")
define(f"compositional_lookup_backward(Tensor grad, Tensor weight, Tensor index, {_LOOKUP}) -> Tensor")
define(f"compositional_lookup_rows_backward(Tensor grad, Tensor weight, Tensor index, {_LOOKUP}) -> (Tensor, Tensor)")


def compositional_lookup(
    weight: Tensor,
    ids: Tensor,
    *,
    row_offsets: Tensor,
    rows: Tensor,
    coefficients: Tensor,
    base: Tensor,
    sizes: Tensor,
    combine: str,
    sparse: bool = False,
) -> Tensor:
    """Rows of `T` tables, each put together from one row of each of its `l` part tables.

    Part j of id i of table t is row `row_offsets[t] + base[t, j] + h` of `weight`, where `h` is a digit of the id,
    `i // c mod s` with the coefficient c, or a hash of it: two rounds of `x <- (a x + b) mod P; x <- x xor (x >> 15)`
    with the coefficients a, b, c, d, then mod s; `s = sizes[t, j]` and `P = 2038074743`. Both directions compute them.

    Args:
        weight: `(k, width)`, the part tables of all tables.
        ids: `(N, T)` int32 or int64. Hashed ones are below 2^31.
        row_offsets: `(T,)` int64, where the rows of a table start in `weight`.
        rows: `(T,)` int64, the rows that a table stands for.
        coefficients: int64, `(T, 1, l)` for digits, `(T, 4, l)` for hashes.
        base: `(T, l)` int64, where a part starts among its table's rows.
        sizes: `(T, l)` or `(T, 1)` int64, the rows of each part.
        combine: `mult`, `add` (then `D = width`) or `concat` (`D = l width`).
        sparse: the gradient is a sparse tensor of the rows that were looked up, coalesced.

    Returns:
        `(N, T, D)` of the weight's dtype, differentiable once in `weight`, on every device in a fixed order; where
        no gradient is wanted, no autograd is involved. Sums and products are made in float32 at least.

    Raises:
        IdOutOfRange: an IndexError with the id and the table's number. On CUDA ids are only looked at with the
            environment variable `EMBPRESS_CHECK=1`, which waits for the GPU; without it an id out of range is a row of
            zeros without gradient. DtypeError, ArgumentError: types and shapes, an unknown `combine`.
            NotDifferentiable: a second derivative.
    """
    if combine not in COMBINE:
        raise ArgumentError(f"combine={combine!r} is not one of {', '.join(COMBINE)}")
    arguments = (weight, ids, row_offsets, rows, coefficients, base, sizes, COMBINE.index(combine))
    try:
        if wants_gradient((weight,)):
            if is_direct() and backend("compositional_lookup_train", weight.device.type) == "native":
                return _DIRECT(*arguments, sparse)
            return torch.ops.embpress.compositional_lookup_train.default(*arguments, sparse)[0]
        return torch.ops.embpress.compositional_lookup.default(*arguments)
    except Exception as error:
        return again(error, _TRAIN, (*arguments, sparse), check_compositional, arguments)[0]


def compositional_gradient(
    grad: Tensor,
    weight: Tensor,
    ids: Tensor,
    *,
    row_offsets: Tensor,
    rows: Tensor,
    coefficients: Tensor,
    base: Tensor,
    sizes: Tensor,
    combine: str,
    sparse: bool = False,
) -> Tensor:
    """The gradient in `weight` of rows that `compositional_lookup` would return, however they were made.

    Args:
        grad: `(N, T, D)`, of these rows.
        weight, ids, row_offsets, rows, coefficients, base, sizes, combine, sparse: as there; compiled ops only.
    """
    arguments = (grad, weight, ids[:0], ids, row_offsets, rows, coefficients, base, sizes, COMBINE.index(combine))
    return _made(arguments, sparse)


def _made(arguments: Sequence[Any], sparse: bool) -> Tensor:
    """The gradient in the weight, the second of the backward's arguments."""
    if not sparse:
        dense: Tensor = _gradient(*arguments)
        return dense
    rows, values = _gradient_rows(*arguments)
    return gradient_of_rows(rows, values, arguments[1])


def _out(weight: Any, ids: Any, base: Any, combine: int) -> Tensor:
    parts = base.shape[1] if COMBINE[combine] == "concat" else 1
    return weight.new_empty(*ids.shape, parts * weight.shape[1])


@register_fake("embpress::compositional_lookup")
def _(
    weight: Any, ids: Any, row_offsets: Any, rows: Any, coefficients: Any, base: Any, sizes: Any, combine: int
) -> Tensor:
    check_compositional(weight, ids, row_offsets, rows, coefficients, base, sizes, combine)
    return _out(weight, ids, base, combine)


@register_fake("embpress::compositional_lookup_train")
def _(
    weight: Any,
    ids: Any,
    row_offsets: Any,
    rows: Any,
    coefficients: Any,
    base: Any,
    sizes: Any,
    combine: int,
    sparse: bool = False,
) -> tuple[Tensor, Tensor]:
    check_compositional(weight, ids, row_offsets, rows, coefficients, base, sizes, combine)
    return _out(weight, ids, base, combine), base.new_empty(room(base))


@register_fake("embpress::compositional_lookup_backward")
def _(grad: Any, weight: Any, *others: Any) -> Tensor:
    return torch.empty_like(weight, memory_format=torch.contiguous_format)


@register_fake("embpress::compositional_lookup_rows_backward")
def _(grad: Any, weight: Any, index: Any, ids: Any, *others: Any) -> tuple[Tensor, Tensor]:
    found = room(weight)
    return ids.new_empty(found, dtype=torch.int64), weight.new_empty(found, weight.shape[1])


def _setup(ctx: Any, inputs: Any, output: Any) -> None:
    *tensors, ctx.combine, ctx.sparse = inputs
    _, index = output
    ctx.save_for_backward(index, *tensors)
    ctx.mark_non_differentiable(index)
    ctx.set_materialize_grads(False)


def _setup_direct(ctx: Any, inputs: Any, output: Any) -> None:
    *tensors, ctx.combine, ctx.sparse = inputs
    ctx.save_for_backward(tensors[1][:0], *tensors)  # compiled ops leave no index
    ctx.set_materialize_grads(False)


def _backward(ctx: Any, grad: Tensor | None, _: Any = None) -> Any:
    if grad is None:
        return (None,) * 9
    index, weight, *others = ctx.saved_tensors
    arguments = (grad, weight, index, *others, ctx.combine)
    return _made(arguments, ctx.sparse), *(None,) * 8


_gradient = backward_op("compositional_lookup_backward")
_gradient_rows = backward_op("compositional_lookup_rows_backward")
_DIRECT = direct("compositional_lookup", _setup_direct, _backward)
_TRAIN = differentiable("compositional_lookup_train", _setup, _backward)
