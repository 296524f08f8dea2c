"""Ranks of a tensor train for a tolerance or a size, from what each pair of singular vectors holds of the table."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from embpress.compressors.errors import BudgetError
from embpress.compressors.spec import as_bytes, as_ratio
from embpress.compressors.trained_table import aimed_at, only_one


def goal(
    dtype: torch.dtype,
    full: int,
    smallest: int,
    beside: int = 0,
    *,
    rank: int | tuple[int, ...] | None,
    tolerance: float | None,
    budget: int | None,
    ratio: float | None,
) -> dict[str, Any]:
    """The one thing asked for, as keywords of `tt_svd.decompose`; rank 32 where nothing is.

    Args:
        dtype: of the cores.
        full: bytes of the full table in float32.
        smallest: parameters at rank 1.
        beside: bytes that the size counts besides the cores'.
        rank, tolerance, budget, ratio: as in `TTRec.from_dense`.

    Raises:
        InputError: two of them, or a tolerance that is none. BudgetError: under the bytes of rank 1.
    """
    only_one("tt", rank=rank, tolerance=tolerance, budget=budget, ratio=ratio)
    if tolerance is not None:
        return {"tolerance": aimed_at("tt", tolerance, dtype, 1e-12)}
    if budget is not None or ratio is not None:
        size = as_bytes(budget) if budget is not None else int(full / as_ratio(ratio or 0))
        min_size = smallest * dtype.itemsize + beside
        if size < min_size:
            raise BudgetError(f"tt cannot hold this table in {size} bytes, rank 1 takes {min_size}", min_size)
        return {"parameters": (size - beside) // dtype.itemsize, "rounding": torch.finfo(dtype).eps / 2}
    return {"rank": 32 if rank is None else rank}


def left_out(held: Tensor) -> Tensor:
    """Squared error of every cut: `held (a, b)` → `(a, b)`, entry `[i, j]` for the first i + 1 and j + 1 vectors.

    A sum of what is cut off, not the total less what is kept, so that small errors keep their digits.
    """

    def beyond(x: Tensor, dim: int) -> Tensor:
        tails = x.flip(dim).cumsum(dim).flip(dim)
        return torch.cat([tails.narrow(dim, 1, x.shape[dim] - 1), torch.zeros_like(x.narrow(dim, 0, 1))], dim)

    return beyond(held, 0).cumsum(1) + beyond(held.sum(0), 0)


def counts(sizes: Sequence[int], like: Tensor) -> Tensor:
    """Parameters of every cut of two or three cores of `sizes` p q, in the shape of `left_out`."""
    r1, r2 = _grid(like)
    first, middle, last = sizes if len(sizes) == 3 else (0, *sizes)  # two cores: the first rank is 1
    return r1 * first + r1 * r2 * middle + r2 * last


def best(error: Tensor, count: Tensor, nothing: float, limit: float | None, parameters: int | None) -> tuple[int, int]:
    """The two ranks of the fewest parameters within `limit`, or of the least error within `parameters`.

    Args:
        error: squared errors.
        count: parameters, of the same shape.
        nothing: squared error that is as good as none.
        limit: squared error allowed.
        parameters: where there is no limit; some cut has to fit.
    """
    allowed = torch.ones_like(error, dtype=torch.bool) if parameters is None else count <= parameters
    bound = float(error[allowed].min()) if limit is None else limit
    allowed &= error <= max(bound, nothing)
    index = int(torch.where(allowed, count, count.max() + 1).argmin())
    return index // error.shape[1] + 1, index % error.shape[1] + 1


def counts_of_four(sizes: Sequence[int], like: Tensor) -> Tensor:
    """As `counts` for four cores, the middle rank taken to be the larger of the two others."""
    r1, r3 = _grid(like)
    return r1 * sizes[0] + (r1 * sizes[1] + r3 * sizes[2]) * torch.maximum(r1, r3) + r3 * sizes[3]


def best_of_four(error: Tensor, tails: Tensor, sizes: Sequence[int], parameters: int) -> tuple[int, int, int]:
    """Three ranks for four cores within `parameters`, by the sum of the squared errors of the three cuts.

    Args:
        error: of the first and the last rank, as from `left_out`.
        tails: `tails[r - 1]` is the squared error of the middle rank r.
        sizes: the four products p q.
        parameters: at least those of rank 1.
    """
    r1, r3 = _grid(error)
    rest = parameters - r1 * sizes[0] - r3 * sizes[3]
    middle = rest.div(r1 * sizes[1] + r3 * sizes[2], rounding_mode="floor")
    middle = torch.minimum(middle, torch.minimum(r1 * sizes[1], r3 * sizes[2])).clamp(max=len(tails))
    estimate = torch.where(middle >= 1, error + tails[middle.clamp(min=1) - 1], math.inf)
    index = int(estimate.argmin())
    i, j = index // error.shape[1], index % error.shape[1]
    return i + 1, int(middle[i, j]), j + 1


def _grid(like: Tensor) -> tuple[Tensor, Tensor]:
    """All pairs of ranks in the shape of `like`."""
    a, b = (torch.arange(1, size + 1, device=like.device) for size in like.shape)
    return a[:, None].expand(like.shape), b.expand(like.shape)


def largest_rank(total: Callable[[int], int], size: int, what: str) -> int:
    """The largest rank with `total(rank)` at most `size` bytes, and of equal ones the smallest.

    Raises:
        BudgetError: rank 1 takes more.
    """
    if total(1) > size:
        raise BudgetError(f"tt cannot hold {what} in {size} bytes", total(1))
    low, high = 1, 2
    while total(high) <= size and total(high) > total(high - 1):
        low, high = high, 2 * high
    while low < high:
        middle = (low + high + 1) // 2
        low, high = (middle, high) if total(middle) <= size else (low, middle - 1)
    while low > 1 and total(low - 1) == total(low):  # the cut at the unfoldings' ranks makes larger ranks equal
        low -= 1
    return low
