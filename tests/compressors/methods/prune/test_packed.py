"""Pruned tables to serve: packed values answer as the table they were packed from, in as many bytes as said."""

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from embpress.compressors import InputError, Prune, TableCollection, TableConfig, create
from embpress.compressors.ledger import held_bytes
from embpress.compressors.methods.prune.packed import Packed, index_bytes, most_kept

SHAPES = [(1, 1), (1, 16), (97, 16), (3000, 48), (70_000, 1), (5, 768), (200, 1000), (4096, 16), (4097, 16)]


def packed(n, dim, kept, seed=0):
    """A table of zeros with `kept` other values at random places, and its packed form."""
    draw = torch.Generator().manual_seed(seed)
    keep = torch.zeros(n * dim, dtype=torch.bool)
    keep[torch.randperm(n * dim, generator=draw)[:kept]] = True
    weight = torch.randn(n, dim, generator=draw).masked_fill(~keep.view(n, dim), 0)
    table = Packed(n, dim, kept=kept)
    table.pack(weight, keep.view(n, dim))
    return weight, table.eval()


@pytest.mark.parametrize(("n", "dim"), SHAPES)
@pytest.mark.parametrize("share", [0.0, 0.02, 0.3, 1.0])
def test_rows_are_those_that_were_packed(n, dim, share):
    weight, table = packed(n, dim, max(1, int(share * n * dim)))
    assert torch.equal(table.to_dense(), weight)
    assert held_bytes(table) == 4 * table.kept + sum(index_bytes(n, dim, table.kept).values())


def test_the_smaller_form_is_taken():
    forms = {share: index_bytes(10_000, 32, int(share * 320_000)) for share in (0.01, 0.05, 0.08, 0.5)}
    assert ["words" in form for form in forms.values()] == [False, False, True, True]
    for share, form in forms.items():
        bits = sum(form.values()) * 8 / 320_000
        assert bits == pytest.approx(min(16 * share, 1.0625), rel=0.01)


@pytest.mark.parametrize(("n", "dim"), SHAPES)
def test_the_most_values_for_a_size_fit_and_one_more_does_not(n, dim):
    def total(kept):
        return 4 * kept + sum(index_bytes(n, dim, kept).values())

    for size in (total(1), total(max(1, n * dim // 30)), total(max(1, n * dim // 3)), 3 * n * dim):
        kept = most_kept(n, dim, size)
        if kept < 1:
            continue
        assert total(kept) <= size or size < total(1)
        assert kept == n * dim or total(kept + 1) > size


@pytest.mark.parametrize("share", [0.03, 0.3])
def test_tables_in_a_collection_are_one_group_that_answers_as_they_do_alone(share):
    draw = torch.Generator().manual_seed(0)
    sizes = (5000, 97, 9000)
    tables = [create(f"prune:keep={share}", n, 16, generator=draw) for n in sizes]
    want = [table.fold().to_dense() for table in tables]
    whole = TableCollection([TableConfig(n, 16, str(n)) for n in sizes], tables, 1).fold()
    assert len(whole.groups) == 1
    ids = torch.stack([torch.arange(9000) % n for n in sizes], 1)
    assert torch.equal(whole(ids), torch.stack([rows[ids[:, t]] for t, rows in enumerate(want)], 1))
    bags = whole([(ids[:, t], torch.tensor([0, 7, 7])) for t in range(3)])
    for t, rows in enumerate(want):
        torch.testing.assert_close(bags[0, t], rows[ids[:7, t]].sum(0))
        assert not bags[1, t].any()
        assert torch.equal(whole.tables[t].to_dense(), rows)


class Largest(TorchDispatchMode):
    """The most elements of any tensor that an operation makes."""

    def __init__(self):
        super().__init__()
        self.made = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        out = func(*args, **(kwargs or {}))
        for tensor in out if isinstance(out, tuple | list) else (out,):
            if isinstance(tensor, torch.Tensor) and func is not torch.ops.aten.alias.default:
                storage = tensor.untyped_storage().data_ptr()
                known = any(
                    storage == held.untyped_storage().data_ptr() for held in args if isinstance(held, torch.Tensor)
                )
                self.made = max(self.made, 0 if known else tensor.numel())
        return out


@pytest.mark.parametrize("share", [0.03, 0.3])
def test_a_lookup_makes_nothing_of_the_size_of_the_table(share):
    table = create(f"prune:keep={share}", 5000, 16).fold()
    ids = torch.arange(20).view(-1, 1)
    with Largest() as most:
        table(ids)
    assert 0 < most.made <= 20 * 16


def test_values_in_half_precision_take_half_and_keep_their_places():
    table = create("prune:keep=0.2", 500, 16, dtype=torch.bfloat16)
    folded = table.fold()
    assert folded.values.dtype == torch.bfloat16
    assert torch.equal(folded.to_dense(), table.eval().to_dense())
    rounded = create("prune:keep=0.2+bf16", 500, 16)
    assert rounded.ledger().serving_bytes == held_bytes(rounded.fold())


def test_rows_that_no_block_holds_are_refused():
    with pytest.raises(InputError, match="width 70000"):
        Prune(3, 70_000)
