"""Which rows of a long summary are looked at first."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import zip_longest

from embpress.reports.summary import Summary


def focus(rows: Sequence[Summary], most: int) -> list[Summary]:
    """At most so many rows, in their order: full tables, then the best test AUC of each asked size in turn.

    Baselines have no seat of their own: a plain one that is good is among the best. Rows without a result come last.
    """
    if len(rows) <= most:
        return list(rows)
    by_size: dict[str, list[Summary]] = {}
    for row in rows:
        by_size.setdefault("full" if row.is_full else row.asked, []).append(row)
    ranked = [sorted(group, key=_by_auc) for group in by_size.values()]
    in_turn = [row for turn in zip_longest(*ranked) for row in turn if row is not None]
    in_turn.sort(key=lambda row: (not row.is_full, row.mean("auc") is None))
    kept = {id(row) for row in in_turn[:most]}
    return [row for row in rows if id(row) in kept]


def _by_auc(row: Summary) -> float:
    auc = row.mean("auc")
    return float("inf") if auc is None else -auc
