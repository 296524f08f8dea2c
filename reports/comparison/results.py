"""The sections of the report about results: main table, meaning of columns, tables by size, failures."""

from __future__ import annotations

from collections.abc import Sequence

from embpress.dlrm.runs.record import TableRecord
from embpress.reports import numerals
from embpress.reports.focus import focus
from embpress.reports.metrics import METRICS, show
from embpress.reports.stats import Difference, Stat
from embpress.reports.summary import Summary
from embpress.reports.text import bullets, escape, table
from embpress.reports.uncertainty import columns as uncertainty
from embpress.reports.uncertainty.judge import Judgement

_COLUMNS = [
    *("serving_bytes", "training_bytes", "ratio", "auc", "auc_to_full", "auc_to_trained", "log_loss", "accuracy"),
    *("step_ms", "lookup_p50_us_b128", "lookup_p99_us_b128", "peak_device_bytes"),
]
_MAX_TABLES, _MAX_COLUMNS = 30, 16
_DIFFERENCES = {
    "auc_to_full": (
        "Δ to full",
        "Test AUC minus that of the full tables. Seeds are paired: with the same seed all methods see the same data "
        "order and start from the same dense weights, so the difference is taken for each seed, then averaged. Only a "
        "method that saves by width, as MLET does under a ratio, starts from others: it makes the whole model "
        "narrower, its dense layers included.",
    ),
    "auc_to_trained": (
        "Δ served",
        "Test AUC minus that of the same weights before modifiers of serving, such as fewer bits, have changed them: "
        "what these modifiers cost. Every other column is of the model as it is served.",
    ),
}
_INT8_COLUMN, _INT8_ROW = 4, 8  # bytes of a scale and a bias in bfloat16, as +int8 keeps them, and in float32


def main_table(rows: Sequence[Summary], judged: Judgement | None = None) -> str:
    """One line a method and asked size, mean ± standard deviation over the seeds, and how sure differences are."""
    columns = [name for name in _COLUMNS if name == "auc_to_full" or any(_has(row, name) for row in rows)]
    several = len({row.asked for row in rows if row.asked}) > 1
    at = columns.index("auc_to_full") + 1
    sure = [] if judged is None else uncertainty.columns(judged)
    titles = [*map(title, columns[:at]), *(name for name, _ in sure), *map(title, columns[at:])]
    headers = ["Method", *(["Asked"] if several else []), *titles, "Seeds", "Status"]
    body = [
        [
            escape(row.label),
            *([row.asked or numerals.MISSING] if several else []),
            *(cell(row, name) for name in columns[:at]),
            *(cells.get(row.label, numerals.MISSING) for _, cells in sure),
            *(cell(row, name) for name in columns[at:]),
            str(row.n),
            row.status,
        ]
        for row in rows
    ]
    waited = waits(rows)
    asked = {row.asked for row in rows if row.asked}
    size = f"Asked size: {asked.pop()}. " if len(asked) == 1 else ""
    best = _best_auc(rows)
    reach = f" The data is synthetic; the best reachable test AUC on it is {best:.4f}." if best else ""
    spread = (
        "Mean ± standard deviation over the seeds (sample, n − 1); one seed has no spread. A **bold** Δ is "
        "distinguishable from zero: the 95 % t interval over the paired seeds excludes zero. No correction is made in "
        "it for many comparisons: about one in twenty excludes zero by chance."
        if any(row.n > 1 for row in rows)
        else "One seed was run, so there is no spread over seeds."
        if judged is not None and judged.known
        else "One seed was run, so there is no spread, and which differences are more than chance is unknown."
    )
    told = "" if judged is None else uncertainty.note(judged)
    notes = [f"{size}{spread}{reach}{f' {waited}.' if waited else ''}", told, _against_int8(rows), _baselines(rows)]
    return "\n\n".join([table(headers, body), *(note for note in notes if note)])


def _has(row: Summary, name: str) -> bool:
    return getattr(row, name) is not None if name in _DIFFERENCES else name in row.stats


def _against_int8(rows: Sequence[Summary]) -> str:
    """What the ratios are against full tables in int8, in a sentence; empty where no run tells of its tables."""
    tables = next((row.runs[0].tables for row in rows if row.runs and row.runs[0].tables), ())
    largest = max((row.mean("ratio") or 0 for row in rows), default=0)
    if not tables or largest <= 1:
        return ""
    full = sum(table.full_bytes for table in tables)
    widths = [table.full_bytes // (4 * table.num_embeddings) for table in tables]
    by_column = full / (full / 4 + _INT8_COLUMN * sum(widths))
    by_row = full / (full / 4 + _INT8_ROW * sum(table.num_embeddings for table in tables))
    there = f"{numerals.ratio(largest / by_column)} and {numerals.ratio(largest / by_row)}"
    return (
        "Sizes and ratios are against full tables in float32, 4 bytes an element. Full tables in int8 are "
        f"{numerals.ratio(by_column)} by themselves with a scale and a bias of 2 bytes each for every column, and "
        f"{numerals.ratio(by_row)} with 4 bytes each for every row, as in FBGEMM's format: against them "
        f"{numerals.ratio(largest)} is {there}."
    )


def _baselines(rows: Sequence[Summary]) -> str:
    """Which rows are plain baselines, in a sentence."""
    named = [escape(row.label) for row in rows if row.is_baseline]
    if not named or len(named) == len(rows):
        return ""
    return f"Plain baselines, which people have without a compression method: {', '.join(named)}."


def waits(rows: Sequence[Summary]) -> str:
    """Whose times are too long, and why; empty where nothing waited."""
    late = [row.label for row in rows if row.threads_waited]
    if not late:
        return ""
    named = escape(", ".join(late))
    return f"While these ran, threads waited for each other on a busy machine, and their times are too long: {named}"


def meanings(rows: Sequence[Summary]) -> str:
    """What each column of the main table says, and which way is better."""
    better = {"higher": "higher is better", "lower": "lower is better", None: ""}
    metrics = [METRICS[name] for name in _COLUMNS if any(name in row.stats for row in rows)]
    lines = [(f"{m.title}, {better[m.better]}" if m.better else m.title, m.meaning) for m in metrics]
    lines += [said for name, said in _DIFFERENCES.items() if any(_has(row, name) for row in rows)]
    lines.append(("Seeds", "Runs that ended well; each has its own data order and initial weights."))
    extra = []
    if any(run.data.row0_share for row in rows for run in (*row.runs, *row.lost)):
        extra.append(
            "Row 0 of each table stands for ids that are missing, unseen in training, or too rare for a row of their "
            "own."
        )
    if any(name.startswith("lookup_") for row in rows for name in row.stats):
        extra.append(
            "Lookups are timed with the tables in the form that is served (folded), with ids drawn from a Zipf "
            "distribution, and one call looks up all tables."
        )
    return "\n\n".join(part for part in (bullets(lines), " ".join(extra)) if part)


def table_sizes(rows: Sequence[Summary]) -> str:
    """Rows and bytes of each embedding table under each method; empty where no run tells."""
    told = [row for row in rows if row.runs and row.runs[0].tables]
    shown = focus(told, _MAX_COLUMNS)
    by_method = [{table.feature: table for table in row.runs[0].tables} for row in shown]
    features: dict[str, TableRecord] = {}
    for tables in by_method:
        features = {**tables, **features}
    if not features:
        return ""
    order = sorted(features, key=lambda feature: (-features[feature].full_bytes, feature))
    body = []
    left_full = False
    for feature in order[:_MAX_TABLES]:
        sizes = []
        for row, tables in zip(shown, by_method):
            table_ = tables.get(feature)
            mark = "" if row.is_full or table_ is None or not table_.is_full else " †"
            left_full = left_full or bool(mark)
            sizes.append(show("serving_bytes", None if table_ is None else table_.serving_bytes) + mark)
        shape = features[feature].num_embeddings, features[feature].embedding_dim
        body.append([escape(feature), *(f"{n:,}" for n in shape), *sizes])
    rest = order[_MAX_TABLES:]
    if rest:
        count = sum(features[feature].num_embeddings for feature in rest)
        sums = [sum(tables[f].serving_bytes for f in rest if f in tables) for tables in by_method]
        body.append([f"*{len(rest)} smaller tables*", f"{count:,}", numerals.MISSING, *map(numerals.size, sums)])
    whole = [sum(table.serving_bytes for table in tables.values()) for tables in by_method]
    count = sum(record.num_embeddings for record in features.values())
    body.append(["**All**", f"{count:,}", numerals.MISSING, *map(numerals.size, whole)])
    headers = ["Feature", "Rows", "Width", *(escape(row.label) for row in shown)]
    notes = ["Bytes to serve, first seed. Memory that tables share is divided among them in proportion to their size."]
    if len(shown) < len(told):
        notes.append(f"Of {len(told)} rows these are full tables and those with the best test AUC of each size.")
    if left_full:
        notes.append("† Left a plain table, of the width that the method trains the model at.")
    return f"{table(headers, body)}\n\n{' '.join(notes)}"


def failures(rows: Sequence[Summary]) -> str:
    """Runs without a result and why; empty where all ended well."""
    body = []
    for row in rows:
        for reason in row.reasons:
            seeds = [str(run.seed) for run, why in zip(row.lost, row.lost_reasons) if why == reason]
            body.append([escape(row.label), ", ".join(seeds), escape(reason)])
    return table(["Method", "Seeds", "Reason"], body, left=3) if body else ""


def title(name: str) -> str:
    """What heads the column of a metric or of a difference."""
    if name in _DIFFERENCES:
        return _DIFFERENCES[name][0]
    metric = METRICS[name]
    return f"{metric.title} ({metric.unit})" if metric.unit in ("ms", "µs") else metric.title


def cell(row: Summary, name: str) -> str:
    """A metric of a row as mean ± standard deviation, or a difference, bold where it is beyond chance."""
    if name in _DIFFERENCES:
        difference: Difference | None = getattr(row, name)
        if difference is None:
            return numerals.MISSING
        text = numerals.signed(difference.mean) + _spread(difference, 4)
        return f"**{text}**" if difference.distinguishable else text
    stat, metric = row.stats.get(name), METRICS[name]
    if stat is None:
        return numerals.MISSING
    if metric.unit in ("bytes", "×"):
        return metric.format(stat.mean)
    decimals = numerals.decimals_of(stat.mean) if metric.decimals is None else metric.decimals
    return numerals.plain(stat.mean, decimals) + _spread(stat, decimals)


def _spread(stat: Stat, decimals: int) -> str:
    return "" if stat.sd is None else f" ± {numerals.plain(stat.sd, decimals)}"


def _best_auc(rows: Sequence[Summary]) -> float | None:
    return next((best for row in rows for run in row.runs if (best := run.data.best_auc) is not None), None)
