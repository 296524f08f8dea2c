"""Shapes of tensor-train cores for any number of rows and any width (TT-Rec, section 3.1 and Table 2)."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from functools import cache

from embpress.compressors.errors import InputError


def divisors(n: int) -> list[int]:
    """All divisors of n, ascending."""
    small = [d for d in range(1, math.isqrt(n) + 1) if n % d == 0]
    return small + [n // d for d in reversed(small) if d * d != n]


@cache
def factor_width(dim: int, num_cores: int) -> tuple[int, ...]:
    """Factors `q` of the width with `prod q = dim` exactly, as even as the width allows.

    The largest is last (its core has rank 1 on one side, so it is cheapest there), the smallest in the middle (the
    middle core has both ranks); a factor is 1 only where the width forces it.
    """

    def search(rest: int, count: int, minimum: int) -> list[tuple[int, ...]]:
        if count == 1:
            return [(rest,)] if rest >= minimum else []
        return [(d, *tail) for d in divisors(rest) if d >= minimum for tail in search(rest // d, count - 1, d)]

    even = min(search(dim, num_cores, 1), key=lambda q: (q.count(1), sum(q)))
    *others, largest = even  # ascending
    if num_cores == 2:
        return (*others, largest)
    # what is left of the small factors: the larger ones outside, the smaller ones between
    return (others[-1], *others[:-1], largest)


@cache
def factor_rows(num_embeddings: int, num_cores: int) -> tuple[int, ...]:
    """Factors `p` with `prod p >= num_embeddings`, each within 8 % of the root: the most even with 0.2 % of padding.

    Where none has so little padding, the most even that hold the table. The bounds are rounded outward to whole
    numbers: the root of 10,779 for four cores is 10.2, and 9 to 12 are allowed.
    """
    root = num_embeddings ** (1 / num_cores)
    window = range(max(1, math.floor(root * 0.92)), math.ceil(root * 1.08) + 1)
    if num_cores == 4 and len(window) > 24:
        window = range(math.floor(root) - 11, math.ceil(root) + 12)
    best: tuple[tuple[float, ...], tuple[int, ...]] | None = None
    # the middle cores are the big ones: only factors up to the root's ceiling stand there
    middle = [p for p in window if p <= math.ceil(root)]
    for inner in itertools.combinations_with_replacement(middle, num_cores - 2):
        held = math.prod(inner)
        for first in window:
            last = -(-num_embeddings // (held * first))
            if not window[0] <= last <= window[-1]:
                continue
            factors = (first, *inner, last)
            padding = math.prod(factors) - num_embeddings
            score = (padding > 0.002 * num_embeddings, max(factors) - min(factors), padding)
            if best is None or score < best[0]:
                best = (score, factors)
    if best is None:  # tiny tables: the ceiling of the root always holds them
        return (math.ceil(root - 1e-9),) * num_cores
    return best[1]


def core_ranks(rank: int | Sequence[int], rows: Sequence[int], columns: Sequence[int]) -> tuple[int, ...]:
    """`(1, R_1, …, R_{d-1}, 1)`: the rank asked for, cut where no matrix of that unfolding could have it.

    Args:
        rank: one rank for all, or `d - 1` ranks.
        rows: factors `p`.
        columns: factors `q`.
    """
    count = len(rows)
    inner = [rank] * (count - 1) if isinstance(rank, int) else list(rank)
    sizes = [p * q for p, q in zip(rows, columns)]
    left = list(itertools.accumulate(sizes, lambda a, b: a * b))
    whole = left[-1]
    return (1, *(min(r, left[k], whole // left[k]) for k, r in enumerate(inner)), 1)


def num_parameters(rows: Sequence[int], columns: Sequence[int], ranks: Sequence[int]) -> int:
    """`Σ R_{k-1} p_k q_k R_k`."""
    return sum(ranks[k] * p * q * ranks[k + 1] for k, (p, q) in enumerate(zip(rows, columns)))


def factors(
    n: int, dim: int, num_cores: int, row_factors: Sequence[int] | None, column_factors: Sequence[int] | None
) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Factors of rows and width, given or automatic."""
    if num_cores not in (2, 3, 4):
        raise InputError(f"tt: num_cores={num_cores}, it must be 2, 3 or 4")
    row_factors = factor_rows(n, num_cores) if row_factors is None else tuple(row_factors)
    column_factors = factor_width(dim, num_cores) if column_factors is None else tuple(column_factors)
    if len(row_factors) != num_cores or math.prod(row_factors) < n or min(row_factors) < 1:
        raise InputError(f"tt: row_factors={row_factors} must be {num_cores} factors with a product of at least {n}")
    if len(column_factors) != num_cores or math.prod(column_factors) != dim:
        raise InputError(f"tt: column_factors={column_factors} must be {num_cores} factors with product {dim}")
    return row_factors, column_factors
