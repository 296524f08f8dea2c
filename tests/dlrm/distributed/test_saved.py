"""A training of two ranks that is broken off goes on from what rank 0 has kept, and ends as if it had not been."""

import copy
from types import SimpleNamespace

import pytest
from shared_training import COUNTED, data, digests, model_of, settings

from embpress.dlrm.distributed.saved import SharedSaved
from embpress.dlrm.distributed.work import SharedWork
from embpress.dlrm.training.loop import fit


class Kept:
    """Keeps a copy in memory; it is due once, after so many questions."""

    def __init__(self, state=None, after=1):
        self.state, self.after, self.saves = state, after, 0

    def load(self):
        return copy.deepcopy(self.state)

    def due(self):
        self.after -= 1
        return self.after == 0

    def save(self, state):
        self.state, self.saves = copy.deepcopy(state), self.saves + 1


def fitted(asked, spec, saved, rank):
    """A training from a model built anew, kept by rank 0 alone."""
    model = model_of(spec, asked)
    work = SharedWork(model, data(), asked, 0)
    result = fit(work, asked.epochs, saved=SharedSaved(saved if rank == 0 else None, work))
    counts = {name: value.tolist() for name, value in model.state_dict().items() if name.endswith(COUNTED)}
    scores = {name: value for name, value in result.metrics.items() if "auc" in name or "loss" in name}
    scores["sent"] = work.wire.sent
    return scores, [point["train_loss"] for point in result.curve], digests(model, work.optimizers), counts, result


def both(rank, spec, options):
    """Scores, losses, hashes and this rank's own counts of one that runs through and of one taken up in the middle."""
    asked, kept = settings(epochs=2, **options), Kept(after=2)
    *whole, _ = fitted(asked, spec, kept, rank)
    *again, result = fitted(asked, spec, Kept(kept.state, after=-1), rank)
    return whole, again, result.resumed, kept.saves


@pytest.mark.parametrize(
    "spec",
    [
        "full",
        "cce",
        "prune",
        "hash+hot:fraction=0.05:online=true:warmup=2:refresh=5",
        "tt:rank=4:cache_fraction=0.1:warmup=2:refresh=5:evict=write-back",
    ],
)
def test_it_ends_as_if_it_had_never_stopped(ranks, spec):
    options = {"ratio": None if "rank=" in spec or spec == "full" else 4}
    for rank, (whole, again, resumed, saves) in enumerate(ranks(both, spec, options)):
        assert whole == again
        assert resumed == 1
        assert saves == (1 if rank == 0 else 0)


def loaded(rank):
    """What a rank takes up of a file that holds something of each and of rank 0 alone."""
    work = {"model": {"a": 1, "b": 0}, "random": 0}
    course = {"step": 5, "result": {"metrics": {"auc": 0.7}, "test_logits": [0.5]}}
    state = {"work": work, "course": course, "best": "weights"}
    state["ranks"] = [{"model": {"b": rank}, "random": rank + 10} for rank in (0, 1)]
    return SharedSaved(Kept(state) if rank == 0 else None, SimpleNamespace(rank=rank)).load()


def test_each_rank_takes_up_its_own_and_rank_0_what_it_alone_goes_on_from(ranks):
    first, second = ranks(loaded)
    assert [one["work"] for one in (first, second)] == [
        {"model": {"a": 1, "b": rank}, "random": rank + 10} for rank in (0, 1)
    ]
    assert first["course"]["result"] == {"metrics": {"auc": 0.7}, "test_logits": [0.5]}
    assert second["course"] == {"step": 5, "result": {"metrics": {"auc": 0.7}, "test_logits": None}}
    assert (first["best"], second["best"]) == ("weights", None)
    assert "ranks" not in first
