"""The search for a plan: all is tried once, the best on other rows too, and the choice on rows that did not make it."""

from __future__ import annotations

import math
import statistics
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field

from embpress.compressors import BudgetError, InputError, Plan, parse
from embpress.compressors.errors import reachable_ratio
from embpress.dlrm.measure.latency import measure
from embpress.dlrm.planning.candidate import Candidate, Goal, at_width
from embpress.dlrm.planning.probe import Probe, Prober
from embpress.dlrm.planning.proposals import proposals
from embpress.dlrm.sets import specs_of
from embpress.dlrm.training.loop import Progress

# by which share of the time everything has been tried once, what builds on it has, and the choice is made
FIRST, BUILT, CHOSEN = 0.4, 0.65, 0.85
KEPT = (6, 4)  # candidates tried on a second fold, and on a third
CHOOSING, CONFIRMING = (0, 1, 2), (3, 4)  # folds that choose, and folds that say what the choice is worth
LOOKUP = "lookup_p50_us_b128"
Say = Callable[[str], None]


@dataclass
class Study:
    """What has been tried.

    Attributes:
        goal: what is asked for.
        full: plain tables, which the others are held against.
        candidates: by key, in the order of proposal.
        refused: names of proposals that break a limit, and which.
        scores: AUC by key and fold, at the full number of epochs.
        quick: AUC by key on fold 0, where it was trained for fewer epochs.
    """

    goal: Goal
    full: Candidate
    candidates: dict[str, Candidate] = field(default_factory=dict)
    refused: list[tuple[str, str]] = field(default_factory=list)
    scores: dict[str, dict[int, Probe]] = field(default_factory=dict)
    quick: dict[str, Probe] = field(default_factory=dict)
    lookup_us: dict[str, float] = field(default_factory=dict)

    def mean(self, key: str, folds: Iterable[int]) -> float:
        """The mean AUC on these folds; minus infinity where one is missing."""
        held = [probe.auc for fold in folds if (probe := self.scores.get(key, {}).get(fold)) and probe.auc is not None]
        return statistics.fmean(held) if held and len(held) == len(list(folds)) else -math.inf

    def ranked(self, folds: Sequence[int] = (0,)) -> list[Candidate]:
        """Those that were tried on all of these folds, the best first."""
        keys = [key for key in self.candidates if self.mean(key, folds) > -math.inf]
        return [self.candidates[key] for key in sorted(keys, key=lambda key: -self.mean(key, folds))]


def search(goal: Goal, prober: Prober, minutes: float, say: Say, progress: Progress | None = None) -> Study:
    """Tries candidates for so many minutes; what a folder of earlier probes holds takes none of them.

    Raises:
        BudgetError: nothing that is known is so small.
    """
    began = time.monotonic()

    def before(share: float) -> bool:
        return time.monotonic() < began + share * 60 * minutes

    full = Candidate("full", at_width_free(goal, "full"))
    study = Study(goal, full)
    epochs = goal.settings.epochs
    _take(study, prober, proposals(goal, prober, ()))
    if not study.candidates:
        raise _unreachable(goal, study)
    first = _probe(study, prober, full, 0, epochs, progress)
    quick = _affordable(epochs, first.seconds, len(study.candidates), FIRST * 60 * minutes)
    say(f"{len(study.candidates)} candidates, {quick} of {epochs} epochs each to begin with")
    for candidate in list(study.candidates.values()):
        if before(FIRST) or not (study.ranked() or _by_quick(study)):
            _probe(study, prober, candidate, 0, quick, progress, quick=quick < epochs)
    if quick < epochs:
        for candidate in _by_quick(study)[: 2 * KEPT[0]]:
            if before(BUILT) or not study.ranked():
                _probe(study, prober, candidate, 0, epochs, progress)
    for _ in range(2):  # proposals that build on what was best, and on what was best of these
        if not before(BUILT):
            break
        for candidate in _take(study, prober, proposals(goal, prober, study.ranked()[: KEPT[0]])):
            if before(BUILT):
                _probe(study, prober, candidate, 0, epochs, progress)
    for i, kept in enumerate(KEPT, 1):
        for candidate in [full, *_with_single(study, CHOOSING[:i], kept)]:
            if before(CHOSEN):
                _probe(study, prober, candidate, CHOOSING[i], epochs, progress)
    chosen = choose(study)
    for fold in CONFIRMING:
        for candidate in unique([chosen, full, *best_single(study)]):
            if before(1):
                _probe(study, prober, candidate, fold, epochs, progress)
    return study


def choose(study: Study) -> Candidate:
    """The best on as many of the choosing folds as any was tried on."""
    for count in range(len(CHOOSING), 0, -1):
        ranked = study.ranked(CHOOSING[:count])
        if ranked:
            return ranked[0]
    raise BudgetError("no candidate could be trained", 0)


def best_single(study: Study) -> list[Candidate]:
    """The best of those that are one expression, as `compare` would run it; none where none was tried."""
    for count in range(len(CHOOSING), 0, -1):
        ranked = [one for one in study.ranked(CHOOSING[:count]) if one.single]
        if ranked:
            return ranked[:1]
    return []


def at_width_free(goal: Goal, spec: str) -> Plan:
    """The plan of an expression at the model's own width, whatever it takes."""
    return at_width(Goal(goal.configs, 1 << 62, goal.settings), parse(spec), goal.width)


def _with_single(study: Study, folds: Sequence[int], count: int) -> list[Candidate]:
    """The best, and the best of the single expressions among them."""
    ranked = study.ranked(folds)
    return unique([*ranked[:count], *[one for one in ranked if one.single][:1]])


def unique(candidates: Iterable[Candidate]) -> list[Candidate]:
    """Each plan once."""
    return list({candidate.key: candidate for candidate in candidates}.values())


def _take(study: Study, prober: Prober, proposed: Iterable[Candidate]) -> list[Candidate]:
    """Takes what keeps the limits and is new."""
    goal, new = study.goal, []
    for candidate in proposed:
        if candidate.key in study.candidates:
            continue
        reason = _breaks(candidate, goal, prober, study)
        if reason:
            study.refused.append((candidate.name, reason))
            continue
        study.candidates[candidate.key] = candidate
        new.append(candidate)
    return new


def _breaks(candidate: Candidate, goal: Goal, prober: Prober, study: Study) -> str:
    """Which limit a candidate breaks; empty where none."""
    if goal.max_training is not None:
        training = prober.ledger(candidate).training_bytes
        if training > goal.max_training:
            return f"{training:,} bytes in training"
    if goal.max_lookup_us is not None and lookup_us(study, prober, candidate) > goal.max_lookup_us:
        return f"{study.lookup_us[candidate.key]:.0f} µs a lookup"
    return ""


def lookup_us(study: Study, prober: Prober, candidate: Candidate) -> float:
    """Microseconds of a lookup of a batch of 128 in the folded tables, measured once."""
    if candidate.key not in study.lookup_us:
        folded = prober.tables(candidate).fold()
        study.lookup_us[candidate.key] = measure(None, folded, 0, 0.1)[LOOKUP]
    return study.lookup_us[candidate.key]


def _probe(
    study: Study,
    prober: Prober,
    candidate: Candidate,
    fold: int,
    epochs: int,
    progress: Progress | None,
    quick: bool = False,
) -> Probe:
    if not quick and fold in study.scores.get(candidate.key, {}):
        return study.scores[candidate.key][fold]
    probe = prober.probe(candidate, fold, epochs, progress)
    if quick:
        study.quick[candidate.key] = probe
    else:
        study.scores.setdefault(candidate.key, {})[fold] = probe
    return probe


def _by_quick(study: Study) -> list[Candidate]:
    tried = [key for key, probe in study.quick.items() if probe.auc is not None]
    return [study.candidates[key] for key in sorted(tried, key=lambda key: -(study.quick[key].auc or 0))]


def _affordable(epochs: int, seconds: float, count: int, share: float) -> int:
    """Epochs that so many candidates can be tried for, at least one."""
    return max(1, min(epochs, int(epochs * share / max(1e-9, seconds * count))))


def _unreachable(goal: Goal, study: Study) -> Exception:
    """The error of a goal that nothing keeps: a limit, or a size with the smallest that is known."""
    if study.refused:
        name, reason = study.refused[0]
        return InputError(f"nothing that is tried keeps the limits: {name} takes {reason}")
    smallest = goal.full_bytes
    for spec in map(parse, specs_of("planned")):
        try:
            at_width(goal, spec, min(goal.width, 4))
        except BudgetError as error:
            smallest = min(smallest, error.smallest)
    ratio = reachable_ratio(smallest, goal.full_bytes)
    return BudgetError(f"cannot reach {goal.bytes:,} bytes: smallest reachable {smallest:,} ({ratio}×)", smallest)
