"""Csv and parquet files in blocks: every column is staged as it is, and what it is is found out at the end."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence

import numpy as np
import polars as pl
from numpy.typing import NDArray

from embpress.compressors.errors import InputError
from embpress.dlrm.data.prepare.blocks import Block, Column, Layout
from embpress.dlrm.data.prepare.distinct import packed
from embpress.dlrm.data.prepare.sources.tables import csv_frames, parquet_frames, parquet_schema
from embpress.dlrm.data.prepare.staging import StagedColumn, Staging
from embpress.dlrm.data.raw import log_dense
from embpress.dlrm.data.readers.chunks import SourceFile, source_file
from embpress.dlrm.data.readers.columns import choose_columns, named
from embpress.dlrm.data.readers.files import Paths, reason
from embpress.dlrm.data.readers.labels import read_labels
from embpress.dlrm.data.readers.source import by_place, line_of
from embpress.dlrm.data.readers.tabular import all_lists, flattened, numbers, parse_lists, plain


class TabularSource:
    """See `readers.tabular.read_tabular`."""

    def __init__(
        self,
        format: str,
        paths: Paths,
        test: Paths = (),
        rows: int | None = None,
        label: str | None = None,
        dense: Sequence[str] | None = None,
        sparse: Sequence[str] | None = None,
    ) -> None:
        self.files: list[SourceFile] = []
        self.test_rows: int | None = None
        self._format, self._rows = format, rows
        self._paths, self._test = [str(p) for p in paths], [str(p) for p in test]
        self._roles = (label, dense, sparse)
        self._names: list[str] = []  # of all columns
        self._places: dict[str, int] = {}  # of their names
        self._used: list[str] = []
        self._first_rows: list[int] = []  # of each file
        self._samples: dict[str, pl.Series] = {}  # the first value, of columns of lists

    @property
    def _called(self) -> str:
        return " and ".join(self._paths)

    def blocks(self) -> Iterator[Block]:
        """All rows in order."""
        types = self._types() if self._format == "parquet" else None
        total = 0
        for test, paths in ((False, self._paths), (True, self._test)):
            left, before = self._rows, total
            for path in paths:
                if left is not None and left <= 0:
                    break
                file = source_file(path, test)
                self.files.append(file)
                self._first_rows.append(total)
                start = total
                for frame in (csv_frames if types is None else parquet_frames)(file, left):
                    if not self._names:
                        self._begin(frame.columns)
                    placed = by_place(frame, path, self._names, self._paths[0])
                    if types is not None:
                        placed = pl.concat([types, placed], how="vertical_relaxed")
                    total += frame.height
                    yield self._block(placed)
                if total == start:
                    raise InputError(f"{path} has columns but no rows; it must hold at least one row")
                left = None if left is None else left - (total - start)
            if test and paths:
                self.test_rows = total - before

    def _begin(self, columns: list[str]) -> None:
        """Takes the columns of the first file; those that are named must be among them, and others may be of no use."""
        self._names, self._places = columns, {name: place for place, name in enumerate(columns)}
        label, dense, sparse = self._roles
        taken = named(columns, self._called, label, dense, sparse)
        self._used = list(taken) if label is not None and sparse is not None else columns

    def _types(self) -> pl.DataFrame:
        """A frame without rows of the types that the columns of all files have together."""
        frames: list[pl.DataFrame] = []
        names: list[str] = []
        for paths in (self._paths, self._test):
            left = self._rows
            for path in paths:
                if left is not None and left <= 0:
                    break
                empty, rows = parquet_schema(path)
                names = names or empty.columns
                frames.append(by_place(empty, path, names, self._paths[0]))
                left = None if left is None else left - rows
        try:
            return pl.concat(frames, how="vertical_relaxed")
        except pl.exceptions.PolarsError as e:
            raise InputError(
                f"{', '.join([*self._paths, *self._test])}: a column has different types in these files ({reason(e)}); "
                "give it one type"
            ) from e

    def _block(self, frame: pl.DataFrame) -> Block:
        columns = []
        for name in self._used:
            column = frame.to_series(self._places[name]).alias("")
            if isinstance(column.dtype, (pl.List, pl.Array)):
                self._samples.setdefault(name, column[:1])
                column = column.arr.to_list() if isinstance(column.dtype, pl.Array) else column
                columns.append(Column(*flattened(column)))
            else:
                columns.append(Column(column))
        return Block(frame.height, columns)

    def layout(self, staging: Staging) -> Layout:
        """Which columns are what, given or guessed; columns of text that hold lists become columns of lists."""
        values = _Values(self._used, staging, self._samples)
        label, dense, sparse = self._roles
        roles = choose_columns(values, self._called, label, dense, sparse)
        place = {name: column for column, name in enumerate(self._used)}

        def where(column: int) -> Callable[[int], str]:
            if self._used[column] in self._samples:
                return lambda _: self._where(0)
            return lambda entry: self._where(staging.row_of(column, entry))

        def found(column: int) -> NDArray[np.float32]:
            name = self._used[column]
            if name == roles.label:
                return read_labels(values[name], where(column))
            of_values = values[name]
            return log_dense([numbers(of_values, name, where(column))], len(of_values))[:, 0]

        for name in roles.sparse:
            staged = staging.columns[place[name]]
            if staged.dtype == pl.String and not staged.jagged and all_lists(values[name]):
                lists = parse_lists(values[name], name, where(place[name]))
                staging.columns[place[name]] = _as_lists(staging, place[name], lists)
        return Layout(
            features=roles.sparse,
            sparse=[place[name] for name in roles.sparse],
            dense_names=roles.dense,
            ids=lambda column: plain(staging.columns[column].all_values(), self._used[column], where(column)),
            dense=[place[name] for name in roles.dense],
            label=place[roles.label],
            numbers=found,
            about={
                "files": self._paths,
                "test_files": self._test,
                "columns": {
                    "label": roles.label,
                    "dense": roles.dense,
                    "sparse": roles.sparse,
                    "guessed": roles.guessed,
                },
            },
        )

    def _where(self, row: int) -> str:
        """The place of a row, as `readers.source.Source.where` says it."""
        file = int(np.searchsorted(self._first_rows, row, side="right")) - 1
        path, row = self.files[file].path, row - self._first_rows[file]
        return f"{path}, row {row + 1}" if self._format == "parquet" else f"{path}, line {line_of(path, row)}"


class _Values(Mapping[str, pl.Series]):
    """The distinct values of each column, read when they are asked for; of a column of lists its first value."""

    def __init__(self, names: list[str], staging: Staging, samples: dict[str, pl.Series]) -> None:
        self._places = {name: column for column, name in enumerate(names)}
        self._staging, self._samples = staging, samples

    def __getitem__(self, name: str) -> pl.Series:
        sample = self._samples.get(name)
        return self._staging.columns[self._places[name]].all_values() if sample is None else sample

    def __iter__(self) -> Iterator[str]:
        return iter(self._places)

    def __len__(self) -> int:
        return len(self._places)


def _as_lists(staging: Staging, column: int, lists: pl.Series) -> StagedColumn:
    """A column whose values are lists, staged anew; the lists of its distinct values are given."""
    items, lengths = flattened(lists)
    starts = np.concatenate([[0], np.cumsum(lengths, dtype=np.int64)])[:-1]
    old, new = staging.columns[column], None
    for block in range(staging.blocks):
        n = staging.gathered(column, lengths, block).astype(np.int64)
        first = staging.gathered(column, starts, block).astype(np.int64)
        shift = np.repeat(first - (np.cumsum(n) - n), n)
        made = Column(items.gather(np.arange(len(shift)) + shift), n)
        new = new or StagedColumn(staging.folder, f"{column}.lists", made)
        new.add(made, *packed([made.values]))
    old.remove()
    assert new is not None  # there is a block
    return new
