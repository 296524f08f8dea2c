"""Lookups that share their row, measured and by chance."""

from __future__ import annotations

from collections.abc import Sequence

from matplotlib.figure import Figure

from embpress.reports.pages.collisions.data import Line
from embpress.reports.plotting.fonts import short_labels
from embpress.reports.plotting.style import TEXT, figure, looks, tidy

_NAME = 30  # letters
_PANELS = (
    ("whole_train", "whole_expected_train", "Lookups whose whole row\nis another id's too"),
    ("others_train", "others_expected", "Of the lookups of a cell,\nthose of other ids"),
)


def shared_lookups(lines: Sequence[Line]) -> Figure | None:
    """A row a method: measured as a bar, by chance as a line across it; None where there is nothing."""
    shown = [line for line in lines if any(line.numbers[name] for name, *_ in _PANELS)]
    if not shown:
        return None
    styles = looks([line.row for line in lines])
    fig = figure(2.1 + 0.32 * len(shown))
    grid = fig.subplots(1, len(_PANELS), sharey=True)
    for axes, (name, expected, title) in zip(grid, _PANELS):
        for y, line in enumerate(shown):
            found, chance = line.numbers[name], line.numbers[expected]
            if found:
                axes.barh(y, found.mean, height=0.62, color=styles[line.row.label].colour, zorder=3)
            if chance:
                axes.plot([chance.mean] * 2, [y - 0.42, y + 0.42], color=TEXT, linewidth=2.2, zorder=4)
        axes.set_xlim(0, 1.02)
        axes.xaxis.set_major_formatter(lambda value, _: f"{100 * value:.0f} %")
        tidy(axes, "", title)
        axes.grid(False, axis="y")
    grid[0].set_yticks(range(len(shown)), short_labels([line.row.label for line in shown], _NAME), fontsize=9.5)
    for tick in grid[0].get_yticklabels():
        tick.set_parse_math(False)
    grid[0].set_ylim(len(shown) - 0.5, -0.5)
    fig.supxlabel(
        "Mean over the compressed tables, training lookups; black line: a function drawn at random", fontsize=10
    )
    fig.suptitle("Collisions, weighted by traffic", x=0.01, ha="left", fontsize=12.5, fontweight="bold")
    fig.tight_layout()
    return fig
