"""Rows of csv and parquet files as one frame, and the way back from a row to its file and line."""

from __future__ import annotations

import csv
import io
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import numpy as np
import polars as pl

from embpress.compressors.errors import InputError
from embpress.dlrm.data.formats.files import Paths, check_file, read_text


@dataclass
class Source:
    """All files of one source, one after the other.

    Attributes:
        frame: N rows; every column of a csv is text.
        files: path and first row of each file.
        format: `csv` or `parquet`.
        test_rows: rows at the end that came from test files.
    """

    frame: pl.DataFrame
    files: list[tuple[str, int]]
    format: str
    test_rows: int

    def where(self, row: int) -> str:
        """The place of a row: `file, line 7` (header is line 1) or, in parquet, `file, row 6` (the first is row 1)."""
        path, start = next(f for f in reversed(self.files) if f[1] <= row)
        if self.format == "parquet":
            return f"{path}, row {row - start + 1}"
        return f"{path}, line {_line_of(read_text(path), row - start + 1)}"


def read_source(format: str, paths: Paths, test: Paths = (), rows: int | None = None) -> Source:
    """Reads files, at most `rows` rows of `paths` and so many of `test`.

    Raises:
        InputError: a file cannot be read, a csv line has a wrong number of fields, or files differ in their columns.
    """
    read = _read_csv if format == "csv" else _read_parquet
    frames: list[pl.DataFrame] = []
    files: list[tuple[str, int]] = []
    total = before_test = 0
    for group in (paths, test):
        left, before_test = rows, total
        for path in group:
            if left is not None and left <= 0:
                break
            frame = read(path, left)
            if frame.height == 0:
                raise InputError(f"{path} has columns but no rows; it must hold at least one row")
            if frames:
                frame = _same_columns(frame, path, frames[0], paths[0])
            frames.append(frame)
            files.append((str(path), total))
            total += frame.height
            left = None if left is None else left - frame.height
    try:
        together = pl.concat(frames, how="vertical_relaxed")
    except pl.exceptions.PolarsError as e:
        named = ", ".join(path for path, _ in files)
        raise InputError(f"{named}: a column has different types in these files ({_first(e)}); give it one type") from e
    return Source(together, files, format, total - before_test)


def _read_csv(path: str | Path, rows: int | None) -> pl.DataFrame:
    data = read_text(path, None if rows is None else rows + 1)
    if rows is not None and b'"' in data:  # quoted values may run over several lines
        data = read_text(path)
    names = next(csv.reader(io.StringIO(data.decode())), [])
    for name in names:
        if names.count(name) > 1:
            raise InputError(f"{path}, line 1: the header names column {name!r} twice; every column needs its own name")
    try:
        # everything as text: ids beyond 64 bits stay as they are
        frame = pl.read_csv(data, infer_schema=False, n_rows=rows)
    except pl.exceptions.PolarsError as e:
        _refuse_ragged(path, data, len(names), rows)
        raise InputError(f"{path} cannot be read as csv ({_first(e)})") from e
    # polars fills short lines up with nulls, so separators are counted before it is believed
    if _separators(data) != (len(names) - 1) * (frame.height + 1) or len(names) == 1:
        _refuse_ragged(path, data, len(names), rows)
    return frame


def _separators(data: bytes) -> int:
    if b'"' not in data:
        return data.count(b",")
    text = np.frombuffer(data, np.uint8)
    inside = np.bitwise_xor.accumulate((text == ord('"')).view(np.uint8))
    return int(np.count_nonzero((text == ord(",")) & (inside == 0)))


def _refuse_ragged(path: str | Path, data: bytes, expected: int, rows: int | None) -> None:
    reader, line = csv.reader(io.StringIO(data.decode(), newline="")), 1
    try:
        for values in islice(reader, None if rows is None else rows + 1):
            if len(values) != expected:
                found = f"{len(values)} fields" if values else "a blank line"
                raise InputError(f"{path}, line {line}: found {found}, expected {expected} fields as in the header")
            line = reader.line_num + 1
    except csv.Error as e:
        raise InputError(f"{path}, line {line}: cannot be read as csv ({e})") from e


def _line_of(data: bytes, record: int) -> int:
    """The physical line, from 1, on which record `record` starts; record 0 is the header."""
    reader = csv.reader(io.StringIO(data.decode(), newline=""))
    for _ in range(record):
        next(reader)
    return reader.line_num + 1


def _read_parquet(path: str | Path, rows: int | None) -> pl.DataFrame:
    check_file(path)
    try:
        with Path(path).open("rb") as f:  # a file, not a name: polars would expand * and ? in it
            frame = pl.read_parquet(f, n_rows=rows)
        return frame.with_columns(pl.col(pl.Categorical, pl.Enum).cast(pl.String))
    except (pl.exceptions.PolarsError, OSError) as e:
        raise InputError(f"{path} cannot be read as parquet ({_first(e)}); check the file or give its --format") from e


def _same_columns(frame: pl.DataFrame, path: str | Path, first: pl.DataFrame, first_path: str | Path) -> pl.DataFrame:
    for name in first.columns:
        if name not in frame.columns:
            raise InputError(f"{path} has no column {name!r}, but {first_path} has; all files need the same columns")
    for name in frame.columns:
        if name not in first.columns:
            raise InputError(f"{path} has a column {name!r}, but {first_path} has not; all files need the same columns")
    return frame.select(first.columns)


def _first(error: BaseException) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0]
