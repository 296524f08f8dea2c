"""Data that are made: Criteo-Kaggle's shape, Zipf ids and a planted logit."""

from __future__ import annotations

from typing import Any

from embpress.dlrm.data.formats.base import Format
from embpress.dlrm.option import Option


class Synthetic(Format):
    """What there is where no file is given."""

    name = "synthetic"
    options = (
        Option("scale", float, "table sizes as a share of Criteo-Kaggle's. [default: 0.003]"),
        Option("structure", float, "0 (ids independent) to 1 (clustered, low rank). [default: 0.5]"),
        Option("zipf", float, "exponent of the id frequencies. [default: 1.05]"),
        Option("dense", int, "how many dense columns. [default: 13]"),
        Option("seed", int, "determines every row together with its number.", command_line=False),
    )
    split = "order"
    made = True

    @classmethod
    def read(cls, paths: Any, test: Any, rows: int | None, **options: Any) -> Any:
        """See `make`."""
        from embpress.dlrm.data.readers.synthetic import make

        return make(**options) if rows is None else make(rows, **options)
