"""Which elements of a table are its largest: a bound, and where the last of those that are just as large is."""

from __future__ import annotations

import math

import torch
from torch import Tensor

_PART = 1 << 20  # elements that are compared at a time


def _sizes(weight: Tensor) -> Tensor:
    """Magnitudes; what is no number counts as infinite, so that it stays and shows."""
    return weight.detach().abs().nan_to_num(nan=math.inf, posinf=math.inf)


def cut_of(weight: Tensor, kept: int, *, traced: bool = False) -> tuple[Tensor, Tensor]:
    """What tells the `kept` elements of largest magnitude from the others, of equal ones the first.

    Args:
        weight: `(n, D)`.
        kept: from 1 to `n D`.
        traced: no shape may depend on values, which takes 8 bytes an element.

    Returns:
        A magnitude half way between the smallest that is kept and the largest that is not, so that a small change of
        either tips nothing; and the place, in row after row, of the last element of just this magnitude that is kept,
        int64, -1 where none is. Scalars.
    """
    sizes = _sizes(weight).flatten()
    bound = sizes.kthvalue(sizes.shape[0] - kept + 1).values
    if kept < sizes.shape[0]:
        bound = (bound + sizes.kthvalue(sizes.shape[0] - kept).values) / 2
    wanted = kept - (sizes > bound).sum()
    equal = sizes == bound
    if traced:
        last = torch.searchsorted(equal.cumsum(0, dtype=torch.int64), wanted)
        return bound, last.masked_fill(wanted == 0, -1)
    places = torch.cat([wanted.new_full((1,), -1), equal.nonzero().flatten()])
    return bound, places[wanted]


def largest(rows: Tensor, places: Tensor, bound: Tensor, last: Tensor) -> Tensor:
    """Which elements are kept, by what `cut_of` said.

    Args:
        rows: elements, any shape.
        places: where they are in their table, int64.
        bound, last: broadcast against both.
    """
    sizes = _sizes(rows)
    return ~((sizes < bound) | ((sizes == bound) & (places > last)))


def largest_of(weight: Tensor, kept: int) -> Tensor:
    """Which elements of a table `(n, D)` are its `kept` largest: `(n, D)` bool."""
    bound, last = cut_of(weight, kept)
    parts = [
        largest(part, torch.arange(start, start + len(part), device=weight.device), bound, last)
        for start, part in zip(range(0, weight.numel(), _PART), weight.flatten().split(_PART))
    ]
    return torch.cat(parts).view_as(weight)
