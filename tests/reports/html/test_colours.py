"""Colours by light and in the dark."""

from itertools import combinations

import pytest

from embpress.reports.html.colours import PAPER_DARK, PAPER_LIGHT, contrast, dark, variables
from embpress.reports.plotting.style import FAINT, FULL, GREY, TEXT, look

METHODS = [look(i, "").colour.lower() for i in range(8)]


def test_contrast_is_that_of_wcag():
    assert contrast("#000000", "#ffffff") == pytest.approx(21)
    assert contrast("#777777", "#ffffff") == pytest.approx(4.48, abs=0.005)
    assert contrast("#0000ff", "#ffffff") == pytest.approx(8.59, abs=0.005)


@pytest.mark.parametrize("colour", [*METHODS, FULL, TEXT, FAINT])
def test_what_is_drawn_can_be_seen_in_the_dark(colour):
    assert contrast(dark(colour), PAPER_DARK) >= 3


def test_text_reads_well_and_faint_things_stay_faint():
    assert contrast(dark(TEXT), PAPER_DARK) > 10
    assert 1.1 < contrast(dark("#e4e4e4"), PAPER_DARK) < 2
    assert contrast(dark(GREY), PAPER_DARK) < contrast(dark(FAINT), PAPER_DARK)
    assert dark(PAPER_LIGHT) == PAPER_DARK


def test_methods_still_differ_in_the_dark():
    assert len({dark(colour) for colour in METHODS}) == len(METHODS)
    for one, other in combinations(METHODS, 2):
        parts = [[int(dark(c)[i : i + 2], 16) for i in (1, 3, 5)] for c in (one, other)]
        assert sum(abs(a - b) for a, b in zip(*parts)) > 60


def test_variables_are_declared_once_for_each_colour():
    light, night = variables(["#0072B2", "#0072b2", "#222222"])
    assert light == "--p0072b2:#0072b2;--p222222:#222222;"
    assert night.count("--p") == 2
