"""Validation AUC of each method, read in three ways."""

from __future__ import annotations

from collections.abc import Sequence

from matplotlib.figure import Figure

from embpress.reports.pages.equal_terms.data import Line
from embpress.reports.plotting.fonts import short_labels
from embpress.reports.plotting.style import FAINT, figure, look, tidy

_NAME = 34  # letters
_WAYS = (("bytes", "all epochs"), ("epochs", "equal epochs"), ("seconds", "equal time"))


def three_ways(lines: Sequence[Line]) -> Figure | None:
    """A line a method with a mark for each way; None where no run has a learning curve."""
    shown = [line for line in lines if line.bytes.valid]
    if not shown:
        return None
    fig = figure(1.9 + 0.3 * len(shown))
    axes = fig.subplots()
    names = short_labels([line.row.label for line in shown], _NAME)
    for y, line in enumerate(shown):
        known = [found.mean for way, _ in _WAYS if (found := getattr(line, way).valid)]
        axes.plot([min(known), max(known)], [y, y], color=FAINT, linewidth=1.4, zorder=2)
    for k, (way, name) in enumerate(_WAYS):
        style = look(k, name)
        points = [(found.mean, y) for y, line in enumerate(shown) if (found := getattr(line, way).valid)]
        if points:
            # hollow marks of falling size, so that those at one place all show
            (marks,) = axes.plot(*zip(*points), style.marker, color=style.colour, markersize=10.5 - 2.5 * k, label=name)
            marks.set(markeredgewidth=1.7, zorder=4 + k)
            if k < len(_WAYS) - 1:
                marks.set_markerfacecolor("none")
    axes.set_yticks(range(len(shown)), names, fontsize=9.5)
    for tick in axes.get_yticklabels():
        tick.set_parse_math(False)
    axes.set_ylim(len(shown) - 0.5, -0.5)
    axes.set_xlabel("Validation AUC, mean over the seeds", fontsize=10)
    tidy(axes, "Validation AUC, read in three ways", "Right is better")
    fig.legend(*axes.get_legend_handles_labels(), loc="lower center", ncols=3, frameon=False, fontsize=9.5)
    fig.tight_layout(rect=(0, 0.3 / fig.get_figheight(), 1, 1))
    return fig
