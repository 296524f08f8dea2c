"""Criteo Display Advertising in its raw form: label, 13 integers, 26 hex categories, tab separated, no header.

https://www.kaggle.com/c/criteo-display-ad-challenge; an empty place is a missing value.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from embpress.compressors.errors import InputError
from embpress.compressors.guard import shown
from embpress.dlrm.data.raw import RawField, RawTable, codes_of, log_dense
from embpress.dlrm.data.readers.files import Paths, read_text
from embpress.dlrm.data.readers.hashing import hash_of, uniform

INTEGERS = [f"I{k}" for k in range(1, 14)]
CATEGORIES = [f"C{k}" for k in range(1, 27)]
NUM_COLUMNS = 40
_NEGATIVES = 0x4E45  # sets what is drawn for them apart from other draws


def read_criteo(paths: Paths, test: Paths = (), rows: int | None = None, drop_negatives: float = 0.0) -> RawTable:
    """Reads raw Criteo files, plain or gzip, one after the other.

    Args:
        paths: training files, or all files where `test` is empty.
        test: test files.
        rows: read only so many rows of `paths` and so many of `test`.
        drop_negatives: see `with_fewer_negatives`.

    Raises:
        InputError: a file cannot be read, or a line has a wrong number of columns, a label other than 0 or 1, or text
            in an integer column; names the file and line.
    """
    check_share(drop_negatives)
    read, test_rows = _read_all(paths, rows), 0
    frame = with_fewer_negatives(read, drop_negatives, 0)
    if test:
        held_out = with_fewer_negatives(_read_all(test, rows), drop_negatives, read.height)
        test_rows = held_out.height
        frame = pl.concat([frame, held_out])
    return RawTable(
        labels=frame["label"].cast(pl.Float32).to_numpy(writable=True),
        dense_names=INTEGERS,
        dense=log_dense([frame[c] for c in INTEGERS], frame.height),
        features=CATEGORIES,
        fields=[RawField(codes_of(frame[c])) for c in CATEGORIES],
        test_rows=test_rows if test else None,
        about=about(paths, test, drop_negatives),
    )


def about(paths: Paths, test: Paths, drop_negatives: float) -> dict[str, Any]:
    """What the reader has to say about itself."""
    files = {"files": [str(p) for p in paths], "test_files": [str(p) for p in test]}
    return {**files, "drop_negatives": drop_negatives} if drop_negatives else files


def check_share(drop_negatives: float) -> None:
    """Raises InputError where this is no share of rows to leave out."""
    if not 0 <= drop_negatives < 1:
        raise InputError(f"drop_negatives is {drop_negatives:g}, but it must be a share from 0 to below 1")


def with_fewer_negatives(frame: pl.DataFrame, share: float, first_row: int) -> pl.DataFrame:
    """Leaves out about a share of the rows with label 0, each by its number alone.

    facebookresearch/dlrm does so with 0.875 in its smaller recipe for Terabyte; MLPerf leaves out none.

    Args:
        frame: with a column `label`.
        share: 0 leaves out nothing.
        first_row: the number of its first row among all that are read.
    """
    if not share:
        return frame
    drawn = uniform(hash_of(_NEGATIVES, np.arange(first_row, first_row + frame.height)))
    return frame.filter((frame["label"] == 1) | pl.Series(drawn >= share))


def _read_all(paths: Paths, rows: int | None) -> pl.DataFrame:
    frames: list[pl.DataFrame] = []
    left = rows
    for path in paths:
        if left is not None and left <= 0:
            break
        frames.append(_read_one(path, left))
        left = None if left is None else left - frames[-1].height
    return pl.concat(frames)


def _read_one(path: str | Path, rows: int | None) -> pl.DataFrame:
    return parse(path, read_text(path, rows))


def parse(path: str | Path, data: bytes, line: int = 1) -> pl.DataFrame:
    """Whole lines of a file as columns `label`, `INTEGERS` and `CATEGORIES`.

    Args:
        path: what a message names.
        data: UTF-8 text that ends with a line.
        line: number of its first line in the file, from 1.

    Raises:
        InputError: see `read_criteo`.
    """
    schema: dict[str, type[pl.DataType]] = {"label": pl.Int64}
    schema |= dict.fromkeys(INTEGERS, pl.Int64) | dict.fromkeys(CATEGORIES, pl.String)
    try:
        frame = pl.read_csv(data, has_header=False, separator="\t", quote_char=None, schema=schema)
    except pl.exceptions.PolarsError as e:
        _refuse_bad_line(path, data, line)
        raise InputError(f"{path} cannot be read as raw Criteo data ({str(e).splitlines()[0]})") from e
    # polars fills short lines up with nulls; as longer ones are refused, the sum tells whether any is short
    whole = data.count(b"\t") == (NUM_COLUMNS - 1) * frame.height
    if not whole or not frame["label"].is_in([0, 1]).fill_null(False).all():
        _refuse_bad_line(path, data, line)
    return frame


def _refuse_bad_line(path: str | Path, data: bytes, first: int) -> None:
    for number, line in enumerate(data.decode().split("\n")[:-1], first):
        values = line.removesuffix("\r").split("\t")
        where = f"{path}, line {number}"
        if len(values) != NUM_COLUMNS:
            raise InputError(
                f"{where}: found {len(values)} tab-separated columns, "
                f"expected {NUM_COLUMNS} (label, 13 integers, 26 categories)"
            )
        if values[0] not in ("0", "1"):
            raise InputError(f"{where}: the label is {shown(values[0])}, but it must be 0 or 1")
        for name, value in zip(INTEGERS, values[1:]):
            if value and not _is_int64(value):
                raise InputError(f"{where}: column {name} holds {shown(value)}, but it must be a whole number or empty")


def _is_int64(text: str) -> bool:
    try:
        return text.isascii() and "_" not in text and text.strip() == text and abs(int(text)) <= np.iinfo(np.int64).max
    except ValueError:
        return False
