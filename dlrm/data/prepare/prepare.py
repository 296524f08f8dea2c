"""Files to a folder of mapped columns: what `load` gives on them, in bounded memory."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from embpress.compressors import guard
from embpress.compressors.errors import InputError, require
from embpress.dlrm.data.ahead import ahead
from embpress.dlrm.data.assemble import check_classes, check_features, check_options, fingerprint_of, resolved
from embpress.dlrm.data.expand import name_of
from embpress.dlrm.data.loading import as_list, chosen
from embpress.dlrm.data.named import Named
from embpress.dlrm.data.prepare.arrays import ArrayWriter
from embpress.dlrm.data.prepare.blocks import Layout, Source
from embpress.dlrm.data.prepare.division import PARTS, Division
from embpress.dlrm.data.prepare.hashed import hashed
from embpress.dlrm.data.prepare.manifest import counts_file, says_prepared, vocabulary_file, write_manifest
from embpress.dlrm.data.prepare.new_folder import new_folder
from embpress.dlrm.data.prepare.numbering import numbered, write_vocabulary
from embpress.dlrm.data.prepare.staging import StagedColumn, Staging
from embpress.dlrm.data.prepare.writing import Columns, arrays, pieces, write_parts
from embpress.dlrm.data.readers.files import Paths, refusals
from embpress.dlrm.data.split import check_halves, check_split

Progress = Callable[[str], None]


@dataclass(frozen=True)
class Options:
    """What decides the parts and the numbers of the ids: see `load`."""

    split: str
    split_seed: int
    min_count: int
    number_ids: str
    max_rows_per_table: int | None
    hash_ids: int | None
    table_rows: list[int] | None


def prepare(
    paths: Paths | str | Path,
    to: str | Path,
    *,
    format: str = "auto",
    test: Paths | str | Path = (),
    split: str | None = None,
    split_seed: int | None = None,
    min_count: int | None = None,
    number_ids: str | None = None,
    max_rows_per_table: int | None = None,
    hash_ids: int | None = None,
    table_rows: Sequence[int] | None = None,
    rows: int | None = None,
    dataset: Named | None = None,
    progress: Progress = lambda line: None,
    **options: Any,
) -> Path:
    """Writes click data as a folder of columns, which `load` then maps: the same data as `load` gives on the files.

    It reads the files once, in blocks. The folder appears under its name when it is whole; what a killed process has
    left is taken away by the next one.

    Args:
        paths, format, test, split, split_seed, min_count, number_ids, max_rows_per_table, rows,
            dataset: as of `load`.
        to: the folder to write, which must not be there or be empty; a link to such a one stays a link.
        hash_ids: a column with more than `2**hash_ids` values has no vocabulary and knows no `min_count`: see
            `hashed.hashed`. The data are then not those that `load` gives.
        table_rows: rows of each table, row 0 included, where they are known to be more than these files have ids: rows
            beyond those are never looked up. The data are then not those that `load` gives.
        progress: is told what is going on.
        **options: as of `load`.

    Returns:
        The folder.

    Raises:
        InputError: whatever is wrong with files or options, the folder is there, or the disk is full.
    """
    split_seed, min_count, number_ids = resolved(split_seed, min_count, number_ids)
    check_options(min_count, split_seed, number_ids, max_rows_per_table)
    asked_for = as_list(paths)
    for path in (*asked_for, *as_list(test)):
        if says_prepared(path):
            raise InputError(
                f"{path} is prepared already; give it as it is to any command, such as embpress compare {path}"
            )
    reader, paths, test, values = chosen(paths, test, format, rows, options)
    if reader.made:
        raise InputError(f"{reader.name} data are made, not read, so there is nothing to prepare; give files")
    if hash_ids is not None:
        guard.whole(hash_ids, "hash_ids", 1, 30)
        if max_rows_per_table is not None and 2**hash_ids + 1 > max_rows_per_table:
            raise InputError(
                f"hash_ids {hash_ids} gives tables of {2**hash_ids + 1:,} rows, but max_rows_per_table is "
                f"{max_rows_per_table:,}; give fewer bits or allow more rows"
            )
    require("polars", f"reading {paths[0]}")
    target = guard.path(to, "--to")
    decided = Options(
        reader.split if split is None else split,
        split_seed,
        min_count,
        number_ids,
        max_rows_per_table,
        hash_ids,
        None if table_rows is None else [guard.whole(n, "table_rows", 1, 2**31 - 1) for n in table_rows],
    )
    check_split(decided.split)  # a mistake should not wait for the files
    check_halves(decided.split, bool(test))
    with new_folder(target) as folder, refusals((*paths, *test)):
        source = reader.source(paths, test, rows, **values)
        manifest = _write(folder, source, name_of(asked_for[0]), reader.name, decided, progress)
        asked = {"format": reader.name, "rows": rows, **asdict(decided), **values}
        asked["test"] = [str(path) for path in test]
        asked = {name: str(value) if isinstance(value, Path) else value for name, value in asked.items()}
        if dataset is not None:
            own_ids = hash_ids is not None or table_rows is not None
            manifest["about"] |= replace(dataset, as_published=dataset.as_published and not own_ids).about()
        write_manifest(folder, {**manifest, "options": asked, "files": [asdict(file) for file in source.files]})
    return target


def _write(
    folder: Path, source: Source, name: str, format: str, options: Options, progress: Progress
) -> dict[str, Any]:
    staged = folder / "staged"
    staged.mkdir()
    staging = Staging(staged)
    for block in ahead(source.blocks()):
        staging.add(block)
        progress(f"{staging.rows:,} rows read")
    test_rows = source.test_rows
    if test_rows == 0:
        raise InputError(f"{source.files[-1].path} gave no test rows, but the test part needs at least one")
    layout = source.layout(staging)
    check_features(name, layout.features)
    _check_tables(layout, options.table_rows)
    division = Division(staging.rows, test_rows, options.split, options.split_seed)
    numbers = {}
    for column in {*(layout.dense or ()), *(() if layout.label is None else (layout.label,))}:
        assert layout.numbers is not None  # of who has such columns
        numbers[column] = pieces(staging.columns[column], layout.numbers(column), staged / f"{column}.numbers")

    shuffle = np.random.default_rng(0) if options.number_ids == "random" else None
    (folder / "counts").mkdir()
    (folder / "vocabulary").mkdir()
    sizes, spools, without = [], [], []
    for f, column in enumerate(layout.sparse):
        progress(f"numbering {layout.features[f]} ({f + 1} of {len(layout.sparse)})")
        home, path = staging.columns[column], staged / f"{f}.rows"
        by_hash = None
        if options.hash_ids is not None:
            by_hash = hashed(staging, home, _of_blocks(layout, home, column), division, options.hash_ids, path)
        if by_hash is None:
            limits = options.min_count, shuffle, options.max_rows_per_table
            found = numbered(staging, home, layout.ids(column), division, *limits)
            write_vocabulary(folder / vocabulary_file(f), found.vocabulary)
            spool, lookups = pieces(home, found.rows_of, path), found.counts
        else:
            spool, lookups = by_hash
            without.append(layout.features[f])
        sizes.append(_rows_of_table(layout.features[f], len(lookups), f, options.table_rows))
        with ArrayWriter(folder / counts_file(f), np.int64) as counts:
            counts.add(lookups)
            counts.add_zeros(sizes[f] - len(lookups))
        spools.append(spool)
        home.values.remove()
    if max(sizes) >= 2**31:
        raise InputError(f"a table would have {max(sizes):,} rows, but prepared ids have 32 bits; raise --min-count")

    progress("writing")
    columns = Columns(staging, layout, spools, numbers)
    clicks = _check_labels(name, columns, division)
    row0_share = write_parts(folder, columns, division, np.int32)
    progress("fingerprint")
    with ThreadPoolExecutor(1) as sweeper:  # what was staged goes while the parts are read for it
        swept = sweeper.submit(shutil.rmtree, staged)
        fingerprint = fingerprint_of(arrays(folder, columns.multi_hot), sizes)
    swept.result()
    return {
        "name": name,
        "format": format,
        "features": layout.features,
        "num_embeddings": sizes,
        "dense_names": layout.dense_names or ["(constant)"],
        "row0_share": row0_share,
        "fingerprint": fingerprint,
        "about": {
            "format": format,
            **layout.about,
            "split": "test files" if test_rows is not None else options.split,
            "valid_split": options.split,
            "split_seed": options.split_seed,
            "min_count": options.min_count,
            "number_ids": options.number_ids,
            "max_rows_per_table": options.max_rows_per_table,
            **({} if options.hash_ids is None else {"hash_ids": options.hash_ids, "hashed": without}),
            **({} if options.table_rows is None else {"table_rows": "given"}),
            "rows": dict(zip(PARTS, division.sizes)),
            "label_mean": clicks / staging.rows,
            "multi_hot": [layout.features[f] for f in columns.multi_hot],
        },
    }


def _check_tables(layout: Layout, table_rows: list[int] | None) -> None:
    """Refuses sizes of other tables than there are."""
    if table_rows is not None and len(table_rows) != len(layout.features):
        raise InputError(
            f"table_rows has {guard.counted(len(table_rows), 'size')}, but the data have "
            f"{guard.counted(len(layout.features), 'sparse column')}; give one for each"
        )


def _rows_of_table(feature: str, found: int, f: int, table_rows: list[int] | None) -> int:
    """Rows of a table: those that its ids need, or as many as were given."""
    rows = found if table_rows is None else table_rows[f]
    if rows < found:
        raise InputError(
            f"{feature} has {found - 1:,} ids and needs {found:,} rows, but table_rows gives it {rows:,}; "
            f"raise min_count, or cap tables by max_rows_per_table"
        )
    return rows


def _of_blocks(layout: Layout, home: StagedColumn, column: int) -> Callable[[int], pl.Series]:
    """The ids of each block of a column."""
    if layout.ids_of_block is not None:
        return partial(layout.ids_of_block, column)
    values, starts = layout.ids(column), np.cumsum([0, *home.entries])
    return lambda block: values[int(starts[block]) : int(starts[block + 1])]


def _check_labels(name: str, columns: Columns, division: Division) -> int:
    """How many rows are clicks; refuses parts with one class only."""
    clicks = np.zeros(len(PARTS), np.int64)
    for block in range(columns.staging.blocks):
        labels = columns.labels(block)
        rows = division.rows(*columns.staging.starts[block : block + 2])
        clicks += [np.count_nonzero(labels[index]) for index in rows]
    for part, number in (("training", 0), ("test", 2)):
        check_classes(name, part, division.sizes[number], int(clicks[number]))
    return int(clicks.sum())
