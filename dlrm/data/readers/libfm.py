"""libfm (and libsvm) text: `label index:value index:value …`, one row a line, every value 1."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import polars as pl

from embpress.compressors.errors import InputError
from embpress.compressors.guard import shown, whole
from embpress.dlrm.data.raw import Ints, RawField, RawTable, codes_of
from embpress.dlrm.data.readers.files import Paths, read_text
from embpress.dlrm.data.readers.labels import read_labels


def read_libfm(paths: Paths, test: Paths = (), rows: int | None = None, fields: str | Path | None = None) -> RawTable:
    """Reads libfm files, plain or gzip, one after the other.

    Without `fields` every line has the same number of indices and position k is field k. With it, a line may
    have several indices of a field or none; a field with exactly one on every line is single-valued, all others are
    multi-hot.

    Args:
        paths: training files, or all files where `test` is empty.
        test: test files.
        rows: read only so many rows of `paths` and so many of `test`.
        fields: text file that maps index to field: one field number a line (line k, from 0, is index k), or
            `index field` pairs.

    Raises:
        InputError: a file cannot be read, or a line has a bad label or token, a value other than 1, an index without a
            field, or without `fields` another number of indices than the first line; names the file and line.
    """
    lines = _Lines()
    for group in (paths, test):
        left = rows
        test_rows = len(lines.counts)
        for path in group:
            if left is not None and left <= 0:
                break
            added = lines.add(path, left)
            left = None if left is None else left - added
    test_rows = len(lines.counts) - test_rows
    labels, index = lines.parse()
    per_line = np.array(lines.counts) - 1
    if fields is None:
        names, columns = _by_position(lines, index, per_line)
    else:
        names, columns = _by_map(lines, index, per_line, fields)
    return RawTable(
        labels=labels,
        dense_names=[],
        dense=np.zeros((len(labels), 0), np.float32),
        features=names,
        fields=columns,
        test_rows=test_rows if test else None,
        about={
            "files": [str(p) for p in paths],
            "test_files": [str(p) for p in test],
            "fields": None if fields is None else str(fields),
        },
    )


class _Lines:
    """The tokens of all files, and the way back from a row to its file and line."""

    def __init__(self) -> None:
        self.tokens: list[str] = []
        self.counts: list[int] = []  # tokens of each line
        self.files: list[tuple[int, str]] = []  # first row of each file

    def add(self, path: str | Path, rows: int | None) -> int:
        text = read_text(path, rows).decode()
        self.files.append((len(self.counts), str(path)))
        counts = [len(line.split()) for line in text.split("\n")[:-1]]
        if 0 in counts:
            raise InputError(
                f"{path}, line {counts.index(0) + 1}: the line is blank, but it must be 'label index:1 index:1 …'"
            )
        self.counts += counts
        self.tokens += text.split()
        return len(counts)

    def where(self, row: int) -> str:
        start, path = max(f for f in self.files if f[0] <= row)
        return f"{path}, line {row - start + 1}"

    def parse(self) -> tuple[np.ndarray, Ints]:
        """Labels `(N,)` float32 and the indices of all lines, `(total,)` int64."""
        counts = np.array(self.counts)
        tokens = pl.Series(self.tokens, dtype=pl.String)
        is_label = np.zeros(len(tokens), bool)
        is_label[np.cumsum(counts) - counts] = True
        labels = read_labels(tokens.filter(pl.Series(is_label)), self.where)
        pairs = tokens.filter(pl.Series(~is_label))
        split = pairs.str.splitn(":", 2).struct.unnest()
        index = split["field_0"].cast(pl.Int64, strict=False)
        value = split["field_1"].cast(pl.Float64, strict=False)
        bad = (index.is_null() | value.is_null() | (index < 0)).fill_null(True)
        wrong = bad | (value != 1).fill_null(False)
        if wrong.any():
            at = int(wrong.arg_true()[0])
            row = int(np.searchsorted(np.cumsum(counts - 1), at, side="right"))
            if bad[at]:
                raise InputError(f"{self.where(row)}: {shown(pairs[at])} is not 'index:1', the index a whole number")
            raise InputError(
                f"{self.where(row)}: {shown(pairs[at])} has a value other than 1, which would be a weight; "
                "weights are not read, so every value must be 1"
            )
        return labels, index.to_numpy()


def _by_position(lines: _Lines, index: Ints, per_line: Ints) -> tuple[list[str], list[RawField]]:
    width = int(per_line[0])
    odd = np.flatnonzero(per_line != width)
    if len(odd):
        raise InputError(
            f"{lines.where(int(odd[0]))}: found {per_line[odd[0]]} indices, expected {width} as on the first line; "
            "give --fields a file that maps each index to its field where lines differ"
        )
    columns = index.reshape(len(per_line), width)
    return [f"field {k}" for k in range(width)], [RawField(codes_of(columns[:, k].copy())) for k in range(width)]


def _by_map(lines: _Lines, index: Ints, per_line: Ints, path: str | Path) -> tuple[list[str], list[RawField]]:
    known, field_of = _read_map(path)
    position = np.searchsorted(known, index)
    position[position == len(known)] = 0
    row_of = np.repeat(np.arange(len(per_line)), per_line)
    lost = np.flatnonzero(known[position] != index)
    if len(lost):
        raise InputError(
            f"{lines.where(int(row_of[lost[0]]))}: index {index[lost[0]]} has no field in {path}; add it to that file"
        )
    field = field_of[position]
    order = np.argsort(field, kind="stable")  # within a field the lines keep their order
    names, columns = [], []
    for number in np.unique(field_of):
        of_field = order[slice(*np.searchsorted(field[order], [number, number + 1]))]
        lengths = np.bincount(row_of[of_field], minlength=len(per_line))
        offsets = None if (lengths == 1).all() else np.concatenate([[0], np.cumsum(lengths)])
        names.append(f"field {number}")
        columns.append(RawField(codes_of(index[of_field]), offsets))
    return names, columns


def _read_map(path: str | Path) -> tuple[Ints, Ints]:
    """Sorted indices and the field of each."""
    pairs: dict[int, int] = {}
    width = 0
    for number, line in enumerate(read_text(path).decode().split("\n")[:-1], 1):
        where, words = f"{path}, line {number}", line.split()
        width = width or len(words)
        if len(words) != width or width not in (1, 2) or not all(w.isascii() and w.isdigit() for w in words):
            raise InputError(
                f"{where}: found {shown(line.strip())}, but every line must be one field number, or all 'index field'"
            )
        index = number - 1 if width == 1 else whole(words[0], f"{where}: the index")
        field = whole(words[-1], f"{where}: the field")
        if pairs.setdefault(index, field) != field:
            raise InputError(
                f"{where}: index {index} gets field {field}, but an earlier line gave it field {pairs[index]}"
            )
    known = np.array(sorted(pairs), np.int64)
    return known, np.array([pairs[k] for k in known.tolist()], np.int64)
