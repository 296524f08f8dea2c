"""An array as codes and ranges: how it is made, how large it is, and rows of it."""

from __future__ import annotations

import math
from collections.abc import Iterator

import torch
from torch import Tensor

from embpress.compressors.arrays import Array
from embpress.compressors.modifiers.quantized import ranges
from embpress.compressors.modifiers.quantized.codes import pack, packed_width
from embpress.kernels import ops

_CHUNK = 1 << 22  # elements in work at a time


def by_bytes(array: Array, bits: int) -> bool:
    """Whether each row has bytes of its own; codes of other widths follow each other through all rows."""
    return array.ranges == "block" or array.width * bits % 8 == 0


def code_shape(array: Array, bits: int) -> tuple[int, ...]:
    """Of the codes: rows and bytes a row, a flat array in rows of whole blocks; or bytes, where rows share them."""
    if array.ranges == "block":
        return -(-array.rows // ranges.BLOCK), ranges.BLOCK * bits // 8
    if by_bytes(array, bits):
        return array.rows, array.width * bits // 8
    return (packed_width(array.rows * array.width, bits),)


def range_shape(array: Array, bits: int) -> tuple[int, ...]:
    """Of `lo` and `step`: one pair a column and segment, or one a row or block."""
    if array.ranges == "column":
        return len(array.parts), 2, array.width
    return -(-array.rows // ranges.BLOCK) if array.ranges == "block" else array.rows, 2


def quantize(array: Array, values: Tensor, bits: int) -> tuple[Tensor, Tensor]:
    """Codes uint8 and ranges bfloat16 of an array's values."""
    fitted = fit(array, values, bits)
    return encode(array, values, fitted, bits), fitted.bfloat16()


def fit(array: Array, values: Tensor, bits: int, dtype: torch.dtype = torch.bfloat16) -> Tensor:
    """The ranges of an array, `range_shape`, float32 that is exact in `dtype`."""
    matrix = _matrix(array, values)
    if array.ranges == "column":
        return torch.stack([ranges.fit_columns(part, bits, dtype) for part in matrix.split(array.parts)])
    return torch.cat([ranges.fit(part.T, bits, dtype).T for part in _chunks(matrix)])


def encode(array: Array, values: Tensor, fitted: Tensor, bits: int) -> Tensor:
    """The codes of an array's values in these ranges, `code_shape`."""
    matrix = _matrix(array, values)
    in_rows = by_bytes(array, bits)
    width = ranges.BLOCK if array.ranges == "block" else array.width
    codes = torch.empty(len(matrix), width * bits // 8 if in_rows else width, dtype=torch.uint8, device=values.device)
    done = 0
    per_column = array.ranges == "column"
    for segment, part in enumerate(matrix.split(array.parts) if per_column else [matrix]):
        for chunk in _chunks(part):
            own = fitted[segment] if per_column else fitted[done : done + len(chunk)].T.unsqueeze(-1)
            encoded = ranges.encode(chunk.float(), own, bits)
            codes[done : done + len(chunk)] = pack(encoded, bits) if in_rows else encoded
            done += len(chunk)
    return codes if in_rows else pack(codes.view(1, -1), bits).view(-1)


def _chunks(matrix: Tensor) -> Iterator[Tensor]:
    yield from matrix.split(max(1, _CHUNK // max(1, matrix.shape[1])))


def _matrix(array: Array, values: Tensor) -> Tensor:
    if array.ranges != "block":
        return values.reshape(array.rows, array.width)
    rest = -values.numel() % ranges.BLOCK
    flat = values.reshape(-1)
    if rest:  # the last block is filled up with what it ends with, which widens no range
        flat = torch.cat([flat, flat[-1:].expand(rest)])
    return flat.view(-1, ranges.BLOCK)


def rows_of(
    array: Array,
    codes: Tensor,
    fitted: Tensor,
    bits: int,
    index: Tensor,
    segment: Tensor | None = None,
    starts: tuple[Tensor, ...] | None = None,
) -> Tensor:
    """Rows `(…, width)` float32 of an array that is kept as codes.

    Args:
        codes: `code_shape`, of several tables' arrays one after another.
        fitted: ranges, bfloat16, likewise.
        index: int64 `(…)`, rows of each lookup's own table, or elements of a flat array.
        segment: int64 `(L,)` for an index `(N, L)`, the segments which the rows lie in; None: there is one.
        starts: where each lookup's table begins in the first dimension of codes and of ranges, int64 `(N,)`; None:
            there is one table.
    """
    code_starts, range_starts = starts or (None, None)
    found = ops.coded_rows(
        codes,
        fitted,
        index.reshape(index.shape[0], math.prod(index.shape[1:])),
        bits=bits,
        width=1 if array.ranges == "block" else array.width,
        kind=array.ranges,
        segments=segment,
        code_starts=code_starts,
        range_starts=range_starts,
    )
    return found.view(*index.shape, found.shape[-1])
