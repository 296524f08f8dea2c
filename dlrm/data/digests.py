"""Digests of files, kept in a cache so that a file that has not changed is not read for its digest again."""

from __future__ import annotations

import gzip
import hashlib
import json
import os
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

_SETTLED = 2.0  # seconds after which a change of a file shows in its times, however coarse these are


def digest_of(
    path: str | Path,
    cache: str | Path | None,
    progress: Callable[[str], None] = lambda line: None,
    *,
    algorithm: str = "sha256",
    unzipped: bool = False,
) -> str:
    """The digest of a file, kept in the cache with what tells that the file is the same.

    Args:
        path: of the file.
        cache: the folder that keeps digests; None keeps none.
        progress: is told when the file is read.
        algorithm: a name that `hashlib` knows.
        unzipped: of the content, where the name says that it is zipped.

    Raises:
        OSError: it cannot be read.
        EOFError, zlib.error: a zipped file is cut off or damaged.
    """
    where = os.path.realpath(path)
    stamp, kept = stamp_of(where), None
    kind = f"{algorithm} unzipped" if unzipped else algorithm
    if cache is not None:
        name = hashlib.sha256(where.encode("utf-8", "surrogateescape")).hexdigest()[:24]
        kept = Path(cache) / ".digests" / f"{name}.{kind.replace(' ', '-')}.json"
        with suppress(OSError, ValueError, TypeError, KeyError):
            value = json.loads(kept.read_text(encoding="utf-8"))
            if value["stamp"] == stamp:
                return str(value[kind])
    progress(f"reading {path} for its digest")
    digest = hashlib.new(algorithm, usedforsecurity=False)
    with gzip.open(where) if unzipped and Path(path).suffix == ".gz" else open(where, "rb") as file:
        while block := file.read(1 << 22):
            digest.update(block)
    if kept is not None and stamp_of(where) == stamp and time.time() - max(stamp[2:]) / 1e9 > _SETTLED:
        with suppress(OSError):  # then it is read again the next time
            kept.parent.mkdir(parents=True, exist_ok=True)
            new = kept.with_suffix(f".{os.getpid()}")
            new.write_text(json.dumps({"stamp": stamp, kind: digest.hexdigest()}), encoding="utf-8")
            os.replace(new, kept)
    return digest.hexdigest()


def stamp_of(path: str | Path) -> list[int]:
    """What changes with a file: size, number, times of its last changes, of content and of anything, in nanoseconds.

    Raises:
        OSError: there is no such file.
    """
    stat = os.stat(path)
    return [stat.st_size, stat.st_ino, stat.st_mtime_ns, stat.st_ctime_ns]
