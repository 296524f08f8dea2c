"""Raw Criteo files in blocks."""

from __future__ import annotations

from collections.abc import Iterator

import polars as pl

from embpress.dlrm.data.ahead import ahead
from embpress.dlrm.data.prepare.blocks import Block, Column, Layout
from embpress.dlrm.data.prepare.staging import Staging
from embpress.dlrm.data.raw import log_dense
from embpress.dlrm.data.readers.chunks import SourceFile, chunks, source_file
from embpress.dlrm.data.readers.criteo import CATEGORIES, INTEGERS, about, check_share, parse, with_fewer_negatives
from embpress.dlrm.data.readers.files import Paths


class CriteoSource:
    """See `readers.criteo.read_criteo`."""

    def __init__(self, paths: Paths, test: Paths = (), rows: int | None = None, drop_negatives: float = 0.0) -> None:
        check_share(drop_negatives)
        self._share = drop_negatives
        self.files: list[SourceFile] = []
        self.test_rows: int | None = None
        self._paths, self._test, self._rows = [str(p) for p in paths], [str(p) for p in test], rows

    def blocks(self) -> Iterator[Block]:
        """All rows in order."""
        for frame in ahead(self._frames()):
            yield Block(
                frame.height,
                [Column(frame[name]) for name in CATEGORIES],
                frame["label"].cast(pl.Float32).to_numpy(),
                log_dense([frame[name] for name in INTEGERS], frame.height),
            )

    def _frames(self) -> Iterator[pl.DataFrame]:
        total = 0
        for test, paths in ((False, self._paths), (True, self._test)):
            left, kept = self._rows, 0
            for path in paths:
                if left is not None and left <= 0:
                    break
                self.files.append(source_file(path, test))
                line = 1
                for chunk in ahead(chunks(self.files[-1], left, counted=False)):
                    frame = parse(path, chunk.data, line)
                    line += frame.height
                    left = None if left is None else left - frame.height
                    fewer = with_fewer_negatives(frame, self._share, total)
                    total += frame.height
                    kept += fewer.height
                    yield fewer
            if test and paths:
                self.test_rows = kept

    def layout(self, staging: Staging) -> Layout:
        """13 dense and 26 sparse columns."""

        def ids_of_block(column: int, block: int) -> pl.Series:
            values = staging.columns[column].values_of(block)
            return values.set(values == "", None)

        def ids(column: int) -> pl.Series:
            values = staging.columns[column].keys()
            return values.set(values == ("" if values.dtype == pl.String else 0), None)

        return Layout(
            list(CATEGORIES),
            list(range(len(CATEGORIES))),
            list(INTEGERS),
            ids,
            ids_of_block,
            about=about(self._paths, self._test, self._share),
        )
