"""Which column of a csv or parquet file is the label, which are dense and which sparse."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import polars as pl

from embpress.compressors.errors import InputError, nearest
from embpress.compressors.guard import listed
from embpress.dlrm.data.readers.labels import label_numbers

LABEL_NAMES = ("label", "click", "clicked", "target", "y", "is_click")


@dataclass
class Roles:
    """The column names by role, and which roles were guessed (`label`, `dense`, `sparse`)."""

    label: str
    dense: list[str]
    sparse: list[str]
    guessed: list[str]


def choose_columns(
    columns: Mapping[str, pl.Series],
    name: str,
    label: str | None = None,
    dense: Sequence[str] | None = None,
    sparse: Sequence[str] | None = None,
) -> Roles:
    """Takes the roles given and guesses the others.

    The label is the column named like one, else the only one with just 0 and 1; floats are dense, all others sparse.
    Where only `dense` is given all others are sparse; where only `sparse` is given the others are not used. A column
    without a name is not used.

    Raises:
        InputError: no such column, a column in two roles, or no single candidate for the label.
    """
    guessed = [role for role, value in (("label", label), ("dense", dense), ("sparse", sparse)) if value is None]
    if dense is not None or sparse is not None:
        guessed = [role for role in guessed if role == "label"]
    taken = named(columns, name, label, dense, sparse)
    if label is None:
        label = _guess_label(columns, name, taken)
    # a column without a name is the index of somebody's data frame
    free = [c for c in columns if c != label and c not in taken and c.strip()]
    if dense is None and sparse is None:
        floats = {c for c in free if _looks_float(columns[c])}
        dense, sparse = [c for c in free if c in floats], [c for c in free if c not in floats]
    elif sparse is None:
        sparse = free
    return Roles(label, list(dense or ()), list(sparse), guessed)


def named(
    columns: Iterable[str],
    name: str,
    label: str | None = None,
    dense: Sequence[str] | None = None,
    sparse: Sequence[str] | None = None,
) -> dict[str, str]:
    """The role of each column that was given one.

    Raises:
        InputError: no such column, or a column in two roles.
    """
    columns = dict.fromkeys(columns)  # in which a name is found at once
    taken: dict[str, str] = {}
    for role, names in (("label", [] if label is None else [label]), ("dense", dense or []), ("sparse", sparse or [])):
        for column in names:
            if column not in columns:
                whole = next((c for c in columns if column in c.split(",")), None)
                hint = nearest(column, columns)
                if whole is not None:  # only the command line gives parts of it
                    hint = f"; {whole!r} has a comma in its name: rename it, or give embpress.dlrm.data.load a list"
                raise InputError(f"{name} has no column {column!r}, named as {role}{hint}")
            if column in taken:
                raise InputError(f"column {column!r} of {name} is named as {taken[column]} and as {role}; name it once")
            taken[column] = role
    return taken


def _guess_label(columns: Mapping[str, pl.Series], name: str, taken: dict[str, str]) -> str:
    free = [c for c in columns if c not in taken]
    named = [c for c in free if c.lower() in LABEL_NAMES]
    candidates = named or [c for c in free if _only_01(columns[c])]
    if len(candidates) == 1:
        return candidates[0]
    if not candidates:
        raise InputError(
            f"{name} has no column named like a label ({', '.join(LABEL_NAMES)}) and none with just 0 and 1; "
            f"name it with --label, one of: {listed(free)}"
        )
    raise InputError(f"{name} has several columns that may be the label ({listed(candidates)}); name one with --label")


def _only_01(column: pl.Series) -> bool:
    if column.dtype.is_nested():
        return False
    return bool(label_numbers(column).is_in([0.0, 1.0]).fill_null(False).all())


def _looks_float(column: pl.Series) -> bool:
    """Float columns; of text, those whose values are all numbers and some have a decimal point.

    Text with a whole number of 16 digits or more is not one: those are ids, some of which went through a float.
    """
    if column.dtype != pl.String:
        return column.dtype.is_float() or column.dtype.is_decimal()
    text = column.str.strip_chars()
    present = text.filter(text != "")
    if not present.str.contains(".", literal=True).any() or present.str.contains(r"^-?\d{16,}$").any():
        return False
    return not present.cast(pl.Float64, strict=False).has_nulls()
