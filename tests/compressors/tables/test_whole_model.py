"""All tables of a model at once: bytes against what its tensors take, folded models against the trained ones."""

import re

import pytest
import shop
import torch
import torch.distributed as dist
import two_ranks
from paths import ROOT
from torch import nn

from embpress.compressors import TableCollection, TableConfig, compress_model, create, fold_model, model_ledger
from embpress.compressors.ledger import held_bytes


def seeded():
    return torch.Generator().manual_seed(0)


@pytest.mark.parametrize("method", ["full", "hash", "tt:rank=2:cache_rows=9", "robe", "qr+bf16", "mlet"])
@pytest.mark.parametrize("min_rows", [10, 350])
def test_a_folded_model_answers_alike_and_takes_what_the_ledger_says(method, min_rows):
    model = shop.TwoTower()
    ratio = None if method == "mlet" else 2  # it reaches one by its width alone, which is the model's
    compress_model(model, method, ratio=ratio, min_rows=min_rows, generator=seeded())
    users, words, _ = shop.samples(50)
    model.eval()
    want, size = model(users, words), model_ledger(model).serving_bytes
    dense = sum(p.nbytes for p in model.towers.parameters())
    assert fold_model(model) is model
    torch.testing.assert_close(model(users, words), want, atol=1e-2 if "bf16" in method else 1e-6, rtol=1e-5)
    assert not any(p.requires_grad for p in model.user.parameters()) or method != "full"
    assert held_bytes(model) - dense == pytest.approx(size, abs=64)
    assert model_ledger(model).serving_bytes == pytest.approx(size, abs=64)


def test_any_tree_and_every_memory_once():
    class Tree(nn.Module):
        def __init__(self):
            super().__init__()
            self.tables = TableCollection.build([TableConfig(300, 4, "a"), TableConfig(400, 4, "b")], "hash:k=20")
            self.parts = nn.ModuleDict({"x": create("qr:c=4", 50, 4), "y": nn.Embedding(9, 3)})
            self.again = nn.ModuleList([self.parts["x"], nn.Embedding(9, 3)])
            self.again[1].weight = self.parts["y"].weight

    model = Tree()
    x = model.parts["x"]
    parts = [model.tables.ledger("adam", 8), x.ledger("adam", 8), create("full", 9, 3).ledger("adam", 8)]
    found = model_ledger(model, "adam", 8)
    assert found.serving_bytes == sum(part.serving_bytes for part in parts)
    assert found.training_bytes == sum(part.training_bytes for part in parts)
    assert {entry.name.partition(": ")[0] for entry in found.serving} == {"tables", "parts.x", "parts.y"}
    rows = x.to_dense().detach()
    fold_model(model)
    assert model.again[0] is model.parts["x"] is not x
    assert torch.equal(model.parts["x"].to_dense(), rows)
    assert isinstance(model.tables, TableCollection)
    alone = create("full", 5, 2)
    assert torch.equal(fold_model(alone).to_dense(), alone.to_dense())


def test_the_page_in_your_own_model(tmp_path, capsys, monkeypatch):
    """The blocks of the page, one after the other, with a model that they are given."""
    monkeypatch.chdir(tmp_path)
    text = (ROOT / "compressors" / "README.md").read_text()
    section = text.partition("\n## In your own model\n")[2].partition("\n## ")[0]
    users, words, labels = shop.samples(400)
    given = {
        "build": shop.TwoTower,
        "model": shop.TwoTower(),
        "loader": [(users[i : i + 64], words[i : i + 64], labels[i : i + 64]) for i in range(0, 400, 64)],
        "loss_of": lambda logits, labels: nn.functional.binary_cross_entropy_with_logits(logits[:, 0], labels),
    }
    if not two_ranks.available():
        pytest.skip("torch has no gloo here")
    monkeypatch.setenv("GLOO_SOCKET_IFNAME", "lo")
    dist.init_process_group("gloo", init_method=f"file://{tmp_path}/store", rank=0, world_size=1)
    try:
        for block in re.findall(r"```python\n(.*?)```", section, re.DOTALL):
            exec(block, given)
    finally:
        dist.destroy_process_group()
    assert "serving: " in capsys.readouterr().out
    trained, served = given["trained"], given["served"]
    torch.testing.assert_close(served(users, words), trained.eval()(users, words))
