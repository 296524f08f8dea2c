"""libfm (and libsvm) text: `label index:value index:value …`, one row a line, every value 1."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np
import polars as pl
from numpy.typing import NDArray

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
    lines = Lines()
    for group in (paths, test):
        left = rows
        test_rows = len(lines.counts)
        for path in group:
            if left is not None and left <= 0:
                break
            added = lines.add(path, read_text(path, left).decode())
            left = None if left is None else left - added
    test_rows = len(lines.counts) - test_rows
    tokens, index = lines.parse()
    labels = read_labels(tokens, lines.where)
    if fields is None:
        columns = [RawField(codes_of(column)) for column in positions(lines, index, int(lines.per_line[0]))]
        names = names_of(range(len(columns)))
    else:
        known, field_of = read_map(fields)
        names = names_of(np.unique(field_of))
        columns = []
        for values, lengths in by_field(lines, index, known, field_of, fields):
            offsets = None if (lengths == 1).all() else np.concatenate([[0], np.cumsum(lengths)])
            columns.append(RawField(codes_of(values), offsets))
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


class Lines:
    """The tokens of lines, and the way back from a row to its file and line."""

    def __init__(self) -> None:
        self.tokens: list[str] = []
        self.counts: list[int] = []  # tokens of each line
        self.pieces: list[tuple[int, str, int]] = []  # of each: its first row, its file, its first line there

    @property
    def per_line(self) -> Ints:
        """How many indices each line has."""
        return np.array(self.counts) - 1

    def add(self, path: str | Path, text: str, line: int = 1) -> int:
        """Adds the lines of a text, which begins at a line of a file, and returns how many they are."""
        self.pieces.append((len(self.counts), str(path), line))
        counts = [len(line.split()) for line in text.split("\n")[:-1]]
        if 0 in counts:
            raise InputError(
                f"{path}, line {counts.index(0) + line}: the line is blank, but it must be 'label index:1 index:1 …'"
            )
        self.counts += counts
        self.tokens += text.split()
        return len(counts)

    def where(self, row: int) -> str:
        """The place of a row."""
        start, path, line = max(piece for piece in self.pieces if piece[0] <= row)
        return f"{path}, line {row - start + line}"

    def parse(self) -> tuple[pl.Series, Ints]:
        """Labels, `(N,)` of text, and the indices of all lines, `(total,)` int64."""
        counts = np.array(self.counts)
        tokens = pl.Series(self.tokens, dtype=pl.String)
        is_label = np.zeros(len(tokens), bool)
        is_label[np.cumsum(counts) - counts] = True
        labels = tokens.filter(pl.Series(is_label))
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


def names_of(fields: Iterable[int]) -> list[str]:
    """What reports call fields."""
    return [f"field {number}" for number in fields]


def positions(lines: Lines, index: Ints, width: int) -> list[Ints]:
    """The indices at each position.

    Raises:
        InputError: a line has another number of them than `width`, which is that of the first line.
    """
    odd = np.flatnonzero(lines.per_line != width)
    if len(odd):
        raise InputError(
            f"{lines.where(int(odd[0]))}: found {lines.per_line[odd[0]]} indices, expected {width} as on the first "
            "line; give --fields a file that maps each index to its field where lines differ"
        )
    columns = index.reshape(len(lines.counts), width)
    return [columns[:, k].copy() for k in range(width)]


def by_field(
    lines: Lines, index: Ints, known: Ints, field_of: Ints, path: str | Path
) -> Iterator[tuple[Ints, NDArray[np.int64]]]:
    """The indices of each field, ascending by its number, and how many each line has.

    Raises:
        InputError: an index has no field.
    """
    per_line = lines.per_line
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
    for number in np.unique(field_of):
        of_field = order[slice(*np.searchsorted(field[order], [number, number + 1]))]
        yield index[of_field], np.bincount(row_of[of_field], minlength=len(per_line))


def read_map(path: str | Path) -> tuple[Ints, Ints]:
    """Sorted indices and the field of each.

    Raises:
        InputError: the file is none of fields.
    """
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
