"""Scores of each method in each bin of id frequency, and how they stand to full tables."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from embpress.dlrm.runs.record import FrequencyBin, Run
from embpress.reports.gaps import Value, gap, mean_of
from embpress.reports.stats import Difference, Stat
from embpress.reports.summary import Summary, full_of


@dataclass(frozen=True)
class Score:
    """One number of one row in one bin, and minus full tables; the latter None where there are none."""

    stat: Stat | None
    gap: Difference | None


@dataclass(frozen=True)
class Line:
    """One row: scores by name of the number and of the bin."""

    row: Summary
    scores: dict[tuple[str, str], Score]


def bin_of(run: Run, name: str) -> FrequencyBin | None:
    """A run's bin of that name."""
    return next((one for one in run.by_frequency if one.name == name), None)


def bins_of(runs: Sequence[Run]) -> list[FrequencyBin]:
    """The bins of the first run that has any: ids and lookups are those of the data."""
    return next((list(run.by_frequency) for run in runs if run.by_frequency), [])


def lines_of(rows: Sequence[Summary], numbers: Sequence[str]) -> list[Line]:
    """The rows whose runs were scored by frequency."""
    shown = [row for row in rows if any(run.by_frequency for run in row.runs)]
    bins = [one.name for one in bins_of([run for row in shown for run in row.runs])]
    return [
        Line(
            row,
            {
                (number, name): Score(mean_of(row, value), gap(row, full_of(row, rows), value))
                for number in numbers
                for name in bins
                for value in [_value(number, name)]
            },
        )
        for row in shown
    ]


def _value(number: str, name: str) -> Value:
    def value(run: Run) -> float | None:
        found = bin_of(run, name)
        score: float | None = None if found is None else getattr(found, number)
        return score

    return value
