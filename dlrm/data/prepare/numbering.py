"""The second pass: one column after the other, which table row each of its values gets."""

from __future__ import annotations

import io
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import polars as pl
from numpy.typing import NDArray

from embpress.dlrm.data.prepare.distinct import unpacked
from embpress.dlrm.data.prepare.division import Division
from embpress.dlrm.data.prepare.staging import StagedColumn, Staging
from embpress.dlrm.data.raw import Ints, codes_of
from embpress.dlrm.data.vocabulary import number


@dataclass
class Numbered:
    """What became of a column.

    Attributes:
        rows_of: the table row of each of `StagedColumn.all_values`: `(entries,)`.
        counts: `(n,)` int64, lookups of each table row in the rows trained on.
        vocabulary: `(n - 1,)`, the values that have rows 1, 2, ….
    """

    rows_of: Ints
    counts: NDArray[np.int64]
    vocabulary: pl.Series


def numbered(
    staging: Staging,
    column: StagedColumn,
    values: pl.Series,
    division: Division,
    min_count: int,
    shuffle: np.random.Generator | None,
    max_rows: int | None,
) -> Numbered:
    """Numbers the values of a column as `vocabulary.encode` does, a block at a time.

    Args:
        staging: all rows.
        column: one of its columns.
        values: of `Layout.ids`, `(entries,)`; those that are missing are null.
        division: which rows are trained on.
        min_count, shuffle, max_rows: as in `encode`.
    """
    codes = codes_of(values)
    distinct = int(codes.max(initial=-1)) + 1
    counts, first = np.zeros(distinct, np.int64), np.full(distinct, np.iinfo(np.int64).max)
    start = seen = 0
    for block, size in enumerate(column.entries):
        trained = trained_on(staging, column, division, block)
        found = np.bincount(trained, minlength=size)
        place = np.zeros(size, np.int64)
        place[trained[::-1]] = np.arange(seen, seen + len(trained))[::-1]  # the last write stays: the first place
        known = codes[start : start + size]
        there = (known >= 0) & (found > 0)
        np.add.at(counts, known[there], found[there])
        np.minimum.at(first, known[there], place[there])
        start, seen = start + size, seen + len(trained)
    rows, kept = number(counts, first, min_count, shuffle, max_rows)
    of_rows = np.concatenate([[seen - int(counts[kept].sum())], counts[kept]])
    newest = np.maximum.accumulate(codes)
    examples = values.gather(np.flatnonzero(np.diff(newest, prepend=-1) > 0)[kept])
    packed_text = column.dtype == pl.String and examples.dtype == pl.UInt64
    return Numbered(rows[codes], of_rows, unpacked(examples) if packed_text else examples)


def trained_on(staging: Staging, column: StagedColumn, division: Division, block: int) -> NDArray[np.int32]:
    """The values of a block's training rows, by their number in the block."""
    codes: NDArray[np.int32] = column.codes.array(block)
    begin, end = staging.starts[block : block + 2]
    rows = division.rows(begin, end)[0]
    lengths = column.lengths(block)
    if lengths is None:
        return codes[rows]
    trained = np.zeros(end - begin, bool)
    trained[rows] = True
    return codes[np.repeat(trained, lengths)]


def write_vocabulary(path: Path, values: pl.Series) -> None:
    """Writes the values of a table's rows from 1 on, one a row of a parquet file."""
    buffer = io.BytesIO()
    pl.DataFrame([values.alias("value")]).write_parquet(buffer, compression="uncompressed", statistics=False)
    path.write_bytes(buffer.getbuffer())  # not by polars: its error for a full disk is none of the system's
