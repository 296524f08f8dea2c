"""ROBE-Z: rows of many tables from one flat array."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.library import register_fake

from embpress.kernels.autograd import again, backward_op, differentiable, direct, is_direct, wants_gradient
from embpress.kernels.define import define
from embpress.kernels.reference.robe import check_robe

_LOOKUP = "Tensor memory, Tensor ids, Tensor row_offsets, Tensor rows, Tensor coefficients, int z, int dim"
define(f"robe_lookup({_LOOKUP}) -> Tensor")
define(f"robe_lookup_train({_LOOKUP}, bool atomics) -> Tensor")
define(
    "robe_lookup_backward(Tensor grad, Tensor ids, Tensor row_offsets, Tensor rows, Tensor coefficients, SymInt size, "
    "int z, bool atomics) -> Tensor"
)


def robe_lookup(
    memory: Tensor,
    ids: Tensor,
    coefficients: Tensor,
    *,
    row_offsets: Tensor,
    rows: Tensor,
    z: int,
    dim: int,
    atomics: bool = False,
) -> Tensor:
    """Rows of `T` tables that share one flat array (ROBE-Z).

    Chunk j of id i of table t is `memory[h : h + z]` with `h = ((x R3 + j R2 + R1) mod P) mod (size - z + 1)` and
    `x = row_offsets[t] + i`; the last chunk is cut where `dim` is no multiple of `z`. `z = 1` is HashedNet. The
    backward returns a dense gradient and computes the hashes anew: no index is stored in either direction.

    Args:
        memory: `(size,)`, `size >= z`.
        ids: `(N, T)` int32 or int64.
        coefficients: `(3,)` int64 `R1, R2, R3`, or `(6,)` where three more hash a random sign for every element.
        row_offsets: `(T,)` int64, the rows of the tables before; `row_offsets + rows` at most P = 2038074743.
        rows: `(T,)` int64, the rows of each table.
        z: chunk size, `1 <= z <= dim`.
        dim: row width `D`.
        atomics: on CUDA, sum the gradient by atomic additions, in no fixed order and without sorting; False sums it in
            a fixed order, so that equal inputs give equal bits. The CPU's order is always fixed.

    Returns:
        `(N, T, D)` of the memory's dtype, differentiable once in `memory`; where no gradient is wanted, no autograd is
        involved. The gradient is summed in float32 at least.

    Raises:
        IdOutOfRange: an IndexError with the id and the table's number. On CUDA ids are only looked at with the
            environment variable `EMBPRESS_CHECK=1`, which waits for the GPU; without it an id out of range is a row of
            zeros without gradient. DtypeError, ArgumentError: types and shapes. NotDifferentiable: a second derivative.
    """
    arguments = (memory, ids, row_offsets, rows, coefficients, z, dim)
    try:
        if wants_gradient((memory,)):
            if is_direct():
                return _DIRECT(*arguments, atomics)
            return torch.ops.embpress.robe_lookup_train.default(*arguments, atomics)
        return torch.ops.embpress.robe_lookup.default(*arguments)
    except Exception as error:
        return again(error, _TRAIN, (*arguments, atomics), check_robe, arguments)


def robe_gradient(
    grad: Tensor, ids: Tensor, coefficients: Tensor, *, row_offsets: Tensor, rows: Tensor, size: int, z: int
) -> Tensor:
    """The gradient `(size,)` in the array of rows that `robe_lookup` would return, however they were made.

    Args:
        grad: `(N, T, D)`, of these rows.
        ids, coefficients, row_offsets, rows, z: as there.
        size: of the array.
    """
    return _gradient(grad, ids, row_offsets, rows, coefficients, size, z, False)


@register_fake("embpress::robe_lookup")
def _(memory: Any, ids: Any, row_offsets: Any, rows: Any, coefficients: Any, z: int, dim: int) -> Tensor:
    check_robe(memory, ids, row_offsets, rows, coefficients, z, dim)
    return memory.new_empty(*ids.shape, dim)


@register_fake("embpress::robe_lookup_train")
def _(memory: Any, ids: Any, row_offsets: Any, rows: Any, coefficients: Any, z: int, dim: int, atomics: bool) -> Tensor:
    check_robe(memory, ids, row_offsets, rows, coefficients, z, dim)
    return memory.new_empty(*ids.shape, dim)


@register_fake("embpress::robe_lookup_backward")
def _(grad: Any, ids: Any, row_offsets: Any, rows: Any, coefficients: Any, size: int, z: int, atomics: bool) -> Tensor:
    return grad.new_empty(size)


def _setup(ctx: Any, inputs: Any, output: Any) -> None:
    memory, ids, row_offsets, rows, coefficients, ctx.z, _, ctx.atomics = inputs
    ctx.size = memory.shape[0]
    ctx.save_for_backward(ids, row_offsets, rows, coefficients)


def _backward(ctx: Any, grad: Tensor) -> Any:
    return _gradient(grad, *ctx.saved_tensors, ctx.size, ctx.z, ctx.atomics), *(None,) * 7


_gradient = backward_op("robe_lookup_backward")
_TRAIN = differentiable("robe_lookup_train", _setup, _backward)
_DIRECT = direct("robe_lookup", _setup, _backward)
