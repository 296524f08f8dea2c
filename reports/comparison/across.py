"""Several run folders in one table, a column each: methods on several data sets and at several sizes."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path

from embpress.compressors.errors import InputError, nearest
from embpress.dlrm.runs.record import Run
from embpress.reports import numerals
from embpress.reports.comparison.protocol import command
from embpress.reports.metrics import METRICS, show
from embpress.reports.stats import Difference, paired
from embpress.reports.summary import Summary, summary
from embpress.reports.text import escape, table

# what asked for a size may miss it by, before the cell says which size it is
_NEAR = 0.03


def across(folders: Mapping[str, Sequence[Run]], metric: str = "auc") -> str:
    """Markdown: a number of every method in every folder, and how far it is from the full tables' there.

    Args:
        folders: the runs of each folder, by the name that its column has; a folder with runs at several asked sizes
            has a column for each.
        metric: a name in `METRICS`; test AUC by default.

    Raises:
        InputError: fewer than two columns, or no such metric.
    """
    if metric not in METRICS:
        raise InputError(f"no metric {metric!r}{nearest(metric, METRICS)}")
    columns = _columns(folders)
    if len(columns) < 2:
        raise InputError("a table across run folders needs at least two of them, or one with several asked sizes")
    known = dict.fromkeys(row.method for rows in columns.values() for row in rows if not row.is_full)
    methods = sorted(known, key=lambda method: _rank(method, columns, metric))
    headers = ["Method", *map(escape, columns)]
    full = ["full (1×)", *(_score(_full(rows), metric).removesuffix(" (1.0×)") for rows in columns.values())]
    scores = [[escape(method), *(_score(_of(method, rows), metric) for rows in columns.values())] for method in methods]
    gaps = [
        [escape(method), *(_gap(_of(method, rows), rows, metric) for rows in columns.values())] for method in methods
    ]
    what, seeds = METRICS[metric].title, {row.n for rows in columns.values() for row in rows if row.runs}
    repeats = "\n\n".join(f"{escape(name)}:\n\n{command(runs)}" for name, runs in folders.items())
    return "\n\n".join(
        [
            "# Methods across data sets and sizes",
            f"{what}, mean ± standard deviation over {_span(seeds)} seeds, methods by their mean rank. "
            "A ratio in brackets is that of the row, where it is not the one asked for; with *smallest* it is as small "
            "as the method goes, which was not run.",
            table(headers, [full, *scores]),
            "The same minus the full tables' of the same seed, with half the width of its 95 % t interval over the "
            "seeds; **bold** where that interval excludes zero. No correction is made for many comparisons.",
            table(headers, gaps),
            *_served(headers, methods, columns if metric == "auc" else {}),
            "## Repeat it",
            repeats,
            "",
        ]
    )


def write_across(path: Path, folders: Mapping[str, Sequence[Run]], metric: str = "auc") -> Path:
    """Writes `across` into a file, whole or not at all.

    Raises:
        InputError: see `across`, or the file cannot be written.
    """
    from embpress.dlrm.runs.store import write_text

    return write_text(path, across(folders, metric))


def _columns(folders: Mapping[str, Sequence[Run]]) -> dict[str, list[Summary]]:
    columns: dict[str, list[Summary]] = {}
    for name, runs in folders.items():
        rows = summary(runs)
        sizes = list(dict.fromkeys(row.asked for row in rows if row.asked and not _own_size(row))) or [""]
        for asked in sizes:
            title = f"{name} {asked}".strip() if len(sizes) > 1 else name
            columns[title] = [row for row in rows if row.asked == asked or not row.asked or _own_size(row)]
    return columns


def _own_size(row: Summary) -> bool:
    """Whether the method itself says how small it is to be, whatever was asked of the others."""
    return any(f":{name}=" in row.method for name in ("ratio", "budget"))


def _of(method: str, rows: Sequence[Summary]) -> Summary | None:
    return next((row for row in rows if row.method == method), None)


def _full(rows: Sequence[Summary], like: Summary | None = None) -> Summary | None:
    fulls = (row for row in rows if row.is_full and row.runs)
    return next((row for row in fulls if like is None or row.protocol == like.protocol), None)


def _rank(method: str, columns: Mapping[str, Sequence[Summary]], metric: str) -> float:
    """The mean place of a method in the columns, from 0 (first) to 1 (last, or without a result)."""
    sign = 1 if METRICS[metric].better == "lower" else -1
    places = []
    for rows in columns.values():
        found = {
            row.method: sign * value for row in rows if not row.is_full and (value := row.mean(metric)) is not None
        }
        places.append(sorted(found, key=found.__getitem__).index(method) / len(found) if method in found else 1.0)
    return sum(places) / len(places)


def _score(row: Summary | None, metric: str) -> str:
    if row is None:
        return numerals.MISSING
    if not row.runs:
        smallest = min((run.smallest.ratio for run in row.lost if run.smallest), default=None)
        return "failed" if smallest is None else f"(smallest {numerals.ratio(smallest)})"
    if metric not in row.stats:
        return numerals.MISSING
    found = row.stats[metric]
    spread = "" if found.sd is None else f" ± {show(metric, found.sd)}"
    ratio = row.mean("ratio")
    said = row.asked_ratio is None or _own_size(row) or abs(math.log((ratio or 1) / row.asked_ratio)) > _NEAR
    return f"{show(metric, found.mean)}{spread}{f' ({numerals.ratio(ratio)})' if ratio and said else ''}"


def _gap(row: Summary | None, rows: Sequence[Summary], metric: str) -> str:
    full = _full(rows, row) if row else None
    return _difference(paired(_by_seed(row, metric), _by_seed(full, metric)) if row and full else None, metric)


def _difference(gap: Difference | None, metric: str) -> str:
    if gap is None:
        return numerals.MISSING
    text = ("+" if gap.mean > 0 else "−" if gap.mean < 0 else "") + show(metric, abs(gap.mean))
    if gap.high is not None:
        text += f" ± {show(metric, gap.high - gap.mean)}"
    return f"**{text}**" if gap.distinguishable else text


def _served(headers: Sequence[str], methods: Sequence[str], columns: Mapping[str, Sequence[Summary]]) -> list[str]:
    """What serving costs: of the methods that are served otherwise than they were trained, nothing where none is."""
    found = {
        method: [row.auc_to_trained if (row := _of(method, rows)) else None for rows in columns.values()]
        for method in methods
    }
    cells = [
        [escape(method), *(_difference(gap, "auc") for gap in gaps)] for method, gaps in found.items() if any(gaps)
    ]
    if not cells:
        return []
    about = "The same minus that of the same weights before serving has changed them, as fewer bits do."
    return [about, table(headers, cells)]


def _by_seed(row: Summary, metric: str) -> dict[int, float]:
    return {run.seed: run.metrics[metric] for run in row.runs if metric in run.metrics}


def _span(seeds: set[int]) -> str:
    low, high = min(seeds, default=0), max(seeds, default=0)
    return str(low) if low == high else f"{low} to {high}"
