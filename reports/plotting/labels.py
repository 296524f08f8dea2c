"""Names set next to points and line ends so that they do not cover one another."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
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
) -> list[Text]:
    """Put each label at the best free place around its point; obstacles are boxes in pixels. Gives the labels' texts.

    Call it when limits and layout are final: places are found in pixels.
    """
    canvas = axes.figure.canvas
    assert isinstance(canvas, FigureCanvasAgg)
    renderer = canvas.get_renderer()
    scale = axes.figure.dpi / 72
    pixels = [(float(x), float(y)) for x, y in axes.transData.transform(points)]
    taken = _boxes([Bbox.from_bounds(x - 7, y - 7, 14, 14) for x, y in pixels] + list(obstacles))
    names = _boxes([])
    written: list[Text] = []
    inside = _boxes([axes.get_window_extent(renderer)])
    offsets = np.array([*_NEAR, *_FAR])
    is_far = np.arange(len(offsets)) >= len(_NEAR)
    for point, (x, y), label in zip(points, pixels, labels):
        text = axes.annotate(label, point, fontsize=9.5, color=TEXT, zorder=6, parse_math=False)
        extent = Text.get_window_extent(text, renderer)
        places = (x, y) + offsets * scale
        boxes = _boxes([_placed(extent, px, py, dx, dy) for (px, py), (dx, dy) in zip(places, offsets)])
        area = (boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1])
        cost = 2 * np.hypot(*offsets.T) + 5 * (area - _overlaps(boxes, inside))
        cost += _overlaps(boxes, taken) + 4 * _overlaps(boxes, names)
        cost[is_far] += 30 * _crossed((x, y), places[is_far], names)
        chosen = int(cost.argmin())
        names = np.concatenate([names, boxes[chosen : chosen + 1]])
        text.remove()
        written.append(_write(axes, point, label, (int(offsets[chosen, 0]), int(offsets[chosen, 1]))))
    return written


def _write(axes: Axes, point: tuple[float, float], label: str, offset: tuple[int, int]) -> Text:
    dx, dy = offset
    line = {"arrowstyle": "-", "color": "#999999", "linewidth": 0.7, "relpos": (0 if dx > 0 else 1, 0.5), "shrinkA": 0}
    return axes.annotate(
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


def _placed(extent: Bbox, x: float, y: float, dx: float, dy: float) -> Bbox:
    """The box of a text that is put to that side of (x, y), with a little room around it."""
    left = x if dx > 0 else x - extent.width if dx < 0 else x - extent.width / 2
    low = y - extent.height / 2 if dx else y if dy > 0 else y - extent.height
    return Bbox.from_bounds(left - _GAP, low - _GAP, extent.width + 2 * _GAP, extent.height + 2 * _GAP)


def _boxes(boxes: Sequence[Bbox]) -> np.ndarray:
    """Left, bottom, right and top of each: `(n, 4)` float64."""
    return np.array([(box.x0, box.y0, box.x1, box.y1) for box in boxes], dtype=float).reshape(-1, 4)


def _overlaps(boxes: np.ndarray, others: np.ndarray) -> np.ndarray:
    """The area that each of `(n, 4)` boxes has in common with `(m, 4)` others, all together: `(n,)`."""
    low, high = np.maximum(boxes[:, None, :2], others[:, :2]), np.minimum(boxes[:, None, 2:], others[:, 2:])
    shared: np.ndarray = (high - low).clip(min=0).prod(axis=2).sum(axis=1)
    return shared


def _crossed(start: tuple[float, float], ends: np.ndarray, boxes: np.ndarray) -> np.ndarray:
    """How many of `(m, 4)` boxes a line from the start to each of `(n, 2)` ends goes through: `(n,)`."""
    steps = np.arange(1, 16)[:, None, None] / 16
    on_line = (np.array(start) + steps * (ends - start))[:, :, None, :]  # (steps, n, 1, 2)
    crossed: np.ndarray = ((on_line >= boxes[:, :2]) & (on_line <= boxes[:, 2:])).all(axis=3).any(axis=0).sum(axis=1)
    return crossed


def label_ends(axes: Axes, ends: Sequence[tuple[float, float, str, str]]) -> list[Text]:
    """Name lines at the right of the axes: (x, y, label, colour) each, spread until no two names touch.

    Gives the labels' texts in the order of the ends.
    """
    if not ends:
        return []
    order = sorted(range(len(ends)), key=lambda i: ends[i][1])
    ends = [ends[i] for i in order]
    written: dict[int, Text] = {}
    inside = axes.get_window_extent()
    step = 15.0 * axes.figure.dpi / 100
    heights = [float(axes.transData.transform((x, y))[1]) for x, y, _, _ in ends]
    for i, height in enumerate(_spread(heights, step, inside.y0, inside.y1)):
        x, y, label, colour = ends[i]
        written[order[i]] = axes.annotate(
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
    return [written[i] for i in range(len(ends))]


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
