"""How soon hot rows settle, and what a cache of them answers."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, NullLocator

from embpress.reports.pages.hot_rows.data import CachePoint, HotRows, Stability
from embpress.reports.plotting.fonts import short_labels
from embpress.reports.plotting.labels import label_ends, label_points
from embpress.reports.plotting.style import FAINT, FULL, figure, look, tidy

PAPER_CACHE = 1e-4  # of the rows
_WIDTH = 22  # of names, in letters


def fraction_text(fraction: float) -> str:
    """A share of the rows: `0.01 %`."""
    return f"{100 * fraction:.6g} %"


def stability(hot: HotRows) -> Figure | None:
    """Share of the hot rows that stay hot, above; how many change from point to point, below. One column a fraction."""
    fractions = hot.distinct_fractions()
    if not fractions:
        return None
    fig = figure(6.2)
    grid = fig.subplots(2, len(fractions), sharex=True, sharey="row", squeeze=False)
    names = short_labels([table.name for table in hot.tables], _WIDTH)
    lines = [(look(i, name), table.by_fraction, 1.1) for i, (name, table) in enumerate(zip(names, hot.tables))]
    every = look(0, f"all {hot.num_tables} tables")
    progress = [100 * x for x in hot.progress]
    lowest = 99.0
    for column, f in zip(grid.T, fractions):
        drawn: list[tuple[str, str, Any, float, Stability]] = [
            (one.label, one.colour, "-", width, one_by_fraction[f]) for one, one_by_fraction, width in lines
        ]
        drawn.append((every.label, FULL, "-", 2.2, hot.all.by_fraction[f]))
        if hot.all.unshuffled:
            drawn.append((f"{every.label}, in the data's order", FULL, (0, (3, 2)), 1.6, hot.all.unshuffled[f]))
        for label, colour, style, width, stable in drawn:
            draw = {"color": colour, "linestyle": style, "linewidth": width, "label": label}
            column[0].plot(progress, [100 * x for x in stable.in_last], **draw)
            column[1].plot(progress[1:], [100 * (1 - x) for x in stable.kept], **draw)
        ks = [table.k[f] for table in hot.tables]
        span = f"{min(ks):,}" if min(ks) == max(ks) else f"{min(ks):,}–{max(ks):,}"
        rows = "rows" if max(ks) > 1 else "row"
        tidy(column[0], "", f"Top {fraction_text(hot.fractions[f])}: {span} {rows} a table")
        tidy(column[1], "")
        column[1].set_xlabel("Epoch done (%)", fontsize=10)
        column[1].set_xlim(0, 100)
        lowest = min([lowest, *(100 * x for *_, stable in drawn for x in stable.in_last)])
        # from nothing to a few per cent linear, so that no change at all can be seen
        column[1].set_yscale("symlog", linthresh=1)
        column[1].set_ylim(0, 100)
        column[1].yaxis.set_major_locator(FixedLocator([0, 1, 10, 100]))
        column[1].yaxis.set_minor_locator(NullLocator())
        column[1].yaxis.set_major_formatter(lambda value, _: f"{value:g}")
    grid[0, 0].set_ylim(lowest - 0.06 * (100 - lowest), 100 + 0.06 * (100 - lowest))
    grid[0, 0].set_ylabel("Also hot at the end (%)", fontsize=10)
    step = f"{100 * hot.progress[0]:.3g} %"
    grid[1, 0].set_ylabel(f"Changed in the last {step} (%)", fontsize=10)
    fig.suptitle("How soon the hot rows are known", x=0.01, ha="left", fontsize=12.5, fontweight="bold", color=FULL)
    handles, labels = grid[0, 0].get_legend_handles_labels()
    lines_of_names = -(-len(labels) // 4)
    fig.tight_layout(rect=(0, 0.035 * lines_of_names + 0.015, 1, 1))
    legend = fig.legend(handles, labels, loc="lower center", ncol=4, frameon=False, fontsize=9)
    for text in legend.get_texts():
        text.set_parse_math(False)
    return fig


def hit_rates(hot: HotRows, points: Sequence[CachePoint]) -> Figure | None:
    """Share of the test lookups that fall on the rows most frequent in training, by the size of the cache."""
    shown = [table for table in hot.tables if table.answered]
    if not shown:
        return None
    fig = figure(5.2)
    axes = fig.subplots()
    axes.set_xscale("log")
    names = short_labels([table.name for table in hot.tables], _WIDTH)
    ends = []
    xs = list(hot.cache_fractions)
    for i, table in enumerate(hot.tables):
        if table.answered:
            one = look(i, names[i])
            ys = [100 * share for share in table.answered]
            axes.plot(xs, ys, color=one.colour, linestyle=one.line, linewidth=1.4)
            ends.append((xs[-1], ys[-1], one.label, one.colour))
    ys = [100 * share for share in hot.all.answered]
    axes.plot(xs, ys, color=FULL, linewidth=2.4, zorder=3)
    ends.append((xs[-1], ys[-1], f"all {hot.num_tables} tables", FULL))
    axes.axvline(PAPER_CACHE, color=FAINT, linewidth=1, linestyle=(0, (5, 4)), zorder=1)
    axes.set_xlim(xs[0], xs[-1])
    axes.set_ylim(0, 100)
    axes.xaxis.set_major_locator(FixedLocator([10.0**k for k in range(-5, 0)]))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.xaxis.set_major_formatter(lambda value, _: fraction_text(value))
    axes.set_xlabel("Rows in the cache, of each table's rows, at least one (log scale)", fontsize=10)
    axes.set_ylabel("Test lookups answered (%)", fontsize=10)
    measured = "; dots: hit rates that runs measured" if points else ""
    subtitle = f"Rows most frequent in training; dashed: {fraction_text(PAPER_CACHE)}, the TT-Rec paper's{measured}"
    tidy(axes, "What a cache of hot rows answers", subtitle)
    fig.tight_layout()
    fig.subplots_adjust(right=0.77)
    fig.canvas.draw()
    label_ends(axes, ends)
    measured_at = [(min(max(point.fraction, xs[0]), xs[-1]), 100 * point.hit_rate) for point in points]
    for x, y in measured_at:
        axes.plot([x], [y], "o", color=FULL, markersize=7, zorder=5)
    label_points(axes, measured_at, short_labels([point.label for point in points], 30))
    return fig
