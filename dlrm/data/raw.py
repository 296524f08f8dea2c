"""What a reader hands over: columns as read, before the split and the vocabulary."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

if TYPE_CHECKING:
    import polars as pl

Ints = NDArray[Any]  # any integer dtype


@dataclass
class RawField:
    """One sparse column of N rows, its values numbered.

    Attributes:
        codes: `(total,)` integers; equal values have equal codes from 0, -1 is missing.
        offsets: `(N + 1,)` int64 where the field is multi-hot, else None and total is N.
    """

    codes: Ints
    offsets: Ints | None = None


@dataclass
class RawTable:
    """All files of one source, one after the other.

    Attributes:
        labels: `(N,)` float32, 0 or 1.
        dense_names: names of the dense columns.
        dense: `(N, num_dense)` float32, already transformed.
        features: names of the sparse columns.
        fields: the sparse columns.
        test_rows: how many rows at the end came from test files; None where none were given.
        logits: `(N,)` true logits, which only who makes data knows.
        about: what the reader has to say about itself, ready for JSON.
    """

    labels: NDArray[np.float32]
    dense_names: list[str]
    dense: NDArray[np.float32]
    features: list[str]
    fields: list[RawField]
    test_rows: int | None = None
    logits: NDArray[np.float64] | None = None
    about: dict[str, Any] = field(default_factory=dict)


def codes_of(values: pl.Series | Ints) -> Ints:
    """Numbers the distinct values 0, 1, … in order of first appearance; null and the empty string become -1."""
    if not isinstance(values, np.ndarray):
        import polars as pl  # what made the series; data that are made need none

        if values.dtype == pl.String:
            values = values.set(values == "", None).rechunk().cast(pl.Categorical).to_physical()
        if values.null_count():
            present = values.is_not_null().to_numpy()
            codes = np.full(len(present), -1, np.int32)
            codes[present] = codes_of(values.drop_nulls())
            return codes
        values = values.to_numpy()
    return np.asarray(pd.factorize(values)[0], np.int32)


def log_dense(columns: list[pl.Series], rows: int) -> NDArray[np.float32]:
    """`log(1 + max(x, 0))` of numeric columns, null and NaN as 0: `(rows, len(columns))` float32."""
    import polars as pl

    out = np.zeros((rows, len(columns)), np.float32)
    for k, column in enumerate(columns):
        x = column.cast(pl.Float64).fill_null(0.0).fill_nan(0.0).to_numpy()
        out[:, k] = np.log1p(np.maximum(x, 0.0))
    return out
