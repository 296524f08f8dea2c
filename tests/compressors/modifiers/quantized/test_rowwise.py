"""Rows with their ranges behind them: torch's own layout, and lookups that torch's ops and our code agree on."""

import pytest
import torch
from torch import nn

from embpress.compressors import TableCollection, TableConfig, create
from embpress.compressors.ledger import held_bytes
from embpress.compressors.modifiers.quantized.rowwise import Rowwise

CONFIGS = [TableConfig(700, 16, "a"), TableConfig(40, 16, "b"), TableConfig(3, 16, "c")]
KINDS = {8: "byte", 4: "4bit", 2: "2bit"}


def seeded():
    return torch.Generator().manual_seed(0)


@pytest.fixture(params=[8, 4, 2])
def bits(request):
    return request.param


def served(bits, rows=500, width=16, method="full", **options):
    return create(f"{method}+int{bits}:by=row", rows, width, generator=seeded(), **options).fold()


def test_torchs_own_op_unpacks_the_rows(bits):
    table = served(bits)
    want = getattr(torch.ops.quantized, f"embedding_bag_{KINDS[bits]}_unpack")(table.weight_rows)
    assert torch.equal(table.to_dense(), want)


def test_the_error_is_no_more_than_that_of_torchs_own_rows(bits):
    """Theirs reach from the least to the largest value of a row; ours are fitted by least squares."""
    weight = torch.randn(500, 16, generator=seeded())
    table = create(f"full+int{bits}:by=row", 500, 16)
    with torch.no_grad():
        table.table.weight.copy_(weight)
    names = (f"embedding_bag_{KINDS[bits]}_{what}" for what in ("prepack", "unpack"))
    prepack, unpack = (getattr(torch.ops.quantized, name) for name in names)
    theirs = (unpack(prepack(weight)) - weight).square().sum(1)
    mine = (table.fold().to_dense() - weight).square().sum(1)
    assert mine.sum() <= theirs.sum()


def test_the_bytes_are_those_of_torchs_own_rows(bits):
    table = create(f"full+int{bits}:by=row", 500, 16)
    packed = getattr(torch.ops.quantized, f"embedding_bag_{KINDS[bits]}_prepack")(torch.zeros(500, 16))
    assert table.ledger().serving_bytes == packed.nbytes == held_bytes(table.fold())
    assert (
        TableCollection.build(CONFIGS, f"full+int{bits}:by=row", device="meta").serving_bytes == 743 * packed.shape[1]
    )


@pytest.mark.parametrize("mode", ["sum", "mean"])
def test_the_op_and_our_own_decoding_agree(bits, mode):
    table = served(bits, mode=mode, padding_idx=3)
    ids = torch.tensor([3, 499, 0, 0, 3, 7, 8, 9], dtype=torch.int32)
    offsets = torch.tensor([0, 0, 2, 5, 5, 8])
    plain = nn.EmbeddingBag.from_pretrained(table.to_dense(), mode=mode, padding_idx=3)
    weights = torch.linspace(-1, 2, 8) if mode == "sum" else None
    for given in (None, weights):
        want = plain(ids.long(), offsets, given)
        torch.testing.assert_close(table(ids, offsets, given), want)
        if given is not None:
            given = given.clone().requires_grad_()  # the op has no gradient: our own code answers
            mine = table(ids, offsets, given)
            torch.testing.assert_close(mine, want)
            mine.sum().backward()
            rows = table.to_dense()[ids.long()].sum(1).masked_fill(ids == 3, 0)
            torch.testing.assert_close(given.grad, rows)


def test_tables_of_a_group_answer_in_one_call(bits):
    tables = TableCollection.build(CONFIGS, f"full+int{bits}:by=row", generator=seeded()).fold()
    assert len(tables.groups) == 1
    ids = torch.stack([torch.arange(9) * 5 % n for n, _, _ in CONFIGS], 1)
    alone = torch.stack([table.lookup(ids[:, t]) for t, table in enumerate(tables.tables)], 1)
    assert torch.equal(tables(ids), alone)
    assert tables(ids[:0]).shape == (0, 3, 16)
    offsets = torch.tensor([0, 4, 4])
    bags = tables([(ids[:, t], offsets) for t in range(3)])
    torch.testing.assert_close(bags, torch.stack([alone[:4].sum(0), 0 * alone[0], alone[4:].sum(0)]))
    traced = torch.export.export(tables, (ids,))
    assert torch.equal(traced.module()(ids), alone)
    assert not any("quantized" in str(node.target) for node in traced.graph.nodes)


def test_what_does_not_fit_is_kept_as_before(bits):
    assert isinstance(served(bits, method="mlet"), Rowwise)
    assert isinstance(served(bits, width=5), Rowwise) == (bits == 8)
    for method in ("hash", "qr", "tt:rank=4", "robe"):
        assert not isinstance(served(bits, method=method), Rowwise)


def test_rows_in_double_come_back_in_double(bits):
    table = served(bits, dtype=torch.float64)
    assert table.to_dense().dtype == torch.float64
    assert table(torch.tensor([[1, 2]])).dtype == torch.float64


@pytest.mark.parametrize("size", [1e-3, 1e4])
def test_small_and_large_rows_are_kept_in_half_precision(bits, size):
    weight = size * (torch.rand(200, 16, generator=seeded()) - 0.5)
    table = create(f"full+int{bits}:by=row", 200, 16)
    with torch.no_grad():
        table.table.weight.copy_(weight)
    step = size / ((1 << bits) - 1)
    assert (table.fold().to_dense() - weight).abs().max() < (0.6 if bits > 2 else 1.1) * step
