"""One door to all formats."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from embpress.compressors.errors import InputError, nearest, require
from embpress.dlrm.data.assemble import DEFAULT_SPLIT, assemble
from embpress.dlrm.data.base import ClickData
from embpress.dlrm.data.formats.files import Paths, check_file, first_line
from embpress.dlrm.data.synthetic import synthetic as make_synthetic

FORMATS = ("auto", *DEFAULT_SPLIT)
CRITEO_COLUMNS = 40  # label, 13 integers, 26 categories
ENDINGS = {".csv": "csv", ".parquet": "parquet", ".libfm": "libfm", ".svm": "libfm", ".libsvm": "libfm"}
SYNTHETIC_OPTIONS = ("scale", "structure", "zipf", "seed", "dense")
# options that only some formats have
OPTIONS = {
    "synthetic": SYNTHETIC_OPTIONS,
    "criteo": ("test",),
    "csv": ("test", "label", "dense", "sparse"),
    "parquet": ("test", "label", "dense", "sparse"),
    "libfm": ("test", "fields"),
}


def load(
    paths: Paths = (),
    *,
    format: str = "auto",
    test: Paths = (),
    label: str | None = None,
    dense: Sequence[str] | int | None = None,
    sparse: Sequence[str] | None = None,
    fields: str | Path | None = None,
    split: str | None = None,
    split_seed: int = 0,
    min_count: int = 2,
    rows: int | None = None,
    **synthetic: Any,
) -> ClickData:
    """Reads click data, or makes them where no path is given.

    Args:
        paths: one or several files of one format, read one after the other.
        format: `auto` (by ending, else raw Criteo where the first line has its 40 columns), or `synthetic`,
            `criteo`, `csv`, `parquet`, `libfm`.
        test: files that are the test part; without them it is cut off `paths`.
        label: csv and parquet: the label column.
        dense: csv and parquet: the dense columns; synthetic: how many.
        sparse: csv and parquet: the sparse columns.
        fields: libfm: file that maps indices to fields.
        split: `order` (default of criteo and synthetic) or `random` (of the others).
        split_seed: seed of a random split.
        min_count: ids rarer than this in the rows trained on share row 0.
        rows: at most so many rows of `paths` and so many of `test`; how many to make of synthetic data (200,000).
        **synthetic: `scale`, `structure`, `zipf`, `seed` of synthetic data.

    Raises:
        InputError: whatever is wrong with the files or options, in one sentence.
    """
    paths, test = _as_list(paths), _as_list(test)
    if format not in FORMATS:
        raise InputError(f"there is no data format {format!r}{nearest(format, FORMATS)}")
    if rows is not None and (isinstance(rows, bool) or not isinstance(rows, int) or rows < 1):
        raise InputError(f"rows is {rows!r}, but it must be a whole number of at least 1")
    for path in (*paths, *test):
        check_file(path)
    if format == "auto":
        format = _guess_format([*paths, *test])
    if paths and format == "synthetic":
        raise InputError(f"synthetic data are made, not read, so {paths[0]} does not belong here; give its format")
    if not paths and format != "synthetic":
        raise InputError(f"format {format} needs at least one data file; only synthetic data need none")
    given = {"test": test or None, "label": label, "dense": dense, "sparse": sparse, "fields": fields, **synthetic}
    given = {option: value for option, value in given.items() if value is not None}
    for option in given:
        if option not in OPTIONS[format]:
            home = [known for known, options in OPTIONS.items() if option in options]
            hint = f"; it belongs to {', '.join(home)}" if home else nearest(option, OPTIONS[format])
            raise InputError(f"format {format} has no option {option!r}{hint}")
    common: dict[str, Any] = {"split": split, "split_seed": split_seed, "min_count": min_count}
    if format == "synthetic":
        made: dict[str, Any] = given if rows is None else {"rows": rows, **given}
        return make_synthetic(**made, **common)
    require("polars", f"reading {paths[0]}")
    from embpress.dlrm.data.formats.criteo import read_criteo
    from embpress.dlrm.data.formats.libfm import read_libfm
    from embpress.dlrm.data.formats.tabular import read_tabular
    from embpress.dlrm.data.raw import RawTable

    raw: RawTable
    if format == "criteo":
        raw = read_criteo(paths, test, rows)
    elif format == "libfm":
        raw = read_libfm(paths, test, fields, rows)
    else:
        raw = read_tabular(format, paths, test, label, _names("dense", dense), _names("sparse", sparse), rows)
    if test and raw.test_rows == 0:
        raise InputError(f"{test[0]} gave no test rows, but the test part needs at least one")
    return assemble(raw, name=_name(paths[0]), format=format, **common)


def _as_list(paths: Paths | str | Path) -> list[str | Path]:
    return [paths] if isinstance(paths, (str, Path)) else list(paths)


def _names(role: str, given: Sequence[str] | int | None) -> Sequence[str] | None:
    if given is None:
        return None
    if isinstance(given, int) or not all(isinstance(name, str) for name in given):
        raise InputError(f"{role} is {given!r}, but it must be a list of column names")
    return given.split(",") if isinstance(given, str) else given


def _name(path: str | Path) -> str:
    stem = Path(path).name.removesuffix(".gz")
    return Path(stem).stem or stem


def _guess_format(paths: Sequence[str | Path]) -> str:
    if not paths:
        return "synthetic"
    found = {path: _guess_one(path) for path in paths}
    if len(set(found.values())) > 1:
        listed = ", ".join(f"{path} is {kind}" for path, kind in found.items())
        raise InputError(f"all files must have one format, but {listed}")
    return found[paths[0]]


def _guess_one(path: str | Path) -> str:
    ending = Path(str(path).lower().removesuffix(".gz")).suffix
    if ending in ENDINGS:
        return ENDINGS[ending]
    if first_line(path).count("\t") == CRITEO_COLUMNS - 1:
        return "criteo"
    raise InputError(
        f"the format of {path} cannot be told from its name or first line; "
        f"give --format, one of: {', '.join(DEFAULT_SPLIT)}"
    )
