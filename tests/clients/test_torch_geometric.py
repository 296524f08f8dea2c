"""PyTorch Geometric: knowledge graph embeddings with compressed tables."""

import pytest
import torch

geometric = pytest.importorskip("torch_geometric")

from torch_geometric.nn import ComplEx, TransE  # noqa: E402

from embpress.compressors import compress_model  # noqa: E402


def triples(count):
    generator = torch.Generator().manual_seed(0)
    return (torch.randint(n, (count,), generator=generator) for n in (3000, 300, 3000))


@pytest.mark.parametrize("kind", [TransE, ComplEx])
@pytest.mark.parametrize("method", ["hash", "robe", "tt"])
def test_twenty_steps_a_save_and_a_load(kind, method, tmp_path):
    def made():
        model = kind(num_nodes=3000, num_relations=300, hidden_channels=16)
        done = compress_model(model, method, ratio=8)
        assert done.attrs["ratio"] >= 8
        return model

    torch.manual_seed(0)
    model = made()
    head, relation, tail = triples(200)
    optimizer = torch.optim.Adam(model.parameters(), lr=0.02)
    losses = []
    for _ in range(20):
        optimizer.zero_grad()
        loss = model.loss(head, relation, tail)
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < 0.9 * losses[0]
    torch.save(model.state_dict(), tmp_path / "model.pt")
    again = made()
    again.load_state_dict(torch.load(tmp_path / "model.pt", weights_only=True))
    with torch.no_grad():
        assert torch.equal(again(head, relation, tail), model(head, relation, tail))
