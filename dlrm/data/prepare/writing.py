"""The third pass: the parts' columns, block by block, as they are mapped later."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from embpress.dlrm.data.ahead import ahead
from embpress.dlrm.data.prepare.arrays import ArrayWriter, header, pieces_of
from embpress.dlrm.data.prepare.blocks import Layout
from embpress.dlrm.data.prepare.division import PARTS, Division
from embpress.dlrm.data.prepare.manifest import bag_files
from embpress.dlrm.data.prepare.spool import Spool
from embpress.dlrm.data.prepare.staging import StagedColumn, Staging
from embpress.dlrm.data.raw import Ints

# of a block: labels, dense values, ids, and the values of bags with how many each row has
Made = tuple[NDArray[np.float32], NDArray[np.float32], Ints, dict[int, tuple[Ints, Ints | None]]]


class Columns:
    """All rows in blocks, their ids and numbers as they reach a model.

    Args:
        staging: all rows.
        layout: which column is what.
        ids: per feature one piece a block, the table row of each of the block's distinct values.
        numbers: the same of labels and dense columns that are staged columns, by column.
    """

    def __init__(self, staging: Staging, layout: Layout, ids: Sequence[Spool], numbers: dict[int, Spool]) -> None:
        self.staging, self.layout, self._ids, self._numbers = staging, layout, ids, numbers
        self.sparse = [staging.columns[c] for c in layout.sparse]
        self.multi_hot = [f for f, column in enumerate(self.sparse) if column.jagged]
        self.num_dense = len(layout.dense_names) or 1

    def labels(self, block: int) -> NDArray[np.float32]:
        """`(B,)`, 0 or 1."""
        if self.layout.label is None:
            return self.staging.labels.array(block)
        return self._number(self.layout.label, block)

    def dense(self, block: int) -> NDArray[np.float32]:
        """`(B, num_dense)`; ones where there are no dense columns."""
        rows = self.staging.starts[block + 1] - self.staging.starts[block]
        if not self.layout.dense_names:
            return np.ones((rows, 1), np.float32)
        if self.layout.dense is None:
            return self.staging.dense.array(block).reshape(rows, self.num_dense)
        return np.stack([self._number(column, block) for column in self.layout.dense], 1)

    def ids(self, block: int, dtype: type[np.generic]) -> Ints:
        """`(B, F)`; zeros where a feature is multi-hot."""
        rows = self.staging.starts[block + 1] - self.staging.starts[block]
        ids: Ints = np.zeros((rows, len(self.sparse)), dtype)
        for f in range(len(self.sparse)):
            if f not in self.multi_hot:
                ids[:, f] = self.values(f, block)
        return ids

    def values(self, feature: int, block: int) -> Ints:
        """All ids of a feature, `(total,)`."""
        codes = self.sparse[feature].codes.array(block)
        return np.asarray(self._ids[feature].array(block)[codes])

    def _number(self, column: int, block: int) -> NDArray[np.float32]:
        codes = self.staging.columns[column].codes.array(block)
        return np.asarray(self._numbers[column].array(block)[codes])


def pieces(column: StagedColumn, values: NDArray[Any], path: Path) -> Spool:
    """What belongs to `StagedColumn.all_values`, `(entries,)`, as one piece a block."""
    spool = Spool(path)
    start = 0
    for size in column.entries:
        spool.add_array(values[start : start + size])
        start += size
    return spool


class _PartWriter:
    """The files of one part."""

    def __init__(self, folder: Path, columns: Columns, ids: type[np.generic], stack: ExitStack) -> None:
        def opened(name: str, dtype: type[np.generic], row: tuple[int, ...] = ()) -> ArrayWriter:
            return stack.enter_context(ArrayWriter(folder / name, dtype, row))

        folder.mkdir()
        self.labels = opened("labels.npy", np.float32)
        self.dense = opened("dense.npy", np.float32, (columns.num_dense,))
        self.ids = opened("ids.npy", ids, (len(columns.sparse),))
        self.bags = {}
        for f in columns.multi_hot:
            values, offsets = bag_files(f)
            self.bags[f] = opened(values, ids), opened(offsets, np.int64)
            self.bags[f][1].add(np.zeros(1, np.int64))


@contextmanager
def _writers(folder: Path, columns: Columns, ids: type[np.generic]) -> Iterator[list[_PartWriter]]:
    with ExitStack() as stack:
        yield [_PartWriter(folder / part, columns, ids, stack) for part in PARTS]


def write_parts(folder: Path, columns: Columns, division: Division, ids: type[np.generic]) -> list[float]:
    """Writes labels, dense values, ids and bags of the three parts, each in a folder of its own.

    Args:
        folder: gets `train`, `valid` and `test`.
        columns: all rows.
        division: which rows are whose.
        ids: the type of ids, which is that of the pieces of `columns`.

    Returns:
        Per feature the share of the test part's lookups that fall on row 0; 0 where there are none.
    """
    zeros = np.zeros(len(columns.sparse), np.int64)
    lookups = np.zeros(len(columns.sparse), np.int64)
    starts = columns.staging.starts

    def made() -> Iterator[Made]:
        for block in range(columns.staging.blocks):
            jagged = {f: (columns.values(f, block), columns.sparse[f].lengths(block)) for f in columns.multi_hot}
            yield columns.labels(block), columns.dense(block), columns.ids(block, ids), jagged

    with _writers(folder, columns, ids) as writers:
        for block, (labels, dense, matrix, jagged) in enumerate(ahead(made())):
            for writer, rows in zip(writers, division.rows(starts[block], starts[block + 1])):
                writer.labels.add(labels[rows])
                writer.dense.add(dense[rows])
                writer.ids.add(found := matrix[rows])
                tested = writer is writers[-1]
                if tested:
                    zeros += (found == 0).sum(0)
                    lookups += len(found)
                for f, (values, lengths) in jagged.items():
                    assert lengths is not None  # of a multi-hot feature
                    kept = np.zeros(len(lengths), bool)
                    kept[rows] = True
                    bag_values, offsets = writer.bags[f]
                    before = bag_values.rows
                    bag_values.add(values := values[np.repeat(kept, lengths)])
                    if tested:
                        zeros[f] += (values == 0).sum() - len(found)
                        lookups[f] += len(values) - len(found)
                    offsets.add(before + np.cumsum(lengths[rows], dtype=np.int64))
    return [int(zero) / int(count) if count else 0.0 for zero, count in zip(zeros, lookups)]


def arrays(folder: Path, multi_hot: Sequence[int]) -> Iterator[tuple[str, tuple[int, ...], Iterator[bytes]]]:
    """The arrays of the parts as `assemble.fingerprint_of` takes them."""
    names = ["labels.npy", "dense.npy", "ids.npy", *(name for f in multi_hot for name in bag_files(f))]
    for part in PARTS:
        for name in names:
            shape, dtype, _ = header(folder / part / name)
            yield f"torch.{dtype.name}", shape, pieces_of(folder / part / name)
