"""Sizes of TT-Rec's cache: the rows that training looks up most, kept uncompressed (Yin et al. 2021, section 4.2)."""

from __future__ import annotations

from embpress.compressors.errors import InputError
from embpress.compressors.row_cache import index_slots


def serving_bytes(rows: int, dim: int, itemsize: int = 4) -> int:
    """What a cache of so many rows adds to a table that is served: values, ids, index."""
    return rows * (itemsize * dim + 8) + 4 * index_slots(rows) if rows else 0


def rows_to_cache(n: int, cache_rows: int, cache_fraction: float) -> int:
    """Rows of the cache, from their number (a smaller table is cached whole) or their share (at least one)."""
    if cache_rows and cache_fraction:
        raise InputError("tt: give cache_rows or cache_fraction, not both")
    if cache_rows < 0:
        raise InputError(f"tt: cache_rows={cache_rows} is negative")
    if not 0 <= cache_fraction <= 1:
        raise InputError(f"tt: cache_fraction={cache_fraction:g} is not between 0 and 1")
    return max(1, round(cache_fraction * n)) if cache_fraction else min(cache_rows, n)
