"""Every op in plain PyTorch: the specification, the fallback where nothing is compiled, the oracle of tests."""

from __future__ import annotations

import functools
import itertools
import math
import operator
from collections.abc import Iterator

import torch
from torch import Tensor

# ROBE's prime (Desai et al., the published implementation): the largest id space is 2038074742.
ROBE_PRIME = 2038074743
# Index tensors of the ROBE reference hold about this many int64 at a time, whatever the batch.
_ROBE_BLOCK = 1 << 16
# Ways to put a row together from parts, in the numbering of the op.
COMBINE = ("concat", "add", "mult")


def pool(rows: Tensor, offsets: Tensor | None, per_sample_weights: Tensor | None, mean: bool) -> Tensor:
    """Reduces looked-up rows to bags.

    Args:
        rows: `(N, D)`.
        offsets: `(B + 1,)` int64, the last one included; None where every row is a bag of its own.
        per_sample_weights: `(N,)` of the rows' dtype, or None.
        mean: divide by the bag's length (an empty bag stays zero).

    Returns:
        `(B, D)`, differentiable in `rows` and `per_sample_weights`.
    """
    if offsets is None:
        return rows if per_sample_weights is None else rows * per_sample_weights.unsqueeze(-1)
    if rows.shape[0] == 0:
        nothing = offsets.new_zeros(0)  # keeps the rows in the graph: their gradient is zero, not missing
        return rows.new_zeros(offsets.shape[0] - 1, rows.shape[1]).index_add(0, nothing, rows)
    index = torch.arange(rows.shape[0], device=rows.device)
    return torch.nn.functional.embedding_bag(
        index,
        rows,
        offsets,
        mode="mean" if mean else "sum",
        per_sample_weights=per_sample_weights,
        include_last_offset=True,
    )


def _pool_backward(
    grad: Tensor, rows: Tensor, offsets: Tensor | None, weights: Tensor | None, mean: bool
) -> tuple[Tensor, Tensor | None]:
    """Gradients of `pool` in the rows `(N, D)` and in the weights `(N,)`."""
    if offsets is not None:
        lengths = offsets.diff()
        if mean:  # an empty bag has no gradient to divide
            grad = grad / lengths.clamp(min=1).unsqueeze(-1)
        grad = grad.repeat_interleave(lengths, dim=0)
    if weights is None:
        return grad, None
    return grad * weights.unsqueeze(-1), (grad * rows).sum(-1)


# --- TT-Rec -----------------------------------------------------------------------------------------------------------


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


def _tt_tables(
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
    place = torch.arange(indices.numel(), device=indices.device)
    if offsets is None:
        bags, length = indices.shape[0], indices.shape[1] // num_tables
        place = place.view(bags, num_tables, length).transpose(0, 1).reshape(-1)
        offsets = torch.arange(0, num_tables * bags * length + 1, max(length, 1), device=indices.device)
        if length == 0:
            offsets = place.new_zeros(num_tables * bags + 1)
    else:
        offsets = offsets.long()
        if not include_last_offset:
            offsets = torch.cat([offsets, offsets.new_tensor([indices.shape[0]])])
        bags = (offsets.shape[0] - 1) // num_tables
        _check_offsets(offsets, indices.shape[0])
    flat = indices.reshape(-1).long()
    flat_weights = None if weights is None else weights.reshape(-1)
    for t, n in enumerate(num_embeddings):
        own = offsets[t * bags : (t + 1) * bags + 1]
        part = place[int(own[0]) : int(own[-1])]
        own = own - own[0]
        ids = flat[part]
        wrong = (ids < 0) | (ids >= n)
        if bool(wrong.any()):
            raise IndexError(f"id {int(ids[wrong][0])} is out of range: table {t} has {n} rows, 0 to {n - 1}")
        if padding_idx and padding_idx[t] >= 0:
            keep = ids != padding_idx[t]
            own = torch.nn.functional.pad(keep.cumsum(0), (1, 0))[own]
            ids, part = ids[keep], part[keep]
        yield (
            t,
            cores[t * num_cores : (t + 1) * num_cores],
            ids,
            own,
            None if flat_weights is None else flat_weights[part],
            part,
        )


def _check_offsets(offsets: Tensor, size: int) -> None:
    first, last = int(offsets[0]), int(offsets[-1])
    if first != 0:
        raise ValueError(f"offsets must start at 0, got {first}")
    if last != size:
        raise ValueError(f"the last offset must be the input's length {size}, got {last}")
    if bool((offsets.diff() < 0).any()):
        raise ValueError("offsets must not decrease")


def _tt_rows(
    own: list[Tensor], cache: list[Tensor], ids: Tensor
) -> tuple[Tensor, tuple[list[Tensor], list[Tensor], list[Tensor], Tensor, Tensor, Tensor]]:
    """Rows `(N, D)` of one table's ids, and what their gradients need; cached ones are taken from the cache."""
    slots = cache_find(cache[0], cache[1], ids).long() if cache and cache[0].numel() else torch.full_like(ids, -1)
    missed = slots < 0
    unique, inverse = torch.unique(ids[missed], return_inverse=True)
    digits = tt_digits(unique, [core.shape[0] for core in own])
    partials, slices = tt_partials(own, digits)
    rows = partials[-1].new_empty(ids.shape[0], math.prod(core.shape[2] for core in own))
    rows[missed] = partials[-1].squeeze(-1).index_select(0, inverse)
    if not bool(missed.all()):
        rows[~missed] = cache[2].index_select(0, slots[~missed])
    return rows, (digits, partials, slices, inverse, missed, slots)


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
    outputs = []
    tables = _tt_tables(cores, indices, offsets, weights, num_embeddings, padding_idx, num_cores, include_last_offset)
    for t, own, ids, bags, own_weights, _ in tables:
        rows, _ = _tt_rows(own, caches[3 * t : 3 * t + 3], ids)
        outputs.append(pool(rows, bags, own_weights, mean))
    return torch.stack(outputs, dim=1)


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
    return out, out.new_empty(0, dtype=torch.int32), out.new_empty(0)


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
    core_grads = [torch.zeros_like(core, memory_format=torch.contiguous_format) for core in cores]
    cache_grads = [torch.zeros_like(values, memory_format=torch.contiguous_format) for values in caches[2::3]]
    weight_grad = grad.new_zeros(0) if weights is None else grad.new_zeros(weights.shape)
    tables = _tt_tables(cores, indices, offsets, weights, num_embeddings, padding_idx, num_cores, include_last_offset)
    for t, own, ids, bags, own_weights, part in tables:
        rows, (digits, own_partials, slices, inverse, missed, slots) = _tt_rows(own, caches[3 * t : 3 * t + 3], ids)
        row_grad, own_weight_grad = _pool_backward(grad[:, t], rows, bags, own_weights, mean)
        if own_weight_grad is not None:
            weight_grad.view(-1)[part] = own_weight_grad
        if not bool(missed.all()):
            cache_grads[t].index_add_(0, slots[~missed], row_grad[~missed])
        # one gradient a distinct row, then core by core from the last to the first
        count = digits[0].shape[0]
        flow = grad.new_zeros(count, grad.shape[2]).index_add_(0, inverse, row_grad[missed])
        for k in range(num_cores - 1, -1, -1):
            rank_in, q, rank_out = own[k].shape[1:]
            before = own_partials[k - 1].shape[1] if k else 1  # not -1: ambiguous where a table has no id
            flow = flow.view(count, before, q * rank_out)
            if k:
                slice_grad = torch.bmm(own_partials[k - 1].transpose(1, 2), flow)
                flow = torch.bmm(flow, slices[k].transpose(1, 2))
            else:
                slice_grad = flow
            core_grads[t * num_cores + k].view(own[k].shape[0], -1).index_add_(
                0, digits[k], slice_grad.reshape(count, rank_in * q * rank_out)
            )
    return core_grads, weight_grad, cache_grads


# --- a cache of rows --------------------------------------------------------------------------------------------------


def _first_place(id: int, places: int) -> int:
    """Knuth's multiplicative hash, its upper half: what kernels/cpu/id_table.h computes."""
    return ((id * 0x9E3779B97F4A7C15) & (2**64 - 1)) >> 32 & (places - 1)


def _check_places(places: int) -> None:
    if places < 1 or places & (places - 1):
        raise RuntimeError(f"a table of ids needs a power of two of places, got {places}")


def cache_index(ids: Tensor, places: int) -> Tensor:
    """See `ops.cache_index`."""
    _check_places(places)
    if ids.shape[0] >= places:
        raise RuntimeError(f"cache_index: {ids.shape[0]} rows need more than {places} places")
    index = [-1] * places
    for row, id in enumerate(ids.tolist()):
        if id < 0:
            continue
        at = _first_place(id, places)
        while index[at] >= 0:
            at = (at + 1) % places
        index[at] = row
    return torch.tensor(index, dtype=torch.int32, device=ids.device)


def cache_find(index: Tensor, ids: Tensor, wanted: Tensor) -> Tensor:
    """See `ops.cache_find`. The ids are sorted here, so the places in the index do not matter."""
    rows = torch.full_like(wanted, -1, dtype=torch.int32)
    held = (ids >= 0).nonzero().flatten()
    if held.numel() == 0:
        return rows
    order = held[ids[held].argsort()]
    place = torch.searchsorted(ids[order], wanted.contiguous()).clamp(max=len(order) - 1)
    found = order[place]
    return torch.where(ids[found] == wanted, found.int(), rows)


def count_ids(keys: Tensor, counts: Tensor, used: Tensor, ids: Tensor) -> None:
    """See `ops.count_ids`."""
    places = keys.shape[0]
    _check_places(places)
    if counts.shape[0] != places:
        raise RuntimeError(f"count_ids: {counts.shape[0]} counts for {places} places")
    room = max(0, places - places // 8 - 1 - int(used))
    held, added = keys.tolist(), 0
    hits: dict[int, int] = {}
    for id in ids.flatten().tolist():
        at = _first_place(id, places)
        while held[at] >= 0 and held[at] != id:
            at = (at + 1) % places
        if held[at] < 0:
            if added == room or id < 0:
                continue
            held[at] = id
            added += 1
        hits[at] = hits.get(at, 0) + 1
    where = torch.tensor(list(hits), dtype=torch.int64, device=keys.device)
    keys[where] = torch.tensor([held[at] for at in hits], dtype=torch.int64, device=keys.device)
    counts[where] += torch.tensor(list(hits.values()), dtype=torch.int64, device=keys.device)
    used += added


# --- ROBE -------------------------------------------------------------------------------------------------------------


def robe_hash(ids: Tensor, chunk: Tensor | int, coefficients: Tensor, slots: int) -> Tensor:
    """ROBE's universal hash `((x R3 + j R2 + R1) mod P) mod slots`, coefficients `(R1, R2, R3)` int64.

    No product overflows int64: `x, R < 2^31`, so `x R3 < 2^62`, and `j R2 + R1` stays below `2^42` for `j < 2^10`.
    """
    r1, r2, r3 = coefficients[0], coefficients[1], coefficients[2]
    return (ids * r3 + (chunk * r2 + r1)) % ROBE_PRIME % slots


def _robe_blocks(
    memory_size: int, ids: Tensor, row_offsets: Tensor, coefficients: Tensor, z: int, dim: int
) -> Iterator[tuple[slice, Tensor, Tensor | None]]:
    """Yields (samples, index `(samples, T, D)` int64, sign of that shape or None) in blocks of bounded size."""
    column = torch.arange(dim, device=ids.device)
    chunk, within = column // z, column % z
    chunks = torch.arange(-(-dim // z), device=ids.device)
    step = max(1, _ROBE_BLOCK // (dim * max(1, ids.shape[1])))
    for start in range(0, ids.shape[0], step):
        samples = slice(start, min(start + step, ids.shape[0]))
        x = (ids[samples] + row_offsets).unsqueeze(-1)
        base = robe_hash(x, chunks, coefficients, memory_size - z + 1)
        sign = None
        if coefficients.shape[0] == 6:
            sign = 1 - 2 * robe_hash(x, column, coefficients[3:], 2)
        yield samples, base.index_select(2, chunk) + within, sign


def robe_lookup(
    memory: Tensor, ids: Tensor, row_offsets: Tensor, rows: Tensor, coefficients: Tensor, z: int, dim: int
) -> Tensor:
    """See `ops.robe_lookup`."""
    out = memory.new_empty(*ids.shape, dim)
    for samples, index, sign in _robe_blocks(memory.shape[0], ids, row_offsets, coefficients, z, dim):
        block = memory.index_select(0, index.flatten()).view(index.shape)
        out[samples] = block if sign is None else block * sign
    return out


def robe_lookup_train(
    memory: Tensor,
    ids: Tensor,
    row_offsets: Tensor,
    rows: Tensor,
    coefficients: Tensor,
    z: int,
    dim: int,
    atomics: bool,
) -> Tensor:
    """`robe_lookup`, the op that has a gradient."""
    return robe_lookup(memory, ids, row_offsets, rows, coefficients, z, dim)


def robe_lookup_backward(
    grad: Tensor, ids: Tensor, row_offsets: Tensor, rows: Tensor, coefficients: Tensor, size: int, z: int, atomics: bool
) -> Tensor:
    """Dense gradient of `robe_lookup` in the memory, `(size,)`; hashes are computed again instead of stored."""
    out = grad.new_zeros(size)
    for samples, index, sign in _robe_blocks(size, ids, row_offsets, coefficients, z, grad.shape[2]):
        block = grad[samples] if sign is None else grad[samples] * sign
        out.index_add_(0, index.flatten(), block.flatten())
    return out


# --- rows put together from rows of part tables: hashing trick, QR ----------------------------------------------------


def part_hash(ids: Tensor, coefficients: Tensor) -> Tensor:
    """Two rounds of a universal hash: ids `(..., 1)` below 2^31, coefficients `(..., 4, l)` → `(..., l)` below 2^31.

    Products stay below 2^62.
    """
    a, b, c, d = coefficients.unbind(-2)
    x = (ids * a + b) % ROBE_PRIME
    x = ((x ^ (x >> 15)) * c + d) % ROBE_PRIME
    return x ^ (x >> 15)


def combine_parts(rows: Tensor, how: str) -> Tensor:
    """`(..., l, width)` → `(..., D)`, see `COMBINE`."""
    if how == "concat":
        return rows.flatten(-2)
    return rows.sum(-2) if how == "add" else functools.reduce(operator.mul, rows.unbind(-2))


def compositional_lookup(
    weight: Tensor,
    ids: Tensor,
    row_offsets: Tensor,
    rows: Tensor,
    coefficients: Tensor,
    base: Tensor,
    sizes: Tensor,
    combine: int,
) -> Tensor:
    """See `ops.compositional_lookup`."""
    out, _ = compositional_lookup_train(weight, ids, row_offsets, rows, coefficients, base, sizes, combine)
    return out


def compositional_lookup_train(
    weight: Tensor,
    ids: Tensor,
    row_offsets: Tensor,
    rows: Tensor,
    coefficients: Tensor,
    base: Tensor,
    sizes: Tensor,
    combine: int,
) -> tuple[Tensor, Tensor]:
    """`compositional_lookup` and the rows `(N, T, l)` that it took, flat: on a CPU they are dear to find twice."""
    x = ids.long().unsqueeze(-1)
    found = part_hash(x, coefficients) if coefficients.shape[1] == 4 else x // coefficients.squeeze(1)
    index = found % sizes + (base + row_offsets.unsqueeze(1))
    return combine_parts(torch.nn.functional.embedding(index, weight), COMBINE[combine]), index.flatten()


def compositional_lookup_backward(
    grad: Tensor,
    weight: Tensor,
    index: Tensor,
    ids: Tensor,
    row_offsets: Tensor,
    rows: Tensor,
    coefficients: Tensor,
    base: Tensor,
    sizes: Tensor,
    combine: int,
) -> Tensor:
    """Dense gradient of `compositional_lookup` in the weight."""
    width, how = weight.shape[1], COMBINE[combine]
    index = index.view(*ids.shape, base.shape[1])
    if how == "concat":
        flow = grad.reshape(*index.shape, width)
    elif how == "add":
        flow = grad.unsqueeze(-2).expand(*index.shape, width)
    else:
        flow = _product_backward(grad, torch.nn.functional.embedding(index, weight))
    return torch.ops.aten.embedding_dense_backward(flow, index, weight.shape[0], -1, False)


def _product_backward(grad: Tensor, rows: Tensor) -> Tensor:
    """Gradients of the product over `rows (..., l, width)` in each factor: no division, so that zeros are right."""
    factors = rows.unbind(-2)
    before = list(itertools.accumulate(factors[:-1], operator.mul))
    flow = torch.empty_like(rows)
    for j in range(len(factors) - 1, 0, -1):
        torch.mul(grad, before[j - 1], out=flow.select(-2, j))
        grad = grad * factors[j]
    flow.select(-2, 0).copy_(grad)
    return flow


# --- MLET -------------------------------------------------------------------------------------------------------------


def mlet_lookup(table: Tensor, projections: Tensor, ids: Tensor, row_offsets: Tensor, rows: Tensor) -> Tensor:
    """See `ops.mlet_lookup`."""
    out, _ = mlet_lookup_train(table, projections, ids, row_offsets, rows)
    return out


def mlet_lookup_train(
    table: Tensor, projections: Tensor, ids: Tensor, row_offsets: Tensor, rows: Tensor
) -> tuple[Tensor, Tensor]:
    """`mlet_lookup` and the inner rows `(N, T, k)`, flat: its backward takes them instead of gathering them again."""
    inner = torch.nn.functional.embedding(ids + row_offsets, table)
    out = table.new_empty(*ids.shape, projections.shape[2])
    torch.bmm(inner.transpose(0, 1), projections, out=out.transpose(0, 1))
    return out, inner.flatten()


def mlet_lookup_backward(
    grad: Tensor, inner: Tensor, table: Tensor, projections: Tensor, ids: Tensor, row_offsets: Tensor, rows: Tensor
) -> tuple[Tensor, Tensor]:
    """Dense gradients of `mlet_lookup` in the table and the projections."""
    flow = grad.transpose(0, 1)
    inner_grad = torch.bmm(flow, projections.transpose(1, 2))
    table_grad = torch.ops.aten.embedding_dense_backward(inner_grad, (ids + row_offsets).t(), table.shape[0], -1, False)
    return table_grad, torch.bmm(inner.view(*ids.shape, table.shape[1]).permute(1, 2, 0), flow)
