"""FBGEMM's tables in anybody's model: read where nothing is updated, trained right, or refused by name."""

import pytest
import torch
from torch import nn
from torch.func import functional_call
from torch.nn.utils import parametrize, prune

from embpress.compressors import InputError, create
from embpress.compressors.group import group_of
from embpress.compressors.methods.full_tbe import available

reason = available()
pytestmark = pytest.mark.skipif(reason is not None, reason=f"fbgemm_gpu does not import: {reason}")
N, D = 50, 8
IDS = torch.tensor([3, 3, 49, 0, 7, 7, 7])
OFFSETS = torch.tensor([0, 2, 2, 3])


def make(seed=0, optimizer="adagrad", **options):
    return create(f"full-tbe:optimizer={optimizer}", N, D, generator=torch.Generator().manual_seed(seed), **options)


def step(table, ids=IDS, offsets=OFFSETS):
    (table(ids, offsets) - 1).square().sum().backward()
    return table.to_dense()


# --- reads ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("mode", ["sum", "mean"])
@pytest.mark.parametrize("how", ["no_grad", "inference", "inference and gradients", "frozen"])
def test_where_no_update_is_wanted_rows_are_read_as_those_of_a_full_table(how, mode):
    table = make(mode=mode, padding_idx=7)
    plain = nn.EmbeddingBag.from_pretrained(table.to_dense(), mode=mode, padding_idx=7)
    if how == "frozen":
        out = table.requires_grad_(False)(IDS, OFFSETS)
    else:
        with torch.no_grad() if how == "no_grad" else torch.inference_mode(), torch.set_grad_enabled("and" in how):
            out = table(IDS, OFFSETS)
    assert not out.requires_grad
    assert torch.equal(out.clone(), plain(IDS, OFFSETS))
    assert "tbe" not in vars(table.kernel)  # so that nothing but torch's own ops was asked


def test_a_table_on_meta_gives_shapes():
    table = make(device="meta")
    assert table(IDS.to("meta"), OFFSETS.to("meta")).shape == (4, D)
    assert table.lookup(IDS.to("meta")).shape == (7, D)
    group = group_of([make(device="meta"), make(device="meta")])
    assert group(torch.zeros(3, 2, dtype=torch.int64, device="meta")).shape == (3, 2, D)


def test_weights_of_a_frozen_table_get_their_gradient():
    table = make().requires_grad_(False)
    before = table.to_dense()
    weights = torch.linspace(-1, 1, 7, requires_grad=True)
    (table(IDS, OFFSETS, weights) ** 2).sum().backward()
    bags = torch.zeros(4, D).index_add(0, torch.tensor([0, 0, 2, 3, 3, 3, 3]), before[IDS] * weights[:, None].detach())
    want = 2 * (before[IDS] * bags[torch.tensor([0, 0, 2, 3, 3, 3, 3])]).sum(1)
    torch.testing.assert_close(weights.grad, want)
    assert torch.equal(table.to_dense(), before)


def test_a_table_trains_after_it_was_frozen_as_if_it_never_had_been():
    table, twin = make(), make()
    for one in (table, twin):
        step(one)
    before = table.to_dense()
    table.requires_grad_(False)
    out = table(IDS, OFFSETS)
    assert not out.requires_grad
    assert torch.equal(table.to_dense(), before)
    assert torch.equal(step(table.requires_grad_(True)), step(twin))


# --- state ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("optimizer", ["sgd", "adagrad", "rowwise_adagrad"])
def test_only_the_rows_are_a_parameter(optimizer):
    """Somebody's norm over all parameters has a gradient there, and none of it is NaN."""
    table = make(optimizer=optimizer)
    assert [name for name, _ in table.named_parameters()] == ["kernel.weights"]
    assert ("kernel.state" in table.state_dict()) == (optimizer != "sgd")
    (step(table).sum() + sum(parameter.norm() for parameter in table.parameters())).backward()
    before = table.kernel.weights.detach().clone()
    want = before / before.norm()
    torch.testing.assert_close(table.kernel.weights.grad, want)
    torch.optim.SGD(table.parameters(), lr=0.1).step()
    torch.testing.assert_close(table.kernel.weights.detach(), before - 0.1 * want)


@pytest.mark.parametrize("assign", [False, True])
@pytest.mark.parametrize("grouped", [False, True])
@pytest.mark.parametrize("optimizer", ["sgd", "adagrad", "rowwise_adagrad"])
def test_a_loaded_table_trains_on_as_the_one_that_was_saved(optimizer, grouped, assign):
    def module(seed):
        return group_of([make(seed, optimizer), make(seed + 10, optimizer)]) if grouped else make(seed, optimizer)

    def train(one):
        ids = torch.tensor([[3, 41], [3, 5]])
        ((one(ids) if grouped else one.lookup(ids)) - 1).square().sum().backward()
        return torch.cat([table.to_dense() for table in (one.tables if grouped else [one])])

    source, target = module(1), module(2)
    for one in (source, target, source):
        train(one)
    target.load_state_dict({name: value.clone() for name, value in source.state_dict().items()}, assign=assign)
    for _ in range(2):
        assert torch.equal(train(target), train(source))


def test_reset_parameters_starts_the_optimizer_anew():
    table, fresh = make(0), make(5)
    for _ in range(3):
        step(table)
    table.reset_parameters(torch.Generator().manual_seed(5))
    assert torch.equal(step(table), step(fresh))


# --- other tensors ----------------------------------------------------------------------------------------------------


def test_tensors_given_to_a_call_get_the_gradient_and_the_table_stays():
    table, before = make(), make().to_dense()
    given = torch.randn(N * D).requires_grad_()
    out = functional_call(table, {"kernel.weights": given}, (IDS, OFFSETS))
    out.square().sum().backward()
    want = given.detach().view(N, D).clone().requires_grad_()
    nn.functional.embedding_bag(IDS, want, OFFSETS, mode="sum").square().sum().backward()
    torch.testing.assert_close(given.grad.view(N, D), want.grad)
    assert torch.equal(table.to_dense(), before)
    assert torch.equal(step(table), step(make()))


@pytest.mark.parametrize("hang", ["parametrization", "pruning"])
def test_training_through_what_stands_for_the_parameter_is_refused(hang):
    class Half(nn.Module):
        def forward(self, value):
            return value / 2

    table, before = make(), make().to_dense()
    if hang == "pruning":
        prune.custom_from_mask(table.kernel, "weights", torch.arange(N * D) < 5 * D)
        want = before * (torch.arange(N) < 5)[:, None]
    else:
        parametrize.register_parametrization(table.kernel, "weights", Half())
        want = before / 2
    assert torch.equal(table.to_dense(), want)
    with pytest.raises(InputError, match="parametrization, pruning"):
        table(IDS, OFFSETS)
    assert torch.equal(table.to_dense(), want)
    if hang == "pruning":
        prune.remove(table.kernel, "weights")
    else:
        parametrize.remove_parametrizations(table.kernel, "weights")
    assert not torch.equal(step(table), want)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_another_dtype_is_read_and_not_trained(dtype):
    table, before = make().to(dtype), make().to_dense()
    assert torch.equal(table.to_dense(), before.to(dtype))
    with pytest.raises(InputError, match=str(dtype)):
        table(IDS, OFFSETS)
    with pytest.raises(InputError, match=str(dtype)):
        table.lookup(IDS)


def test_tensors_of_another_size_are_refused_before_anything_is_read():
    table = make()
    table.kernel.weights.data = torch.zeros(N * D - 1)
    with pytest.raises(InputError, match=str(N * D)):
        table(IDS, OFFSETS)
    table = make()
    table.kernel.state = torch.zeros(1)
    with pytest.raises(InputError, match="state"):
        table(IDS, OFFSETS)


@pytest.mark.parametrize("training", [False, True])
def test_weights_of_another_dtype_are_refused(training):
    table = make()
    group = group_of([make(1), make(2)])
    with torch.set_grad_enabled(training):
        for dtype in (torch.float64, torch.float16):
            with pytest.raises(TypeError, match=f"float32.*{dtype}"):
                table(IDS, OFFSETS, torch.ones(7, dtype=dtype))
            with pytest.raises(TypeError, match=f"float32.*{dtype}"):
                table(IDS[:, None], None, torch.ones(7, 1, dtype=dtype))
            with pytest.raises(TypeError, match=f"float32.*{dtype}"):
                group(IDS, torch.tensor([0, 2, 7]), torch.ones(7, dtype=dtype))


# --- processes and graphs ---------------------------------------------------------------------------------------------


def test_training_in_several_processes_is_refused_and_reading_is_not(monkeypatch):
    table = make()
    rows = table.to_dense()
    monkeypatch.setattr(torch.distributed, "is_initialized", lambda: True)
    monkeypatch.setattr(torch.distributed, "get_world_size", lambda: 2)
    with pytest.raises(InputError, match="several processes"):
        table(IDS, OFFSETS)
    assert torch.equal(table.to_dense(), rows)
    assert torch.equal(table.requires_grad_(False).lookup(IDS), rows[IDS])


def test_one_process_of_a_group_of_one_trains(monkeypatch):
    monkeypatch.setattr(torch.distributed, "is_initialized", lambda: True)
    monkeypatch.setattr(torch.distributed, "get_world_size", lambda: 1)
    found = step(make())
    monkeypatch.undo()
    assert torch.equal(found, step(make()))


def test_a_graph_breaks_where_it_trains_and_none_does_where_it_reads():
    table, twin, ids = make(), make(), IDS[:, None]
    torch._dynamo.reset()
    whole = torch.compile(table, fullgraph=True, backend="eager")
    with pytest.raises(torch._dynamo.exc.Unsupported, match="a TBE updates its table in the backward"):
        whole(ids)
    with torch.no_grad():
        assert torch.equal(whole(ids), table(ids))
    parts = torch.compile(table, backend="eager")
    for _ in range(3):
        (parts(ids) - 1).square().sum().backward()
        (twin(ids) - 1).square().sum().backward()
        assert torch.equal(table.to_dense(), twin.to_dense())
