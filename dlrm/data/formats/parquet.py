"""Parquet files."""

from __future__ import annotations

from embpress.dlrm.data.formats.csv import Csv


class Parquet(Csv):
    """Told by its ending; columns and options are as in csv."""

    name = "parquet"
    endings = (".parquet",)
