"""Sums over rows of equal numbers, in ascending order of the numbers and in bounded memory."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import torch
from torch import Tensor

_HALF = 1 << 15  # an upper half of a key lies between -_HALF and _HALF
PIECE = 1 << 22  # rows looked at at once, and about as many numbers that are sorted at once


def tallies(values: Tensor, weights: Callable[[Tensor], Tensor]) -> Iterator[tuple[Tensor, Tensor]]:
    """The distinct values in ascending order, range by range, with the sums of their rows' weights.

    Bits of floats sort as whole numbers do, once those of negative ones are turned. So the rows are counted by the
    upper half of these bits, and ranges of values with at most `PIECE` rows, or one such half, are taken out of all
    rows, one range after the other: each costs a pass over the rows. The rows may lie in a mapped file.

    Args:
        values: `(N,)` float32 without NaN; -0 counts as 0.
        weights: of the rows with these numbers `(n,)` int64, `(n, C)` float64.

    Yields:
        Values `(V,)` float32 and sums `(V, C)` float64.
    """
    slices = [slice(start, min(start + PIECE, len(values))) for start in range(0, len(values), PIECE)]
    rows = torch.zeros(2 * _HALF, dtype=torch.int64)
    for some in slices:
        rows += torch.bincount((_sortable(values[some]) >> 16) + _HALF, minlength=2 * _HALF)
    for low, high in _ranges(rows.tolist()):
        keys, sums, held = [], [], 0
        for some in slices:
            key = _sortable(values[some])
            chosen = ((key >= low) & (key <= high)).nonzero().flatten()
            keys.append(key[chosen])
            sums.append(weights(chosen + some.start))
            held += len(chosen)
            if held > 2 * PIECE:  # of one upper half: at most 65,536 values
                one, total = _summed(keys, sums)
                keys, sums, held = [one], [total], len(one)
        key, total = _summed(keys, sums)
        yield _values(key), total


def _sortable(values: Tensor) -> Tensor:
    """Whole numbers `(n,)` int32 that sort as the values do, equal for equal ones."""
    bits = (values + 0.0).view(torch.int32)  # -0 + 0 is 0
    return bits ^ ((bits >> 31) & 0x7FFFFFFF)


def _values(keys: Tensor) -> Tensor:
    return (keys ^ ((keys >> 31) & 0x7FFFFFFF)).view(torch.float32)


def _ranges(rows: list[int]) -> Iterator[tuple[int, int]]:
    """Smallest and largest key of ranges that hold all rows, of at most `PIECE` of them or of one upper half.

    Args:
        rows: by the upper half of their keys, which is -32,768 at first.
    """
    low = held = 0
    for upper, count in enumerate([*rows, PIECE]):
        if held and held + count > PIECE:
            yield (low - _HALF) << 16, ((upper - _HALF) << 16) - 1
            low, held = upper, 0
        held += count


def _summed(keys: list[Tensor], sums: list[Tensor]) -> tuple[Tensor, Tensor]:
    """The distinct keys, ascending, and the sums of each."""
    distinct, number = torch.cat(keys).unique(return_inverse=True)
    every = torch.cat(sums)
    return distinct, every.new_zeros(len(distinct), every.shape[1]).index_add_(0, number, every)
