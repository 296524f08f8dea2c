"""The search for a plan: all is tried once, the best on other rows too, and the choice on rows that did not make it."""

from __future__ import annotations

import math
import statistics
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import islice

from embpress.compressors import InputError, parse
from embpress.dlrm.planning.candidate import Candidate, Goal, at_width
from embpress.dlrm.planning.limits import broken_limit, unreachable
from embpress.dlrm.planning.probe import Effort, Probe, Prober
from embpress.dlrm.planning.proposals import proposals
from embpress.dlrm.training.loop import Progress

# by which share of the time everything has been tried once, what builds on it has, and the choice is made
FIRST, BUILT, CHOSEN = 0.4, 0.65, 0.85
KEPT = (6, 4)  # candidates tried on a second fold, and on a third
CHOOSING, CONFIRMING = (0, 1, 2), (3, 4)  # folds that choose, and folds that say what the choice is worth
_TIMED_ROWS = 20_000  # that tell how long training takes
_FULL_PROBES = 40  # about so many are made with the effort that counts
_GIVE_UP = 3  # failures, with nothing else
Say = Callable[[str], None]


@dataclass
class Study:
    """What has been tried.

    Attributes:
        goal: what is asked for.
        full: plain tables, which the others are held against.
        effort: of the probes that count: less than a whole training where time is short.
        candidates: by key, in the order of proposal.
        refused: names of proposals that break a limit, and which.
        scores: probes by key and fold, of the effort that counts.
        quick: probes on fold 0 by key, of less effort.
        lookup_us: measured lookups by key.
    """

    goal: Goal
    full: Candidate
    effort: Effort
    candidates: dict[str, Candidate] = field(default_factory=dict)
    refused: list[tuple[str, str]] = field(default_factory=list)
    scores: dict[str, dict[int, Probe]] = field(default_factory=dict)
    quick: dict[str, Probe] = field(default_factory=dict)
    lookup_us: dict[str, float] = field(default_factory=dict)

    def mean(self, key: str, folds: Sequence[int]) -> float:
        """The mean AUC on these folds; minus infinity where one is missing."""
        probes = [self.scores.get(key, {}).get(fold) for fold in folds]
        held = [probe.auc for probe in probes if probe is not None and probe.auc is not None]
        return statistics.fmean(held) if held and len(held) == len(folds) else -math.inf

    def ranked(self, folds: Sequence[int] = (0,)) -> list[Candidate]:
        """Those that were tried on all of these folds, the best first."""
        keys = [key for key in self.candidates if self.mean(key, folds) > -math.inf]
        return [self.candidates[key] for key in sorted(keys, key=lambda key: -self.mean(key, folds))]

    def ranked_quickly(self) -> list[Candidate]:
        """Those that were tried with less effort, the best first."""
        scored = {key: probe.auc for key, probe in self.quick.items() if probe.auc is not None}
        return [self.candidates[key] for key in sorted(scored, key=lambda key: -scored[key])]

    def untried(self) -> int:
        """How many candidates there was no time for."""
        return sum(key not in self.scores and key not in self.quick for key in self.candidates)

    def failures(self) -> list[tuple[str, str]]:
        """What failed, and why."""
        every = [*self.quick.values(), *(probe for probes in self.scores.values() for probe in probes.values())]
        return list(dict.fromkeys((probe.candidate, probe.reason) for probe in every if probe.reason))


def search(goal: Goal, prober: Prober, minutes: float, say: Say, progress: Progress | None = None) -> Study:
    """Tries candidates for so many minutes, or one probe longer; what a folder of earlier probes holds takes none.

    Raises:
        BudgetError: nothing that is known is so small. InputError: nothing keeps the limits, or nothing can be trained.
    """
    began, seconds = time.monotonic(), 60 * minutes

    def before(share: float) -> bool:
        return time.monotonic() < began + share * seconds

    whole = Effort(goal.settings.epochs)
    full = Candidate("full", at_width(Goal(goal.configs, 1 << 62, goal.settings), parse("full"), goal.width))
    study = Study(goal, full, whole)
    for candidate in proposals(goal, prober, (), lambda: before(FIRST)):
        _take(study, prober, candidate)
    if not study.candidates:
        raise unreachable(goal, study.refused)
    training = _seconds(prober, full, whole)
    study.effort = whole.times(0.6 * seconds / (_FULL_PROBES * training))
    quick = study.effort.least(whole.times(FIRST * seconds / (len(study.candidates) * training)))
    say(f"{len(study.candidates)} candidates, {quick.text(whole)} each to begin with")

    def probe(candidate: Candidate, fold: int, effort: Effort | None = None) -> None:
        _probe(study, prober, candidate, fold, effort or study.effort, progress)

    probe(full, 0)
    for candidate in list(study.candidates.values()):
        if before(FIRST) or not (study.ranked() or study.quick):
            probe(candidate, 0, quick)
        if len(study.failures()) >= _GIVE_UP and not (study.ranked() or study.ranked_quickly()):
            break
    for candidate in study.ranked_quickly()[: 2 * KEPT[0]]:
        if before(BUILT) or not study.ranked():
            probe(candidate, 0)
    if not study.ranked():
        name, reason = (study.failures() or [("nothing", "no time")])[-1]
        raise InputError(f"no candidate could be trained; {name}: {reason}")
    for _ in range(2):  # proposals that build on what was best, and on what was best of these
        more = proposals(goal, prober, study.ranked()[: KEPT[0]], lambda: before(BUILT))
        for candidate in _while(lambda: before(BUILT), more):
            if _take(study, prober, candidate):
                probe(candidate, 0)
    for i, kept in enumerate(KEPT, 1):
        for candidate in [full, *_with_single(study, CHOOSING[:i], kept)]:
            if before(CHOSEN):
                probe(candidate, CHOOSING[i])
    chosen = choose(study)
    for fold in CONFIRMING:
        for candidate in unique([chosen, full, *best_single(study)]):
            if before(1):
                probe(candidate, fold)
    return study


def choose(study: Study) -> Candidate:
    """The best on as many of the choosing folds as any was tried on."""
    for count in range(len(CHOOSING), 1, -1):
        ranked = study.ranked(CHOOSING[:count])
        if ranked:
            return ranked[0]
    return study.ranked()[0]


def best_single(study: Study) -> list[Candidate]:
    """The best of those that are one expression, as `compare` would run it; none where none was tried."""
    for count in range(len(CHOOSING), 0, -1):
        ranked = [one for one in study.ranked(CHOOSING[:count]) if one.single]
        if ranked:
            return ranked[:1]
    return []


def _with_single(study: Study, folds: Sequence[int], count: int) -> list[Candidate]:
    """The best, and the best of the single expressions among them."""
    ranked = study.ranked(folds)
    return unique([*ranked[:count], *[one for one in ranked if one.single][:1]])


def unique(candidates: Iterable[Candidate]) -> list[Candidate]:
    """Each plan once."""
    return list({candidate.key: candidate for candidate in candidates}.values())


def _while(on: Callable[[], bool], proposed: Iterator[Candidate]) -> Iterator[Candidate]:
    """Proposals, one at a time, as long as there is time for the next."""
    while on():
        found = list(islice(proposed, 1))
        if not found:
            return
        yield found[0]


def _take(study: Study, prober: Prober, candidate: Candidate) -> bool:
    """Takes a candidate that keeps the limits and is new."""
    if candidate.key in study.candidates:
        return False
    reason = broken_limit(candidate, study.goal, prober, study.lookup_us)
    if reason:
        study.refused.append((candidate.name, reason))
        return False
    study.candidates[candidate.key] = candidate
    return True


def _seconds(prober: Prober, full: Candidate, whole: Effort) -> float:
    """About how long a whole training takes, from one on few rows."""
    few = Effort(1, min(1.0, _TIMED_ROWS / max(1, prober.trained_rows)))
    probe = prober.probe(full, 0, few)
    more = (whole.amount - few.amount) * prober.trained_rows / prober.batch_size  # steps
    return max(0.01, probe.seconds + more * (probe.step_ms or 0.0) / 1e3)


def _probe(
    study: Study, prober: Prober, candidate: Candidate, fold: int, effort: Effort, progress: Progress | None
) -> None:
    if effort == study.effort:
        probes = study.scores.setdefault(candidate.key, {})
        if fold not in probes:
            probes[fold] = prober.probe(candidate, fold, effort, progress)
    else:
        study.quick[candidate.key] = prober.probe(candidate, fold, effort, progress)
