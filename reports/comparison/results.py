"""The sections of the report about results: main table, meaning of columns, tables by size, failures."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from embpress.reports import numerals, records
from embpress.reports.metrics import METRICS, show
from embpress.reports.stats import Stat
from embpress.reports.summary import Summary
from embpress.reports.text import bullets, escape, table

_COLUMNS = [
    *("serving_bytes", "training_bytes", "ratio", "auc", "auc_to_full", "log_loss", "accuracy", "step_ms"),
    *("lookup_p50_us_b128", "lookup_p99_us_b128", "peak_device_bytes"),
]
_MOST_TABLES = 30
_DIFFERENCE = (
    "Δ to full",
    "Test AUC minus that of the full tables. Seeds are paired: with the same seed all methods see the same data order "
    "and start from the same dense weights, so the difference is taken for each seed, then averaged.",
)


def main_table(rows: Sequence[Summary]) -> str:
    """One line a method and asked size, mean ± standard deviation over the seeds."""
    columns = [name for name in _COLUMNS if name == "auc_to_full" or any(name in row.stats for row in rows)]
    several = len({row.asked for row in rows if row.asked}) > 1
    headers = ["Method", *(["Asked"] if several else []), *map(title, columns), "Seeds", "Status"]
    body = [
        [
            escape(row.label),
            *([row.asked or numerals.MISSING] if several else []),
            *(cell(row, name) for name in columns),
            str(row.n),
            row.status,
        ]
        for row in rows
    ]
    asked = {row.asked for row in rows if row.asked}
    size = f"Asked size: {asked.pop()}. " if len(asked) == 1 else ""
    best = _best_auc(rows)
    reach = f" The data is synthetic; the best reachable test AUC on it is {best:.4f}." if best else ""
    return (
        f"{table(headers, body)}\n\n{size}Mean ± standard deviation over the seeds (sample, n − 1); one seed has no "
        "spread. **Bold** differences are distinguishable from zero: the 95 % t interval over the paired seeds leaves "
        f"zero out. Each interval stands for itself; with many methods one in twenty leaves zero out by chance.{reach}"
    )


def meanings(rows: Sequence[Summary]) -> str:
    """What each column of the main table says, and which way is better."""
    better = {"higher": "higher is better", "lower": "lower is better", None: ""}
    found = [METRICS[name] for name in _COLUMNS if any(name in row.stats for row in rows)]
    lines = [(f"{m.title}, {better[m.better]}" if m.better else m.title, m.meaning) for m in found]
    lines.append(_DIFFERENCE)
    lines.append(("Seeds", "Runs that ended well; each has its own data order and initial weights."))
    extra = (
        "Row 0 of each table stands for ids that are missing, unseen in training or too rare for a row of their own. "
        "Lookups are timed with the tables in the form that is served (folded), with ids drawn from a Zipf "
        "distribution, and one call looks up all tables."
    )
    return f"{bullets(lines)}\n\n{extra}"


def table_sizes(rows: Sequence[Summary]) -> str:
    """Rows and bytes of each embedding table under each method; empty where no run tells."""
    shown = [row for row in rows if row.runs and records.items(row.runs[0], "tables")]
    by_method = [
        {str(t.get("feature")): t for t in records.items(row.runs[0], "tables") if isinstance(t, Mapping)}
        for row in shown
    ]
    features: dict[str, Mapping[str, Any]] = {}
    for tables in by_method:
        for feature, found in tables.items():
            features.setdefault(feature, found)
    if not features:
        return ""
    order = sorted(features, key=lambda feature: (-(_number(features[feature], "full_bytes")), feature))
    body = []
    left_full = False
    for feature in order[:_MOST_TABLES]:
        sizes = []
        for row, tables in zip(shown, by_method):
            mark = "" if row.is_full or tables.get(feature, {}).get("method") != "full" else " †"
            left_full = left_full or bool(mark)
            sizes.append(show("serving_bytes", records.finite(tables.get(feature, {}).get("serving_bytes"))) + mark)
        shape = (f"{_number(features[feature], key):,.0f}" for key in ("num_embeddings", "embedding_dim"))
        body.append([escape(feature), *shape, *sizes])
    rest = order[_MOST_TABLES:]
    if rest:
        count = sum(_number(features[feature], "num_embeddings") for feature in rest)
        sums = [sum(_number(tables.get(f, {}), "serving_bytes") for f in rest) for tables in by_method]
        body.append([f"{len(rest)} smaller tables", f"{count:,.0f}", numerals.MISSING, *map(numerals.size, sums)])
    whole = [sum(_number(t, "serving_bytes") for t in tables.values()) for tables in by_method]
    count = sum(_number(found, "num_embeddings") for found in features.values())
    body.append(["**All**", f"{count:,.0f}", numerals.MISSING, *map(numerals.size, whole)])
    headers = ["Feature", "Rows", "Width", *(escape(row.label) for row in shown)]
    notes = ["Bytes to serve, first seed. Memory that tables share is divided among them in proportion to their size."]
    if left_full:
        notes.append("† Left a plain table, of the width that the method trains the model at.")
    return f"{table(headers, body)}\n\n{' '.join(notes)}"


def failures(rows: Sequence[Summary]) -> str:
    """Runs without a result and why; empty where all ended well."""
    body = []
    for row in rows:
        for reason in row.reasons:
            seeds = [record.get("seed") for record, why in zip(row.lost, row.lost_reasons) if why == reason]
            body.append([escape(row.label), escape(", ".join(map(str, seeds))), escape(reason)])
    return table(["Method", "Seeds", "Reason"], body, left=3) if body else ""


def title(name: str) -> str:
    """What heads the column of a metric or of `auc_to_full`."""
    if name == "auc_to_full":
        return _DIFFERENCE[0]
    metric = METRICS[name]
    return f"{metric.title} ({metric.unit})" if metric.unit in ("ms", "µs") else metric.title


def cell(row: Summary, name: str) -> str:
    """A metric of a row, or its `auc_to_full`, as mean ± standard deviation; bold where it is beyond chance."""
    if name == "auc_to_full":
        difference = row.auc_to_full
        if difference is None:
            return numerals.MISSING
        text = numerals.signed(difference.mean) + _spread(difference, 4)
        return f"**{text}**" if difference.distinguishable else text
    found, metric = row.stats.get(name), METRICS[name]
    if found is None:
        return numerals.MISSING
    if metric.unit in ("bytes", "×"):
        return metric.format(found.mean)
    decimals = numerals.decimals_of(found.mean) if metric.decimals is None else metric.decimals
    return numerals.plain(found.mean, decimals) + _spread(found, decimals)


def _spread(found: Stat, decimals: int) -> str:
    return "" if found.sd is None else f" ± {numerals.plain(found.sd, decimals)}"


def _number(found: Mapping[str, Any], name: str) -> float:
    return records.finite(found.get(name)) or 0.0


def _best_auc(rows: Sequence[Summary]) -> float | None:
    known = [records.finite(records.part(run, "data").get("best_auc")) for row in rows for run in row.runs]
    return next((value for value in known if value is not None), None)
