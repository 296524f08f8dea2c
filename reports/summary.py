"""Runs gathered over their seeds: one row a method and asked size."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from embpress.reports import numerals, records
from embpress.reports.metrics import METRICS
from embpress.reports.records import Record
from embpress.reports.stats import Difference, Stat, paired, stat


@dataclass(frozen=True)
class Summary:
    """One method at one asked size: its runs over the seeds, and its AUC against the full tables."""

    method: str
    name: str
    knobs: Mapping[str, Any]
    asked_ratio: float | None
    asked_budget: float | None
    backend: str
    device: str
    protocol: str
    runs: Sequence[Record]  # those that ended well, one a seed, by seed
    lost: Sequence[Record]  # failed, or cannot reach the size
    stats: Mapping[str, Stat]
    auc_by_seed: Mapping[int, float]
    auc_to_full: Difference | None = None
    label: str = field(default="", compare=False)

    @property
    def is_full(self) -> bool:
        """Whether these are the uncompressed tables."""
        return self.name == "full"

    @property
    def asked(self) -> str:
        """The size asked for, as text; empty where none was."""
        return records.asked_text(self.asked_ratio, self.asked_budget)

    @property
    def n(self) -> int:
        """How many seeds ended well."""
        return len(self.runs)

    @property
    def status(self) -> str:
        """`ok`, `2 of 3 ok`, `failed` or `cannot reach`."""
        if self.runs:
            return f"{self.n} of {self.n + len(self.lost)} ok" if self.lost else "ok"
        found = {str(record.get("status")) for record in self.lost}
        return "cannot reach" if found == {"cannot reach"} else "failed"

    @property
    def reasons(self) -> list[str]:
        """Why runs were lost, each reason once; a size that cannot be reached is said with the smallest that can."""
        return list(dict.fromkeys(self.lost_reasons))

    @property
    def lost_reasons(self) -> list[str]:
        """The reason of each lost run, in their order."""
        return [self._reason(record) for record in self.lost]

    def _reason(self, record: Record) -> str:
        reason = str(record.get("reason") or "")
        if record.get("status") != "cannot reach":
            return f"failed: {reason}" if reason else "failed"
        smallest = records.part(record, "smallest")
        least = records.finite(smallest.get("ratio")), records.finite(smallest.get("bytes"))
        text = f"cannot reach {self.asked or 'the size'}"
        if self.asked_ratio is not None and least[0] is not None:
            return f"{text}, smallest {least[0]:.3g}×"
        if least[1] is not None:
            return f"{text}, smallest {numerals.size(least[1])}"
        return f"{text}: {reason}" if reason else text

    def mean(self, name: str) -> float | None:
        """The mean of a metric over the seeds."""
        return self.stats[name].mean if name in self.stats else None


def summary(runs: Iterable[Record]) -> list[Summary]:
    """One row a method and asked size: the full tables first, then by AUC, those without a result last."""
    rows = [_row(group) for group in _groups(runs)]
    rows = [_against_full(row, rows) for row in rows]
    rows.sort(key=lambda row: (not row.is_full, _last_if_none(row.mean("auc")), row.method, row.asked, row.backend))
    return [replace(row, label=label) for row, label in zip(rows, _labels(rows))]


def _last_if_none(auc: float | None) -> float:
    return float("inf") if auc is None else -auc


def _groups(runs: Iterable[Record]) -> list[list[Record]]:
    """Runs of one method, size, protocol, backend and device, the lost ones with those that they belong to."""
    groups: dict[tuple[Any, ...], dict[tuple[Any, Any] | None, list[Record]]] = {}
    for record in runs:
        asked = {} if records.is_full(record) else records.part(record, "asked")  # full tables have one size only
        ratio, budget = records.finite(asked.get("ratio")), records.finite(asked.get("budget"))
        place = (record.get("backend"), record.get("device")) if records.is_ok(record) else None
        kin = groups.setdefault((records.method(record), ratio, budget, records.protocol(record)), {})
        kin.setdefault(place, []).append(record)
    found = []
    for kin in groups.values():
        lost = kin.pop(None, [])
        split = list(kin.values()) or [[]]
        split[0].extend(lost)  # a run that failed early may not know its backend
        found.extend(split)
    return found


def _row(group: list[Record]) -> Summary:
    newest: dict[int, Record] = {}
    for record in sorted(group, key=lambda r: (str(r.get("created") or ""), str(r.get("id") or ""))):
        seed = int(records.finite(record.get("seed")) or 0)
        # A seed that was run twice counts once; a good run is not undone by a later failure.
        if records.is_ok(record) or seed not in newest or not records.is_ok(newest[seed]):
            newest[seed] = record
    by_seed = dict(sorted(newest.items()))
    runs = [record for record in by_seed.values() if records.is_ok(record)]
    first = (runs or list(by_seed.values()))[0]
    asked = {} if records.is_full(first) else records.part(first, "asked")
    values = {name: [records.metric(record, name) for record in runs] for name in METRICS}
    found = {name: stat(value for value in column if value is not None) for name, column in values.items()}
    aucs = {seed: records.metric(record, "auc") for seed, record in by_seed.items() if records.is_ok(record)}
    return Summary(
        method=records.method(first),
        name="full" if records.is_full(first) else str(first.get("name") or records.method(first)),
        knobs=records.part(first, "knobs"),
        asked_ratio=records.finite(asked.get("ratio")),
        asked_budget=records.finite(asked.get("budget")),
        backend=str(first.get("backend") or ""),
        device=str(first.get("device") or ""),
        protocol=records.protocol(first),
        runs=runs,
        lost=[record for record in by_seed.values() if not records.is_ok(record)],
        stats={name: value for name, value in found.items() if value is not None},
        auc_by_seed={seed: auc for seed, auc in aucs.items() if auc is not None},
    )


def _against_full(row: Summary, rows: Sequence[Summary]) -> Summary:
    if row.is_full:
        return row
    fulls = [other for other in rows if other.is_full and other.auc_by_seed and other.protocol == row.protocol]
    fulls.sort(key=lambda full: ((full.backend, full.device) != (row.backend, row.device), full.device != row.device))
    return replace(row, auc_to_full=paired(row.auc_by_seed, fulls[0].auc_by_seed)) if fulls else row


def _labels(rows: Sequence[Summary]) -> list[str]:
    """The method's spec; where rows share it, also the size asked for, then the backend, then a number."""
    labels = [row.method for row in rows]
    asked = [f" @{row.asked}" if row.asked else "" for row in rows]
    places = [f" [{row.backend} {row.device}]" for row in rows]
    for extras in (asked, places):
        shared = [label for label in labels if labels.count(label) > 1]
        labels = [label + extra if label in shared else label for label, extra in zip(labels, extras)]
    seen: dict[str, int] = {}
    unique = []
    for label in labels:
        seen[label] = seen.get(label, 0) + 1
        unique.append(label if seen[label] == 1 else f"{label} #{seen[label]}")
    return unique


def shorten(labels: Sequence[str], width: int) -> list[str]:
    """Labels of at most `width` characters that still differ from one another: the ends tell most, the middle goes."""
    tail = (width - 1) // 3
    short = [label if len(label) <= width else f"{label[: width - 1 - tail]}…{label[-tail:]}" for label in labels]
    return [
        text if short.count(text) == 1 else f"{text[: width - 3]}…{short[: i + 1].count(text)}"
        for i, text in enumerate(short)
    ]
