"""Checks of construction and lookups."""

from __future__ import annotations

from functools import partial

import torch

from embpress.compressors.testing.subject import SHAPES, D, N, Subject, bags, close, rejects


def check_construction(subject: Subject) -> None:
    """Draws only from the generator: same seed, same table; another seed, another; the global state is untouched."""
    before = torch.get_rng_state()
    first, second, other = subject.make(seed=1), subject.make(seed=1), subject.make(seed=2)
    assert torch.equal(before, torch.get_rng_state()), "the global random state was used"
    assert torch.equal(first.to_dense(), second.to_dense()), "the same seed gave two tables"
    assert not torch.equal(first.to_dense(), other.to_dense()), "another seed gave the same table"


def check_repr(subject: Subject) -> None:
    """`repr` shows shape, size and ratio."""
    text = repr(subject.make())
    for word in (str(N), str(D), "serving_bytes=", "ratio="):
        assert word in text, f"{word!r} is not in {text!r}"


def check_lookup(subject: Subject) -> None:
    """Ids of any shape give rows; twice the same; the table is not changed by looking."""
    for n, dim in SHAPES:
        table = subject.make(n, dim).eval()
        state = {name: value.clone() for name, value in table.state_dict().items()}
        ids = subject.ids([[0, n - 1, n // 2], [n // 3, 0, 0]])
        rows = table.lookup(ids)
        assert rows.shape == (2, 3, dim), f"lookup of (2, 3) ids gave {tuple(rows.shape)}"
        assert torch.equal(rows, table.lookup(ids)), "two lookups differ"
        assert torch.isfinite(rows).all(), "a row is not finite"
        close(rows[1, 1].detach(), rows[0, 0].detach(), "the same id twice")  # a GEMM may round by place
        assert table.lookup(ids[:0]).shape == (0, 3, dim), "an empty lookup has the wrong shape"
        assert table.lookup(ids[0, 0]).shape == (dim,), "the lookup of one id has the wrong shape"
        for name, value in table.state_dict().items():
            assert torch.equal(value, state[name]), f"a lookup changed {name}"


def check_to_dense(subject: Subject) -> None:
    """`to_dense` equals the lookups of all ids, and of the rows asked for."""
    for n, dim in SHAPES:
        table = subject.make(n, dim).eval()
        dense = table.to_dense()
        assert dense.shape == (n, dim), f"to_dense gave {tuple(dense.shape)}"
        assert not dense.requires_grad, "to_dense carries a gradient"
        close(dense, table.lookup(torch.arange(n, device=subject.device)).detach(), "to_dense")
        rows = subject.ids([n - 1, 0, n // 2])
        close(table.to_dense(rows), dense[rows], "to_dense(rows)")


def check_rows_differ(subject: Subject) -> None:
    """A table holds many rows, not one: ids are told apart."""
    dense = subject.make().to_dense()
    distinct = len(torch.unique(dense, dim=0))
    assert distinct > N // 20, f"only {distinct} of {N} rows differ"


def check_out_of_range(subject: Subject) -> None:
    """An id out of range is an IndexError that names the id and n."""
    table = subject.make()
    for bad in (-1, N, 2**31 - 1, 2**40):
        ids = subject.ids([0, bad])
        rejects(partial(table.lookup, ids), (IndexError,), str(bad), str(N))
        rejects(partial(table, ids, subject.ids([0])), (IndexError,), str(bad), str(N))
        rejects(partial(table, ids.unsqueeze(0)), (IndexError,), str(bad), str(N))


def check_dtypes(subject: Subject) -> None:
    """int32 and int64 mean the same; other dtypes are refused by name."""
    table = subject.make().eval()
    ids, offsets = bags(subject)
    wide = table(ids, offsets)
    assert torch.equal(wide, table(ids.int(), offsets.int())), "int32 and int64 differ"
    assert torch.equal(wide, table(ids.int(), offsets)), "int32 ids with int64 offsets differ"
    assert torch.equal(table.lookup(ids), table.lookup(ids.int())), "int32 and int64 lookups differ"
    for wrong in (ids.float(), ids.bool()):
        rejects(partial(table, wrong, offsets), (TypeError,), str(wrong.dtype).removeprefix("torch."))
