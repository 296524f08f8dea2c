"""Compressed tables in a model of one's own: as a drop-in, for all tables of a model at once, and by conversion.

Run: python examples/plug_in.py
"""

import torch
from torch import nn

from embpress.compressors import TableCollection, TableConfig, compress_model, create

generator = torch.Generator().manual_seed(0)

# 1. One table: create(...) stands where nn.EmbeddingBag(...) stood. The spec says method, knobs and size.
table = create("tt:rank=16", 1_000_000, 64, mode="mean", generator=generator)
ids, offsets = torch.tensor([3, 999_999, 3, 17]), torch.tensor([0, 3])
print("pooled rows:", tuple(table(ids, offsets).shape))
print(table.ledger(optimizer="adagrad"))

# 2. All tables of a model under one total budget: a hundredth of the full tables' bytes, one array for all of them.
sizes = {"user": 500_000, "item": 80_000, "country": 60}
configs = [TableConfig(n, 16, name) for name, n in sizes.items()]
tables = TableCollection.build(configs, "robe:z=16", ratio=100, generator=generator)
rows = tables(torch.stack([torch.randint(0, n, (32,), generator=generator) for n in sizes.values()], dim=1))
print(f"rows {tuple(rows.shape)} from {tables.serving_bytes:,} bytes, {tables.ratio:.1f} times smaller")


# 3. A model that is there already: its nn.Embedding and nn.EmbeddingBag modules are swapped in place.
class Ranker(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.user = nn.Embedding(50_000, 32)
        self.history = nn.EmbeddingBag(20_000, 32, mode="mean", padding_idx=0)
        self.country = nn.Embedding(60, 32)
        self.score = nn.Linear(96, 1)

    def forward(self, user: torch.Tensor, history: torch.Tensor, country: torch.Tensor) -> torch.Tensor:
        return self.score(torch.cat([self.user(user), self.history(history), self.country(country)], dim=1)).squeeze(1)


model = Ranker()
done = compress_model(model, "tt", ratio=50, min_rows=200, generator=generator)
print(done.to_string(index=False))

# It trains as before.
optimizer = torch.optim.Adagrad(model.parameters(), lr=0.05)
user, country = torch.randint(0, 50_000, (256,)), torch.randint(0, 60, (256,))
history, clicked = torch.randint(0, 20_000, (256, 5)), torch.randint(0, 2, (256,)).float()
losses = []
for _ in range(30):
    loss = nn.functional.binary_cross_entropy_with_logits(model(user, history, country), clicked)
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    losses.append(float(loss.detach()))
print(f"loss {losses[0]:.3f} → {losses[-1]:.3f}")
