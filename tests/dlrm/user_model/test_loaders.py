"""Loaders of one's own: what is cut off for validation, what seeds reach, what tells data apart."""

import random
from collections import namedtuple

import numpy as np
import pytest
import shop
import torch
from torch.utils.data import DataLoader, IterableDataset, TensorDataset, WeightedRandomSampler

from embpress.compressors import InputError
from embpress.dlrm import compare_models
from embpress.dlrm.user_model.loaders import (
    fingerprint_of,
    kept_random_state,
    reseed,
    rows_of,
    seed_all,
    to_device,
    without_last_tenth,
)

NUMBERS = TensorDataset(torch.arange(25))


class Stream(IterableDataset):
    def __iter__(self):
        users, words, labels = shop.samples(640)
        yield from zip(users, words, labels)


def values(loader):
    return [int(x) for (batch,) in loader for x in batch]


@pytest.mark.parametrize("more", [{}, {"shuffle": True}, {"shuffle": True, "drop_last": True}, {"num_workers": 1}])
def test_the_last_tenth_by_order_is_validation(more):
    train, valid = without_last_tenth(DataLoader(NUMBERS, batch_size=5, **more))
    assert values(valid) == [23, 24]
    reseed(train, 3)
    seen = values(train)
    assert set(seen) <= set(range(23))
    assert rows_of(train, len) == len(seen) == (20 if "drop_last" in more else 23)
    assert (seen == sorted(seen)) == ("shuffle" not in more)
    seed_all(99)
    reseed(train, 3)
    assert values(train) == seen
    reseed(train, 3, epoch=1)
    assert ("shuffle" in more) == (values(train) != seen)


@pytest.mark.parametrize(
    "loader",
    [
        DataLoader(Stream()),
        DataLoader(NUMBERS, sampler=WeightedRandomSampler([1.0] * 25, 25)),
        DataLoader(NUMBERS, batch_sampler=[[1, 2], [3]]),
        [1],
        (x for x in "ab"),
    ],
)
def test_a_loader_whose_order_nobody_knows_needs_a_valid_loader(loader):
    with pytest.raises(InputError, match="give a valid_loader"):
        without_last_tenth(loader)


def test_a_stream_without_a_length_trains(tmp_path):
    own = shop.task(train_loader=DataLoader(Stream(), batch_size=64), valid_loader=shop.task()["test_loader"])
    (run,) = compare_models(**own, methods="hash:k=50", folder=tmp_path, epochs=2, min_rows=9, latency_seconds=0.0)
    assert run.ok, run.reason
    assert run.data.rows == {"valid": 400, "test": 400}
    assert [(point.epoch, point.step) for point in run.learning_curve] == [(1, 10), (2, 20)]
    assert "validation part, which chooses the epoch" in run.data.split


def test_every_random_number_is_given_back():
    seed_all(1)
    before = [f() for f in (random.random, np.random.rand, lambda: float(torch.rand(())))]
    seed_all(1)
    with kept_random_state():
        seed_all(2)
    assert [f() for f in (random.random, np.random.rand, lambda: float(torch.rand(())))] == before


def test_data_are_told_apart_by_their_batches():
    class Holder:
        def __init__(self, x):
            self.x = x

    bases = [{"a": torch.arange(3.0), "b": [np.arange(2), "text", 4]}, Holder(torch.ones(2)), (torch.tensor(3), None)]
    others = [{"a": torch.arange(3.0), "b": [np.arange(2), "text", 5]}, Holder(torch.zeros(2)), (torch.tensor(4), None)]
    prints = [fingerprint_of([one], [one]) for one in (*bases, *others)]
    assert len(set(prints)) == 6
    assert prints[:3] == [fingerprint_of([one], [one]) for one in bases]
    assert fingerprint_of([1, 2], [3]) == fingerprint_of([1, 5], [3]) != fingerprint_of([1, 2], [3, 4])


def test_batches_of_any_form_go_to_a_device():
    Pair = namedtuple("Pair", "x y")
    batch = {"a": [torch.ones(2)], "b": Pair(torch.zeros(1), "text"), "c": 3}
    found = to_device(batch, "meta")
    assert found["a"][0].is_meta
    assert isinstance(found["b"], Pair)
    assert found["b"].x.is_meta
    assert (found["b"].y, found["c"]) == ("text", 3)
