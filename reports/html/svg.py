"""A plot as SVG that stands inside a page: colours as the page's variables, text as text, values to point at."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from io import StringIO
from xml.etree import ElementTree
from xml.etree.ElementTree import Element, SubElement

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.collections import PathCollection
from matplotlib.container import BarContainer
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Rectangle

from embpress.reports.html.colours import variable
from embpress.reports.plotting.hover import Hover, hover_of
from embpress.reports.text import visible

POINT = 6.0  # radius in which a point is pointed at, in points of print
_SVG, _XLINK = "{http://www.w3.org/2000/svg}", "{http://www.w3.org/1999/xlink}"
_COLOUR = re.compile(r"#[0-9a-fA-F]{6}\b")
_FAMILY = re.compile(r"font-family:[^;]*(;|$)")
_LONG = re.compile(r"-?\d+\.\d{2,}")
_NO_METADATA = dict.fromkeys(("Date", "Creator", "Format", "Type"))


@dataclass(frozen=True)
class Spot:
    """A place of a plot that tells its values: a rectangle, or a point without width and height; in print points."""

    x: float
    y: float
    width: float
    height: float
    series: str
    text: str


def to_svg(figure: Figure, name: str) -> str:
    """The figure as an `<svg>` element.

    A colour is `var(--p<hex>)` (see `colours`), an id is `name-…` so that several plots stand in one page, what a
    method draws carries `data-series`, and the last group holds a `rect` or `circle` of class `spot` with `data-tip`
    and a `<title>` for every point that tells its values.

    Args:
        figure: drawn once already, so that its limits and layout are final.
        name: starts the ids; letters, digits and hyphens.
    """
    marked = [(artist, found) for artist in figure.findobj() if (found := hover_of(artist)) and found.series]
    series = {}
    for i, (artist, found) in enumerate(marked):
        series[f"series-{i}"] = found.series
        artist.set_gid(f"series-{i}")
    spots = list(spots_of(figure))
    text = StringIO()
    with matplotlib.rc_context({"svg.fonttype": "none", "svg.hashsalt": name}):
        figure.savefig(text, format="svg", metadata=_NO_METADATA)
    root = ElementTree.fromstring(visible(text.getvalue()))
    _clean(root, name, series)
    _add_spots(root, spots)
    for node in root.iter():
        node.tag = node.tag.removeprefix(_SVG)
    return ElementTree.tostring(root, encoding="unicode", short_empty_elements=True)


def spots_of(figure: Figure) -> Iterator[Spot]:
    """The points of lines and bars with what they tell, by `hover`; of axes where nothing was noted, the numbers."""
    for axes in figure.axes:
        noted = [(artist, found) for artist in axes.findobj() if (found := hover_of(artist)) is not None]
        for artist, found in noted:
            if isinstance(artist, Line2D):
                yield from _points(figure, artist.get_transform().transform(artist.get_xydata()), found)
            elif isinstance(artist, Rectangle) and found.texts:
                yield _bar(figure, artist, found)
        if not noted:
            yield from _unnoted(figure, axes)


def _unnoted(figure: Figure, axes: Axes) -> Iterator[Spot]:
    """Names and numbers of axes whose plot says nothing itself."""
    drawn = [(line, np.asarray(line.get_xydata())) for line in axes.lines if line.get_transform() == axes.transData]
    groups = [group for group in axes.collections if isinstance(group, PathCollection)]
    for artist, places in [*drawn, *((group, np.asarray(group.get_offsets(), dtype=float)) for group in groups)]:
        texts = tuple(_numbers(axes, _label(artist.get_label()), x, y) for x, y in places)
        yield from _points(figure, axes.transData.transform(places), Hover("", texts))
    for bars in axes.containers:
        if isinstance(bars, BarContainer):
            for bar in bars:
                if isinstance(bar, Rectangle):
                    x, y = bar.get_x() + bar.get_width() / 2, bar.get_y() + bar.get_height()
                    yield _bar(figure, bar, Hover("", (_numbers(axes, _label(bars.get_label()), x, y),)))


def _label(label: object) -> str:
    """A label that somebody gave; matplotlib's own start with an underscore."""
    text = str(label or "")
    return "" if text.startswith("_") else text


def _numbers(axes: Axes, label: str, x: float, y: float) -> str:
    titled = ((axes.get_xlabel() or "x", x), (axes.get_ylabel() or "y", y))
    values = [f"{title}: {value:,.5g}" for title, value in titled]
    return "\n".join([label, *values] if label else values)


def _points(figure: Figure, pixels: np.ndarray, found: Hover) -> Iterator[Spot]:
    scale, height = 72 / figure.dpi, figure.get_figheight() * 72
    for (x, y), text in zip(pixels, found.texts):
        if text and np.isfinite(x) and np.isfinite(y):
            yield Spot(x * scale, height - y * scale, 0, 0, found.series, text)


def _bar(figure: Figure, bar: Rectangle, found: Hover) -> Spot:
    scale, height = 72 / figure.dpi, figure.get_figheight() * 72
    box = bar.get_window_extent()
    corner, size = (box.x0 * scale, height - box.y1 * scale), (box.width * scale, box.height * scale)
    return Spot(*corner, *size, found.series, found.texts[0])


def _clean(root: Element, name: str, series: dict[str, str]) -> None:
    """Ids of its own, colours as variables, the page's font; without what only a file of its own needs."""
    for key in ("width", "height", "version"):
        root.attrib.pop(key, None)
    for parent in list(root.iter()):
        for child in list(parent):
            if child.tag in (f"{_SVG}metadata", f"{_SVG}style"):
                parent.remove(child)
    for node in root.iter():
        node.tail = None
        if node.text is not None and not node.text.strip():
            node.text = None
        if node.get("id", "") in series:
            node.set("data-series", series[node.attrib.pop("id")])
        attributes = list(node.attrib.items())
        for key, value in attributes:
            if key == f"{_XLINK}href":
                node.attrib.pop(key)
                node.set("href", value.replace("#", f"#{name}-"))
            elif key == "id" and node.tag == f"{_SVG}g":  # groups are named for whoever reads the file
                node.attrib.pop(key)
            elif key == "id":
                node.set(key, f"{name}-{value}")
            elif key == "clip-path":
                node.set(key, value.replace("#", f"#{name}-"))
            elif key == "style":
                node.set(key, _COLOUR.sub(lambda found: variable(found.group()), _FAMILY.sub("", value)).strip("; "))
            elif key == "transform" and value.startswith("rotate(-0 "):
                node.attrib.pop(key)
            elif key in ("d", "x", "y", "transform", "width", "height"):
                node.set(key, " ".join(_LONG.sub(lambda found: f"{float(found.group()):.2f}", value).split()))


def _add_spots(root: Element, spots: list[Spot]) -> None:
    if not spots:
        return
    group = SubElement(root, f"{_SVG}g", {"class": "spots"})
    for spot in spots:
        owner = {"data-series": spot.series} if spot.series else {}
        if not spot.width and not spot.height:
            shape, place = "circle", {"cx": spot.x, "cy": spot.y, "r": POINT}
        else:
            shape, place = "rect", {"x": spot.x, "y": spot.y, "width": spot.width, "height": spot.height}
        placed = {key: f"{value:.1f}" for key, value in place.items()}
        node = SubElement(group, f"{_SVG}{shape}", {"class": "spot", **placed, **owner})
        SubElement(node, f"{_SVG}title").text = spot.text
