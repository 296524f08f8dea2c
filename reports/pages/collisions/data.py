"""How ids share what is stored, table by table and over all tables of a method."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from embpress.dlrm.runs.record import Run, Sharing, TableRecord
from embpress.reports.stats import Stat, stat
from embpress.reports.summary import Summary

# measured, and what chance would give
PAIRS = (
    ("whole_ids", "whole_expected"),
    ("whole_train", "whole_expected_train"),
    ("part_ids", "part_expected"),
    ("part_train", "part_expected_train"),
    ("others_train", "others_expected"),
)
TEST = ("whole_test", "part_test")
NUMBERS = (*(name for pair in PAIRS for name in pair), *TEST)


@dataclass(frozen=True)
class Line:
    """One table, or all of them, of one row: numbers of `Sharing` over the seeds.

    Attributes:
        feature: of the table; None for all tables together, weighted by their ids.
        ids: rows of the table; looked_at: those that were looked at.
    """

    row: Summary
    feature: str | None
    ids: int
    looked_at: int
    numbers: dict[str, Stat | None]


def shares(row: Summary) -> bool:
    """Whether any two ids of a row share anything."""
    return any(table.sharing and table.sharing.part_ids > 0 for run in row.runs for table in run.tables)


def unsaid(rows: Sequence[Summary]) -> tuple[list[str], list[str]]:
    """Rows no two ids of which share a cell; and compressed rows that do not say which cells make a row."""
    apart, silent = [], []
    for row in rows:
        tables = [table for run in row.runs for table in run.tables if not table.is_full]
        if any(table.sharing for table in tables) and not shares(row):
            apart.append(row.label)
        elif not row.is_full and tables and not any(table.sharing for table in tables):
            silent.append(row.label)
    return apart, silent


def tables_of(row: Summary) -> list[Line]:
    """Its tables that share, the largest first."""
    features: dict[str, TableRecord] = {}
    for run in row.runs:
        features |= {table.feature: table for table in run.tables if table.sharing}
    order = sorted(features.values(), key=lambda table: (-table.num_embeddings, table.feature))
    return [
        Line(
            row,
            table.feature,
            table.num_embeddings,
            0 if table.sharing is None else table.sharing.ids,
            {name: stat(_known(row.runs, _of_table(table.feature, name))) for name in NUMBERS},
        )
        for table in order
    ]


def in_all(row: Summary) -> Line:
    """All tables of a row that say their cells, weighted by their ids: how often each is looked up nobody has kept."""
    tables = [table for table in (row.runs[0].tables if row.runs else ()) if table.sharing]
    looked_at = sum(table.sharing.ids for table in tables if table.sharing)
    numbers = {name: stat(_known(row.runs, _mean(name))) for name in NUMBERS}
    return Line(row, None, sum(table.num_embeddings for table in tables), looked_at, numbers)


def _known(runs: Sequence[Run], value: Callable[[Run], float | None]) -> list[float]:
    return [number for run in runs if (number := value(run)) is not None]


def _number(sharing: Sharing, name: str) -> float | None:
    found: float | None = getattr(sharing, name)
    return found


def _of_table(feature: str, name: str) -> Callable[[Run], float | None]:
    def value(run: Run) -> float | None:
        found = next((table.sharing for table in run.tables if table.feature == feature), None)
        return None if found is None else _number(found, name)

    return value


def _mean(name: str) -> Callable[[Run], float | None]:
    """Shares of ids weigh with a table's ids; of lookups each table weighs the same, since a row looks up in each."""

    def value(run: Run) -> float | None:
        found = [(table.num_embeddings, table.sharing) for table in run.tables if table.sharing]
        by_ids = name.endswith(("_ids", "_expected")) and name != "others_expected"
        pairs = [(n if by_ids else 1, number) for n, one in found if (number := _number(one, name)) is not None]
        return sum(n * number for n, number in pairs) / sum(n for n, _ in pairs) if pairs else None

    return value
