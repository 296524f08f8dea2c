"""ROBE-Z in plain PyTorch."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

from embpress.kernels.reference.hashing import robe_hash

# index tensors hold about this many int64 at a time, whatever the batch
_BLOCK = 1 << 16


def _blocks(
    memory_size: int, ids: Tensor, row_offsets: Tensor, coefficients: Tensor, z: int, dim: int
) -> Iterator[tuple[slice, Tensor, Tensor | None]]:
    """Yields (samples, index `(samples, T, D)` int64, sign of that shape or None) in blocks of bounded size."""
    column = torch.arange(dim, device=ids.device)
    chunk, within = column // z, column % z
    chunks = torch.arange(-(-dim // z), device=ids.device)
    step = max(1, _BLOCK // (dim * max(1, ids.shape[1])))
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
    for samples, index, sign in _blocks(memory.shape[0], ids, row_offsets, coefficients, z, dim):
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
    for samples, index, sign in _blocks(size, ids, row_offsets, coefficients, z, grad.shape[2]):
        block = grad[samples] if sign is None else grad[samples] * sign
        out.index_add_(0, index.flatten(), block.flatten())
    return out
