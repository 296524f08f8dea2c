"""`torch.compile(fullgraph=True)` and `torch.export` of tables and collections: ids, bags, weights, padding."""

import pytest
import torch
from torch import Generator, nn
from torch.export import Dim, export

from embpress.compressors import TableCollection, TableConfig, create, fold_model

SPECS = ("full", "hash:parts=2", "robe:z=4:sign=true", "qr", "mlet", "tt:rank=4", "hash+bf16")
CACHED = "tt:rank=4:cache_rows=8:warmup=1:refresh=2"
N, D = 300, 8
OFFSETS = torch.tensor([0, 2, 5, 5])
ANY = {0: Dim.AUTO}


def ids(*shape, n=N, seed=0):
    return torch.randint(n, shape, generator=Generator().manual_seed(seed))


def weights(*shape):
    return torch.rand(shape, generator=Generator().manual_seed(1))


class Bags(nn.Module):
    """A collection called with the same bags for each table."""

    def __init__(self, tables):
        super().__init__()
        self.tables = tables

    def forward(self, ids, offsets):
        return self.tables([(ids, offsets)] * len(self.tables.configs))


def table(spec, **options):
    return create(spec, N, D, generator=Generator().manual_seed(0), **options)


def tables(spec):
    configs = [TableConfig(rows, D) for rows in (N, 20, 250, N)]
    return TableCollection.build(configs, spec, generator=Generator().manual_seed(0))


# what is called: how it is made, its arguments, and others of another size
CALLS = {
    "a table": (table, (ids(6, 3),), (ids(4, 3),)),
    "a table, bags": (table, (ids(9), OFFSETS), (ids(7), torch.tensor([0, 0, 4]))),
    "a table, weights": (table, (ids(9), OFFSETS, weights(9)), (ids(7), torch.tensor([0, 0, 4]), weights(7))),
    "a table, means": (
        lambda spec: table(spec, mode="mean", include_last_offset=True),
        (ids(9), torch.tensor([0, 2, 5, 9])),
        (ids(7), torch.tensor([0, 0, 6])),
    ),
    "a table, padding": (
        lambda spec: table(spec, padding_idx=3),
        (torch.tensor([3, 1, 2, 3, 4, 5, 3, 3, 7]), OFFSETS),
        (torch.full((4,), 3), torch.tensor([0, 0, 2])),  # nothing is left of it
    ),
    "a collection": (tables, (ids(6, 4, n=20),), (ids(5, 4, n=20),)),
    "a collection, bags": (
        lambda spec: Bags(tables(spec)),
        (ids(9, n=20), OFFSETS),
        (ids(7, n=20), torch.tensor([0, 0, 4])),
    ),
}


def same_step(traced, module, twin, arguments):
    """Asserts that outputs and gradients are those of the twin, and moves both."""
    ours, theirs = traced(*arguments), twin(*arguments)
    torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=1e-6)
    for out in (ours, theirs):
        out.square().sum().backward()
    theirs_by_name = dict(twin.named_parameters())
    for name, parameter in module.named_parameters():
        grad = theirs_by_name[name].grad
        if grad is not None:
            torch.testing.assert_close(parameter.grad.to_dense(), grad.to_dense(), rtol=1e-4, atol=1e-5)
    with torch.no_grad():
        for parameter in (*module.parameters(), *twin.parameters()):
            if parameter.grad is not None:
                parameter -= 0.1 * parameter.grad.to_dense()
                parameter.grad = None


@pytest.mark.parametrize("call", ["a table, bags", "a table, padding", "a collection"])
@pytest.mark.parametrize("spec", SPECS)
def test_compiled_without_a_break(spec, call):
    make, *calls = CALLS[call]
    module, twin = make(spec), make(spec)
    torch._dynamo.reset()
    compiled = torch.compile(module, fullgraph=True, backend="aot_eager")
    for arguments in (*calls, calls[0]):
        same_step(compiled, module, twin, arguments)


@pytest.mark.parametrize("call", CALLS)
@pytest.mark.parametrize("spec", [*SPECS, CACHED])
def test_folded_and_exported(spec, call):
    make, arguments, others = CALLS[call]
    folded, twin = (fold_model(nn.Sequential(make(spec)))[0] for _ in range(2))
    shapes = tuple(ANY for _ in arguments)
    program = export(folded, arguments, dynamic_shapes=shapes).module()
    for each in (arguments, others):
        torch.testing.assert_close(program(*each), twin(*each), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("call", CALLS)
@pytest.mark.parametrize("spec", SPECS)
def test_exported_in_training(spec, call):
    make, arguments, others = CALLS[call]
    shapes = tuple(ANY for _ in arguments)
    program = export(make(spec), arguments, dynamic_shapes=shapes).module()
    twin = make(spec)
    for each in (arguments, others):
        same_step(program, program, twin, each)


def test_a_cache_that_learns_in_a_compiled_step():
    module, twin = table(CACHED), table(CACHED)
    torch._dynamo.reset()
    compiled = torch.compile(module, fullgraph=True, backend="aot_eager")
    for step in range(8):
        same_step(compiled, module, twin, ((weights(16, 1) ** 3 * (N - step)).long(),))
        assert torch.equal(module.cache.ids, twin.cache.ids)
        assert int(module.cache.steps) == step + 1
    assert (twin.cache.ids >= 0).all()
