"""Rows of csv and parquet files as one frame, and the way back from a row to its file and line."""

from __future__ import annotations

import csv
import gzip
import io
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import IO, cast

import numpy as np
import polars as pl

from embpress.compressors.errors import InputError
from embpress.dlrm.data.readers.files import Paths, check_file, read_text, reason
from embpress.dlrm.data.readers.partitions import with_partitions


@dataclass
class Source:
    """All files of one source, one after the other.

    Attributes:
        columns: N values each, by name; every column of a csv is text. The series have no names of their own: polars
            would take one such as `^a$` for a pattern.
        files: path and first row of each file.
        format: `csv` or `parquet`.
        rows: N.
        test_rows: rows at the end that came from test files.
    """

    columns: dict[str, pl.Series]
    files: list[tuple[str, int]]
    format: str
    rows: int
    test_rows: int

    def where(self, row: int) -> str:
        """The place of a row: `file, line 7` (header is line 1) or, in parquet, `file, row 6` (the first is row 1)."""
        path, start = next(f for f in reversed(self.files) if f[1] <= row)
        if self.format == "parquet":
            return f"{path}, row {row - start + 1}"
        return f"{path}, line {line_of(path, row - start)}"


def read_source(format: str, paths: Paths, test: Paths = (), rows: int | None = None) -> Source:
    """Reads files, at most `rows` rows of `paths` and so many of `test`.

    Raises:
        InputError: a file cannot be read, a csv line has a wrong number of fields, or files differ in their columns.
    """
    read = _read_csv if format == "csv" else _read_parquet
    frames: list[pl.DataFrame] = []
    names: list[str] = []
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
            names = names or frame.columns
            frames.append(by_place(frame, path, names, paths[0]))
            files.append((str(path), total))
            total += frame.height
            left = None if left is None else left - frame.height
    try:
        together = pl.concat(frames, how="vertical_relaxed")
    except pl.exceptions.PolarsError as e:
        named = ", ".join(path for path, _ in files)
        raise InputError(f"{named}: a column has different types in these files ({reason(e)}); give it one type") from e
    columns = {name: column.alias("") for name, column in zip(names, together.get_columns())}
    return Source(columns, files, format, total, total - before_test)


def by_place(frame: pl.DataFrame, path: str | Path, names: list[str], first_path: str | Path) -> pl.DataFrame:
    """The columns in the order of `names`, those of the first file, called `0`, `1`, …

    Raises:
        InputError: another file has others.
    """
    columns = dict(zip(frame.columns, frame.get_columns()))
    for name in names:
        if name not in columns:
            raise InputError(f"{path} has no column {name!r}, but {first_path} has; all files need the same columns")
    known = set(names)
    for name in columns:
        if name not in known:
            raise InputError(f"{path} has a column {name!r}, but {first_path} has not; all files need the same columns")
    return pl.DataFrame([columns[name].alias(str(position)) for position, name in enumerate(names)])


def _read_csv(path: str | Path, rows: int | None) -> pl.DataFrame:
    data = read_text(path, None if rows is None else rows + 1)
    if rows is not None and b'"' in data:  # quoted values may run over several lines
        data = read_text(path)
    return parse_csv(path, data, rows)


def line_of(path: str | Path, row: int) -> int:
    """On which line of a csv file a row, from 0, starts; the header is on line 1."""
    with Path(path).open("rb") as plain:
        zipped = plain.read(2) == b"\x1f\x8b"
        plain.seek(0)
        file = gzip.GzipFile(fileobj=plain) if zipped else plain
        text = io.TextIOWrapper(cast("IO[bytes]", file), "utf-8-sig", newline="")
        line, _ = next(islice(_records_of(path, text), row + 1, None))
    return line


def header_lines(path: str | Path, data: bytes) -> int:
    """How many lines the header of a csv takes."""
    records = _records(path, data)
    next(records, None)
    second = next(records, None)
    return data.count(b"\n") if second is None else second[0] - 1


def record_end(rest: bytes, block: bytes) -> int:
    """Where in a block the last whole record of a csv ends, where records began before it: 0 where none does."""
    if b'"' not in block and b'"' not in rest:
        return block.rfind(b"\n") + 1
    ends = np.flatnonzero(_unquoted(rest + block, b"\n"))
    return max(0, int(ends[-1]) + 1 - len(rest)) if len(ends) else 0


def parse_csv(path: str | Path, data: bytes, rows: int | None = None, shift: int = 0) -> pl.DataFrame:
    """Header and whole records of a csv file as columns of text.

    Args:
        path: what a message names.
        data: UTF-8 text that ends with a record.
        rows: take only so many.
        shift: by how many lines those after the header lie further down in the file.

    Raises:
        InputError: a line has another number of fields than the header, or the header is none.
    """
    _refuse_lone_return(path, data, shift)
    _, names = next(_records(path, data), (1, []))
    other = [mark for mark in (";", "\t", "|") if len(names) == 1 and mark in names[0]]
    if other:
        raise InputError(
            f"{path}, line 1: the header has no comma but {other[0]!r}; save the file with commas between its columns"
        )
    seen: set[str] = set()
    for name in names:
        if name in seen:
            raise InputError(f"{path}, line 1: the header names column {name!r} twice; every column needs its own name")
        seen.add(name)
    try:
        # everything as text: ids beyond 64 bits stay as they are
        frame = pl.read_csv(data, infer_schema=False, n_rows=rows)
    except pl.exceptions.PolarsError as e:
        _refuse_ragged(path, data, len(names), rows, shift)
        raise InputError(f"{path} cannot be read as csv ({reason(e)})") from e
    # polars fills short lines up with nulls, so separators are counted before it is believed
    if _count(data, b",") != (len(names) - 1) * (frame.height + 1) or len(names) == 1:
        _refuse_ragged(path, data, len(names), rows, shift)
    return frame


def _unquoted(data: bytes, character: bytes) -> np.ndarray:
    """Where a character stands outside of quotes, as a mask over the bytes."""
    text = np.frombuffer(data, np.uint8)
    inside = np.bitwise_xor.accumulate((text == ord('"')).view(np.uint8))
    return (text == ord(character)) & (inside == 0)


def _count(data: bytes, character: bytes) -> int:
    return int(np.count_nonzero(_unquoted(data, character))) if b'"' in data else data.count(character)


def _refuse_lone_return(path: str | Path, data: bytes, shift: int) -> None:
    if data.count(b"\r") == data.count(b"\r\n"):
        return
    lone = _unquoted(data, b"\r")[:-1] & (np.frombuffer(data, np.uint8)[1:] != ord("\n"))
    if lone.any():
        line = data.count(b"\n", 0, int(lone.argmax())) + 1 + shift
        raise InputError(
            f"{path}, line {line}: a carriage return stands alone outside of quotes; "
            "save the file with lines that end in \\n or \\r\\n"
        )


def _refuse_ragged(path: str | Path, data: bytes, expected: int, rows: int | None, shift: int) -> None:
    for line, values in islice(_records(path, data), None if rows is None else rows + 1):
        if len(values) != expected:
            count = f"{len(values)} fields" if values else "a blank line"
            raise InputError(f"{path}, line {line + shift}: found {count}, expected {expected} fields as in the header")


def _records(path: str | Path, data: bytes) -> Iterator[tuple[int, list[str]]]:
    """The records of a csv, the header first: on which line of the file each starts, from 1, and its fields."""
    return _records_of(path, io.StringIO(data.decode(), newline=""))


def _records_of(path: str | Path, text: IO[str]) -> Iterator[tuple[int, list[str]]]:
    reader, line = csv.reader(text), 1
    try:
        for values in reader:
            yield line, values
            line = reader.line_num + 1
    except csv.Error as e:
        raise InputError(f"{path}, line {line}: cannot be read as csv ({e})") from e


def _read_parquet(path: str | Path, rows: int | None) -> pl.DataFrame:
    check_file(path)
    try:
        with Path(path).open("rb") as f:  # a file, not a name: polars would expand * and ? in it
            frame = pl.read_parquet(f, n_rows=rows)
    except (pl.exceptions.PolarsError, OSError) as e:
        raise InputError(f"{path} cannot be read as parquet ({reason(e)}); check the file or give its --format") from e
    return with_partitions(without_categories(frame), path)


def without_categories(frame: pl.DataFrame) -> pl.DataFrame:
    """Columns of categories as text."""
    coded = (pl.Categorical, pl.Enum)
    columns = frame.get_columns()
    return pl.DataFrame([c.alias("").cast(pl.String).alias(c.name) if c.dtype in coded else c for c in columns])
