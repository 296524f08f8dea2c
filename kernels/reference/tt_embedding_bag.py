"""TT-Rec in plain PyTorch."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

import torch
from torch import Tensor

from embpress.kernels.arguments import compute_dtype, floats, integers, longs, shaped, tensor, whole, whole_numbers
from embpress.kernels.errors import ArgumentError, DtypeError, IdOutOfRange
from embpress.kernels.reference.checks import check_offsets
from embpress.kernels.reference.pooling import no_view, pool, pool_backward
from embpress.kernels.reference.row_cache import cache_find


def check_tt(
    cores: Sequence[Tensor],
    caches: Sequence[Tensor],
    indices: Tensor,
    offsets: Tensor | None,
    weights: Tensor | None,
    num_embeddings: Sequence[int],
    padding_idx: Sequence[int],
    num_cores: int,
    mean: bool,
    include_last_offset: bool,
) -> None:
    """Raises for types and shapes that `ops.tt_embedding_bag` does not take."""
    whole("num_cores", num_cores, 2, 4)
    tables = len(whole_numbers("num_embeddings", num_embeddings))
    if len(cores) != tables * num_cores or not tables:
        raise ArgumentError(f"{tables} tables of {num_cores} cores, got {len(cores)} cores")
    if len(whole_numbers("padding_idx", padding_idx)) not in (0, tables):
        raise ArgumentError(f"padding_idx must be a row of each of {tables} tables, got {len(padding_idx)}")
    if len(caches) not in (0, 3 * tables):
        raise ArgumentError(f"caches must be three tensors for each of {tables} tables, got {len(caches)}")
    width = 0
    for t, n in enumerate(num_embeddings):
        own = cores[t * num_cores : (t + 1) * num_cores]
        dim = _check_cores(own, cores[0], t, n)
        width = width or dim
        if dim != width:
            raise ArgumentError(f"tables must be of one width, got {width} and {dim}")
        if caches:
            _check_cache(caches[3 * t : 3 * t + 3], cores[0], t, width)
    _check_bags(indices, offsets, weights, cores[0], tables, include_last_offset)


def _check_cores(cores: Sequence[Tensor], like: Tensor, t: int, n: int) -> int:
    rank, dim = 1, 1
    for k, core in enumerate(cores):
        name = f"core {k} of table {t}"
        _, before, q, after = shaped(name, floats(name, core, like), "p", "R", "q", "R'").shape
        if before != rank or core.numel() == 0:
            raise ArgumentError(f"{name} must have elements and take rank {rank}, got {tuple(core.shape)}")
        rank, dim = after, dim * q
    if rank != 1:
        raise ArgumentError(f"the last core of table {t} must end with rank 1, got {rank}")
    held = math.prod(core.shape[0] for core in cores)
    if held < n:
        raise ArgumentError(f"the cores of table {t} hold {held} rows, not {n}")
    return dim


def _check_cache(cache: Sequence[Tensor], like: Tensor, t: int, dim: int) -> None:
    index, ids, values = cache
    of = f"of the cache of table {t}"
    slots = tensor(f"index {of}", index).numel()
    if index.dtype != torch.int32:
        raise DtypeError(f"index {of} must be int32, got {index.dtype}")
    longs(f"ids {of}", ids, "C")
    shaped(f"values {of}", floats(f"values {of}", values, like), ids.shape[0], dim)
    if slots & (slots - 1) or ((slots or ids.shape[0]) and slots <= ids.shape[0]):
        raise ArgumentError(
            f"index {of} must be a power of two of slots, more than its {ids.shape[0]} rows, got {slots}"
        )


def _check_bags(
    indices: Tensor,
    offsets: Tensor | None,
    weights: Tensor | None,
    like: Tensor,
    tables: int,
    include_last_offset: bool,
) -> None:
    integers("ids", indices)
    if weights is not None:
        shaped("per_sample_weights", floats("per_sample_weights", weights, like), *indices.shape)
    if offsets is None:
        if indices.dim() != 2 or indices.shape[1] % tables:
            raise ArgumentError(f"ids without offsets must be (B, {tables} * L), got {tuple(indices.shape)}")
        return
    shaped("ids with offsets", indices, "N")
    bounds = shaped("offsets", integers("offsets", offsets), "B").shape[0] + (not include_last_offset)
    if not isinstance(bounds, torch.SymInt) and (bounds < 1 or (bounds - 1) % tables):  # no guards on symbols
        raise ArgumentError(f"offsets must be those of {tables} tables with as many bags each, got {bounds} bounds")


def tt_digits(ids: Tensor, factors: list[int]) -> list[Tensor]:
    """Mixed-radix digits of `ids`, most significant first: `i = (d_0 * p_1 + d_1) * p_2 + d_2` for three cores."""
    digits = []
    for factor in reversed(factors[1:]):
        digits.append(ids % factor)
        ids = ids // factor
    digits.append(ids)
    return digits[::-1]


def tt_partials(cores: list[Tensor], digits: list[Tensor]) -> tuple[list[Tensor], list[Tensor]]:
    """Partial products `(U, q_0..q_k, R_k)` after each core, and the slices `(U, R_{k-1}, q_k * R_k)` they are from."""
    slices = [core[digit].flatten(2) for core, digit in zip(cores, digits)]
    partial = slices[0].view(slices[0].shape[0], cores[0].shape[2], cores[0].shape[3])
    partials = [partial]
    for core, slice_ in zip(cores[1:], slices[1:]):
        product = torch.bmm(partial, slice_)
        partial = product.view(product.shape[0], product.shape[1] * core.shape[2], core.shape[3])
        partials.append(partial)
    return partials, slices


def _by_table(
    cores: list[Tensor],
    indices: Tensor,
    offsets: Tensor | None,
    weights: Tensor | None,
    num_embeddings: list[int],
    padding_idx: list[int],
    num_cores: int,
    include_last_offset: bool,
) -> Iterator[tuple[int, list[Tensor], Tensor, Tensor | None, Tensor | None, Tensor]]:
    """Cuts the inputs of the batched op into tables without padding.

    Yields (t, cores, ids int64, offsets with the last one or None, weights, where the ids stand in `indices`).
    """
    num_tables = len(num_embeddings)
    positions = torch.arange(indices.numel(), device=indices.device)
    if offsets is None:
        bags, length = indices.shape[0], indices.shape[1] // num_tables
        positions = positions.view(bags, num_tables, length).transpose(0, 1).reshape(-1)
        offsets = torch.arange(0, num_tables * bags * length + 1, max(length, 1), device=indices.device)
        if length == 0:
            offsets = positions.new_zeros(num_tables * bags + 1)
    else:
        offsets = check_offsets(offsets, indices.shape[0], include_last_offset)
        bags = (offsets.shape[0] - 1) // num_tables
    flat = indices.reshape(-1).long()
    flat_weights = None if weights is None else weights.reshape(-1)
    for t, n in enumerate(num_embeddings):
        bounds = offsets[t * bags : (t + 1) * bags + 1]
        part = positions[int(bounds[0]) : int(bounds[-1])]
        bounds = bounds - bounds[0]
        ids = flat[part]
        wrong = (ids < 0) | (ids >= n)
        if bool(wrong.any()):
            raise IdOutOfRange(int(ids[wrong][0]), n, t)
        if padding_idx and padding_idx[t] >= 0:
            keep = ids != padding_idx[t]
            bounds = torch.nn.functional.pad(keep.cumsum(0), (1, 0))[bounds]
            ids, part = ids[keep], part[keep]
        yield (
            t,
            cores[t * num_cores : (t + 1) * num_cores],
            ids,
            bounds,
            None if flat_weights is None else flat_weights[part],
            part,
        )


def _rows_of(
    cores: list[Tensor], cache: list[Tensor], ids: Tensor
) -> tuple[Tensor, tuple[list[Tensor], list[Tensor], list[Tensor], Tensor, Tensor, Tensor]]:
    """Rows `(N, D)` of one table's ids, and what their gradients need; cached ones are taken from the cache."""
    slots = cache_find(cache[0], cache[1], ids).long() if cache and cache[0].numel() else torch.full_like(ids, -1)
    missed = slots < 0
    unique, inverse = torch.unique(ids[missed], return_inverse=True)
    digits = tt_digits(unique, [core.shape[0] for core in cores])
    partials, slices = tt_partials(cores, digits)
    rows = partials[-1].new_empty(ids.shape[0], math.prod(core.shape[2] for core in cores))
    rows[missed] = partials[-1].squeeze(-1).index_select(0, inverse)
    if not bool(missed.all()):
        rows[~missed] = cache[2].index_select(0, slots[~missed])
    return rows, (digits, partials, slices, inverse, missed, slots)


def _wide(
    cores: list[Tensor], caches: list[Tensor], weights: Tensor | None
) -> tuple[list[Tensor], list[Tensor], Tensor | None]:
    """What is computed with: float32 in place of float16 and bfloat16."""
    dtype = compute_dtype(cores[0].dtype)
    caches = [each.to(dtype) if i % 3 == 2 else each for i, each in enumerate(caches)]
    return [core.to(dtype) for core in cores], caches, None if weights is None else weights.to(dtype)


def tt_embedding_bag(
    cores: list[Tensor],
    caches: list[Tensor],
    indices: Tensor,
    offsets: Tensor | None,
    weights: Tensor | None,
    num_embeddings: list[int],
    padding_idx: list[int],
    num_cores: int,
    mean: bool,
    include_last_offset: bool,
    math: int = 0,
) -> Tensor:
    """See `ops.tt_embedding_bag`. Ids are deduplicated, so that each distinct row is multiplied out once."""
    check_tt(
        cores, caches, indices, offsets, weights, num_embeddings, padding_idx, num_cores, mean, include_last_offset
    )
    dtype, outputs = cores[0].dtype, []
    cores, caches, weights = _wide(cores, caches, weights)
    tables = _by_table(cores, indices, offsets, weights, num_embeddings, padding_idx, num_cores, include_last_offset)
    for t, table_cores, ids, bags, bag_weights, _ in tables:
        rows, _ = _rows_of(table_cores, caches[3 * t : 3 * t + 3], ids)
        outputs.append(pool(rows, bags, bag_weights, mean))
    return no_view(torch.stack(outputs, dim=1).to(dtype))


def tt_embedding_bag_train(
    cores: list[Tensor],
    caches: list[Tensor],
    indices: Tensor,
    offsets: Tensor | None,
    weights: Tensor | None,
    num_embeddings: list[int],
    padding_idx: list[int],
    num_cores: int,
    mean: bool,
    include_last_offset: bool,
    store: bool,
    math: int = 0,
) -> tuple[Tensor, Tensor, Tensor]:
    """`tt_embedding_bag` and what its backward wants to find again: here nothing, all is made anew."""
    out = tt_embedding_bag(
        cores, caches, indices, offsets, weights, num_embeddings, padding_idx, num_cores, mean, include_last_offset
    )
    return out, out.new_empty(0, dtype=torch.int32), out.new_empty(0, dtype=compute_dtype(out.dtype))


def tt_embedding_bag_backward(
    grad: Tensor,
    cores: list[Tensor],
    caches: list[Tensor],
    indices: Tensor,
    offsets: Tensor | None,
    weights: Tensor | None,
    plan: Tensor,
    partials: Tensor,
    num_embeddings: list[int],
    padding_idx: list[int],
    num_cores: int,
    mean: bool,
    include_last_offset: bool,
    math: int = 0,
) -> tuple[list[Tensor], Tensor, list[Tensor]]:
    """Gradients of `tt_embedding_bag` in the cores, the weights and the caches' values (TT-Rec, Equation 3); the
    partial products are recomputed, as in the paper's Algorithm 2. Without weights the second result is empty."""
    dtype, grad = grad.dtype, grad.to(compute_dtype(grad.dtype))
    cores, caches, weights = _wide(cores, caches, weights)
    core_grads = [torch.zeros_like(core, memory_format=torch.contiguous_format) for core in cores]
    cache_grads = [torch.zeros_like(values, memory_format=torch.contiguous_format) for values in caches[2::3]]
    weight_grad = grad.new_zeros(0) if weights is None else grad.new_zeros(weights.shape)
    tables = _by_table(cores, indices, offsets, weights, num_embeddings, padding_idx, num_cores, include_last_offset)
    for t, table_cores, ids, bags, bag_weights, part in tables:
        rows, (digits, products, slices, inverse, missed, slots) = _rows_of(table_cores, caches[3 * t : 3 * t + 3], ids)
        row_grad, lookup_grad = pool_backward(grad[:, t], rows, bags, bag_weights, mean)
        if lookup_grad is not None:
            weight_grad.view(-1)[part] = lookup_grad
        if not bool(missed.all()):
            cache_grads[t].index_add_(0, slots[~missed], row_grad[~missed])
        # one gradient a distinct row, then core by core from the last to the first
        count = digits[0].shape[0]
        flow = grad.new_zeros(count, grad.shape[2]).index_add_(0, inverse, row_grad[missed])
        for k in range(num_cores - 1, -1, -1):
            rank_in, q, rank_out = table_cores[k].shape[1:]
            before = products[k - 1].shape[1] if k else 1  # not -1: ambiguous where a table has no id
            flow = flow.view(count, before, q * rank_out)
            if k:
                slice_grad = torch.bmm(products[k - 1].transpose(1, 2), flow)
                flow = torch.bmm(flow, slices[k].transpose(1, 2))
            else:
                slice_grad = flow
            core_grads[t * num_cores + k].view(table_cores[k].shape[0], -1).index_add_(
                0, digits[k], slice_grad.reshape(count, rank_in * q * rank_out)
            )
    return [each.to(dtype) for each in core_grads], weight_grad.to(dtype), [each.to(dtype) for each in cache_grads]
