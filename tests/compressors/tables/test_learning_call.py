"""Training steps answered in one autograd function: rows and gradients are those of the groups asked one by one."""

import copy
from unittest import mock

import pytest
import torch
from torch import Generator
from torch.func import functional_call

from embpress.compressors import TableCollection, TableConfig, create
from embpress.compressors.methods.full import Full, _FullGroup
from embpress.compressors.tables import collection
from embpress.kernels import ops
from embpress.kernels.errors import IdOutOfRange, NotDifferentiable

pytestmark = pytest.mark.skipif(ops.backend("recipe_lookup") != "native", reason="the native ops are not compiled here")

ROWS = (50, 300, 7, 1200, 5)
LEARN = (
    "full", "top", "narrow", "hash", "hash:parts=4", "hash:parts=2:op=add", "qr", "qr:op=concat",
    "qr:op=add:parts=3:c=3", "robe:z=4", "robe:sign=true", "unified", "mlet", "lowrank:k=4",
)  # fmt: skip
ASKED = ("tt:rank=4", "prune", "md", "dhe", "sketch", "cce", "hash:parts=2:sign=true", "hash+hot:rows=5", "hash+bf16")


def model(spec, sparse=False, **options):
    configs = [TableConfig(n, 8, f"t{i}") for i, n in enumerate(ROWS)]
    ratio = None if ":" in spec or spec.startswith("full") else 4
    generator = Generator().manual_seed(1)
    return TableCollection.build(configs, spec, ratio=ratio, min_rows=20, sparse=sparse, generator=generator, **options)


def drawn(samples=9, seed=0):
    g = Generator().manual_seed(seed)
    return torch.stack([torch.randint(0, n, (samples,), generator=g) for n in ROWS], 1)


def step(tables, ids, by_groups=False):
    """Rows, and the gradients of a weighted sum by name, dense."""
    with mock.patch.object(collection, "learning", (lambda: False) if by_groups else collection.learning):
        rows = tables(ids)
    tables.zero_grad()
    weight = torch.randn(rows.shape, generator=Generator().manual_seed(2))
    (rows * weight).sum().backward()
    grads = {n: None if p.grad is None else p.grad.to_dense().clone() for n, p in tables.named_parameters()}
    return rows.detach().clone(), grads


@pytest.mark.parametrize("sparse", [False, True])
@pytest.mark.parametrize("spec", LEARN + ASKED)
def test_rows_and_gradients_are_those_of_the_groups(spec, sparse):
    tables = model(spec, sparse=sparse)
    rows, grads = step(tables, drawn())
    kinds = {n: p.grad is not None and p.grad.is_sparse for n, p in tables.named_parameters()}
    want, expected = step(tables, drawn(), by_groups=True)
    torch.testing.assert_close(rows, want, rtol=1e-5, atol=1e-6)
    assert grads.keys() == expected.keys()
    assert any(each is not None for each in grads.values())
    for name, grad in grads.items():
        torch.testing.assert_close(grad, expected[name], rtol=1e-5, atol=1e-6, msg=name)
    assert kinds == {n: p.grad is not None and p.grad.is_sparse for n, p in tables.named_parameters()}


@pytest.mark.parametrize("spec", LEARN)
def test_what_learns_is_answered_in_one_function(spec):
    rows = model(spec)(drawn())
    assert "Learning" in type(rows.grad_fn).__name__


@pytest.mark.parametrize("spec", ["full", "hash", "mlet"])
def test_an_id_out_of_range_names_its_table(spec):
    ids = drawn()
    ids[3, 1] = 300
    with pytest.raises(IdOutOfRange, match="t1"):
        model(spec)(ids)


@pytest.mark.parametrize("spec", ["full", "hash", "robe:z=4", "mlet"])
def test_tensors_given_instead_of_parameters_learn(spec):
    """Also where the first call sees no parameter at all."""
    tables = model(spec)
    given = {n: p.detach().clone().mul_(0.5).requires_grad_() for n, p in tables.named_parameters()}
    rows = functional_call(tables, given, (drawn(),))
    rows.sum().backward()
    assert all(p.grad is None for p in tables.parameters())
    other = copy.deepcopy(tables)
    other.load_state_dict({**tables.state_dict(), **given})
    want = other(drawn())
    want.sum().backward()
    torch.testing.assert_close(rows, want)
    for name, p in other.named_parameters():
        torch.testing.assert_close(given[name].grad, p.grad)


def test_frozen_parameters_get_no_gradient():
    tables = model("hash")
    next(iter(tables.groups[0].parameters())).requires_grad_(False)
    tables(drawn()).sum().backward()
    assert [p.grad is None for group in tables.groups for p in group.parameters()] == [True, False]


def test_nothing_that_learns_leaves_rows_without_a_graph():
    tables = model("hash")
    for p in tables.parameters():
        p.requires_grad_(False)
    assert not tables(drawn()).requires_grad


def test_two_passes_before_their_backwards_add_up():
    tables = model("robe:z=4")
    first, second = tables(drawn(seed=1)), tables(drawn(seed=2))
    (first.sum() + second.sum()).backward()
    both = {n: p.grad.clone() for n, p in tables.named_parameters()}
    tables.zero_grad()
    tables(torch.cat([drawn(seed=1), drawn(seed=2)])).sum().backward()
    for name, p in tables.named_parameters():
        torch.testing.assert_close(both[name], p.grad, rtol=1e-5, atol=1e-6)


def test_full_rows_may_change_before_the_backward_and_products_may_not():
    """As nn.Embedding and a product of tensors."""
    tables = model("full")
    out = tables(drawn())
    with torch.no_grad():
        next(tables.parameters()).add_(1)
    out.sum().backward()
    tables = model("qr")
    out = tables(drawn())
    with torch.no_grad():
        for p in tables.parameters():
            p.add_(1)
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        out.sum().backward()


def test_second_derivatives_are_refused_or_right():
    tables = model("hash")
    of_hash, of_full = (next(group.parameters()) for group in tables.groups)
    hashed, full = torch.autograd.grad(tables(drawn()).pow(3).sum(), [of_hash, of_full], create_graph=True)
    (second,) = torch.autograd.grad(full.sum(), of_full, retain_graph=True)
    ids = drawn()[:, [2, 4]] + torch.tensor([0, ROWS[2]])
    want = torch.zeros(len(of_full)).index_add(0, ids.flatten(), torch.ones(ids.numel()))
    torch.testing.assert_close(second, want.unsqueeze(1) * 6 * of_full.detach())
    with pytest.raises(NotDifferentiable):
        hashed.sum().backward()


def test_a_subclass_that_answers_otherwise_is_asked(monkeypatch):
    class Doubled(_FullGroup):
        def rows(self, ids):
            return 2 * super().rows(ids)

    tables = model("full")
    want = 2 * tables(drawn())
    monkeypatch.setattr(Full, "group", Doubled)
    torch.testing.assert_close(model("full")(drawn()), want)


def test_padding_and_bags_learn_as_before():
    full = TableCollection([TableConfig(9, 4, "a")], [Full(9, 4, padding_idx=2)], 144)
    full(torch.tensor([[2], [3]])).sum().backward()
    grad = next(full.parameters()).grad
    assert grad[2].abs().sum() == 0
    assert grad[3].abs().sum() > 0
    tables = model("hash")
    inputs = [(torch.randint(0, n, (11,)), torch.tensor([0, 2, 2, 5])) for n in ROWS]
    assert tables(inputs).requires_grad


def test_optimizers_and_copies_go_on():
    tables = model("qr")
    optimizer = torch.optim.SGD(tables.parameters(), 0.1)
    tables(drawn()).sum().backward()
    optimizer.step()
    twin = copy.deepcopy(tables)
    assert torch.equal(twin(drawn()), tables(drawn()))
    with torch.no_grad():
        for p in twin.parameters():
            p.zero_()
    assert twin(drawn()).abs().sum() == 0
    assert tables(drawn()).abs().sum() > 0


def test_tables_that_pool_differently_learn():
    """Of single ids sums and means are the same."""
    tables = [create("full", 9, 4, mode=mode, generator=Generator().manual_seed(0)) for mode in ("sum", "mean")]
    both = TableCollection([TableConfig(9, 4, "a"), TableConfig(9, 4, "b")], tables, 288)
    rows = both(torch.tensor([[1, 2], [3, 1]]))
    rows.sum().backward()
    assert torch.equal(rows[0, 0], rows[1, 1])
    assert [float(p.grad.to_dense().sum()) for p in both.parameters()] == [8.0, 8.0]


def test_a_backward_hook_on_a_group_is_called():
    tables = model("full")
    seen = []
    tables.groups[0].register_full_backward_hook(lambda *_: seen.append(1))
    tables(drawn()).sum().backward()
    assert seen


def test_a_hook_on_a_group_is_called():
    tables = model("full")
    seen = []
    tables.groups[0].register_forward_hook(lambda *_: seen.append(1))
    tables(drawn())
    assert seen


def test_tables_in_float64_are_asked():
    rows = model("full", dtype=torch.float64)(drawn())
    assert rows.dtype == torch.float64
    assert "Learning" not in type(rows.grad_fn).__name__
