"""Ids from values: learned from the rows trained on alone, most frequent first, row 0 for what it does not know."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from embpress.dlrm.data.raw import Ints, RawField


def training_values(field: RawField, training: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Which of a field's values belong to rows that are trained on: `(total,)` bool."""
    return training if field.offsets is None else np.repeat(training, np.diff(field.offsets))


def encode(
    field: RawField,
    training: NDArray[np.bool_],
    min_count: int,
    shuffle: np.random.Generator | None = None,
    max_rows: int | None = None,
) -> tuple[Ints, int]:
    """Maps a field's values to table rows.

    A value that occurs at least `min_count` times in the rows trained on gets a row from 1 on, the most frequent
    first (ties in order of first appearance): a choice of ours, by which methods gain that share memory between
    neighbouring rows, such as TT-Rec and QR. All others, and missing ones, get row 0.

    Args:
        field: the values of all rows.
        training: `(N,)` bool, true for the rows trained on (neither valid nor test).
        min_count: how often a value must occur in the rows trained on.
        shuffle: puts the rows from 1 on in a random order.
        max_rows: of the table, row 0 included: the most frequent values get them.

    Returns:
        The row of each value, `(total,)` int32 (int64 for 2**31 rows and more), and the number of rows, row 0 included.
    """
    codes = field.codes
    seen = codes[training_values(field, training)]
    seen = seen[seen >= 0]
    distinct = int(codes.max(initial=-1)) + 1
    counts = np.bincount(seen, minlength=distinct)
    first = np.full(distinct, len(seen))
    first[seen[::-1]] = np.arange(len(seen))[::-1]  # of repeated positions the last write stays: the first appearance
    rows, kept = number(counts, first, min_count, shuffle, max_rows)
    return rows[codes], len(kept) + 1


def number(
    counts: NDArray[np.int64],
    first: NDArray[np.int64],
    min_count: int,
    shuffle: np.random.Generator | None = None,
    max_rows: int | None = None,
) -> tuple[Ints, NDArray[np.int64]]:
    """Gives the distinct values that are frequent enough a row each: see `encode`.

    Args:
        counts: `(V,)`, how often each value occurs in the rows trained on.
        first: `(V,)`, a place of its first appearance there, which grows with it.
        min_count, shuffle, max_rows: as in `encode`.

    Returns:
        The row of each value, `(V + 1,)` int32 (int64 for 2**31 rows and more), the last of them 0, for code -1; and
        the values that have rows 1, 2, …, `(rows - 1,)`.
    """
    kept = np.flatnonzero(counts >= max(1, min_count))
    kept = kept[np.lexsort((first[kept], -counts[kept]))]
    kept = kept if max_rows is None else kept[: max_rows - 1]
    rows = np.zeros(len(counts) + 1, np.int32 if len(kept) < 2**31 - 1 else np.int64)
    if shuffle is not None:
        kept = shuffle.permutation(kept)
    rows[kept] = np.arange(1, len(kept) + 1)
    return rows, kept
