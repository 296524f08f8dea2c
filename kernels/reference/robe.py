"""ROBE-Z in plain PyTorch."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

from embpress.kernels.arguments import compute_dtype, floats, longs, lookups, shaped, whole
from embpress.kernels.errors import ArgumentError
from embpress.kernels.reference.checks import checked
from embpress.kernels.reference.hashing import robe_hash

# index tensors hold about this many int64 at a time, whatever the batch
_BLOCK = 1 << 16


def check_robe(
    memory: Tensor, ids: Tensor, row_offsets: Tensor, rows: Tensor, coefficients: Tensor, z: int, dim: int
) -> None:
    """Raises for types and shapes that `ops.robe_lookup` does not take."""
    shaped("memory", floats("memory", memory), "size")
    lookups(ids, row_offsets, rows)
    longs("coefficients", coefficients, "3 or 6")
    if coefficients.shape[0] not in (3, 6):
        raise ArgumentError(f"coefficients must be 3 numbers, or 6 with a sign, got {coefficients.shape[0]}")
    whole("z", z, 1, whole("dim", dim, 1))
    if memory.shape[0] < z:
        raise ArgumentError(f"memory must hold at least the chunk size z={z}, got {memory.shape[0]} elements")


def robe_elements(
    rows: Tensor, coefficients: Tensor, memory_size: int, z: int, dim: int
) -> tuple[Tensor, Tensor | None]:
    """Which elements of the memory make up rows `(*)` int64 among those of all tables: `(*, D)` int64, and their signs.

    Signs are ±1 of that shape, or None.
    """
    column = torch.arange(dim, device=rows.device)
    chunks = torch.arange(-(-dim // z), device=rows.device)
    x = rows.unsqueeze(-1)
    base = robe_hash(x, chunks, coefficients, memory_size - z + 1)
    sign = 1 - 2 * robe_hash(x, column, coefficients[3:], 2) if coefficients.shape[0] == 6 else None
    return base.index_select(-1, column // z) + column % z, sign


def _blocks(
    memory_size: int, rows: Tensor, coefficients: Tensor, z: int, dim: int
) -> Iterator[tuple[slice, Tensor, Tensor | None]]:
    """Yields (samples, index `(samples, T, D)` int64, sign of that shape or None) in blocks of bounded size.

    `rows` `(N, T)` int64 are those of the ids among the rows of all tables.
    """
    step = max(1, _BLOCK // (dim * max(1, rows.shape[1])))
    for start in range(0, rows.shape[0], step):
        samples = slice(start, min(start + step, rows.shape[0]))
        yield samples, *robe_elements(rows[samples], coefficients, memory_size, z, dim)


def robe_lookup(
    memory: Tensor, ids: Tensor, row_offsets: Tensor, rows: Tensor, coefficients: Tensor, z: int, dim: int
) -> Tensor:
    """See `ops.robe_lookup`."""
    size = memory.shape[0]
    # what would go through in silence; all else is refused on the way
    fits = memory.dim() == 1 and memory.is_floating_point() and coefficients.shape[0] in (3, 6)
    if not (fits and 1 <= z <= min(dim, size)):
        check_robe(memory, ids, row_offsets, rows, coefficients, z, dim)
    out = memory.new_empty(*ids.shape, dim)
    for samples, index, sign in _blocks(size, checked(ids, rows, row_offsets), coefficients, z, dim):
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
    out = grad.new_zeros(size, dtype=compute_dtype(grad.dtype))
    for samples, index, sign in _blocks(size, ids + row_offsets, coefficients, z, grad.shape[2]):
        block = grad[samples] if sign is None else grad[samples] * sign
        out.index_add_(0, index.flatten(), block.flatten().to(out.dtype))
    return out.to(grad.dtype)
