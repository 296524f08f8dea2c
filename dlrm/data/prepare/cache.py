"""A folder of prepared data by what they are made of, so that the same files are prepared once."""

from __future__ import annotations

import fcntl
import hashlib
import json
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import takewhile
from pathlib import Path
from typing import Any

from embpress.compressors import guard
from embpress.compressors.errors import InputError
from embpress.dlrm.data.assemble import resolved
from embpress.dlrm.data.digests import digest_of, stamp_of
from embpress.dlrm.data.expand import name_of
from embpress.dlrm.data.loading import as_list, chosen
from embpress.dlrm.data.named import Named
from embpress.dlrm.data.prepare.manifest import SCHEMA, is_prepared
from embpress.dlrm.data.prepare.prepare import prepare
from embpress.dlrm.data.readers.files import Paths, check_file
from embpress.dlrm.measure.environment import package


def cached(
    paths: Paths,
    cache: str | Path,
    *,
    format: str = "auto",
    test: Paths = (),
    split: str | None = None,
    split_seed: int | None = None,
    min_count: int | None = None,
    number_ids: str | None = None,
    max_rows_per_table: int | None = None,
    rows: int | None = None,
    dataset: Named | None = None,
    progress: Callable[[str], None] = lambda line: None,
    **options: Any,
) -> tuple[Path, bool]:
    """The folder of prepared data of these files with these options, and whether it was prepared now.

    It is named after the first file, the SHA-256 of all files and the options. A digest is kept beside it: a file with
    the path, size, number and times of before is taken for the same and not read for it. Of two commands at once one
    prepares and the other waits.

    Args:
        paths: at least one file, folder of files or pattern.
        cache: the folder that holds all these folders; made where it is missing.
        progress: is told what is going on.
        format, test, split, split_seed, min_count, number_ids, max_rows_per_table, rows, dataset,
            **options: as of `load`.

    Raises:
        InputError: as `prepare`, or the folder cannot be written, or a file changes meanwhile.
    """
    place = guard.path(cache, "--cache")
    asked, asked_test = as_list(paths), as_list(test)
    reader, paths, test, values = chosen(paths, test, format, rows, options)
    split_seed, min_count, number_ids = resolved(split_seed, min_count, number_ids)
    given: dict[str, Any] = {
        "split": reader.split if split is None else split,
        "split_seed": split_seed,
        "min_count": min_count,
        "number_ids": number_ids,
        "max_rows_per_table": max_rows_per_table,
        "rows": rows,
    }
    files = {option.name for option in reader.options if option.kind is Path and option.name in values}
    for name in files:
        check_file(values[name])
    try:
        place.mkdir(parents=True, exist_ok=True)
        stamps = {path: stamp_of(path) for path in (*paths, *test)}
        about = {
            "made by": [package("embpress"), SCHEMA],
            "format": reader.name,
            **given,
            "dataset": {} if dataset is None else dataset.about(),
            **{name: digest_of(value, place, progress) if name in files else value for name, value in values.items()},
            "files": [[digest_of(path, place, progress), _folders(path)] for path in paths],
            "test files": [[digest_of(path, place, progress), _folders(path)] for path in test],
        }
        key = hashlib.sha256(json.dumps(about, sort_keys=True).encode()).hexdigest()[:12]
        folder = place / f"{name_of(asked[0])}-{key}"
        with _alone(place / f".{folder.name}.lock", progress):
            if is_prepared(folder):
                return folder, False
            given |= {"format": reader.name, "dataset": dataset, "progress": progress}
            prepare(asked, folder, test=asked_test, **given, **values)
            changed = [path for path, stamp in stamps.items() if stamp_of(path) != stamp]
            if changed:
                shutil.rmtree(folder)
                raise InputError(f"{changed[0]} changed while it was read; start again when it is whole")
    except OSError as error:
        raise InputError(f"--cache {cache} cannot be used ({error.strerror or error}); give another folder") from None
    return folder, True


def _folders(path: str | Path) -> list[str]:
    """The `column=value` folders right above a file, which hold columns too."""
    names = (folder.name for folder in Path(path).parents)
    return list(takewhile(lambda name: "=" in name, names))


@contextmanager
def _alone(path: Path, progress: Callable[[str], None]) -> Iterator[None]:
    """One process at a time; the lock goes with the process that holds it."""
    with path.open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            progress("another command prepares these files: waiting for it")
            fcntl.flock(file, fcntl.LOCK_EX)
        yield
