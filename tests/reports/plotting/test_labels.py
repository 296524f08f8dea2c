"""Names in plots of many rows: readable, none on another, all inside."""

from itertools import combinations

import matplotlib
import pytest
from made_runs import made_runs
from matplotlib.text import Text

from embpress.reports.comparison.plots import auc_vs_size, learning_curves, lookup_latency
from embpress.reports.plotting.fonts import families
from embpress.reports.plotting.hover import hover_of
from embpress.reports.summary import summary

ROWS = {5: (5, (16.0,)), 20: (20, (16.0,)), 60: (20, (4.0, 16.0, 64.0))}


@pytest.fixture(scope="module", params=ROWS, ids=lambda n: f"{n}-rows")
def rows(request):
    methods, ratios = ROWS[request.param]
    return summary(made_runs(methods, 2, ratios))


def texts(figure, keep=lambda text: True):
    """Boxes of the texts that are seen, after drawing."""
    figure.canvas.draw()
    found = [text for text in figure.findobj(Text) if text.get_text().strip() and text.get_visible()]
    # of the words alone: an annotation counts its line in
    return [(text.get_text(), Text.get_window_extent(text)) for text in found if keep(text)]


def shared(one, other):
    width = min(one.x1, other.x1) - max(one.x0, other.x0)
    height = min(one.y1, other.y1) - max(one.y0, other.y0)
    return max(0.0, width) * max(0.0, height) / min(one.width * one.height, other.width * other.height)


@pytest.mark.parametrize("plot", [auc_vs_size, learning_curves, lookup_latency], ids=lambda plot: plot.__name__)
def test_no_name_lies_on_another_or_outside(plot, rows):
    with matplotlib.rc_context({"font.family": families()}):
        figure = plot.draw(rows)
        named = texts(figure, lambda text: hover_of(text) is not None)
        ticks = [(tick.get_text(), tick.get_window_extent()) for axes in figure.axes for tick in axes.get_yticklabels()]
    names = named or [tick for tick in ticks if tick[0]]
    assert len(names) >= 5
    for (a, one), (b, other) in combinations(names, 2):
        assert shared(one, other) < 0.15, (a, b)
    for name, box in names:
        assert box.x0 >= -1, name
        assert box.x1 <= figure.bbox.x1 + 1, name
        assert box.y0 >= -1, name
        assert box.y1 <= figure.bbox.y1 + 1, name


def test_pictures_of_many_rows_stay_of_a_size_that_is_read(rows):
    for plot in (auc_vs_size, learning_curves, lookup_latency):
        width, height = plot.draw(rows).get_size_inches()
        assert width <= 10
        assert height <= 11


def test_every_row_can_be_pointed_at_though_few_are_named(rows):
    figure = auc_vs_size.draw(rows)
    lines = [line for axes in figure.axes for line in axes.lines]
    told = {found.series for line in lines if (found := hover_of(line)) is not None and found.texts}
    assert told == {row.label for row in rows}
