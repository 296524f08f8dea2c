"""What each method has at equal bytes, after equal epochs, in equal time."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from embpress.dlrm.runs.record import Run
from embpress.reports.curves import Reached, best, best_epoch, reached
from embpress.reports.gaps import Value, by_seed, gap, mean_of
from embpress.reports.stats import Difference, Stat, stat
from embpress.reports.summary import Summary, full_of


@dataclass(frozen=True)
class Terms:
    """After how many epochs and in how many seconds methods are compared, and whose these are.

    Where full tables were run, it is what these took to their best validation AUC with the same seed; else the first
    epoch, and the seconds of the fastest method's whole training.
    """

    full: Summary | None
    fastest: Summary | None
    epochs: dict[int, float]
    seconds: dict[int, float]

    def epochs_of(self, seed: int) -> float:
        """For a seed; of one that full tables were not run with, the mean over the others."""
        return self.epochs.get(seed, _mean(self.epochs) or 1.0)

    def seconds_of(self, seed: int) -> float | None:
        """The same of the seconds; None where nobody knows them."""
        return self.seconds.get(seed, _mean(self.seconds))


@dataclass(frozen=True)
class Reading:
    """One way to read a row's runs: AUC on both parts, and minus full tables read alike."""

    valid: Stat | None
    test: Stat | None
    test_gap: Difference | None
    valid_gap: Difference | None
    epochs: Stat | None  # done by then


@dataclass(frozen=True)
class Line:
    """One method at one size, read in three ways."""

    row: Summary
    bytes: Reading
    epochs: Reading
    seconds: Reading


def terms_of(rows: Sequence[Summary]) -> Terms:
    """Of rows of one protocol."""
    full = full_of(rows[0], rows) if rows else None
    if full is not None:
        ends = {run.seed: end for run in full.runs if (end := best_epoch(reached(run)) or best(reached(run)))}
        seconds = {seed: end.seconds for seed, end in ends.items() if end.seconds is not None}
        return Terms(full, None, {seed: end.epoch for seed, end in ends.items()}, seconds)
    timed = [row for row in rows if "train_seconds" in row.stats]
    fastest = min(timed, key=lambda row: row.stats["train_seconds"].mean, default=None)
    taken = {} if fastest is None else by_seed(fastest, lambda run: run.metrics.get("train_seconds"))
    return Terms(None, fastest, {}, taken)


def lines_of(rows: Iterable[Summary], terms: Terms) -> list[Line]:
    """The rows whose runs have learning curves."""

    def within_epochs(run: Run) -> list[Reached]:
        return [point for point in reached(run) if point.epoch <= terms.epochs_of(run.seed)]

    def within_seconds(run: Run) -> list[Reached]:
        limit = terms.seconds_of(run.seed)
        return [p for p in reached(run) if limit is not None and p.seconds is not None and p.seconds <= limit]

    return [
        Line(row, *(_read(row, terms.full, points) for points in (reached, within_epochs, within_seconds)))
        for row in rows
        if any(reached(run) for run in row.runs)
    ]


def _read(row: Summary, full: Summary | None, points: Callable[[Run], list[Reached]]) -> Reading:
    """Of the points that are within the terms the one that validation chooses; tested are ends of epochs alone."""

    def valid(run: Run) -> float | None:
        found = best(points(run))
        return None if found is None else found.valid_auc

    def test(run: Run) -> float | None:
        found = best_epoch(points(run))
        return None if found is None else found.test_auc

    def epochs(run: Run) -> float | None:
        return points(run)[-1].epoch if points(run) else None

    known = _all(row, valid), _all(row, test)
    gaps = [None if found is None else gap(row, full, value) for found, value in zip(known, (valid, test))]
    return Reading(known[0], known[1], gaps[1], gaps[0], mean_of(row, epochs))


def _all(row: Summary, value: Value) -> Stat | None:
    """The mean where every run has the number: that of the seeds which were fast enough would be another's."""
    found = by_seed(row, value)
    return stat(found.values()) if len(found) == len(row.runs) else None


def _mean(values: dict[int, float]) -> float | None:
    return sum(values.values()) / len(values) if values else None
