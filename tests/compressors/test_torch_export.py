"""Folded tables and collections of every method through `torch.export`, for batches of any size."""

import pytest
import torch
from methods_here import here
from torch.export import Dim, export

from embpress.compressors import TableCollection, TableConfig, available, create

SPECS = (
    *available(),
    "tt:rank=4:cache_rows=8",
    "robe:z=4:sign=true",
    "hash:parts=4",
    "robe+bf16",
    "tt+bf16",
    "hash+pq+int8",
)
N = 1000


def ids(*shape):
    return torch.randint(N, shape, generator=torch.Generator().manual_seed(sum(shape)))


@pytest.mark.parametrize("spec", here(SPECS))
def test_a_table_is_traced_once_for_every_batch(spec):
    table = create(spec, N, 16, generator=torch.Generator().manual_seed(0)).fold()
    table(ids(2, 1))  # what a table makes when it is first asked must hold no tensors of a trace
    batch, total = Dim("batch"), Dim("total")
    for example, shapes, others in (
        ((ids(6, 1),), ({0: batch},), [(ids(11, 1),), (ids(1, 1),)]),
        ((ids(6, 3),), ({0: batch},), [(ids(11, 3),), (ids(1, 3),)]),
        (
            (ids(9), torch.tensor([0, 2, 5, 5])),
            ({0: total}, {0: batch}),
            [(ids(5), torch.tensor([0, 2, 2])), (ids(2), torch.tensor([0]))],
        ),
    ):
        program = export(table, example, dynamic_shapes=shapes).module()
        for arguments in (example, *others):
            torch.testing.assert_close(program(*arguments), table(*arguments), rtol=1e-6, atol=1e-8)


@pytest.mark.parametrize("spec", here(SPECS))
def test_a_collection_is_traced_once_for_every_batch(spec):
    """Tables of two kinds in turn, so that their rows are put in order."""
    configs = [TableConfig(rows, 16) for rows in (900, 30, 500, 20)]
    tables = TableCollection.build(configs, spec, min_rows=100, generator=torch.Generator().manual_seed(0)).fold()
    program = export(tables, (ids(6, 4) % 20,), dynamic_shapes=({0: Dim("batch")},)).module()
    for size in (1, 6, 300):  # as many as are put in order in one way or the other
        columns = ids(size, 4) % torch.tensor([900, 30, 500, 20])
        torch.testing.assert_close(program(columns), tables(columns), rtol=1e-6, atol=1e-8)
