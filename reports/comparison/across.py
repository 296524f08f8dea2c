"""Several run folders in one table, a column each: methods on several data sets and at several sizes."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path

from embpress.compressors.errors import InputError
from embpress.dlrm.runs.record import Run
from embpress.reports import numerals
from embpress.reports.comparison.protocol import command
from embpress.reports.metrics import show
from embpress.reports.summary import Summary, summary
from embpress.reports.text import escape, table

# what asked for a size may miss it by, before the cell says which size it is
_NEAR = 0.03


def across(folders: Mapping[str, Sequence[Run]]) -> str:
    """Markdown: test AUC of every method in every folder, and how far it is from the full tables there.

    Args:
        folders: the runs of each folder, by the name that its column has; a folder with runs at several asked sizes
            has a column for each.

    Raises:
        InputError: fewer than two columns.
    """
    columns = _columns(folders)
    if len(columns) < 2:
        raise InputError("a table across run folders needs at least two of them, or one with several asked sizes")
    methods = dict.fromkeys(row.method for rows in columns.values() for row in rows if not row.is_full)
    methods = sorted(methods, key=lambda method: _rank(method, columns))
    headers = ["Method", *map(escape, columns)]
    full = ["full", *(_auc(next((row for row in rows if row.is_full), None)) for rows in columns.values())]
    scores = [[escape(method), *(_auc(_of(method, rows)) for rows in columns.values())] for method in methods]
    gaps = [[escape(method), *(_gap(_of(method, rows)) for rows in columns.values())] for method in methods]
    seeds = {row.n for rows in columns.values() for row in rows if row.runs}
    repeats = "\n\n".join(f"{escape(name)}:\n\n{command(runs)}" for name, runs in folders.items())
    return "\n\n".join(
        [
            "# Methods across data sets and sizes",
            f"Test AUC, mean ± standard deviation over {_span(seeds)} seeds, methods by their mean rank. "
            "A ratio in brackets is that of the row, where it is not the one asked for; with *smallest* it is as small "
            "as the method goes, which was not run.",
            table(headers, [full, *scores]),
            "The same minus the full tables' of the same seed, with half the width of its 95 % t interval over the "
            "seeds; **bold** where that interval excludes zero. No correction is made for many comparisons.",
            table(headers, gaps),
            "## Repeat it",
            repeats,
            "",
        ]
    )


def write_across(path: Path, folders: Mapping[str, Sequence[Run]]) -> Path:
    """Writes `across` into a file, whole or not at all.

    Raises:
        InputError: see `across`, or the file cannot be written.
    """
    from embpress.dlrm.runs.store import write_text

    return write_text(path, across(folders))


def _columns(folders: Mapping[str, Sequence[Run]]) -> dict[str, list[Summary]]:
    columns: dict[str, list[Summary]] = {}
    for name, runs in folders.items():
        rows = summary(runs)
        sizes = list(dict.fromkeys(row.asked for row in rows if row.asked)) or [""]
        for asked in sizes:
            title = f"{name} {asked}".strip() if len(sizes) > 1 else name
            columns[title] = [row for row in rows if row.asked == asked or not row.asked]
    return columns


def _of(method: str, rows: Sequence[Summary]) -> Summary | None:
    return next((row for row in rows if row.method == method), None)


def _rank(method: str, columns: Mapping[str, Sequence[Summary]]) -> float:
    """The mean place of a method in the columns, from 0 (first) to 1 (last, or without a result)."""
    places = []
    for rows in columns.values():
        order = [row.method for row in rows if row.runs and not row.is_full]
        places.append(order.index(method) / len(order) if method in order else 1.0)
    return sum(places) / len(places)


def _auc(row: Summary | None) -> str:
    if row is None:
        return numerals.MISSING
    if not row.runs:
        smallest = min((run.smallest.ratio for run in row.lost if run.smallest), default=None)
        return "failed" if smallest is None else f"(smallest {numerals.ratio(smallest)})"
    found = row.stats["auc"]
    spread = "" if found.sd is None else f" ± {show('auc', found.sd)}"
    ratio = row.mean("ratio")
    other = ratio and row.asked_ratio and abs(math.log(ratio / row.asked_ratio)) > _NEAR
    return f"{show('auc', found.mean)}{spread}{f' ({numerals.ratio(ratio)})' if other else ''}"


def _gap(row: Summary | None) -> str:
    gap = row.auc_to_full if row else None
    if gap is None:
        return numerals.MISSING
    text = numerals.signed(gap.mean)
    if gap.high is not None:
        text += f" ± {show('auc', gap.high - gap.mean)}"
    return f"**{text}**" if gap.distinguishable else text


def _span(seeds: set[int]) -> str:
    low, high = min(seeds, default=0), max(seeds, default=0)
    return str(low) if low == high else f"{low} to {high}"
