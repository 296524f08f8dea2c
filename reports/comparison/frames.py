"""All runs as one table, for CSV, JSON and notebooks."""

from __future__ import annotations

import os
from collections.abc import Iterable
from dataclasses import fields
from pathlib import Path
from typing import Any

import pandas as pd

from embpress.dlrm.runs.record import Run
from embpress.dlrm.runs.store import read_all
from embpress.reports import records
from embpress.reports.metrics import METRICS

# The order is part of the format: people read these columns by eye first.
FIRST = [
    *("method", "knobs", "seed", "serving_bytes", "training_bytes", "ratio", "auc", "auc_last", "log_loss", "accuracy"),
    *("step_ms", "train_seconds", "peak_memory_bytes", "lookup_p50_us_b1", "lookup_p50_us_b128", "lookup_p99_us_b128"),
    *("lookup_p50_us_b2048", "inference_samples_per_s", "status", "backend", "device"),
]
LAST = [
    *("asked_ratio", "asked_budget", "reason", "smallest_bytes", "smallest_ratio", "name", "modifiers", "model"),
    *("preset", "data", "fingerprint", "latency_of_seed", "created", "id", "tuned"),
]
COLUMNS = [*FIRST, *(name for name in METRICS if name not in FIRST), *LAST]
_WHOLE = [name for name, metric in METRICS.items() if metric.unit == "bytes"]
_WHOLE += ["seed", "best_epoch", "asked_budget", "smallest_bytes", "latency_of_seed"]
_NUMBERS = [*METRICS, "seed", "asked_ratio", "asked_budget", "smallest_bytes", "smallest_ratio", "latency_of_seed"]


def load(folder: str | os.PathLike[str]) -> pd.DataFrame:
    """The runs of a run folder, one row each.

    Args:
        folder: of `embpress compare` or `train`, by any version.

    Raises:
        InputError: no such folder, no records in it, a damaged or foreign one, or runs that cannot be compared.
    """
    return runs_frame(read_all(Path(folder)))


def runs_frame(runs: Iterable[Run]) -> pd.DataFrame:
    """One row a run, in the order given; metrics that no release knows yet follow at the end."""
    rows = list(runs)
    extra = sorted({name for row in rows for name in row.metrics} - set(COLUMNS))
    frame = pd.DataFrame([_row(row, extra) for row in rows], columns=[*COLUMNS, *extra])
    for name in [*_NUMBERS, *extra]:
        # A missing count must not turn the others of its column into fractions.
        whole = name in _WHOLE
        column = pd.to_numeric(frame[name])
        frame[name] = column.round().astype("Int64") if whole else column.astype("float64")
    return frame


def to_csv(runs: Iterable[Run]) -> str:
    """The runs as CSV, missing values empty."""
    text: str = runs_frame(runs).to_csv(index=False, lineterminator="\n")
    return text


def to_json(runs: Iterable[Run]) -> str:
    """The runs as a JSON list of flat objects with the CSV's columns, missing values null."""
    text: str = runs_frame(runs).to_json(orient="records", indent=2, force_ascii=False, double_precision=15)
    return f"{text}\n"


def _row(run: Run, extra: list[str]) -> dict[str, Any]:
    plain = {name: getattr(run, name) for name in (*(f.name for f in fields(run)), "id") if name in COLUMNS}
    return {
        **plain,
        **{name: run.metrics.get(name) for name in [*METRICS, *extra]},
        "knobs": records.knobs_text(run.knobs),
        "tuned": run.tuned and records.knobs_text(run.tuned.chosen),
        "modifiers": " ".join(run.modifiers),
        "asked_ratio": run.asked.ratio,
        "asked_budget": run.asked.budget,
        "smallest_bytes": run.smallest and run.smallest.bytes,
        "smallest_ratio": run.smallest and run.smallest.ratio,
        "model": run.model.get("name"),
        "preset": run.model.get("preset"),
        "data": run.data.name,
        "fingerprint": run.data.fingerprint,
    }
