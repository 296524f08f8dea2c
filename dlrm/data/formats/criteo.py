"""Criteo Display Advertising in its raw form: label, 13 integers, 26 hex categories, tab separated, no header."""

from __future__ import annotations

from typing import Any

from embpress.dlrm.data.formats.base import Format
from embpress.dlrm.option import Option


class Criteo(Format):
    """Told by the 40 columns of the first line."""

    name = "criteo"
    options = (
        Option("drop_negatives", float, "share of the rows without a click to leave out, such as 0.875. [default: 0]"),
    )
    split = "order"

    @classmethod
    def recognises(cls, first_line: str) -> bool:
        """Label, 13 integers and 26 categories."""
        return first_line.count("\t") == 39

    @classmethod
    def read(cls, *files: Any, **options: Any) -> Any:
        """See `read_criteo`."""
        from embpress.dlrm.data.readers.criteo import read_criteo

        return read_criteo(*files, **options)

    @classmethod
    def source(cls, *files: Any, **options: Any) -> Any:
        """See `CriteoSource`."""
        from embpress.dlrm.data.prepare.sources.criteo import CriteoSource

        return CriteoSource(*files, **options)
