"""A plan made for a goal, with all that led to it."""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from typing import Any

from embpress.compressors import Plan
from embpress.dlrm.planning.candidate import Candidate, Goal
from embpress.dlrm.planning.predict import Promise, promise
from embpress.dlrm.planning.probe import Prober
from embpress.dlrm.planning.search import CHOOSING, Say, Study, best_single, choose, search, unique
from embpress.dlrm.training.loop import Progress


@dataclass(frozen=True)
class Made:
    """What planning gives.

    Attributes:
        chosen: the candidate that was chosen.
        plan: its plan, with a reason for each table and what it promises.
        promise: what is to be expected of it.
        single: the best single expression and what is to be expected of it, where one was tried.
        study: everything that was tried.
    """

    chosen: Candidate
    plan: Plan
    promise: Promise
    single: tuple[Candidate, Promise] | None
    study: Study

    def tried(self) -> list[tuple[Candidate, int]]:
        """Candidates with the number of folds that they were tried on, those on most folds and the best first."""
        study = self.study
        by_folds = [(one, study.folds(one.key)) for one in unique([study.full, *study.ranked()])]
        by_folds.sort(key=lambda pair: (-pair[1], -study.mean(pair[0].key, CHOOSING[: pair[1]])))
        return sorted(by_folds, key=lambda pair: pair[0].key != study.full.key)


def make(
    goal: Goal, prober: Prober, minutes: float, test_rows: int, say: Say, progress: Progress | None = None
) -> Made:
    """Searches for a plan and says what it promises: see `search` and `promise`."""
    study = search(goal, prober, minutes, say, progress)
    chosen = choose(study)
    expected = promise(study, prober, chosen, test_rows)
    single = next(iter(best_single(study)), None)
    why = chosen.why or ("",) * len(chosen.plan.tables)  # one expression for all needs no reason for each
    tables = tuple(replace(table, why=line) for table, line in zip(chosen.plan.tables, why))
    about: dict[str, Any] = {
        "name": chosen.name,
        "asked_bytes": goal.bytes,
        "learning_rate": chosen.rate or goal.settings.learning_rate,
        "promise": asdict(expected),
        "probes": sum(len(probes) for probes in study.scores.values()) + len(study.quick),
    }
    return Made(
        chosen,
        Plan(tables, about),
        expected,
        None if single is None else (single, promise(study, prober, single, test_rows)),
        study,
    )
