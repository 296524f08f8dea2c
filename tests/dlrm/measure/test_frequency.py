"""Scores by id frequency, against rows written out as often as they weigh, and loops over pairs."""

import math

import numpy as np
import pytest
import torch

from embpress.dlrm.data.base import Bags, ClickData, Part
from embpress.dlrm.measure.frequency import BINS, Frequencies, bins_of_ids, weighted_scores


def test_bins_hold_their_shares_of_the_lookups():
    #                     row 0, 40 %, 20 %, 20 %, 10 %, 4 × 2.5 %, never
    counts = torch.tensor([999, 160, 80, 80, 40, 10, 10, 10, 10, 0])
    names = [BINS[b] for b in bins_of_ids(counts)]
    assert names == ["unseen", "head", "head", "head", "torso", *["tail"] * 4, "unseen"]
    shuffled = torch.cat([torch.zeros(1, dtype=torch.int64), torch.randperm(9) + 1])
    moved = counts[shuffled]
    assert torch.equal(bins_of_ids(moved), bins_of_ids(counts)[shuffled])


def test_ids_of_one_count_are_in_one_bin():
    assert len(bins_of_ids(torch.tensor([5] + [3] * 50))[1:].unique()) == 1
    assert bins_of_ids(torch.tensor([5] + [3] * 50))[1] == 0
    assert bins_of_ids(torch.zeros(4, dtype=torch.int64)).tolist() == [3] * 4


@pytest.mark.parametrize("ties", [False, True])
def test_weighted_scores(ties):
    random = np.random.default_rng(4)
    logits = random.normal(size=400).round(1 if ties else 9)
    labels = (random.random(400) < 1 / (1 + np.exp(-logits))).astype(float)
    times = random.integers(0, 4, 400)
    found = weighted_scores(*(torch.from_numpy(a) for a in (logits, labels, times / 3)))
    z, y = np.repeat(logits, times), np.repeat(labels, times)
    p = 1 / (1 + np.exp(-z))
    pairs = z[y == 1][:, None] - z[y == 0][None]
    assert found["auc"] == pytest.approx((pairs > 0).mean() + (pairs == 0).mean() / 2)
    assert found["log_loss"] == pytest.approx(-(y * np.log(p) + (1 - y) * np.log(1 - p)).mean())
    assert found["calibration"] == pytest.approx(p.sum() / y.sum())


def test_ece_of_equal_weights():
    random = np.random.default_rng(5)
    logits, labels = random.normal(size=1000), random.integers(0, 2, 1000).astype(float)
    p = 1 / (1 + np.exp(-np.sort(logits)))
    bins = zip(np.split(p, 10), np.split(labels[np.argsort(logits)], 10))
    wanted = sum(abs(own.mean() - clicks.mean()) for own, clicks in bins) / 10
    found = weighted_scores(torch.from_numpy(logits), torch.from_numpy(labels), torch.ones(1000))
    assert found["ece"] == pytest.approx(wanted)


def test_calibrated_predictions_are_calibrated():
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(200_000, generator=generator)
    labels = (torch.rand(200_000, generator=generator) < torch.sigmoid(logits)).float()
    good, bad = (
        weighted_scores(logits, labels, torch.ones(200_000)),
        weighted_scores(logits + 1, labels, torch.ones(200_000)),
    )
    assert good["calibration"] == pytest.approx(1, abs=0.01)
    assert good["ece"] < 0.005
    assert bad["calibration"] > 1.3
    assert bad["ece"] > 0.1
    assert bad["auc"] == pytest.approx(good["auc"])


def test_one_class_or_no_weight_is_no_number():
    one = weighted_scores(torch.randn(5), torch.zeros(5), torch.ones(5))
    assert math.isnan(one["auc"])
    assert math.isnan(one["calibration"])
    assert one["log_loss"] > 0
    assert all(map(math.isnan, weighted_scores(torch.randn(5), torch.ones(5), torch.zeros(5)).values()))


def data_of(ids, bags, counts):
    rows = len(ids)
    test = Part(torch.tensor([0.0, 1.0] * (rows // 2)), torch.zeros(rows, 1), ids, bags)
    sizes = [len(one) for one in counts]
    return ClickData("made", "csv", ["a", "b"], sizes, ["(constant)"], test, test, test, counts, [0.0, 0.0], "f")


def test_a_row_weighs_in_each_bin_with_its_lookups_there():
    counts = [torch.tensor([7, 60, 30, 10]), torch.tensor([0, 50, 40, 10])]
    ids = torch.tensor([[1, 0], [2, 0], [0, 0], [3, 0]])
    bags = {1: Bags(torch.tensor([1, 3, 3, 2, 0]), torch.tensor([0, 3, 3, 4, 5]))}
    found = Frequencies.of(data_of(ids, bags, counts), [0, 1])
    assert found.ids == (2, 2, 2, 2)
    wanted = torch.tensor([[0.5 + 1 / 6, 0, 1 / 3, 0], [0, 0.5, 0, 0], [0, 0.5, 0, 0.5], [0, 0, 0.5, 0.5]])
    assert torch.allclose(found.weights, wanted)
    alone = Frequencies.of(data_of(ids, bags, counts), [0])
    assert torch.equal(alone.weights, torch.eye(4)[[0, 1, 3, 2]])
    assert Frequencies.of(data_of(ids, bags, counts), []) is None


def test_scores_name_the_bins_that_are_there():
    counts = [torch.tensor([7, 60, 30, 10]), torch.tensor([0, 50, 40, 10])]
    ids = torch.tensor([[1, 1], [1, 2], [2, 1], [2, 2]])
    data = data_of(ids, {}, counts)
    scored = Frequencies.of(data, [0]).scores(torch.tensor([0.1, 0.9, 0.8, 0.2]), data.test.labels)
    assert [(one["name"], one["ids"], one["lookups"]) for one in scored] == [
        ("all", 4, 1),
        ("head", 1, 0.5),
        ("torso", 1, 0.5),
    ]
    assert [one["auc"] for one in scored] == [0.75, 1.0, 0.0]
