"""Colours of methods, and ticks that can be read."""

from itertools import pairwise

import pytest

from embpress.compressors import parse
from embpress.dlrm.sets import specs_of
from embpress.reports.comparison.plots.lookup_latency import draw
from embpress.reports.plotting.style import looks
from embpress.reports.summary import summary

COMPARED = sorted({parse(spec).name for name in ("default", "baselines") for spec in specs_of(name)} - {"full"})


def colours(run, methods):
    return {label: look.colour for label, look in looks(summary([run(method) for method in methods])).items()}


def test_a_built_in_method_has_one_colour_whatever_it_is_drawn_with(run):
    together = colours(run, ["full", *COMPARED])
    assert len(set(together.values())) == 1 + len(COMPARED)
    for name in COMPARED:
        for others in ([], ["full", COMPARED[0]], COMPARED[::-1]):
            assert colours(run, dict.fromkeys([*others, name]))[name] == together[name]
    assert colours(run, ["full", "tt:rank=4", "qr"])["tt:rank=4"] == together["tt"]


def test_no_two_rows_look_alike(run):
    found = looks(summary([run(f"{name}:k={i}") for name in ("tt", "qr", "mine", "robe") for i in range(8)]))
    assert len({(look.colour, look.line) for look in found.values()}) == 32
    assert len({(look.colour, look.marker) for look in found.values()}) == 32


@pytest.mark.parametrize("times", [(1.0, 2.0), (1.0, 40.0), (2.0, 3e6), (1e-2, 1e9)])
def test_the_times_below_the_bars_do_not_touch(times, run):
    figure = draw(summary([run("full", lookup=times[0]), run("tt", lookup=times[1])]))
    figure.canvas.draw()
    for axes in figure.axes:
        boxes = sorted((tick.get_window_extent() for tick in axes.get_xticklabels()), key=lambda box: box.x0)
        assert len(boxes) >= 2
        assert all(left.x1 < right.x0 for left, right in pairwise(boxes))
