"""All runs as one table, for CSV, JSON and notebooks."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import pandas as pd

from embpress.reports import records
from embpress.reports.metrics import METRICS
from embpress.reports.records import Record

# The order is part of the format: people read these columns by eye first.
FIRST = [
    *("method", "knobs", "seed", "serving_bytes", "training_bytes", "ratio", "auc", "auc_last", "log_loss", "accuracy"),
    *("step_ms", "train_seconds", "peak_memory_bytes", "lookup_p50_us_b1", "lookup_p50_us_b128", "lookup_p99_us_b128"),
    *("lookup_p50_us_b2048", "inference_samples_per_s", "status", "backend", "device"),
]
LAST = [
    *("asked_ratio", "asked_budget", "reason", "smallest_bytes", "smallest_ratio", "name", "model", "data"),
    *("fingerprint", "created", "id"),
]
COLUMNS = [*FIRST, *(name for name in METRICS if name not in FIRST), *LAST]
_WHOLE = [name for name, metric in METRICS.items() if metric.unit == "bytes"]
_WHOLE += ["seed", "best_epoch", "asked_budget", "smallest_bytes"]
_NUMBERS = [*METRICS, "seed", "asked_ratio", "asked_budget", "smallest_bytes", "smallest_ratio"]


def runs_frame(runs: Iterable[Record]) -> pd.DataFrame:
    """One row a run, in the order given; metrics that no release knows yet follow at the end."""
    rows = list(runs)
    known = set(METRICS)
    extra = sorted({name for row in rows for name in records.part(row, "metrics")} - known - set(COLUMNS))
    frame = pd.DataFrame([_row(row, extra) for row in rows], columns=[*COLUMNS, *extra])
    for name in [*_NUMBERS, *extra]:
        # A missing count must not turn the others of its column into fractions.
        whole = name in _WHOLE
        column = pd.to_numeric(frame[name])
        frame[name] = column.round().astype("Int64") if whole else column.astype("float64")
    return frame


def to_csv(runs: Iterable[Record]) -> str:
    """The runs as CSV, missing values empty."""
    text: str = runs_frame(runs).to_csv(index=False, lineterminator="\n")
    return text


def to_json(runs: Iterable[Record]) -> str:
    """The runs as a JSON list of flat objects with the CSV's columns, missing values null."""
    text: str = runs_frame(runs).to_json(orient="records", indent=2, force_ascii=False, double_precision=15)
    return f"{text}\n"


def _row(record: Record, extra: list[str]) -> dict[str, Any]:
    asked, smallest = records.part(record, "asked"), records.part(record, "smallest")
    data = records.part(record, "data")
    return {
        **{name: records.metric(record, name) for name in [*METRICS, *extra]},
        **{name: record.get(name) for name in ("status", "backend", "device", "reason", "name", "created", "id")},
        "method": records.method(record),
        "knobs": records.knobs_text(records.part(record, "knobs")),
        "seed": records.finite(record.get("seed")),
        "asked_ratio": records.finite(asked.get("ratio")),
        "asked_budget": records.finite(asked.get("budget")),
        "smallest_bytes": records.finite(smallest.get("bytes")),
        "smallest_ratio": records.finite(smallest.get("ratio")),
        "model": records.part(record, "model").get("name"),
        "data": data.get("name"),
        "fingerprint": data.get("fingerprint"),
    }
