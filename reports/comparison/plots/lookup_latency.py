"""How long lookups take, by batch size."""

from __future__ import annotations

import math
from collections.abc import Sequence

from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, NullLocator

from embpress.reports import numerals
from embpress.reports.focus import focus
from embpress.reports.metrics import BATCH_SIZES
from embpress.reports.plotting.hover import hover
from embpress.reports.plotting.style import TEXT, figure, looks, tidy
from embpress.reports.summary import Summary

TITLE = "Lookup latency"
CAPTION = "Time of one call that looks up all tables, by the rows in the batch."

MAX_BARS = 24
_MAX_TICKS = 4


def draw(rows: Sequence[Summary]) -> Figure | None:
    """One group of bars a batch size: p50 as bar, p99 as whisker, log scale; None without times.

    The bars lie flat, so that each method is named beside its bar however long its name is.
    """
    styles = looks(rows, width=26)
    timed = [row for row in rows if any(_p(row, 50, batch) for batch in BATCH_SIZES)]
    shown = focus(timed, MAX_BARS)
    if not shown:
        return None
    times = [t for row in shown for batch in BATCH_SIZES for p in (50, 99) if (t := _p(row, p, batch))]
    low, high = _ends(times)
    fig = figure(1.75 + 0.34 * len(shown))
    grid = fig.subplots(1, len(BATCH_SIZES), sharey=True, squeeze=False)[0]
    for axes, batch in zip(grid, BATCH_SIZES):
        axes.set_xscale("log")
        axes.set_xlim(low, high)
        for i, row in enumerate(shown):
            middle, late = _p(row, 50, batch), _p(row, 99, batch)
            if not middle:
                axes.text(low, i, f" {numerals.MISSING}", va="center", fontsize=9, color=TEXT)
                continue
            late = max(late or middle, middle)
            bars = axes.barh(i, middle - low, left=low, height=0.66, color=styles[row.label].colour, zorder=3)
            hover(bars[0], row.label, [_told(row, batch, middle, late)])
            whisker = axes.plot([middle, late], [i, i], color="#555555", linewidth=1.1, zorder=4)
            whisker += axes.plot([late], [i], color="#555555", marker="|", markersize=7, zorder=4)
            text = numerals.plain(middle, numerals.decimals_of(middle))
            place = {"xytext": (5, 0), "textcoords": "offset points", "va": "center"}
            number = axes.annotate(text, (late, i), fontsize=9, color=TEXT, **place)
            for part in (*whisker, number):
                hover(part, row.label)
        tidy(axes, "", f"Batch of {batch:,}")
        axes.grid(False, axis="y")
        axes.xaxis.set_major_locator(FixedLocator(_ticks(low, high)))
        axes.xaxis.set_major_formatter(lambda value, _: _time(value))
        axes.xaxis.set_minor_locator(NullLocator())
        axes.tick_params(axis="y", length=0)
    grid[0].set_yticks(range(len(shown)), [styles[row.label].label for row in shown], fontsize=9.5)
    for tick in grid[0].get_yticklabels():
        tick.set_parse_math(False)
    grid[0].set_ylim(len(shown) - 0.4, -0.6)
    busy = "\nThreads waited for each other on a busy machine: these times are too long"
    few = f"\n{len(shown)} of {len(timed)} rows: the best test AUC of each size" if len(shown) < len(timed) else ""
    where = sorted({row.device for row in shown if row.device})
    fig.supxlabel(
        f"Time of one lookup call for all tables{' on ' + ', '.join(where) if where else ''} (log scale); "
        f"bar and number: p50 in µs, whisker: p99{few}{busy if any(row.threads_waited for row in shown) else ''}",
        fontsize=10,
    )
    fig.suptitle(TITLE, x=0.01, ha="left", fontsize=12.5, fontweight="bold", color=TEXT)
    fig.tight_layout()
    return fig


def _told(row: Summary, batch: int, middle: float, late: float) -> str:
    return f"{row.label}\nBatch of {batch:,}: p50 {numerals.plain(middle)} µs, p99 {numerals.plain(late)} µs"


def _p(row: Summary, percent: int, batch: int) -> float | None:
    return row.mean(f"lookup_p{percent}_us_b{batch}")


def _ends(times: Sequence[float]) -> tuple[float, float]:
    """From well below the fastest, so that its bar is not a stub, to the slowest with room for its number."""
    start, longest = min(times) / 3, len(f"{max(times):,.0f}")
    return start, start * (max(times) / start) ** (1.2 + 0.04 * max(longest, 3))


def _ticks(low: float, high: float) -> list[float]:
    decades = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    per_decade = (1,) if math.log10(high / low) > 1.6 else (1, 3)
    ticks = [t for k in decades for m in per_decade if low <= (t := m * 10.0**k) <= high]
    return ticks[:: -(-len(ticks) // _MAX_TICKS)]


def _time(value: float) -> str:
    return f"{value:g} µs" if value < 1000 else f"{value / 1000:g} ms" if value < 1e6 else f"{value / 1e6:,.10g} s"
