"""Columns with too many values for a vocabulary: the row of an id is its hash."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import polars as pl
from numpy.typing import NDArray

from embpress.dlrm.data.prepare.division import Division
from embpress.dlrm.data.prepare.numbering import trained_on
from embpress.dlrm.data.prepare.spool import Spool
from embpress.dlrm.data.prepare.staging import StagedColumn, Staging
from embpress.dlrm.data.readers.hashing import U64, hash_of

_MERGED = 1 << 20  # hashes that are put together at once, at least


def hashed(
    staging: Staging,
    column: StagedColumn,
    values: Callable[[int], pl.Series],
    division: Division,
    bits: int,
    path: Path,
) -> tuple[Spool, NDArray[np.int64]] | None:
    """Gives the values of a column rows by their hashes, where there are more than `2**bits` of them.

    A value's row is 1 and the highest bits of its hash: `2**bits + 1` rows with row 0, which is for missing values
    alone. Memory is that of `2**bits` values and of a block.

    Args:
        staging: all rows.
        column: one of its columns.
        values: of a block, as `Layout.ids_of_block`.
        division: which rows are trained on.
        bits: 1 to 30.
        path: for the pieces.

    Returns:
        The table row of each of a block's distinct values, a piece a block, and lookups of each table row in the rows
        trained on, `(2**bits + 1,)`; None where there are no more values than `2**bits`.
    """
    spool, counts, seen = Spool(path), np.zeros(2**bits + 1, np.int64), _Seen(2**bits)
    for block, size in enumerate(column.entries):
        found = values(block)
        hashes, present = hash_values(found), found.is_not_null().to_numpy()
        rows = np.where(present, 1 + (hashes >> np.uint64(64 - bits)).astype(np.int64), 0)
        spool.add_array(rows.astype(np.int32))
        seen.add(hashes[present])
        np.add.at(counts, rows, np.bincount(trained_on(staging, column, division, block), minlength=size))
    if seen.many():
        return spool, counts
    spool.remove()
    return None


def hash_values(values: pl.Series) -> U64:
    """A 64-bit hash of each value: `(total,)`; null has one, too."""
    if values.dtype.is_integer() and values.dtype not in (pl.Int128, pl.UInt128):
        return hash_of(values.fill_null(0).to_numpy())
    text = values.cast(pl.String).fill_null("").to_numpy()
    return np.asarray(pd.util.hash_array(text.astype(object), categorize=False), np.uint64)


class _Seen:
    """How many different hashes there are, as far as a limit."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._known: U64 = np.zeros(0, np.uint64)
        self._new: list[U64] = []

    def add(self, hashes: U64) -> None:
        if len(self._known) <= self._limit:
            self._new.append(hashes)
            if sum(map(len, self._new)) > max(_MERGED, len(self._known)):
                self.many()

    def many(self) -> bool:
        """Whether there are more than the limit."""
        self._known = np.unique(np.concatenate([self._known, *self._new]))
        self._new = []
        return len(self._known) > self._limit
