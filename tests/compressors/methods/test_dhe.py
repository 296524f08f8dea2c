"""Deep hash embeddings: inputs and rows from Python's numbers, one product a layer for all tables, bytes."""

import math

import pytest
import torch
from python_hashes import PRIME, rounds
from torch.utils._python_dispatch import TorchDispatchMode

from embpress.compressors import BudgetError, InputError, TableCollection, TableConfig, create
from embpress.compressors.methods.dhe import DHE


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def inputs(table, i):
    """By Python's numbers."""
    first, second = table.coefficients.T.tolist()
    gaussian = table.transform == "gaussian"
    size = table.k + table.k % 2 if gaussian else table.k
    hashes = [rounds(rounds(i, first) + j, second) for j in range(size)]
    if not gaussian:
        return [2 * h / PRIME - 1 for h in hashes]
    half = size // 2
    uniform = [min(1.0, (h + 1) / (PRIME + 1)) for h in hashes]
    polar = [(math.sqrt(-2 * math.log(r)), 2 * math.pi * a) for r, a in zip(uniform[:half], uniform[half:])]
    return [*(r * math.cos(a) for r, a in polar), *(r * math.sin(a) for r, a in polar)][: table.k]


def naive_row(table, i):
    """The network with torch's own layers."""
    x = torch.tensor(inputs(table, i), dtype=torch.float64)
    start = 0
    for layer in range(table.layers):
        matrix = table.inner[start : start + len(x)]
        start += len(x)
        bias, gain, shift = table.norms[3 * layer : 3 * layer + 3]
        x = torch.nn.functional.layer_norm(x @ matrix + bias, (table.hidden,), gain, shift)
        x = x * torch.tanh(torch.log1p(torch.exp(x)))
    return x @ table.outer[:-1] + table.outer[-1]


@pytest.mark.parametrize(
    "knobs", ["", ":layers=1:k=7", ":layers=4:hidden=5", ":transform=gaussian:k=9", ":k=8:transform=gaussian"]
)
def test_a_row_is_the_networks_answer(knobs):
    table = create(f"dhe{knobs}", 2**31 - 1 if "hidden" in knobs else 1000, 6, dtype=torch.float64, generator=seeded())
    with torch.no_grad():
        for parameter in (table.norms, table.outer):
            parameter += torch.rand(parameter.shape, generator=seeded(1), dtype=torch.float64)
    for i in (0, 1, 999, table.num_embeddings - 1):
        torch.testing.assert_close(table.lookup(torch.tensor(i)), naive_row(table, i))


def test_inputs_are_even_or_normal():
    ids = torch.arange(2000).unsqueeze(0)
    for transform, std, fourth in (("uniform", 1 / math.sqrt(3), 9 / 5), ("gaussian", 1, 3)):
        table = create(f"dhe:k=64:hidden=8:transform={transform}", 2000, 4, generator=seeded())
        x = table.encoded(ids, table.coefficients.unsqueeze(0), torch.float64)[0]
        assert abs(float(x.mean())) < 0.01
        assert float(x.std()) == pytest.approx(std, rel=0.01)
        assert float((x / x.std()).pow(4).mean()) == pytest.approx(fourth, rel=0.02)
        off = torch.corrcoef(x.T)[~torch.eye(64, dtype=torch.bool)]
        assert float(off.std()) == pytest.approx(1 / math.sqrt(2000), rel=0.1)  # as independent inputs have
        assert len(x.unique(dim=0)) == 2000


def test_a_row_does_not_depend_on_the_others_of_its_batch():
    table = create("dhe", 1000, 8, dtype=torch.float64, generator=seeded()).train()
    alone = table.lookup(torch.tensor([5]))
    torch.testing.assert_close(table.lookup(torch.arange(100))[5:6], alone)
    torch.testing.assert_close(table.eval().lookup(torch.tensor([5])), alone)


@pytest.mark.parametrize("layers", [1, 2, 5])
def test_rows_start_with_about_the_variance_of_a_full_table(layers):
    tables = [create(f"dhe:hidden=32:layers={layers}", 5000, 16, generator=seeded(s)).to_dense() for s in range(4)]
    assert float(torch.cat(tables).std()) == pytest.approx(1 / math.sqrt(3 * 5000), rel=0.15)


class Products(TorchDispatchMode):
    count = 0

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        self.count += "bmm" in str(function)
        return function(*args, **(kwargs or {}))


def test_all_tables_are_one_product_a_layer():
    configs = [TableConfig(n, 8, f"t{n}") for n in (300, 500, 700, 900)]
    tables = TableCollection.build(
        configs, "dhe:hidden=6:layers=3", generator=seeded(), min_rows=0, dtype=torch.float64
    )
    assert len(tables.groups) == 1
    bags = [(torch.arange(c), torch.tensor([0, c // 2])) for c in (40, 1, 2, 0)]
    for given in (torch.zeros(5, 4, dtype=torch.int64), bags):
        with Products() as products:
            tables(given)
        assert products.count == 4
    got = tables(bags)
    for t, (table, (ids, offsets)) in enumerate(zip(tables.tables, bags)):
        rows = torch.stack([naive_row(table, int(i)) for i in ids]) if len(ids) else torch.zeros(0, 8)
        want = torch.stack([rows[: int(offsets[1])].sum(0), rows[int(offsets[1]) :].sum(0)])
        torch.testing.assert_close(got[:, t], want.double())


@pytest.mark.parametrize("knobs", [{}, {"k": 16}, {"layers": 5}, {"k": 1024, "transform": "gaussian"}])
def test_the_budget_is_spent_on_the_width(knobs):
    smallest = DHE.serving_size(10_000, 16, hidden=4, **knobs)
    with pytest.raises(BudgetError) as refused:
        DHE.for_budget(10_000, 16, smallest - 1, **knobs)
    assert refused.value.smallest == smallest
    for size in (smallest, 20_000, 200_000, 2_000_000):
        hidden = DHE.for_budget(10_000, 16, size, **knobs)["hidden"]
        used = [DHE.serving_size(10_000, 16, hidden=width, **knobs) for width in (hidden, hidden + 1)]
        assert used[0] <= size < used[1]
        table = create("dhe", 10_000, 16, hidden=hidden, **knobs)
        assert sum(p.numel() for p in table.parameters()) * 4 + 64 == used[0]


def test_what_is_refused():
    for knobs, words in (
        ("hidden=3", "hidden=3, at least 4"),
        ("layers=0", "layers=0"),
        ("k=0", "k=0"),
        ("transform=normal", "transform='normal' is not one of uniform, gaussian"),
    ):
        with pytest.raises(InputError, match=words):
            create(f"dhe:{knobs}", 100, 8)
