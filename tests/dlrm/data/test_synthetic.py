"""Synthetic data: reproducible by row, planted logit known."""

from collections import Counter

import numpy as np
import pytest
import torch
from torchmetrics.functional.classification import binary_auroc

from embpress.compressors.errors import InputError
from embpress.dlrm.data import SyntheticSpec, load, rows_of, synthetic
from embpress.dlrm.data.readers.synthetic import CRITEO_SIZES, _scramble, _zipf_ranks, scaled_sizes

SPEC = SyntheticSpec(scaled_sizes(0.001))


def test_any_row_is_reproducible():
    whole = rows_of(SPEC, 5, np.arange(20_000))
    pick = np.array([19_999, 3, 700, 3, 12_345])
    for one, some in zip(whole, rows_of(SPEC, 5, pick)):
        np.testing.assert_array_equal(one[pick], some)
    alone = rows_of(SPEC, 5, np.array([700]))
    assert all((a[0] == w[700]).all() for a, w in zip(alone, whole))
    other = rows_of(SPEC, 6, np.arange(20_000))
    assert (other[2] != whole[2]).mean() > 0.5


def test_loaded_rows_are_those_rows():
    data = synthetic(3000, 0.001, seed=4, min_count=1)
    labels, counts, ids, _ = rows_of(SPEC, 4, np.arange(3000))
    np.testing.assert_array_equal(torch.cat([data.train.labels, data.valid.labels, data.test.labels]), labels)
    np.testing.assert_allclose(torch.cat([data.train.dense, data.valid.dense, data.test.dense]), np.log1p(counts))
    for f in range(26):
        # falling frequency, ties in order of first appearance
        table = {v: k for k, (v, _) in enumerate(Counter(ids[:2160, f].tolist()).most_common(), 1)}
        assert data.num_embeddings[f] == len(table) + 1
        loaded = torch.cat([data.train.ids[:, f], data.valid.ids[:, f], data.test.ids[:, f]])
        assert loaded.tolist() == [table.get(v, 0) for v in ids[:, f].tolist()]
    more = synthetic(6000, 0.001, seed=4, min_count=1)
    assert torch.equal(more.train.labels[:2160], data.train.labels)


def test_best_auc_is_exact():
    data = synthetic(20_000, 0.001, seed=1)
    labels, _, _, logits = rows_of(SPEC, 1, np.arange(16_000, 20_000))
    exact = binary_auroc(torch.sigmoid(torch.from_numpy(logits)), torch.from_numpy(labels).int())
    assert data.best_auc == pytest.approx(float(exact), abs=1e-6)
    shuffled = synthetic(20_000, 0.001, seed=1, split="random")
    assert shuffled.best_auc == pytest.approx(data.best_auc, abs=0.03)
    assert shuffled.best_auc != data.best_auc


@pytest.mark.parametrize("structure", [0.0, 0.5, 1.0])
@pytest.mark.parametrize("seed", [0, 1])
def test_difficulty_stays_in_its_range(structure, seed):
    data = synthetic(40_000, 0.001, structure=structure, seed=seed)
    assert data.about["label_mean"] == pytest.approx(0.25, abs=0.015)
    assert 0.79 < data.best_auc < 0.86


def test_shape_of_criteo():
    assert len(CRITEO_SIZES) == 26
    assert sum(CRITEO_SIZES) == 33_762_577
    assert scaled_sizes(1.0) == CRITEO_SIZES
    assert scaled_sizes(0.001)[2] == 10_131
    assert min(scaled_sizes(1e-9)) == 3
    data = synthetic(30_000, 0.001)
    assert data.train.ids.shape == (21_600, 26)
    assert data.train.dense.shape[1] == 13
    assert (data.train.ids.amax(0) < torch.tensor(data.num_embeddings)).all()
    assert max(data.row0_share) < 0.25  # few ids of even the largest table are unseen


def test_raw_ids_are_zipf_and_not_sorted_by_frequency():
    n, u = 1000, (np.arange(2_000_000) + 0.5) / 2_000_000
    share = np.bincount(_zipf_ranks(u, n, 1.05), minlength=n) / len(u)
    edges = np.arange(1, n + 2) ** -0.05
    np.testing.assert_allclose(share, (edges[:-1] - edges[1:]) / (edges[0] - edges[-1]), atol=1e-5)
    np.testing.assert_allclose(np.bincount(_zipf_ranks(u, n, 0.0)) / len(u), 1 / n, atol=1e-5)
    assert _zipf_ranks(u, n, 1.0).max() == n - 1
    for size in (1, 2, 10, 1000, 10_131):
        positions = _scramble(np.arange(size), size, 0, 3)
        assert sorted(positions.tolist()) == list(range(size))
    assert abs(np.corrcoef(positions, np.arange(size))[0, 1]) < 0.9


def test_structure_makes_ids_of_a_cluster_alike():
    from embpress.dlrm.data.readers.synthetic import _vectors

    def distinct(structure):
        spec = SyntheticSpec((1000,), structure)
        vectors = _vectors(spec, 0, 0, np.arange(1000), 5)
        assert abs(vectors.var() - 1) < 0.35
        return len(np.unique(vectors.round(9), axis=0)), np.linalg.matrix_rank(vectors, tol=1e-6)

    assert distinct(0.0) == (1000, 5)
    rows, rank = distinct(1.0)
    assert rows <= 32
    assert rank == 2


def test_ids_matter_more_than_dense_values():
    _, dense, _, logits = rows_of(SPEC, 0, np.arange(20_000))
    x = np.c_[np.log1p(dense), np.ones(len(dense))]
    fit = x @ np.linalg.lstsq(x, logits, rcond=None)[0]
    assert 0.01 < fit.var() / logits.var() < 0.15


def test_load_passes_the_options_on():
    data = load(rows=2000, scale=0.0005, seed=3, dense=2, zipf=0.9, structure=0.1, split_seed=7)
    assert data.fingerprint == synthetic(2000, 0.0005, structure=0.1, zipf=0.9, seed=3, dense=2).fingerprint
    assert data.about["synthetic"]["seed"] == 3
    assert load(rows=2000, dense=0).dense_names == ["(constant)"]


@pytest.mark.parametrize(
    ("options", "parts"),
    [
        ({"scale": 0}, ["scale is 0", "above 0"]),
        ({"structure": 1.5}, ["structure is 1.5", "between 0 and 1"]),
        ({"zipf": float("nan")}, ["zipf is nan"]),
        ({"seed": -1}, ["seed is -1"]),
        ({"rows": 2}, ["rows is 2"]),
        ({"rows": 10**12}, ["rows is 1,000,000,000,000", "memory"]),
        ({"rows": 10**5000}, ["rows is a number of thousands of digits"]),
        ({"seed": 2**64}, ["seed is 18446744073709551616", "2**63"]),
        ({"dense": 10**9}, ["memory"]),
        ({"dense": ["a"]}, ["dense is ['a']", "whole number"]),
        ({"label": "x"}, ["synthetic has no option 'label'"]),
        ({"sclae": 1.0}, ["'sclae'", "did you mean 'scale'"]),
    ],
)
def test_bad_options(options, parts):
    with pytest.raises(InputError) as e:
        load(**options)
    assert all(part in str(e.value) for part in parts), str(e.value)
