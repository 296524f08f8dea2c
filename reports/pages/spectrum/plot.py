"""Singular values over their number, a panel a table."""

from __future__ import annotations

from collections.abc import Sequence

from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from embpress.reports.pages.spectrum.data import THRESHOLD, Feature
from embpress.reports.plotting.fonts import short_labels
from embpress.reports.plotting.style import FAINT, figure, look, tidy

_NAME = 26  # letters
_LOWEST = 1e-6  # shown of the largest


def spectra(features: Sequence[Feature]) -> Figure | None:
    """Relative singular values of up to a few tables; None where there are none."""
    if not features:
        return None
    labels = list(dict.fromkeys(f"{one.label}, width {one.width}" for feature in features for one in feature.spectra))
    looks = {label: look(i, name) for i, (label, name) in enumerate(zip(labels, short_labels(labels, 60)))}
    columns = min(2, len(features))
    lines = -(-len(features) // columns)
    legend = 0.23 * -(-len(labels) // 2) + 0.15  # inches
    fig = figure(2.9 * lines + legend)
    grid = fig.subplots(lines, columns, squeeze=False).flatten()
    names = short_labels([feature.name for feature in features], _NAME)
    for axes, name, feature in zip(grid, names, features):
        for one in feature.spectra:
            style = looks[f"{one.label}, width {one.width}"]
            axes.plot(
                range(1, len(one.values) + 1),
                [max(value, _LOWEST) for value in one.values],
                color=style.colour,
                linestyle=style.line,
                marker=style.marker,
                markersize=4.5,
                linewidth=1.4,
                label=style.label,
            )
        axes.axhline(THRESHOLD, color=FAINT, linewidth=1.1, linestyle=(0, (5, 4)), zorder=1)
        axes.set_yscale("log")
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        axes.set_xlabel("Number of the singular value", fontsize=9.5)
        tidy(axes, name, f"{feature.num_embeddings:,} rows; over the largest, log scale")
    for axes in grid[len(features) :]:
        axes.remove()
    fig.tight_layout(rect=(0, legend / fig.get_figheight(), 1, 1), h_pad=1.5, w_pad=2.0)
    handles = {
        text: handle for axes in grid[: len(features)] for handle, text in zip(*axes.get_legend_handles_labels())
    }
    shown = fig.legend(handles.values(), handles.keys(), loc="lower center", ncols=2, frameon=False, fontsize=9.5)
    for text in shown.get_texts():
        text.set_parse_math(False)
    return fig
