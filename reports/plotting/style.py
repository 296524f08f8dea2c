"""What all plots share: size, colours that colour-blind readers can tell apart, and safe text."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache

from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from embpress.reports.plotting.fonts import short_labels
from embpress.reports.summary import Summary

DPI = 100
TEXT = "#222222"
FAINT = "#8a8a8a"
FULL = "#222222"
GREY = "#c4c4c4"  # what is there, and is not what is looked at
# Okabe and Ito, without the yellow that vanishes on white, then two of Paul Tol's
_COLOURS = ["#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#882255", "#999933"]
_SALT = 2  # so that the names of what is compared by default give different colours
_MARKERS = ["o", "s", "^", "D", "v", "P", "X", "<", ">"]
Dashes = str | tuple[int, tuple[float, ...]]
_LINES: list[Dashes] = [
    *("-", "--", ":", "-."),
    *((0, (8, 2)), (0, (5, 1, 1, 1, 1, 1)), (0, (1, 3)), (0, (7, 2, 3, 2)), (0, (3, 1))),
]


@dataclass(frozen=True)
class Look:
    """How one row of the summary is drawn in every plot."""

    label: str
    colour: str
    marker: str
    line: Dashes


def looks(rows: Sequence[Summary], width: int = 30) -> dict[str, Look]:
    """A look for each row by its label; colour and line together, and colour and marker, differ as long as they can.

    A method of this package has one colour in every plot of every report, whatever else is drawn: its rows, of other
    sizes and knobs and with modifiers, differ by marker and line. Where all rows but full tables are of one method,
    each has a colour of its own.
    """
    names = dict(zip((row.label for row in rows), short_labels([row.label for row in rows], width)))
    styles = {row.label: Look(names[row.label], FULL, "*", "-") for row in rows if row.is_full}
    others = sorted((row for row in rows if not row.is_full), key=lambda row: (row.name, len(row.label), row.label))
    methods = list(dict.fromkeys(row.name for row in others))
    own = _places(methods)
    if len(methods) == 1:
        start = own[methods[0]][0]
        return styles | {row.label: look(start + i, names[row.label]) for i, row in enumerate(others)}
    first = {row.name: row.label for row in reversed(others)}  # the shortest label of each method
    taken = {own[name] for name in methods}
    for row in others:
        colour, time = own[row.name]
        if first[row.name] != row.label:
            free = (k for k in range(time + 1, time + len(_MARKERS)) if (colour, k % len(_MARKERS)) not in taken)
            time = next(free, time + len(taken)) % len(_MARKERS)
            taken.add((colour, time))
        styles[row.label] = _look(colour, time, names[row.label])
    return styles


def _places(methods: Sequence[str]) -> dict[str, tuple[int, int]]:
    """Colour and turn in it of each method; one that is not of here takes the colour of its name, or the next free."""
    places = {name: known_places()[name] for name in methods if name in known_places()}
    for name in methods:
        if name not in places:
            used = [sum(colour == c for colour, _ in places.values()) for c in range(len(_COLOURS))]
            start = _colour_of(name)
            colour = min(range(len(used)), key=lambda c: (used[c], (c - start) % len(used)))
            turns = [turn for c, turn in places.values() if c == colour]
            places[name] = colour, max(turns, default=-1) + 1
    return places


@cache
def known_places() -> Mapping[str, tuple[int, int]]:
    """Colour and turn in it of every method that is there: those compared by default first, so that theirs differ."""
    from embpress.compressors import available, parse
    from embpress.dlrm.sets import DEFAULT, sets, specs_of

    first = [parse(spec).name for name in dict.fromkeys([DEFAULT, *sets()]) for spec in specs_of(name)]
    places: dict[str, tuple[int, int]] = {}
    used = [0] * len(_COLOURS)
    for name in dict.fromkeys([*first, *sorted(available())]):
        start = _colour_of(name)
        colour = min(range(len(used)), key=lambda c: (used[c], (c - start) % len(used)))
        places[name] = colour, used[colour]
        used[colour] += 1
    return places


def look(i: int, label: str) -> Look:
    """The look of the i-th thing of a plot."""
    return _look(i % len(_COLOURS), i // len(_COLOURS), label)


def _look(colour: int, time: int, label: str) -> Look:
    """The look of what has a colour for the first time (0), the second, …"""
    return Look(label, _COLOURS[colour], _MARKERS[(colour + time) % len(_MARKERS)], _LINES[time % len(_LINES)])


def _colour_of(name: str) -> int:
    """The colour that a name asks for, by itself alone."""
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
