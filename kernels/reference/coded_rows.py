"""Rows of arrays that are kept as codes of a few bits, in plain PyTorch."""

from __future__ import annotations

import torch
from torch import Tensor

from embpress.kernels.arguments import longs, shaped, tensor, whole
from embpress.kernels.errors import ArgumentError, DtypeError

# which elements share a range, in the numbering of the op
RANGES = ("column", "row", "block")
CODED_BLOCK = 64  # elements of a flat array that share a range


def check_coded_rows(
    codes: Tensor,
    ranges: Tensor,
    index: Tensor,
    segments: Tensor | None,
    code_starts: Tensor | None,
    range_starts: Tensor | None,
    bits: int,
    width: int,
    kind: int,
) -> None:
    """Raises for types and shapes that `ops.coded_rows` does not take."""
    if tensor("codes", codes).dtype != torch.uint8:
        raise DtypeError(f"codes must be uint8, got {str(codes.dtype).removeprefix('torch.')}")
    if codes.dim() not in (1, 2):
        raise ArgumentError(f"codes must be of shape (rows, bytes) or (bytes,), got {tuple(codes.shape)}")
    if tensor("ranges", ranges).dtype != torch.bfloat16:
        raise DtypeError(f"ranges must be bfloat16, got {str(ranges.dtype).removeprefix('torch.')}")
    count, each = longs("index", index, "N", "L").shape
    kind, width = whole("kind", kind, 0, len(RANGES) - 1), whole("width", width, 1)
    if bits not in (1, 2, 4, 8):
        raise ArgumentError(f"bits must be 1, 2, 4 or 8, got {bits}")
    if RANGES[kind] == "column":
        shaped("ranges", ranges, "segments", 2, width)
    else:
        shaped("ranges", ranges, "rows", 2)
    if RANGES[kind] == "block" and width != 1:
        raise ArgumentError(f"elements of blocks have width 1, got {width}")
    if segments is not None:
        longs("segments", segments, each)
    if (code_starts is None) != (range_starts is None):
        raise ArgumentError("code_starts and range_starts go together")
    if code_starts is not None and range_starts is not None:
        longs("code_starts", code_starts, count)
        longs("range_starts", range_starts, count)


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
    check_coded_rows(codes, ranges, index, segments, code_starts, range_starts, bits, width, kind)
    of_code = 0 if code_starts is None else code_starts.unsqueeze(1)
    of_range = 0 if range_starts is None else range_starts.unsqueeze(1)
    if RANGES[kind] == "block":
        found = _codes(codes, bits, of_code * CODED_BLOCK + index).unsqueeze(-1)
        own = ranges[of_range + index // CODED_BLOCK].unsqueeze(-1)
    else:
        row_bytes = codes.shape[1] if codes.dim() == 2 else 1
        first = (of_code * row_bytes) * (8 // bits) + index * width
        found = _codes(codes, bits, first.unsqueeze(-1) + torch.arange(width, device=index.device))
        if RANGES[kind] == "row":
            own = ranges[of_range + index].unsqueeze(-1)
        else:
            own = ranges[of_range + (index.new_zeros(1) if segments is None else segments)]
    own = own.float()
    return torch.addcmul(own[..., 0, :], own[..., 1, :], found)


def _codes(codes: Tensor, bits: int, index: Tensor) -> Tensor:
    """The codes at positions among all codes, the first of a byte in its lowest bits, uint8."""
    a_byte = 8 // bits
    found = codes.reshape(-1)[index // a_byte]
    if bits == 8:
        return found
    return found >> (index % a_byte * bits).to(torch.uint8) & (1 << bits) - 1
