"""`+bf16`: trained as the method is, served in half the bytes, near what was trained."""

import pytest
import torch
from torch import nn

from embpress.compressors import (
    InputError,
    Plan,
    TableCollection,
    TableConfig,
    TablePlan,
    compress_model,
    create,
    parse,
    plan,
)
from embpress.compressors.ledger import held_bytes

CONFIGS = [TableConfig(5000, 16, "a"), TableConfig(300, 16, "b"), TableConfig(20, 16, "small")]


def seeded():
    return torch.Generator().manual_seed(0)


@pytest.mark.parametrize("method", ["full", "hash", "qr", "robe:sign=true", "mlet", "tt:rank=8"])
def test_training_is_the_methods_own_and_serving_is_rounded(method):
    plain = TableCollection.build(CONFIGS, method, generator=seeded())
    tables = TableCollection.build(CONFIGS, f"{method}+bf16", generator=seeded())
    ids = torch.stack([torch.arange(20) * 7 % n for n, _, _ in CONFIGS], 1)
    assert torch.equal(tables(ids), plain(ids))
    tables(ids).square().sum().backward()
    plain(ids).square().sum().backward()
    mine = {id(p): p for p in tables.parameters()}.values()
    for a, b in zip(mine, plain.parameters()):
        assert torch.equal(a.grad.to_dense(), b.grad.to_dense())
    served = tables.fold()(ids)
    assert served.dtype == torch.float32
    assert not torch.equal(served, plain(ids))
    torch.testing.assert_close(served, plain(ids), atol=0.01 * float(plain(ids).abs().max()), rtol=0)


def test_the_bytes_are_half_but_for_what_are_no_floats():
    plain, half = create("hash:k=100", 1000, 16), create("hash:k=100+bf16", 1000, 16)
    constants = 8 * (4 + 1 + 1)
    assert plain.ledger().serving_bytes == 4 * 100 * 16 + constants
    assert half.ledger().serving_bytes == 2 * 100 * 16 + constants
    assert half.ledger("adagrad").training_bytes == plain.ledger("adagrad").training_bytes


@pytest.mark.parametrize("method", ["tt", "robe", "hash", "qr"])
def test_a_ratio_counts_what_is_served(method):
    """At one ratio the modified method trains about twice the parameters, and serves within the budget."""
    size = sum(4 * n * dim for n, dim, _ in CONFIGS) // 8
    bytes_ = {}
    for spec in (method, f"{method}+bf16"):
        tables = TableCollection.build(CONFIGS, spec, ratio=8, device="meta")
        assert tables.serving_bytes <= size
        bytes_[spec] = sum(p.numel() for p in {id(p): p for p in tables.parameters()}.values())
    assert 1.5 < bytes_[f"{method}+bf16"] / bytes_[method] < 2.2


def test_a_method_that_saves_by_width_trains_at_the_width_that_is_left():
    assert plan(parse("mlet"), CONFIGS, ratio=8).width == 2
    made = plan(parse("mlet+bf16"), CONFIGS, ratio=8)
    assert made.width == 4  # two bytes an element, those of the small table too
    assert sum(table.bytes for table in made.tables) == 2 * 4 * 5320
    assert plan(parse("mlet+bf16"), [TableConfig(5000, 16)], ratio=8).width == 4


def test_shared_memory_is_rounded_once():
    tables = TableCollection.build(CONFIGS[:2], "robe:size=1000+bf16", generator=seeded())
    folded = tables.fold()
    assert folded.serving_bytes == tables.serving_bytes == 2 * 1000 + 8 * 3


@pytest.mark.parametrize("optimizer", ["sgd", "adagrad", "rowwise_adagrad", "adam"])
@pytest.mark.parametrize("method", ["full", "hash", "robe:size=1000", "mlet", "tt:rank=4"])
def test_training_costs_what_the_method_costs(method, optimizer):
    plain = TableCollection.build(CONFIGS, method, device="meta").ledger(optimizer, 64)
    half = TableCollection.build(CONFIGS, f"{method}+bf16", device="meta").ledger(optimizer, 64)
    assert half.training_bytes == plain.training_bytes
    assert half.serving_bytes < plain.serving_bytes


def test_modules_that_share_a_modified_table_pool_as_each_says():
    model = nn.ModuleDict({name: nn.EmbeddingBag(3000, 8, mode=name) for name in ("sum", "mean")})
    model["mean"].weight = model["sum"].weight
    compress_model(model, "robe:size=4000+bf16", generator=seeded())
    ids, offsets = torch.tensor([1, 2, 3, 4]), torch.tensor([0, 3])
    lengths = torch.tensor([[3.0], [1.0]])
    torch.testing.assert_close(model["mean"](ids, offsets) * lengths, model["sum"](ids, offsets))


def test_groups_that_fold_to_one_kind_fold_together():
    tables = [TablePlan(c, 16, parse(m), 1) for c, m in zip(CONFIGS, ("mlet+bf16", "full+bf16", "mlet:k=128+bf16"))]
    collection = TableCollection.build(CONFIGS, Plan(tuple(tables)), generator=seeded()).eval()
    ids = torch.stack([torch.arange(20) * 7 % n for n, _, _ in CONFIGS], 1)
    folded = collection.fold()
    torch.testing.assert_close(folded(ids), collection(ids).detach(), atol=0.02, rtol=0.02)
    assert folded.serving_bytes == collection.serving_bytes == held_bytes(folded)


def test_the_same_modifier_twice_is_refused():
    with pytest.raises(InputError, match="twice"):
        parse("robe+bf16+bf16")
