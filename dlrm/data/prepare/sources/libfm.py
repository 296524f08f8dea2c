"""libfm files in blocks."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import polars as pl
from numpy.typing import NDArray

from embpress.dlrm.data.prepare.blocks import Block, Column, Layout
from embpress.dlrm.data.prepare.staging import Staging
from embpress.dlrm.data.readers.chunks import Chunk, SourceFile, chunks, source_file
from embpress.dlrm.data.readers.files import Paths
from embpress.dlrm.data.readers.labels import read_labels
from embpress.dlrm.data.readers.libfm import Lines, by_field, names_of, positions, read_map

LABEL = 0  # the column that holds it; the fields' follow


class LibFMSource:
    """See `readers.libfm.read_libfm`."""

    def __init__(
        self, paths: Paths, test: Paths = (), rows: int | None = None, fields: str | Path | None = None
    ) -> None:
        self.files: list[SourceFile] = []
        self.test_rows: int | None = None
        self._paths, self._test, self._rows = [str(p) for p in paths], [str(p) for p in test], rows
        self._fields = fields
        self._map = None if fields is None else read_map(fields)
        self._width: int | None = None  # indices of the first line
        self._pieces: list[tuple[int, str, int]] = []  # of each: its first row, its file, its first line there

    def blocks(self) -> Iterator[Block]:
        """All rows in order."""
        total = 0
        for test, paths in ((False, self._paths), (True, self._test)):
            left, before = self._rows, total
            for path in paths:
                if left is not None and left <= 0:
                    break
                self.files.append(source_file(path, test))
                start = total
                for chunk in chunks(self.files[-1], left):
                    self._pieces.append((total, path, chunk.line))
                    block = self._block(path, chunk)
                    total += block.rows
                    yield block
                left = None if left is None else left - (total - start)
            if test and paths:
                self.test_rows = total - before

    def _block(self, path: str, chunk: Chunk) -> Block:
        lines = Lines()
        rows = lines.add(path, chunk.data.decode(), chunk.line)
        labels, index = lines.parse()
        columns = [Column(labels)]
        if self._fields is None or self._map is None:
            self._width = int(lines.per_line[0]) if self._width is None else self._width
            columns += [Column(pl.Series(values)) for values in positions(lines, index, self._width)]
        else:
            found = by_field(lines, index, *self._map, self._fields)
            columns += [Column(pl.Series(values), lengths) for values, lengths in found]
        return Block(rows, columns)

    def layout(self, staging: Staging) -> Layout:
        """All fields are sparse; one that has exactly one index on every line is single-valued."""
        for column in staging.columns:
            column.jagged = column.jagged and not column.single
        fields = staging.columns[LABEL + 1 :]
        names = names_of(range(len(fields)) if self._map is None else np.unique(self._map[1]))

        def labels(column: int) -> NDArray[np.float32]:
            return read_labels(staging.columns[column].all_values(), lambda entry: self._where(staging, column, entry))

        return Layout(
            names,
            list(range(LABEL + 1, LABEL + 1 + len(fields))),
            [],
            lambda column: staging.columns[column].all_values(),
            lambda column, block: staging.columns[column].values_of(block),
            dense=[],
            label=LABEL,
            numbers=labels,
            about={
                "files": self._paths,
                "test_files": self._test,
                "fields": None if self._fields is None else str(self._fields),
            },
        )

    def _where(self, staging: Staging, column: int, entry: int) -> str:
        row = staging.row_of(column, entry)
        start, path, line = max(piece for piece in self._pieces if piece[0] <= row)
        return f"{path}, line {row - start + line}"
