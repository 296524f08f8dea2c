"""What each method loses against full tables, a panel a bin of id frequency."""

from __future__ import annotations

from collections.abc import Sequence

from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from embpress.reports.metrics import METRICS
from embpress.reports.pages.frequency.data import Line
from embpress.reports.plotting.fonts import short_labels
from embpress.reports.plotting.style import FULL, figure, looks, tidy

_NAME = 26  # letters


def auc_by_bin(lines: Sequence[Line], bins: Sequence[str]) -> Figure | None:
    """AUC minus full tables in each bin with its interval; None where nothing is held against full tables."""
    shown = [line for line in lines if any(line.scores[("auc", name)].gap for name in bins)]
    if not shown or not bins:
        return None
    styles = looks([line.row for line in lines])
    fig = figure(1.7 + 0.3 * len(shown), 10.0)
    grid = fig.subplots(1, len(bins), sharey=True, sharex=True, squeeze=False)[0]
    for axes, name in zip(grid, bins):
        axes.axvline(0, color=FULL, linewidth=1, linestyle=(0, (5, 4)), zorder=2)
        for y, line in enumerate(shown):
            found = line.scores[("auc", name)].gap
            if found is None:
                continue
            style = styles[line.row.label]
            if found.low is not None and found.high is not None:
                axes.plot([found.low, found.high], [y, y], color=style.colour, linewidth=1.6, zorder=3)
            axes.plot([found.mean], [y], "o", color=style.colour, markersize=6, zorder=4)
        axes.xaxis.set_major_locator(MaxNLocator(3))
        axes.xaxis.set_major_formatter(lambda value, _: f"{value:+.3g}".replace("-", "−") if value else "0")
        tidy(axes, "", name)
    means = [found.mean for line in shown for name in bins if (found := line.scores[("auc", name)].gap)]
    room = 0.15 * (max(*means, 0.0) - min(*means, 0.0)) or 0.001
    grid[0].set_xlim(min(*means, 0.0) - room, max(*means, 0.0) + room)  # long intervals run out of the picture
    grid[0].set_yticks(range(len(shown)), short_labels([line.row.label for line in shown], _NAME), fontsize=9.5)
    for tick in grid[0].get_yticklabels():
        tick.set_parse_math(False)
    grid[0].set_ylim(len(shown) - 0.5, -0.5)
    sure = any(found.low is not None for line in shown for name in bins if (found := line.scores[("auc", name)].gap))
    what = "mean and 95 % interval, paired by seed; long ones run out of the picture" if sure else "one seed"
    fig.supxlabel(f"{METRICS['auc'].title} minus that of full tables, {what}", fontsize=10)
    fig.suptitle("What is lost by id frequency", x=0.01, ha="left", fontsize=12.5, fontweight="bold")
    fig.tight_layout()
    return fig
