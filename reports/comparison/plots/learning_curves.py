"""Learning curves: how training loss and validation AUC went."""

from __future__ import annotations

import math
from collections.abc import Sequence

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from embpress.dlrm.runs.record import Run
from embpress.reports import numerals
from embpress.reports.focus import focus
from embpress.reports.plotting.hover import hover
from embpress.reports.plotting.labels import label_ends
from embpress.reports.plotting.style import GREY, figure, looks, spread_text, tidy
from embpress.reports.summary import Summary

TITLE = "Learning curves"
CAPTION = "Where the lines lie within one another's bands, seeds matter more than methods."
MAX_LINES, FEW = 14, 8  # more lines than this cannot be read; of more so many stand out
_STEEP = 0.2  # of the training
_PANELS = (("valid_auc", "Validation AUC"), ("train_loss", "Training loss"))


def draw(rows: Sequence[Summary]) -> Figure | None:
    """Validation AUC and training loss by epoch, mean over the seeds with a band; None without curves."""
    styles = looks(rows, width=22)
    curves = {name: {row.label: curve for row in rows if (curve := _curve(row, name))} for name, _ in _PANELS}
    drawn = [row for row in rows if any(row.label in by_label for by_label in curves.values())]
    shown = focus(drawn, MAX_LINES if len(drawn) <= MAX_LINES else FEW)
    kept = {row.label for row in shown}
    rest = [row for row in drawn if row.label not in kept]
    panels = [(name, title) for name, title in _PANELS if any(row.label in curves[name] for row in shown)]
    if not panels:
        return None
    fig = figure(4.1 * len(panels))
    grid = fig.subplots(len(panels), 1, squeeze=False)[:, 0]
    of = f"; grey: the other {len(rest)} of {len(drawn)}" if rest else ""
    for axes, (name, title) in zip(grid, panels):
        for row in rest:
            if row.label in curves[name]:
                epochs, means, _ = zip(*curves[name][row.label])
                (line,) = axes.plot(epochs, means, color=GREY, linewidth=0.9, zorder=2)
                hover(line, row.label, [""] * (len(epochs) - 1) + [_told(row, title, epochs[-1], means[-1])])
        for row in shown:
            if row.label not in curves[name]:
                continue
            style = styles[row.label]
            epochs, means, sds = zip(*curves[name][row.label])
            mark = style.marker if len(epochs) == 1 else ""
            (line,) = axes.plot(
                epochs, means, color=style.colour, linestyle=style.line, marker=mark, linewidth=1.7, zorder=3
            )
            hover(line, row.label, [_told(row, title, *point) for point in curves[name][row.label]])
            low, high = ([m + sign * s for m, s in zip(means, sds)] for sign in (-1, 1))
            band = axes.fill_between(epochs, low, high, color=style.colour, alpha=0.13, linewidth=0)
            hover(band, row.label)
        axes.margins(x=0.01)
        cut = _cut_start(axes, [curves[name][row.label] for row in shown if row.label in curves[name]])
        tidy(axes, f"{title} while training", f"{spread_text(shown)}{of}{cut}")
        axes.set_ylabel(title, fontsize=10)
        axes.set_xlabel("Epoch", fontsize=10)
    fig.tight_layout()
    fig.subplots_adjust(right=0.76)
    fig.draw_without_rendering()
    for axes, (name, _) in zip(grid, panels):
        ends = [(*curves[name][row.label][-1][:2], row) for row in shown if row.label in curves[name]]
        texts = label_ends(axes, [(x, y, styles[row.label].label, styles[row.label].colour) for x, y, row in ends])
        for text, (_, _, row) in zip(texts, ends):
            hover(text, row.label)
    return fig


def _told(row: Summary, title: str, epoch: float, mean: float, sd: float = 0.0) -> str:
    """What is told of a point."""
    spread = f" ± {numerals.score(sd)}" if sd else ""
    return f"{row.label}\n{title} {numerals.score(mean)}{spread}\nepoch {epoch:.3g}"


def _curve(row: Summary, name: str) -> list[tuple[float, float, float]]:
    """(epoch, mean, sd) at the steps that all seeds have measured."""
    runs = [_points(run, name) for run in row.runs]
    runs = [run for run in runs if run]
    if not runs:
        return []
    steps = sorted(set(runs[0]).intersection(*runs[1:])) or sorted(runs[0])
    points = []
    for step in steps:
        values = [run[step][1] for run in runs if step in run]
        mean = sum(values) / len(values)
        spread = math.sqrt(sum((value - mean) ** 2 for value in values) / max(1, len(values) - 1))
        points.append((runs[0][step][0], mean, spread))
    return points


def _cut_start(axes: Axes, curves: Sequence[Sequence[tuple[float, float, float]]]) -> str:
    """Leave out the steep first part, beside which the differences at the end cannot be seen; what was done."""
    start = _STEEP * max(epoch for curve in curves for epoch, _, _ in curve)
    later = [(m - s, m + s) for curve in curves for epoch, m, s in curve if epoch >= start]
    low, high = min(value for value, _ in later), max(value for _, value in later)
    room = 0.06 * (high - low) or 0.001
    bottom, top = axes.get_ylim()
    axes.set_ylim(low - room, high + room)
    return "; the steep start lies outside" if bottom < low - 2 * room or top > high + 2 * room else ""


def _points(run: Run, name: str) -> dict[int, tuple[float, float]]:
    """(epoch, value) by step."""
    values = ((point, getattr(point, name)) for point in run.learning_curve)
    return {point.step: (point.epoch, value) for point, value in values if value is not None}
