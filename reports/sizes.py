"""Which methods are about as small as one another: only these are ranked together."""

from __future__ import annotations

from collections.abc import Sequence

from embpress.reports.summary import Summary

SMALLER = 1.1  # below this ratio the tables are as large as before, and a high AUC is no merit of compression
ALIKE = 1.5  # sizes within this factor of one another are ranked together


def is_smaller(row: Summary) -> bool:
    """Whether a method made the tables smaller."""
    return not row.is_full and (row.mean("ratio") or 0) >= SMALLER


def by_size(rows: Sequence[Summary]) -> list[list[Summary]]:
    """Rows of about the same ratio together, mildest compression first, in each the highest AUC first."""
    groups: list[list[Summary]] = []
    for row in sorted(rows, key=lambda row: row.mean("ratio") or 0):
        if groups and (row.mean("ratio") or 0) <= ALIKE * (groups[-1][0].mean("ratio") or 0):
            groups[-1].append(row)
        else:
            groups.append([row])
    return [sorted(group, key=lambda row: -(row.mean("auc") or 0)) for group in groups]
