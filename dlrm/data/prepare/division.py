"""Which part each row belongs to, without a list of all rows where they are split by order."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from embpress.dlrm.data.split import HALVES, Index, check_split, sizes_of_parts, split_rows

PARTS = ("train", "valid", "test")


class Division:
    """The parts of all rows: the same as `split_rows` gives.

    Attributes:
        sizes: rows of train, valid and test.
    """

    def __init__(self, rows: int, test_rows: int | None, how: str, seed: int) -> None:
        check_split(how)
        self.sizes = sizes_of_parts(rows, test_rows, how)
        train, valid, test = self.sizes
        firsts = (0, train + test, train) if how == HALVES else (0, train, train + valid)
        self._spans = [(first, first + size) for first, size in zip(firsts, self.sizes)]
        self._part: NDArray[np.uint8] | None = None
        if how == "random":
            self._part = np.empty(rows, np.uint8)
            for number, index in enumerate(split_rows(rows, test_rows, how, seed)):
                self._part[index] = number

    def rows(self, start: int, stop: int) -> list[slice | Index]:
        """The rows from `start` to `stop` (exclusive) of each part, counted from `start`."""
        if self._part is not None:
            return [np.flatnonzero(self._part[start:stop] == number) for number in range(len(PARTS))]
        found: list[slice | Index] = []
        for first, last in self._spans:
            low, high = max(first, start), min(last, stop)
            found.append(slice(low - start, max(low, high) - start))
        return found
