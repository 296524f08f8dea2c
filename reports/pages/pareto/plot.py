"""A cost and AUC, with the front."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, NullLocator
from matplotlib.transforms import Bbox

from embpress.reports import numerals
from embpress.reports.metrics import METRICS
from embpress.reports.pages.pareto.data import Cost, Place
from embpress.reports.plotting.labels import label_points
from embpress.reports.plotting.style import FAINT, figure, looks, spread_text, tidy


def front_of(cost: Cost, places: Sequence[Place]) -> Figure | None:
    """Mean AUC over a cost: full marks on the front, hollow ones that may be on it, small grey ones that are off."""
    if not places:
        return None
    styles = looks([place.row for place in places], width=26)
    fig = figure(5.6 + 0.14 * max(0, len(places) - 8))  # names need room
    axes = fig.subplots()
    axes.set_xscale("log")
    _limits(axes, cost, places)
    for place in places:
        style, sd = styles[place.row.label], place.row.stats["auc"].sd or 0.0
        off = place.verdict == "off"
        colour = FAINT if off else style.colour
        axes.errorbar(
            place.cost,
            place.auc,
            yerr=[[sd], [sd]] if sd else None,
            fmt=style.marker,
            color=colour,
            markerfacecolor=colour if place.on or off else "white",
            markersize=(12 if place.row.is_full else 8) - 3 * off,
            elinewidth=1.0,
            capsize=2.5,
            alpha=0.75 if off else 1.0,
            zorder=4,
        )
    on = [(place.cost, place.auc) for place in places if place.on]
    right = axes.get_xlim()[1]
    if len({place.row.protocol for place in places}) == 1:
        axes.step([*(x for x, _ in on), right], [*(y for _, y in on), on[-1][1]], where="post", color=FAINT, zorder=3)
    axes.set_xlabel(cost.axis, fontsize=10)
    axes.set_ylabel(METRICS["auc"].title, fontsize=10)
    marks = "full marks: on the front; hollow: may be; small grey: off beyond chance"
    tidy(
        axes, f"{METRICS['auc'].title} against {cost.name.lower()}", f"{spread_text([p.row for p in places])}; {marks}"
    )
    fig.tight_layout()
    fig.canvas.draw()
    points = [(place.cost, place.auc) for place in places]
    label_points(axes, points, [styles[place.row.label].label for place in places], _bars(axes, places))
    return fig


def _limits(axes: Axes, cost: Cost, places: Sequence[Place]) -> None:
    """Room at the sides for names, and round ticks."""
    low, high = (math.log10(end(place.cost for place in places)) for end in (min, max))
    room = max(0.16 * (high - low), 0.12)
    axes.set_xlim(10 ** (low - room), 10 ** (high + room))
    spreads = [(place.auc, place.row.stats["auc"].sd or 0.0) for place in places]
    bottom, top = min(y - s for y, s in spreads), max(y + s for y, s in spreads)
    lift = max(0.12 * (top - bottom), 0.0005)
    axes.set_ylim(bottom - lift, top + lift)
    decades = high - low + 2 * room
    digits = (1, 2, 3, 5, 7) if decades < 0.9 else (1, 2, 5) if decades < 2.5 else (1, 3) if decades < 4 else (1,)
    ticks = [m * 10.0**k for k in range(math.floor(low - room), math.ceil(high + room) + 1) for m in digits]
    axes.xaxis.set_major_locator(FixedLocator([t for t in ticks if low - room <= math.log10(t) <= high + room]))
    axes.xaxis.set_minor_locator(NullLocator())
    in_bytes = METRICS[cost.metric].unit == "bytes"
    axes.xaxis.set_major_formatter(
        (lambda value, _: numerals.size(value).replace(".0 ", " "))
        if in_bytes
        else (lambda value, _: f"{value:,.10g} µs")
    )


def _bars(axes: Axes, places: Sequence[Place]) -> list[Bbox]:
    """Error bars and the front as boxes in pixels."""
    boxes = []
    on = [axes.transData.transform((place.cost, place.auc)) for place in places if place.on]
    ends = [*(float(x) for x, _ in on[1:]), axes.get_window_extent().x1]
    boxes += [Bbox([(x, y - 2), (end, y + 2)]) for (x, y), end in zip(on, ends)]
    boxes += [Bbox([(x - 2, before), (x + 2, y)]) for (_, before), (x, y) in pairwise(on)]
    for place in places:
        sd = place.row.stats["auc"].sd or 0.0
        (x, low), (_, high) = axes.transData.transform([(place.cost, place.auc - sd), (place.cost, place.auc + sd)])
        boxes.append(Bbox([(x - 2, low - 2), (x + 2, high + 2)]))
    return boxes
