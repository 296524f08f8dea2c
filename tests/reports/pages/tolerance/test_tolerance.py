"""The ratio at which a method has lost so much."""

import math

import pytest

from embpress.dlrm.runs.store import save
from embpress.reports import write_report
from embpress.reports.pages.tolerance.data import Borne, confidence, curves_of
from embpress.reports.pages.tolerance.page import NOTHING, lacks
from embpress.reports.summary import summary


def made(run):
    """A method that loses 0.01 with every factor of ten, one seed 0.001 more; another that loses nothing."""
    runs = [run("full", seed, auc=0.8) for seed in (0, 1, 2)]
    for ratio in (10.0, 100.0, 1000.0):
        asked = {"ratio": ratio, "budget": None}
        for seed, more in enumerate((0.0, 0.0, 0.001)):
            auc = 0.8 - 0.01 * math.log10(ratio) - more
            runs += [run("hash", seed, auc=auc, ratio=ratio, asked=asked)]
            runs += [run("robe", seed, auc=0.8, ratio=ratio, asked=asked)]
    return runs


def test_lines_are_straight_over_the_logarithm(run):
    robe, hashed = curves_of(summary(made(run)))
    assert (robe.method, hashed.method) == ("robe", "hash")
    assert hashed.borne(0.02).median == pytest.approx(100)
    assert hashed.borne(0.015).median == pytest.approx(10**1.5)
    assert hashed.borne(0.02).low == pytest.approx(10**1.9)
    assert hashed.borne(0.001) == Borne(0, 0, 0), "it has lost that at the first ratio already"
    assert robe.borne(0.001) == Borne(math.inf, math.inf, math.inf)


def test_the_first_fall_counts_though_a_smaller_size_was_lucky(run):
    runs = [run("full", 0, auc=0.8)]
    for ratio, auc in ((4.0, 0.8), (16.0, 0.78), (64.0, 0.8)):
        runs.append(run("qr", 0, auc=auc, ratio=ratio, asked={"ratio": ratio, "budget": None}))
    (curve,) = curves_of(summary(runs))
    assert 4 < curve.borne(0.01).median < 16


def test_how_sure_the_seeds_make_it():
    """Against counting: the median lies outside only where all seeds fall on one side of it."""
    for seeds in (2, 5, 8):
        outside = sum(bits in (0, 2**seeds - 1) for bits in range(2**seeds)) / 2**seeds
        assert confidence(seeds) == 1 - outside


def test_the_page(run, tmp_path):
    for one in made(run):
        save(tmp_path, one)
    write_report(tmp_path, made(run), ["tolerance"])
    text = (tmp_path / "tolerance.md").read_text()
    assert "| ≥ 1,000.0× | ≥ 1,000.0× | ≥ 1,000.0× |" in text
    assert "< 10.0×" in text
    assert "100.0× (79.4× – 100.0×)" in text
    assert "75" in text
    assert (tmp_path / "plots" / "tolerance.png").stat().st_size > 1000
    assert lacks([run("full", 0), run("hash", 0)]) == NOTHING
