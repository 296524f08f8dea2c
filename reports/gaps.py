"""Numbers of the runs of one row, and how they stand to those of another row seed by seed, as text."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from embpress.dlrm.runs.record import Run
from embpress.reports import numerals
from embpress.reports.stats import Difference, Stat, paired, stat
from embpress.reports.summary import Summary

Value = Callable[[Run], float | None]


def by_seed(row: Summary, value: Value) -> dict[int, float]:
    """A number of each run that has it, by its seed."""
    return {run.seed: number for run in row.runs if (number := value(run)) is not None}


def mean_of(row: Summary, value: Value) -> Stat | None:
    """Mean and spread of a number over the seeds."""
    return stat(by_seed(row, value).values())


def gap(row: Summary, other: Summary | None, value: Value) -> Difference | None:
    """A number minus another row's, paired by seed; None against itself or nothing."""
    if other is None or other is row:
        return None
    return paired(by_seed(row, value), by_seed(other, value))


def interval(values: Mapping[int, float]) -> Difference | None:
    """The mean with its 95 % t interval over the seeds."""
    return paired(values, dict.fromkeys(values, 0.0))


def mean_text(found: Stat | None, decimals: int = 4) -> str:
    """`0.7421 ± 0.0012`, a dash where there is none."""
    if found is None:
        return numerals.MISSING
    spread = "" if found.sd is None else f" ± {numerals.plain(found.sd, decimals)}"
    return numerals.plain(found.mean, decimals) + spread


def gap_text(found: Difference | None) -> str:
    """A difference with its sign, bold where its interval excludes zero, a dash where there is none."""
    if found is None:
        return numerals.MISSING
    text = numerals.signed(found.mean)
    return f"**{text}**" if found.distinguishable else text


def interval_text(found: Difference | None) -> str:
    """`2.5 (2.1 to 2.9)`, the mean with its interval."""
    if found is None:
        return numerals.MISSING
    if found.low is None or found.high is None:
        return numerals.plain(found.mean)
    return f"{numerals.plain(found.mean)} ({numerals.plain(max(0.0, found.low))} to {numerals.plain(found.high)})"


BOLD = "**Bold** differences are beyond chance: their 95 % t interval, paired by seed, excludes zero."
ONE_SEED = "One seed was run, so which differences are more than chance is unknown."
