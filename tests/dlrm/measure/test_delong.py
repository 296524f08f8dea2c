"""DeLong's covariance against the paper's formulas, term by term, and its interval against simulated truth."""

import math
import tracemalloc

import numpy as np
import pytest
from scipy.stats import binom, norm

from embpress.dlrm.measure import delong
from embpress.dlrm.measure.delong import covariance, placements


def by_the_paper(scores, labels):
    """AUCs and their covariance from equations (4) to (6) of DeLong et al., every pair of rows looked at."""
    x, y = scores[:, labels == 1], scores[:, labels == 0]
    psi = (y[:, None, :] < x[:, :, None]) + 0.5 * (y[:, None, :] == x[:, :, None])  # (R, m, n)
    v10, v01 = psi.mean(2), psi.mean(1)
    m, n = x.shape[1], y.shape[1]
    return psi.mean((1, 2)), np.cov(v10) / m + np.cov(v01) / n


def by_midranks(scores, labels):
    placed = [placements(one, labels) for one in scores]
    aucs = np.array([one.auc for one in placed])
    return aucs, covariance(np.stack([one.values for one in placed]), aucs, labels)


@pytest.mark.parametrize("levels", [2, 5, 30, None], ids=["two scores", "many ties", "some ties", "no tie"])
@pytest.mark.parametrize(("positive", "negative"), [(2, 2), (3, 40), (40, 3), (50, 70)])
def test_aucs_and_covariance_are_those_of_the_paper(levels, positive, negative):
    rng = np.random.default_rng(positive * negative)
    labels = rng.permutation([1] * positive + [0] * negative)
    shared = rng.normal(size=len(labels))
    scores = np.stack([shared + rng.normal(size=len(labels)) + 0.4 * k * labels for k in range(4)])
    if levels is not None:
        scores = np.clip(np.round((scores + 3) / 6 * levels), 0, levels)
    aucs, found = by_midranks(scores, labels)
    wanted_aucs, wanted = by_the_paper(scores, labels)
    np.testing.assert_allclose(aucs, wanted_aucs, rtol=1e-12)
    np.testing.assert_allclose(found, wanted, rtol=1e-5, atol=1e-9)  # placements are float32


def test_ranks_alone_count():
    rng = np.random.default_rng(0)
    labels, scores = rng.integers(0, 2, 200), rng.normal(size=200)
    one, other = placements(scores, labels), placements(np.exp(3 * scores), labels)
    np.testing.assert_array_equal(one.values, other.values)
    assert placements(-scores, labels).auc == pytest.approx(1 - one.auc)


@pytest.mark.parametrize(
    ("scores", "labels"),
    [
        ([0.1, 0.2, 0.3, math.nan], [0, 1, 0, 1]),
        ([0.1, 0.2, 0.3, math.inf], [0, 1, 0, 1]),
        ([0.1, 0.2, 0.3], [1, 1, 1]),
        ([0.1, 0.2, 0.3], [0, 0, 0]),
        ([0.1, 0.2, 0.3], [1, 0, 0]),
        ([], []),
    ],
    ids=["nan", "infinite", "no negative", "no positive", "one positive", "no row"],
)
def test_without_two_rows_of_each_class_or_with_no_numbers_there_is_nothing(scores, labels):
    assert placements(np.array(scores), np.array(labels)) is None


def test_the_same_predictions_differ_by_nothing():
    rng = np.random.default_rng(3)
    labels, scores = rng.integers(0, 2, 500), rng.normal(size=500)
    _, found = by_midranks(np.stack([scores, scores]), labels)
    assert found[0, 0] + found[1, 1] - 2 * found[0, 1] == pytest.approx(0, abs=1e-18)


def test_rows_in_pieces_give_the_same(monkeypatch):
    rng = np.random.default_rng(4)
    labels = rng.integers(0, 2, 1001)
    scores = rng.normal(size=(3, 1001)) + labels
    _, whole = by_midranks(scores, labels)
    monkeypatch.setattr(delong, "_CHUNK", 3 * 100)
    _, pieces = by_midranks(scores, labels)
    np.testing.assert_allclose(pieces, whole, rtol=1e-12)


def test_memory_is_a_few_numbers_a_row():
    """Beyond what is given: some arrays of a model's rows while they are sorted, and one piece of the covariance."""
    n = 200_000
    rng = np.random.default_rng(5)
    labels = (rng.random(n) < 0.25).astype(np.int8)
    scores = rng.random(n).astype(np.float32)
    tracemalloc.start()
    try:
        placements(scores, labels)
        _, peak = tracemalloc.get_traced_memory()
        assert peak < 64 * n
        values = np.repeat(scores[None], 64, 0)
        tracemalloc.reset_peak()
        before, _ = tracemalloc.get_traced_memory()
        covariance(values, np.full(64, 0.5), labels)
        _, peak = tracemalloc.get_traced_memory()
        assert peak - before < 3 * 8 * delong._CHUNK  # 64 models of these rows in float64 would be 3 times as much
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize(("shared", "better"), [(0.0, 0.0), (0.8, 0.0), (0.8, 0.3)])
def test_the_interval_of_one_seed_covers_the_truth_as_often_as_it_says(shared, better):
    """Two models with normal scores of known AUC: in 1000 samples of rows the 95 % interval holds the difference."""
    repeats, n, shift = 1000, 240, 0.7
    rng = np.random.default_rng(6)
    truth = norm.cdf((shift + better) / math.sqrt(2)) - norm.cdf(shift / math.sqrt(2))
    labels = np.array([1] * (n // 3) + [0] * (n - n // 3))
    held = 0
    for _ in range(repeats):
        both, own = rng.normal(size=n), rng.normal(size=(2, n))
        scores = math.sqrt(shared) * both + math.sqrt(1 - shared) * own + labels * np.array([[shift + better], [shift]])
        aucs, found = by_midranks(scores, labels)
        error = math.sqrt(found[0, 0] + found[1, 1] - 2 * found[0, 1])
        held += abs(aucs[0] - aucs[1] - truth) <= 1.959964 * error
    low, high = binom.ppf([0.0005, 0.9995], repeats, 0.95)
    assert low <= held <= high
