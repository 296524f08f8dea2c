"""`compress_model` on other people's models, and optimizer groups."""

import copy

import pytest
import torch
from torch import nn

from embpress.compressors import (
    BudgetError,
    Compressor,
    InputError,
    TableConfig,
    compress_model,
    create,
    optimizer_groups,
)
from embpress.compressors.ledger import held_bytes
from embpress.compressors.tables.collection import TableCollection

COLUMNS = ["module", "num_embeddings", "embedding_dim", "method", "bytes_before", "bytes_after", "ratio", "note"]
IDS = torch.tensor([0, 5, 5, 499, 7])
OFFSETS = torch.tensor([0, 2, 2, 4])


class Recommender(nn.Module):
    """Two fields and a few features."""

    def __init__(self):
        super().__init__()
        self.user = nn.Embedding(3000, 8)
        self.items = nn.EmbeddingBag(5000, 8, mode="mean")
        self.day = nn.Embedding(7, 8)
        self.top = nn.Linear(24, 1)

    def forward(self, user, items, day):
        return self.top(torch.cat([self.user(user), self.items(items), self.day(day)], dim=1)).squeeze(1)


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def snapshot(model):
    return {name: id(module) for name, module in model.named_modules(remove_duplicate=False)}


def test_embedding_keeps_its_interface():
    model = nn.Sequential(nn.Embedding(500, 8, padding_idx=5))
    compress_model(model, "tt:rank=4", generator=seeded())
    ids = torch.tensor([[0, 5], [499, 7]])
    out = model(ids)
    table = next(m for m in model.modules() if isinstance(m, Compressor))
    assert out.shape == (2, 2, 8)
    assert not out[0, 1].any()
    torch.testing.assert_close(out[[0, 1, 1], [0, 0, 1]], table.to_dense()[[0, 499, 7]])
    out.sum().backward()
    want = torch.autograd.grad(table.lookup(torch.tensor([0, 499, 7])).sum(), list(table.cores))
    for core, grad in zip(table.cores, want):
        torch.testing.assert_close(core.grad, grad)  # the padding row is not trained


@pytest.mark.parametrize("padding_idx", [None, 5])
@pytest.mark.parametrize("last", [False, True])
@pytest.mark.parametrize("mode", ["sum", "mean"])
def test_embedding_bag_keeps_its_pooling(mode, last, padding_idx):
    """What comes out is what torch's own bag gives on the compressed table written out."""
    bag = nn.EmbeddingBag(500, 8, mode=mode, include_last_offset=last, padding_idx=padding_idx, dtype=torch.float64)
    model = nn.ModuleDict({"bag": bag})
    compress_model(model, "robe:z=4", ratio=5, generator=seeded())
    assert isinstance(model["bag"], Compressor)
    offsets = torch.cat([OFFSETS, torch.tensor([5])]) if last else OFFSETS
    with torch.no_grad():
        bag.weight.copy_(model["bag"].to_dense())
    torch.testing.assert_close(model["bag"](IDS, offsets), bag(IDS, offsets), rtol=1e-12, atol=1e-12)
    two = IDS[:4].view(2, 2)
    torch.testing.assert_close(model["bag"](two), bag(two), rtol=1e-12, atol=1e-12)


def test_table_that_is_returned():
    model = Recommender()
    rows = compress_model(model, "hash:k=100", generator=seeded())
    assert list(rows.columns) == COLUMNS
    assert rows["module"].tolist() == ["user", "items", "day"]
    assert rows["num_embeddings"].tolist() == [3000, 5000, 7]
    assert rows["embedding_dim"].tolist() == [8, 8, 8]
    assert rows["method"].tolist() == ["hash:k=100", "hash:k=100", "full"]
    assert rows["bytes_before"].tolist() == [96_000, 160_000, 224]
    after = 4 * 100 * 8 + 48
    assert rows["bytes_after"].tolist() == [after, after, 224]
    assert rows["ratio"].tolist() == [96_000 / after, 160_000 / after, 1]
    assert rows["note"].tolist() == ["", "", "under 200 rows"]
    assert isinstance(model.day, nn.Embedding)
    assert held_bytes(model.items) == after


@pytest.mark.parametrize("method", ["tt", "robe:z=4", "hash", "qr"])
def test_ratio_is_reached_over_all_tables(method):
    model = Recommender()
    rows = compress_model(model, method, ratio=8)
    assert 8 <= rows["bytes_before"].sum() / rows["bytes_after"].sum() < 8.6
    assert held_bytes(model.user, model.items, model.day) == rows["bytes_after"].sum()


def test_min_rows_and_largest_decide_what_is_replaced():
    model = Recommender()
    compress_model(model, "hash", min_rows=4000)
    assert isinstance(model.user, nn.Embedding)
    assert isinstance(model.items, Compressor)
    model = Recommender()
    rows = compress_model(model, "hash", largest=1)
    assert rows["note"].tolist() == ["not among the 1 largest", "", "under 200 rows"]
    model = Recommender()
    compress_model(model, "hash", min_rows=0)
    assert not any(isinstance(module, (nn.Embedding, nn.EmbeddingBag)) for module in model.modules())


def test_one_module_used_twice_stays_one_table():
    model = nn.Module()
    model.a = nn.EmbeddingBag(500, 8, mode="sum")
    model.b = model.a
    rows = compress_model(model, "tt:rank=4")
    assert model.a is model.b
    assert rows["bytes_before"].tolist() == [16_000, 0]
    assert rows["bytes_after"].tolist()[1] == 0
    assert rows["note"].tolist() == ["", "shares the table of a"]
    assert len({id(p) for p in model.parameters()}) == 3


def test_one_parent_used_twice():
    parent = nn.Sequential(nn.Embedding(500, 8))
    model = nn.ModuleList([parent, parent])
    compress_model(model, "tt:rank=4")
    assert model[0] is model[1]
    assert len({id(p) for p in model.parameters()}) == 3
    assert torch.equal(model[0](IDS), model[1](IDS))


def test_two_modules_with_one_weight_share_one_table_and_keep_their_own_pooling():
    model = nn.Module()
    model.one = nn.Embedding(500, 8)
    model.sums = nn.EmbeddingBag(500, 8, mode="sum")
    model.means = nn.EmbeddingBag(500, 8, mode="mean", include_last_offset=True)
    model.sums.weight = model.means.weight = model.one.weight
    rows = compress_model(model, "hash:k=50", generator=seeded())
    assert rows["bytes_after"].tolist() == [4 * 50 * 8 + 48, 0, 0]
    assert len({id(p) for p in model.parameters()}) == 1
    dense = model.one(torch.arange(500))
    torch.testing.assert_close(model.sums(IDS, torch.tensor([0])), dense[IDS].sum(0, keepdim=True))
    torch.testing.assert_close(model.means(IDS, torch.tensor([0, 5])), dense[IDS].mean(0, keepdim=True))
    twin = copy.deepcopy(model)
    assert len({id(p) for p in twin.parameters()}) == 1
    assert torch.equal(twin.means(IDS, torch.tensor([0, 5])), model.means(IDS, torch.tensor([0, 5])))
    # one table, one gradient of all uses
    (model.sums(IDS, torch.tensor([0])).sum() + model.one(IDS).sum()).backward()
    assert float(next(model.parameters()).grad.sum()) == 2 * IDS.numel() * 8


@pytest.mark.parametrize(
    ("module", "says"),
    [
        (nn.Embedding(500, 8, max_norm=1.0), "max_norm"),
        (nn.EmbeddingBag(500, 8, scale_grad_by_freq=True), "scale_grad_by_freq"),
        (nn.EmbeddingBag(500, 8, mode="max"), "mode='max'"),
    ],
)
def test_what_cannot_be_replaced_is_left_alone_with_a_note(module, says):
    model = nn.ModuleDict({"odd": module, "plain": nn.Embedding(500, 8)})
    rows = compress_model(model, "hash")
    assert model["odd"] is module
    assert says in rows["note"][0]
    assert rows["bytes_after"][0] == rows["bytes_before"][0] == 16_000
    with pytest.raises(InputError, match=says):
        compress_model(nn.ModuleDict({"odd": module}), "hash")


def test_device_dtype_and_training_flag_stay():
    model = nn.ModuleDict({"a": nn.Embedding(500, 8), "b": nn.EmbeddingBag(500, 8, mode="sum")}).double()
    model["a"].eval()
    compress_model(model, "tt:rank=2")
    assert [model[key].training for key in "ab"] == [False, True]
    assert {p.dtype for p in model.parameters()} == {torch.float64}


def test_mlet_under_a_ratio_is_refused_and_the_model_unchanged():
    model = Recommender()
    before, weights = snapshot(model), copy.deepcopy(model.state_dict())
    with pytest.raises(InputError, match="width"):
        compress_model(model, "mlet", ratio=4)
    with pytest.raises(BudgetError):
        compress_model(model, "tt", ratio=10_000)
    with pytest.raises(InputError, match="z=9"):
        compress_model(model, "robe:z=9", ratio=4)
    assert snapshot(model) == before
    for name, value in model.state_dict().items():
        assert torch.equal(value, weights[name])
    compress_model(model, "mlet:k=16")
    assert model.items.k == 16


def test_a_model_without_embeddings_and_one_that_is_an_embedding_are_refused():
    with pytest.raises(InputError, match=r"no nn\.Embedding"):
        compress_model(nn.Linear(3, 3), "tt")
    alone = nn.Embedding(500, 8)
    with pytest.raises(InputError, match="itself"):
        compress_model(alone, "tt")
    assert alone(IDS).shape == (5, 8)


@pytest.mark.parametrize("method", ["tt:rank=4", "robe:z=4:ratio=10", "hash:ratio=10", "qr:c=4", "mlet:k=16"])
def test_model_trains_copies_and_loads_afterwards(method):
    torch.manual_seed(0)
    model = Recommender()
    compress_model(model, method, generator=seeded())
    generator = seeded(1)
    user = torch.randint(3000, (256,), generator=generator)
    items = torch.randint(5000, (256, 3), generator=generator)
    day = torch.randint(7, (256,), generator=generator)
    labels = (user % 2).float()  # only the user's row can tell
    optimizer = torch.optim.Adam(model.parameters(), lr=0.02)
    losses = []
    for _ in range(40):
        loss = nn.functional.binary_cross_entropy_with_logits(model(user, items, day), labels)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[0] > 0.6
    assert losses[-1] < 0.5 * losses[0]
    out = model(user, items, day)
    twin = copy.deepcopy(model)
    assert torch.equal(twin(user, items, day), out)
    other = Recommender()
    compress_model(other, method, generator=seeded(5))
    assert not torch.equal(other(user, items, day), out)
    other.load_state_dict(model.state_dict())
    assert torch.equal(other(user, items, day), out)


def test_robes_array_is_shared_and_divided_among_its_tables():
    model = Recommender()
    rows = compress_model(model, "robe:z=4", ratio=10)
    assert model.user.table.memory is model.items.memory
    array = next(p for n, p in model.named_parameters() if n.endswith("memory"))
    assert rows["bytes_after"].sum() == 4 * array.numel() + 3 * 8 + 224  # three coefficients of one hash, a full table
    shares = rows["bytes_after"] / rows["bytes_before"]
    assert shares[0] == pytest.approx(shares[1], rel=1e-3)  # in proportion to what they were
    assert "shared" in rows["note"][0]
    twin = copy.deepcopy(model)
    assert twin.user.table.memory is twin.items.memory is not array


# --- optimizer groups -------------------------------------------------------------------------------------------------


def by_name(model):
    groups = {group["name"]: [id(p) for p in group["params"]] for group in optimizer_groups(model)}
    listed = [p for own in groups.values() for p in own]
    assert len(listed) == len(set(listed))
    return groups


def test_groups_of_a_converted_model():
    model = nn.ModuleDict({"a": nn.Embedding(500, 8, sparse=True), "b": nn.Embedding(500, 8), "top": nn.Linear(8, 1)})
    compress_model(model, "hash")
    groups = by_name(model)
    assert groups == {
        "sparse": [id(model["a"].table.part_tables)],
        "rows": [id(model["b"].table.part_tables)],
        "dense": [id(p) for p in model["top"].parameters()],
    }
    (model["a"](IDS) + model["b"](IDS)).sum().backward()
    assert model["a"].table.part_tables.grad.is_sparse
    assert not model["b"].table.part_tables.grad.is_sparse


@pytest.mark.parametrize("sparse", [False, True])
@pytest.mark.parametrize("method", ["full", "hash", "qr", "mlet:k=16", "tt:rank=2", "robe", "full+hot:rows=5"])
def test_groups_say_which_gradients_are_sparse(method, sparse):
    model = nn.Module()
    configs = [TableConfig(300, 8), TableConfig(400, 8), TableConfig(3, 8)]
    model.tables = TableCollection.build(configs, method, sparse=sparse)
    model.top = nn.Linear(8, 1)
    model.top(model.tables(torch.tensor([[1, 2, 0], [1, 399, 2]]))).sum().backward()
    groups = optimizer_groups(model)
    named = {id(p): group["name"] for group in groups for p in group["params"]}
    assert set(named) == {id(p) for p in model.parameters()}
    tops = {id(p) for p in model.top.parameters()}
    for name, parameter in model.named_parameters():
        # one row an id: full and part tables, hot rows and MLET's inner tables, but neither its projections nor cores
        # nor arrays
        rows = "rows" if name.endswith((".weight", ".part_tables", ".table", ".hot_rows")) else "tables"
        want = "dense" if id(parameter) in tops else "sparse" if parameter.grad.is_sparse else rows
        assert named[id(parameter)] == want


def test_frozen_parameters_are_in_no_group():
    model = nn.ModuleDict({"table": create("hash", 500, 8), "top": nn.Linear(8, 1)})
    model["table"].part_tables.requires_grad_(False)
    assert set(by_name(model)) == {"dense"}


def test_a_frozen_embedding_is_left_alone():
    model = nn.Sequential(nn.Embedding.from_pretrained(torch.randn(500, 8)), nn.Embedding(500, 8))
    done = compress_model(model, "hash", ratio=1.5)
    assert isinstance(model[0], nn.Embedding)
    assert done.note[0] == "its weight is frozen"
    assert isinstance(model[1], nn.Module)
    assert not isinstance(model[1], nn.Embedding)


def test_one_module_under_two_names_stays_one():
    model = nn.Module()
    model.a = nn.Embedding(500, 8)
    model.b = model.a
    compress_model(model, "hash:k=20")
    assert model.a is model.b
    assert not isinstance(model.a, nn.Embedding)
