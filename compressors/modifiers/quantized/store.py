"""An array as codes and ranges: how it is made, how large it is, and rows of it."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

from embpress.compressors.arrays import Array
from embpress.compressors.modifiers.quantized import ranges
from embpress.compressors.modifiers.quantized.codes import elements, pack, packed_width, unpack

_CHUNK = 1 << 22  # elements in work at a time


def code_shape(array: Array, bits: int) -> tuple[int, int]:
    """Rows and bytes a row of the codes; a flat array is kept in rows of whole blocks."""
    if array.ranges == "block":
        return -(-array.rows // ranges.BLOCK), ranges.BLOCK * bits // 8
    return array.rows, packed_width(array.width, bits)


def range_shape(array: Array, bits: int) -> tuple[int, ...]:
    """Of `lo` and `step`: one pair a column and segment, or one a row or block."""
    if array.ranges == "column":
        return len(array.parts), 2, array.width
    return code_shape(array, bits)[0], 2


def quantize(array: Array, values: Tensor, bits: int) -> tuple[Tensor, Tensor]:
    """Codes uint8 and ranges (bfloat16, seen as int16 so that no cast reaches them) of an array's values."""
    fitted = fit(array, values, bits)
    return encode(array, values, fitted, bits), as_kept(fitted)


def as_kept(fitted: Tensor) -> Tensor:
    """Ranges in the form in which they are kept."""
    return fitted.bfloat16().view(torch.int16)


def as_floats(kept: Tensor) -> Tensor:
    """Kept ranges, float32."""
    return kept.view(torch.bfloat16).float()


def fit(array: Array, values: Tensor, bits: int) -> Tensor:
    """The ranges of an array, `range_shape`, float32."""
    matrix = _matrix(array, values)
    if array.ranges == "column":
        parts = matrix.split(array.parts)
        return torch.stack([ranges.fit(part[ranges.sample(len(part), part.device)], bits) for part in parts])
    return torch.cat([ranges.fit(part.T, bits).T for part in _chunks(matrix)])


def encode(array: Array, values: Tensor, fitted: Tensor, bits: int) -> Tensor:
    """The codes of an array's values in these ranges, `code_shape`."""
    matrix = _matrix(array, values)
    codes = torch.empty(code_shape(array, bits), dtype=torch.uint8, device=values.device)
    done = 0
    per_column = array.ranges == "column"
    for segment, part in enumerate(matrix.split(array.parts) if per_column else [matrix]):
        for chunk in _chunks(part):
            own = fitted[segment] if per_column else fitted[done : done + len(chunk)].T.unsqueeze(-1)
            codes[done : done + len(chunk)] = pack(ranges.encode(chunk.float(), own, bits), bits)
            done += len(chunk)
    return codes


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


def rows_of(array: Array, codes: Tensor, fitted: Tensor, bits: int, index: Tensor, segment: Tensor) -> Tensor:
    """Rows `(…, width)` float32 of rows `index` of an array that is kept as codes.

    Args:
        codes: `code_shape`, of several tables' arrays one after another.
        fitted: ranges, float32, likewise.
        index: int64 `(…)`, rows of codes, or elements of a flat array.
        segment: int64 that broadcasts against the index, which column ranges; for others it is not read.
    """
    if array.ranges == "block":
        own = fitted[index // ranges.BLOCK]
        return torch.addcmul(own[..., 0], own[..., 1], elements(codes, bits, index)).unsqueeze(-1)
    found = unpack(codes[index], bits, array.width)
    own = fitted[segment] if array.ranges == "column" else fitted[index].unsqueeze(-1)
    return torch.addcmul(own[..., 0, :], own[..., 1, :], found)
