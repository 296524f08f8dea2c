"""Csv files with a header."""

from __future__ import annotations

from typing import Any

from embpress.dlrm.data.formats.base import Format
from embpress.dlrm.option import Option

COLUMNS = (
    Option("label", str, "the label column (0/1 or -1/1). Guessed if left out."),
    Option("dense", list, "numeric columns, separated by commas."),
    Option("sparse", list, "id columns, separated by commas; list columns are multi-hot."),
)


class Csv(Format):
    """Told by its ending."""

    name = "csv"
    endings = (".csv",)
    options = COLUMNS

    @classmethod
    def read(cls, *files: Any, **options: Any) -> Any:
        """See `read_tabular`."""
        from embpress.dlrm.data.readers.tabular import read_tabular

        return read_tabular(cls.name, *files, **options)

    @classmethod
    def source(cls, *files: Any, **options: Any) -> Any:
        """See `TabularSource`."""
        from embpress.dlrm.data.prepare.sources.tabular import TabularSource

        return TabularSource(cls.name, *files, **options)
