"""A model that is trained on two ranks, and what is asked of it afterwards."""

import warnings

import torch
import torch.distributed as dist
from torch import Generator, nn

from embpress.compressors import TableCollection, TableConfig, create, maintain

STEPS, ROWS = 20, 300
CONFIGS = [TableConfig(rows, 8) for rows in (ROWS, 40, 250, ROWS)]
_COUNTED = ("keys", "counts", "used")  # what each rank counts for itself


class Model(nn.Module):
    """Tables, alone or in a collection, and a layer on top."""

    def __init__(self, spec, alone, seed):
        super().__init__()
        seeded = Generator().manual_seed(seed)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # that ranks are told of their generators is not the matter here
            if alone:
                self.tables = create(spec, ROWS, 8, generator=seeded)
            else:
                self.tables = TableCollection.build(CONFIGS, spec, generator=seeded)
        self.top = nn.Linear(8 if alone else 32, 1)
        nn.init.normal_(self.top.weight, generator=seeded)
        nn.init.zeros_(self.top.bias)

    def forward(self, ids):
        return self.top(self.tables(ids).flatten(1))


def batch(step, alone):
    """Ids of both ranks, skewed, so that some are in a cache."""
    seeded = Generator().manual_seed(step)
    rows = torch.tensor([ROWS if alone else config.num_embeddings for config in CONFIGS[: 1 if alone else None]])
    return (torch.rand(16, len(rows), generator=seeded) ** 3 * rows).long()


def train(model, inner, optimizer, alone, part):
    """`STEPS` steps on a part of every batch."""
    for step in range(STEPS):
        optimizer.zero_grad()
        ids = batch(step, alone)[part]
        (model(ids) - (ids.sum(1, keepdim=True) % 7) / 7).square().mean().backward()
        maintain(inner, optimizer)
        optimizer.step()


def half(rank):
    return slice(8 * rank, 8 * rank + 8)


def optimizer_of(model):
    return torch.optim.Adagrad(model.parameters(), lr=0.05)


def lookups(model):
    return torch.cat([table.to_dense() for table in getattr(model.tables, "tables", [model.tables])])


def equal_on_ranks(model):
    """Asserts that all that the model holds is bit-equal on both ranks, but for counts."""
    state = {name: value for name, value in model.state_dict().items() if not name.endswith(_COUNTED)}
    states = [None, None]
    dist.all_gather_object(states, {**state, "lookups": lookups(model)})
    for name, value in states[0].items():
        assert torch.equal(value, states[1][name]), f"{name} is another on the second rank"
