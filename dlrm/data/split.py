"""Which rows are train, valid and test."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from embpress.compressors.errors import InputError
from embpress.compressors.guard import counted, shown

Index = NDArray[np.int64]
HALVES = "halves"
SPLITS = ("order", "random", HALVES)


def check_split(how: str) -> None:
    """Raises InputError for an unknown way to split."""
    if how not in SPLITS:
        raise InputError(f"split is {shown(how)}, but it must be one of {', '.join(SPLITS)}")


def check_halves(how: str, tested: bool) -> None:
    """Raises InputError where test files are to be halved and there are none."""
    if how == HALVES and not tested:
        raise InputError(
            f"split {HALVES} cuts the test files into test part and validation, but none are given; add --test"
        )


def sizes_of_parts(rows: int, test_rows: int | None, how: str) -> tuple[int, int, int]:
    """How many rows the train, valid and test part have: see `split_rows`.

    Raises:
        InputError: too few rows for three parts, or no test files to halve.
    """
    check_halves(how, test_rows is not None)
    test = max(1, rows // 5) if test_rows is None else test_rows
    training = rows - test
    valid = max(1, training // 10)
    if how == HALVES:
        valid = test // 2
        training, test = training + valid, test - valid
    if min(training - valid, valid, test) < 1:
        parts = f"{training} training and {counted(test, 'test row')}"
        what = counted(rows, "row") if test_rows is None else parts
        raise InputError(f"the data have {what}, too few for a train, a validation and a test part of one row each")
    return training - valid, valid, test


def split_rows(rows: int, test_rows: int | None, how: str, seed: int) -> tuple[Index, Index, Index]:
    """Row numbers of the train, valid and test part, each ascending.

    Test is the last `test_rows` rows where test files were given, else a fifth of all rows; valid is a tenth of
    the rest. `how="order"` takes the last ones, `how="random"` draws them by the seed. `how="halves"` cuts the test
    files: their first half, the middle row with it, is the test part, their second half is valid.

    Raises:
        InputError: unknown `how`, or too few rows for three parts.
    """
    check_split(how)
    train_rows, valid_rows, test_size = sizes_of_parts(rows, test_rows, how)
    rng = np.random.default_rng(seed)

    def cut(index: Index, size: int) -> tuple[Index, Index]:
        if how == "random":
            index = rng.permutation(index)
        at = len(index) - size
        return np.sort(index[:at]), np.sort(index[at:])

    everything = np.arange(rows)
    if how == HALVES:
        train, test, valid = np.split(everything, [train_rows, train_rows + test_size])
        return train, valid, test
    if test_rows is None:
        training, test = cut(everything, test_size)
    else:
        training, test = everything[: rows - test_rows], everything[rows - test_rows :]
    train, valid = cut(training, valid_rows)
    return train, valid, test
