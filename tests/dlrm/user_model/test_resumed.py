"""A model and loaders of one's own, killed in the middle: dropout and the loaders' order go on as they would have."""

import pytest
import shop
import torch
from kill_runs.equal import differences
from torch.utils.data import DataLoader, Dataset

from embpress.compressors import InputError, parse_all
from embpress.dlrm import compare_models
from embpress.dlrm.runs.store import read_all
from embpress.dlrm.training.settings import resolve
from embpress.dlrm.user_model.compare import compare
from embpress.dlrm.user_model.experiment import prepare
from embpress.dlrm.user_model.task import Task

ALWAYS = 1e-9
METHODS = "full,prune:keep=0.3,tt:rank=2:cache_rows=20:warmup=5:refresh=7"


class Killed(BaseException):
    pass


class Noisy(Dataset):
    """Labels of which some are turned over by random numbers of torch's own, drawn when a sample is read."""

    def __init__(self, rows):
        self.users, self.words, self.labels = shop.samples(rows)

    def __len__(self):
        return len(self.users)

    def __getitem__(self, i):
        label = self.labels[i]
        return self.users[i], self.words[i], 1 - label if torch.rand(()) < 0.1 else label


class Hidden(shop.TwoTower):
    """A model with a buffer that its state dict leaves out, by which what it answers changes."""

    def __init__(self):
        super().__init__()
        self.register_buffer("steps", torch.zeros(()), persistent=False)

    def forward(self, users, words):
        if self.training:
            self.steps += 1
        return super().forward(users, words) * (1 + self.steps / 10)


def made(folder, task, after=(), methods=METHODS, minutes=ALWAYS):
    settings = resolve(0, epochs=2, min_rows=10, learning_rate=0.05, latency_seconds=0.0, ratio=4)
    left = {}

    def progress(number, total, title):
        mine = left.setdefault(title, list(after))

        def advance(done, of, what):
            if what == "training" and mine and done >= mine[0]:
                mine.pop(0)
                raise Killed

        return advance

    prepared = prepare(Task(**{"name": "shop", **task}), settings)
    while True:
        try:
            specs = parse_all(methods)
            return list(compare(prepared, specs, settings, [0], folder, "", progress, checkpoint_minutes=minutes))
        except Killed:
            continue


def noisy():
    return shop.task(Hidden, train_loader=DataLoader(Noisy(1600), batch_size=64, shuffle=True))


@pytest.mark.parametrize("task", [shop.task, noisy])
def test_a_run_that_is_killed_ends_as_if_it_had_not_been(tmp_path, task):
    made(tmp_path / "whole", task(), minutes=0.0)
    made(tmp_path / "killed", task(), [300, 1440, 2000])
    assert [run.resumed for run in read_all(tmp_path / "killed")] == [3, 3, 3]
    assert differences(tmp_path / "whole", tmp_path / "killed") == []
    assert not (tmp_path / "killed" / "partial").exists()


def test_minutes_that_are_none_are_refused(tmp_path):
    with pytest.raises(InputError, match="minutes between checkpoints are a number from 0"):
        compare_models(**shop.task(), methods="full", folder=tmp_path, checkpoint_minutes=-1)
