"""Labels of all text and column formats: 0/1 or -1/1."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import polars as pl
from numpy.typing import NDArray

from embpress.compressors.errors import InputError
from embpress.compressors.guard import shown


def label_numbers(column: pl.Series) -> pl.Series:
    """Booleans, numbers or strings of them as Float64; null where a value is none of these."""
    if column.dtype == pl.String:
        text = column.str.strip_chars().str.to_lowercase()
        column = text.replace({"true": "1", "false": "0"})
    try:
        return column.cast(pl.Float64, strict=False)
    except pl.exceptions.PolarsError:  # lists and other things without a number
        return pl.Series(column.name, [None] * len(column), dtype=pl.Float64)


def read_labels(column: pl.Series, where: Callable[[int], str]) -> NDArray[np.float32]:
    """Labels as 0/1, `(N,)` float32.

    Args:
        column: N labels.
        where: names the place of a row, as `file, line 7`.

    Raises:
        InputError: a label is neither 0/1 nor -1/1, or -1 and 0 both occur; names the place.
    """
    numbers = label_numbers(column)
    bad = (~numbers.is_in([-1.0, 0.0, 1.0])).fill_null(True)
    if bad.any():
        row = int(bad.arg_true()[0])
        value = "missing" if column[row] is None else shown(column[row])
        raise InputError(f"{where(row)}: the label is {value}, but it must be 0 or 1 (or -1 or 1)")
    values = numbers.to_numpy()
    minus, zero = values == -1, values == 0
    if minus.any() and zero.any():
        row = max(int(minus.argmax()), int(zero.argmax()))
        raise InputError(f"{where(row)}: labels -1 and 0 both occur, but a file has either 0 and 1 or -1 and 1")
    return (values > 0).astype(np.float32)
