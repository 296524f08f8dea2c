"""Colours of methods, and ticks that can be read."""

from itertools import combinations, pairwise

import numpy as np
import pytest

from embpress.compressors import available, parse
from embpress.dlrm.sets import specs_of
from embpress.reports.comparison.plots.lookup_latency import draw
from embpress.reports.html.colours import dark
from embpress.reports.plotting.style import FULL, look, looks
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


def test_every_method_of_here_has_one_colour_in_every_report(run):
    names = sorted(set(available()) - {"full"})
    together = colours(run, ["full", *names])
    for one, other in combinations(names, 2):
        assert colours(run, [one, other, "mine"])[one] == together[one]


def test_rows_of_a_method_share_its_colour_and_differ_otherwise(run):
    found = looks(summary([run("tt:rank=4"), run("tt:rank=16"), run("qr"), run("tt:rank=8")]))
    rows = [found[f"tt:rank={rank}"] for rank in (4, 8, 16)]
    assert len({row.colour for row in rows}) == 1
    assert len({row.marker for row in rows}) == len({row.line for row in rows}) == 3


def test_rows_of_one_method_alone_have_colours_of_their_own(run):
    found = colours(run, ["full", *(f"tt:rank={rank}" for rank in range(1, 9))])
    assert len(set(found.values())) == 9


def test_more_rows_than_looks_still_draw(run):
    found = looks(summary([run(f"tt:rank={rank}") for rank in range(40)] + [run("qr")]))
    assert len(found) == 41


# Machado, Oliveira and Fernandes 2009, severity 1, on linear RGB
_MATRICES = {
    "protanopia": [[0.152286, 1.052583, -0.204868], [0.114503, 0.786281, 0.099216], [-0.003882, -0.048116, 1.051998]],
    "deuteranopia": [[0.367322, 0.860646, -0.227968], [0.280085, 0.672501, 0.047413], [-0.01182, 0.04294, 0.968881]],
    "tritanopia": [[1.255528, -0.076749, -0.178779], [-0.078411, 0.930809, 0.147602], [0.004733, 0.691367, 0.3039]],
}
_XYZ = np.array([[0.4124, 0.3576, 0.1805], [0.2126, 0.7152, 0.0722], [0.0193, 0.1192, 0.9505]])


def lab(colour, matrix):
    """CIE L*a*b* of a colour as somebody with this vision sees it."""
    value = np.array([int(colour[i : i + 2], 16) for i in (1, 3, 5)]) / 255
    linear = np.where(value <= 0.04045, value / 12.92, ((value + 0.055) / 1.055) ** 2.4)
    x = _XYZ @ np.clip(np.array(matrix) @ linear, 0, 1) / np.array([0.9505, 1, 1.089])
    f = np.where(x > 0.008856, np.cbrt(x), 7.787 * x + 16 / 116)
    return np.array([116 * f[1] - 16, 500 * (f[0] - f[1]), 200 * (f[1] - f[2])])


@pytest.mark.parametrize("vision", _MATRICES)
@pytest.mark.parametrize("shown", [str, dark], ids=["light", "dark"])
def test_colour_blind_readers_tell_colours_apart(vision, shown):
    """A difference of 2.3 is just noticed; these are at least four times that."""
    seen = [lab(shown(colour), _MATRICES[vision]) for colour in [FULL, *(look(i, "").colour for i in range(8))]]
    assert min(np.linalg.norm(one - other) for one, other in combinations(seen, 2)) > 9.2


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
