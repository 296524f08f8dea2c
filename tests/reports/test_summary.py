import math
from dataclasses import replace

import numpy as np
import pytest

from embpress.dlrm.runs.record import Asked
from embpress.reports.numerals import plain, signed, size
from embpress.reports.plotting.pareto import pareto_front
from embpress.reports.stats import paired, stat
from embpress.reports.summary import shorten, summary

# 97.5 % quantiles from printed tables.
QUANTILES = {1: 12.7062, 2: 4.30265, 3: 3.18245, 4: 2.77645, 9: 2.26216, 30: 2.04227, 120: 1.97993}


@pytest.mark.parametrize("df", QUANTILES)
def test_intervals_are_those_of_the_printed_tables(df):
    # half of the values are 1 and half −1, so that the standard error is known
    values = {i: (-1.0) ** i for i in range(df + 1)}
    found = paired(values, dict.fromkeys(values, 0.0))
    assert (found.high - found.mean) / (found.sd / math.sqrt(df + 1)) == pytest.approx(QUANTILES[df], rel=3e-6)


def test_mean_and_spread_are_those_of_numpy():
    values = np.random.default_rng(0).normal(size=7)
    found = stat(values.tolist())
    assert (found.mean, found.sd, found.n) == pytest.approx((values.mean(), values.std(ddof=1), 7))
    assert stat([2.0]).sd is None
    assert stat([]) is None


def test_difference_is_paired_by_seed(runs):
    rows = {row.method: row for row in summary(runs)}
    auc = {m: np.array([r.metrics["auc"] for r in runs if r.method == m]) for m in ("full", "hash")}
    gap = auc["hash"] - auc["full"]
    found = rows["hash"].auc_to_full
    half = QUANTILES[2] * gap.std(ddof=1) / math.sqrt(3)
    wanted = (gap.mean(), gap.std(ddof=1), gap.mean() - half, gap.mean() + half)
    assert (found.mean, found.sd, found.low, found.high) == pytest.approx(wanted, rel=1e-5)
    assert found.distinguishable is bool(abs(gap.mean()) > half)
    assert rows["full"].auc_to_full is None


def test_only_shared_seeds_count():
    found = paired({0: 1.0, 1: 2.0, 5: 9.0}, {1: 1.5, 0: 1.0, 7: 0.0})
    assert (found.n, found.mean) == (2, 0.25)
    assert paired({0: 1.0}, {1: 1.0}) is None
    assert paired({0: 1.0}, {0: 0.5}).distinguishable is None
    assert paired({0: 1.0, 1: 1.0}, {0: 0.5, 1: 0.5}).distinguishable is True


def test_order_full_then_auc_then_the_lost(runs):
    rows = summary(list(reversed(runs)))
    assert rows[0].is_full
    aucs = [row.mean("auc") for row in rows[1:] if "auc" in row.stats]
    assert aucs == sorted(aucs, reverse=True)
    assert {row.status for row in rows[-2:]} == {"failed", "cannot reach"}


def test_two_asked_sizes_are_two_rows_with_their_own_labels(run):
    asked = [{"ratio": ratio, "budget": None} for ratio in (16.0, 64.0)]
    runs = [run("tt", seed, ratio=a["ratio"], asked=a) for a in asked for seed in (0, 1)]
    runs += [run("full", 0, asked=a) for a in asked]
    rows = summary(runs)
    assert sorted(row.label for row in rows) == ["full", "tt @16×", "tt @64×"]
    assert [row.n for row in rows] == [1, 2, 2]


def test_plans_go_by_their_file_and_by_its_path_where_two_are_called_alike(run):
    one, other, third = (f"plan:runs/{name}.json" for name in ("a/small", "b/small", "b/tiny"))
    rows = summary([run(method, 0) for method in ("full", one, other, third)])
    assert {row.label for row in rows} == {"full", one, other, "plan:tiny"}


def test_a_failed_seed_stays_with_its_method_and_a_repeated_one_counts_once(run, lost):
    runs = [run("tt", 0), run("tt", 0, auc=0.8, created="2027"), lost("tt", 1), lost("tt", 0)]
    (row,) = summary(runs)
    assert (row.n, row.status, row.mean("auc")) == (1, "1 of 2 ok", 0.8)


def test_other_training_settings_are_not_paired(run):
    rows = summary([run("full", 0), run("tt", 0, training={"epochs": 1})])
    assert rows[1].auc_to_full is None


def test_budget_that_cannot_be_reached(lost):
    asked = {"ratio": None, "budget": 1_000_000}
    (row,) = summary([lost("tt", 0, "cannot reach", asked=asked, smallest={"bytes": 2_500_000, "ratio": 4})])
    assert row.reasons == ["cannot reach 1.0 MB, smallest 2.5 MB"]


def test_pareto_front_is_that_of_brute_force():
    rng = np.random.default_rng(1)
    for _ in range(200):
        points = [(float(x), float(y)) for x, y in rng.integers(0, 6, size=(rng.integers(1, 12), 2))]
        beaten = {
            i for i, (x, y) in enumerate(points) if any(a <= x and b >= y and (a < x or b > y) for a, b in points)
        }
        assert set(pareto_front(points)) == set(range(len(points))) - beaten


@pytest.mark.parametrize(
    ("value", "text"),
    [(0, "0 B"), (999, "999 B"), (1500, "1.5 kB"), (999_960, "1.0 MB"), (1.5e6, "1.5 MB"), (2e12, "2.0 TB")],
)
def test_bytes_are_decimal(value, text):
    assert size(value) == text


def test_numbers_as_text():
    assert signed(-0.00291) == "−0.0029"
    assert signed(0.00291) == "+0.0029"
    assert signed(-0.00001) == "0.0000"
    assert [plain(v) for v in (2, 9.456, 41.23, 1234.5)] == ["2", "9.46", "41.2", "1,234"]


def test_short_labels_still_differ():
    labels = ["tt:rank=16,init=a,cores=3", "tt:rank=16,init=b,cores=3", "hash"]
    short = shorten(labels, 12)
    assert len(set(short)) == 3
    assert all(len(text) <= 12 for text in short)


def test_of_several_sizes_the_mildest_comes_first(run, lost):
    def at(method, ratio, auc):
        return run(method, auc=auc, ratio=ratio * 1.02, asked={"ratio": ratio, "budget": None})

    runs = [at("hash", 64.0, 0.73), at("hash", 4.0, 0.70), at("qr", 4.0, 0.74), at("qr", 16.0, 0.75)]
    runs += [run("full", auc=0.71), run("tt:rank=2", ratio=9.0), lost("tt", asked={"ratio": 4.0, "budget": None})]
    rows = [row.label for row in summary(runs)]
    assert rows == ["full", "qr @4×", "hash @4×", "tt", "tt:rank=2", "qr @16×", "hash @64×"]
    full = runs[0].metrics["full_bytes"]
    in_bytes = [Asked(budget=int(full / one.asked.ratio)) if one.asked.ratio else one.asked for one in runs]
    by_budget = summary(replace(one, asked=asked) for one, asked in zip(runs, in_bytes))
    assert [row.method for row in by_budget] == ["full", "qr", "hash", "tt", "tt:rank=2", "qr", "hash"]
    one_size = [at("hash", 4.0, 0.70), at("qr", 4.0, 0.74), run("tt:rank=2", auc=0.72, ratio=2.0)]
    assert [row.method for row in summary(one_size)] == ["qr", "tt:rank=2", "hash"]
