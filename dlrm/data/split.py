"""Which rows are train, valid and test."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from embpress.compressors.errors import InputError
from embpress.compressors.guard import counted

Index = NDArray[np.int64]


def check_split(how: str) -> None:
    """Raises InputError for an unknown way to split."""
    if how not in ("order", "random"):
        raise InputError(f"split is {how!r}, but it must be 'order' or 'random'")


def sizes_of_parts(rows: int, test_rows: int | None) -> tuple[int, int, int]:
    """How many rows the train, valid and test part have: see `split_rows`.

    Raises:
        InputError: too few rows for three parts.
    """
    test = max(1, rows // 5) if test_rows is None else test_rows
    training = rows - test
    valid = max(1, training // 10)
    if min(training - valid, valid, test) < 1:
        parts = f"{training} training and {counted(test, 'test row')}"
        what = counted(rows, "row") if test_rows is None else parts
        raise InputError(f"the data have {what}, too few for a train, a validation and a test part of one row each")
    return training - valid, valid, test


def split_rows(rows: int, test_rows: int | None, how: str, seed: int) -> tuple[Index, Index, Index]:
    """Row numbers of the train, valid and test part, each ascending.

    Test is the last `test_rows` rows where test files were given, else a fifth of all rows; valid is a tenth of
    the rest. `how="order"` takes the last ones, `how="random"` draws them by the seed.

    Raises:
        InputError: unknown `how`, or too few rows for three parts.
    """
    check_split(how)
    _, valid_rows, test_size = sizes_of_parts(rows, test_rows)
    rng = np.random.default_rng(seed)

    def cut(index: Index, size: int) -> tuple[Index, Index]:
        if how == "random":
            index = rng.permutation(index)
        at = len(index) - size
        return np.sort(index[:at]), np.sort(index[at:])

    everything = np.arange(rows)
    if test_rows is None:
        training, test = cut(everything, test_size)
    else:
        training, test = everything[: rows - test_rows], everything[rows - test_rows :]
    train, valid = cut(training, valid_rows)
    return train, valid, test
