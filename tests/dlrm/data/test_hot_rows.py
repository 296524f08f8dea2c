"""Counts of hot rows against streams whose answer is known, and against counting by hand."""

import json
import random
from itertools import pairwise

import numpy as np
import pytest
import torch

from embpress.dlrm.data import hot_rows as hot_rows_module
from embpress.dlrm.data import load
from embpress.dlrm.data.hot_rows import CACHE_FRACTIONS, FRACTIONS, hits, hot_rows, rows_of, stability
from embpress.dlrm.training.order import Windows
from embpress.dlrm.training.settings import SHUFFLE_BLOCK


def slow_top(ids, k, tie):
    """The k most frequent ids, by a dictionary."""
    counts = {}
    for i in ids:
        counts[int(i)] = counts.get(int(i), 0) + 1
    return set(sorted(counts, key=lambda i: (-counts[i], -tie[i]))[:k])


def test_a_constant_hot_set_is_stable_from_the_first_point():
    chunk = np.repeat([7, 3, 90, 41], [50, 40, 30, 1])
    found = stability([chunk] * 6, 100, [1, 3])
    assert found == {"in_last": [[1] * 6, [3] * 6], "kept": [[1] * 5, [3] * 5]}


def test_a_hot_set_that_is_replaced_each_time_shares_nothing():
    # each chunk outweighs all before it
    chunks = [np.repeat(np.arange(5) + 5 * c, 10**c) for c in range(4)]
    found = stability(chunks, 20, [5])
    assert found == {"in_last": [[0, 0, 0, 5]], "kept": [[0, 0, 0]]}


def test_uniform_ids_share_little_at_first_and_ties_know_nothing_of_the_end():
    """Without frequent rows an early top k is a chance draw: it shares about k²/n rows with the last one."""
    n, k = 10_000, 500
    rng = np.random.default_rng(1)
    chunks = [*(rng.permutation(n) for _ in range(3)), rng.integers(0, n, n * 40)]
    # rows numbered by their frequency over all of the stream, as a vocabulary does it
    order = np.argsort(-np.bincount(np.concatenate(chunks), minlength=n), kind="stable")
    number = np.argsort(order)
    chunks = [number[chunk] for chunk in chunks]
    assert stability(chunks, n, [k])["in_last"][0][0] / k == pytest.approx(k / n, abs=0.04)


def test_rows_never_looked_up_are_not_hot():
    found = stability([np.array([1]), np.array([1, 2]), np.array([1, 2, 3])], 50, [3])
    assert found == {"in_last": [[1, 2, 3]], "kept": [[1, 2]]}


def test_one_row():
    assert stability([np.zeros(3, int), np.zeros(0, int)], 1, [1]) == {"in_last": [[1, 1]], "kept": [[1]]}
    assert hits(np.array([4]), np.zeros(9, int), [1]) == [9]


def test_stability_and_hits_against_counting_by_hand():
    rng = np.random.default_rng(0)
    n, ks = 60, [1, 4, 20, 60]
    chunks = [rng.zipf(1.4, 50 * (c + 1)) % n for c in range(5)]
    tie = np.random.default_rng(0).permutation(n)
    tops = [{k: slow_top(np.concatenate(chunks[: c + 1]), k, tie) for k in ks} for c in range(5)]
    found = stability(chunks, n, ks)
    for i, k in enumerate(ks):
        assert found["in_last"][i] == [len(top[k] & tops[-1][k]) for top in tops]
        assert found["kept"][i] == [len(a[k] & b[k]) for a, b in pairwise(tops)]
    train, test = np.concatenate(chunks), rng.zipf(1.4, 500) % n
    counts = np.bincount(train, minlength=n)
    best = sorted(range(n), key=lambda i: (-counts[i], i))
    assert hits(counts, test, ks) == [sum(int(i in best[:k]) for i in test) for k in ks]


def test_hit_rate_of_zipf_ids_is_the_share_of_the_harmonic_sum():
    n, exponent = 2000, 1.1
    p = np.arange(1, n + 1) ** -exponent
    p /= p.sum()
    rng = np.random.default_rng(0)
    sizes = [rows_of(fraction, n) for fraction in CACHE_FRACTIONS]
    train, test = (rng.choice(n, 400_000, p=p) for _ in range(2))
    found = hits(np.bincount(train, minlength=n), test, sizes)
    np.testing.assert_allclose(np.array(found) / len(test), np.cumsum(p)[np.array(sizes) - 1], atol=0.004)


def test_the_record_counts_the_ids_in_the_order_of_training():
    data = load(rows=6000, scale=0.001, min_count=1)
    found = hot_rows(data)
    assert json.loads(json.dumps(found)) == found
    sizes = [n for n in data.num_embeddings if n >= 200]
    assert found["num_tables"] == len(sizes)
    assert [table["num_embeddings"] for table in found["tables"]] == sorted(sizes, reverse=True)[:5]
    order = torch.randperm(len(data.train), generator=torch.Generator().manual_seed(0))
    table = found["tables"][0]
    f, n = data.features.index(table["feature"]), table["num_embeddings"]
    assert table["k"] == [rows_of(fraction, n) for fraction in FRACTIONS]
    shuffled, tie = data.train.ids[order, f].numpy(), np.random.default_rng(0).permutation(n)
    k = table["k"][2]
    tops = [slow_top(shuffled[: round(len(shuffled) * (c + 1) / 20)], k, tie) for c in range(20)]
    assert table["in_last"][2] == [len(top & tops[-1]) for top in tops]
    assert table["kept"][2] == [len(a & b) for a, b in pairwise(tops)]
    assert table["in_last"][2][-1] == k
    assert table["hits"][-1] == sum(int(i) in slow_top(shuffled, k * 10, -np.arange(n)) for i in data.test.ids[:, f])
    assert table["row0_lookups"] == int((data.test.ids[:, f] == 0).sum())
    assert found["all"]["num_embeddings"] == sum(sizes)
    assert found["all"]["k"][0] == sum(rows_of(FRACTIONS[0], n) for n in sizes)
    assert found["all"]["test_lookups"] == len(sizes) * len(data.test)


def test_bags_count_every_id_of_a_sample(tmp_path):
    import polars as pl

    rng = random.Random(0)
    words = [[str(int(rng.paretovariate(0.6))) for _ in range(rng.randrange(4))] for _ in range(4000)]
    pl.DataFrame({"click": [int(i % 3 == 0) for i in range(4000)], "words": words}).write_parquet(
        tmp_path / "a.parquet"
    )
    data = load(tmp_path / "a.parquet", label="click", sparse=["words"], min_count=1)
    assert data.train.bags
    table = hot_rows(data, min_rows=10)["tables"][0]
    assert table["test_lookups"] == len(data.test.bags[0].values)
    order = torch.randperm(len(data.train), generator=torch.Generator().manual_seed(0))
    half = data.train.take(order[: len(data.train) // 2]).bags[0].values
    tie = np.random.default_rng(0).permutation(table["num_embeddings"])
    k = table["k"][2]
    whole = slow_top(data.train.bags[0].values, k, tie)
    assert table["in_last"][2][9] == len(slow_top(half, k, tie) & whole)


def test_data_of_small_tables_have_nothing_to_count():
    found = hot_rows(load(rows=3000, scale=0.00001))
    assert found["num_tables"] == 0
    assert found["tables"] == []
    assert found["all"] is None


def test_pieces_and_groups_of_tables_change_nothing(monkeypatch):
    data = load(rows=3000, scale=0.001, min_count=1)
    whole = hot_rows(data, min_rows=20)
    monkeypatch.setattr(hot_rows_module, "PIECE", 97)
    monkeypatch.setattr(hot_rows_module, "TOGETHER", 1000)
    assert hot_rows(data, min_rows=20) == whole


def test_the_order_is_that_of_a_training_by_windows():
    """The rows that were looked up most after the first twentieth, by hand."""
    rows = 40_000
    data = load(rows=rows, scale=0.0005, min_count=1)
    table = hot_rows(data, seed=3, min_rows=200, window=SHUFFLE_BLOCK)["tables"][0]
    f, n = data.features.index(table["feature"]), table["num_embeddings"]
    order = Windows(len(data.train), SHUFFLE_BLOCK, torch.Generator().manual_seed(3))
    (whole,) = order.pieces(data.train, len(data.train))
    ids = whole.ids[:, f].numpy()
    marks = [round(len(ids) * c / 20) for c in range(21)]
    chunks = [ids[start:stop] for start, stop in pairwise(marks)]
    assert table["in_last"] == stability(chunks, n, table["k"])["in_last"]
    assert table["in_last"] != hot_rows(data, seed=3, min_rows=200)["tables"][0]["in_last"]
