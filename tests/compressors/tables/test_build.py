"""Which gradients are sparse: those asked for, and those of parameters that are themselves large tables of rows."""

import pytest
import torch

from embpress.compressors import TableCollection, TableConfig

LARGE = [TableConfig(150_000, 4, "large"), TableConfig(60_000, 4, "small")]


def gradients(method, sparse=None, configs=LARGE):
    tables = TableCollection.build(configs, method, sparse=sparse)
    tables(torch.tensor([[1] * len(configs), [7] * len(configs)])).sum().backward()
    return {name: p.grad for name, p in tables.named_parameters()}


@pytest.mark.parametrize("method", ["hash:k=649", "hash:k=300:parts=2", "qr:c=4", "tt:rank=2", "robe", "hash+bf16"])
def test_a_small_parameter_has_dense_gradients_however_large_the_table(method):
    assert not any(gradient.is_sparse for gradient in gradients(method).values())


@pytest.mark.parametrize(("method", "sparse"), [("full", 1), ("mlet", 1), ("hash:k=60000", 1), ("hash:k=40000", 0)])
def test_large_tables_of_rows_have_sparse_ones(method, sparse):
    """Tables of one method stack their rows: what counts is all of them."""
    found = gradients(method)
    assert sum(gradient.is_sparse for gradient in found.values()) == sparse
    assert not any(gradient.is_sparse for gradient in gradients(method, sparse=False).values())


@pytest.mark.parametrize("method", ["full", "hash:k=50", "qr:c=4"])
def test_what_is_asked_for_is_done(method):
    small = [TableConfig(300, 4, "a"), TableConfig(400, 4, "b")]
    assert all(gradient.is_sparse for gradient in gradients(method, sparse=True, configs=small).values())
    assert not any(gradient.is_sparse for gradient in gradients(method, configs=small).values())


def test_weight_decay_and_clipping_take_a_hashed_table_over_many_rows():
    tables = TableCollection.build(LARGE, "hash:k=649")
    optimizer = torch.optim.Adam(tables.parameters(), weight_decay=0.1)
    tables(torch.tensor([[1, 7]])).sum().backward()
    torch.nn.utils.clip_grad_norm_(tables.parameters(), 1.0)
    optimizer.step()


@pytest.mark.parametrize(
    ("spec", "want"), [("unified:k=20000", False), ("unified:k=90000", True), ("hash:k=9000", True)]
)
def test_memory_that_tables_share_counts_once(spec, want):
    """Ten tables: 20,000 and 90,000 rows of 8 numbers that they share, or 9,000 rows of 16 numbers each."""
    tables = TableCollection.build([TableConfig(20_000, 16)] * 10, spec, sparse="auto", device="meta")
    assert {table.sparse for table in tables.tables} == {want}
