"""Checks of all tables of a model."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from functools import partial

import torch
from torch import Generator

from embpress.compressors.ledger import held_bytes
from embpress.compressors.options import TableOptions
from embpress.compressors.tables.collection import TableCollection
from embpress.compressors.tables.planning.plan import TableConfig
from embpress.compressors.testing.subject import D, N, Subject, close, rejects


def _tables(subject: Subject, sizes: Sequence[int], dtype: torch.dtype | None = None, seed: int = 0) -> TableCollection:
    options = TableOptions(device=subject.device, generator=Generator().manual_seed(seed), dtype=dtype)
    shapes = [(n, D) for n in sizes]
    tables = subject.cls.build_tables(shapes, [subject.knobs] * len(sizes), [options] * len(sizes))
    configs = [TableConfig(n, D, f"table {t}") for t, n in enumerate(sizes)]
    return TableCollection(configs, [subject.wrap(table) for table in tables], sum(4 * n * D for n in sizes))


def check_collection(subject: Subject) -> None:
    """Lookups in all tables at once equal those table by table, with ids and with bags; errors name the table."""
    sizes = [N, 3, 1009]
    tables = _tables(subject, sizes)
    ids = torch.stack([torch.arange(8, device=subject.device) * 5 % n for n in sizes], dim=1)
    alone = torch.stack([table.lookup(ids[:, t]) for t, table in enumerate(tables.tables)], dim=1)
    close(tables(ids).detach(), alone.detach(), "all tables at once")
    close(tables(ids.int()).detach(), alone.detach(), "int32 ids")
    close(tables(list(ids.unbind(1))).detach(), alone.detach(), "a list of ids")
    offsets = subject.ids([0, 3, 3, 7])
    bags = [(ids[:, 0], offsets), ids[:4, 1], (ids[:, 2], offsets)]
    want = [tables.tables[t](ids[:, t], offsets) for t in (0, 2)]
    got = tables(bags).detach()
    close(got[:, 0], want[0].detach(), "bags in the first table")
    close(got[:, 1], alone[:4, 1].detach(), "single ids beside bags")
    close(got[:, 2], want[1].detach(), "bags in the last table")
    assert tables(ids[:0]).shape == (0, 3, D), "an empty batch has the wrong shape"
    bad = ids.clone()
    bad[4, 1] = 3
    rejects(lambda: tables(bad), (IndexError,), "3", "table 1")


def check_collection_bags(subject: Subject) -> None:
    """Bags of all tables at once, some of them weighted, equal those table by table; errors name the table."""
    sizes = [N, 3, 1009]
    tables = _tables(subject, sizes, subject.double.get("dtype"))
    ids = [subject.ids(values) for values in ([0, 5, 96, 5], [0, 2, 1], [1008, 7, 7, 7, 0])]
    offsets = [subject.ids(values) for values in ([0, 0, 3], [0, 1, 2], [0, 4, 4])]
    weights = torch.linspace(-1, 2, 5, dtype=subject.double.get("dtype", torch.float32), device=subject.device)
    got = tables([(ids[0], offsets[0]), (ids[1], offsets[1]), (ids[2], offsets[2], weights)]).detach()
    for t, weighted_by in enumerate((None, None, weights)):
        want = tables.tables[t].lookup(ids[t]).detach()
        want = want if weighted_by is None else want * weighted_by.unsqueeze(1)
        ends = [*offsets[t].tolist()[1:], len(ids[t])]
        for b, (start, end) in enumerate(zip(offsets[t].tolist(), ends)):
            close(got[b, t], want[start:end].sum(0), f"bag {b} of table {t}")
    short = [(ids[0], offsets[0]), (ids[1], offsets[1]), (ids[2], offsets[2], weights[:-1])]
    rejects(lambda: tables(short), (ValueError,), "table 2")
    none = subject.ids([])
    assert not tables([(none, subject.ids([0, 0]))] * 3).any(), "empty bags are not zero"
    assert tables([(none, none)] * 3).shape == (0, 3, D), "no bag at all has the wrong shape"
    bad = [(ids[0], offsets[0]), (subject.ids([0, 1, 3]), offsets[1]), (ids[2], offsets[2])]
    rejects(lambda: tables(bad), (IndexError,), "3", "table 1")
    for wrong in ([1, 1, 2], [0, 2, 1], [0, 1]):
        shifted = [(ids[0], offsets[0]), (ids[1], subject.ids(wrong)), (ids[2], offsets[2])]
        rejects(partial(tables, shifted), (ValueError,))


def check_collection_gradients(subject: Subject) -> None:
    """Gradients through all tables at once equal finite differences in double."""
    if subject.cls.tags.fused_update or not subject.cls.tags.has(torch.float64):
        return  # declared: no .grad, or no double
    tables = _tables(subject, [N, 3, 50], torch.float64)
    if any(table.tags.straight_through for table in tables.tables):
        return  # declared: no difference shows them
    ids = subject.ids([[0, 0, 0], [96, 2, 49], [0, 2, 7]])
    for _ in range(3):  # a method may adapt to what is looked up; finite differences need it to stand still
        tables(ids)
    tables.eval()
    leaves = [p for p in tables.parameters() if p.requires_grad]
    assert torch.autograd.gradcheck(lambda *_: tables(ids), leaves, fast_mode=True, atol=1e-6), "gradients differ"


def check_collection_copies(subject: Subject) -> None:
    """deepcopy, state dict and `fold()` of all tables give equal lookups; a copy is independent."""
    sizes = [N, 3, 1009]
    tables, other = _tables(subject, sizes), _tables(subject, sizes, seed=1)
    with torch.no_grad():
        for parameter in other.parameters():
            parameter.add_(1)
    ids = subject.ids([[0, 0, 0], [96, 2, 1008], [5, 1, 500]])
    before = tables(ids).detach().clone()
    assert not torch.equal(other(ids), before), "the tables do not look up in their parameters"
    other.load_state_dict(tables.state_dict())
    assert torch.equal(other(ids).detach(), before), "the loaded tables differ"
    twin = copy.deepcopy(tables)
    assert torch.equal(twin(ids).detach(), before), "the copied tables differ"
    with torch.no_grad():
        for parameter in twin.parameters():
            parameter.add_(1)
    assert torch.equal(tables(ids).detach(), before), "a copy shares memory with its source"
    folded = tables.fold()
    close(folded(ids), tables.eval()(ids).detach(), "folded tables", subject.served_error)
    assert not any(p.requires_grad for p in folded.parameters()), "folded tables want gradients"


def check_collection_ledger(subject: Subject) -> None:
    """All tables' serving bytes are those of the tensors that the folded collection holds, shared memory once."""
    tables = _tables(subject, [N, 3, 1009])
    folded = tables.fold()
    held, said = held_bytes(folded), tables.serving_bytes
    assert said == held, f"the ledger says {said}, the tensors hold {held}"
    shares = sum(tables.table_bytes())
    assert abs(shares - said) <= len(tables.configs), f"the tables' shares add up to {shares} of {said} bytes"
