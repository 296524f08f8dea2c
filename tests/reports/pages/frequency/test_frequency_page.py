"""Scores by id frequency, held against full tables bin by bin."""

import pytest

from embpress.reports import write_report
from embpress.reports.pages.frequency.data import lines_of
from embpress.reports.pages.frequency.page import NOTHING, lacks
from embpress.reports.summary import summary

NAMES = ("all", "head", "torso", "tail", "unseen")


def bins(*aucs):
    return [
        {"name": name, "ids": 10 * k, "lookups": 0.25, "auc": auc, "log_loss": 0.5, "calibration": 1.1, "ece": 0.02}
        for k, (name, auc) in enumerate(zip(NAMES, aucs))
        if auc is not None
    ]


def made(run):
    fulls = [(0.75, 0.8, 0.7, 0.66, 0.5), (0.76, 0.81, 0.72, 0.65, 0.51), (0.74, 0.79, 0.71, 0.67, 0.52)]
    runs = [run("full", seed, by_frequency=bins(*aucs)) for seed, aucs in enumerate(fulls)]
    lost = (0.01, 0.0, 0.01, 0.05, 0.0)
    aucs = [[auc - less - 0.001 * seed for auc, less in zip(own, lost)] for seed, own in enumerate(fulls)]
    return runs + [run("hash", seed, by_frequency=bins(*own)) for seed, own in enumerate(aucs)]


def test_gaps_of_bins(run):
    full, hashed = lines_of(summary(made(run)), ["auc", "log_loss"])
    assert full.scores[("auc", "head")].gap is None
    assert full.scores[("auc", "head")].stat.mean == pytest.approx(0.8)
    tail = hashed.scores[("auc", "tail")].gap
    assert tail.mean == pytest.approx(-0.051)
    assert tail.distinguishable
    assert not hashed.scores[("auc", "head")].gap.distinguishable
    assert hashed.scores[("log_loss", "tail")].gap.mean == 0


def test_the_page(run, runs, tmp_path):
    write_report(tmp_path, [*made(run), *runs[6:8]], ["frequency"])
    text = (tmp_path / "frequency.md").read_text()
    assert "**−0.0510**" in text
    assert "| tail | 30 | 25.0 % |" in text
    assert (tmp_path / "plots" / "auc_by_frequency.png").exists()
    assert lacks(runs) == NOTHING
    assert lacks(made(run)) == ""
    write_report(tmp_path, runs, ["frequency"])
    assert NOTHING in (tmp_path / "frequency.md").read_text()
    assert not (tmp_path / "plots" / "auc_by_frequency.png").exists()


def test_a_bin_without_a_number_and_one_without_full_tables(run, tmp_path):
    (alone,) = lines_of(summary([run("hash", by_frequency=bins(0.7, None, 0.6, 0.5, None))]), ["auc"])
    assert ("auc", "head") not in alone.scores
    assert alone.scores[("auc", "tail")].gap is None
    silent = [{"name": "all", "ids": 1, "lookups": 1.0}]
    write_report(tmp_path, [run("hash", by_frequency=silent)], ["frequency"])
    assert "| hash | – |" in (tmp_path / "frequency.md").read_text()
