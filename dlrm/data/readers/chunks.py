"""A text file piece by piece: what `read_text` gives, cut at ends of lines, and the digest of what was read."""

from __future__ import annotations

import gzip
import hashlib
import zlib
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, cast

import numpy as np

from embpress.compressors.errors import InputError
from embpress.dlrm.data.readers.files import check_file

CHUNK_BYTES = 16 << 20  # arrays of larger ones leave the caches; of smaller ones the same values stand in more


@dataclass
class Chunk:
    """Whole lines of a file.

    Attributes:
        data: UTF-8 text that ends with a line.
        line: number of its first line in the file, from 1; 0 where lines are not counted.
    """

    data: bytes
    line: int


@dataclass
class SourceFile:
    """A file that was read: its size, when it was changed, and the SHA-256 of its first `read_bytes` bytes."""

    path: str
    test: bool
    bytes: int
    mtime_ns: int
    read_bytes: int = 0
    sha256: str = ""


class Digested:
    """A binary file whose bytes are hashed as they are read, in order."""

    def __init__(self, file: IO[bytes], source: SourceFile) -> None:
        self._file, self._source, self._digest = file, source, hashlib.sha256()

    def read(self, size: int = -1) -> bytes:
        """The next bytes."""
        data = self._file.read(size)
        self._digest.update(data)
        self._source.read_bytes += len(data)
        self._source.sha256 = self._digest.hexdigest()
        return data


def source_file(path: str | Path, test: bool) -> SourceFile:
    """A file that is about to be read.

    Raises:
        InputError: it cannot be.
    """
    check_file(path)
    stat = Path(path).stat()
    return SourceFile(str(path), test, stat.st_size, stat.st_mtime_ns)


def last_line(rest: bytes, block: bytes) -> int:
    """Where in a block the last whole line ends: 0 where none does."""
    return block.rfind(b"\n") + 1


def chunks(
    source: SourceFile,
    lines: int | None = None,
    cut: Callable[[bytes, bytes], int] = last_line,
    counted: bool = True,
) -> Iterator[Chunk]:
    """The text of a plain or gzip file in pieces; together they are what `read_text` gives.

    Args:
        source: the file, whose digest is filled in.
        lines: read only so many lines.
        cut: of the bytes that follow some others, how many may be the end of a piece that begins with those.
        counted: count lines, for who does not do so.

    Raises:
        InputError: as `read_text`.
    """
    held: Chunk | None = None  # blank lines at the end of a file do not count, so a piece waits for the next
    for piece in _pieces(source, lines, cut, counted):
        if held is None:
            if b"\0" in piece.data[:65536]:
                raise InputError(
                    f"{source.path} is a binary file, but text is expected; check the file or give its --format"
                )
            held = Chunk(piece.data.removeprefix(b"\xef\xbb\xbf"), piece.line)
        elif piece.data[:1] in (b"\r", b"\n") and not piece.data.strip(b"\r\n"):
            held.data += piece.data
        else:
            yield _decodable(source, held)
            held = piece
    text = held.data.rstrip(b"\r\n") if held else b""
    if held is None or not text:
        raise InputError(f"{source.path} is empty, but it must hold at least one row")
    yield _decodable(source, Chunk(text + b"\n", held.line))


def _pieces(
    source: SourceFile, lines: int | None, cut: Callable[[bytes, bytes], int], counted: bool
) -> Iterator[Chunk]:
    path = source.path
    try:
        with Path(path).open("rb") as plain:
            zipped = plain.read(2) == b"\x1f\x8b"
            if path.endswith(".gz") and not zipped:
                raise InputError(f"{path} ends in .gz but is not a gzip file; rename it or compress it")
            plain.seek(0)
            raw: Any = Digested(plain, source)
            f = cast("IO[bytes]", gzip.GzipFile(fileobj=raw, mode="rb")) if zipped else raw
            rest, line, left = b"", int(counted), lines
            while left is None or left > 0:
                block = f.read(CHUNK_BYTES)
                if not rest and not block:
                    break
                end = cut(rest, block) if block else 0
                if block and not end:
                    rest += block
                    continue
                data, rest = b"".join((rest, memoryview(block)[:end])), block[end:]
                count = data.count(b"\n") if counted or left is not None else 0
                if left is not None:
                    if count >= left:
                        ends = np.flatnonzero(np.frombuffer(data, np.uint8) == ord("\n"))
                        data, count = data[: int(ends[left - 1]) + 1], left
                    left -= count
                yield Chunk(data, line)
                line += count if counted else 0
                if not block:
                    break
    except (OSError, EOFError, zlib.error) as e:
        raise InputError(f"{path} cannot be read ({e}); the file may be damaged or cut off") from e


def _decodable(source: SourceFile, chunk: Chunk) -> Chunk:
    if chunk.data.isascii():
        return chunk
    try:
        chunk.data.decode()
    except UnicodeDecodeError as e:
        if not chunk.line:  # from the beginning, to say which line it is
            deque(chunks(source_file(source.path, source.test)), maxlen=0)
        line = chunk.line + chunk.data.count(b"\n", 0, e.start)
        raise InputError(f"{source.path}, line {line}: the text is not UTF-8; convert the file") from e
    return chunk
