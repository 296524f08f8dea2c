"""Codes of 1 to 8 bits in bytes."""

from __future__ import annotations

import torch
from torch import Tensor


def packed_width(width: int, bits: int) -> int:
    """Bytes of a row of `width` codes."""
    return -(-width * bits // 8)


def pack(codes: Tensor, bits: int) -> Tensor:
    """Codes `(m, width)` below `2^bits`, of any dtype, as uint8 `(m, packed_width)`, the first in the lowest bits."""
    a_byte = 8 // bits
    codes = codes.to(torch.uint8)
    rest = -codes.shape[1] % a_byte
    if rest:
        codes = torch.cat([codes, codes.new_zeros(len(codes), rest)], dim=1)
    packed = codes[:, ::a_byte].clone()
    for place in range(1, a_byte):
        packed |= codes[:, place::a_byte] << place * bits
    return packed


def unpack(packed: Tensor, bits: int, width: int) -> Tensor:
    """What `pack` was given, `(…, packed_width)` uint8 → `(…, width)` uint8."""
    if bits == 8:
        return packed
    shifts = torch.arange(0, 8, bits, dtype=torch.uint8, device=packed.device)
    codes = packed.unsqueeze(-1) >> shifts & (1 << bits) - 1
    return codes.flatten(-2)[..., :width]
