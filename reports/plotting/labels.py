"""Names set next to points and line ends so that they do not cover one another."""

from __future__ import annotations

import math
from collections.abc import Sequence

from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.text import Text
from matplotlib.transforms import Bbox

from embpress.reports.plotting.style import TEXT

_NEAR = [(9, 0), (-9, 0), (0, 9), (0, -9), (8, 9), (-8, 9), (8, -9), (-8, -9)]
_FAR = [  # reached by a thin line
    (side * across, side_up * 9 * step)
    for across in (14, 34, 70, 120)
    for step in range(2, 14)
    for side_up in (1, -1)
    for side in (1, -1)
]
_GAP = 1.0


def label_points(
    axes: Axes, points: Sequence[tuple[float, float]], labels: Sequence[str], obstacles: Sequence[Bbox] = ()
) -> None:
    """Put each label at the best free place around its point; obstacles are boxes in pixels.

    Call it when limits and layout are final: places are found in pixels.
    """
    canvas = axes.figure.canvas
    assert isinstance(canvas, FigureCanvasAgg)
    renderer = canvas.get_renderer()
    scale = axes.figure.dpi / 72
    pixels = [(float(x), float(y)) for x, y in axes.transData.transform(points)]
    taken = [Bbox.from_bounds(x - 7, y - 7, 14, 14) for x, y in pixels] + list(obstacles)
    names: list[Bbox] = []
    inside = axes.get_window_extent(renderer)
    for point, (x, y), label in zip(points, pixels, labels):
        text = axes.annotate(label, point, fontsize=9.5, color=TEXT, zorder=6, parse_math=False)
        extent = Text.get_window_extent(text, renderer)
        best: tuple[float, tuple[int, int], Bbox] | None = None
        for dx, dy in [*_NEAR, *_FAR]:
            box = _placed(extent, x + dx * scale, y + dy * scale, dx, dy)
            cost = 2 * math.hypot(dx, dy) + 5 * _outside(box, inside)
            cost += sum(_overlap(box, other) for other in taken) + 4 * sum(_overlap(box, other) for other in names)
            if (dx, dy) in _FAR:
                cost += 30 * sum(_crosses((x, y), (x + dx * scale, y + dy * scale), other) for other in names)
            if best is None or cost < best[0]:
                best = cost, (dx, dy), box
        assert best is not None
        names.append(best[2])
        text.remove()
        _write(axes, point, label, best[1])


def _write(axes: Axes, point: tuple[float, float], label: str, offset: tuple[int, int]) -> None:
    dx, dy = offset
    line = {"arrowstyle": "-", "color": "#999999", "linewidth": 0.7, "relpos": (0 if dx > 0 else 1, 0.5), "shrinkA": 0}
    axes.annotate(
        label,
        point,
        offset,
        textcoords="offset points",
        ha="left" if dx > 0 else "right" if dx < 0 else "center",
        va="center" if dx else "bottom" if dy > 0 else "top",
        fontsize=9.5,
        color=TEXT,
        zorder=6,
        parse_math=False,
        arrowprops=line if offset in _FAR else None,
    )


def _placed(extent: Bbox, x: float, y: float, dx: int, dy: int) -> Bbox:
    """The box of a text that is put to that side of (x, y), with a little room around it."""
    left = x if dx > 0 else x - extent.width if dx < 0 else x - extent.width / 2
    low = y - extent.height / 2 if dx else y if dy > 0 else y - extent.height
    return Bbox.from_bounds(left - _GAP, low - _GAP, extent.width + 2 * _GAP, extent.height + 2 * _GAP)


def _crosses(start: tuple[float, float], end: tuple[float, float], box: Bbox) -> bool:
    steps = [k / 16 for k in range(1, 16)]
    return any(box.contains(start[0] + k * (end[0] - start[0]), start[1] + k * (end[1] - start[1])) for k in steps)


def label_ends(axes: Axes, ends: Sequence[tuple[float, float, str, str]]) -> None:
    """Name lines at the right of the axes: (x, y, label, colour) each, spread until no two names touch."""
    if not ends:
        return
    ends = sorted(ends, key=lambda end: end[1])
    inside = axes.get_window_extent()
    step = 15.0 * axes.figure.dpi / 100
    heights = [float(axes.transData.transform((x, y))[1]) for x, y, _, _ in ends]
    for i, height in enumerate(_spread(heights, step, inside.y0, inside.y1)):
        x, y, label, colour = ends[i]
        axes.annotate(
            label,
            (x, y),
            (1.045, (height - inside.y0) / inside.height),
            textcoords="axes fraction",
            va="center",
            fontsize=9.5,
            color=TEXT,
            parse_math=False,
            annotation_clip=False,
            arrowprops={
                "arrowstyle": "-",
                "color": colour,
                "linewidth": 1.0,
                "shrinkA": 1,
                "shrinkB": 2,
                "relpos": (0, 0.5),
            },
        )


def _spread(heights: Sequence[float], step: float, low: float, high: float) -> list[float]:
    """Rising heights at least `step` apart, each as near to its own as that allows: touching ones share their shift."""
    blocks: list[tuple[float, int]] = []  # (mean of what the first place would be, how many)
    for height in heights:
        start, count = height, 1
        while blocks and blocks[-1][0] + blocks[-1][1] * step > start:
            before, n = blocks.pop()
            start = (before * n + (start - n * step) * count) / (n + count)
            count += n
        blocks.append((start, count))
    moved = [start + k * step for start, count in blocks for k in range(count)]
    for i in reversed(range(len(moved))):
        moved[i] = min(moved[i], high - (len(moved) - 1 - i) * step)
    for i in range(len(moved)):
        moved[i] = max(moved[i], low + i * step)
    return moved


def _overlap(a: Bbox, b: Bbox) -> float:
    width = min(a.x1, b.x1) - max(a.x0, b.x0)
    height = min(a.y1, b.y1) - max(a.y0, b.y0)
    return width * height if width > 0 and height > 0 else 0.0


def _outside(box: Bbox, frame: Bbox) -> float:
    return box.width * box.height - _overlap(box, frame)
