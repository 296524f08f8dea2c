"""When the runs of each method first reach an AUC."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from embpress.dlrm.runs.record import Run
from embpress.reports.curves import Reached, best, reached
from embpress.reports.gaps import by_seed, interval
from embpress.reports.stats import Difference
from embpress.reports.summary import Summary, full_of

FULL = "full"
# below the full tables' best, with the same seed
BELOW = (0.0, 0.001, 0.005, 0.02)


@dataclass(frozen=True)
class Target:
    """A validation AUC to reach: a number, or so much below the best that full tables have with the same seed."""

    auc: float | None = None
    below: float = 0.0

    def of(self, full: Summary | None) -> dict[int, float] | float | None:
        """The number for each seed, or for all; None where full tables would say it and were not run."""
        if self.auc is not None:
            return self.auc
        if full is None:
            return None
        bests = {run.seed: found.valid_auc for run in full.runs if (found := best(reached(run)))}
        return {seed: auc - self.below for seed, auc in bests.items()} or None


@dataclass(frozen=True)
class Line:
    """How long the runs of one row took.

    Attributes:
        asked: runs that have a target and a learning curve.
        reached: those that got there.
        epochs, seconds: the mean over those, with its interval; None where none did.
        to_full: seconds over those of full tables, the mean over the seeds in which both got there.
    """

    row: Summary
    asked: int
    reached: int
    epochs: Difference | None
    seconds: Difference | None
    to_full: Difference | None


def lines_of(rows: Sequence[Summary], target: Target) -> list[Line]:
    """The rows that have a target, each with that of its own full tables."""
    lines = []
    for row in rows:
        full = full_of(row, rows)
        aims = target.of(full)
        if aims is None:
            continue

        def first(run: Run, aims: dict[int, float] | float = aims) -> Reached | None:
            """The first point of the learning curve that reaches the target."""
            aim = aims if isinstance(aims, float) else aims.get(run.seed)
            return None if aim is None else next((p for p in reached(run) if p.valid_auc >= aim), None)

        runs = [run for run in row.runs if reached(run) and (isinstance(aims, float) or run.seed in aims)]
        if not runs:
            continue
        there = {run.seed: point for run in runs if (point := first(run))}
        seconds = {seed: point.seconds for seed, point in there.items() if point.seconds is not None}
        of_full = {} if full is None else by_seed(full, lambda run: None if (p := first(run)) is None else p.seconds)
        shares = {seed: value / of_full[seed] for seed, value in seconds.items() if of_full.get(seed)}
        epochs = interval({seed: point.epoch for seed, point in there.items()})
        lines.append(Line(row, len(runs), len(there), epochs, interval(seconds), interval(shares)))
    return lines
