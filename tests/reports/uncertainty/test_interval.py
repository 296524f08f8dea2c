"""Intervals and p-values over seeds, rows and both: against printed tables, and against simulated truth."""

import math

import numpy as np
import pytest
from scipy.stats import binom, norm, t

from embpress.dlrm.measure.delong import covariance, placements
from embpress.reports.stats import paired
from embpress.reports.uncertainty.interval import BOTH, ROWS, SEEDS, estimate, half_width, holm, p_value
from embpress.reports.uncertainty.rows import RowCovariance

REPEATS = 400
RIGHT = binom.ppf(0.0005, REPEATS, 0.95)  # an interval that covers 95 % covers less often once in 2000 such tests


def least(share, repeats=REPEATS):
    return binom.ppf(0.0005, repeats, share)


class Draw:
    """Models with normal scores: rows, methods and seeds each have a part in them, so that the true AUC is known."""

    def __init__(self, rng, seeds, rows, shifts, seed_spread, own_noise):
        self.labels = np.repeat([1, 0], [rows // 3, rows - rows // 3])
        base, of_method = rng.normal(size=rows), rng.normal(size=(len(shifts), 1, rows))
        own = rng.normal(size=(len(shifts), seeds, rows))
        self.shift = np.array(shifts)[:, None] + seed_spread * rng.normal(size=(len(shifts), seeds))
        self.noise = math.sqrt(1 + 0.3**2 + own_noise**2)
        self.scores = base + 0.3 * of_method + own_noise * own + self.shift[..., None] * self.labels
        # over rows and seeds: a row of label 1 is ahead by shift, give or take two rows' noise and the seed's spread
        self.truth = norm.cdf(np.array(shifts) / math.sqrt(2 * self.noise**2 + seed_spread**2))
        placed = [placements(one, self.labels) for one in self.scores.reshape(-1, rows)]
        self.auc = np.array([one.auc for one in placed]).reshape(len(shifts), seeds)
        matrix = covariance(np.stack([one.values for one in placed]), self.auc.ravel(), self.labels)
        keys = [(str(m), str(s)) for m in range(len(shifts)) for s in range(seeds)]
        self.covariance = RowCovariance({key: i for i, key in enumerate(keys)}, matrix, rows)

    def estimate(self, a, b, rows=True):
        runs = [{s: Named(str(m), str(s)) for s in range(self.auc.shape[1])} for m in (a, b)]
        shared = self.covariance.shared(*runs) if rows else None
        return estimate(dict(enumerate(self.auc[a])), dict(enumerate(self.auc[b])), shared)


class Named:
    """Of a run its key alone."""

    def __init__(self, id, created):
        self.id, self.created = id, created


@pytest.mark.parametrize("seeds", [2, 3, 5])
@pytest.mark.parametrize(
    ("seed_spread", "own_noise"), [(0.02, 0.1), (0.1, 0.5), (0.3, 0.0)], ids=["rows", "both alike", "seeds"]
)
def test_the_interval_over_both_covers_what_new_seeds_and_new_rows_would_give(seeds, seed_spread, own_noise):
    rng = np.random.default_rng(seeds)
    held = widths = 0
    for _ in range(REPEATS):
        made = Draw(rng, seeds, 150, (0.9, 0.7), seed_spread, own_noise)
        found = made.estimate(0, 1)
        assert found.over == BOTH
        held += abs(found.mean - (made.truth[0] - made.truth[1])) <= found.half_width
        widths += found.half_width
    assert held >= RIGHT
    if seeds == 5:  # and it is not wider than need be: at most a quarter more than 95 % takes, were the errors known
        errors = [
            made.estimate(0, 1).mean
            for made in (Draw(rng, 5, 150, (0.9, 0.7), seed_spread, own_noise) for _ in range(200))
        ]
        assert widths / REPEATS < 1.25 * t.ppf(0.975, 4) * np.std(errors)


def test_over_seeds_alone_it_covers_new_seeds_on_the_same_rows_and_not_new_rows():
    rng = np.random.default_rng(0)
    rows, seeds, spread = 150, 3, 0.1
    labels = np.repeat([1, 0], [50, 100])
    base, of_method = rng.normal(size=rows), 0.3 * rng.normal(size=(2, rows))

    def gaps(n):
        shift = np.array([0.9, 0.7]) + spread * rng.normal(size=(n, 2))
        scores = base + of_method + shift[..., None] * labels + 0.3 * rng.normal(size=(n, 2, rows))
        aucs = [placements(one, labels).auc for one in scores.reshape(-1, rows)]
        return np.array(aucs).reshape(n, 2) @ [1, -1]

    here = gaps(4000).mean()  # on these rows, all seeds together
    drawn = gaps(seeds * REPEATS).reshape(REPEATS, seeds)
    found = [estimate(dict(enumerate(gap)), dict.fromkeys(range(seeds), 0.0), None) for gap in drawn]
    assert {one.over for one in found} == {SEEDS}
    held = sum(abs(one.mean - here) <= one.half_width for one in found)
    assert RIGHT <= held <= binom.ppf(0.9995, REPEATS, 0.95)
    # what stands as Δ to full is the same interval
    old = paired(dict(enumerate(drawn[0])), dict.fromkeys(range(seeds), 0.0))
    assert (found[0].mean - found[0].half_width) == pytest.approx(old.low)
    # of other rows it says nothing
    held = 0
    for _ in range(REPEATS):
        made = Draw(rng, seeds, rows, (0.9, 0.7), 0.02, 0.1)
        found = made.estimate(0, 1, rows=False)
        held += abs(found.mean - (made.truth[0] - made.truth[1])) <= found.half_width
    assert held < 0.9 * REPEATS


def test_holm_is_wrong_about_any_pair_in_at_most_one_of_twenty_reports():
    """Six methods, four of them equally good: 15 pairs from the same seeds and rows, corrected together."""
    rng = np.random.default_rng(1)
    shifts = (0.8, 0.8, 0.8, 0.8, 1.2, 0.3)
    pairs = [(i, j) for i in range(6) for j in range(i + 1, 6)]
    equal = [k for k, (i, j) in enumerate(pairs) if shifts[i] == shifts[j]]
    wrong = wrong_alone = found = 0
    for _ in range(REPEATS):
        made = Draw(rng, 5, 120, shifts, 0.03, 0.2)
        p = np.array([made.estimate(i, j).p for i, j in pairs])
        corrected = holm(p)
        wrong += (corrected[equal] < 0.05).any()
        wrong_alone += (p[equal] < 0.05).any()
        found += (corrected < 0.05).sum()
    assert wrong <= binom.ppf(0.9995, REPEATS, 0.05)
    assert wrong_alone > wrong  # without a correction
    assert found > REPEATS  # and it does find what differs


def test_holm_steps_down():
    """The definition: the k-th smallest of n is held against alpha / (n - k + 1), until one fails."""
    rng = np.random.default_rng(2)
    for _ in range(300):
        p = rng.random(rng.integers(1, 9)) ** 4
        corrected = holm(p)
        for alpha in (0.01, 0.05, 0.2):
            rejected, order = set(), np.argsort(p)
            for k, i in enumerate(order):
                if p[i] >= alpha / (len(p) - k):
                    break
                rejected.add(int(i))
            assert set(np.flatnonzero(corrected < alpha).tolist()) == rejected
    np.testing.assert_allclose(holm(np.array([0.01, 0.04, 0.03, 0.005])), [0.03, 0.06, 0.06, 0.02])
    assert len(holm(np.array([]))) == 0


@pytest.mark.parametrize("n", [2, 3, 10])
@pytest.mark.parametrize(
    ("seed_error", "row_error"), [(0.002, None), (0.002, 0.0), (0.002, 0.001), (1e-6, 0.01), (1e-9, 1e-3)]
)
@pytest.mark.parametrize("alpha", [0.5, 0.05, 0.01, 1e-4])
def test_the_p_value_is_the_alpha_whose_interval_ends_at_zero(n, seed_error, row_error, alpha):
    edge = half_width(seed_error, row_error, n, alpha)
    assert p_value(edge, seed_error, row_error, n) == pytest.approx(alpha, rel=1e-6)
    assert p_value(-edge, seed_error, row_error, n) == pytest.approx(alpha, rel=1e-6)


def test_each_kind_of_interval_is_that_of_the_printed_tables():
    ours, theirs = {0: 0.72, 1: 0.73, 2: 0.71}, {0: 0.70, 1: 0.70, 2: 0.70}
    seeds = estimate(ours, theirs, None)
    assert (seeds.over, seeds.n, seeds.mean) == (SEEDS, 3, pytest.approx(0.02))
    assert seeds.half_width == pytest.approx(4.30265 * 0.01 / math.sqrt(3), rel=1e-5)
    assert seeds.p == pytest.approx(2 * t.sf(0.02 / (0.01 / math.sqrt(3)), 2))
    rows = estimate({0: 0.72}, {0: 0.70}, 0.01**2)
    assert (rows.over, rows.sd, rows.half_width) == (ROWS, None, pytest.approx(0.0195996, rel=1e-5))
    assert rows.p == pytest.approx(2 * norm.sf(2))
    both = estimate(ours, theirs, 0.01**2)
    assert both.half_width == pytest.approx(math.hypot(seeds.half_width, rows.half_width))
    assert (both.seeds_alone, both.rows_alone, both.both) == (seeds.half_width, None, both.half_width)


def test_what_nobody_knows_is_none():
    alone = estimate({0: 0.7, 4: 0.8}, {0: 0.6, 7: 0.9}, None)
    assert (alone.n, alone.over, alone.half_width, alone.p, alone.told) == (1, "", None, None, None)
    assert estimate({0: 0.7}, {1: 0.7}, None) is None
    assert estimate({0: math.nan}, {0: 0.7}, 0.1) is None
    same = estimate({0: 0.7}, {0: 0.7}, 0.0)
    assert (same.half_width, same.p) == (0.0, 1.0)
    always = estimate({0: 0.75, 1: 0.75}, {0: 0.5, 1: 0.5}, None)  # seeds that agree to the last digit
    assert (always.half_width, always.p) == (0.0, 0.0)


def test_what_the_rows_add_does_not_shrink_with_seeds_and_holds_nothing_twice():
    """Of models whose seeds share all noise it is DeLong's variance; of models that share none of it, nothing."""
    rng = np.random.default_rng(8)
    rows, labels = 3000, np.repeat([1, 0], [1000, 2000])

    def shared_of(scores):  # (2, seeds, rows)
        placed = [placements(one, labels) for one in scores.reshape(-1, rows)]
        matrix = covariance(np.stack([p.values for p in placed]), np.array([p.auc for p in placed]), labels)
        seeds = scores.shape[1]
        index = {(str(m), str(s)): m * seeds + s for m in (0, 1) for s in range(seeds)}
        runs = [{s: Named(str(m), str(s)) for s in range(seeds)} for m in (0, 1)]
        kept = RowCovariance(index, matrix, rows)
        alone = [kept.shared({0: runs[0][s]}, {0: runs[1][s]}) for s in range(seeds)]
        return kept.shared(*runs), np.mean(alone)

    of_method = rng.normal(size=(2, 1, rows)) + labels
    shared, alone = shared_of(np.repeat(of_method, 4, 1))
    assert shared == pytest.approx(alone, rel=1e-6)
    shared, alone = shared_of(rng.normal(size=(2, 30, rows)) + labels)
    assert shared < 0.05 * alone
