"""TT-Rec: pooled lookups in tensor-train tables."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.library import register_fake

from embpress.kernels.arguments import compute_dtype
from embpress.kernels.autograd import again, backward_op, differentiable, is_direct, wants_gradient
from embpress.kernels.define import define, room
from embpress.kernels.errors import ArgumentError
from embpress.kernels.reference.tt_embedding_bag import check_tt

_BAGS = "int[] num_embeddings, int[] padding_idx, int num_cores, bool mean, bool include_last_offset"  # of every tt op
define(
    "tt_embedding_bag(Tensor[] cores, Tensor[] caches, Tensor indices, Tensor? offsets, Tensor? per_sample_weights, "
    f"{_BAGS}, int math=0) -> Tensor"
)
define(
    "tt_embedding_bag_train(Tensor[] cores, Tensor[] caches, Tensor indices, Tensor? offsets, "
    f"Tensor? per_sample_weights, {_BAGS}, bool store, int math) -> (Tensor, Tensor, Tensor)"
)
define(
    "tt_embedding_bag_backward(Tensor grad, Tensor[] cores, Tensor[] caches, Tensor indices, Tensor? offsets, "
    f"Tensor? per_sample_weights, Tensor plan, Tensor partials, {_BAGS}, int math=0) -> (Tensor[], Tensor, Tensor[])"
)

# how float32 products are made on a GPU, as numbered by the op
MATH = ("fp32", "tf32", "split-tf32")


def tt_embedding_bag(
    cores: Sequence[Tensor],
    indices: Tensor,
    offsets: Tensor | None = None,
    per_sample_weights: Tensor | None = None,
    *,
    num_embeddings: Sequence[int],
    caches: Sequence[Tensor] = (),
    padding_idx: Sequence[int] = (),
    num_cores: int,
    mean: bool = False,
    include_last_offset: bool = True,
    store: bool = False,
    math: str = "fp32",
) -> Tensor:
    """Pooled lookups in `T` tensor-train tables at once (TT-Rec, Equation 4).

    Args:
        cores: `T * num_cores` tensors, table after table; core k of a table is `(p_k, R_{k-1}, q_k, R_k)`, i.e. the
            paper's `G_k` with the row digit first, so that a digit's slice is contiguous. The tables' shapes may
            differ, their width `D = prod q_k` may not. float32, float64, or bfloat16 with sums in float32; on the CPU
            also float16. The CPU widens narrow cores anew in each call; for a small batch without gradients and caches,
            the slices alone that it needs.
        indices: int32 or int64. Without offsets `(B, T * L)`: the bags of table t are the columns `t L` to
            `(t + 1) L`. With offsets `(N,)`, table after table.
        offsets: int32 or int64, `(T * B + 1,)`: bag b of table t is
            `indices[offsets[t B + b] : offsets[t B + b + 1]]`.
        per_sample_weights: the shape of the indices and the cores' dtype, for sums.
        num_embeddings: rows of each table.
        caches: rows that are kept as they are: three tensors a table, index (`cache_index`), ids `(C,)` and values
            `(C, D)`, without elements for a table that has no cache; empty: no caches at all.
        padding_idx: a row of each table that bags leave out, -1 for none; empty: none anywhere.
        num_cores: 2, 3 or 4.
        mean: mean instead of sum.
        include_last_offset: False: the offsets lack the last one, which is N.
        store: keep the partial products of the forward for the backward, instead of making them again. On CUDA they
            stay on the chip and are always made again.
        math: how a GPU multiplies float32 in large batches: `fp32`; `tf32` on tensor cores (10 bits of mantissa); or
            `split-tf32`, three such products for nearly all of float32's bits. Sums are float32. The CPU takes `fp32`.

    Returns:
        `(B, T, D)` of the cores' dtype, differentiable once in the cores, the weights and the caches' values; where no
        gradient is wanted, no autograd is involved.

    Raises:
        IdOutOfRange: an IndexError with the id and the table's number. OffsetsError: a ValueError; offsets that do not
            start at 0, decrease or end elsewhere than the indices. DtypeError, ArgumentError: types and shapes, an
            unknown `math`, on the CPU a cache whose index was not made of its ids. NotDifferentiable: a second
            derivative. On CUDA ids and offsets are only checked with the environment variable `EMBPRESS_CHECK=1`, which
            waits for the GPU; without it an id out of range is left out of its bag.
    """
    if math not in MATH:
        raise ArgumentError(f"math={math!r} is not one of {', '.join(MATH)}")
    arguments = (
        cores,
        caches,
        indices,
        offsets,
        per_sample_weights,
        num_embeddings,
        padding_idx,
        num_cores,
        mean,
        include_last_offset,
    )
    how = MATH.index(math)
    try:
        if wants_gradient(cores, caches, () if per_sample_weights is None else (per_sample_weights,)):
            if is_direct():
                tensors = (indices, offsets, per_sample_weights, *cores, *caches)
                return _Direct.apply(len(cores), arguments[5:], store, how, *tensors)
            return torch.ops.embpress.tt_embedding_bag_train.default(*arguments, store, how)[0]
        return torch.ops.embpress.tt_embedding_bag.default(*arguments, how)
    except Exception as error:
        return again(error, _TRAIN, (*arguments, store, how), check_tt, arguments)[0]


def _out(cores: Any, indices: Any, offsets: Any, num_embeddings: Any, num_cores: int, include_last: bool) -> Tensor:
    tables = len(num_embeddings)
    bags = indices.shape[0] if offsets is None else (offsets.shape[0] - int(include_last)) // tables
    dim = 1
    for core in cores[:num_cores]:
        dim *= core.shape[2]
    return cores[0].new_empty(bags, tables, dim)


@register_fake("embpress::tt_embedding_bag")
def _(
    cores: Any,
    caches: Any,
    indices: Any,
    offsets: Any,
    weights: Any,
    rows: Any,
    padding: Any,
    num_cores: int,
    mean: bool,
    last: bool,
    math: int = 0,
) -> Tensor:
    check_tt(cores, caches, indices, offsets, weights, rows, padding, num_cores, mean, last)
    return _out(cores, indices, offsets, rows, num_cores, last)


@register_fake("embpress::tt_embedding_bag_train")
def _(
    cores: Any,
    caches: Any,
    indices: Any,
    offsets: Any,
    weights: Any,
    rows: Any,
    padding: Any,
    num_cores: int,
    mean: bool,
    last: bool,
    store: bool,
    math: int = 0,
) -> tuple[Tensor, Tensor, Tensor]:
    check_tt(cores, caches, indices, offsets, weights, rows, padding, num_cores, mean, last)
    plan = cores[0].new_empty(room(cores[0]), dtype=torch.int32)
    partials = cores[0].new_empty(room(cores[0]), dtype=compute_dtype(cores[0].dtype))
    return _out(cores, indices, offsets, rows, num_cores, last), plan, partials


@register_fake("embpress::tt_embedding_bag_backward")
def _(
    grad: Any, cores: Any, caches: Any, indices: Any, offsets: Any, weights: Any, *others: Any
) -> tuple[list[Tensor], Tensor, list[Tensor]]:
    size = (0,) if weights is None else weights.shape
    return (
        [torch.empty_like(core, memory_format=torch.contiguous_format) for core in cores],
        grad.new_empty(size),
        [torch.empty_like(values, memory_format=torch.contiguous_format) for values in caches[2::3]],
    )


def _setup(ctx: Any, inputs: Any, output: Any) -> None:
    cores, caches, indices, offsets, weights, *ctx.others, _, ctx.math = inputs
    _, plan, partials = output
    ctx.num_tensors = len(cores)
    ctx.save_for_backward(indices, offsets, weights, plan, partials, *cores, *caches)
    ctx.mark_non_differentiable(plan, partials)
    ctx.set_materialize_grads(False)


def _backward(ctx: Any, grad: Tensor | None, *_: Any) -> Any:
    indices, offsets, weights, plan, partials, *tensors = ctx.saved_tensors
    cores, caches = tensors[: ctx.num_tensors], tensors[ctx.num_tensors :]
    _, padding_idx, *_ = ctx.others
    no_padding: list[Tensor] | None = None if padding_idx else []  # an empty list counts as a list of tensors
    cache_grads: list[Tensor | None] = [None] * len(caches)
    if grad is None:
        return [None] * len(cores), cache_grads, None, None, None, None, no_padding, *(None,) * 5
    core_grads, weight_grad, cache_grads[2::3] = _gradient(
        grad, cores, caches, indices, offsets, weights, plan, partials, *ctx.others, ctx.math
    )
    return core_grads, cache_grads, None, None, None if weights is None else weight_grad, None, no_padding, *(None,) * 5


class _Direct(torch.autograd.Function):
    """The op with its gradient, where `is_direct()`: cores and caches one by one, as autograd itself takes them."""

    @staticmethod
    def forward(
        ctx: Any,
        num_cores: int,
        others: tuple[Any, ...],
        store: bool,
        math: int,
        indices: Tensor,
        offsets: Tensor | None,
        weights: Tensor | None,
        *tensors: Tensor,
    ) -> Any:
        arguments = (tensors[:num_cores], tensors[num_cores:], indices, offsets, weights, *others)
        with torch._C._AutoDispatchBelowAutograd():
            out, plan, partials = torch.ops.embpress.tt_embedding_bag_train.default(*arguments, store, math)
        ctx.others, ctx.math, ctx.num_tensors = others, math, num_cores
        ctx.save_for_backward(indices, offsets, weights, plan, partials, *tensors)
        ctx.set_materialize_grads(False)
        return out

    @staticmethod
    def backward(ctx: Any, grad: Tensor | None) -> Any:
        core_grads, cache_grads, _, _, weight_grad, *_ = _backward(ctx, grad)
        return None, None, None, None, None, None, weight_grad, *core_grads, *cache_grads


_gradient = backward_op("tt_embedding_bag_backward")
_TRAIN = differentiable("tt_embedding_bag_train", _setup, _backward)
