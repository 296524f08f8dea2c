"""The distinct values of a column of a block: short text goes as 64-bit numbers, which are hashed much faster."""

from __future__ import annotations

import numpy as np
import pandas as pd
import polars as pl
from numpy.typing import NDArray

from embpress.dlrm.data.raw import Ints, codes_of

SHORT = 8  # bytes of text that a number holds
_HIGH_BITS = np.uint64(0x8080808080808080)


def distinct(values: pl.Series) -> tuple[NDArray[np.int32], pl.Series]:
    """Numbers the distinct values of a column; nothing but equal values of one type are alike.

    Args:
        values: `(total,)` of any type.

    Returns:
        The number of each, `(total,)`, and the distinct values: in order of first appearance, null, where there is one,
        last. Text of at most 8 ASCII characters is packed: see `packed`. Of a type that can be no id, such as a
        struct, all values count as one.
    """
    if values.dtype.is_nested() or values.dtype in (pl.Binary, pl.Object):
        return np.zeros(len(values), np.int32), values[:1]
    kept = values
    if values.dtype == pl.String:
        small = packed(values)
        values = kept = values if small is None else small
    present = None
    if values.null_count():
        present = values.is_not_null().to_numpy()
        kept = kept.drop_nulls()
    codes = np.asarray(pd.factorize(keys)[0], np.int32) if (keys := _bits(kept)) is not None else codes_of(_text(kept))
    newest = np.maximum.accumulate(codes) if len(codes) else codes
    first = np.flatnonzero(np.diff(newest, prepend=-1))
    entries = kept.gather(first)
    if present is None:
        return codes, entries
    all_codes = np.full(len(present), len(entries), np.int32)
    all_codes[present] = codes
    return all_codes, entries.extend_constant(None, 1)


def packed(text: pl.Series) -> pl.Series | None:
    """Text as UInt64, its bytes from the lowest on with zeros behind; None where some is longer or not plain ASCII."""
    for padded in (False, True):
        if padded:
            if text.str.contains("\0", literal=True).any():
                return None
            text = text.str.pad_end(SHORT, "\0")
        numbers = text.cast(pl.Binary).bin.reinterpret(dtype=pl.UInt64, endianness="little")
        if numbers.null_count() == text.null_count():  # all of them have eight bytes
            plain = not (numbers.drop_nulls().to_numpy() & _HIGH_BITS).any()
            return numbers if plain else None
    return None


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
