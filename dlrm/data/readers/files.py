"""Opening a user's files: plain or gzip, with one clear sentence where that fails."""

from __future__ import annotations

import gzip
import stat
import zlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from itertools import islice
from pathlib import Path
from typing import IO, cast

from embpress.compressors import guard
from embpress.compressors.errors import InputError

Paths = Sequence["str | Path"]


def check_file(path: str | Path) -> None:
    """Refuses what is not a readable, non-empty, regular file.

    Raises:
        InputError: missing, a directory, a pipe or a device, empty or not readable, or a name that cannot be one.
    """
    p = guard.path(path, "the data file")
    try:
        if not p.exists():
            raise InputError(f"{path} does not exist; check the path to the data file")
        if p.is_dir():
            raise InputError(f"{path} is a directory, but a data file is needed; name the files in it")
        if not stat.S_ISREG(p.stat().st_mode):  # it would be read more than once, and may never end
            raise InputError(f"{path} is a pipe, a socket or a device, but a file is needed; save its content in one")
        with p.open("rb") as f:
            empty = not f.read(1)
    except (OSError, ValueError) as e:
        if isinstance(e, InputError):
            raise
        raise InputError(f"{path} cannot be read ({e}); check its name and permissions") from e
    if empty:
        raise InputError(f"{path} is empty, but it must hold at least one row")


def read_text(path: str | Path, lines: int | None = None) -> bytes:
    """The text of a plain or gzip file as UTF-8 bytes, without byte order mark and blank lines at the end.

    Args:
        path: the file; gzip is told by its first bytes.
        lines: read only so many lines.

    Raises:
        InputError: not a readable file, damaged gzip, binary content, not UTF-8 (with the line), or nothing in it.
    """
    check_file(path)
    try:
        with Path(path).open("rb") as plain:
            zipped = plain.read(2) == b"\x1f\x8b"
            if str(path).endswith(".gz") and not zipped:
                raise InputError(f"{path} ends in .gz but is not a gzip file; rename it or compress it")
            plain.seek(0)
            f = cast("IO[bytes]", gzip.GzipFile(fileobj=plain)) if zipped else plain
            data = f.read() if lines is None else b"".join(islice(f, lines))
    except (OSError, EOFError, zlib.error) as e:
        raise InputError(f"{path} cannot be read ({e}); the file may be damaged or cut off") from e
    if b"\0" in data[:65536]:
        raise InputError(f"{path} is a binary file, but text is expected; check the file or give its --format")
    data = data.removeprefix(b"\xef\xbb\xbf").rstrip(b"\r\n")
    if not data:
        raise InputError(f"{path} is empty, but it must hold at least one row")
    try:
        data.decode()
    except UnicodeDecodeError as e:
        line = data.count(b"\n", 0, e.start) + 1
        raise InputError(f"{path}, line {line}: the text is not UTF-8; convert the file") from e
    return data + b"\n"


def first_line(path: str | Path) -> str:
    """The first line of a text file, without its end."""
    return read_text(path, lines=1).decode().rstrip("\r\n")


@contextmanager
def refusals(paths: Paths) -> Iterator[None]:
    """Makes one sentence of what polars, or a number too large for it, stops the reading of these files with."""
    try:
        yield
    except BaseException as e:  # polars' panics are no Exceptions
        of_polars = type(e).__module__.split(".")[0] in ("polars", "pyo3_runtime")
        if not of_polars and not isinstance(e, (OverflowError, RecursionError, MemoryError)):
            raise
        why = "out of memory" if isinstance(e, MemoryError) else reason(e)
        raise InputError(
            f"{', '.join(map(str, paths)) or 'the data'} cannot be read ({why}); check the file or its columns"
        ) from e


def reason(error: BaseException) -> str:
    """The first line of an error's text, or its name."""
    return (str(error).splitlines() or [type(error).__name__])[0]
