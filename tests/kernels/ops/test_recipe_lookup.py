"""Bags of any tables by recipe: the CPU's op against plain PyTorch, and plain PyTorch against the methods' own ops."""

import os
import subprocess
import sys

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Generator

from embpress.kernels import load, ops, recipes, reference
from embpress.kernels.errors import ArgumentError, DtypeError, IdOutOfRange, OffsetsError
from embpress.kernels.recipes import Chunks, Core, Cores, Form, HotRows, Part, Parts, Rule, Store, Table

PRIME = 2038074743
pytestmark = pytest.mark.skipif(hasattr(torch.ops.embpress, "emulates_cuda"), reason="about the CPU's own kernels")
native = pytest.mark.skipif(ops.backend("recipe_lookup") != "native", reason="the native ops are not compiled here")


class Drawn:
    """Random arrays, and tables that are made of them."""

    def __init__(self, seed):
        self.g, self.arrays = Generator().manual_seed(seed), []

    def below(self, high, low=0):
        return int(torch.randint(low, high, (), generator=self.g))

    def array(self, value):
        self.arrays.append(value)
        return len(self.arrays) - 1

    def store(self, rows, width, form, bits):
        """A store of at least so many rows of a width, flat where it is 0."""
        if not form.codes:
            dtype = torch.float32 if form == Form.FLOAT32 else torch.bfloat16
            shape = (rows, width) if width else (rows,)
            return Store(form, self.array(torch.randn(shape, generator=self.g).to(dtype)), bits=8 * dtype.itemsize)
        begin, first = self.below(5), self.below(4)
        if form == Form.BLOCKS:
            size, ranges = -(-rows // 64) * 8 * bits, (first + -(-rows // 64), 2)
        elif form == Form.ROWS:
            size, ranges = -(-rows * width * bits // 8), (first + rows, 2)
        else:
            size, ranges = -(-rows * width * bits // 8), (first + 1, 2, width)
        held = self.array(torch.randint(0, 256, (begin + size,), generator=self.g, dtype=torch.uint8))
        kept = (torch.randn(ranges, generator=self.g) / 2**bits).bfloat16()
        return Store(form, held, self.array(kept), bits, first, begin)

    def among(self, rows, count):
        """Some ids in ascending order."""
        return torch.randperm(rows, generator=self.g)[:count].sort().values

    def part(self, rows, width, rule, form, bits):
        size, first = self.below(9, 2), self.below(3)
        store = self.store(first + size + self.below(2), width, form, bits)
        numbers = ()
        if rule == Rule.DIGIT:
            numbers = (self.below(rows + 2, 1),)
        elif rule == Rule.HASH:
            numbers = tuple(torch.randint(0, PRIME, (4,), generator=self.g).tolist())
        elif rule == Rule.AMONG:
            numbers = (self.array(self.among(rows, min(rows, size - 1))),)
        return Part(store, rule, size, first, numbers)

    def cores(self, rows, dim, form, bits):
        """Two to four cores, or an inner table and what it is multiplied by."""
        columns, left = [], dim
        for _ in range(self.below(4, 1)):
            columns.append(next(q for q in (3, 2, 1) if left % q == 0))
            left //= columns[-1]
        columns.append(left)
        ranks = [1, *(self.below(7, 1) for _ in columns[1:]), 1]
        digits = [max(2, -(-rows // 3))] + [3] + [2] * (len(columns) - 2)
        made = []
        for k, (p, q) in enumerate(zip(digits, columns)):
            each = ranks[k] if k and self.below(2) else 1
            width = ranks[k] * q * ranks[k + 1] // each
            first = self.below(3)
            made.append(Core(self.store(first + each * p, width, form, bits), first, each, p, q, ranks[k + 1]))
        return Cores(tuple(made))

    def table(self, column, kind, combine, parts, dim, rule, form, bits, hot):
        rows = self.below(60, 2)
        flat = {Form.COLUMNS: Form.BLOCKS, Form.ROWS: Form.BLOCKS}.get(form, form)
        rowwise = Form.ROWS if form == Form.BLOCKS else form
        if kind == "chunks":
            z, size = self.below(dim + 1, 1), self.below(300) + dim
            numbers = tuple(torch.randint(0, PRIME, (3,), generator=self.g).tolist())
            made = Chunks(self.store(size, 0, flat, bits), z, size, self.below(1000), numbers)
        elif kind == "cores":
            made = self.cores(rows, dim, Form.ROWS if rowwise == Form.COLUMNS else rowwise, bits)
        else:
            if combine == 0 and dim % parts:
                parts = 1
            width = dim // parts if combine == 0 else dim
            made = Parts(tuple(self.part(rows, width, rule, rowwise, bits) for _ in range(parts)), combine)
        hot_rows = None
        if hot:
            count = self.below(rows)
            store = self.store(count + 3, dim, rowwise, bits)
            hot_rows = HotRows(store, count, self.below(3))
            if hot == 2:
                base, begin = self.below(9), self.below(4)
                known = torch.cat([torch.zeros(begin, dtype=torch.int64), self.among(rows, count) + base])
                hot_rows = HotRows(store, count, hot_rows.first, self.array(known), begin, base)
        return Table(column, rows, self.below(rows) if self.below(3) == 0 else -1, made, hot_rows)


kinds = st.fixed_dictionaries(
    {
        "kind": st.sampled_from(["parts", "parts", "chunks", "cores"]),
        "combine": st.integers(0, 2),
        "parts": st.integers(1, 4),
        "rule": st.sampled_from(Rule),
        "form": st.sampled_from(Form),
        "bits": st.sampled_from([1, 2, 4, 8]),
        "hot": st.integers(0, 2),
    }
)
calls = {
    "seed": st.integers(0, 9999),
    "samples": st.sampled_from([0, 1, 9, 300]),
    "dim": st.integers(1, 40),
    "tables": st.lists(kinds, min_size=1, max_size=4),
    "weighted": st.booleans(),
    "narrow": st.booleans(),
}


def agree(drawn, tables, dim, ids, offsets=None, weights=None, mean=False):
    recipe = torch.tensor(recipes.encoded(tables))
    assert recipes.decoded_tables(recipe.tolist(), len(tables)) == tables
    known = {"arrays": drawn.arrays, "recipe": recipe, "tables": len(tables), "dim": dim, "mean": mean}
    want = reference.recipe_lookup(ids, offsets, weights, *known.values())
    size = max(1.0, float(want.abs().max())) if want.numel() else 1.0  # products of ranks and codes can be large
    got = ops.recipe_lookup(ids, offsets, weights, **known)
    torch.testing.assert_close(got, want, rtol=2e-5, atol=2e-5 * size)


@native
@settings(max_examples=150, deadline=None)
@given(**calls)
def test_single_ids(seed, samples, dim, tables, weighted, narrow):
    drawn = Drawn(seed)
    columns = torch.randperm(len(tables) + 1, generator=drawn.g).tolist()
    made = [drawn.table(column, dim=dim, **table) for column, table in zip(columns, tables)]
    ids = torch.zeros(samples, len(tables) + 1, dtype=torch.int64)
    for table in made:
        ids[:, table.column] = torch.randint(0, table.rows, (samples,), generator=drawn.g)
    weights = torch.randn(ids.shape, generator=drawn.g) if weighted else None
    agree(drawn, made, dim, ids.int() if narrow else ids, weights=weights)


@native
@settings(max_examples=150, deadline=None)
@given(**calls, longest=st.sampled_from([0, 1, 5, 400]), mean=st.booleans())
def test_bags(seed, samples, dim, tables, weighted, narrow, longest, mean):
    drawn = Drawn(seed)
    samples = min(samples, 30)
    made = [drawn.table(0, dim=dim, **table) for table in tables]
    lengths = torch.randint(0, longest + 1, (len(made), samples), generator=drawn.g)
    ids = [torch.randint(0, t.rows, (int(own.sum()),), generator=drawn.g) for t, own in zip(made, lengths)]
    ids, offsets = torch.cat(ids), torch.nn.functional.pad(lengths.flatten().cumsum(0), (1, 0))
    weights = torch.randn(ids.shape, generator=drawn.g) / 20 if weighted and not mean else None
    for array in drawn.arrays:
        if array.is_floating_point():
            array /= 20  # sums of 400 rows stay near one
    agree(drawn, made, dim, ids.int() if narrow else ids, offsets, weights, mean)


def test_a_row_of_each_kind():
    table = torch.arange(12.0).view(6, 2)
    take = Store(Form.FLOAT32, 0)
    cases = {
        "whole": (Parts((Part(take, Rule.DIGIT, 6, 0, (1,)),)), [6.0, 7.0]),
        "remainder": (Parts((Part(take, Rule.DIGIT, 2, 1, (1,)),)), [4.0, 5.0]),
        "quotient": (Parts((Part(take, Rule.DIGIT, 3, 0, (2,)),)), [2.0, 3.0]),
        "first or last": (Parts((Part(take, Rule.FIRST, 3, 0),)), [4.0, 5.0]),
        "sum": (Parts((Part(take, Rule.DIGIT, 2, 0, (1,)), Part(take, Rule.DIGIT, 3, 0, (2,))), 1), [4.0, 6.0]),
        "product": (Parts((Part(take, Rule.DIGIT, 2, 0, (1,)), Part(take, Rule.DIGIT, 3, 0, (2,))), 2), [4.0, 9.0]),
    }
    for made, want in cases.values():
        recipe = torch.tensor(recipes.encoded([Table(0, 6, -1, made)]))
        known = {"arrays": [table], "recipe": recipe, "tables": 1, "dim": 2}
        assert ops.recipe_lookup(torch.tensor([[3]]), **known).flatten().tolist() == want


def small(**others):
    numbers = recipes.encoded([Table(0, 6, -1, Parts((Part(Store(Form.FLOAT32, 0), Rule.DIGIT, 6, 0, (1,)),)))])
    known = {"arrays": [torch.zeros(6, 4)], "recipe": torch.tensor(numbers), "tables": 1, "dim": 4}
    return {**known, **others}


@pytest.mark.parametrize("id", [-1, 6])
def test_ids_out_of_range_are_refused(id):
    with pytest.raises(IdOutOfRange) as raised:
        ops.recipe_lookup(torch.tensor([[0], [id]]), **small())
    assert (raised.value.id, raised.value.table, raised.value.rows) == (id, 0, 6)
    with pytest.raises(IdOutOfRange):
        ops.recipe_lookup(torch.tensor([0, id]), torch.tensor([0, 2]), **small())


@pytest.mark.parametrize("offsets", [[1, 2], [0, 1], [0, 3], [0, 2, 1, 2]])
def test_offsets_that_do_not_fit_are_refused(offsets):
    with pytest.raises(OffsetsError):
        ops.recipe_lookup(torch.tensor([0, 1]), torch.tensor(offsets), **small())


@pytest.mark.parametrize("place", range(14))
@pytest.mark.parametrize("value", [-1, 7, 2**40])
def test_recipes_that_do_not_fit_read_nothing_else(place, value):
    numbers = small()["recipe"].clone()
    if numbers[place] == value:
        pytest.skip("it says so")
    numbers[place] = value
    try:
        ops.recipe_lookup(torch.tensor([[3]]), **small(recipe=numbers))
    except (ArgumentError, DtypeError, IdOutOfRange):
        return
    reference.check_recipe_lookup(torch.tensor([[3]]), None, None, *small(recipe=numbers).values(), False)


@pytest.mark.parametrize("dim", [2**24 + 1, 2**40, 2**62])
def test_widths_whose_products_overflow_are_refused(dim):
    with pytest.raises(ArgumentError):
        ops.recipe_lookup(torch.tensor([[3]]), **small(arrays=[torch.zeros(16)], dim=dim))


def test_a_base_that_no_id_can_be_added_to_is_refused():
    store, ids = Store(Form.FLOAT32, 0), torch.arange(2)
    made = Parts((Part(store, Rule.DIGIT, 6, 0, (1,)),))
    for base in (-1, 2**63 - 1):
        numbers = torch.tensor(recipes.encoded([Table(0, 6, -1, made, HotRows(store, 2, 0, 1, 0, base))]))
        with pytest.raises(ArgumentError):
            ops.recipe_lookup(torch.tensor([[3]]), **small(recipe=numbers, arrays=[torch.zeros(6, 4), ids]))


def test_means_leave_out_padding_that_is_wider_than_the_ids():
    made = Parts((Part(Store(Form.FLOAT32, 0), Rule.DIGIT, 6, 0, (1,)),))
    numbers = torch.tensor(recipes.encoded([Table(0, 2**40, 2**32 + 1, made)]))
    known = small(recipe=numbers, arrays=[torch.ones(6, 4)])
    ids = torch.tensor([1, 1, 1], dtype=torch.int32)
    got = ops.recipe_lookup(ids, torch.tensor([0, 3]), mean=True, **known)
    assert torch.equal(got, torch.ones(1, 1, 4))


def test_arguments_that_do_not_fit_are_refused():
    ids = torch.tensor([[3]])
    for error, changed in [
        (ArgumentError, {"recipe": small()["recipe"][:-1]}),
        (ArgumentError, {"recipe": torch.cat([small()["recipe"], torch.zeros(1, dtype=torch.int64)])}),
        (ArgumentError, {"arrays": []}),
        (ArgumentError, {"arrays": [torch.zeros(4, 6).t()]}),
        (ArgumentError, {"arrays": [torch.zeros(5, 4)]}),
        (ArgumentError, {"dim": 5}),
        (DtypeError, {"arrays": [torch.zeros(6, 4, dtype=torch.float64)]}),
        (DtypeError, {"recipe": small()["recipe"].int()}),
    ]:
        with pytest.raises(error):
            ops.recipe_lookup(ids, **small(**changed))
    with pytest.raises(ArgumentError):
        ops.recipe_lookup(ids, weights=torch.ones(1, 1), mean=True, **small())
    with pytest.raises(DtypeError):
        ops.recipe_lookup(ids.float(), **small())


@pytest.mark.cpu_only
@native
@pytest.mark.parametrize("isa", load.ISAS)
def test_every_instruction_set_passes(isa):
    """The choice is made once a process, so each gets its own."""
    if load.ENVIRONMENT in os.environ:
        pytest.skip(f"{load.ENVIRONMENT} is set: this run is about that build alone")
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", __file__, "-k", "not instruction_set"],
        env={**os.environ, "EMBPRESS_ISA": isa, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=600,
    )
    assert done.returncode == 0, done.stdout[-3000:]
