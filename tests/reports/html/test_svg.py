"""A plot inside a page: what is pointed at lies where it is drawn, and says what was drawn there."""

import re
from xml.etree import ElementTree

import pytest
from made_runs import made_runs

from embpress.reports.comparison.plots import auc_vs_size, learning_curves, lookup_latency
from embpress.reports.html.svg import to_svg
from embpress.reports.plotting.hover import hover
from embpress.reports.plotting.style import figure
from embpress.reports.summary import summary


@pytest.fixture(scope="module")
def rows():
    return summary(made_runs(5, 3, (16.0,)))


def drawn(plot, name="a"):
    plot.canvas.draw()
    return ElementTree.fromstring(to_svg(plot, name))


def spots(root):
    found = next(group for group in root.iter("g") if group.get("class") == "spots")
    return [(spot, spot.find("title").text) for spot in found]


def markers(root):
    """Where marks are drawn: a `use` for each."""
    return [(float(use.get("x")), float(use.get("y"))) for use in root.iter("use") if use.get("clip-path") is None]


def test_points_are_where_their_marks_are(rows):
    root = drawn(auc_vs_size.draw(rows))
    assert len(spots(root)) == len(rows)
    marks = markers(root)
    for spot, _ in spots(root):
        x, y = float(spot.get("cx")), float(spot.get("cy"))
        assert any(abs(x - a) < 0.2 and abs(y - b) < 0.2 for a, b in marks)


def test_points_tell_name_and_numbers(rows):
    told = {text.split("\n")[0]: text for _, text in spots(drawn(auc_vs_size.draw(rows)))}
    assert set(told) == {row.label for row in rows}
    for row in rows:
        auc = row.stats["auc"]
        assert f"Test AUC {auc.mean:.4f} ± {auc.sd:.4f} over 3 seeds" in told[row.label]
    assert "578.6 kB at 16.0×" in told["tt+int4"]
    assert "to full tables" in told["tt+int4"]
    assert "to full tables" not in told["full"]


def test_curves_tell_each_point_and_belong_to_their_method(rows):
    root = drawn(learning_curves.draw(rows))
    mine = [text for spot, text in spots(root) if spot.get("data-series") == "tt+int4"]
    assert len(mine) == 2 * 25
    last = sum(run.learning_curve[-1].valid_auc for run in next(r for r in rows if r.label == "tt+int4").runs) / 3
    assert any(f"Validation AUC {last:.4f}" in text and "epoch 3" in text for text in mine)
    lit = [node for node in root.iter() if node.get("data-series") == "tt+int4" and node.get("class") != "spot"]
    assert len(lit) == 2 * 3  # line, band and name in two panels


def test_bars_tell_and_cover_their_bar(rows):
    root = drawn(lookup_latency.draw(rows))
    found = [(spot, text) for spot, text in spots(root) if spot.get("data-series") == "tt+int4"]
    assert found[1][1] == "tt+int4\nBatch of 128: p50 48.0 µs, p99 86.4 µs"
    widths = [float(spot.get("width")) for spot, _ in found]
    assert widths == sorted(widths)
    assert widths[0] > 5


def test_a_plot_that_says_nothing_tells_its_numbers():
    plot = figure(3.0)
    axes = plot.subplots()
    axes.plot([1, 2], [10, 20], label="tt")
    axes.bar([3], [30])
    axes.scatter([4], [40])
    axes.axhline(5)
    axes.set_xlabel("Rank")
    texts = [text for _, text in spots(drawn(plot))]
    assert texts == ["tt\nRank: 1\ny: 10", "tt\nRank: 2\ny: 20", "Rank: 4\ny: 40", "Rank: 3\ny: 30"]


def test_several_plots_stand_in_one_page():
    plots = []
    for name in ("one", "two"):
        plot = figure(3.0)
        plot.subplots().plot([1, 2], [3, 4], marker="o")
        plots.append(to_svg(plot, name))
    ids = [re.findall(r'\bid="([^"]+)"', plot) for plot in plots]
    assert ids[0]
    assert not set(ids[0]) & set(ids[1])
    for plot, own in zip(plots, ids):
        assert len(set(own)) == len(own)
        assert set(re.findall(r'(?:href="#|url\(#)([^")]+)', plot)) <= set(own)
        assert "http" not in plot
        assert "#000000" not in plot


@pytest.mark.parametrize("name", ["<script>alert(1)</script>", "a\"b'c&d", "x|`y`", "名前", "اسم", "a\x0b\u202eb"])
def test_any_name_is_text(name):
    plot = figure(3.0)
    (line,) = plot.subplots().plot([1, 2], [3, 4])
    hover(line, name, [name, name])
    plot.axes[0].set_title(name if name.isascii() else "", parse_math=False)
    root = drawn(plot)
    clean = name.replace("\x0b", "\ufffd").replace("\u202e", "\ufffd")
    assert [text for _, text in spots(root)] == [clean, clean]
    assert {spot.get("data-series") for spot, _ in spots(root)} == {clean}
    assert {node.tag for node in root.iter()} <= {
        *("svg", "g", "path", "text", "use", "defs"),
        *("circle", "title", "clipPath", "rect"),
    }
