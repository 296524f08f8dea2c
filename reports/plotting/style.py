"""What all plots share: size, colours that colour-blind readers can tell apart, and safe text."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from embpress.reports.plotting.fonts import short_labels
from embpress.reports.summary import Summary

DPI = 100
TEXT = "#222222"
FAINT = "#8a8a8a"
FULL = "#222222"
# Okabe and Ito, without the yellow that vanishes on white, then two of Paul Tol's
_COLOURS = ["#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#882255", "#999933"]
_SALT = 2  # so that the names of what is compared by default give different colours
_MARKERS = ["o", "s", "^", "D", "v", "P", "X", "<", ">"]
_LINES = ["-", "--", ":", "-."]


@dataclass(frozen=True)
class Look:
    """How one row of the summary is drawn in every plot."""

    label: str
    colour: str
    marker: str
    line: str


def looks(rows: Sequence[Summary], width: int = 30) -> dict[str, Look]:
    """A look for each row by its label; colour and line together, and colour and marker, do not repeat among 32 rows.

    A method has the colour that its name gives it, whatever else is drawn, unless another one of the set has it already
    by its name: then the next that is free. Further rows of a method follow in the colours that are left.
    """
    names = dict(zip((row.label for row in rows), short_labels([row.label for row in rows], width)))
    styles = {row.label: Look(names[row.label], FULL, "*", "-") for row in rows if row.is_full}
    others = sorted((row for row in rows if not row.is_full), key=lambda row: (row.name, len(row.label), row.label))
    first = {row.name: row.label for row in reversed(others)}  # the shortest label of each method
    used = [0] * len(_COLOURS)
    for row in sorted(others, key=lambda row: first[row.name] != row.label):
        start = _colour_of(row.name)
        colour = min(range(len(used)), key=lambda c: (used[c], (c - start) % len(used)))
        styles[row.label] = _look(colour, used[colour], names[row.label])
        used[colour] += 1
    return styles


def look(i: int, label: str) -> Look:
    """The look of the i-th thing of a plot."""
    return _look(i % len(_COLOURS), i // len(_COLOURS), label)


def _look(colour: int, time: int, label: str) -> Look:
    """The look of what has a colour for the first time (0), the second, …"""
    return Look(label, _COLOURS[colour], _MARKERS[(colour + time) % len(_MARKERS)], _LINES[time % len(_LINES)])


def _colour_of(name: str) -> int:
    """A method's own colour, by its name alone."""
    return hashlib.sha256(f"{_SALT}{name}".encode()).digest()[0] % len(_COLOURS)


def figure(height: float, width: float = 9.0) -> Figure:
    """A figure of its own, with no global state, that draws to PNG only."""
    fig = Figure(figsize=(width, height), dpi=DPI, facecolor="white")
    FigureCanvasAgg(fig)
    return fig


def tidy(axes: Axes, title: str, subtitle: str = "") -> None:
    """A title at the left, a light grid, and no box."""
    axes.set_title(title, loc="left", fontsize=12.5, fontweight="bold", color=TEXT, pad=24 if subtitle and title else 8)
    if subtitle:
        text = axes.annotate(
            subtitle,
            (0, 1),
            (0, 7),
            xycoords="axes fraction",
            textcoords="offset points",
            fontsize=9.5,
            color="#555555",
        )
        text.set_parse_math(False)
    axes.grid(True, color="#e4e4e4", linewidth=0.8)
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)
    axes.tick_params(labelsize=9.5, colors="#444444")


def spread_text(rows: Sequence[Summary]) -> str:
    """What a point and its bar are: `Mean ± standard deviation over 3 seeds`, `One seed`."""
    counts = sorted({row.n for row in rows})
    if counts[-1] < 2:
        return "One seed"
    span = f"{counts[0]} to {counts[-1]}" if len(counts) > 1 else f"{counts[0]}"
    return f"Mean ± standard deviation over {span} seeds"
