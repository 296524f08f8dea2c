"""The page about hot rows: how soon they are known (TT-Rec's Figure 9), and what a cache of them answers."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from embpress.dlrm.runs.record import Run
from embpress.reports import numerals
from embpress.reports.pages.hot_rows import TITLE
from embpress.reports.pages.hot_rows.data import HotRows, HotTable, cache_points, hot_rows_of
from embpress.reports.pages.hot_rows.plot import PAPER_CACHE, fraction_text, hit_rates, stability
from embpress.reports.plotting.save import save_all
from embpress.reports.text import escape, table

_PLOTS = ("hot_rows_stability.png", "hot_rows_cache.png")
_POINTS = (0.05, 0.1, 0.2, 0.5)  # of the epoch
_SIZES = (1e-5, 1e-4, 1e-3, 1e-2, 1e-1)  # of the rows


def make(plots: Path, runs: Sequence[Run]) -> str:
    """Draws the plots into the folder and gives the page's markdown."""
    hot = hot_rows_of(runs)
    points = cache_points(runs)
    save_all(
        plots,
        {
            _PLOTS[0]: lambda: stability(hot) if hot else None,
            _PLOTS[1]: lambda: hit_rates(hot, points) if hot else None,
        },
    )
    parts = [f"# {TITLE}"]
    if hot is None:
        parts.append(
            "The records of these runs do not hold what this page needs, the counts of hot rows (`hot_rows`): they "
            "were made by a version that did not count them. The counts depend on the data alone, so one new run in "
            "this folder is enough, for example of another seed."
        )
    elif not hot.num_tables:
        parts.append(f"No table has {hot.min_rows} rows or more, so there is nothing that a cache would be of use for.")
    else:
        parts += [_intro(hot), "## How soon they are known", *_stability(hot), "## What a cache of them answers"]
        parts += _cache(hot, bool(points))
    return "\n\n".join(parts) + "\n"


def _intro(hot: HotRows) -> str:
    return (
        "Few ids make up most of the lookups: in large tables some rows are looked up again and again and most rows "
        "hardly ever. A compressed table can therefore keep its most frequent rows, the *hot* ones, uncompressed "
        "in a small cache beside it: they are read faster, and they are learned without the error of the compression. "
        "That pays only if training shows soon which rows are hot, if they stay so, and if few rows answer many "
        "lookups. This page counts all three from the ids of the data, whatever the method. Counted are the "
        f"{hot.num_tables} tables of {hot.min_rows} rows or more, as smaller ones are left uncompressed by default; "
        "row 0, which stands for missing, unseen and rare ids, is a row like the others here, and often a hot one."
    )


def _stability(hot: HotRows) -> list[str]:
    marks = [(point, index) for point in _POINTS if (index := _nearest(hot.progress, point)) is not None]
    body = []
    for i in hot.distinct_fractions():
        for how, found in (("shuffled", hot.all.by_fraction), ("in the data's order", hot.all.unshuffled)):
            if found:
                shares = [numerals.percent(found[i].in_last[index]) for _, index in marks]
                change = numerals.percent(1 - found[i].kept[-1])
                body.append([f"{fraction_text(hot.fractions[i])}, {how}", f"{hot.all.k[i]:,}", *shares, change])
    heads = [f"After {fraction_text(point)}" for point, _ in marks]
    return [
        f"![Stability of the hot rows](plots/{_PLOTS[0]})",
        "At each point of the first epoch (seed 0), hot are the rows with the most lookups so far: 0.01 % of the rows "
        "of each table, which is what the TT-Rec paper caches, and some larger shares, at least one row each. Above: "
        "how many of them are also hot when the epoch ends. Below: how many of them were not hot at the point before, "
        "which is what Figure 9 of that paper shows. Where the lower lines come down to a few per cent the cache can "
        "be filled, and what was trained in it is not lost again. Training draws the samples in random order, so "
        "nothing drifts and the lines show only how soon counting tells the frequent rows from the rest. The dashed "
        "line takes the samples in the order of the data: where that is the order of time and the line lies clearly "
        "apart from the thick one, the hot rows themselves change over time.",
        table(["Hot rows, all tables", "Rows", *heads, "Changed at the end"], body),
        "The columns *after* are the share of the then hot rows that are hot at the end as well, the last one is the "
        "share that the last step of the epoch replaced.",
    ]


def _cache(hot: HotRows, measured: bool) -> list[str]:
    indices = [index for size in _SIZES if (index := _nearest(hot.cache_fractions, size)) is not None]
    body = [_answers(one, escape(one.name), indices) for one in hot.tables]
    body.append(_answers(hot.all, f"**All {hot.num_tables}**", indices))
    heads = [fraction_text(hot.cache_fractions[index]) for index in indices]
    mark = _nearest(hot.cache_fractions, PAPER_CACHE)
    sentence = ""
    if mark is not None and hot.all.answered:
        share = numerals.percent(hot.all.answered[mark])
        sentence = f" Here {fraction_text(PAPER_CACHE)} of the rows of these tables answers {share} of their lookups."
    dots = (
        " The dots are hit rates that runs with a cache measured."
        if measured
        else " No run of this report had a cache whose hit rate was measured."
    )
    return [
        f"![Lookups that a cache answers](plots/{_PLOTS[1]})",
        "The share of the *test* lookups that fall on the rows which *training* looked up most, for caches of 0.001 % "
        "to 10 % of the rows of each table, at least one row. It is what a cache filled once, after training, would "
        "answer; one that is filled earlier knows less. The TT-Rec paper finds 0.01 % of the rows sufficient; small "
        f"tables have no such small share, so their lines are level where it would be less than one row.{sentence}"
        f"{dots}",
        table(["Table", "Rows", "Test lookups", "Row 0", *heads], body),
        "*Row 0* is the share of the test lookups that fall on the row for missing, unseen and rare ids: where it is "
        "hot it takes up one row of the cache, and what it answers says little about single ids.",
    ]


def _answers(one: HotTable, name: str, indices: Sequence[int]) -> list[str]:
    shares = [numerals.percent(one.answered[index]) if one.answered else numerals.MISSING for index in indices]
    row0 = numerals.percent(one.row0) if one.lookups else numerals.MISSING
    return [name, f"{one.num_embeddings:,}", f"{one.lookups:,}", row0, *shares]


def _nearest(values: Sequence[float], wanted: float) -> int | None:
    """Place of a value among those of a record, None where it is not there."""
    return next((i for i, value in enumerate(values) if abs(value - wanted) < 1e-3 * wanted), None)
