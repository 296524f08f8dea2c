"""What changed from some runs to others beyond noise, method by method: a regression check."""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Literal

from embpress.compressors.errors import InputError
from embpress.dlrm.runs.comparable import difference
from embpress.dlrm.runs.record import Asked, Run
from embpress.reports import numerals, records
from embpress.reports.merge import newest
from embpress.reports.stats import CONFIDENCE, Difference, paired

TOLERANCE = 1.25  # times that differ by less are noise
TIMES = {"step_ms": "step", "lookup_p50_us_b128": "lookup"}
# what must agree before times may be compared; versions may not, for an upgrade is what may have made them worse
_MACHINE = ("platform", "cpu", "cpu_capability", "threads", "gpu", "compute_capability", "gpu_memory_bytes")

Verdict = Literal["worse", "better", "same", "unknown"]


@dataclass(frozen=True)
class Change:
    """One method at one size, before and now.

    Attributes:
        label: the method, with the size asked for and the device where they are not the only ones.
        auc: mean test AUC before and now, of all seeds that ended well.
        gap: now minus before, paired by seed; None where no seed is in both.
        serving_bytes: before and now.
        times: now / before of those in `TIMES`, as far as both were measured on one machine that nobody kept busy.
        lost: why there is no result now.
        verdicts: of `auc`, `bytes`, `step`, `lookup` and `result`.
    """

    label: str
    auc: tuple[float, float] | None = None
    gap: Difference | None = None
    serving_bytes: tuple[float, float] | None = None
    times: Mapping[str, float] = field(default_factory=dict)
    lost: str = ""
    verdicts: Mapping[str, Verdict] = field(default_factory=dict)

    def are(self, verdict: Verdict) -> list[str]:
        """What of it has this verdict, in words."""
        return [self._said(name) for name, found in self.verdicts.items() if found == verdict]

    def _said(self, name: str) -> str:
        if name == "result":
            return f"no result any more ({self.lost})"
        if name == "auc":
            return f"AUC {numerals.signed(self.gap.mean)}" if self.gap else "AUC"
        if name == "bytes" and self.serving_bytes:
            before, now = self.serving_bytes
            return f"{abs(now - before):,.0f} bytes {'more' if now > before else 'fewer'}"
        return f"{name} {self.times[name]:.2f}×" if name in self.times else name


@dataclass(frozen=True)
class Changes:
    """All methods that both sides have, and those that one of them has.

    Attributes:
        rows: by method, each from the mildest size on.
        only_before, only_now: labels.
        elsewhere: what kept times from being compared; empty where nothing did.
        tolerance: of times.
    """

    rows: tuple[Change, ...]
    only_before: tuple[str, ...]
    only_now: tuple[str, ...]
    elsewhere: str
    tolerance: float

    @property
    def worse(self) -> list[Change]:
        """What is worse beyond noise in anything."""
        return [row for row in self.rows if row.are("worse")]


def changes(now: Sequence[Run], before: Sequence[Run], names: tuple[str, str], tolerance: float = TOLERANCE) -> Changes:
    """Compares runs with earlier ones of the same data, model and training.

    Test AUC is worse or better where the difference over the seeds that both have excludes zero in a t test at 5 %,
    corrected for the number of methods (Holm 1979), so that of many methods that have not changed one in twenty checks
    says otherwise, not one in twenty methods. With one seed it is unknown, unless the AUCs are equal to the last digit.
    Serving bytes are exact. Times count where they were taken on one machine, and differ by more than `tolerance`.

    Args:
        names: of the two sides, for messages.
        tolerance: ratio of times, above 1.

    Raises:
        InputError: runs that cannot be compared, or no method in both; a tolerance that is none.
    """
    if not 1 < tolerance < math.inf:
        raise InputError(f"a tolerance of times is a ratio above 1 such as {TOLERANCE}, got {tolerance:g}")
    reason = difference(now[0], before[0])
    if reason:
        raise InputError(f"{names[1]} holds runs {reason}, compared with {names[0]}: nothing can be said of changes")
    ours, theirs = _by_key(now), _by_key(before)
    labels = _labels([*ours, *theirs])
    both = sorted((key for key in ours if key in theirs), key=lambda key: (key[0], *_size(key[2]), labels[key]))
    if not both:
        raise InputError(f"{names[0]} and {names[1]} have no method in common: nothing can be said of changes")
    rows = [_change(labels[key], ours[key], theirs[key], tolerance) for key in both]
    return Changes(
        tuple(_judged(rows)),
        tuple(sorted(labels[key] for key in theirs.keys() - ours.keys())),
        tuple(sorted(labels[key] for key in ours.keys() - theirs.keys())),
        _elsewhere([run for key in both for run in (*ours[key], *theirs[key]) if run.ok]),
        tolerance,
    )


def _size(asked: Asked) -> tuple[float, int]:
    return asked.ratio or 0.0, -(asked.budget or 0)


Key = tuple[str, "str | None", Asked, str]


def _by_key(runs: Iterable[Run]) -> dict[Key, list[Run]]:
    """Runs by method, plan, size and device, each seed once; full tables have one size."""
    found: dict[Key, list[Run]] = {}
    for run in newest(runs):
        asked = Asked() if run.is_full else run.asked
        found.setdefault((run.method, run.plan, asked, run.device), []).append(run)
    return found


def _labels(keys: Iterable[Key]) -> dict[Key, str]:
    known = dict.fromkeys(keys)
    methods = [key[0] for key in known]
    devices = {key[3] for key in known}
    plans = {method: {key[1] for key in known if key[0] == method} for method in methods}
    labels = {}
    for key in known:
        method, plan, asked, device = key
        size = records.asked_text(asked.ratio, asked.budget)
        shown = [method, f"({plan})" if len(plans[method]) > 1 else "", f"@{size}" if size else ""]
        labels[key] = " ".join([*filter(None, shown), *([f"[{device}]"] if len(devices) > 1 else [])])
    return labels


def _change(label: str, now: Sequence[Run], before: Sequence[Run], tolerance: float) -> Change:
    good, earlier = [run for run in now if run.ok], [run for run in before if run.ok]
    if not good or not earlier:
        lost = "" if good else records.lost_text(now[0])
        verdict: Verdict = "same" if not good and not earlier else "better" if good else "worse"
        return Change(label, lost=lost, verdicts={"result": verdict})
    scores = [{run.seed: run.metrics["auc"] for run in runs if "auc" in run.metrics} for runs in (earlier, good)]
    old, new = ([run.metrics["serving_bytes"] for run in runs] for runs in (earlier, good))
    size = statistics.median(old), statistics.median(new)
    bytes_: Verdict = "worse" if size[1] > size[0] else "better" if size[1] < size[0] else "same"
    times = _times(good, earlier)
    judged: dict[str, Verdict] = {
        name: "worse" if value > tolerance else "better" if value < 1 / tolerance else "same"
        for name, value in times.items()
    }
    return Change(
        label,
        auc=(statistics.fmean(scores[0].values()), statistics.fmean(scores[1].values())) if all(scores) else None,
        gap=paired(scores[1], scores[0]),
        serving_bytes=size,
        times=times,
        verdicts={"bytes": bytes_, **{name: judged.get(name, "unknown") for name in TIMES.values()}},
    )


def _times(now: Sequence[Run], before: Sequence[Run]) -> dict[str, float]:
    """Now / before, of times that were taken on one machine."""
    if _elsewhere([*now, *before]):
        return {}
    found = {}
    for metric, name in TIMES.items():
        values = [[run.metrics[metric] for run in runs if metric in run.metrics] for runs in (now, before)]
        if all(values):
            found[name] = statistics.median(values[0]) / statistics.median(values[1])
    return found


def _elsewhere(runs: Sequence[Run]) -> str:
    """Why times of these runs cannot be compared; empty where they can."""
    for name in _MACHINE:
        if len({str(run.environment.get(name)) for run in runs}) > 1:
            return f"not the same machine ({name.replace('_', ' ')})"
    return "threads waited for each other on a busy machine" if any(run.threads_waited for run in runs) else ""


def _judged(rows: Sequence[Change]) -> list[Change]:
    """With the verdict of AUC, for which all rows count together."""
    chances = {i: _chance(row.gap) for i, row in enumerate(rows)}
    known = {i: p for i, p in chances.items() if p is not None}
    adjusted = dict(zip(known, holm(list(known.values()))))
    judged = []
    for i, row in enumerate(rows):
        if row.gap is None:
            verdict: Verdict = "unknown"
        elif i not in adjusted:
            verdict = "same" if row.gap.mean == 0 else "unknown"
        elif adjusted[i] > 1 - CONFIDENCE:
            verdict = "same"
        else:
            verdict = "worse" if row.gap.mean < 0 else "better"
        judged.append(
            replace(row, verdicts={**({} if row.lost or row.auc is None else {"auc": verdict}), **row.verdicts})
        )
    return judged


def _chance(gap: Difference | None) -> float | None:
    """The p value of no difference, two-sided; None where there is one seed or none."""
    if gap is None or gap.sd is None:
        return None
    if gap.sd == 0:
        return 1.0 if gap.mean == 0 else 0.0
    from scipy.stats import t

    return float(2 * t.sf(abs(gap.mean) * math.sqrt(gap.n) / gap.sd, gap.n - 1))


def holm(chances: Sequence[float]) -> list[float]:
    """P values adjusted for their number, in their order: Holm (1979), "A simple sequentially rejective …"."""
    order = sorted(range(len(chances)), key=lambda i: chances[i])
    adjusted = [0.0] * len(chances)
    largest = 0.0
    for rank, i in enumerate(order):
        largest = max(largest, min(1.0, (len(chances) - rank) * chances[i]))
        adjusted[i] = largest
    return adjusted
