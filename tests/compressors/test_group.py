"""A group answers for all its tables as each of them does alone, and owns what they learn in."""

import copy
import gc
import pickle
import weakref

import pytest
import torch
from torch import nn

from embpress.compressors import Compressor, available, create
from embpress.compressors.group import TableGroup, group_of, members
from embpress.compressors.methods.full import Full
from embpress.compressors.registry import method as method_named

SIZES = (40, 7, 300)
# of one form whatever the number of rows
ONE_FORM = {"sketch": "sketch:rows=16", "dhe": "dhe:hidden=8"}
# some must be made together
METHODS = [
    ONE_FORM.get(name, name)
    for name in available()
    if not (method_named(name).tags.fused_update or method_named(name).tags.shared_memory)
]


def tables(method, **options):
    return [create(method, n, 8, generator=torch.Generator().manual_seed(n), **options) for n in SIZES]


def bags():
    """Three tables' bags, some empty, table after table: ids, offsets, and those of each table."""
    generator = torch.Generator().manual_seed(0)
    parts = []
    for n in SIZES:
        lengths = torch.randint(0, 4, (5,), generator=generator)
        parts.append((torch.randint(0, n, (int(lengths.sum()),), generator=generator), lengths))
    lengths = torch.cat([lengths for _, lengths in parts])
    return torch.cat([ids for ids, _ in parts]), nn.functional.pad(lengths.cumsum(0), (1, 0)), parts


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("options", [{}, {"mode": "mean"}, {"padding_idx": 3}], ids=["sum", "mean", "padding"])
def test_a_group_answers_as_its_tables_do_alone(method, options):
    ids, offsets, parts = bags()
    want = [
        table(part, nn.functional.pad(lengths.cumsum(0), (1, 0))[:-1])
        for table, (part, lengths) in zip(tables(method, **options), parts)
    ]
    got = group_of(tables(method, **options))(ids, offsets)
    torch.testing.assert_close(got, torch.stack(want, 1))


@pytest.mark.parametrize("method", METHODS)
def test_tables_of_a_group_still_answer_by_themselves(method):
    grouped = tables(method)
    group = group_of(grouped)
    ids = torch.tensor([[1, 2, 3], [6, 6, 6]])
    together = group(ids)
    for t, (table, alone) in enumerate(zip(grouped, tables(method))):
        torch.testing.assert_close(table(ids[:, t : t + 1]), together[:, t])
        torch.testing.assert_close(table.lookup(ids[:, t]), alone.lookup(ids[:, t]))


@pytest.mark.parametrize("method", METHODS)
def test_a_table_alone_keeps_its_own_parameters(method):
    table = create(method, 50, 8)
    names = set(table.state_dict())
    table(torch.tensor([[1], [2]]))
    assert table.alone.first is table
    assert set(table.state_dict()) == names
    assert [name for name, _ in table.named_modules() if "alone" in name] == []


@pytest.mark.parametrize("method", METHODS)
def test_a_table_that_is_let_go_of_frees_its_memory_at_once(method):
    table = create(method, 50, 8)
    table(torch.tensor([[1], [2]])).sum().backward()
    freed = [weakref.ref(parameter) for parameter in table.parameters()]
    gc.disable()
    try:
        del table
        assert not any(parameter() is not None for parameter in freed)
    finally:
        gc.enable()


@pytest.mark.parametrize("copied", [copy.deepcopy, lambda table: pickle.loads(pickle.dumps(table))])
def test_a_copy_answers_from_its_own_parameters(copied):
    table = create("tt", 50, 8)
    ids = torch.tensor([[1], [2]])
    before = table(ids)
    twin = copied(table)
    with torch.no_grad():
        for parameter in table.parameters():
            parameter.zero_()
    assert torch.equal(twin(ids), before)


def test_a_shallow_copy_has_a_group_of_its_own():
    table = Full(10, 4)
    table(torch.tensor([[1]]))
    twin = copy.copy(table)
    twin.mode = "mean"
    ids = torch.tensor([[1, 2]])
    torch.testing.assert_close(2 * twin(ids), table(ids))


def test_an_overridden_lookup_that_its_group_would_not_ask_is_refused():
    with pytest.raises(TypeError, match="overrides _lookup"):

        class Doubled(Full):
            def _lookup(self, ids):
                return 2 * self.weight[ids]


def test_a_method_with_neither_lookup_nor_group_says_so():
    class Nothing(Compressor):
        pass

    with pytest.raises(TypeError, match="neither _lookup"):
        Nothing(5, 2)._lookup(torch.tensor([1]))


def test_tables_that_cannot_be_answered_together_are_told_apart():
    mixed = [create("full", 5, 4), create("full", 5, 4, mode="mean"), create("qr", 5, 4), create("full", 9, 4)]
    assert members(mixed) == [[0, 3], [1], [2]]


def test_offsets_that_do_not_fit_the_tables_are_refused():
    group = TableGroup([Full(5, 2), Full(5, 2)])
    with pytest.raises(ValueError, match="2 tables"):
        group(torch.tensor([1, 2]), torch.tensor([0, 1]))
    with pytest.raises(ValueError, match=r"\(B, 2\)"):
        group(torch.tensor([[1, 2, 3]]))
    with pytest.raises(IndexError, match="table 1"):
        group(torch.tensor([1, 9]), torch.tensor([0, 1, 2]))
