"""Bags of ROBE-Z's rows, pooled inside."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.library import register_fake

from embpress.kernels.autograd import again, backward_op, differentiable, direct, is_direct, wants_gradient
from embpress.kernels.define import define
from embpress.kernels.reference.robe_bags import check_robe_bags

_BAGS = "Tensor ids, Tensor offsets, Tensor? weights, Tensor row_offsets, Tensor rows, Tensor coefficients"
define(f"robe_bags(Tensor memory, {_BAGS}, int z, int dim, bool mean) -> Tensor")
define(f"robe_bags_train(Tensor memory, {_BAGS}, int z, int dim, bool mean, bool atomics) -> Tensor")
define(
    f"robe_bags_backward(Tensor grad, Tensor? memory, {_BAGS}, SymInt size, int z, bool mean, bool atomics) "
    "-> (Tensor, Tensor)"
)


def robe_bags(
    memory: Tensor,
    ids: Tensor,
    offsets: Tensor,
    weights: Tensor | None = None,
    *,
    coefficients: Tensor,
    row_offsets: Tensor,
    rows: Tensor,
    z: int,
    dim: int,
    mean: bool = False,
    atomics: bool = False,
) -> Tensor:
    """Bags of the rows that `robe_lookup` gives, summed or averaged; on the CPU no row is written down on the way.

    Args:
        memory, coefficients, row_offsets, rows, z, dim, atomics: see `robe_lookup`.
        ids: `(N,)` int32 or int64, table after table.
        offsets: `(T B + 1,)` int64: bag b of table t is `ids[offsets[t B + b] : offsets[t B + b + 1]]`.
        weights: `(N,)` of the memory's dtype, what each row counts for in a sum; None for 1.
        mean: divide by the number of ids; an empty bag stays zero.

    Returns:
        `(T B, D)` of the memory's dtype, differentiable once in `memory`, densely, and in `weights`; sums are taken in
        float32 at least. Beside that, the CPU's backward needs memory for none but the gradients.

    Raises:
        IdOutOfRange: an IndexError with the id and the table's number. OffsetsError: offsets that make no bags of the
            ids. Both on CUDA with `EMBPRESS_CHECK=1` only. DtypeError, ArgumentError: types and shapes, weights of
            means. NotDifferentiable: a second derivative.
    """
    arguments = (memory, ids, offsets, weights, row_offsets, rows, coefficients, z, dim, mean)
    try:
        if wants_gradient((memory,), () if weights is None else (weights,)):
            if is_direct():
                return _DIRECT(*arguments, atomics)
            return torch.ops.embpress.robe_bags_train.default(*arguments, atomics)
        return torch.ops.embpress.robe_bags.default(*arguments)
    except Exception as error:
        return again(error, _TRAIN, (*arguments, atomics), check_robe_bags, arguments)


@register_fake("embpress::robe_bags")
def _(memory: Any, ids: Any, offsets: Any, *known: Any) -> Tensor:
    check_robe_bags(memory, ids, offsets, *known)
    return memory.new_empty(offsets.shape[0] - 1, known[5])


@register_fake("embpress::robe_bags_train")
def _(memory: Any, ids: Any, offsets: Any, *known: Any) -> Tensor:
    check_robe_bags(memory, ids, offsets, *known[:-1])
    return memory.new_empty(offsets.shape[0] - 1, known[5])


@register_fake("embpress::robe_bags_backward")
def _(
    grad: Any,
    memory: Any,
    ids: Any,
    offsets: Any,
    weights: Any,
    row_offsets: Any,
    rows: Any,
    coefficients: Any,
    size: int,
    *how: Any,
) -> tuple[Tensor, Tensor]:
    return grad.new_empty(size), grad.new_empty((0,) if weights is None else weights.shape)


def _setup(ctx: Any, inputs: Any, output: Any) -> None:
    memory, ids, offsets, weights, row_offsets, rows, coefficients, ctx.z, _, ctx.mean, ctx.atomics = inputs
    ctx.size = memory.shape[0]
    # without weights the memory may be changed before the backward: no gradient depends on it
    kept = None if weights is None else memory
    ctx.save_for_backward(kept, ids, offsets, weights, row_offsets, rows, coefficients)


def _backward(ctx: Any, grad: Tensor) -> Any:
    memory, ids, offsets, weights, *known = ctx.saved_tensors
    made, of_weights = _gradient(grad, memory, ids, offsets, weights, *known, ctx.size, ctx.z, ctx.mean, ctx.atomics)
    return made, None, None, None if weights is None else of_weights, *(None,) * 7


_gradient = backward_op("robe_bags_backward")
_TRAIN = differentiable("robe_bags_train", _setup, _backward)
_DIRECT = direct("robe_bags", _setup, _backward)
