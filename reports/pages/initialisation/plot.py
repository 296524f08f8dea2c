"""Densities of the initial entries of a tensor-train table."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray

from embpress.reports.pages.initialisation.data import density
from embpress.reports.plotting.style import FAINT, FULL, figure, look, tidy

Floats = NDArray[np.float64]
_REACH = 2.0  # in 1/√n
_BINS = 160


def matched_densities(panels: Sequence[tuple[str, Mapping[str, Floats]]]) -> Figure:
    """Densities of inits that have a full table's variance, one panel a title.

    Args:
        panels: title, and entries in units of `1/√n` by the name of their init.
    """
    fig = figure(4.6)
    grid = fig.subplots(1, len(panels), squeeze=False)[0]
    edges = np.linspace(-_REACH, _REACH, _BINS + 1)
    for axes, (title, draws) in zip(grid, panels):
        axes.plot([-_REACH, -1, -1, 1, 1, _REACH], [0, 0, 0.5, 0.5, 0, 0], color=FULL, lw=1.6, label="full: uniform")
        middle = (edges[1:] + edges[:-1]) / 2
        normal = np.exp(-1.5 * middle**2) * math.sqrt(1.5 / math.pi)  # variance 1/3
        axes.plot(middle, normal, color=FAINT, lw=4, alpha=0.55, label="N(0, 1/(3n))")
        curves = {name: density(values, edges) for name, values in draws.items()}
        for i, (name, curve) in enumerate(curves.items()):
            axes.plot(middle, curve, color=look(i, name).colour, lw=1.5, label=name)
        axes.set_xlim(-_REACH, _REACH)
        # products have a pole at zero: what has none there is shown whole
        tops = [curve.max() for curve in curves.values() if curve.argmax() not in (_BINS // 2 - 1, _BINS // 2)]
        axes.set_ylim(0, 1.12 * max([1.0, *tops]))
        tidy(axes, "", title)
        axes.set_xlabel("Entry of the table × √n", fontsize=10)
    grid[0].set_ylabel("Density", fontsize=10)
    _titled(fig, "Initial entries, all with the variance of a full table", 0.07)
    fig.legend(*grid[0].get_legend_handles_labels(), loc="lower center", ncol=5, frameon=False, fontsize=9)
    return fig


def published_scales(panels: Sequence[tuple[str, Mapping[str, Floats], Floats]]) -> Figure:
    """How large entries are as published, on a log scale, one panel a title.

    Args:
        panels: title, entries over `1/√(3n)` by the name of their init, and those of a full table.
    """
    fig = figure(2.5 * len(panels) + 0.6)
    grid = fig.subplots(len(panels), 1, sharex=True, squeeze=False)[:, 0]
    logs = [
        [("full: uniform", _log(full)), *((name, _log(values)) for name, values in draws.items())]
        for _, draws, full in panels
    ]
    everything = [values for panel in logs for _, values in panel]
    low = math.floor(min(np.quantile(values, 0.01) for values in everything))
    high = math.ceil(max(values.max() for values in everything) + 0.2)
    edges = np.linspace(low, high, max(40, 16 * (high - low)) + 1)
    middle = (edges[1:] + edges[:-1]) / 2
    for axes, (title, _, _), panel in zip(grid, panels, logs):
        for i, (name, values) in enumerate(panel):
            colour = FULL if i == 0 else look(i - 1, name).colour
            height = density(values, edges)
            axes.fill_between(middle, height, color=colour, alpha=0.12, lw=0)
            axes.plot(middle, height, color=colour, lw=1.6, label=name)
        axes.axvline(0, color=FAINT, lw=1, ls=(0, (5, 4)), zorder=1)
        axes.set_ylim(bottom=0)
        tidy(axes, "", title)
        axes.set_ylabel("Density per decade", fontsize=10)
    _decades(grid[-1], low, high)
    grid[-1].set_xlabel("Size of an entry over 1/√(3n), what a full table's have on average (log scale)", fontsize=10)
    grid[0].legend(frameon=False, fontsize=9, loc="upper left")
    return _titled(fig, "Initial entries as the paper's code scales them")


def _decades(axes: Axes, low: int, high: int) -> None:
    step = max(1, round((high - low) / 10))
    axes.set_xlim(low, high)
    axes.set_xticks(range(low, high + 1, step))
    axes.xaxis.set_major_formatter(lambda power, _: f"$10^{{{power:.0f}}}$" if abs(power) > 3 else f"{10.0**power:g}")


def _log(values: Floats) -> Floats:
    size = np.abs(values)
    return np.log10(size[size > 0])


def _titled(fig: Figure, title: str, below: float = 0.0) -> Figure:
    """With a title, and room below for a legend, as a share of the height."""
    fig.suptitle(title, x=0.01, ha="left", fontsize=12.5, fontweight="bold", color=FULL)
    fig.tight_layout(rect=(0, below, 1, 1))
    return fig
