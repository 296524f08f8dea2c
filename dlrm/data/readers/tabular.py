"""Csv (with a header) and parquet files."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence

import numpy as np
import polars as pl

from embpress.compressors.errors import InputError
from embpress.compressors.guard import shown
from embpress.dlrm.data.raw import Ints, RawField, RawTable, codes_of, log_dense
from embpress.dlrm.data.readers.columns import choose_columns
from embpress.dlrm.data.readers.files import Paths
from embpress.dlrm.data.readers.labels import read_labels
from embpress.dlrm.data.readers.source import read_source

Where = Callable[[int], str]


def read_tabular(
    format: str,
    paths: Paths,
    test: Paths = (),
    rows: int | None = None,
    label: str | None = None,
    dense: Sequence[str] | None = None,
    sparse: Sequence[str] | None = None,
) -> RawTable:
    """Reads csv or parquet files, one after the other.

    Columns of lists (parquet lists; in csv a column whose every value is like `[1, 5, 7]`) are multi-hot; null is an
    empty bag.

    Args:
        format: `csv` or `parquet`.
        paths: training files, or all files where `test` is empty.
        test: test files.
        rows: read only so many rows of `paths` and so many of `test`.
        label: name of the label column; None guesses.
        dense: names of the dense columns; None guesses.
        sparse: names of the sparse columns; None guesses.

    Raises:
        InputError: a file cannot be read, no such column, a label other than 0/1 or -1/1, or a dense value that is no
            number; names the file and line.
    """
    source = read_source(format, paths, test, rows)
    columns = source.columns
    roles = choose_columns(columns, " and ".join(str(p) for p in paths), label, dense, sparse)
    return RawTable(
        labels=read_labels(columns[roles.label], source.where),
        dense_names=roles.dense,
        dense=log_dense([numbers(columns[c], c, source.where) for c in roles.dense], source.rows),
        features=roles.sparse,
        fields=[_field(columns[c], c, source.where) for c in roles.sparse],
        test_rows=source.test_rows if test else None,
        about={
            "files": [str(p) for p in paths],
            "test_files": [str(p) for p in test],
            "columns": {"label": roles.label, "dense": roles.dense, "sparse": roles.sparse, "guessed": roles.guessed},
        },
    )


def numbers(column: pl.Series, name: str, where: Where) -> pl.Series:
    """A dense column as Float64, null where missing."""
    if column.dtype == pl.String:
        column = column.str.strip_chars()
        column = column.set(column == "", None)
    elif not (column.dtype.is_numeric() or column.dtype in (pl.Boolean, pl.Null)):
        raise InputError(f"{where(0)}: dense column {name!r} has type {column.dtype}, but it must hold numbers")
    found = column.cast(pl.Float64, strict=False)
    bad = (found.is_null() & column.is_not_null()) | found.is_infinite().fill_null(False)
    if bad.any():
        row = int(bad.arg_true()[0])
        raise InputError(
            f"{where(row)}: dense column {name!r} holds {shown(column[row])}, "
            "but it must be a finite number or empty; name the column as sparse if it holds ids"
        )
    return found


def _field(column: pl.Series, name: str, where: Where) -> RawField:
    """A sparse column with its values numbered."""
    if isinstance(column.dtype, pl.Array):
        column = column.arr.to_list()
    elif column.dtype == pl.String and all_lists(column):
        column = parse_lists(column, name, where)
    if not isinstance(column.dtype, pl.List):
        return RawField(codes_of(plain(column, name, where)))
    values, lengths = flattened(column)
    offsets = np.concatenate([[0], np.cumsum(lengths, dtype=np.int64)])
    return RawField(codes_of(plain(values, name, where)), offsets)


def flattened(column: pl.Series) -> tuple[pl.Series, Ints]:
    """All values of a column of lists, and how many each row has; null is an empty one."""
    lengths = column.list.len().fill_null(0)
    return column.filter(lengths > 0).explode(), lengths.to_numpy()  # an empty list would become a null


def plain(column: pl.Series, name: str, where: Where) -> pl.Series:
    """Ids as integers or text, 3.0 like 3, NaN as null."""
    dtype = column.dtype
    if dtype.is_nested() or dtype in (pl.Binary, pl.Object, pl.Duration):
        raise InputError(f"{where(0)}: sparse column {name!r} has type {dtype}, but it must hold ids or lists of ids")
    if dtype.is_float():
        column = column.fill_nan(None)
        whole = ((column % 1 == 0) & (column.abs() < 2**53)).fill_null(True).all()
        return column.cast(pl.Int64) if whole else column
    if dtype == pl.String:
        if column.str.contains(r"^-?\d+(\.0+)?$").fill_null(True).all():
            return column.str.replace(r"\.0+$", "")
        return column
    if dtype == pl.Boolean:
        return column.cast(pl.Int8)
    small = dtype.is_integer() and dtype not in (pl.Int128, pl.UInt128)  # numpy has no larger ones
    return column if small else column.cast(pl.String)


def all_lists(column: pl.Series) -> bool:
    """Whether every value of a column of text is a list, and there is one."""
    present = column.drop_nulls()
    return len(present) > 0 and bool((present.str.starts_with("[") & present.str.ends_with("]")).all())


def parse_lists(column: pl.Series, name: str, where: Where) -> pl.Series:
    """Text such as `[1, 5, 7]` as lists of text; null stays null."""
    if not column.str.contains(r'["\\\[{].*["\\\[{]').any():  # plain values: no need for a parser
        inner = column.str.slice(1).str.strip_suffix("]").str.strip_chars()
        items = inner.set(inner == "", None).str.split(",")
        return items.list.eval(pl.element().str.strip_chars())
    lists: list[list[str | None] | None] = []
    for row, text in enumerate(column):
        try:
            values = [] if text is None else json.loads(text)
            plain = [None if v is None else str(v) for v in values if not isinstance(v, (list, dict))]
            "".join(v for v in plain if v is not None).encode()  # \ud800 alone is JSON, but no character
        except (ValueError, RecursionError):  # no JSON, or a number or a depth that Python has no room for
            values, plain = [[]], []
        if len(plain) < len(values):
            raise InputError(f"{where(row)}: column {name!r} holds {shown(text)}, but it must be a list like [1, 5, 7]")
        lists.append(plain)
    return pl.Series(lists, dtype=pl.List(pl.String))
