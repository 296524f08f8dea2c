"""Rows of arrays that are kept as codes, in torch's own ops."""

from __future__ import annotations

from torch import Tensor

from embpress.kernels.reference.coded_rows import coded_rows as looked_up  # which looks at no values


def coded_rows(
    codes: Tensor,
    ranges: Tensor,
    index: Tensor,
    segments: Tensor | None,
    code_starts: Tensor | None,
    range_starts: Tensor | None,
    bits: int,
    width: int,
    kind: int,
) -> Tensor:
    """See `ops.coded_rows`."""
    return looked_up(codes, ranges, index, segments, code_starts, range_starts, bits, width, kind)
