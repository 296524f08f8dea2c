"""Arrays of unknown length as `.npy` files, written row by row, and mapped without being read."""

from __future__ import annotations

import mmap
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np
from numpy.typing import NDArray
from typing_extensions import Self

_HEADER = 128  # bytes, whatever the length turns out to be
# a private mapping then counts nothing against memory, however large; Python before 3.13 has no name for it
_NO_RESERVE = getattr(mmap, "MAP_NORESERVE", 0x4000 if sys.platform == "linux" else 0)


class ArrayWriter:
    """A file of an array whose rows are appended; whole when it is closed.

    Args:
        path: ends in `.npy`.
        dtype: of its elements.
        row: shape of a row, `()` for a vector.
    """

    def __init__(self, path: Path, dtype: type[np.generic] | np.dtype[Any], row: tuple[int, ...] = ()) -> None:
        self.rows = 0
        self._dtype, self._row = np.dtype(dtype).newbyteorder("<"), row
        self._file = path.open("wb")
        self._write_header()

    def add(self, values: NDArray[Any]) -> None:
        """Appends rows, `(N, *row)`."""
        values = np.ascontiguousarray(values, self._dtype)
        if len(values):
            self._file.write(values.reshape(-1).view(np.uint8).data)
        self.rows += len(values)

    def add_zeros(self, rows: int) -> None:
        """Appends rows of zeros, which take no room on disks that know holes in files."""
        self._file.seek(rows * int(np.prod(self._row, dtype=np.int64)) * self._dtype.itemsize, os.SEEK_CUR)
        self.rows += rows

    def close(self) -> None:
        """Says in the file how many rows it has, and waits until the disk has them."""
        self._file.truncate(self._file.tell())  # zeros at the end are there, too
        self._file.seek(0)
        self._write_header()
        self._file.flush()
        os.fsync(self._file.fileno())
        self._file.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if error is None:
            self.close()
        else:
            self._file.raw.close()  # what is still in its buffer belongs to a file that is given up

    def _write_header(self) -> None:
        about = {"descr": self._dtype.str, "fortran_order": False, "shape": (self.rows, *self._row)}
        text = repr(about).encode().ljust(_HEADER - 11) + b"\n"
        self._file.write(b"\x93NUMPY\x01\x00" + (_HEADER - 10).to_bytes(2, "little") + text)


def header(path: Path) -> tuple[tuple[int, ...], np.dtype[Any], int]:
    """Shape, type and first byte of an array in a `.npy` file.

    Raises:
        OSError: it cannot be opened.
        ValueError: it is cut off or no such file.
    """
    with path.open("rb") as file:
        if np.lib.format.read_magic(file) != (1, 0):
            raise ValueError("not written by embpress")
        shape, _, dtype = np.lib.format.read_array_header_1_0(file)
        if os.fstat(file.fileno()).st_size != file.tell() + int(np.prod(shape, dtype=np.int64)) * dtype.itemsize:
            raise ValueError("cut off")
        return shape, dtype, file.tell()


def pieces_of(path: Path, size: int = 1 << 22) -> Iterator[bytes]:
    """The bytes of an array in a `.npy` file, which are read and not mapped: it may be larger than memory."""
    _, _, start = header(path)
    with path.open("rb") as file:
        file.seek(start)
        while piece := file.read(size):
            yield piece


def mapped(path: Path) -> NDArray[Any]:
    """A `.npy` file as an array whose pages are read when they are used; what is written into it stays in memory.

    Raises:
        OSError: it cannot be opened.
        ValueError: it is cut off or no such file.
    """
    shape, dtype, start = header(path)
    size = int(np.prod(shape, dtype=np.int64))
    if not size:
        return np.empty(shape, dtype)
    with path.open("rb") as file:
        flags, prot = mmap.MAP_PRIVATE | _NO_RESERVE, mmap.PROT_READ | mmap.PROT_WRITE
        pages = mmap.mmap(file.fileno(), 0, flags=flags, prot=prot)
        return np.frombuffer(pages, dtype, size, start).reshape(shape)
