"""Columns that a parquet file's folders hold: `day=3/part-0.parquet` is a part of Hive's layout."""

from __future__ import annotations

from pathlib import Path
from urllib.parse import unquote

import polars as pl

MISSING = "__HIVE_DEFAULT_PARTITION__"  # how Hive and Spark write a null


def partitions(path: str | Path) -> dict[str, str | None]:
    """Values by column of the folders right above a file that are called `column=value`, the outermost first."""
    found: dict[str, str | None] = {}
    for folder in Path(path).parents:
        name, equals, value = folder.name.partition("=")
        if not equals or not name:
            break
        found[unquote(name)] = None if value == MISSING else unquote(value)
    return dict(reversed(found.items()))


def with_partitions(frame: pl.DataFrame, path: str | Path) -> pl.DataFrame:
    """The frame with the columns of its file's folders, as text; one that the file has itself stays as it is there."""
    values = {name: value for name, value in partitions(path).items() if name not in frame.columns}
    if not values:
        return frame
    made = [pl.repeat(value, frame.height, dtype=pl.String, eager=True).alias(name) for name, value in values.items()]
    return pl.DataFrame([*frame.get_columns(), *made])
