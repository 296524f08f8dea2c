"""What a source hands over block by block, and what its columns turn out to be when all are read."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
import polars as pl
from numpy.typing import NDArray

from embpress.dlrm.data.raw import Ints
from embpress.dlrm.data.readers.chunks import SourceFile

if TYPE_CHECKING:
    from embpress.dlrm.data.prepare.staging import Staging


@dataclass
class Column:
    """A column of a block of B rows.

    Attributes:
        values: `(total,)`; of one type in all blocks.
        lengths: `(B,)`, how many values each row has; None where each has one and total is B.
    """

    values: pl.Series
    lengths: Ints | None = None


@dataclass
class Block:
    """B rows.

    Attributes:
        rows: B.
        columns: whose values are to be numbered, as many in each block.
        labels: `(B,)` float32, 0 or 1; None where a column holds them.
        dense: `(B, K)` float32, transformed; None where columns hold them.
    """

    rows: int
    columns: list[Column]
    labels: NDArray[np.float32] | None = None
    dense: NDArray[np.float32] | None = None


@dataclass
class Layout:
    """Which of a source's columns are what.

    Attributes:
        features: names of the sparse columns.
        sparse: which columns they are.
        dense_names: names of the dense columns.
        ids: the distinct values of a sparse column, as `StagedColumn.all_values`, those that are one id alike; null is
            missing.
        ids_of_block: the same of one block alone; None where all must be there to tell.
        dense: which columns they are; None where blocks have them.
        label: which column; None where blocks have labels.
        numbers: the label, 0 or 1, or the transformed dense value of each distinct value of a column.
        about: what a reader has to say about itself, as in `RawTable`.
    """

    features: list[str]
    sparse: list[int]
    dense_names: list[str]
    ids: Callable[[int], pl.Series]
    ids_of_block: Callable[[int, int], pl.Series] | None = None
    dense: list[int] | None = None
    label: int | None = None
    numbers: Callable[[int], NDArray[np.float32]] | None = None
    about: dict[str, Any] = field(default_factory=dict)


class Source(Protocol):
    """Files of one format, read in blocks.

    Attributes:
        files: those that were read, with their digests.
        test_rows: of the rows at the end, how many came from test files; None where none were given.
    """

    files: list[SourceFile]
    test_rows: int | None

    def blocks(self) -> Iterator[Block]:
        """All rows in order, those of test files last."""
        ...

    def layout(self, staging: Staging) -> Layout:
        """What the columns are, after the last block."""
        ...
