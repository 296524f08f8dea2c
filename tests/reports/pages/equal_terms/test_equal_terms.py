"""Runs read at equal bytes, after equal epochs, in equal time."""

import pytest

from embpress.dlrm.runs.record import Asked
from embpress.reports import write_report
from embpress.reports.pages.equal_terms.data import lines_of, terms_of
from embpress.reports.pages.equal_terms.page import NOTHING, lacks
from embpress.reports.summary import summary

SIZE = {"asked": {"ratio": 16.0, "budget": None}}


def curve(valid, seconds, test):
    """Two points an epoch, `seconds` each; test AUC at ends of epochs."""
    return [
        {
            "step": 10 * (k + 1),
            "epoch": (k + 1) / 2,
            "valid_auc": auc,
            "seconds": seconds * (k + 1),
            **({"test_auc": test[k // 2]} if k % 2 else {}),
        }
        for k, auc in enumerate(valid)
    ]


def made(run):
    return [
        # best after epoch 2, which takes 4 seconds
        run("full", 0, learning_curve=curve([0.6, 0.7, 0.78, 0.79, 0.75, 0.74], 1.0, [0.69, 0.77, 0.73])),
        # faster, slower to learn
        run("hash", 0, learning_curve=curve([0.5, 0.6, 0.65, 0.7, 0.74, 0.76], 0.7, [0.59, 0.68, 0.75]), **SIZE),
        # slower, so that one epoch alone fits
        run("tt", 0, learning_curve=curve([0.6, 0.7, 0.75, 0.76, 0.765, 0.77], 1.5, [0.69, 0.74, 0.765]), **SIZE),
        # so slow that no epoch does
        run("dhe", 0, learning_curve=curve([0.6, 0.7, 0.75, 0.76, 0.765, 0.77], 3.0, [0.69, 0.74, 0.76]), **SIZE),
    ]


def test_three_readings(run):
    rows = summary(made(run))
    terms = terms_of(rows)
    assert (terms.epochs, terms.seconds) == ({0: 2.0}, {0: 4.0})
    found = {line.row.name: line for line in lines_of(rows, terms)}
    full, hashed, tt, dhe = (found[name] for name in ("full", "hash", "tt", "dhe"))
    assert {reading.test.mean for reading in (full.bytes, full.epochs, full.seconds)} == {0.77}
    assert (hashed.bytes.test.mean, hashed.epochs.test.mean) == (0.75, 0.68)
    # two and a half epochs fit: the best whole one is the second, the best point the half
    assert (hashed.seconds.test.mean, hashed.seconds.valid.mean, hashed.seconds.epochs.mean) == (0.68, 0.74, 2.5)
    assert (tt.seconds.test.mean, tt.seconds.valid.mean) == (0.69, 0.7)
    assert dhe.seconds.test is None
    assert dhe.seconds.valid.mean == 0.6
    assert dhe.seconds.test_gap is None
    assert hashed.epochs.test_gap.mean == pytest.approx(0.68 - 0.77)
    assert tt.seconds.valid_gap.mean == pytest.approx(0.7 - 0.79)


def test_a_seed_without_full_tables_has_the_mean_of_theirs(run):
    fulls = [run("full", seed, learning_curve=curve([0.6, 0.7, 0.71, 0.72], 1.0 + seed, [0.6, 0.7])) for seed in (0, 1)]
    terms = terms_of(summary([*fulls, run("tt", 2)]))
    assert terms.seconds_of(1) == 8.0
    assert terms.seconds_of(2) == 6.0
    assert terms.epochs_of(2) == 2.0


def test_without_full_tables_the_fastest_sets_the_time(run):
    slow = run("tt", 0, learning_curve=curve([0.6, 0.7, 0.71, 0.72], 2.0, [0.6, 0.7]), train_seconds=8.0)
    fast = run("hash", 0, learning_curve=curve([0.6, 0.65, 0.66, 0.67], 1.0, [0.6, 0.66]), train_seconds=4.0)
    rows = summary([slow, fast])
    terms = terms_of(rows)
    assert terms.full is None
    assert terms.fastest.name == "hash"
    assert terms.seconds_of(0) == 4.0
    found = {line.row.name: line for line in lines_of(rows, terms)}
    assert found["tt"].epochs.test.mean == found["tt"].seconds.test.mean == 0.6
    assert found["tt"].bytes.test_gap is None


def test_the_page(run, runs, tmp_path):
    write_report(tmp_path, [*runs, *made(run)], ["equal-terms"])
    text = (tmp_path / "equal-terms.md").read_text()
    assert "## At 16×" in text
    assert "nothing was chosen on the test part" in text
    assert (tmp_path / "plots" / "equal_terms.png").read_bytes()[:4] == b"\x89PNG"
    assert "in proportion to the steps" in text  # of the records that tell no seconds
    few = [run("full", 0, learning_curve=[]), run("<b>|x", 0, learning_curve=[], asked=vars(Asked(16.0)))]
    assert lacks(few) == NOTHING
    assert lacks(made(run)) == ""
    write_report(tmp_path, few, ["equal-terms"])
    assert NOTHING in (tmp_path / "equal-terms.md").read_text()
    assert not (tmp_path / "plots" / "equal_terms.png").exists()


def test_names_are_escaped(run, tmp_path):
    odd = run("a|<b>", 0, learning_curve=curve([0.6, 0.7], 1.0, [0.6]))
    write_report(tmp_path, [odd], ["equal-terms"])
    assert "a\\|\\<b>" in (tmp_path / "equal-terms.md").read_text()
