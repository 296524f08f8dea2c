"""Two ranks train as one process does, whatever the method; all that they hold is the same on both, to the bit."""

import pytest
from shared_training import data, digests, model_of, settings

from embpress.dlrm.distributed.work import SharedWork
from embpress.dlrm.training.click_model import train
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
