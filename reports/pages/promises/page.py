"""The page of what plans promised."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from embpress.dlrm.runs.record import Run
from embpress.reports import numerals
from embpress.reports.metrics import show
from embpress.reports.pages.promises import TITLE
from embpress.reports.pages.promises.data import Kept, kept_of
from embpress.reports.summary import Summary, summary
from embpress.reports.text import escape, table

NOTHING = (
    "No plan is among the runs that promises the AUC of a whole training with bounds, or its file has changed or gone "
    "since; embpress plan … --out plan.json and embpress compare … --methods full,plan:plan.json do that, with "
    "--probe-minutes that are enough"
)
_HOW = (
    "Of each plan what `embpress plan` expected before it was trained, nothing of the test part looked at, and what "
    "its runs gave. The bounds of the AUC are those of one run, with 90 % confidence. Times depend on what else a "
    "machine does: the ratios are measured over expected."
)


def lacks(runs: Sequence[Run]) -> str:
    """Why there is nothing to show, empty where there is."""
    return "" if kept_of(summary(runs)) else NOTHING


def make(plots: Path, runs: Sequence[Run]) -> str:
    """Gives the page's markdown; there is nothing to draw."""
    kept = kept_of(summary(runs))
    if not kept:
        return f"# {TITLE}\n\n{NOTHING}.\n"
    held = sum(one.mean_inside for one in kept)
    said = f"The mean AUC over the seeds lies within the bounds for {held} of {len(kept)} plans."
    return "\n\n".join([f"# {TITLE}", _HOW, said, table(_HEADERS, [_row(one) for one in kept])]) + "\n"


_HEADERS = [
    *("Plan", "Bytes expected", "Bytes", "AUC expected", "AUC", "Seeds within"),
    *("Step, ms expected", "ratio", "Lookup, µs expected", "ratio"),
]


def _row(one: Kept) -> list[str]:
    said, row = one.promise, one.row
    return [
        escape(row.label),
        f"{said['serving_bytes']:,}",
        f"{row.stats['serving_bytes'].mean:,.0f}",
        f"{numerals.score(said['auc'])} ({numerals.score(said['low'])} – {numerals.score(said['high'])})",
        show("auc", row.mean("auc")),
        f"{one.inside} of {len(row.auc_by_seed)}",
        *_time(said.get("step_ms"), row, "step_ms", 2),
        *_time(said.get("lookup_us"), row, "lookup_p50_us_b128", 0),
    ]


def _time(expected: float | None, row: Summary, metric: str, decimals: int) -> list[str]:
    if not expected or metric not in row.stats:
        return [numerals.MISSING, numerals.MISSING]
    measured = row.stats[metric].mean
    return [f"{expected:.{decimals}f}", f"{measured / expected:.2f}"]
