"""AUC lost over the ratio."""

from __future__ import annotations

from collections.abc import Sequence

from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, NullLocator

from embpress.reports import numerals
from embpress.reports.pages.tolerance.data import LOSSES, Curve
from embpress.reports.plotting.style import FAINT, figure, look, tidy


def losses(curves: Sequence[Curve]) -> Figure:
    """A line a method: its mean AUC minus that of full tables at each ratio."""
    fig = figure(5.2)
    axes = fig.subplots()
    axes.set_xscale("log")
    for loss in (0.0, *LOSSES):
        axes.axhline(-loss, color=FAINT, linewidth=0.9, zorder=1)
    for k, curve in enumerate(curves):
        style = look(k, curve.method)
        axes.plot(
            curve.ratios,
            curve.mean(),
            marker=style.marker,
            color=style.colour,
            linewidth=1.4,
            markersize=6,
            label=curve.method,
            zorder=3,
        )
    ticks = [2.0**k for k in range(12)]
    shown = [
        tick for tick in ticks if min(c.ratios[0] for c in curves) / 1.5 < tick < max(c.ratios[-1] for c in curves)
    ]
    axes.xaxis.set_major_locator(FixedLocator(shown or [curves[0].ratios[0]]))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.xaxis.set_major_formatter(lambda value, _: numerals.ratio(value))
    axes.set_ylim(bottom=max(-0.06, 1.1 * min(min(curve.mean()) for curve in curves)))
    axes.set_xlabel("full bytes / serving bytes", fontsize=10)
    axes.set_ylabel("test AUC minus that of full tables", fontsize=10)
    axes.legend(fontsize=9, frameon=False, loc="lower left")
    tidy(axes, "AUC lost over the ratio", "mean over the seeds; lines across: 0.001, 0.005 and 0.02 lost")
    fig.tight_layout()
    return fig
