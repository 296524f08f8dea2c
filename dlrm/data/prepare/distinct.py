"""The distinct values of a column of a block: short text goes as 64-bit numbers, which are hashed much faster."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd
import polars as pl

from embpress.dlrm.data.raw import Ints, codes_of

SHORT = 8  # bytes of text that a number holds
_AS_NUMBER = pl.all().cast(pl.Binary).bin.reinterpret(dtype=pl.UInt64, endianness="little")
_HIGH_BITS = np.uint64(0x8080808080808080)


def distinct(values: pl.Series, numbers: pl.Series | None = None) -> tuple[Ints, pl.Series]:
    """Numbers the distinct values of a column; nothing but equal values of one type are alike.

    Args:
        values: `(total,)` of any type.
        numbers: of `packed`, where there are any.

    Returns:
        The number of each, `(total,)`, and the distinct values: in order of first appearance, null, where there is one,
        last; packed where all of them are plain ASCII. Of a type that can be no id, such as a struct, all values count
        as one.
    """
    if values.dtype.is_nested() or values.dtype in (pl.Binary, pl.Object):
        return np.zeros(len(values), np.int32), values[:1]
    keys = values if numbers is None else numbers
    codes, entries = _numbered(keys)
    if numbers is not None and (entries.drop_nulls().to_numpy() & _HIGH_BITS).any():
        return _numbered(values)
    return codes, entries


def _numbered(values: pl.Series) -> tuple[Ints, pl.Series]:
    present = values.is_not_null().to_numpy() if values.null_count() else None
    kept = values if present is None else values.drop_nulls()
    keys = _bits(kept)
    if keys is not None and kept.dtype.is_integer():
        found, uniques = pd.factorize(keys)
        codes, entries = found.astype(np.int32), pl.Series(kept.name, uniques, dtype=kept.dtype)
    else:
        codes = codes_of(_text(kept)) if keys is None else np.asarray(pd.factorize(keys)[0], np.int32)
        newest = np.maximum.accumulate(codes) if len(codes) else codes
        entries = kept.gather(np.flatnonzero(np.diff(newest, prepend=-1)))
    if present is None:
        return codes, entries
    all_codes = np.full(len(present), len(entries), np.int32)
    all_codes[present] = codes
    return all_codes, entries.extend_constant(None, 1)


def packed(columns: Sequence[pl.Series]) -> list[pl.Series | None]:
    """Text as UInt64, its bytes from the lowest on with zeros behind; None where some is longer, or it is no text."""
    found: list[pl.Series | None] = [None] * len(columns)
    text = [c for c, column in enumerate(columns) if column.dtype == pl.String]
    for length in {len(columns[c]) for c in text}:
        frame = pl.DataFrame([columns[c].alias(str(c)) for c in text if len(columns[c]) == length])
        for column in frame.select(_AS_NUMBER).iter_columns():  # all columns in one call, in all threads
            whole = column.null_count() == frame[column.name].null_count()  # all of them have eight bytes
            numbers = column if whole else _padded(frame[column.name])
            found[int(column.name)] = None if numbers is None else numbers.alias("")
    return found


def _padded(text: pl.Series) -> pl.Series | None:
    if text.str.contains("\0", literal=True).any():
        return None
    numbers = text.str.pad_end(SHORT, "\0").to_frame().select(_AS_NUMBER).to_series()
    return numbers if numbers.null_count() == text.null_count() else None


def unpacked(numbers: pl.Series) -> pl.Series:
    """The text that `packed` made numbers of."""
    values = numbers.fill_null(0).to_numpy().astype("<u8").view(f"S{SHORT}")
    text = pl.Series(numbers.name, values.astype(f"U{SHORT}"), dtype=pl.String)
    return text.set(numbers.is_null(), None) if numbers.null_count() else text


def _bits(values: pl.Series) -> Ints | None:
    """Values without null as integers, different ones as different integers; None for those that are none."""
    dtype = values.dtype
    if dtype.is_temporal():
        values = values.to_physical()
    elif dtype == pl.Boolean:
        values = values.cast(pl.Int8)
    elif dtype == pl.Null:
        return np.zeros(0, np.int8)
    if values.dtype.is_float():  # -0.0 is not 0.0, and NaN is itself
        if values.dtype not in (pl.Float32, pl.Float64):
            values = values.cast(pl.Float32)
        array = values.to_numpy()
        return array.view(f"i{array.itemsize}")
    if values.dtype.is_integer() and values.dtype not in (pl.Int128, pl.UInt128):
        return values.to_numpy()
    return None


def _text(values: pl.Series) -> pl.Series:
    """What `codes_of` numbers: text that is never empty, which it would take for missing."""
    return pl.select(pl.lit("=") + values.cast(pl.String)).to_series() if len(values) else values.cast(pl.String)
