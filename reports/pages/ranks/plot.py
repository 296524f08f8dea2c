"""AUC over the rank of tensor-train tables, and over the bytes that the rank costs."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, NullLocator
from matplotlib.transforms import ScaledTranslation

from embpress.reports import numerals
from embpress.reports.metrics import METRICS
from embpress.reports.pages.ranks.data import Point, RankLines
from embpress.reports.plotting.fonts import short_labels
from embpress.reports.plotting.style import FAINT, FULL, figure, look, spread_text, tidy
from embpress.reports.summary import Summary

_NAME = 56  # letters
_NEAREST = 0.28  # of an octave, between two ticks with a number
# points from the first to the last of the marks at one place, and between two of them, at most; a rank is known to be
# whole, while a shifted size would be read as another
_RANK_SPAN, _SIZE_SPAN, _APART = 30.0, 9.0, 4.5


def auc_over_rank(ranks: RankLines) -> Figure | None:
    """Mean test AUC over rank on the left and over serving bytes on the right; None without tensor-train runs."""
    if not ranks.lines:
        return None
    entries = len(ranks.lines) + (ranks.full is not None)
    columns = 3 if max(len(line.label) for line in ranks.lines) < 30 else 2
    legend = 0.23 * -(-entries // columns) + 0.15  # inches
    fig = figure(4.4 + legend, 10.5)
    sized = any(point.bytes > 0 for line in ranks.lines for point in line.points)
    grid = fig.subplots(1, 2 if sized else 1, sharey=True, squeeze=False)[0]
    _draw(grid[0], ranks, lambda point: float(point.rank), _RANK_SPAN)
    _limits(grid[0], [float(rank) for rank in ranks.ranks], 0.5)
    _ticks(grid[0], [float(rank) for rank in ranks.ranks], lambda value: f"{value:g}")
    grid[0].set_xlabel("Rank (log scale)", fontsize=10)
    grid[0].set_ylabel(METRICS["auc"].title, fontsize=10)
    rows = [point.row for line in ranks.lines for point in line.points]
    rows += [ranks.full] if ranks.full else []
    tidy(grid[0], "Test AUC against rank", spread_text(rows))
    if sized:
        _draw(grid[1], ranks, lambda point: point.bytes, _SIZE_SPAN)
        sizes = [point.bytes for line in ranks.lines for point in line.points if point.bytes > 0]
        _limits(grid[1], sizes, 0.5)
        _ticks(grid[1], _round_sizes(*grid[1].get_xlim()), _size)
        grid[1].set_xlabel("Bytes needed to serve (log scale, 1 MB = 10⁶ bytes)", fontsize=10)
        tidy(grid[1], "… and against size", _full_size(ranks.full))
    _heights(grid[0], rows)
    fig.tight_layout(rect=(0, legend / fig.get_figheight(), 1, 1), w_pad=2.0)
    names = fig.legend(
        *grid[0].get_legend_handles_labels(), loc="lower center", ncols=columns, frameon=False, fontsize=9.5
    )
    for text in names.get_texts():
        text.set_parse_math(False)
    return fig


def _draw(axes: Axes, ranks: RankLines, position: Callable[[Point], float], span: float) -> None:
    axes.set_xscale("log", base=2)
    if ranks.full:
        auc = ranks.full.stats["auc"]
        axes.axhline(auc.mean, color=FULL, linewidth=1.2, linestyle=(0, (5, 4)), zorder=2, label="full tables")
        if auc.sd:
            axes.axhspan(auc.mean - auc.sd, auc.mean + auc.sd, color=FAINT, alpha=0.22, linewidth=0, zorder=1)
    names = short_labels([line.label for line in ranks.lines], _NAME)
    for i, (name, line) in enumerate(zip(names, ranks.lines)):
        shown = sorted((point for point in line.points if position(point) > 0), key=position)
        if not shown:
            continue
        style = look(i, name)
        # marks of several lines at one place would hide one another
        shift = min(_APART, span / len(ranks.lines)) * (i - (len(ranks.lines) - 1) / 2) / 72
        axes.errorbar(
            [position(point) for point in shown],
            [point.auc for point in shown],
            yerr=[point.row.stats["auc"].sd or 0.0 for point in shown],
            fmt=style.marker,
            linestyle=style.line,
            color=style.colour,
            markersize=6,
            linewidth=1.5,
            elinewidth=1.1,
            capsize=2.5,
            zorder=4,
            label=style.label,
            transform=axes.transData + ScaledTranslation(shift, 0, axes.figure.dpi_scale_trans),
        )


def _limits(axes: Axes, values: Sequence[float], room: float) -> None:
    """From the smallest to the largest with some octaves to spare."""
    low, high = math.log2(min(values)), math.log2(max(values))
    room = max(room, 0.06 * (high - low))
    axes.set_xlim(2 ** (low - room), 2 ** (high + room))


def _ticks(axes: Axes, values: Sequence[float], text: Callable[[float], str]) -> None:
    low, high = axes.get_xlim()
    kept: list[float] = []
    for value in values:
        if low <= value <= high and (not kept or math.log2(value / kept[-1]) >= _NEAREST):
            kept.append(value)
    axes.xaxis.set_major_locator(FixedLocator(kept))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.xaxis.set_major_formatter(lambda value, _: text(value))


def _round_sizes(low: float, high: float) -> list[float]:
    """Four to eight round numbers of bytes."""
    choices: list[Sequence[float]] = [(1,), (1, 3), (1, 2, 5), (1, 1.5, 2, 3, 5, 7), range(1, 10)]
    choices += [[1 + k / 2 for k in range(18)], [1 + k / 10 for k in range(90)]]
    sizes: list[float] = []
    for digits in choices:
        decades = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
        sizes = [digit * 10.0**k for k in decades for digit in digits if low <= digit * 10.0**k <= high]
        if len(sizes) >= 4:
            break
    return sizes[:: -(-len(sizes) // 8)] if sizes else [low]


def _size(value: float) -> str:
    return numerals.size(value).replace(".0 ", " ")


def _heights(axes: Axes, rows: Sequence[Summary]) -> None:
    spans = [(row.stats["auc"].mean, row.stats["auc"].sd or 0.0) for row in rows]
    low, high = min(mean - sd for mean, sd in spans), max(mean + sd for mean, sd in spans)
    room = max(0.08 * (high - low), 0.0005)
    axes.set_ylim(low - room, high + room)


def _full_size(full: Summary | None) -> str:
    size = full.mean("serving_bytes") if full else None
    return f"Full tables: {_size(size)}" if size else "Size of full tables unknown"
