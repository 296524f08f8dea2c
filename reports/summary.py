"""Runs gathered over their seeds: one row a method and asked size."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import PurePath
from typing import Any

from embpress.dlrm.runs.comparable import protocol_key
from embpress.dlrm.runs.record import Asked, Run
from embpress.reports import records
from embpress.reports.metrics import METRICS, Metric
from embpress.reports.stats import Difference, Stat, paired, stat


@dataclass(frozen=True)
class Summary:
    """One method at one asked size: its runs over the seeds, and its AUC against the full tables."""

    method: str
    name: str
    is_full: bool  # the uncompressed tables
    is_baseline: bool  # plain tables of one kind or another
    plan: str | None  # a hash of the plan that the method names
    knobs: Mapping[str, Any]
    asked_ratio: float | None
    asked_budget: float | None
    backend: str
    device: str
    protocol: str
    runs: Sequence[Run]  # those that ended well, one a seed, by seed
    lost: Sequence[Run]  # failed, or cannot reach the size
    stats: Mapping[str, Stat]
    auc_by_seed: Mapping[int, float]
    auc_to_full: Difference | None = None
    auc_to_trained: Difference | None = None  # what serving costs, where it changes lookups
    label: str = field(default="", compare=False)

    @property
    def asked(self) -> str:
        """The size asked for, as text; empty where none was."""
        return records.asked_text(self.asked_ratio, self.asked_budget)

    @property
    def threads_waited(self) -> bool:
        """Whether in one of its runs threads waited for each other: its times are then too long."""
        return any(run.threads_waited for run in self.runs)

    @property
    def n(self) -> int:
        """How many seeds ended well."""
        return len(self.runs)

    @property
    def status(self) -> str:
        """`ok`, `2 of 3 ok`, `failed` or `cannot reach`."""
        if self.runs:
            return f"{self.n} of {self.n + len(self.lost)} ok" if self.lost else "ok"
        return "cannot reach" if all(run.status == "cannot reach" for run in self.lost) else "failed"

    @property
    def reasons(self) -> list[str]:
        """Why runs were lost, each reason once; a size that cannot be reached is said with the smallest that can."""
        return list(dict.fromkeys(self.lost_reasons))

    @property
    def lost_reasons(self) -> list[str]:
        """The reason of each lost run, in their order."""
        return [records.lost_text(run) for run in self.lost]

    def mean(self, name: str) -> float | None:
        """The mean of a metric over the seeds."""
        return self.stats[name].mean if name in self.stats else None


def summary(runs: Iterable[Run]) -> list[Summary]:
    """One row a method and asked size: the full tables first, then by AUC, those without a result last.

    Where several sizes were asked for, the mildest compression comes first, and each size is ordered so.
    """
    rows = _told_apart([_row(group) for group in _groups(runs)])
    rows = [_against_full(row, rows) for row in rows]
    swept = len({row.asked for row in rows if row.asked}) > 1
    full_bytes = max((row.mean("full_bytes") or 1 for row in rows), default=1)
    rows.sort(
        key=lambda row: (
            not row.is_full,
            _ratio(row, full_bytes) if swept else 0,
            _last_if_none(row.mean("auc")),
            row.method,
            row.asked,
            row.backend,
        )
    )
    return [replace(row, label=label) for row, label in zip(rows, _labels(rows))]


def _told_apart(rows: list[Summary]) -> list[Summary]:
    """Plans of one file name and other contents by their hash."""
    plans: dict[str, set[str]] = {}
    for row in rows:
        plans.setdefault(row.method, set()).add(row.plan or "")
    return [replace(row, method=f"{row.method} ({row.plan})") if len(plans[row.method]) > 1 else row for row in rows]


def _ratio(row: Summary, full_bytes: float) -> float:
    """The ratio asked for, of a budget too; where none was, the one it has."""
    if row.asked_ratio is not None:
        return row.asked_ratio
    if row.asked_budget is not None:
        return full_bytes / row.asked_budget
    return row.mean("ratio") or float("inf")


def _last_if_none(auc: float | None) -> float:
    return float("inf") if auc is None else -auc


def _groups(runs: Iterable[Run]) -> list[list[Run]]:
    """Runs of one method, size, protocol, backend and device, the lost ones with those that they belong to."""
    groups: dict[tuple[Any, ...], dict[tuple[str, str] | None, list[Run]]] = {}
    for run in runs:
        kin = groups.setdefault((run.method, run.plan, _asked(run), protocol_key(run)), {})
        kin.setdefault((run.backend, run.device) if run.ok else None, []).append(run)
    by_machine = []
    for kin in groups.values():
        lost = kin.pop(None, [])
        split = list(kin.values()) or [[]]
        split[0].extend(lost)  # a run that failed early may not know its backend
        by_machine.extend(split)
    return by_machine


def _asked(run: Run) -> Asked:
    return Asked() if run.is_full else run.asked  # full tables have one size only


def _row(group: list[Run]) -> Summary:
    newest: dict[int, Run] = {}
    for run in sorted(group, key=lambda run: (run.created, run.id)):
        # A seed that was run twice counts once; a good run is not undone by a later failure.
        if run.ok or run.seed not in newest or not newest[run.seed].ok:
            newest[run.seed] = run
    by_seed = dict(sorted(newest.items()))
    runs = [run for run in by_seed.values() if run.ok]
    first = (runs or list(by_seed.values()))[0]
    asked = _asked(first)
    served = {run.seed: run.metrics["auc"] for run in runs if "auc" in run.metrics}
    before = {run.seed: run.metrics["auc_trained"] for run in runs if "auc_trained" in run.metrics}
    stats = {name: stat(_values(runs, metric)) for name, metric in METRICS.items()}
    return Summary(
        method=first.method,
        name=first.name,
        is_full=first.is_full,
        is_baseline=first.is_baseline,
        plan=first.plan,
        knobs=first.knobs,
        asked_ratio=asked.ratio,
        asked_budget=asked.budget,
        backend=first.backend,
        device=first.device,
        protocol=protocol_key(first),
        runs=runs,
        lost=[run for run in by_seed.values() if not run.ok],
        stats={name: value for name, value in stats.items() if value is not None},
        auc_by_seed=served,
        auc_to_trained=paired(served, before),
    )


def _values(runs: Sequence[Run], metric: Metric) -> list[float]:
    """A metric of each seed; what several seeds share counts once."""
    held = [run for run in runs if metric.name in run.metrics]
    if not metric.of_method:
        return [run.metrics[metric.name] for run in held]
    return list({run.latency_of_seed: run.metrics[metric.name] for run in held}.values())


def full_of(row: Summary, rows: Sequence[Summary]) -> Summary | None:
    """The full tables that a row is held against: of its protocol, on its backend and device where there are such."""
    fulls = [other for other in rows if other.is_full and other.auc_by_seed and other.protocol == row.protocol]
    fulls.sort(key=lambda full: ((full.backend, full.device) != (row.backend, row.device), full.device != row.device))
    return fulls[0] if fulls else None


def _against_full(row: Summary, rows: Sequence[Summary]) -> Summary:
    full = None if row.is_full else full_of(row, rows)
    return replace(row, auc_to_full=paired(row.auc_by_seed, full.auc_by_seed)) if full else row


def _labels(rows: Sequence[Summary]) -> list[str]:
    """The method's spec, of a plan its file's name; where rows share it, also the size asked for, then the backend,
    then a number."""
    methods: dict[str, set[str]] = {}
    for row in rows:
        methods.setdefault(_file_name(row.method), set()).add(row.method)
    labels = [name if len(methods[name := _file_name(row.method)]) == 1 else row.method for row in rows]
    asked = [f" @{row.asked}" if row.asked else "" for row in rows]
    machines = [f" [{row.backend} {row.device}]" for row in rows]
    for extras in (asked, machines):
        shared = [label for label in labels if labels.count(label) > 1]
        labels = [label + extra if label in shared else label for label, extra in zip(labels, extras)]
    seen: dict[str, int] = {}
    unique = []
    for label in labels:
        seen[label] = seen.get(label, 0) + 1
        unique.append(label if seen[label] == 1 else f"{label} #{seen[label]}")
    return unique


def _file_name(method: str) -> str:
    """`plan:folder/small.json` as `plan:small`."""
    kind, colon, path = method.partition(":")
    return f"{kind}:{PurePath(path).stem}" if kind == "plan" and colon else method


def shorten(labels: Sequence[str], width: int) -> list[str]:
    """Labels of at most `width` characters that still differ from one another: the ends tell most, the middle goes."""
    tail = (width - 1) // 3
    short = [label if len(label) <= width else f"{label[: width - 1 - tail]}…{label[-tail:]}" for label in labels]
    return [
        text if short.count(text) == 1 else f"{text[: width - 3]}…{short[: i + 1].count(text)}"
        for i, text in enumerate(short)
    ]
