"""In a converted model every parameter has one name: what saves tensors by name takes it as it is."""

import copy

import pytest
import torch
from safetensors.torch import load_file, load_model, save_file, save_model
from torch import nn

from embpress.compressors import Compressor, TableCollection, TableConfig, compress_model
from embpress.compressors.tables.conversion.modules import TableUser

METHODS = ["full", "full-tbe", "hash", "qr", "mlet", "tt:rank=2", "robe:z=4", "robe:z=4+bf16"]
IDS = torch.arange(60).view(6, 10)


class Shared(nn.Module):
    """One weight under an embedding, two bags that pool otherwise and a linear layer; two tables of their own."""

    def __init__(self):
        super().__init__()
        self.one = nn.Embedding(500, 8, padding_idx=3)
        self.means = nn.EmbeddingBag(500, 8, mode="mean", include_last_offset=True)
        self.sums = nn.EmbeddingBag(500, 8, mode="sum", padding_idx=5)
        self.head = nn.Linear(8, 500)
        self.sums.weight = self.means.weight = self.head.weight = self.one.weight
        self.user, self.item = nn.EmbeddingBag(400, 8, mode="sum"), nn.Embedding(300, 8)

    def forward(self, ids):
        offsets = torch.tensor([0, 4, 4, 10, 30, 31, 60])
        pooled = self.means(ids.flatten(), offsets) + self.sums(ids) + self.user(ids)
        return self.head(pooled + self.one(ids).sum(1) + self.item(ids).sum(1))


def converted(method, seed=0):
    torch.manual_seed(seed)
    model = Shared()
    compress_model(model, method, generator=torch.Generator().manual_seed(seed))
    return model.eval()


@pytest.mark.parametrize("method", METHODS)
def test_no_two_names_are_one_memory(method):
    model = converted(method)
    state = model.state_dict()
    assert len({t.data_ptr() for t in state.values() if t.numel()}) == sum(t.numel() > 0 for t in state.values())
    names = [name for name, _ in model.named_parameters(remove_duplicate=False)]
    assert len(names) == len(list(model.parameters()))


@pytest.mark.parametrize("method", METHODS)
def test_safetensors_saves_and_loads_it(method, tmp_path):
    model, other = converted(method), converted(method, seed=1)
    out = model(IDS)
    assert not torch.equal(other(IDS), out)
    save_model(model, str(tmp_path / "model"))
    load_model(other, tmp_path / "model")
    assert torch.equal(other(IDS), out)
    save_file(model.state_dict(), tmp_path / "state")
    third = converted(method, seed=2)
    third.load_state_dict(load_file(tmp_path / "state"), assign=True)
    assert torch.equal(third(IDS), out)


@pytest.mark.parametrize("method", METHODS)
def test_copies_and_moved_models_are_whole(method):
    model = converted(method)
    out = model(IDS)
    twin = copy.deepcopy(model)
    assert torch.equal(twin(IDS), out)
    assert {p.data_ptr() for p in twin.parameters()}.isdisjoint(p.data_ptr() for p in model.parameters())
    with torch.no_grad():
        for parameter in twin.parameters():
            parameter.zero_()
    assert not twin(IDS).any()
    assert torch.equal(model(IDS), out)
    if method != "full-tbe":
        torch.testing.assert_close(model.double()(IDS), out.double(), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("method", ["hash", "tt:rank=2", "robe:z=4"])
def test_each_user_pools_as_it_did(method):
    """Against torch's own modules on the rows written out."""
    model, plain = converted(method).double(), Shared().double()
    with torch.no_grad():
        table = model.one.table
        plain.one.weight.copy_(table.to_dense())
        plain.user.weight.copy_(model.user.to_dense())
        plain.item.weight.copy_(model.item.table.to_dense())
        plain.head.bias.copy_(model.head.bias)
    ids, offsets = torch.tensor([3, 5, 5, 5, 3, 499, 5]), torch.tensor([0, 2, 2, 5])
    torch.testing.assert_close(model.sums(ids, offsets), plain.sums(ids, offsets))
    weights = torch.rand(7, dtype=torch.float64)
    torch.testing.assert_close(model.sums(ids, offsets, weights), plain.sums(ids, offsets, weights))
    for one in (ids.view(7, 1), ids.view(1, 7), ids[:0].view(0, 3)):
        for name in ("sums", "means"):
            torch.testing.assert_close(getattr(model, name)(one), getattr(plain, name)(one))
    ends = torch.tensor([0, 2, 2, 5, 7])
    torch.testing.assert_close(model.means(ids, ends), plain.means(ids, ends))
    want = plain.one(ids)
    want[ids == 3] = 0  # the padding row is zero
    torch.testing.assert_close(model.one(ids), want)
    for wrong in (torch.tensor([[500]]), torch.tensor([[-1]])):
        with pytest.raises(IndexError, match="500"):
            model.sums(wrong)
    with pytest.raises(ValueError, match="mean"):
        model.means(ids, ends, weights)
    with pytest.raises(ValueError, match="offset"):
        model.means(ids, torch.tensor([1, 7]))


def test_a_table_that_is_replaced_is_replaced_for_all_its_users():
    """As a model is folded: module by module, by name."""
    model = converted("tt:rank=2")
    out = model(IDS)
    for name, module in list(model.named_modules()):
        if isinstance(module, Compressor):
            setattr(model.get_submodule(name.rpartition(".")[0]), name.rpartition(".")[2], module.fold())
    torch.testing.assert_close(model(IDS), out)
    users = [module for module in model.modules() if isinstance(module, TableUser)]
    assert not any(p.requires_grad for user in users for p in user.table.parameters())


def test_a_collections_array_has_one_name(tmp_path):
    configs = [TableConfig(300, 8, "a"), TableConfig(400, 8, "b"), TableConfig(3, 8, "c")]
    collection = TableCollection.build(configs, "robe:z=4")
    save_model(collection, str(tmp_path / "model"))
    other = TableCollection.build(configs, "robe:z=4")
    load_model(other, tmp_path / "model")
    assert torch.equal(other(torch.tensor([[1, 2, 0]])), collection(torch.tensor([[1, 2, 0]])))
