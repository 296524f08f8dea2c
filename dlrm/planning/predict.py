"""What a chosen plan promises before it is trained: bytes, AUC with its interval, times."""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterable
from dataclasses import dataclass

from embpress.dlrm.planning.candidate import Candidate
from embpress.dlrm.planning.probe import Probe, Prober
from embpress.dlrm.planning.search import CHOOSING, CONFIRMING, Study, lookup_us

CONFIDENCE = 0.9


@dataclass(frozen=True)
class Promise:
    """What is to be expected of a run of the plan with one seed.

    Attributes:
        serving_bytes, training_bytes: exact; training with its optimizer's state, of the tables.
        auc: expected; `low` and `high` bound it with 90 % confidence, None where one fold was tried only.
        to_full: the same minus that of full tables on the same folds, with the same bounds.
        folds: how many folds that takes in.
        fresh: whether these folds chose nothing; else the AUC is too high by what choosing the best adds.
        step_ms: median training step.
        lookup_us: median lookup of a batch of 128 in all tables.
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
    step_ms: float | None
    lookup_us: float


def promise(study: Study, prober: Prober, chosen: Candidate, test_rows: int) -> Promise:
    """What the probes of the chosen candidate say.

    An AUC measured later differs from the mean of the probes by the probes' own spread (other seeds, other rows to
    train on and held out), and by the rows of the test part, whose error is that of the rows held out, scaled by their
    number.
    That the test part is drawn like the training part is assumed, and wrong where clicks drift over time.

    Args:
        test_rows: of the test part: how many, nothing else of it is asked.
    """
    probes = study.scores[chosen.key]
    scored = [fold for fold in (*CHOOSING, *CONFIRMING) if fold in probes and probes[fold].auc is not None]
    fresh = [fold for fold in scored if fold in CONFIRMING]
    folds = fresh if len(fresh) > 1 else scored
    every = [probe.auc for probe in probes.values() if probe.auc is not None]
    aucs = [probes[fold].auc or 0.0 for fold in folds]
    mean = statistics.fmean(aucs)
    held = next(iter(probes.values()))
    rows = prober.held_rows
    error = (held.error or 0.0) * math.sqrt(rows / max(1, test_rows))
    half = _half(every, len(folds), error)
    gap = _to_full(study, chosen)
    ledger = prober.ledger(chosen)
    return Promise(
        serving_bytes=ledger.serving_bytes,
        training_bytes=ledger.training_bytes,
        auc=mean,
        low=None if half is None else mean - half,
        high=None if half is None else mean + half,
        to_full=None if gap is None else gap[0],
        to_full_low=None if gap is None or gap[1] is None else gap[0] - gap[1],
        to_full_high=None if gap is None or gap[1] is None else gap[0] + gap[1],
        folds=len(folds),
        fresh=folds == fresh,
        step_ms=_step_ms(probes.values()),
        lookup_us=lookup_us(study, prober, chosen),
    )


def _half(every: list[float], folds: int, error: float) -> float | None:
    """Half the width of the interval of a new run; None where the spread is unknown.

    The spread between folds holds the error of the rows held out already; the test part's own is taken where larger.
    """
    if len(every) < 2:
        return None
    from scipy.stats import t

    spread = statistics.stdev(every)
    new = max(spread, error)
    return float(t.ppf((1 + CONFIDENCE) / 2, len(every) - 1)) * math.sqrt(new**2 + spread**2 / folds)


def _to_full(study: Study, chosen: Candidate) -> tuple[float, float | None] | None:
    """The mean difference to full tables over the folds of both, and half its interval."""
    ours, full = study.scores[chosen.key], study.scores.get(study.full.key, {})
    gaps = [
        (ours[fold].auc or 0.0) - (full[fold].auc or 0.0)
        for fold in sorted(ours.keys() & full.keys())
        if ours[fold].auc is not None and full[fold].auc is not None
    ]
    if not gaps:
        return None
    if len(gaps) < 2:
        return gaps[0], None
    from scipy.stats import t

    half = float(t.ppf((1 + CONFIDENCE) / 2, len(gaps) - 1)) * statistics.stdev(gaps) / math.sqrt(len(gaps))
    return statistics.fmean(gaps), half


def _step_ms(probes: Iterable[Probe]) -> float | None:
    times = [probe.step_ms for probe in probes if probe.step_ms is not None]
    return statistics.median(times) if times else None
