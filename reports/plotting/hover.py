"""What a reader is told who points at a part of a plot, where it is shown in a browser."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeVar
from weakref import WeakKeyDictionary

from matplotlib.artist import Artist

from embpress.reports.text import visible

A = TypeVar("A", bound=Artist)


@dataclass(frozen=True)
class Hover:
    """Whose part of a plot something is, and a text for each of its points; first line the name, then the values."""

    series: str
    texts: tuple[str, ...]


_HOVERS: WeakKeyDictionary[Artist, Hover] = WeakKeyDictionary()


def hover(artist: A, series: str, texts: Sequence[str] = ()) -> A:
    """Notes what an artist stands for and gives it back.

    Args:
        artist: a line (a text a vertex), a bar or a text.
        series: label of the summary's row; what has the same one is highlighted together, in all plots and tables.
        texts: shown at each point, lines separated by newlines; none, and the artist is only highlighted.
    """
    _HOVERS[artist] = Hover(visible(series), tuple(map(visible, texts)))
    return artist


def hover_of(artist: Artist) -> Hover | None:
    """What was noted of an artist."""
    return _HOVERS.get(artist)
