"""Rows of arrays that are kept as codes of a few bits."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.library import register_fake

from embpress.kernels.autograd import again
from embpress.kernels.define import define
from embpress.kernels.reference.coded_rows import RANGES, check_coded_rows

define(
    "coded_rows(Tensor codes, Tensor ranges, Tensor index, Tensor? segments, Tensor? code_starts, "
    "Tensor? range_starts, int bits, int width, int kind) -> Tensor"
)


def coded_rows(
    codes: Tensor,
    ranges: Tensor,
    index: Tensor,
    *,
    bits: int,
    width: int,
    kind: str,
    segments: Tensor | None = None,
    code_starts: Tensor | None = None,
    range_starts: Tensor | None = None,
) -> Tensor:
    """Rows `lo + step · code` of arrays of several tables, decoded as they are read.

    Args:
        codes: uint8, arrays one after another: `(rows, bytes)`; or `(bytes,)` where the codes of a row do not fill
            bytes and rows follow each other without a gap. The first code of a byte lies in its lowest bits.
        ranges: bfloat16, lo and step: `(segments, 2, width)` of columns, `(rows, 2)` of rows or of blocks of 64
            elements.
        index: `(N, L)` int64, L rows of each lookup among those of its array; elements where `kind` is `block`.
        bits: of a code, 1, 2, 4 or 8.
        width: of a row; 1 where `kind` is `block`.
        kind: what shares a range: `column`, `row` or `block`.
        segments: `(L,)` int64, where the ranges of each of the L columns' rows lie among those of their array; None:
            there is one.
        code_starts, range_starts: `(N,)` int64, where each lookup's array begins in the first dimension of codes and
            ranges, in blocks where `kind` is `block`; None: there is one array.

    Returns:
        `(N, L, width)` float32.

    Raises:
        DtypeError, ArgumentError: types and shapes; an index outside of the codes, on the CPU.
    """
    number = RANGES.index(kind) if kind in RANGES else -1
    arguments = (codes, ranges, index, segments, code_starts, range_starts, bits, width, number)
    try:
        return torch.ops.embpress.coded_rows.default(*arguments)
    except Exception as error:
        return again(error, None, (), check_coded_rows, arguments)


@register_fake("embpress::coded_rows")
def _(
    codes: Any,
    ranges: Any,
    index: Any,
    segments: Any,
    code_starts: Any,
    range_starts: Any,
    bits: int,
    width: int,
    kind: int,
) -> Tensor:
    check_coded_rows(codes, ranges, index, segments, code_starts, range_starts, bits, width, kind)
    return ranges.new_empty(*index.shape, width, dtype=torch.float32)
