"""Seconds to AUC near that of full tables."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, NullLocator

from embpress.reports.pages.targets.data import Line
from embpress.reports.plotting.fonts import short_labels
from embpress.reports.plotting.style import FAINT, figure, look, tidy

_NAME = 34  # letters


def seconds_to(targets: Mapping[str, Sequence[Line]]) -> Figure | None:
    """A row a method and a mark a target, on a log scale; None where nobody reached any."""
    labels = list(dict.fromkeys(line.row.label for lines in targets.values() for line in lines))
    times = [line.seconds.mean for lines in targets.values() for line in lines if line.seconds]
    if not times or min(times) <= 0:
        return None
    fig = figure(2.1 + 0.3 * len(labels))
    axes = fig.subplots()
    axes.set_xscale("log")
    of_label = {
        label: [
            line.seconds.mean
            for lines in targets.values()
            for line in lines
            if line.row.label == label and line.seconds
        ]
        for label in labels
    }
    for y, label in enumerate(labels):
        if of_label[label]:
            axes.plot([min(of_label[label]), max(of_label[label])], [y, y], color=FAINT, linewidth=1.4, zorder=2)
        else:
            axes.annotate(
                "never", (0.01, y), xycoords=("axes fraction", "data"), va="center", fontsize=9, color="#555555"
            )
    for k, (name, lines) in enumerate(targets.items()):
        style = look(k, name)
        points = [(line.seconds.mean, labels.index(line.row.label)) for line in lines if line.seconds]
        if points:
            axes.plot(
                *zip(*points), style.marker, color=style.colour, markersize=11.5 - 2 * k, zorder=4 + k, label=name
            )
    axes.set_yticks(range(len(labels)), short_labels(labels, _NAME), fontsize=9.5)
    for tick in axes.get_yticklabels():
        tick.set_parse_math(False)
    axes.set_ylim(len(labels) - 0.5, -0.5)
    axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axes.xaxis.set_major_formatter(lambda value, _: f"{value:,.10g} s")
    axes.xaxis.set_minor_locator(NullLocator())
    axes.margins(x=0.08)
    axes.set_xlabel(
        "Seconds of training until validation AUC is there (log scale), mean over the seeds that got there", fontsize=10
    )
    tidy(axes, "Seconds to a target AUC", "Left is better; a mark that is missing was not reached")
    fig.legend(*axes.get_legend_handles_labels(), loc="lower center", ncols=len(targets), frameon=False, fontsize=9.5)
    fig.tight_layout(rect=(0, 0.3 / fig.get_figheight(), 1, 1))
    return fig
