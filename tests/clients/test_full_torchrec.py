"""`full-torchrec`: divided among ranks it learns what tables on one device do, and sends what its formula says."""

from dataclasses import replace

import pytest
import torch
import torch.distributed as dist
from click.testing import CliRunner
from shared_training import data, digests, model_of, settings
from torch import nn

torchrec = pytest.importorskip("torchrec")

from embpress.cli.main import main  # noqa: E402
from embpress.compressors import create  # noqa: E402
from embpress.compressors.group import group_of  # noqa: E402
from embpress.compressors.testing import parametrize_with_checks  # noqa: E402
from embpress.dlrm.data.base import Bags  # noqa: E402
from embpress.dlrm.distributed import together  # noqa: E402
from embpress.dlrm.distributed.work import SharedWork  # noqa: E402
from embpress.dlrm.runs.store import read_all  # noqa: E402
from embpress.dlrm.training.click_model import train  # noqa: E402
from embpress.dlrm.training.loop import fit  # noqa: E402

ROWS, D, BATCH = (50, 7, 900), 8, 7
SHARES = ((0, 5), (5, 7))  # of two ranks, unequal
OPTIMIZERS = ["sgd", "adagrad", "rowwise_adagrad"]


@parametrize_with_checks(["full-torchrec"])
def test_conformance(subject, check):
    check(subject)


def group(method, optimizer, mode="sum"):
    made = [
        create(f"{method}:optimizer={optimizer}:learning_rate=0.1", n, D, mode=mode, generator=seeded(n)) for n in ROWS
    ]
    return group_of(made)


def seeded(seed):
    return torch.Generator().manual_seed(seed)


def step(group, number, start, stop):
    """A step on rows from start to stop of a batch in which ids repeat."""
    generator = seeded(number)
    ids = torch.stack([torch.randint(min(n, 20), (BATCH,), generator=generator) for n in ROWS], 1)
    wanted = torch.randn(BATCH, len(ROWS), D, generator=generator)
    (group(ids[start:stop]) - wanted[start:stop]).square().sum().backward()


def held(group):
    """All rows, and all state of the optimizer."""
    kernel = group.first.kernel
    state = [] if kernel.state is None else [kernel.state.clone()]
    return torch.cat([table.to_dense().flatten() for table in group.tables]), *state


def divided(rank, optimizer):
    """Trained by two ranks, gathered and looked at in between, with another learning rate from there on."""
    tables = group("full-torchrec", optimizer)
    tables.shard()
    for number in range(3):
        step(tables, number, *SHARES[rank])
    with pytest.raises(RuntimeError, match="divided among ranks"):
        tables.tables[0].to_dense()
    tables.gather()
    between = held(tables)
    tables.first.learning_rate = 0.03
    for number in range(3, 5):
        step(tables, number, *SHARES[rank])
    tables.gather()
    tables.unshard()
    return between, held(tables)


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_tables_divided_learn_what_a_tbe_learns_of_the_whole_batch(ranks, optimizer):
    ours, theirs = ranks(divided, optimizer)
    alone = group("full-tbe", optimizer)
    wanted = []
    for steps, rate in ((range(3), 0.1), (range(3, 5), 0.03)):
        alone.first.learning_rate = rate
        for number in steps:
            step(alone, number, 0, BATCH)
        wanted.append(held(alone))
    for got, other, want in zip(ours, theirs, wanted):
        for mine, same, expected in zip(got, other, want, strict=True):
            assert torch.equal(mine, same)
            torch.testing.assert_close(mine, expected, rtol=1e-5, atol=1e-6)


def continued(rank):
    """A step of two ranks on tables whose optimizer has state already, from where the TBE was."""
    tables = group("full-torchrec", "adagrad")
    kernel = tables.first.kernel
    kernel.state.copy_(torch.arange(kernel.state.numel()) % 5)
    tables.shard()
    step(tables, 0, *SHARES[rank])
    tables.gather()
    tables.unshard()
    assert tables.first.kernel.wants_update()  # by its TBE again, which refuses a second process
    return held(tables)


def test_state_goes_along(ranks):
    ours, _ = ranks(continued)
    alone = group("full-tbe", "adagrad")
    alone.first.kernel.state.copy_(torch.arange(alone.first.kernel.state.numel()) % 5)
    step(alone, 0, 0, BATCH)
    torch.testing.assert_close(ours, held(alone), rtol=1e-5, atol=1e-6)


def lost(rank):
    tables = group("full-torchrec", "sgd")
    tables.shard()
    step(tables, 0, *SHARES[rank])
    tables.unshard()
    return tables.tables[0].to_dense()


def test_what_was_not_gathered_is_no_number(ranks):
    assert all(rows.isnan().all() for rows in ranks(lost))


def bags(rank, mode):
    """Bags of up to three ids, some empty."""
    tables = group("full-torchrec", "sgd", mode)
    lengths = torch.arange(BATCH * len(ROWS)).view(len(ROWS), BATCH) % 4
    start, stop = SHARES[rank]
    values = [torch.arange(int(row.sum())) % 7 for row in lengths]
    mine = [part for row, some in zip(lengths, values) for part in some.split(row.tolist())[start:stop]]
    offsets = nn.functional.pad(lengths[:, start:stop].flatten().cumsum(0), (1, 0))
    tables.shard()
    out = tables(torch.cat(mine), offsets).detach()
    tables.unshard()
    return out


@pytest.mark.parametrize("mode", ["sum", "mean"])
def test_bags_are_those_of_one_device(ranks, mode):
    whole = torch.cat(ranks(bags, mode))
    lengths = torch.arange(BATCH * len(ROWS)).view(len(ROWS), BATCH) % 4
    for t, table in enumerate(group("full-tbe", "sgd", mode).tables):
        offsets = nn.functional.pad(lengths[t].cumsum(0), (1, 0))[:-1]
        want = nn.functional.embedding_bag(torch.arange(int(lengths[t].sum())) % 7, table.weight, offsets, mode=mode)
        torch.testing.assert_close(whole[:, t], want)


def counted(rank):
    """What a step sends to the other rank by all-to-alls, and what is said of it."""
    tables = group("full-torchrec", "sgd")
    tables.shard()
    sent, real = [], dist.all_to_all_single

    def spy(output, input, output_split_sizes=None, input_split_sizes=None, **how):
        if input_split_sizes is not None:  # without sizes they are sizes themselves
            rows = sum(size for other, size in enumerate(input_split_sizes) if other != rank)
            sent.append(rows * input[:1].nbytes)
        return real(output, input, output_split_sizes, input_split_sizes, **how)

    dist.all_to_all_single = spy
    try:
        step(tables, 0, *SHARES[rank])
    finally:
        dist.all_to_all_single = real
    said = tables.sent_bytes(BATCH)
    tables.unshard()
    return sum(sent), said, len(sent)


def test_bytes_are_those_that_go_through_all_to_all(ranks):
    for really, said, calls in ranks(counted):
        assert calls >= 3
        assert really == said > 0


def trained(rank, spec, options):
    asked = settings(**options)
    with SharedWork(model_of(spec, asked), data(), asked, 0) as work:
        result = fit(work, asked.epochs)
        return result.metrics, digests(work.model, work.optimizers), work.sent()


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_two_ranks_and_one_train_as_full_tables_do(ranks, optimizer):
    options = {"ratio": None, "optimizer": optimizer, "min_rows": 10}
    (ours, rows, sent), (theirs, others, also) = ranks(trained, "full-torchrec", options)
    assert rows == others
    assert sent == also > 0
    asked = settings(**options)
    one = together.train_alone(model_of("full-torchrec", asked), data(), asked, 0).metrics
    assert not dist.is_initialized()
    assert "wire_bytes_per_step" not in one
    full = train(model_of("full", asked), data(), asked, 0).metrics
    for name in ("auc", "valid_auc", "log_loss"):
        assert ours[name] == theirs[name] == pytest.approx(full[name], abs=1e-4)
        assert one[name] == pytest.approx(full[name], abs=1e-4)


def with_bags():
    plain = data()
    parts = {}
    for name in ("train", "valid", "test"):
        part = getattr(plain, name)
        lengths = torch.arange(len(part)) % 4
        offsets = nn.functional.pad(lengths.cumsum(0), (1, 0))
        parts[name] = replace(part, bags={0: Bags(torch.arange(int(offsets[-1])) % plain.num_embeddings[0], offsets)})
    return replace(plain, **parts)


def trained_on_bags(rank):
    asked = settings(ratio=None)
    with SharedWork(model_of("full-torchrec", asked), with_bags(), asked, 0) as work:
        return fit(work, 1).metrics


def test_so_they_do_with_bags_of_ids(ranks):
    ours, _ = ranks(trained_on_bags)
    full = train(model_of("full", settings(ratio=None)), with_bags(), settings(ratio=None), 0).metrics
    assert ours["auc"] == pytest.approx(full["auc"], abs=1e-4)


def compare(folder, *words):
    small = ("--rows", "4000", "--scale", "0.001", "--min-count", "1", "--threads", "1")
    done = CliRunner().invoke(main, ["compare", *small, *words, "--out", str(folder)])
    return done, {run.method: run for run in read_all(folder)}


def test_compare_has_it_beside_full_tables(tmp_path):
    done, runs = compare(tmp_path, "--methods", "full,full-torchrec,full-torchrec+bf16")
    assert done.exit_code == 0, done.output
    full, ours = runs["full"], runs["full-torchrec"]
    assert ours.backend == "torchrec"
    assert ours.metrics["auc"] == pytest.approx(full.metrics["auc"], abs=1e-4)
    assert ours.metrics["serving_bytes"] == full.metrics["serving_bytes"]
    assert "cannot train inside full-torchrec+bf16" in runs["full-torchrec+bf16"].reason


def test_an_optimizer_that_torchrec_does_not_have_in_the_backward_is_refused(tmp_path):
    done, runs = compare(tmp_path, "--methods", "full,full-torchrec", "--optimizer", "adam")
    assert runs["full"].ok
    assert runs["full-torchrec"].reason.startswith("full-torchrec: no optimizer 'adam'")
    assert "Traceback" not in done.output
