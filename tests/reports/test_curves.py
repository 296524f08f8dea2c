"""What a run had reached by its learning curve; means and differences over the seeds."""

import pytest
from scipy import stats

from embpress.reports.curves import best, best_epoch, reached, seconds_are_shares
from embpress.reports.gaps import gap, gap_text, interval, interval_text, mean_of, mean_text
from embpress.reports.summary import summary

CURVE = [
    {"step": 10, "epoch": 0.5, "valid_auc": 0.70, "seconds": 1.0},
    {"step": 20, "epoch": 1, "valid_auc": 0.72, "seconds": 2.5, "test_auc": 0.71},
    {"step": 30, "epoch": 1.5, "valid_auc": 0.76, "seconds": 3.5},
    {"step": 40, "epoch": 2, "valid_auc": 0.74, "seconds": 5.0, "test_auc": 0.73},
    {"step": 50, "epoch": 2.5, "seconds": 6.0},
    {"step": 60, "epoch": 3, "valid_auc": 0.74, "seconds": 7.0, "test_auc": 0.75},
]


def test_points_of_a_curve(run):
    points = reached(run(learning_curve=CURVE))
    assert [point.epoch for point in points] == [0.5, 1, 1.5, 2, 3]
    assert [point.seconds for point in points] == [1.0, 2.5, 3.5, 5.0, 7.0]
    assert best(points).epoch == 1.5
    assert best_epoch(points) == points[3]  # of equal ones the first; its test AUC is the smaller one
    assert best([]) is None
    assert best_epoch(points[:1]) is None


def test_records_of_before(run):
    old = [{key: point[key] for key in point if key not in ("seconds", "test_auc")} for point in CURVE]
    made = run(learning_curve=old, train_seconds=12.0, best_epoch=2, auc=0.733, auc_last=0.751)
    points = reached(made)
    assert [point.seconds for point in points] == [2.0, 4.0, 6.0, 8.0, 12.0]
    assert [point.test_auc for point in points] == [None, None, None, 0.733, 0.751]
    assert seconds_are_shares(made)
    assert not seconds_are_shares(run(learning_curve=CURVE))


def test_means_and_gaps_over_the_seeds(run):
    runs = [run("full", seed, auc=auc) for seed, auc in enumerate((0.75, 0.76, 0.78))]
    runs += [run("tt", seed, auc=auc) for seed, auc in enumerate((0.74, 0.752, 0.771))]
    full, tt = summary(runs)

    def auc(run):
        return run.metrics["auc"]

    found = gap(tt, full, auc)
    wanted = stats.ttest_rel((0.74, 0.752, 0.771), (0.75, 0.76, 0.78)).confidence_interval(0.95)
    assert (found.low, found.high) == pytest.approx((wanted.low, wanted.high))
    assert gap_text(found) == "**−0.0090**"
    assert gap(full, full, auc) is gap(tt, None, auc) is None
    assert mean_text(mean_of(tt, auc)) == "0.7543 ± 0.0156"
    assert mean_text(mean_of(tt, lambda run: None)) == gap_text(None) == interval_text(None) == "–"
    one = interval({0: 2.0, 1: 3.0, 2: 4.0})
    wanted = stats.t.interval(0.95, 2, 3.0, 1 / 3**0.5)
    assert (one.mean, one.low, one.high) == pytest.approx((3.0, *wanted))
    assert interval_text(one) == "3 (0.52 to 5.48)"
    assert interval_text(interval({4: 2.0})) == "2"
