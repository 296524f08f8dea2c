"""What a chosen plan promises before it is trained: bytes, AUC with its interval, times."""

from __future__ import annotations

import math
import statistics
from dataclasses import dataclass

from embpress.dlrm.planning.candidate import Candidate
from embpress.dlrm.planning.limits import lookup_us
from embpress.dlrm.planning.probe import Effort, Probe, Prober
from embpress.dlrm.planning.search import CONFIRMING, Study

CONFIDENCE = 0.9
_NORMAL = 1.645  # its quantile of the normal distribution, both tails left out


@dataclass(frozen=True)
class Promise:
    """What is to be expected of a run of the plan with one seed.

    Attributes:
        serving_bytes, training_bytes: exact; training with its optimizer's state, of the tables.
        auc: expected; `low` and `high` bound it with 90 % confidence, None where one fold was tried only.
        to_full: the same minus that of full tables on the same folds, with the same bounds.
        folds: how many folds that takes in.
        fresh: whether these folds chose nothing; else the AUC is too high by what choosing the best adds.
        short: how much less than a whole training the probes were, which the AUC is then of; empty where they were not.
        step_ms: median training step.
        lookup_us, full_lookup_us: median lookup of a batch of 128 in all tables, and in full ones.
    """

    serving_bytes: int
    training_bytes: int
    auc: float
    low: float | None
    high: float | None
    to_full: float | None
    to_full_low: float | None
    to_full_high: float | None
    folds: int
    fresh: bool
    short: str
    step_ms: float
    lookup_us: float
    full_lookup_us: float


def promise(study: Study, prober: Prober, chosen: Candidate, test_rows: int) -> Promise:
    """What the probes of the chosen candidate say.

    The AUC is that of full tables on the validation part, fold 0, plus the mean difference between the candidate and
    full tables on the folds that chose nothing: of rows drawn from the training part at random the ids are known, so
    that the AUC on them is no measure of the AUC on the test part, but the difference is. A run measured later differs
    by the spread of that difference, and by the errors of the validation and of the test part, which are those of an
    AUC on so many rows. That the test part is drawn like the validation part is assumed, and wrong where clicks drift.

    Args:
        test_rows: of the test part: how many, nothing else of it is asked.
    """
    ours, full = study.scores[chosen.key], study.scores.get(study.full.key, {})
    gaps = {fold: gap for fold in ours if (gap := _gap(ours[fold], full.get(fold))) is not None}
    fresh = [fold for fold in gaps if fold in CONFIRMING]
    folds = fresh if len(fresh) > 1 else list(gaps)
    base = full.get(0)
    if gaps and base is not None and base.auc is not None:
        to_full: float | None = statistics.fmean(gaps[fold] for fold in folds)
        auc = base.auc + (to_full or 0.0)
        error = base.error or 0.0
    else:  # full tables could not be trained
        auc, to_full = statistics.fmean(probe.auc for probe in ours.values() if probe.auc is not None), None
        error = next(iter(ours.values())).error or 0.0
    spread = statistics.stdev(gaps.values()) if len(gaps) > 1 else None
    half = half_gap = None
    if spread is not None:
        from scipy.stats import t

        times = float(t.ppf((1 + CONFIDENCE) / 2, len(gaps) - 1))
        of_rows = error * math.sqrt(1 + prober.held_rows / max(1, test_rows))
        half_gap = times * spread / math.sqrt(len(folds))
        half = math.hypot(times * spread * math.sqrt(1 + 1 / len(folds)), _NORMAL * of_rows)
    ledger, whole = prober.ledger(chosen), Effort(study.goal.settings.epochs)
    return Promise(
        serving_bytes=ledger.serving_bytes,
        training_bytes=ledger.training_bytes,
        auc=auc,
        low=None if half is None else auc - half,
        high=None if half is None else auc + half,
        to_full=to_full,
        to_full_low=None if half_gap is None or to_full is None else to_full - half_gap,
        to_full_high=None if half_gap is None or to_full is None else to_full + half_gap,
        folds=len(folds),
        fresh=len(fresh) > 1,
        short="" if study.effort.amount >= whole.amount else study.effort.text(whole),
        step_ms=prober.step_ms(chosen),
        lookup_us=lookup_us(chosen, prober, study.lookup_us),
        full_lookup_us=lookup_us(study.full, prober, study.lookup_us),
    )


def _gap(one: Probe, full: Probe | None) -> float | None:
    """The difference to full tables on the same fold, where both are known."""
    return None if full is None or one.auc is None or full.auc is None else one.auc - full.auc
