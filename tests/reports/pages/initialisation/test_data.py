"""Measured initial values and the KL formula against integrals and moments."""

import math

import numpy as np
import pytest

from embpress.compressors.methods.tt.init import INITS
from embpress.reports.pages.initialisation.data import (
    Shape,
    density,
    entries,
    excess_kurtosis,
    kl_uniform_normal,
    products,
    relative_std,
    shape_of,
)

MATCHED = [name for name in INITS if name != "sampled-gaussian-fbtt"]
SHAPE = Shape("C3", 5000, 16, True, "8", 64, {"rank": 8})


@pytest.mark.parametrize("n", [10, 1000, 10_131_227])
@pytest.mark.parametrize("variance", [lambda n: 1.0, lambda n: 1 / (3 * n), lambda n: 0.7 / n])
def test_kl_is_the_integral(n, variance):
    # float: integral of p ln(p / q) over the uniform's support, midpoint rule
    sigma2, a, steps = variance(n), 1 / math.sqrt(n), 200_000
    x = -a + 2 * a * (np.arange(steps) + 0.5) / steps
    log_q = -(x**2) / (2 * sigma2) - 0.5 * math.log(2 * math.pi * sigma2)
    assert kl_uniform_normal(n, sigma2) == pytest.approx(float((-math.log(2 * a) - log_q).mean()), rel=1e-8)


def test_kl_is_least_at_the_uniforms_variance():
    n = 777
    minimum = kl_uniform_normal(n, 1 / (3 * n))
    assert minimum == pytest.approx(0.5 * math.log(math.pi / 6) + 0.5)
    assert all(kl_uniform_normal(n, factor / (3 * n)) > minimum for factor in (0.5, 0.97, 1.03, 2))


def test_the_papers_table_1_is_minus_kl_but_for_two_slips():
    n = 2_000_000
    c = 0.5 * math.log(2 / (math.pi * n))
    assert -kl_uniform_normal(n, 1) == pytest.approx(c - 1 / (6 * n))
    assert -kl_uniform_normal(n, 1 / 2) == pytest.approx(c - 1 / (3 * n) + 0.34, abs=0.01)
    assert -kl_uniform_normal(n, 1 / 8) == pytest.approx(c - 4 / (3 * n) + 1.04, abs=0.001)  # it prints 1.4
    assert -kl_uniform_normal(n, 1 / (3 * n)) == pytest.approx(-0.17, abs=0.01)
    # it prints 18 / (πn)
    assert -kl_uniform_normal(n, 1 / (9 * n * n)) == pytest.approx(0.5 * math.log(18 * n / math.pi) - 1.5 * n)


@pytest.mark.parametrize("name", INITS)
def test_densities_integrate_to_one(name):
    values = products(name, 100, 50_000)
    edges = np.linspace(values.min(), values.max(), 300)
    assert float((density(values, edges) * np.diff(edges)).sum()) == pytest.approx(1)
    middle = edges[100:201]  # a part of the range keeps its share
    inside = np.mean((values >= middle[0]) & (values <= middle[-1]))
    assert float((density(values, middle) * np.diff(middle)).sum()) == pytest.approx(float(inside))


def test_density_of_a_known_distribution():
    values = np.random.default_rng(0).normal(size=400_000)
    edges = np.linspace(-3, 3, 31)
    middle = (edges[1:] + edges[:-1]) / 2
    np.testing.assert_allclose(density(values, edges), np.exp(-(middle**2) / 2) / math.sqrt(2 * math.pi), atol=0.01)


@pytest.mark.parametrize("name", MATCHED)
def test_a_matched_product_has_the_variance_of_a_full_table(name):
    n = 300
    found = products(name, n, 400_000)
    assert relative_std(found[None], 1 / math.sqrt(3 * n))[0] == pytest.approx(1, rel=0.03)
    assert abs(found.mean()) * math.sqrt(3 * n) < 0.01


def test_shapes_at_rank_one_and_at_the_rank_used():
    # E[x⁴] / E[x²]² of a product is the product of those of its factors: 3³ and 1.8³
    assert excess_kurtosis(products("gaussian", 10, 2_000_000)) == pytest.approx(27 - 3, rel=0.15)
    assert excess_kurtosis(products("uniform", 10, 400_000)) == pytest.approx(1.8**3 - 3, rel=0.05)
    gap = (2 / math.sqrt(5.7525)) ** 3 / math.sqrt(3)
    smallest = np.abs(products("sampled-gaussian", 10, 400_000)).min() * math.sqrt(10)
    assert smallest == pytest.approx(gap, rel=0.01)
    for name in MATCHED:  # a sum of 64 products: much nearer to a normal
        assert abs(excess_kurtosis(entries(SHAPE, name, 4, 20_000))) < 2.2


def test_scales_of_the_published_code():
    n, ranks = 5000, 64
    unit = 1 / math.sqrt(3 * n)
    for name, one, many in [
        ("sampled-gaussian-fbtt", 5.7525**1.5, 5.7525**1.5 * math.sqrt(ranks)),
        ("published:normal", n**-1.5 / unit, n**-1.5 * math.sqrt(ranks) / unit),
    ]:
        assert relative_std(products(name, n, 400_000)[None], unit)[0] == pytest.approx(one, rel=0.05)
        assert relative_std(entries(SHAPE, name, 4, 20_000), unit)[0] == pytest.approx(many, rel=0.05)
    # U(0, s) a core: the mean of an entry is (s/2)³ R1 R2
    found = entries(SHAPE, "published:uniform", 4, 20_000)
    width = (2 / (n + 16)) ** (1 / 6) * ranks ** (-1 / 6)
    assert found.min() > 0
    assert float(found.mean()) == pytest.approx((width / 2) ** 3 * ranks, rel=0.05)


def test_draws_repeat_and_differ():
    first, again = (entries(SHAPE, "uniform", 2, 2000) for _ in range(2))
    assert (first == again).all()
    assert not (first[0] == first[1]).any()


def test_the_shape_is_that_of_the_largest_tt_table(run):
    def tables(*shapes):
        return run("tt", tables=[{**base, "feature": f, "num_embeddings": n, **more} for f, n, more in shapes])

    def tt(**knobs):
        return {"method": "tt", "knobs": knobs}

    base = {"embedding_dim": 16, "method": "full", "serving_bytes": 1, "full_bytes": 1}
    two_cores = tt(rank=4, num_cores=2, row_factors="20x25", column_factors="4x4")
    three_cores = tt(rank="3x5", num_cores=3, row_factors="7x10x10", column_factors="2x2x4", init="uniform")
    runs = [tables(("a", 9000, {}), ("b", 500, two_cores)), tables(("c", 700, three_cores)), tables()]
    found = shape_of(runs)
    assert (found.feature, found.num_embeddings, found.rank, found.terms, found.trained) == ("c", 700, "3×5", 15, True)
    alone = shape_of(runs[:1])
    assert (alone.feature, alone.rank, alone.terms) == ("b", "4", 4)
    assert entries(alone, "uniform", 1, 160).shape == (1, 160)
    full = shape_of([tables(("ä", 9000, {}))])
    assert (full.feature, full.trained, full.rank) == ("ä", False, "32")
    one_row = shape_of([tables(("x", 1, {}))])
    assert np.isfinite(entries(one_row, "gaussian", 2, 64)).all()
    assert shape_of([tables()]) is None
