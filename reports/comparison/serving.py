"""The section of the report about what each modifier of serving costs, where several follow one another."""

from __future__ import annotations

from collections.abc import Sequence

from embpress.dlrm.runs.record import Run, ServedPoint
from embpress.reports import numerals
from embpress.reports.stats import stat
from embpress.reports.summary import Summary
from embpress.reports.text import escape, table


def serving_steps(rows: Sequence[Summary]) -> str:
    """Test AUC as trained and after each modifier; empty where no method has several modifiers of serving."""
    shown = [row for row in rows if any(len(run.served) > 2 for run in row.runs)]
    body = []
    for row in shown:
        longest: Sequence[ServedPoint] = ()
        for run in row.runs:
            longest = max(longest, run.served, key=len)
        before: float | None = None
        for step, point in enumerate(longest):
            found, loss = (_mean(row.runs, step, point, name) for name in ("auc", "log_loss"))
            cost = numerals.MISSING if found is None or before is None else numerals.signed(found - before)
            what = f"+{point.modifiers}" if point.modifiers else "as trained"
            body.append([escape(row.label), escape(what), _score(found), _score(loss), cost])
            before = found
    if not body:
        return ""
    note = "Each line adds a modifier to those above it; the last is the model that is served. Means over the seeds."
    return f"{table(['Method', 'Step', 'Test AUC', 'Log loss', 'Δ AUC'], body, left=2)}\n\n{note}"


def _mean(runs: Sequence[Run], step: int, point: ServedPoint, name: str) -> float | None:
    """Mean of a score over the runs that have taken this step."""
    taken = [run.served[step] for run in runs if len(run.served) > step]
    values = [getattr(one, name) for one in taken if one.modifiers == point.modifiers]
    found = stat(value for value in values if value is not None)
    return None if found is None else found.mean


def _score(value: float | None) -> str:
    return numerals.MISSING if value is None else numerals.score(value)
