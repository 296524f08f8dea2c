"""AUC against size, with the Pareto front."""

from __future__ import annotations

import math
from collections.abc import Sequence

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, NullLocator
from matplotlib.transforms import Bbox

from embpress.reports import numerals
from embpress.reports.metrics import METRICS
from embpress.reports.plotting.labels import label_points
from embpress.reports.plotting.pareto import pareto_front
from embpress.reports.plotting.style import FAINT, FULL, figure, looks, spread_text, tidy
from embpress.reports.summary import Summary

TITLE = "Test AUC against size"
CAPTION = (
    "Up and to the left is better. The grey steps are the Pareto front: no measured method is both smaller and better "
    "than one on it."
)


def draw(rows: Sequence[Summary]) -> Figure | None:
    """Mean test AUC against serving bytes, None where no run has both."""
    styles = looks(rows)
    shown = [row for row in rows if "auc" in row.stats and (row.mean("serving_bytes") or 0) > 0]
    if not shown:
        return None
    points = [(row.stats["serving_bytes"].mean, row.stats["auc"].mean) for row in shown]
    spreads = [row.stats["auc"].sd or 0.0 for row in shown]
    fig = figure(5.6 + 0.12 * max(0, len(shown) - 10))  # names need room
    axes = fig.subplots()
    axes.set_xscale("log")
    for row, point, spread in zip(shown, points, spreads):
        style = styles[row.label]
        bars = [[spread], [spread]] if spread else None
        size = 12 if row.is_full else 7.5
        axes.errorbar(
            *point,
            yerr=bars,
            fmt=style.marker,
            color=style.colour,
            markersize=size,
            capsize=3,
            elinewidth=1.2,
            zorder=4,
        )
    _limits(axes, points, spreads)
    _front(axes, points)
    full = next((point for row, point in zip(shown, points) if row.is_full), None)
    if full:
        axes.axhline(full[1], color=FULL, linewidth=1, linestyle=(0, (5, 4)), zorder=2)
    axes.set_xlabel("Bytes needed to serve (log scale, 1 MB = 10⁶ bytes)", fontsize=10)
    axes.set_ylabel(METRICS["auc"].title, fontsize=10)
    line = "; dashed: full tables" if full else ""
    tidy(axes, TITLE, f"{spread_text(shown)}; grey steps: Pareto front{line}")
    fig.tight_layout()
    fig.canvas.draw()
    texts = [_name(styles[row.label].label, row) for row in shown]
    label_points(axes, points, texts, _obstacles(axes, points, spreads, full))
    return fig


def _name(label: str, row: Summary) -> str:
    ratio = row.mean("ratio")
    return label if row.is_full or ratio is None or "@" in label else f"{label}  {numerals.ratio(ratio)}"


def _limits(axes: Axes, points: Sequence[tuple[float, float]], spreads: Sequence[float]) -> None:
    """Room at the sides for names, and round ticks: a log axis of less than a decade has hardly any of its own."""
    low, high = (math.log10(end(x for x, _ in points)) for end in (min, max))
    room = max(0.16 * (high - low), 0.12)
    axes.set_xlim(10 ** (low - room), 10 ** (high + room))
    bottom, top = min(y - s for (_, y), s in zip(points, spreads)), max(y + s for (_, y), s in zip(points, spreads))
    lift = max(0.12 * (top - bottom), 0.0005)
    axes.set_ylim(bottom - lift, top + lift)
    decades = high - low + 2 * room
    per_decade = (1, 2, 5) if decades < 2.5 else (1, 3) if decades < 4 else (1,)
    ticks = [m * 10.0**k for k in range(math.floor(low - room), math.ceil(high + room) + 1) for m in per_decade]
    axes.xaxis.set_major_locator(FixedLocator([t for t in ticks if low - room <= math.log10(t) <= high + room]))
    axes.xaxis.set_major_formatter(lambda value, _: numerals.size(value).replace(".0 ", " "))
    axes.xaxis.set_minor_locator(NullLocator())


def _front(axes: Axes, points: Sequence[tuple[float, float]]) -> None:
    xs, ys = zip(*(points[i] for i in pareto_front(points)))
    right = axes.get_xlim()[1]
    axes.step([*xs, right], [*ys, ys[-1]], where="post", color=FAINT, linewidth=1.4, zorder=3)


def _obstacles(
    axes: Axes, points: Sequence[tuple[float, float]], spreads: Sequence[float], full: tuple[float, float] | None
) -> list[Bbox]:
    """Error bars, the reference line and the front as boxes in pixels."""

    def box(x0: float, y0: float, x1: float, y1: float) -> Bbox:
        corners = axes.transData.transform([(x0, y0), (x1, y1)])
        return Bbox([corners.min(axis=0) - 2, corners.max(axis=0) + 2])

    left, right = axes.get_xlim()
    boxes = [box(x, y - s, x, y + s) for (x, y), s in zip(points, spreads)]
    if full:
        boxes.append(box(left, full[1], right, full[1]))
    front = [points[i] for i in pareto_front(points)]
    for (x, y), (next_x, next_y) in zip(front, [*front[1:], (right, front[-1][1])]):
        boxes += [box(x, y, next_x, y), box(next_x, y, next_x, next_y)]
    return boxes
