"""`--cache`: files are prepared by themselves and found again."""

from __future__ import annotations

import os
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from embpress.cli.options import data_keywords

if TYPE_CHECKING:
    from embpress.dlrm.data import ClickData

VARIABLE = "EMBPRESS_CACHE"
LARGE = 1 << 30  # bytes of the files together from which the variable counts

CACHE = click.option(
    "--cache",
    type=click.Path(),
    metavar="DIR",
    help="Prepare the files into a folder in DIR, as embpress data prepare does, and find it again by what they hold. "
    f"[default: the environment variable {VARIABLE}, for files of 1 GB or more]",
)


def load_with_cache(
    options: dict[str, Any], cache: str | None, progress: Callable[[str], None]
) -> tuple[ClickData, str]:
    """The data of the options' values, and a line that says where they were prepared; empty where they were not.

    Raises:
        InputError: as `load`, or the cache cannot be used.
    """
    from embpress.compressors.errors import InputError
    from embpress.dlrm.data import load
    from embpress.dlrm.data.prepare.manifest import is_prepared

    if cache == "":
        raise InputError("--cache is empty; leave it out, or name a folder")
    keywords = data_keywords(options, cache or os.environ.get(VARIABLE))
    paths = keywords["paths"]
    if not paths or any(map(is_prepared, paths)):
        return load(**keywords), ""
    if cache is None and os.environ.get(VARIABLE):
        size = _size([*paths, *keywords.get("test", ())], keywords.get("format", "auto"))
        cache = os.environ[VARIABLE] if size >= LARGE else None
    if cache is None:
        return load(**keywords), ""
    from embpress.dlrm.data.prepare.cache import cached

    folder, new = cached(keywords.pop("paths"), cache, progress=progress, **keywords)
    said = "prepared into" if new else "prepared before, in"
    return load(folder), f"{said} {folder} (found again by the digest of files and options)"


def _size(paths: list[str | Path], format: str) -> int:
    """Bytes of all files that are named; those that are not there, of which `load` says more, have none."""
    from embpress.dlrm.data.expand import expanded
    from embpress.dlrm.data.formats import formats

    size = 0
    for path in expanded(paths, formats(), format):
        with suppress(OSError, ValueError):
            size += os.stat(path).st_size
    return size
