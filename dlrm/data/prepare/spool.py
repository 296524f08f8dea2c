"""A file of pieces that are written one after the other and read again in any order."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray


class Spool:
    """A file of pieces.

    Attributes:
        path: the file; it is open only while a piece is written or read, for a source may have thousands of columns.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._spans: list[tuple[int, int]] = []
        self._types: dict[int, np.dtype[Any]] = {}

    def __len__(self) -> int:
        return len(self._spans)

    def add(self, data: bytes | memoryview) -> None:
        """Appends a piece."""
        start = sum(self._spans[-1]) if self._spans else 0
        with self.path.open("ab") as file:
            file.write(data)
        self._spans.append((start, memoryview(data).nbytes))

    def add_array(self, values: NDArray[Any]) -> None:
        """Appends a piece of numbers of any type."""
        self._types[len(self)] = values.dtype
        self.add(np.ascontiguousarray(values).reshape(-1).view(np.uint8).data)

    def add_series(self, values: pl.Series) -> None:
        """Appends a piece of values of any type."""
        buffer = io.BytesIO()
        pl.DataFrame([values.alias("v")]).write_ipc_stream(buffer)
        self.add(buffer.getbuffer())

    def piece(self, index: int) -> bytes:
        """A piece, as it was written."""
        start, size = self._spans[index]
        with self.path.open("rb") as file:
            file.seek(start)
            return file.read(size)

    def array(self, index: int) -> NDArray[Any]:
        """A piece of numbers, of the type that it had: 1-D."""
        return np.frombuffer(self.piece(index), self._types[index])

    def series(self, index: int) -> pl.Series:
        """A piece of values."""
        return pl.read_ipc_stream(self.piece(index)).to_series().alias("")

    def remove(self) -> None:
        """Deletes the file."""
        self.path.unlink(missing_ok=True)
