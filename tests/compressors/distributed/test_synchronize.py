"""What `synchronize` makes equal on all ranks, and what it says where it cannot."""

import copy
import warnings

import pytest
import torch
import torch.distributed as dist
from torch import Generator

from embpress.compressors import InputError, TableCollection, TableConfig, create, synchronize
from embpress.compressors.distributed import tell_ranks

SPECS = ("full", "hash", "hash:parts=2", "robe:z=4:sign=true", "qr", "mlet", "tt:rank=4", "hash+bf16")
CACHED = "tt:rank=4:cache_rows=8:warmup=1:refresh=2"
CONFIGS = [TableConfig(rows, 8) for rows in (300, 20, 250, 300)]


def on_all(value):
    """The value of every rank."""
    values = [None] * dist.get_world_size()
    dist.all_gather_object(values, value)
    return values


def answers(model):
    return torch.cat([table.to_dense() for table in getattr(model, "tables", [model])])


def of_other_seeds(rank, spec):
    """A table and a collection, before and after: whether lookups and state dicts are those of rank 0."""
    equal = []
    for make in (
        lambda seeded: create(spec, 300, 8, generator=seeded),
        lambda seeded: TableCollection.build(CONFIGS, spec, generator=seeded),
    ):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            model = make(Generator().manual_seed(rank))
        before = on_all(answers(model))
        count = synchronize(model)
        assert count == len(getattr(model, "tables", [model]))
        after = on_all(answers(model))
        states = on_all(dict(model.state_dict()))
        equal.append(
            (
                torch.equal(*before),
                torch.equal(*after) and torch.equal(before[0], after[1]),
                all(torch.equal(value, states[1][name]) for name, value in states[0].items()),
            )
        )
    return equal


@pytest.mark.parametrize("spec", SPECS)
def test_tables_become_those_of_the_first_rank(ranks, spec):
    for equal in ranks(of_other_seeds, spec):
        assert equal == [(False, True, True)] * 2


def of_filled_caches(rank):
    table = create(CACHED, 300, 8, generator=Generator().manual_seed(0))
    for step in range(3 + rank):
        table(torch.randint(300, (16, 1), generator=Generator().manual_seed(10 * rank + step))).sum().backward()
    ids = on_all(table.cache.ids.clone())
    assert not torch.equal(*ids), "the ranks cached the same rows by themselves"
    synchronize(table)
    states = on_all(dict(table.state_dict()))
    assert all(torch.equal(value, states[1][name]) for name, value in states[0].items())
    assert torch.equal(table.cache.ids, ids[0])
    assert table.cache.holds(ids[0]).all()  # the index as well
    copy.deepcopy(table)  # a group of processes is no part of the module


def test_caches_become_those_of_the_first_rank(ranks):
    ranks(of_filled_caches)


def of_other_knobs(rank):
    with pytest.raises(InputError, match=r"rank 1 holds other tables than rank 0: table 0: .*k=30 instead of k=31"):
        synchronize(create(f"hash:k={30 + rank}", 300, 8))
    with pytest.raises(InputError, match=r"rank 1 holds other tables than rank 0: 2 instead of 1"):
        synchronize(torch.nn.ModuleList(create("tt", 300, 8) for _ in range(1 + rank)))


def test_other_tables_are_named_on_every_rank(ranks):
    ranks(of_other_knobs)


def told(rank):
    with pytest.warns(UserWarning, match=r"embpress\.compressors\.synchronize\(model\)"):
        tell_ranks(Generator().manual_seed(0))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        tell_ranks(None)
    return [dict(create(spec, 300, 8).constants._values) for spec in ("hash", "robe", "qr")]


def test_a_generator_is_told_and_without_one_ranks_agree(ranks):
    first, second = ranks(told)
    for ours, theirs in zip(first, second):
        assert ours.keys() == theirs.keys()
        assert all(torch.equal(value, theirs[name]) for name, value in ours.items())


def test_one_process_is_left_as_it_is(recwarn):
    table = create("hash", 300, 8, generator=Generator().manual_seed(0))
    before = table.to_dense()
    assert synchronize(table) == 1
    assert torch.equal(table.to_dense(), before)
    assert not recwarn.list
