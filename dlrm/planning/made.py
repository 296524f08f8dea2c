"""A plan made for a goal, with all that led to it."""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from typing import Any

from embpress.compressors import Plan
from embpress.dlrm.planning.candidate import Candidate, Goal
from embpress.dlrm.planning.predict import Promise, promise
from embpress.dlrm.planning.probe import Probe, Prober
from embpress.dlrm.planning.search import Say, Study, best_single, choose, search
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

    def tried(self) -> list[tuple[Candidate, dict[int, Probe]]]:
        """Candidates by their AUC on the first fold, with their probes by fold; the full tables first."""
        study = self.study
        rows = [study.full, *study.ranked()]
        return [(one, study.scores[one.key]) for one in rows if one.key in study.scores]


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
