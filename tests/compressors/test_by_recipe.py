"""Tables that serve by recipe: the answers are those of their groups, and follow whatever changes."""

import copy
import gc
import io
import weakref
from unittest import mock

import pytest
import torch
from torch import Generator, nn
from torch.func import functional_call

from embpress.compressors import TableCollection, TableConfig, create
from embpress.compressors import group as groups
from embpress.compressors.methods.full import Full, _FullGroup
from embpress.compressors.methods.robe import Robe
from embpress.compressors.tables import collection
from embpress.kernels import ops

pytestmark = pytest.mark.skipif(ops.backend("recipe_lookup") != "native", reason="the native ops are not compiled here")

ROWS = (50, 300, 7, 1200)
# served in one call: whatever makes its rows from parts, chunks, cores, with hot rows, in floats and in codes
SAID = (
    "full", "narrow", "top", "hash", "hash:parts=4", "hash:parts=2:op=add", "qr", "qr:op=concat",
    "qr:op=add:parts=3:c=3", "robe:z=4", "robe:z=5", "unified", "tt:rank=4", "tt:rank=3:num_cores=4", "mlet",
    "full+bf16", "robe:z=4+bf16", "full+int8", "full+int4", "full+int2", "narrow+int4", "top+int4", "qr+int4",
    "hash+int8:by=row", "robe:z=4+int4", "robe:z=3+int8", "unified+int4", "tt:rank=4+int4", "tt:rank=5+int8",
    "lowrank:k=3+int4", "md+int4", "md+int8", "hash+hot:rows=5", "robe:z=4+hot:rows=5",
    "qr+hot:rows=5+int4", "tt:rank=4+hot:rows=3",
    "top:rows=6+int2:train=true+hot:rows=5+int4", "full+int2+hot:rows=5+int8",
)  # fmt: skip
# asked as they always are
UNSAID = (
    "lowrank:k=4",
    "hash:parts=2:sign=true",
    "robe:sign=true",
    "md",
    "md:blocks=2+int4",
    "dhe",
    "sketch",
    "full+pq",
    "full+int8:by=row",
)


def model(spec, dim=8):
    configs = [TableConfig(n, dim, f"t{i}") for i, n in enumerate(ROWS)]
    ratio = None if ":" in spec or spec.startswith("full") else 4
    twice = spec.count("int") > 1  # what stays full has no rows that are left for the second
    min_rows = 0 if twice else 20
    return TableCollection.build(configs, spec, ratio=ratio, min_rows=min_rows, generator=Generator().manual_seed(1))


def drawn(samples=9):
    return torch.stack([torch.randint(0, n, (samples,), generator=Generator().manual_seed(n)) for n in ROWS], 1)


def bags():
    g = Generator().manual_seed(3)
    made = []
    for n in ROWS:
        offsets = torch.tensor([0, 2, 2, 5])
        made.append((torch.randint(0, n, (11,), generator=g), offsets, torch.randn(11, generator=g)))
    return made


def by_groups(tables, inputs):
    """What the groups answer, none of them by recipe."""
    never = {"serving": mock.Mock(return_value=False)}
    with torch.no_grad(), mock.patch.multiple(groups, **never), mock.patch.multiple(collection, **never):
        return tables(inputs)


@pytest.mark.parametrize("spec", SAID)
def test_one_call_answers_as_the_groups_do(spec):
    tables = model(spec).fold()
    with torch.no_grad(), mock.patch.object(ops, "recipe_lookup", wraps=ops.recipe_lookup) as called:
        rows, pooled = tables(drawn()), tables(bags())
    assert called.call_count == 2
    torch.testing.assert_close(rows, by_groups(tables, drawn()), rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(pooled, by_groups(tables, bags()), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("spec", UNSAID)
def test_what_says_no_recipe_is_asked_beside(spec):
    tables = model(spec).fold()
    with torch.no_grad():
        rows, pooled = tables(drawn()), tables(bags())
    torch.testing.assert_close(rows, by_groups(tables, drawn()), rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(pooled, by_groups(tables, bags()), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("spec", ["hash", "qr", "robe:z=4", "unified", "hash+hot:rows=5"])
def test_loaded_constants_are_looked_up_by(spec):
    """Hashes travel with the state dict: the next answer is that of the table that was saved."""
    saved = model(spec).fold()
    other = model(spec)
    for table in other.tables:
        for name in table.constants:
            table.constants[name].copy_(table.constants[name].flip(0)) if name == "coefficients" else None
    other = other.fold()
    with torch.no_grad():
        other(drawn())
        other.load_state_dict(saved.state_dict())
        assert torch.equal(other(drawn()), saved(drawn()))


@pytest.mark.parametrize("spec", ["full", "hash", "robe:z=4", "full+int4", "tt:rank=4"])
def test_parameters_in_place_of_others_are_read(spec):
    one, other = model(spec).fold(), model(spec).fold()
    with torch.no_grad():
        one(drawn())
        state = {k: v * 2 if v.is_floating_point() else v for k, v in other.state_dict().items()}
        other.load_state_dict(state)
        want = other(drawn())
        assert torch.equal(functional_call(one, state, (drawn(),)), want)
        assert not torch.equal(one(drawn()), want)
        one.load_state_dict(state, assign=True)
        assert torch.equal(one(drawn()), want)


def test_tables_are_copied_and_saved_without_what_serves_them():
    tables = model("hash").fold()
    with torch.no_grad():
        want = tables(drawn())
        other = copy.deepcopy(tables)
        for parameter in tables.parameters():
            parameter.zero_()
        assert torch.equal(other(drawn()), want)
        file = io.BytesIO()
        torch.save(other, file)
        file.seek(0)
        assert torch.equal(torch.load(file, weights_only=False)(drawn()), want)


def test_a_subclass_that_answers_in_its_own_way_is_asked():
    class Doubled(_FullGroup):
        def rows(self, ids):
            return 2 * super().rows(ids)

    class Table(Full):
        group = Doubled

    table, plain = Table(9, 4, generator=Generator().manual_seed(0)), Full(9, 4, generator=Generator().manual_seed(0))
    ids = torch.arange(9)
    with torch.no_grad():
        assert torch.equal(table.lookup(ids), 2 * plain.lookup(ids))


def test_a_subclass_of_a_table_that_answers_in_its_own_way_is_asked():
    class Table(Robe):
        def rows_of(self, ids, row_offsets, rows):
            return 1 + super().rows_of(ids, row_offsets, rows)

    table = Table(50, 8)
    ids = torch.arange(9)
    with torch.no_grad():
        served = table.lookup(ids)
    assert torch.equal(served, table.lookup(ids).detach())


@pytest.mark.parametrize("spec", ["full", "hash", "robe:z=4"])
def test_another_dtype_after_the_first_call_is_followed(spec):
    for dtype in (torch.float64, torch.bfloat16):
        tables = model(spec)
        with torch.no_grad():
            want = tables(drawn())
            tables.to(dtype)
            torch.testing.assert_close(tables(drawn()), want.to(dtype))
            tables.load_state_dict(tables.state_dict())
            torch.testing.assert_close(tables(drawn()), want.to(dtype))
            assert tables.float()(drawn()).dtype == torch.float32


@pytest.mark.parametrize("spec", ["full", "hash", "qr", "robe:z=4", "unified"])
def test_tables_of_inference_mode_serve(spec):
    with torch.inference_mode():
        tables = model(spec)
        torch.testing.assert_close(tables(drawn()), by_groups(tables, drawn()))


def test_what_recipes_have_limits_for_is_answered_without():
    table = create("hash:k=50", 3 * 10**9, 8).fold()
    ids = torch.tensor([0, 5, 9])
    with torch.no_grad():
        assert table.lookup(ids).shape == (3, 8)


def test_a_table_that_has_served_is_freed_at_once():
    table = create("full", 100, 8)
    with torch.no_grad():
        table(torch.tensor([[1]]))
    alive = weakref.ref(table.weight)
    gc.disable()
    try:
        del table
        assert alive() is None
    finally:
        gc.enable()


def test_hooks_of_a_group_are_called():
    tables, called = model("full").fold(), []
    tables.groups[0].register_forward_hook(lambda *_: called.append(1))
    with torch.no_grad():
        tables(drawn())
    assert called == [1]


def test_padding_and_ids_out_of_range_are_as_in_training():
    table = create("hash", 20, 4, padding_idx=3, generator=Generator().manual_seed(0))
    ids, offsets = torch.tensor([3, 1, 3, 3, 2]), torch.tensor([0, 3, 4])
    want = table(ids, offsets)
    with torch.no_grad():
        assert torch.allclose(table(ids, offsets), want)
        assert torch.equal(table.lookup(torch.tensor([3])), table.lookup(torch.tensor([3])))
        assert bool((table(torch.tensor([[3]])) == 0).all())
    tables = model("hash").fold()
    for column, n in enumerate(ROWS):
        ids = drawn()
        ids[4, column] = n
        with pytest.raises(IndexError, match=f"t{column}"), torch.no_grad():
            tables(ids)


@pytest.mark.parametrize("trained", [False, True])
@pytest.mark.parametrize("spec", ["full", "hash", "qr", "robe", "mlet", "tt", "top", "full+int4"])
def test_an_id_out_of_range_is_named_whichever_thread_meets_it(spec, trained):
    """No error leaves a thread of its own."""
    tables = TableCollection.build([TableConfig(1000, 32, f"t{i}") for i in range(3)], spec, ratio=None)
    tables = tables if trained else tables.fold()
    ids = torch.randint(0, 1000, (6000, 3), generator=Generator().manual_seed(0))
    ids[5990, 1] = 1000
    bounds, before = torch.arange(0, 6000, 2), torch.get_num_threads()
    torch.set_num_threads(3)
    try:
        for inputs in (ids, [(column.contiguous(), bounds) for column in ids.unbind(1)]):
            with torch.set_grad_enabled(trained), pytest.raises(IndexError, match="t1 has 1000 rows"):
                tables(inputs)
    finally:
        torch.set_num_threads(before)


def test_hooks_of_torch_see_single_ops():
    """A mode that looks at every op sees those that are traced, not a call of many tables."""
    from torch.utils._python_dispatch import TorchDispatchMode

    seen = []

    class Mode(TorchDispatchMode):
        def __torch_dispatch__(self, func, types, args=(), kwargs=None):
            seen.append(func.name())
            return func(*args, **(kwargs or {}))

    tables = model("hash").fold()
    with torch.no_grad(), Mode():
        tables(drawn())
    assert "embpress::recipe_lookup" not in seen
    assert any(name.startswith("embpress::compositional_lookup") for name in seen)


def test_parametrized_tables_are_asked():
    class Half(nn.Module):
        def forward(self, value):
            return value / 2

    tables = model("full")
    with torch.no_grad():
        want = tables(drawn()) / 2
        nn.utils.parametrize.register_parametrization(tables.groups[0], "weight", Half())
        assert torch.equal(tables(drawn()), want)
