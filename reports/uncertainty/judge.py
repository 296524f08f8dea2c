"""Which differences between methods are more than chance, corrected for how many of them are looked at."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property, partial
from itertools import combinations
from pathlib import Path
from typing import TypeVar

import numpy as np

from embpress.dlrm.runs.record import Run
from embpress.reports.sizes import by_size, is_smaller
from embpress.reports.summary import Summary, full_of
from embpress.reports.uncertainty.interval import BOTH, ROWS, SEEDS, Estimate, estimate, holm
from embpress.reports.uncertainty.rows import RowCovariance, row_covariances
from embpress.reports.uncertainty.sets import alike_sets, letters

Pair = tuple[str, str]
_K = TypeVar("_K")


@dataclass(frozen=True)
class Place:
    """Where a method stands among those of about its size.

    Attributes:
        letters: methods of one size that share a letter cannot be told apart.
        first, last: the places that it may have, from 1; together these hold for all methods with 95 %.
        of: how many methods are of this size.
        alike: labels of those that it cannot be told from, best first.
    """

    letters: str
    first: int
    last: int
    of: int
    alike: tuple[str, ...]


class Judgement:
    """Differences of test AUC between the rows of a summary.

    There are two families of comparisons, each corrected by itself (Holm): every method with the full tables, and every
    two methods of about the same size, at all sizes together.

    Attributes:
        rows: the summary's rows.
        row_count: test rows that the intervals are over; 0 where labels or predictions are known of no two runs.
    """

    def __init__(self, rows: Sequence[Summary], covariances: Mapping[str, RowCovariance]) -> None:
        self.rows = rows
        self._covariances = covariances
        self._rows = {row.label: row for row in rows}
        self.groups = _groups(rows)
        to_full = {
            row.label: self._difference(row, full) for row in rows if not row.is_full and (full := full_of(row, rows))
        }
        self._to_full = _corrected(to_full)
        pairs = {(a.label, b.label): self._difference(a, b) for group in self.groups for a, b in combinations(group, 2)}
        self._pairs = _corrected(pairs)
        known = [one for one in (*self._to_full.values(), *self._pairs.values()) if one.row_error is not None]
        self.row_count = max((found.rows for found in covariances.values()), default=0) if known else 0

    def to_full(self, row: Summary) -> Estimate | None:
        """A method minus the full tables; None for these, and where they share no seed."""
        return self._to_full.get(row.label)

    def between(self, one: Summary, other: Summary) -> Estimate | None:
        """One method minus another of about the same size, of which it comes first in `groups`; None without a seed."""
        return self._pairs.get((one.label, other.label))

    @property
    def comparisons(self) -> int:
        """Pairs of methods that were compared with one another."""
        return sum(found.p is not None for found in self._pairs.values())

    @property
    def comparisons_with_full(self) -> int:
        """Methods that were compared with the full tables."""
        return sum(found.p is not None for found in self._to_full.values())

    @property
    def estimates(self) -> list[Estimate]:
        """All differences with the full tables."""
        return list(self._to_full.values())

    @property
    def over_text(self) -> str:
        """`, over seeds and rows`: what pairs of methods are judged over; empty where none is."""
        kinds = {found.over for found in self._pairs.values()}
        return next((f", over {kind}" for kind in (BOTH, SEEDS, ROWS) if kind in kinds), "")

    @property
    def known(self) -> bool:
        """Whether anything is known of what is more than chance."""
        return bool(self.comparisons or self.comparisons_with_full)

    @cached_property
    def places(self) -> dict[str, Place]:
        """Where each method stands, by label; none for methods that are alone at their size or could not be judged."""
        shown = [group for group in self.groups if any(self._judged(a, b) for a, b in combinations(group, 2))]
        sets = [alike_sets(len(group), partial(self._told, group)) for group in shown]
        places = {}
        for group, named in zip(shown, letters([(len(group), of) for group, of in zip(shown, sets)])):
            for i, row in enumerate(group):
                better = {j for j in range(i) if self._told(group, j, i)}
                worse = {j for j in range(i + 1, len(group)) if self._told(group, i, j)}
                alike = tuple(other.label for j, other in enumerate(group) if j != i and j not in better | worse)
                places[row.label] = Place(named[i], 1 + len(better), len(group) - len(worse), len(group), alike)
        return places

    def _judged(self, one: Summary, other: Summary) -> bool:
        found = self.between(one, other)
        return found is not None and found.told is not None

    def _told(self, group: Sequence[Summary], i: int, j: int) -> bool:
        found = self.between(group[i], group[j])
        return found is not None and bool(found.told)

    def _difference(self, row: Summary, other: Summary) -> Estimate | None:
        covariance = self._covariances.get(row.runs[0].data.fingerprint) if row.runs else None
        shared = None if covariance is None else covariance.shared(_by_seed(row), _by_seed(other))
        return estimate(row.auc_by_seed, other.auc_by_seed, shared)


def judge(rows: Sequence[Summary], folders: Iterable[Path] = ()) -> Judgement:
    """Compares the rows of a summary.

    Args:
        rows: see `summary`.
        folders: run folders that hold labels and predictions of the runs; over seeds alone without any.
    """
    runs = [run for row in rows for run in row.runs]
    return Judgement(rows, row_covariances(runs, list(folders)))


def _groups(rows: Sequence[Summary]) -> list[list[Summary]]:
    """Compressed methods that are compared with one another: of one protocol, about as small, best first."""
    groups = []
    for protocol in dict.fromkeys(row.protocol for row in rows):
        done = [row for row in rows if row.protocol == protocol and row.auc_by_seed and not row.is_full]
        for part in ([row for row in done if is_smaller(row)], [row for row in done if not is_smaller(row)]):
            groups += by_size(part)
    return groups


def _by_seed(row: Summary) -> dict[int, Run]:
    return {run.seed: run for run in row.runs}


def _corrected(found: Mapping[_K, Estimate | None]) -> dict[_K, Estimate]:
    """With p-values corrected for the number of those that have one."""
    known = {key: one for key, one in found.items() if one is not None}
    tested = [(key, one.p) for key, one in known.items() if one.p is not None]
    raised = holm(np.array([p for _, p in tested]))
    return known | {
        key: replace(known[key], corrected=float(p), comparisons=len(tested)) for (key, _), p in zip(tested, raised)
    }
