"""The search for a plan: all is tried once, the best on other rows too, and the choice on rows that did not make it."""

from __future__ import annotations

import math
import statistics
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import islice

from embpress.compressors import InputError, parse
from embpress.dlrm.planning.candidate import Candidate, Goal, at_width
from embpress.dlrm.planning.limits import broken_limit, unreachable
from embpress.dlrm.planning.probe import Effort, Probe, Prober
from embpress.dlrm.planning.proposals import proposals
from embpress.dlrm.training.loop import Progress

# by which share of the time everything has been tried quickly, the best with all the effort that there is time for, and
# these on a second fold; what builds on them has been tried, other learning rates have, and the choice is made
FIRST, WHOLE, TWICE, BUILT, RATED, CHOSEN = 0.3, 0.4, 0.5, 0.64, 0.72, 0.9
# how many of the best are tried again, and on which folds: one fold's noise is as large as what tells them apart
ROUNDS = ((16, (1,)), (10, (2, 3)), (6, (4, 5, 6)), (3, (7, 8, 9, 10, 11)))
_ALIKE = 3  # of one family among them: what is nearly the same need not be tried as often
CHOOSING, CONFIRMING = tuple(range(12)), (12, 13, 14)  # folds that choose, and folds that say what the choice is worth
RATES = (2.0, 0.5)  # times the one that is best so far
_BUILT_ON, _RATED = 6, 4  # of the best: proposals build on so many, so many are tried at other learning rates
_TIMED_ROWS = 20_000  # that tell how long training takes
_BESIDE = 1.25  # times the training steps: the rows held out are scored, too
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
        lookup_us: measured lookups by the plan's key.
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

    def folds(self, key: str) -> int:
        """On how many of the choosing folds a candidate has been tried, from the first on."""
        return next((f for f in CHOOSING if self.mean(key, CHOOSING[: f + 1]) == -math.inf), len(CHOOSING))

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
    proposed = [one for one in proposals(goal, prober, (), lambda: before(FIRST)) if _allowed(study, prober, one)]
    if not proposed:
        raise unreachable(goal, study.refused)
    training = _seconds(prober, full, whole)
    study.effort = whole.times(0.6 * seconds / (_FULL_PROBES * training))

    def probe(candidate: Candidate, fold: int, effort: Effort | None = None) -> None:
        _probe(study, prober, candidate, fold, effort or study.effort, progress)

    probe(full, 0)
    if goal.rates:
        study.full = full = _best_rate(study, full, lambda one: probe(one, 0))
        say(f"full tables learn best at a rate of {full.rate or goal.settings.learning_rate:g}")
    for candidate in proposed:
        candidate = candidate.at_rate(full.rate)
        study.candidates[candidate.key] = candidate
    quick = study.effort.least(whole.times(FIRST * seconds / (len(study.candidates) * training)))
    say(f"{len(study.candidates)} candidates, {quick.text(whole)} each to begin with")
    for candidate in list(study.candidates.values()):
        if before(FIRST) or not (study.ranked() or study.quick):
            probe(candidate, 0, quick)
        if len(study.failures()) >= _GIVE_UP and not (study.ranked() or study.ranked_quickly()):
            break
    for candidate in study.ranked_quickly()[: ROUNDS[0][0]]:
        if before(WHOLE) or not study.ranked():
            probe(candidate, 0)
    if not study.ranked():
        name, reason = (study.failures() or [("nothing", "no time")])[-1]
        raise InputError(f"no candidate could be trained; {name}: {reason}")

    def again(count: int, folds: Sequence[int], share: float) -> None:
        for fold in folds:
            for candidate in [full, *_with_single(study, range(fold), count)]:
                if before(share):
                    probe(candidate, fold)

    def tried(candidate: Candidate, share: float) -> None:
        if before(share) and _take(study, prober, candidate):
            probe(candidate, 0)
            if before(share):
                probe(candidate, 1)

    again(*ROUNDS[0], TWICE)
    for _ in range(2):  # proposals that build on what was best, and on what was best of these
        more = proposals(goal, prober, _best(study)[:_BUILT_ON], lambda: before(BUILT))
        for candidate in _while(lambda: before(BUILT), more):
            tried(candidate, BUILT)
    for candidate in _with_single(study, range(2), _RATED) if goal.rates else ():
        for times in RATES:
            tried(candidate.at_rate(times * _rate(study, candidate)), RATED)
    for count, folds in ROUNDS[1:]:
        again(count, folds, CHOSEN)
    for fold in CONFIRMING:
        for candidate in unique([choose(study), full, *best_single(study)]):
            if before(1):
                probe(candidate, fold)
    return study


def _rate(study: Study, candidate: Candidate) -> float:
    return candidate.rate or study.goal.settings.learning_rate


def _best_rate(study: Study, candidate: Candidate, probe: Callable[[Candidate], None]) -> Candidate:
    """The candidate at the learning rate at which it is best on fold 0, by steps of two from that of the settings."""
    best = candidate
    for times in RATES:
        while True:
            other = candidate.at_rate(times * _rate(study, best))
            probe(other)
            if study.mean(other.key, (0,)) <= study.mean(best.key, (0,)):
                break
            best = other
        if best is not candidate:  # it went up, so that it does not go down
            break
    return best


def choose(study: Study) -> Candidate:
    """The best on as many of the choosing folds as any was tried on."""
    return _best(study)[0]


def best_single(study: Study) -> list[Candidate]:
    """The best of those that are one expression, as `compare` would run it; none where none was tried."""
    return _best(study, single=True)[:1]


def _best(study: Study, single: bool = False) -> list[Candidate]:
    """Those that were tried on as many of the choosing folds as any, the best first; single expressions if so asked."""
    tried = [one for one in study.ranked() if one.single or not single]
    most = max((study.folds(one.key) for one in tried), default=0)
    return [one for one in study.ranked(CHOOSING[:most]) if one in tried]


def _with_single(study: Study, folds: Sequence[int], count: int) -> list[Candidate]:
    """The best on these folds, and the best of the single expressions among them."""
    ranked, alike, kept = study.ranked(folds), Counter[str](), []
    for one in ranked:
        alike[one.family] += 1
        if alike[one.family] <= _ALIKE:
            kept.append(one)
    return unique([*kept[:count], *[one for one in ranked if one.single][:1]])


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
    if candidate.key in study.candidates or not _allowed(study, prober, candidate):
        return False
    study.candidates[candidate.key] = candidate
    return True


def _allowed(study: Study, prober: Prober, candidate: Candidate) -> bool:
    """Whether a candidate keeps the limits; else which one it breaks is noted."""
    reason = broken_limit(candidate, study.goal, prober, study.lookup_us)
    if reason:
        study.refused.append((candidate.name, reason))
    return not reason


def _seconds(prober: Prober, full: Candidate, whole: Effort) -> float:
    """About how long a whole training takes, from the steps of one on few rows."""
    few = Effort(1, min(1.0, _TIMED_ROWS / max(1, prober.trained_rows)))
    step_ms = prober.probe(full, 0, few).step_ms or 0.0
    return max(0.01, _BESIDE * whole.amount * prober.trained_rows / prober.batch_size * step_ms / 1e3)


def _probe(
    study: Study, prober: Prober, candidate: Candidate, fold: int, effort: Effort, progress: Progress | None
) -> None:
    if effort == study.effort:
        probes = study.scores.setdefault(candidate.key, {})
        if fold not in probes:
            probes[fold] = prober.probe(candidate, fold, effort, progress)
    else:
        study.quick[candidate.key] = prober.probe(candidate, fold, effort, progress)
