"""The page about spectra, from made records and from a small comparison."""

from dataclasses import replace

import pytest
from click.testing import CliRunner

from embpress.cli.main import main
from embpress.dlrm.runs.record import TableRecord
from embpress.reports.pages import lacks
from embpress.reports.pages.spectrum.data import features_of, free_pairs
from embpress.reports.pages.spectrum.page import make


def with_table(run, method, width, values, **knobs):
    table = TableRecord("ad", 5000, width, method, 1, 1, knobs, is_full=method == "full", spectrum=tuple(values))
    return replace(run, tables=(table,))


@pytest.fixture
def records(run):
    found = []
    for seed, small in enumerate((0.02, 0.005, 0.003)):
        found.append(with_table(run("full", seed, auc=0.70 + seed / 100), "full", 4, [1, 0.5, 0.2, 0.02]))
        one = run("mlet:k=64", seed, auc=0.71)
        found.append(with_table(one, "mlet", 4, [1, 0.3, small, 0.001], k=64))
        two = run("mlet:k=4", seed, auc=0.72 + seed / 100 + seed / 10_000)
        found.append(with_table(two, "mlet", 2, [1, 0.3], k=4))
    return found


def test_effective_ranks_are_means_over_seeds(records):
    (feature,) = features_of(records)
    ranks = {one.label: (one.width, one.rank, one.factors) for one in feature.spectra}
    assert ranks == {
        "full": (4, 4, False),
        "mlet:k=64": (4, pytest.approx(7 / 3), True),  # 3, 2, 2
        "mlet:k=4": (2, 2, True),
    }
    values = next(one.values for one in feature.spectra if one.label == "mlet:k=64")
    assert values == pytest.approx([1, 0.3, 0.028 / 3, 0.001])


def test_zero_cost_pairs_need_no_more_memory(records):
    (pair,) = free_pairs(records)  # k = 64 is more than the plain table's 4
    assert (pair.k, pair.d, pair.plain) == (4, 2, 4)
    assert pair.gap.mean == pytest.approx(0.0201)
    assert pair.gap.distinguishable


def test_the_page_tells_both(records, tmp_path):
    text = make(tmp_path, records)
    assert (tmp_path / "spectrum.png").read_bytes()[:4] == b"\x89PNG"
    assert "| ad | 5,000 | 4 | 2.33 | 2 |" in text
    assert "At width 4 the factored table's effective rank is lower in 1 of 1 comparisons" in text
    assert "| (4, 2) | mlet:k=4 | full | 4 | +0.0201 | more accurate |" in text


def test_nothing_to_compare_is_said(records, tmp_path):
    alone = [run for run in records if run.method == "mlet:k=64"]
    text = make(tmp_path, alone)
    assert "ranks cannot be compared" in text
    assert "No runs of this report are such a pair" in text
    assert lacks("spectrum", records) == ""
    assert "no run of mlet" in lacks("spectrum", [run for run in records if run.is_full])
    bare = [replace(run, tables=tuple(replace(t, spectrum=()) for t in run.tables)) for run in records]
    assert "hold no spectra" in lacks("spectrum", bare)
    assert "nothing to show" in make(tmp_path, bare)


def test_a_comparison_has_it(tmp_path):
    def call(*arguments):
        return CliRunner().invoke(main, [str(a) for a in arguments], catch_exceptions=False)

    options = ("--rows", 2000, "--width", 4, "--epochs", 1, "--scale", 0.001, "--min-rows", 100, "--threads", 1)
    done = call("compare", *options, "--methods", "full,mlet:k=8", "--out", tmp_path / "runs")
    assert done.exit_code == 0, done.output
    done = call("report", tmp_path / "runs", "--page", "spectrum")
    assert done.exit_code == 0, done.output
    text = (tmp_path / "runs" / "spectrum.md").read_text()
    assert "full, width 4 | mlet:k=8, width 4" in text
    assert "At width 4 the factored table's effective rank is" in text
