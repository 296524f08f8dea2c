"""AUC against size, with the Pareto front."""

from __future__ import annotations

import math
from collections.abc import Sequence

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, NullLocator
from matplotlib.transforms import Bbox

from embpress.reports import numerals
from embpress.reports.focus import focus
from embpress.reports.metrics import METRICS, show
from embpress.reports.plotting.hover import hover
from embpress.reports.plotting.labels import label_points
from embpress.reports.plotting.pareto import pareto_front
from embpress.reports.plotting.style import FAINT, FULL, figure, looks, spread_text, tidy
from embpress.reports.summary import Summary

TITLE = "Test AUC against size"
CAPTION = (
    "Up and to the left is better. The grey steps are the Pareto front: no measured method is both smaller and better "
    "than one on it."
)

MAX_NAMED, FEW = 20, 13  # more names than this cover one another; of more so many are named


def draw(rows: Sequence[Summary]) -> Figure | None:
    """Mean test AUC against serving bytes, None where no run has both."""
    styles = looks(rows)
    shown = [row for row in rows if "auc" in row.stats and (row.mean("serving_bytes") or 0) > 0]
    if not shown:
        return None
    named = {row.label for row in focus(shown, MAX_NAMED if len(shown) <= MAX_NAMED else FEW)}
    points = [(row.stats["serving_bytes"].mean, row.stats["auc"].mean) for row in shown]
    spreads = [row.stats["auc"].sd or 0.0 for row in shown]
    fig = figure(5.6 + 0.12 * max(0, len(named) - 10))  # names need room
    axes = fig.subplots()
    axes.set_xscale("log")
    for row, point, spread in zip(shown, points, spreads):
        style = styles[row.label]
        bars = [[spread], [spread]] if spread else None
        size = 12 if row.is_full else 7.5 if row.label in named else 5
        drawn = axes.errorbar(
            *point,
            yerr=bars,
            fmt=style.marker,
            color=style.colour,
            markersize=size,
            capsize=3,
            elinewidth=1.2,
            zorder=4 if row.label in named else 3,
            alpha=None if row.label in named else 0.4,
        )
        hover(drawn.lines[0], row.label, [_told(row)])
        for part in (*drawn.lines[1], *drawn.lines[2]):
            hover(part, row.label)
    _limits(axes, points, spreads)
    _front(axes, points)
    full = next((point for row, point in zip(shown, points) if row.is_full), None)
    if full:
        axes.axhline(full[1], color=FULL, linewidth=1, linestyle=(0, (5, 4)), zorder=2)
    axes.set_xlabel("Bytes needed to serve (log scale, 1 MB = 10⁶ bytes)", fontsize=10)
    axes.set_ylabel(METRICS["auc"].title, fontsize=10)
    line = "; dashed: full tables" if full else ""
    few = f"; named: {len(named)} of {len(shown)} rows" if len(named) < len(shown) else ""
    tidy(axes, TITLE, f"{spread_text(shown)}; grey steps: Pareto front{line}{few}")
    fig.tight_layout()
    fig.draw_without_rendering()
    said = [(row, point) for row, point in zip(shown, points) if row.label in named]
    texts = [_name(styles[row.label].label, row) for row, _ in said]
    obstacles = _obstacles(axes, points, spreads, full)
    for (row, _), text in zip(said, label_points(axes, [point for _, point in said], texts, obstacles)):
        hover(text, row.label)
    return fig


def _told(row: Summary) -> str:
    """What is told of a point."""
    auc = row.stats["auc"]
    lines = [row.label, f"{METRICS['auc'].title} {numerals.score(auc.mean)}"]
    if auc.sd is not None:
        lines[1] += f" ± {numerals.score(auc.sd)} over {auc.n} seeds"
    gap = row.auc_to_full
    if gap is not None:
        ends = " to ".join(numerals.signed(end) for end in (gap.low, gap.high) if end is not None)
        lines.append(f"{numerals.signed(gap.mean)}{f' ({ends})' if ends else ''} to full tables")
    size = " at ".join(show(name, row.mean(name)) for name in ("serving_bytes", "ratio"))
    return "\n".join([*lines, size])


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
