"""The first pass: blocks on disk, each column as numbers of the values that the block has."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import polars as pl
from numpy.typing import NDArray

from embpress.dlrm.data.prepare.blocks import Block, Column
from embpress.dlrm.data.prepare.distinct import distinct, packed, unpacked
from embpress.dlrm.data.prepare.spool import Spool
from embpress.dlrm.data.raw import Ints


class StagedColumn:
    """A column on disk.

    Attributes:
        dtype: of its values.
        entries: of each block, how many distinct values it has there.
        jagged: rows may have several values, or none; whoever knows better may say that they have not.
        single: all rows so far have exactly one.
    """

    def __init__(self, folder: Path, name: str, first: Column) -> None:
        self.dtype = first.values.dtype
        self.jagged = first.lengths is not None
        self.entries: list[int] = []
        self.single = True
        self.codes, self.values, self._lengths = (Spool(folder / f"{name}.{what}") for what in ("codes", "values", "n"))

    def add(self, column: Column, numbers: pl.Series | None = None) -> None:
        """Appends the values of a block, given packed as well where they can be."""
        codes, entries = distinct(column.values, numbers)
        self.codes.add_array(codes.astype(np.min_scalar_type(len(entries))))
        self.values.add_series(entries)
        self.entries.append(len(entries))
        if column.lengths is not None:
            self._lengths.add_array(np.asarray(column.lengths, np.int32))
            self.single &= bool((column.lengths == 1).all())

    def lengths(self, block: int) -> NDArray[np.int32] | None:
        """How many values each row of a block has; None where each has one."""
        return self._lengths.array(block) if self.jagged else None

    def packed_values(self) -> list[pl.Series]:
        """The distinct values of each block; text as numbers where it could be packed."""
        return [self.values.series(block) for block in range(len(self.entries))]

    def all_values(self) -> pl.Series:
        """The distinct values of all blocks, one block after the other: `(sum(entries),)`, repeated between blocks."""
        return self._joined(self.packed_values())

    def keys(self) -> pl.Series:
        """As `all_values`, but text as numbers where all of it could be packed."""
        pieces = self.packed_values()
        return pl.concat(pieces) if len({piece.dtype for piece in pieces}) == 1 else self._joined(pieces)

    def values_of(self, block: int) -> pl.Series:
        """The distinct values of a block."""
        return self._joined([self.values.series(block)])

    def _joined(self, pieces: list[pl.Series]) -> pl.Series:
        if self.dtype == pl.String:
            pieces = [unpacked(piece) if piece.dtype == pl.UInt64 else piece for piece in pieces]
        return pl.concat(pieces)

    def remove(self) -> None:
        """Deletes its files."""
        for spool in (self.codes, self.values, self._lengths):
            spool.remove()


class Staging:
    """All rows of a source on disk.

    Attributes:
        columns: on disk.
        starts: the first row of each block, and at the end the number of rows.
        labels, dense: of each block, where blocks have them.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.columns: list[StagedColumn] = []
        self.starts = [0]
        self.labels, self.dense = Spool(folder / "labels"), Spool(folder / "dense")

    @property
    def rows(self) -> int:
        """How many rows there are."""
        return self.starts[-1]

    @property
    def blocks(self) -> int:
        """How many blocks there are."""
        return len(self.starts) - 1

    def add(self, block: Block) -> None:
        """Appends a block."""
        if not self.columns:
            self.columns = [StagedColumn(self.folder, str(c), column) for c, column in enumerate(block.columns)]
        numbers = packed([column.values for column in block.columns])
        for staged, column, short in zip(self.columns, block.columns, numbers, strict=True):
            staged.add(column, short)
        if block.labels is not None:
            self.labels.add_array(block.labels)
        if block.dense is not None:
            self.dense.add_array(block.dense)
        self.starts.append(self.rows + block.rows)

    def row_of(self, column: int, entry: int) -> int:
        """The first row of a column of single values that holds a value, by its place in `all_values`."""
        before = np.cumsum([0, *self.columns[column].entries])
        block = int(np.searchsorted(before, entry, side="right")) - 1
        codes = self.columns[column].codes.array(block)
        return self.starts[block] + int((codes == entry - before[block]).argmax())

    def gathered(self, column: int, of_entries: Ints, block: int) -> Ints:
        """What belongs to the values of a column in a block, from what belongs to `all_values`."""
        entries = self.columns[column].entries
        start = sum(entries[:block])
        codes = self.columns[column].codes.array(block)
        return np.asarray(of_entries[start : start + entries[block]][codes])
