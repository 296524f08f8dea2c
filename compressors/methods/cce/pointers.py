"""Pointers packed into as many bits as they need, one behind the other in int32 words, an even number of these."""

from __future__ import annotations

import torch
from torch import Tensor

from embpress.kernels.reference import part_hash

BLOCK = 1 << 16  # rows of ids at a time


def pointer_bits(k: int) -> int:
    """`⌈log2 k⌉`, what a pointer to one of k rows takes."""
    return (k - 1).bit_length()


def packed_bytes(count: int, bits: int) -> int:
    """Bytes of so many pointers; the word behind the last one's is read with it."""
    return 8 * -(-(count * bits + 32) // 64)


def no_pointers(count: int, bits: int) -> Tensor:
    """Room for so many pointers, all zero: int32 on the CPU."""
    return torch.zeros(packed_bytes(count, bits) // 4, dtype=torch.int32, device="cpu")


def put_pointers(words: Tensor, first: int, values: Tensor, bits: int) -> None:
    """Writes pointers from number `first` on, where they are zero: `values (N,)` int64."""
    position = (torch.arange(values.shape[0], device="cpu") + first) * bits
    word, shifted = position >> 5, values << (position & 31)
    # bits that do not meet: a sum is their union
    words.index_add_(0, word, shifted.to(torch.int32))
    words.index_add_(0, word + 1, (shifted >> 32).to(torch.int32))


def pointed(
    ids: Tensor,
    parts: int,
    words: Tensor,
    mask: Tensor | int,
    bits: Tensor | int,
    k: Tensor | int,
    first_bit: Tensor | int = 0,
) -> Tensor:
    """Which centres the chunks of rows `ids (…)` int64 point to, `(…, parts)`, those of chunk j from `j k` on.

    A pointer has as many bits as `mask` has ones; the first of the table stands at `first_bit`. The numbers broadcast
    against `ids.unsqueeze(-1)`.
    """
    chunk = torch.arange(parts, device=ids.device)
    position = (ids.unsqueeze(-1) * parts + chunk) * bits + first_bit
    word = position >> 5
    low, high = words[word].long() & 0xFFFFFFFF, words[word + 1].long() << 32
    return ((high | low) >> (position & 31) & mask) + chunk * k


def hashed_pointers(coefficients: Tensor, n: int, k: int) -> Tensor:
    """Pointers `(n, parts)` packed row after row, hashed into k by coefficients `(4, parts)`."""
    parts, bits = coefficients.shape[1], pointer_bits(k)
    words = no_pointers(n * parts, bits)
    for start in range(0, n, BLOCK):
        ids = torch.arange(start, min(n, start + BLOCK), device="cpu").unsqueeze(1)
        put_pointers(words, start * parts, (part_hash(ids, coefficients) % k).flatten(), bits)
    return words
