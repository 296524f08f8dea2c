"""A shop of nobody's: clicks on items, two models of different kinds, and what a command line is given of them."""

import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

USERS, ITEMS, ROWS = 400, 300, 2000


class TwoTower(nn.Module):
    """Dot product of a user's and an item's tower; the item's is a bag of its words."""

    def __init__(self, item_dim=8):
        super().__init__()
        self.user, self.item = nn.Embedding(USERS, 8), nn.EmbeddingBag(ITEMS, item_dim, mode="mean", padding_idx=0)
        self.towers = nn.ModuleList([nn.Linear(8, 4), nn.Linear(item_dim, 4)])
        self.drop = nn.Dropout(0.1)

    def forward(self, users, words):
        user, item = self.towers[0](self.user(users)), self.towers[1](self.item(words))
        return (self.drop(user) * item).sum(1, keepdim=True)


class Plain(nn.Module):
    """An MLP on two embeddings, one of a small table, that takes its inputs by name."""

    def __init__(self):
        super().__init__()
        self.user, self.day = nn.Embedding(USERS, 8), nn.Embedding(7, 3)
        self.mlp = nn.Sequential(nn.Linear(11, 8), nn.ReLU(), nn.Linear(8, 1))

    def forward(self, user, day):
        return self.mlp(torch.cat([self.user(user), self.day(day)], 1)).squeeze(1)


def samples(rows=ROWS):
    """Users, bags of three words, and labels that depend on both."""
    g = torch.Generator().manual_seed(0)
    users = torch.randint(0, USERS, (rows,), generator=g)
    words = torch.randint(0, ITEMS, (rows, 3), generator=g)
    logits = (users % 5 - 2) + (words % 3 - 1).float().sum(1)
    return users, words, (torch.rand(rows, generator=g) < logits.sigmoid()).float()


def task(model_fn=TwoTower, **more):
    """What `embpress compare --model shop:task` is given."""
    users, words, labels = samples()
    train, test = (TensorDataset(users[part], words[part], labels[part]) for part in (slice(1600), slice(1600, None)))
    return {
        "model_fn": model_fn,
        "train_loader": DataLoader(train, batch_size=64, shuffle=True),
        "test_loader": DataLoader(test, batch_size=128),
        **more,
    }
