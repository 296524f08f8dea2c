"""Two ranks train as one process does, whatever the method; all that they hold is the same on both, to the bit."""

from dataclasses import replace

import pytest
import torch
from shared_training import data, digests, model_of, settings

from embpress.dlrm.data.base import Bags
from embpress.dlrm.distributed import work as shared_work
from embpress.dlrm.distributed.work import SharedWork
from embpress.dlrm.measure import spool
from embpress.dlrm.training.click_model import train
from embpress.dlrm.training.evaluate import predict
from embpress.dlrm.training.loop import fit

SPECS = [
    "full",
    "cce",
    "dhe",
    "hash",
    "lowrank",
    "md",
    "mlet",
    "narrow",
    "prune",
    "qr",
    "robe:z=4",
    "sketch",
    "top",
    "tt",
    "tt:rank=4:cache_fraction=0.1:warmup=2:refresh=5:evict=write-back",
    "unified",
    "hash+bf16",
    "full+int4:train=true",
    "hash+hot:fraction=0.05:online=true:warmup=2:refresh=5",
    "hash+hot:fraction=0.05",
    "qr+int8",
    "full+pq:parts=4",
]


def trained(rank, spec, options):
    asked = settings(**options)
    model = model_of(spec, asked)
    work = SharedWork(model, data(), asked, 0)
    result = fit(work, asked.epochs)
    return (
        result.metrics,
        [point["train_loss"] for point in result.curve],
        digests(model, work.optimizers),
        work.wire.sent,
    )


@pytest.mark.parametrize("spec", SPECS)
def test_two_ranks_train_as_one_process(ranks, spec):
    options = {"ratio": None if "rank=" in spec or spec.startswith("full") else 4}
    (ours, losses, held, sent), (theirs, _, others, also) = ranks(trained, spec, options)
    alone = train(model_of(spec, settings(**options)), data(), settings(**options), 0)
    assert held == others
    assert sent == also > 0
    scores = {name: value for name, value in ours.items() if "auc" in name or "loss" in name}
    assert scores == {name: theirs[name] for name in scores}
    for name, value in scores.items():
        assert value == pytest.approx(alone.metrics[name], abs=1e-4), name
    assert losses == pytest.approx([point["train_loss"] for point in alone.curve], abs=1e-4)


@pytest.mark.parametrize("optimizer", ["sgd", "rowwise_adagrad", "adam"])
def test_so_they_do_with_every_optimizer(ranks, optimizer):
    """Adam keeps moments of the rows that a batch looks up, wherever their lookups were."""
    options = {"optimizer": optimizer, "ratio": None}
    (ours, losses, held, _), (_, _, others, _) = ranks(trained, "full", options)
    alone = train(model_of("full", settings(**options)), data(), settings(**options), 0)
    assert held == others
    assert ours["auc"] == pytest.approx(alone.metrics["auc"], abs=1e-4)
    assert losses == pytest.approx([point["train_loss"] for point in alone.curve], abs=1e-4)


def trained_on_bags(rank):
    work = SharedWork(bag_model(), bags(), settings(ratio=None), 0)
    return fit(work, 1).metrics, digests(work.model, work.optimizers)


def bags():
    """Half of the rows have a bag of up to three ids in the first feature, the others an empty one."""
    plain = data()
    parts = {}
    for name in ("train", "valid", "test"):
        part = getattr(plain, name)
        lengths = torch.arange(len(part)) % 4 * (torch.arange(len(part)) % 2)
        offsets = torch.cat([torch.zeros(1, dtype=torch.int64), lengths.cumsum(0)])
        values = torch.arange(int(offsets[-1])) % plain.num_embeddings[0]
        parts[name] = replace(part, bags={0: Bags(values, offsets)})
    return replace(plain, **parts)


def bag_model():
    return model_of("hash", settings(ratio=None))


def test_so_they_do_with_bags_of_ids(ranks):
    (ours, held), (_, others) = ranks(trained_on_bags)
    alone = train(bag_model(), bags(), settings(ratio=None), 0)
    assert held == others
    for name in ("auc", "valid_auc", "log_loss"):
        assert ours[name] == pytest.approx(alone.metrics[name], abs=1e-4)


def scored(rank, piece, in_memory):
    """Logits of the test part, gathered in slices of so many rows, into a file from so many on."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(shared_work, "PIECE", piece)
        patch.setattr(spool, "IN_MEMORY", in_memory)
        shared = SharedWork(model_of("hash", settings()), data(), settings(), 0)
        logits, found = shared.scored(data().test)
        return logits.clone(), found


@pytest.mark.parametrize(("piece", "in_memory"), [(1 << 22, 1 << 24), (70, 100), (1, 1 << 24)])
def test_logits_are_those_of_one_process_in_the_order_of_the_rows(ranks, piece, in_memory):
    (logits, ours), (none, theirs) = ranks(scored, piece, in_memory)
    assert torch.allclose(logits, predict(model_of("hash", settings()), data().test), atol=1e-6)
    assert len(none) == 0
    assert ours == theirs
