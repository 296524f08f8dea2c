"""Csv and parquet files as frames of some rows each."""

from __future__ import annotations

from collections.abc import Iterator

import polars as pl

from embpress.compressors.errors import InputError
from embpress.dlrm.data.readers.chunks import Digested, SourceFile, chunks
from embpress.dlrm.data.readers.files import check_file, reason
from embpress.dlrm.data.readers.partitions import with_partitions
from embpress.dlrm.data.readers.source import header_lines, parse_csv, record_end, without_categories

PARQUET_ROWS = 1 << 17  # of a block


def csv_frames(file: SourceFile, rows: int | None) -> Iterator[pl.DataFrame]:
    """The rows of a csv file, every column as text.

    Raises:
        InputError: as `read_source`.
    """
    header, shift, left, last = b"", 0, rows, False
    for chunk in chunks(file, cut=record_end):
        data = chunk.data
        if not header:
            count = header_lines(file.path, data)
            header = b"".join(line + b"\n" for line in data.split(b"\n", count)[:count])
        else:
            shift = chunk.line - 1 - header.count(b"\n")
            data = header + data
        if left is not None and b'"' not in data:
            lines = data.split(b"\n", left + 1)
            last = len(lines) > left + 1
            if last:  # blank lines at the end do not count, others are refused
                data = b"\n".join(lines[:-1]).rstrip(b"\r\n") + b"\n"
        frame = parse_csv(file.path, data, left, shift)
        if frame.height:
            yield frame
        left = None if left is None else left - frame.height
        if last or (left is not None and left <= 0):
            return


def parquet_schema(path: str) -> tuple[pl.DataFrame, int]:
    """A frame without rows that has the columns of a parquet file, and how many rows the file has.

    Raises:
        InputError: it cannot be read.
    """
    check_file(path)
    try:
        scan = _scan(path)
        return with_partitions(without_categories(scan.head(0).collect()), path), int(
            scan.select(pl.len()).collect().item()
        )
    except (pl.exceptions.PolarsError, OSError) as e:
        raise InputError(f"{path} cannot be read as parquet ({reason(e)}); check the file or give its --format") from e


def parquet_frames(file: SourceFile, rows: int | None) -> Iterator[pl.DataFrame]:
    """The rows of a parquet file.

    Raises:
        InputError: it cannot be read.
    """
    with open(file.path, "rb") as raw:
        digested = Digested(raw, file)
        while digested.read(1 << 20):
            pass
    scan = _scan(file.path)
    try:
        for frame in (scan if rows is None else scan.head(rows)).collect_batches(chunk_size=PARQUET_ROWS):
            if frame.height:
                yield with_partitions(without_categories(frame), file.path)
    except (pl.exceptions.PolarsError, OSError) as e:
        raise InputError(f"{file.path} cannot be read as parquet ({reason(e)}); check the file") from e


def _scan(path: str) -> pl.LazyFrame:
    return pl.scan_parquet(path, glob=False, hive_partitioning=False)
