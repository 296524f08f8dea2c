"""Checks of all tables of a model."""

from __future__ import annotations

import copy
from collections.abc import Sequence

import torch
from torch import Generator

from embpress.compressors.base import TableOptions
from embpress.compressors.ledger import held_bytes
from embpress.compressors.tables.budget import TableConfig
from embpress.compressors.tables.collection import TableCollection
from embpress.compressors.testing.subject import D, N, Subject, close, rejects


def _tables(subject: Subject, sizes: Sequence[int], dtype: torch.dtype | None = None) -> TableCollection:
    options = TableOptions(device=subject.device, generator=Generator().manual_seed(0), dtype=dtype)
    shapes = [(n, D) for n in sizes]
    made = subject.cls.build_tables(shapes, [subject.knobs] * len(sizes), [options] * len(sizes))
    configs = [TableConfig(n, D, f"table {t}") for t, n in enumerate(sizes)]
    return TableCollection(configs, list(made), sum(4 * n * D for n in sizes))


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


def check_collection_gradients(subject: Subject) -> None:
    """Gradients through all tables at once equal finite differences in double."""
    if "fused" in subject.cls.tags or "float32" in subject.cls.tags:
        return  # declared: no .grad, or no double
    tables = _tables(subject, [N, 3, 50], torch.float64)
    ids = subject.ids([[0, 0, 0], [96, 2, 49], [0, 2, 7]])
    for _ in range(3):  # a method may adapt to what is looked up; finite differences need it to stand still
        tables(ids)
    tables.eval()
    leaves = [p for p in tables.parameters() if p.requires_grad]
    assert torch.autograd.gradcheck(lambda *_: tables(ids), leaves, fast_mode=True, atol=1e-6), "gradients differ"


def check_collection_copies(subject: Subject) -> None:
    """deepcopy, state dict and `fold()` of all tables give equal lookups; a copy is independent."""
    sizes = [N, 3, 1009]
    tables, other = _tables(subject, sizes), _tables(subject, sizes)
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
    close(folded(ids), before, "folded tables")
    assert not any(p.requires_grad for p in folded.parameters()), "folded tables want gradients"


def check_collection_ledger(subject: Subject) -> None:
    """All tables' serving bytes are those of the tensors that the folded collection holds, shared memory once."""
    tables = _tables(subject, [N, 3, 1009])
    folded = tables.fold()
    routing = sum(
        b.numel() * b.element_size()
        for module in folded.modules()
        for name, b in module.named_buffers(recurse=False)
        if name in module._non_persistent_buffers_set  # constants derived from the shapes, which route ids to tables
    )
    held, said = held_bytes(folded) - routing, tables.serving_bytes
    assert said == held, f"the ledger says {said}, the tensors hold {held}"
    shares = sum(tables.table_bytes())
    assert abs(shares - said) <= len(tables.configs), f"the tables' shares add up to {shares} of {said} bytes"
