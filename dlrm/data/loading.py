"""One door to all formats."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from embpress.compressors.errors import InputError, nearest, require
from embpress.compressors.guard import shown, whole
from embpress.dlrm.data.assemble import assemble, resolved
from embpress.dlrm.data.base import ClickData
from embpress.dlrm.data.expand import expanded, guess, name_of
from embpress.dlrm.data.formats import formats
from embpress.dlrm.data.formats.base import Format
from embpress.dlrm.data.named import Named
from embpress.dlrm.data.prepare.manifest import is_prepared
from embpress.dlrm.data.readers.files import Paths, check_file, refusals
from embpress.dlrm.data.split import check_halves
from embpress.dlrm.measure.memory import free_bytes
from embpress.dlrm.option import values_of

WITHOUT_FILES = "synthetic"  # what `auto` is then
MAX_ROWS = 10**15  # to read; of what is made fewer fit the memory


def load(
    paths: Paths | str | Path = (),
    *,
    format: str = "auto",
    test: Paths | str | Path = (),
    split: str | None = None,
    split_seed: int | None = None,
    min_count: int | None = None,
    number_ids: str | None = None,
    max_rows_per_table: int | None = None,
    rows: int | None = None,
    dataset: Named | None = None,
    **options: Any,
) -> ClickData:
    """Reads click data, or makes them where no path is given, or maps them where they were prepared.

    Args:
        paths: one or several files of one format, read one after the other; a folder of such files or a pattern
            (`day_*.gz`) stands for its files in natural order, `day_2` before `day_10`. Or one folder of `prepare`,
            whose options stand.
        format: a file of `dlrm/data/formats`, or `auto`: by ending, else by the first line.
        test: files that are the test part; without them it is cut off `paths`.
        split: `order`, `random`, or `halves`, which takes the test part and validation from the test files; None takes
            the format's default.
        split_seed: seed of a random split; None is 0.
        min_count: ids rarer than this in the rows trained on share row 0; None is 2.
        number_ids: `frequency` (the most frequent id is row 1; None is this) or `random`, to see what methods gain by
            the former.
        max_rows_per_table: row 0 included; of more ids the most frequent have a row.
        rows: at most so many rows of `paths` and so many of `test`; how many to make of synthetic data (200,000).
        dataset: which public data set it is, if one; see `named.keywords`.
        **options: those of the format, such as `label`, `dense`, `sparse` of csv and parquet, `fields` of libfm,
            `scale`, `structure`, `zipf`, `seed`, `dense` of synthetic data; None is as good as left out.

    Raises:
        InputError: whatever is wrong with the files or options, in one sentence.
    """
    if (folder := _prepared(paths)) is not None:
        numbering = {"min_count": min_count, "number_ids": number_ids, "max_rows_per_table": max_rows_per_table}
        division = {"test": as_list(test), "rows": rows, "split": split, "split_seed": split_seed}
        return _mapped(folder, {"format": format, **division, **numbering}, options)
    split_seed, min_count, number_ids = resolved(split_seed, min_count, number_ids)
    asked = as_list(paths)
    reader, paths, test, values = chosen(paths, test, format, rows, options)
    check_halves(reader.split if split is None else split, bool(test))
    if not reader.made:
        require("polars", f"reading {paths[0]}")
        if rows is None:
            _check_memory([*paths, *test])
    with refusals((*paths, *test)):
        raw = reader.read(paths, test, rows, **values)
    if test and raw.test_rows == 0:
        raise InputError(f"{test[0]} gave no test rows, but the test part needs at least one")
    data = assemble(
        raw,
        name=name_of(asked[0]) if asked else reader.name,
        format=reader.name,
        split=reader.split if split is None else split,
        split_seed=split_seed,
        min_count=min_count,
        number_ids=number_ids,
        max_rows_per_table=max_rows_per_table,
    )
    data.about |= {} if dataset is None else dataset.about()
    return data


def synthetic(rows: int = 200_000, scale: float = 0.003, **options: Any) -> ClickData:
    """Synthetic data; see `load` for the options that all data have and `readers.synthetic.make` for the others."""
    return load(format="synthetic", rows=rows, scale=scale, **options)


def chosen(
    paths: Paths | str | Path, test: Paths | str | Path, format: str, rows: int | None, options: dict[str, Any]
) -> tuple[type[Format], list[str | Path], list[str | Path], dict[str, Any]]:
    """The format of files that are there, the files, and the format's options: see `load`.

    Raises:
        InputError: as `load`.
    """
    known = formats()
    if format != "auto" and format not in known:
        raise InputError(f"there is no data format {shown(format)}{nearest(format, ['auto', *known])}")
    if rows is not None:
        whole(rows, "rows", 1, MAX_ROWS)
    paths, test = (expanded(as_list(part), known, format) for part in (paths, test))
    for path in (*paths, *test):
        check_file(path)
    reader = known[_guess_format([*paths, *test], known) if format == "auto" else format]
    if reader.made and (paths or test):
        first = (*paths, *test)[0]
        raise InputError(f"{reader.name} data are made, not read, so {first} does not belong here; give its format")
    if not paths and not reader.made:
        raise InputError(f"format {reader.name} needs at least one data file; only synthetic data need none")
    values = values_of("format", reader.name, options, {name: one.options for name, one in known.items()})
    return reader, paths, test, values


def _prepared(paths: Paths | str | Path) -> str | Path | None:
    """The folder of prepared data that is given, if one is.

    Raises:
        InputError: it is given with other files.
    """
    several = as_list(paths)
    folders = [path for path in several if is_prepared(path)]
    if folders and len(several) > 1:
        raise InputError(f"{folders[0]} is a folder of prepared data, which stands alone; give nothing beside it")
    return folders[0] if folders else None


def _mapped(folder: str | Path, asked: dict[str, Any], options: dict[str, Any]) -> ClickData:
    """Opens prepared data; whatever is asked for, the format's options too, must be what they were prepared with.

    Raises:
        InputError: it is not, or the folder is damaged.
    """
    from embpress.dlrm.data.prepare.folder import opened, read_manifest

    decided = read_manifest(folder)["options"]
    known = {name: one.options for name, one in formats().items()}
    format = decided.get("format")
    if format not in known:
        raise InputError(f"{folder} was prepared of format {shown(format)}, which is not there; prepare the data again")
    asked = asked | values_of("format", format, options, known)
    asked["test"] = expanded(asked["test"], formats(), format)
    of_paths = {"test", *(option.name for option in known[format] if option.kind is Path)}

    def text(name: str, value: Any) -> str:
        if isinstance(value, (list, tuple)):
            return ",".join(text(name, one).strip() for one in value)
        return str(Path(str(value))) if name in of_paths else str(value)

    for name, value in asked.items():
        was = decided.get(name)
        if value in (None, []) or (name, value) == ("format", "auto") or text(name, value) == text(name, was):
            continue
        how = "without it" if was in (None, []) else f"with {text(name, was)}"
        raise InputError(
            f"{name} is {text(name, value)}, but {folder} was prepared {how}; leave it out, or prepare the files again"
        )
    return opened(folder)


def _check_memory(files: Sequence[str | Path]) -> None:
    """Refuses files that would not fit the free memory, before they are read.

    Raises:
        InputError: they are.
    """
    # at least: the text and what is made of it (of Criteo's 3.1 times the file), which gzip makes a third or less
    size = sum((6 if str(path).endswith(".gz") else 2) * Path(path).stat().st_size for path in files)
    free = free_bytes()
    if size > free:
        raise InputError(
            f"reading {files[0]}{' and the others' if len(files) > 1 else ''} would take more than {size / 1e9:.1f} GB "
            f"of memory, but {free / 1e9:.1f} GB are free; give --cache DIR, or the folder that embpress data prepare "
            "makes of them: both need memory for some blocks alone"
        )


def as_list(paths: Paths | str | Path) -> list[str | Path]:
    """One path or several as a list."""
    return [paths] if isinstance(paths, (str, Path)) else list(paths)


def _guess_format(paths: Sequence[str | Path], known: dict[str, type[Format]]) -> str:
    if not paths:
        return WITHOUT_FILES
    kinds = {path: _guess_one(path, known) for path in paths}
    if len(set(kinds.values())) > 1:
        listed = ", ".join(f"{path} is {kind}" for path, kind in kinds.items())
        raise InputError(f"all files must have one format, but {listed}")
    return kinds[paths[0]]


def _guess_one(path: str | Path, known: dict[str, type[Format]]) -> str:
    found = guess(path, known)
    if found is None:
        raise InputError(
            f"the format of {path} cannot be told from its name or first line; "
            f"give --format, one of: {', '.join(sorted(known))}"
        )
    return found
