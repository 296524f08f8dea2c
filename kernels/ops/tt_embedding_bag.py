"""The ops: schema, fake kernel, autograd and a typed wrapper each.

The plain PyTorch reference is registered as `CompositeExplicitAutograd`; a compiled library adds CPU and CUDA
implementations of the same schemas, which the dispatcher then prefers. Nothing here asks what is compiled.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.library import Library, register_autograd, register_fake

from embpress.kernels import load, reference

_library = Library("embpress", "FRAGMENT")
_TT_BAGS = (
    "int[] num_embeddings, int[] padding_idx, int num_cores, bool mean, bool include_last_offset"  # of every tt op
)
_library.define(
    "tt_embedding_bag(Tensor[] cores, Tensor[] caches, Tensor indices, Tensor? offsets, Tensor? per_sample_weights, "
    f"{_TT_BAGS}, int math=0) -> Tensor"
)
_library.define(
    "tt_embedding_bag_train(Tensor[] cores, Tensor[] caches, Tensor indices, Tensor? offsets, "
    f"Tensor? per_sample_weights, {_TT_BAGS}, bool store, int math) -> (Tensor, Tensor, Tensor)"
)
_library.define(
    "tt_embedding_bag_backward(Tensor grad, Tensor[] cores, Tensor[] caches, Tensor indices, Tensor? offsets, "
    f"Tensor? per_sample_weights, Tensor plan, Tensor partials, {_TT_BAGS}, int math=0) -> (Tensor[], Tensor, Tensor[])"
)
_library.define("cache_index(Tensor ids, int places) -> Tensor")
_library.define("cache_find(Tensor index, Tensor ids, Tensor wanted) -> Tensor")
_library.define("count_ids(Tensor(a!) keys, Tensor(b!) counts, Tensor(c!) used, Tensor ids) -> ()")
_ROBE = "Tensor memory, Tensor ids, Tensor row_offsets, Tensor rows, Tensor coefficients, int z, int dim"
_library.define(f"robe_lookup({_ROBE}) -> Tensor")
_library.define(f"robe_lookup_train({_ROBE}, bool atomics) -> Tensor")
_library.define(
    "robe_lookup_backward(Tensor grad, Tensor ids, Tensor row_offsets, Tensor rows, Tensor coefficients, SymInt size, "
    "int z, bool atomics) -> Tensor"
)
_PARTS = "Tensor ids, Tensor row_offsets, Tensor rows, Tensor coefficients, Tensor base, Tensor sizes, int combine"
_library.define(f"compositional_lookup(Tensor weight, {_PARTS}) -> Tensor")
_library.define(f"compositional_lookup_train(Tensor weight, {_PARTS}) -> (Tensor, Tensor)")
_library.define(f"compositional_lookup_backward(Tensor grad, Tensor weight, Tensor index, {_PARTS}) -> Tensor")
_MLET = "Tensor table, Tensor projections, Tensor ids, Tensor row_offsets, Tensor rows"
_library.define(f"mlet_lookup({_MLET}) -> Tensor")
_library.define(f"mlet_lookup_train({_MLET}) -> (Tensor, Tensor)")
_library.define(f"mlet_lookup_backward(Tensor grad, Tensor inner, {_MLET}) -> (Tensor, Tensor)")
NAMES = (
    "tt_embedding_bag",
    "tt_embedding_bag_train",
    "tt_embedding_bag_backward",
    "cache_index",
    "cache_find",
    "count_ids",
    "robe_lookup",
    "robe_lookup_train",
    "robe_lookup_backward",
    "compositional_lookup",
    "compositional_lookup_train",
    "compositional_lookup_backward",
    "mlet_lookup",
    "mlet_lookup_train",
    "mlet_lookup_backward",
)
for _name in NAMES:
    _library.impl(_name, getattr(reference, _name), "CompositeExplicitAutograd")


def backend(op: str, device: str = "cpu") -> str:
    """Which implementation of `op` answers on `device`: `"native"` (compiled) or `"reference"` (plain PyTorch)."""
    native = load.missing is None and torch._C._dispatch_has_kernel_for_dispatch_key(f"embpress::{op}", device.upper())
    return "native" if native else "reference"


# --- TT-Rec -----------------------------------------------------------------------------------------------------------

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
            differ, their width `D = prod q_k` may not. float32 or float64; on CUDA also bfloat16, with sums in float32.
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
        `(B, T, D)`, differentiable in the cores, the weights and the caches' values; where no gradient is wanted, no
        autograd is involved.

    Raises:
        IndexError: an id out of range, with the table's number. ValueError: offsets that do not start at 0, decrease
            or end elsewhere than the indices, an unknown `math`. RuntimeError: shapes that do not fit together. On CUDA
            ids and offsets are only checked with the environment variable `EMBPRESS_CHECK=1`, which waits for the GPU;
            without it an id out of range is left out of its bag.
    """
    if math not in MATH:
        raise ValueError(f"math={math!r} is not one of {', '.join(MATH)}")
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
    try:
        if torch.is_grad_enabled() and (
            cores[0].requires_grad
            or (per_sample_weights is not None and per_sample_weights.requires_grad)
            or any(tensor.requires_grad for tensors in (cores, caches) for tensor in tensors)
        ):
            out, _, _ = torch.ops.embpress.tt_embedding_bag_train.default(*arguments, store, MATH.index(math))
            return out
        return torch.ops.embpress.tt_embedding_bag.default(*arguments, MATH.index(math))
    except RuntimeError as error:  # compiled ops can raise no other kind
        if found := _OUT_OF_RANGE.search(str(error)):
            raise IndexError(found[0]) from None
        if found := _WRONG_OFFSETS.search(str(error)):
            raise ValueError(found[0]) from None
        raise


_OUT_OF_RANGE = re.compile(r"id -?\d+ is out of range: table \d+ has \d+ rows, 0 to \d+")
_WRONG_OFFSETS = re.compile(
    r"offsets must (start at 0, got -?\d+|not decrease)|the last offset must be the input's length \d+, got -?\d+"
)


def _tt_out(cores: Any, indices: Any, offsets: Any, num_embeddings: Any, num_cores: int, include_last: bool) -> Tensor:
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
    return _tt_out(cores, indices, offsets, rows, num_cores, last)


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
    # what the forward leaves for the backward is the implementation's business, its size too
    context = torch.library.get_ctx()
    plan = cores[0].new_empty(context.new_dynamic_size(), dtype=torch.int32)
    return (
        _tt_out(cores, indices, offsets, rows, num_cores, last),
        plan,
        cores[0].new_empty(context.new_dynamic_size()),
    )


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


def _tt_setup(ctx: Any, inputs: Any, output: Any) -> None:
    cores, caches, indices, offsets, weights, *ctx.others, _, ctx.math = inputs
    _, plan, partials = output
    ctx.num_tensors = len(cores)
    ctx.save_for_backward(indices, offsets, weights, plan, partials, *cores, *caches)
    ctx.mark_non_differentiable(plan, partials)
    ctx.set_materialize_grads(False)


def _tt_backward(ctx: Any, grad: Tensor | None, *_: Any) -> Any:
    indices, offsets, weights, plan, partials, *tensors = ctx.saved_tensors
    cores, caches = tensors[: ctx.num_tensors], tensors[ctx.num_tensors :]
    _, padding_idx, *_ = ctx.others
    no_padding: list[Tensor] | None = None if padding_idx else []  # an empty list counts as a list of tensors
    cache_grads: list[Tensor | None] = [None] * len(caches)
    if grad is None:
        return [None] * len(cores), cache_grads, None, None, None, None, no_padding, *(None,) * 5
    core_grads, weight_grad, cache_grads[2::3] = torch.ops.embpress.tt_embedding_bag_backward.default(
        grad, cores, caches, indices, offsets, weights, plan, partials, *ctx.others, ctx.math
    )
    own = None if weights is None else weight_grad
    return core_grads, cache_grads, None, None, own, None, no_padding, *(None,) * 5


register_autograd("embpress::tt_embedding_bag_train", _tt_backward, setup_context=_tt_setup)


# --- a cache of rows --------------------------------------------------------------------------------------------------


def cache_index(ids: Tensor, places: int) -> Tensor:
    """A hash table over the ids of a cache.

    Args:
        ids: `(C,)` int64; negative ones stand for empty rows.
        places: a power of two above C.

    Returns:
        `(places,)` int32: at the place of an id (its hash, or the next free one) its position in `ids`, else -1.
    """
    return torch.ops.embpress.cache_index.default(ids, places)


def cache_find(index: Tensor, ids: Tensor, wanted: Tensor) -> Tensor:
    """Where the cache holds `wanted`, int64 of any shape: int32 positions in `ids`, -1 where it does not."""
    return torch.ops.embpress.cache_find.default(index, ids, wanted)


def count_ids(keys: Tensor, counts: Tensor, used: Tensor, ids: Tensor) -> None:
    """Adds 1 to the counts of `ids`, int32 or int64, in an open-addressing hash table; all three tensors change.

    Args:
        keys: `(places,)` int64, a power of two; -1 marks a free place.
        counts: `(places,)` int64.
        used: int64, one element: places that are taken. New ids are not counted once seven of eight are.
        ids: any shape; each occurrence counts.
    """
    torch.ops.embpress.count_ids.default(keys, counts, used, ids)


@register_fake("embpress::cache_index")
def _(ids: Any, places: int) -> Tensor:
    return ids.new_empty(places, dtype=torch.int32)


@register_fake("embpress::cache_find")
def _(index: Any, ids: Any, wanted: Any) -> Tensor:
    return wanted.new_empty(wanted.shape, dtype=torch.int32)


@register_fake("embpress::count_ids")
def _(keys: Any, counts: Any, used: Any, ids: Any) -> None:
    return None


# --- ROBE -------------------------------------------------------------------------------------------------------------


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
        ids: `(N, T)` int32 or int64, in range: the compressors check them. A CUDA kernel makes a row of zeros without
            gradient of an id that is not.
        coefficients: `(3,)` int64 `R1, R2, R3`, or `(6,)` where three more hash a random sign for every element.
        row_offsets: `(T,)` int64, the rows of the tables before; `row_offsets + rows` at most P = 2038074743.
        rows: `(T,)` int64, the rows of each table.
        z: chunk size, `1 <= z <= dim`.
        dim: row width `D`.
        atomics: on CUDA, sum the gradient by atomic additions, in no fixed order and without sorting; False sums it in
            a fixed order, so that equal inputs give equal bits. The CPU's order is always fixed.

    Returns:
        `(N, T, D)`, differentiable in `memory`; where no gradient is wanted, no autograd is involved.
    """
    if torch.is_grad_enabled() and memory.requires_grad:
        return torch.ops.embpress.robe_lookup_train.default(
            memory, ids, row_offsets, rows, coefficients, z, dim, atomics
        )
    return torch.ops.embpress.robe_lookup.default(memory, ids, row_offsets, rows, coefficients, z, dim)


@register_fake("embpress::robe_lookup")
def _(memory: Any, ids: Any, row_offsets: Any, rows: Any, coefficients: Any, z: int, dim: int) -> Tensor:
    return memory.new_empty(*ids.shape, dim)


@register_fake("embpress::robe_lookup_train")
def _(memory: Any, ids: Any, row_offsets: Any, rows: Any, coefficients: Any, z: int, dim: int, atomics: bool) -> Tensor:
    return memory.new_empty(*ids.shape, dim)


@register_fake("embpress::robe_lookup_backward")
def _(grad: Any, ids: Any, row_offsets: Any, rows: Any, coefficients: Any, size: int, z: int, atomics: bool) -> Tensor:
    return grad.new_empty(size)


def _robe_setup(ctx: Any, inputs: Any, output: Any) -> None:
    memory, ids, row_offsets, rows, coefficients, ctx.z, _, ctx.atomics = inputs
    ctx.size = memory.shape[0]
    ctx.save_for_backward(ids, row_offsets, rows, coefficients)


def _robe_backward(ctx: Any, grad: Tensor) -> Any:
    memory_grad = torch.ops.embpress.robe_lookup_backward.default(
        grad, *ctx.saved_tensors, ctx.size, ctx.z, ctx.atomics
    )
    return memory_grad, *(None,) * 7


register_autograd("embpress::robe_lookup_train", _robe_backward, setup_context=_robe_setup)


# --- rows put together from rows of part tables: hashing trick, QR ----------------------------------------------------


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
) -> Tensor:
    """Rows of `T` tables, each put together from one row of each of its `l` part tables.

    Part j of id i of table t is row `row_offsets[t] + base[t, j] + h` of `weight`, where `h` is a digit of the id,
    `i // c mod s` with the coefficient c, or a hash of it: two rounds of `x <- (a x + b) mod P; x <- x xor (x >> 15)`
    with the coefficients a, b, c, d, then mod s; `s = sizes[t, j]` and `P = 2038074743`. Both directions compute them.

    Args:
        weight: `(k, width)`, the part tables of all tables.
        ids: `(N, T)` int32 or int64, in range: the compressors check them. A CUDA kernel makes a row of zeros without
            gradient of an id that is not. Hashed ones are below 2^31.
        row_offsets: `(T,)` int64, where the rows of a table start in `weight`.
        rows: `(T,)` int64, the rows that a table stands for.
        coefficients: int64, `(T, 1, l)` for digits, `(T, 4, l)` for hashes.
        base: `(T, l)` int64, where a part starts among its table's rows.
        sizes: `(T, l)` or `(T, 1)` int64, the rows of each part.
        combine: `mult`, `add` (then `D = width`) or `concat` (`D = l width`).

    Returns:
        `(N, T, D)`, differentiable in `weight` with a dense gradient, on every device in a fixed order; where no
        gradient is wanted, no autograd is involved.
    """
    how = reference.COMBINE.index(combine)
    if torch.is_grad_enabled() and weight.requires_grad:
        out, _ = torch.ops.embpress.compositional_lookup_train.default(
            weight, ids, row_offsets, rows, coefficients, base, sizes, how
        )
        return out
    return torch.ops.embpress.compositional_lookup.default(
        weight, ids, row_offsets, rows, coefficients, base, sizes, how
    )


def _compositional_out(weight: Any, ids: Any, base: Any, combine: int) -> Tensor:
    parts = base.shape[1] if reference.COMBINE[combine] == "concat" else 1
    return weight.new_empty(*ids.shape, parts * weight.shape[1])


@register_fake("embpress::compositional_lookup")
def _(
    weight: Any, ids: Any, row_offsets: Any, rows: Any, coefficients: Any, base: Any, sizes: Any, combine: int
) -> Tensor:
    return _compositional_out(weight, ids, base, combine)


@register_fake("embpress::compositional_lookup_train")
def _(
    weight: Any, ids: Any, row_offsets: Any, rows: Any, coefficients: Any, base: Any, sizes: Any, combine: int
) -> tuple[Tensor, Tensor]:
    # what the forward leaves for the backward is the implementation's business
    index = base.new_empty(torch.library.get_ctx().new_dynamic_size())
    return _compositional_out(weight, ids, base, combine), index


@register_fake("embpress::compositional_lookup_backward")
def _(grad: Any, weight: Any, *others: Any) -> Tensor:
    return torch.empty_like(weight, memory_format=torch.contiguous_format)


def _compositional_setup(ctx: Any, inputs: Any, output: Any) -> None:
    *tensors, ctx.combine = inputs
    _, index = output
    ctx.save_for_backward(index, *tensors)
    ctx.mark_non_differentiable(index)
    ctx.set_materialize_grads(False)


def _compositional_backward(ctx: Any, grad: Tensor | None, _: Any) -> Any:
    if grad is None:
        return (None,) * 8
    index, weight, *others = ctx.saved_tensors
    weight_grad = torch.ops.embpress.compositional_lookup_backward.default(grad, weight, index, *others, ctx.combine)
    return weight_grad, *(None,) * 7


register_autograd("embpress::compositional_lookup_train", _compositional_backward, setup_context=_compositional_setup)


# --- MLET -------------------------------------------------------------------------------------------------------------


def mlet_lookup(table: Tensor, projections: Tensor, ids: Tensor, *, row_offsets: Tensor, rows: Tensor) -> Tensor:
    """Rows of `T` tables that are products: id i of table t is `table[row_offsets[t] + i] @ projections[t]` (MLET).

    Args:
        table: `(Σ rows, k)`, the inner tables.
        projections: `(T, k, D)`, of the same dtype.
        ids: `(N, T)` int32 or int64, in range: the compressors check them. A CUDA kernel makes a row of zeros without
            gradient of an id that is not.
        row_offsets: `(T,)` int64, where the rows of a table start; in ascending order.
        rows: `(T,)` int64, the rows of each table.

    Returns:
        `(N, T, D)`, differentiable in `table` and `projections` with dense gradients, on every device in a fixed order;
        where no gradient is wanted, no autograd is involved.
    """
    if torch.is_grad_enabled() and (table.requires_grad or projections.requires_grad):
        out, _ = torch.ops.embpress.mlet_lookup_train.default(table, projections, ids, row_offsets, rows)
        return out
    return torch.ops.embpress.mlet_lookup.default(table, projections, ids, row_offsets, rows)


@register_fake("embpress::mlet_lookup")
def _(table: Any, projections: Any, ids: Any, row_offsets: Any, rows: Any) -> Tensor:
    return table.new_empty(*ids.shape, projections.shape[2])


@register_fake("embpress::mlet_lookup_train")
def _(table: Any, projections: Any, ids: Any, row_offsets: Any, rows: Any) -> tuple[Tensor, Tensor]:
    inner = table.new_empty(torch.library.get_ctx().new_dynamic_size())
    return table.new_empty(*ids.shape, projections.shape[2]), inner


@register_fake("embpress::mlet_lookup_backward")
def _(grad: Any, inner: Any, table: Any, projections: Any, *others: Any) -> tuple[Tensor, Tensor]:
    return (
        torch.empty_like(table, memory_format=torch.contiguous_format),
        torch.empty_like(projections, memory_format=torch.contiguous_format),
    )


def _mlet_setup(ctx: Any, inputs: Any, output: Any) -> None:
    _, inner = output
    ctx.save_for_backward(inner, *inputs)
    ctx.mark_non_differentiable(inner)
    ctx.set_materialize_grads(False)


def _mlet_backward(ctx: Any, grad: Tensor | None, _: Any) -> Any:
    if grad is None:
        return (None,) * 5
    table_grad, projection_grad = torch.ops.embpress.mlet_lookup_backward.default(grad, *ctx.saved_tensors)
    return table_grad, projection_grad, None, None, None


register_autograd("embpress::mlet_lookup_train", _mlet_backward, setup_context=_mlet_setup)
